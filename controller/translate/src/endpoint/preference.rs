//! Which endpoints a proxy prefers by where it is: `localityLbSetting`, `zoneAwareLbSetting`, `trafficDistribution`
//! (Istio's `loadbalancer.GetEffectiveLbSetting` and what follows from it).

use super::Vantage;
use super::group::{Group, compact_priorities};
use crds::mesh_config::MeshConfig;
use crds::networking::{Distribute, Failover, LocalityLbSetting, ZoneAwareLbSetting};
use model::service::TrafficDistribution;
use model::traffic_policy::Policy;
use model::{Endpoint, Locality, Service};
use std::collections::BTreeMap;

/// The setting in force: the rule's, else the Service's, else the mesh's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LocalityPreference<'a> {
    Locality(&'a LocalityLbSetting),
    /// Fixed labels, and failover whether or not there is outlier detection: health decides.
    Near(&'static [&'static str]),
    ZoneAware(&'a ZoneAwareLbSetting),
}

impl<'a> LocalityPreference<'a> {
    /// None: locality does not matter.
    pub(crate) fn new(service: &Service, policy: &Policy<'a>, mesh: &'a MeshConfig) -> Option<Self> {
        let enabled =
            |setting: &'a LocalityLbSetting| (setting.enabled != Some(false)).then_some(Self::Locality(setting));
        if let Some(settings) = policy.load_balancer {
            if let Some(setting) = &settings.zone_aware_lb_setting {
                return Some(Self::ZoneAware(setting));
            }
            if let Some(setting) = &settings.locality_lb_setting {
                return enabled(setting);
            }
        }
        match service.traffic_distribution {
            Some(TrafficDistribution::PreferSameZone) => Some(Self::Near(SAME_ZONE)),
            Some(TrafficDistribution::PreferSameNode) => Some(Self::Near(SAME_NODE)),
            None => enabled(&mesh.locality_lb_setting),
        }
    }

    /// Whether proxies in different places get different assignments. Without outlier detection Envoy would never leave
    /// the first priority, so there are no priorities then.
    pub(crate) fn takes_effect(&self, policy: &Policy<'_>) -> bool {
        match self {
            Self::Locality(setting) => !setting.distribute.is_empty() || policy.outlier_detection.is_some(),
            Self::Near(_) => true,
            Self::ZoneAware(setting) => setting.enabled != Some(false),
        }
    }

    /// Whether Envoy must choose a locality by weight first, and then an endpoint in it.
    pub(crate) fn is_weighted(&self, policy: &Policy<'_>) -> bool {
        match self {
            Self::Locality(LocalityLbSetting { distribute, failover, failover_priority, .. }) => {
                let explicit = !failover.is_empty() || !failover_priority.is_empty();
                !distribute.is_empty() || (explicit && policy.outlier_detection.is_some())
            }
            Self::Near(_) => true,
            Self::ZoneAware(_) => false,
        }
    }

    /// Only for settings that take effect.
    pub(super) fn apply(&self, groups: &mut Vec<Group<'_>>, vantage: &Vantage, policy: &Policy<'_>) {
        match self {
            Self::Locality(setting) if !setting.distribute.is_empty() => {
                distribute(groups, vantage, &setting.distribute)
            }
            Self::Locality(setting) if policy.outlier_detection.is_some() => {
                let LocalityLbSetting { failover, failover_priority, .. } = setting;
                let labels: Vec<&str> = failover_priority.iter().map(String::as_str).collect();
                split_by_labels(groups, vantage, &labels);
                if labels.is_empty() || !failover.is_empty() {
                    fail_over(groups, LOCALITY_STEPS, |it| locality_step(&vantage.locality, it, failover));
                }
            }
            Self::Locality(_) => {}
            Self::Near(labels) => split_by_labels(groups, vantage, labels),
            Self::ZoneAware(ZoneAwareLbSetting { failover, failover_priority, .. }) => {
                let labels: Vec<&str> = failover_priority.iter().map(String::as_str).collect();
                split_by_labels(groups, vantage, &labels);
                fail_over(groups, REGION_STEPS, |it| region_step(&vantage.locality, it, failover));
            }
        }
    }
}

