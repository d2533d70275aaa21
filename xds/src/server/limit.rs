//! A token bucket.

use std::time::Duration;
use tokio::time::Instant;

/// Lets `burst` through at once and then so many a second.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    /// How far ahead of its time the next one may come.
    slack: Duration,
    /// When the next one would be due if none came early.
    next: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, slack: interval * burst.saturating_sub(1), next: Instant::now() }
    }

    /// Takes a token; it may be used at the moment returned, which may have passed.
    pub(super) fn take(&mut self) -> Instant {
        let due = self.next.max(Instant::now());
        self.next = due + self.interval;
        due - self.slack.min(due.duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = Bucket::new(10, 3);
        let start = Instant::now();
        let waits: Vec<u128> = (0..6).map(|_| (bucket.take() - start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        tokio::time::advance(Duration::from_secs(10)).await;
        let start = Instant::now();
        let waits: Vec<u128> = (0..4).map(|_| (bucket.take() - start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }
}
