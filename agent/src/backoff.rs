//! Waiting between tries: longer each time up to a bound, and never the same for two agents.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The times to wait, one after the other.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Doubles from `first` to `max`; each wait is between half and all of it.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, first, max }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        wait.mul_f64(0.5 + random() / 2.0)
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// From 0 up to 1. Good enough to keep agents apart, and for nothing else.
#[must_use]
pub fn random() -> f64 {
    let bits = RandomState::new().hash_one(0) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let number = bits as f64;
    number / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for most in [100, 200, 350, 350] {
            let wait = backoff.wait();
            assert!(wait >= Duration::from_millis(most / 2) && wait <= Duration::from_millis(most), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(100));
    }
}