/// Of the first entry whose `from` the proxy is in: each `to` pattern shares its percentage among the localities that
/// match it, by their weights; localities that match none lose their endpoints.
fn distribute(groups: &mut [Group<'_>], vantage: &Vantage, entries: &[Distribute]) {
    let Some(entry) = entries.iter().find(|it| matches(&it.from, &vantage.locality)) else { return };
    // Istio takes the patterns in random order. Narrow ones first, so that `*` gets only what is left.
    let mut patterns: Vec<(&String, &u32)> = entry.to.iter().filter(|(_, percent)| **percent > 0).collect();
    patterns.sort_by_key(|(pattern, _)| (wildness(pattern), *pattern));
    let mut left: Vec<&mut Group<'_>> = groups.iter_mut().collect();
    for (pattern, percent) in patterns {
        let (mut chosen, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|it| matches(pattern, it.locality));
        left = rest;
        let total: u64 = chosen.iter().map(|it| u64::from(it.weight)).sum();
        for group in &mut chosen {
            let share = (u64::from(group.weight) * u64::from(*percent)).div_ceil(total.max(1));
            group.weight = u32::try_from(share).unwrap_or(u32::MAX);
        }
    }
    for group in left {
        group.endpoints.clear();
    }
}

/// `region/zone/subzone`, later parts optional, each of them may be `*`.
fn matches(pattern: &str, locality: &Locality) -> bool {
    let Locality { region, zone, subzone } = Locality::parse(pattern);
    let any = |part: &str| part == "*" || part.is_empty();
    (region == "*" || region == locality.region)
        && (any(&zone) || zone == locality.zone)
        && (any(&subzone) || subzone == locality.subzone)
}

fn wildness(pattern: &str) -> usize {
    let Locality { region, zone, subzone } = Locality::parse(pattern);
    [region, zone, subzone].iter().filter(|part| *part == "*" || part.is_empty()).count()
}

/// Adds a step within each priority that there already is.
fn fail_over(groups: &mut [Group<'_>], steps: u32, step: impl Fn(&Locality) -> u32) {
    for group in &mut *groups {
        group.priority = group.priority * steps + step(group.locality);
    }
    compact_priorities(groups);
}

/// The same subzone, zone, region; then the region that `failover` names, or any other; then the rest.
fn locality_step(own: &Locality, other: &Locality, failover: &[Failover]) -> u32 {
    match () {
        () if own.region != other.region => match failover.iter().find(|it| it.from == own.region) {
            Some(entry) if entry.to != other.region => 4,
            _ => 3,
        },
        () if own.zone != other.zone => 2,
        () if own.subzone != other.subzone => 1,
        () => 0,
    }
}
const LOCALITY_STEPS: u32 = 5;

/// Zones of one region stay together: Envoy itself balances among them.
fn region_step(own: &Locality, other: &Locality, failover: &[Failover]) -> u32 {
    match failover.iter().find(|it| it.from == own.region) {
        _ if own.region == other.region => 0,
        Some(entry) if entry.to == other.region => 1,
        _ => 2,
    }
}
const REGION_STEPS: u32 = 3;

/// `failoverPriority`: the more of the labels, from the first on, an endpoint shares with the proxy, the better. Each
/// locality is split by priority.
fn split_by_labels(groups: &mut Vec<Group<'_>>, vantage: &Vantage, labels: &[&str]) {
    if labels.is_empty() {
        return;
    }
    // What the proxy's side of each comparison is: its own label, or the value written after `=`.
    let wanted: Vec<(&str, &str)> = labels
        .iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) => (key, value),
            None => (*label, value(&vantage.labels, &vantage.locality, vantage.node.as_deref(), label)),
        })
        .collect();
    *groups = groups.iter().flat_map(|group| group.split(|it| label_priority(it, &wanted))).collect();
    compact_priorities(groups);
}

/// A first label that names the network counts apart: endpoints of another network come after all of this one.
fn label_priority(endpoint: &Endpoint, wanted: &[(&str, &str)]) -> u32 {
    let count = wanted.len() as u32;
    let differs = |(key, expected): &(&str, &str)| {
        value(&endpoint.labels, &endpoint.locality, endpoint.node.as_deref(), key) != *expected
    };
    let network = wanted.first().is_some_and(|it| it.0 == NETWORK);
    let elsewhere = network && differs(&wanted[0]);
    let mismatch = wanted.iter().skip(usize::from(network)).position(differs);
    let mismatch = mismatch.map_or(0, |at| count - u32::from(network) - at as u32);
    mismatch + if elsewhere { count } else { 0 }
}

/// A label; those of topology are known from the locality and the node (Istio's `label.AugmentLabels`).
fn value<'a>(
    labels: &'a BTreeMap<String, String>,
    locality: &'a Locality,
    node: Option<&'a str>,
    key: &str,
) -> &'a str {
    let known = match key {
        REGION => locality.region.as_str(),
        ZONE => &locality.zone,
        SUBZONE => &locality.subzone,
        HOSTNAME => node.unwrap_or_default(),
        _ => "",
    };
    match known {
        "" => labels.get(key).map_or("", String::as_str),
        known => known,
    }
}

const NETWORK: &str = "topology.istio.io/network";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const SAME_ZONE: &[&str] = &[NETWORK, REGION, ZONE];
const SAME_NODE: &[&str] = &[NETWORK, REGION, ZONE, SUBZONE, HOSTNAME];
