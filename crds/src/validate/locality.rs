//! Locality load balancing (`ValidateLocalityLbSetting`), of DestinationRules and MeshConfig.

use crate::networking::{Failover, LocalityLbSetting, ZoneAwareLbSetting};

/// A field and what is wrong with it.
type Wrong = (String, String);

const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

pub(super) fn setting(setting: &LocalityLbSetting) -> Vec<Wrong> {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        let why = "can not simultaneously specify 'distribute' and 'failover'";
        return vec![("distribute".into(), why.into())];
    }
    let mut wrong = Vec::new();
    for (i, label) in setting.failover_priority.iter().enumerate().filter(|_| !setting.failover.is_empty()) {
        if TOPOLOGY.contains(&label.as_str()) {
            let why =
                format!("can not simultaneously set 'failover' and topology label '{label}' in 'failover_priority'");
            wrong.push((format!("failoverPriority[{i}]"), why));
        }
    }
    for (i, distribute) in setting.distribute.iter().enumerate() {
        let at = format!("distribute[{i}].to");
        if distribute.to.values().any(|weight| !(1..=100).contains(weight)) {
            wrong.push((at, "locality weight must be in range [1, 100]".into()));
            continue;
        }
        let total: u32 = distribute.to.values().sum();
        if total != 100 {
            wrong.push((at.clone(), format!("total locality weight {total} != 100")));
        }
        wrong.extend(localities(distribute.to.keys()).err().map(|why| (at, why)));
    }
    let sources = setting.distribute.iter().map(|distribute| &distribute.from);
    wrong.extend(localities(sources).err().map(|why| ("distribute".into(), why)));
    wrong.extend(failover(&setting.failover, "locality lb"));
    wrong
}

pub(super) fn zone_aware(setting: &ZoneAwareLbSetting) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (i, label) in setting.failover_priority.iter().enumerate() {
        if TOPOLOGY.contains(&label.as_str()) {
            let why = format!("'failover_priority' for zone aware lb must not use topology label '{label}'");
            wrong.push((format!("failoverPriority[{i}]"), why));
        }
    }
    if setting.min_cluster_size == Some(0) {
        wrong.push(("minClusterSize".into(), "must be at least 1".into()));
    }
    wrong.extend(failover(&setting.failover, "zone aware lb"));
    wrong
}

fn failover(entries: &[Failover], what: &str) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (i, Failover { from, to }) in entries.iter().enumerate() {
        let mut add = |why: &str| wrong.push((format!("failover[{i}]"), format!("{what} failover {why}")));
        if from == to {
            add("settings must specify different regions");
        }
        if from.contains('/') || to.contains('/') {
            add("only specify region");
        }
        if from.contains('*') || to.contains('*') {
            add("region should not contain '*' wildcard");
        }
    }
    wrong
}

/// `region/zone/subzone`, each level may be `*` and the rest left out. No two may cover the same place.
fn localities<'a>(localities: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for locality in localities {
        let stars = locality.matches('*').count();
        if stars > 1 || (stars == 1 && !locality.ends_with('*')) {
            return Err(format!("locality {locality} wildcard '*' number can not exceed 1 and must be in the end"));
        }
        if locality.splitn(3, '/').any(str::is_empty) {
            return Err(format!("locality {locality} must not contain empty region/zone/subzone info"));
        }
        if seen.iter().any(|earlier| overlap(earlier, locality)) {
            return Err(format!("locality {locality} overlap with previous specified ones"));
        }
        seen.push(locality);
    }
    Ok(())
}

fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.splitn(3, '/'), b.splitn(3, '/'));
    loop {
        match (a.next(), b.next()) {
            (None | Some("*"), _) | (_, None | Some("*")) => return true,
            (Some(a), Some(b)) if a != b => return false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn localities_overlap_when_one_covers_the_other() {
        for (a, b, expected) in [
            ("*", "r1", true),
            ("r1", "r2", false),
            ("r1/*", "r1/z1", true),
            ("r1/z1", "r1/z2", false),
            ("r1", "r1/z1/s1", true),
            ("r1/z1/s1", "r1/z1/s2", false),
            ("r1/z1/s1", "r1/z1/s1", true),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
        }
    }
}
