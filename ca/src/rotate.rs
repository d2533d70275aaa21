//! When the self-signed root is renewed. Pure.
use std::time::{Duration, SystemTime};

/// What to do with a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Keep,
    Renew,
}

/// Renew once no more than `grace_percent` of its life is left
/// (`CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE`, 20), or none.
pub fn decide(not_before: SystemTime, not_after: SystemTime, now: SystemTime, grace_percent: u32) -> Decision {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let left = not_after.duration_since(now).unwrap_or_default();
    let grace = Duration::from_secs(life.as_secs() / 100 * u64::from(grace_percent.min(99)));
    if left <= grace { Decision::Renew } else { Decision::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn f30_a_root_is_renewed_in_its_last_fifth() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (now, expected) in [
            (0, Decision::Keep),
            (1000, Decision::Keep),
            (9999, Decision::Keep),
            (10_000, Decision::Renew),
            (10_999, Decision::Renew),
            (20_000, Decision::Renew),
        ] {
            let now = at(now);
            assert_eq!(decide(at(2000), at(12_000), now, 20), expected, "{now:?}");
        }
        assert_eq!(decide(at(0), at(1000), at(999), 0), Decision::Keep);
        assert_eq!(decide(at(0), at(1000), at(1000), 0), Decision::Renew);
    }
}
