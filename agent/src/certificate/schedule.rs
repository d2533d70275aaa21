//! When a certificate is renewed. Pure.

use std::time::Duration;

/// A ratio of 1, or a CA that signs for seconds, must not become a loop without a pause.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);

/// How long a certificate just issued is left alone: until `ratio` of its life is left, more or less `jitter` of it,
/// where `random` is from 0 to 1. Its life begins now: CAs date certificates back, by minutes, for clocks that are slow.
///
/// ```
/// use std::time::Duration;
/// let life = Duration::from_secs(120);
/// assert_eq!(agent::certificate::schedule::renew_in(life, 0.5, 0.0, 0.0), Duration::from_secs(60));
/// ```
#[must_use]
pub fn renew_in(life: Duration, ratio: f64, jitter: f64, random: f64) -> Duration {
    let grace = (ratio + jitter * (2.0 * random - 1.0)).clamp(0.0, 1.0);
    life.mul_f64(1.0 - grace).max(PAUSE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_when_the_grace_period_begins() {
        let day = 24 * 3600;
        for (life, ratio, jitter, random, expected) in [
            (day, 0.5, 0.0, 0.0, day / 2),
            (day, 0.5, 0.1, 0.0, day * 6 / 10),
            (day, 0.5, 0.1, 1.0, day * 4 / 10),
            (day, 0.2, 0.0, 0.3, day * 8 / 10),
            (0, 0.5, 0.0, 0.0, 1),
            (day, 1.0, 0.5, 0.0, day / 2),
            (day, 1.0, 0.0, 0.0, 1),
            (day, 0.0, 0.0, 0.0, day),
        ] {
            let wait = renew_in(Duration::from_secs(life), ratio, jitter, random);
            let difference = wait.abs_diff(Duration::from_secs(expected));
            assert!(difference < Duration::from_secs(1), "{life} {ratio} {jitter} {random}: {wait:?}");
        }
    }
}
