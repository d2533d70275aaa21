//! How often one caller may ask for a certificate (F35): a storm of one pod must not take the CA from the others.
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// So many at once, then so many per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub burst: f64,
    pub per_s: f64,
}

/// Token buckets by caller. Time is the caller's: any clock that does not go back.
#[derive(Debug)]
pub struct Limiter<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
    order: VecDeque<K>,
    buckets_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// Above `buckets_max` callers the one that came first is forgotten, which only ever allows more.
    pub fn new(rate: Rate, buckets_max: usize) -> Self {
        Self { rate, buckets: HashMap::new(), order: VecDeque::new(), buckets_max }
    }

    /// Whether `caller` may, at `now`; takes one if so.
    pub fn take(&mut self, caller: &K, now: Duration) -> Verdict {
        let rate = self.rate;
        if !self.buckets.contains_key(caller) {
            if self.order.len() >= self.buckets_max
                && let Some(oldest) = self.order.pop_front()
            {
                self.buckets.remove(&oldest);
            }
            self.order.push_back(caller.clone());
        }
        let bucket = self.buckets.entry(caller.clone()).or_insert(Bucket { left: rate.burst, at: now });
        let passed_s = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.left = passed_s.mul_add(rate.per_s, bucket.left).min(rate.burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Verdict::TooOften;
        }
        bucket.left -= 1.0;
        Verdict::Allowed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    TooOften,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f35_a_burst_passes_then_the_rate() {
        let mut limiter = Limiter::new(Rate { burst: 3.0, per_s: 0.5 }, 2);
        let s = Duration::from_secs;
        let verdicts: Vec<_> = (0..5).map(|_| limiter.take(&"a", s(0))).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Allowed).count(), 3);
        assert_eq!(limiter.take(&"b", s(0)), Verdict::Allowed);
        assert_eq!(limiter.take(&"a", s(1)), Verdict::TooOften);
        assert_eq!(limiter.take(&"a", s(2)), Verdict::Allowed);
        assert_eq!(limiter.take(&"a", s(2)), Verdict::TooOften);
        limiter.take(&"c", s(2));
        assert_eq!(limiter.buckets.len(), 2);
        assert_eq!(limiter.order.len(), 2);
    }
}
