//! Clusters whose endpoints Envoy finds by DNS.

use super::Discovery;
use crate::message;
use crds::Duration;
use crds::mesh_config::MeshConfig;
use xds::envoy::cluster::cluster::DnsLookupFamily;
use xds::envoy::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use xds::envoy::{Cluster, ClusterLoadAssignment};

/// None without endpoints: Envoy refuses a LOGICAL_DNS cluster without its one endpoint, and Istio sends none of
/// either type.
pub(super) fn apply(
    cluster: &mut Cluster,
    discovery: Discovery,
    mut assignment: ClusterLoadAssignment,
    mesh: &MeshConfig,
) -> Option<()> {
    assignment.endpoints.retain(|it| !it.lb_endpoints.is_empty());
    if discovery == Discovery::LogicalDns {
        assignment.endpoints.truncate(1);
        assignment.endpoints.first_mut()?.lb_endpoints.truncate(1);
        let weight = assignment.endpoints[0].lb_endpoints[0].load_balancing_weight;
        assignment.endpoints[0].load_balancing_weight = weight;
        assignment.endpoints[0].priority = 0;
    }
    assignment.endpoints.first()?;
    cluster.load_assignment = Some(assignment);
    // Istio knows the proxy's addresses and sets V4_ONLY or V6_ONLY. This serves both kinds of proxies the same
    // cluster: IPv6 answers are used only for names that have no IPv4 ones.
    cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
    // A single UDP socket to the resolver would keep its source port for ever, and one bad resolver behind a
    // connection-tracking VIP with it (<https://github.com/istio/istio/issues/53577>).
    let resolver = CaresDnsResolverConfig { udp_max_queries: message::uint32(UDP_QUERIES_MAX), ..Default::default() };
    cluster.typed_dns_resolver_config = Some(message::typed_extension("envoy.network.dns_resolver.cares", &resolver));
    refresh(cluster, mesh);
    Some(())
}

/// Envoy deprecates these fields for its `DnsCluster` extension; Istio still sends them, and Envoy's cluster types
/// STRICT_DNS and LOGICAL_DNS, on which EnvoyFilters match, read nothing else.
#[allow(deprecated)]
fn refresh(cluster: &mut Cluster, mesh: &MeshConfig) {
    // Envoy refuses a rate of 1 ms or less; absent, it is 5 s.
    cluster.dns_refresh_rate =
        Some(mesh.dns_refresh_rate).filter(|it| *it > Duration::from_millis(1)).and_then(message::duration);
    cluster.dns_jitter = message::duration(JITTER);
    cluster.respect_dns_ttl = true;
}

/// Istio's `PILOT_DNS_CARES_UDP_MAX_QUERIES` and `PILOT_DNS_JITTER_DURATION`.
const UDP_QUERIES_MAX: u32 = 100;
const JITTER: Duration = Duration::from_millis(100);
