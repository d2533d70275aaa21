//! `loadBalancer`: the algorithm, slow start, consistent hashing, and how localities weigh.

use super::remark::Remarks;
use crate::endpoint::{self, LocalityPreference};
use crate::message;
use crds::Reason;
use crds::mesh_config::MeshConfig;
use crds::networking::{ConsistentHash, LoadBalancer, SimpleLb, Warmup};
use model::Service;
use model::traffic_policy::{Origin, Policy};
use xds::envoy::Cluster;
use xds::envoy::cluster::cluster::{self as part, LbConfig, LbPolicy, common_lb_config as common};
use xds::envoy::core::RuntimeDouble;
use xds::envoy::route::route_action::{HashPolicy, hash_policy as hash};

pub(super) fn apply(
    cluster: &mut Cluster,
    service: &Service,
    policy: &Policy<'_>,
    mesh: &MeshConfig,
    remarks: &mut Remarks<'_>,
) {
    let common = cluster.common_lb_config.get_or_insert_default();
    // In a panic Envoy would send to pods that said they are not ready.
    if common.healthy_panic_threshold.is_none() && endpoint::sends_unhealthy(service) {
        common.healthy_panic_threshold = message::percent(0.0);
    }
    common.locality_config_specifier = locality_config(service, policy, mesh, remarks);
    let original_destination = part::ClusterDiscoveryType::Type(part::DiscoveryType::OriginalDst.into());
    if cluster.cluster_discovery_type == Some(original_destination) {
        cluster.lb_policy = LbPolicy::ClusterProvided.into();
        return;
    }
    let settings = Settings::new(policy, remarks);
    cluster.lb_policy = settings.policy.into();
    cluster.lb_config = settings.config;
}

/// Weights and failover between localities work only with this flag; without either it would only worsen the choice
/// that e.g. LEAST_REQUEST makes among all endpoints.
fn locality_config(
    service: &Service,
    policy: &Policy<'_>,
    mesh: &MeshConfig,
    remarks: &mut Remarks<'_>,
) -> Option<common::LocalityConfigSpecifier> {
    let preference = LocalityPreference::new(service, policy, mesh);
    let written = policy.load_balancer.and_then(|it| it.locality_lb_setting.as_ref());
    let failover = written.is_some_and(|it| !it.failover.is_empty() || !it.failover_priority.is_empty());
    if failover && policy.outlier_detection.is_none() {
        let why = "failover has no effect without outlierDetection: Envoy would never leave the first priority";
        remarks.add(policy.origins.load_balancer, "loadBalancer.localityLbSetting", Reason::Ineffective(why.into()));
    }
    match preference? {
        LocalityPreference::ZoneAware(setting) => {
            let routing_enabled = if setting.enabled == Some(false) { message::percent(0.0) } else { None };
            let min_cluster_size = setting.min_cluster_size.and_then(message::uint64);
            let config = common::ZoneAwareLbConfig { routing_enabled, min_cluster_size, ..Default::default() };
            Some(common::LocalityConfigSpecifier::ZoneAwareLbConfig(config))
        }
        preference => preference.is_weighted(policy).then(|| {
            common::LocalityConfigSpecifier::LocalityWeightedLbConfig(common::LocalityWeightedLbConfig::default())
        }),
    }
}

struct Settings {
    policy: LbPolicy,
    config: Option<LbConfig>,
}

impl Settings {
    fn new(policy: &Policy<'_>, remarks: &mut Remarks<'_>) -> Self {
        let origin = policy.origins.load_balancer;
        let Some(written) = policy.load_balancer else {
            return Self { policy: LbPolicy::LeastRequest, config: None };
        };
        let slow_start = slow_start(written, origin, remarks);
        if let Some(hash) = &written.consistent_hash {
            ineffective_warmup(slow_start.as_ref(), origin, remarks);
            return consistent(hash, origin, remarks);
        }
        match written.simple {
            Some(SimpleLb::Random) => {
                ineffective_warmup(slow_start.as_ref(), origin, remarks);
                Self { policy: LbPolicy::Random, config: None }
            }
            Some(SimpleLb::RoundRobin) => Self {
                policy: LbPolicy::RoundRobin,
                config: slow_start
                    .map(|it| LbConfig::RoundRobinLbConfig(part::RoundRobinLbConfig { slow_start_config: Some(it) })),
            },
            // PASSTHROUGH never comes here: such a cluster is ORIGINAL_DST.
            None
            | Some(SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest | SimpleLb::Passthrough) => {
                let config = |it| part::LeastRequestLbConfig { slow_start_config: Some(it), ..Default::default() };
                Self {
                    policy: LbPolicy::LeastRequest,
                    config: slow_start.map(|it| LbConfig::LeastRequestLbConfig(config(it))),
                }
            }
        }
    }
}

fn ineffective_warmup(slow_start: Option<&part::SlowStartConfig>, origin: Origin, remarks: &mut Remarks<'_>) {
    if slow_start.is_some() {
        let why = "Envoy warms endpoints up only with ROUND_ROBIN and LEAST_REQUEST";
        remarks.add(origin, "loadBalancer.warmup", Reason::Ineffective(why.into()));
    }
}

fn slow_start(from: &LoadBalancer, origin: Origin, remarks: &mut Remarks<'_>) -> Option<part::SlowStartConfig> {
    let Some(Warmup { duration, minimum_percent, aggression }) = &from.warmup else {
        let window = from.warmup_duration_secs?;
        return Some(part::SlowStartConfig { slow_start_window: message::duration(window), ..Default::default() });
    };
    let Some(duration) = duration else {
        remarks.add(origin, "loadBalancer.warmup.duration", Reason::Invalid("is required; there is no warm-up".into()));
        return None;
    };
    let percent_ok = minimum_percent.is_none_or(|it| (0.0..=100.0).contains(&it));
    let why = "is not between 0 and 100; 10 applies";
    let percent = remarks.keep(*minimum_percent, percent_ok, origin, "loadBalancer.warmup.minimumPercent", why);
    let why = "must be at least 1; 1 applies";
    let aggression_ok = aggression.is_none_or(|it| it >= 1.0);
    let aggression = remarks.keep(*aggression, aggression_ok, origin, "loadBalancer.warmup.aggression", why);
    Some(part::SlowStartConfig {
        slow_start_window: message::duration(*duration),
        // Envoy requires a runtime key. Istio's is one that nobody would set.
        aggression: Some(RuntimeDouble { default_value: aggression.unwrap_or(1.0), runtime_key: "(".into() }),
        min_weight_percent: message::percent(percent.unwrap_or(10.0)),
    })
}

fn consistent(from: &ConsistentHash, origin: Origin, remarks: &mut Remarks<'_>) -> Settings {
    let maglev = |table_size: Option<u64>| Settings {
        policy: LbPolicy::Maglev,
        config: table_size.map(|it| LbConfig::MaglevLbConfig(part::MaglevLbConfig { table_size: message::uint64(it) })),
    };
    let ring = |size: Option<u64>| Settings {
        policy: LbPolicy::RingHash,
        config: size.map(|it| {
            LbConfig::RingHashLbConfig(part::RingHashLbConfig {
                minimum_ring_size: message::uint64(it),
                ..Default::default()
            })
        }),
    };
    let why = "Envoy allows at most 8388608; its default applies";
    match (&from.maglev, &from.ring_hash) {
        (Some(written), _) => {
            let size = Some(written.table_size).filter(|it| *it != 0);
            let ok = size.is_none_or(|it| it <= TABLE_SIZE_MAX && is_prime(it));
            let why = "must be a prime number of at most 5000011; 65537 applies";
            maglev(remarks.keep(size, ok, origin, "loadBalancer.consistentHash.maglev.tableSize", why))
        }
        (None, Some(written)) => {
            let size = Some(written.minimum_ring_size).filter(|it| *it != 0);
            let ok = size.is_none_or(|it| it <= RING_SIZE_MAX);
            ring(remarks.keep(size, ok, origin, "loadBalancer.consistentHash.ringHash.minimumRingSize", why))
        }
        (None, None) => {
            let size = from.minimum_ring_size.filter(|it| *it != 0);
            let ok = size.is_none_or(|it| it <= RING_SIZE_MAX);
            let size = remarks.keep(size, ok, origin, "loadBalancer.consistentHash.minimumRingSize", why);
            ring(Some(size.unwrap_or(RING_SIZE_DEFAULT)))
        }
    }
}

/// What routes to the cluster hash by, so that RING_HASH and MAGLEV have something to go on. At most one.
pub fn hash_policies(policy: &Policy<'_>) -> Vec<HashPolicy> {
    let Some(from) = policy.load_balancer.and_then(|it| it.consistent_hash.as_ref()) else { return Vec::new() };
    let specifier = match from {
        ConsistentHash { http_header_name: Some(name), .. } if !name.is_empty() => {
            hash::PolicySpecifier::Header(hash::Header { header_name: name.clone(), regex_rewrite: None })
        }
        ConsistentHash { http_cookie: Some(cookie), .. } if !cookie.name.is_empty() => {
            let attribute = |it: &crds::networking::CookieAttribute| hash::CookieAttribute {
                name: it.name.clone(),
                value: it.value.clone(),
            };
            hash::PolicySpecifier::Cookie(hash::Cookie {
                name: cookie.name.clone(),
                // Absent: hash only if the client has the cookie. 0: a session cookie is made.
                ttl: cookie.ttl.and_then(message::duration),
                path: cookie.path.clone(),
                attributes: cookie.attributes.iter().map(attribute).collect(),
            })
        }
        ConsistentHash { use_source_ip: Some(true), .. } => {
            hash::PolicySpecifier::ConnectionProperties(hash::ConnectionProperties { source_ip: true })
        }
        ConsistentHash { http_query_parameter_name: Some(name), .. } if !name.is_empty() => {
            hash::PolicySpecifier::QueryParameter(hash::QueryParameter { name: name.clone() })
        }
        _ => return Vec::new(),
    };
    vec![HashPolicy { terminal: false, policy_specifier: Some(specifier) }]
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|it| it * it <= number).all(|it| !number.is_multiple_of(it))
}

const TABLE_SIZE_MAX: u64 = 5_000_011;
const RING_SIZE_MAX: u64 = 8_388_608;
/// Istio's, and Envoy's.
const RING_SIZE_DEFAULT: u64 = 1024;
