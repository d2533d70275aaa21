//! Clusters: how Envoy connects to a service, and to the workload beside it.
//!
//! The shapes are Istio's (`istio.md` 2.1, Annex A "DestinationRule"). Values that Envoy's own validation would refuse
//! are left out alone, each with a problem: one bad number must not cost a proxy all its clusters.

mod connection_pool;
mod dns;
mod fixed;
mod http_protocol;
mod inbound;
mod load_balancer;
mod metadata;
mod outlier_detection;
mod remark;
mod security;
#[cfg(test)]
pub(crate) mod tests;

pub use fixed::{allow_any_dynamic_dns, black_hole, inbound_passthrough, passthrough};
pub use inbound::{InboundClusterInput, InboundEndpoint, inbound};
pub use load_balancer::hash_policies;

use crate::endpoint::{AssignmentInput, Vantage, load_assignment};
use crate::forward_proxy::DnsCache;
use crate::{Translated, message, name, tls};
use crds::Reason;
use crds::mesh_config::MeshConfig;
use crds::networking::SimpleLb;
use http_protocol::HttpProtocol;
use model::traffic_policy::{Policy, policy};
use model::{Endpoints, MergedRule, Peers, Protocol, ProxyKind, Resolution, Service, ServicePort};
use remark::Remarks;
use xds::envoy::Cluster;
use xds::envoy::cluster::cluster as part;

#[derive(Clone, Copy, Debug)]
pub struct ClusterInput<'a> {
    pub service: &'a Service,
    pub port: &'a ServicePort,
    pub subset: Option<&'a str>,
    pub rule: Option<&'a MergedRule>,
    pub mesh: &'a MeshConfig,
    pub kind: ProxyKind,
    /// Needed by DNS types: their load assignment is part of the cluster.
    pub endpoints: Option<&'a Endpoints>,
    /// Who is at the other end, for clients that have certificates; `None` for those that have none.
    pub peers: Option<&'a Peers>,
}

/// Envoy's cluster types that services have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    Eds,
    StrictDns,
    LogicalDns,
    OriginalDst,
    /// A dynamic forward proxy.
    Dynamic,
}

/// How Envoy finds the service's endpoints. Gateways do not know an original destination, so they ask for the
/// endpoints instead.
pub fn discovery(service: &Service, kind: ProxyKind, policy: &Policy<'_>) -> Discovery {
    if service.resolution == Resolution::DynamicDns {
        return Discovery::Dynamic;
    }
    if policy.load_balancer.and_then(|it| it.simple) == Some(SimpleLb::Passthrough) {
        return Discovery::OriginalDst;
    }
    match (&service.resolution, kind) {
        (Resolution::Passthrough, ProxyKind::Sidecar) => Discovery::OriginalDst,
        (Resolution::Dns, _) => Discovery::StrictDns,
        (Resolution::DnsRoundRobin, _) => Discovery::LogicalDns,
        (Resolution::DynamicDns, _) => Discovery::Dynamic,
        (Resolution::Passthrough | Resolution::Endpoints | Resolution::Alias(_), _) => Discovery::Eds,
    }
}

/// Whether gateways get another cluster than sidecars; where not, both share one.
pub fn depends_on_kind(service: &Service, port: &ServicePort, policy: &Policy<'_>) -> bool {
    service.resolution == Resolution::Passthrough
        || port.protocol == Protocol::Auto
        || policy.tls.is_some_and(|it| !it.credential_name.is_empty())
}

/// `outbound|PORT|SUBSET|HOST`. None for UDP ports, for names that only stand for another service, for subsets that
/// no rule defines, and for DNS types without endpoints (Envoy refuses them).
pub fn cluster(input: &ClusterInput<'_>) -> Option<Translated<Cluster>> {
    cluster_seen_from(input, None)
}

/// [`cluster`] for one place in the mesh. It differs only for DNS types whose [`crate::endpoint::needs_vantage`].
pub fn cluster_seen_from(input: &ClusterInput<'_>, vantage: Option<&Vantage>) -> Option<Translated<Cluster>> {
    let ClusterInput { service, port, subset, rule, mesh, kind, .. } = *input;
    let unknown_subset = subset.is_some_and(|name| rule.and_then(|it| it.subset(name)).is_none());
    // There are no endpoints to choose among.
    let unknown_subset = unknown_subset || (subset.is_some() && service.resolution == Resolution::DynamicDns);
    if port.protocol == Protocol::Udp || matches!(service.resolution, Resolution::Alias(_)) || unknown_subset {
        return None;
    }
    let policy = policy(rule, port.number, subset, mesh);
    let discovery = discovery(service, kind, &policy);
    let mut remarks = Remarks::new(rule, mesh);
    let mut cluster = Cluster {
        name: name::OutboundCluster { port: port.number, subset, host: &service.key.host }.to_string(),
        cluster_discovery_type: Some(discovery.envoy_type(service)),
        common_lb_config: (discovery != Discovery::Dynamic).then(part::CommonLbConfig::default),
        metadata: Some(metadata::outbound(input)),
        ..Cluster::default()
    };
    cluster.alt_stat_name = stat_name(input, &cluster.name);
    match discovery {
        Discovery::Eds => cluster.eds_cluster_config = Some(eds_config(&cluster.name)),
        Discovery::Dynamic => {}
        Discovery::OriginalDst => cluster.lb_config = port_override(service, port),
        Discovery::StrictDns | Discovery::LogicalDns => {
            let endpoints = input.endpoints?;
            let assignment =
                load_assignment(&AssignmentInput { service, port, subset, rule, mesh, kind, endpoints, vantage });
            dns::apply(&mut cluster, discovery, assignment.resource, mesh)?;
            remarks.extend(assignment.problems);
        }
    }
    let mut protocol = HttpProtocol::of_port(port.protocol, kind);
    protocol.upgrade(port.protocol, policy.connection_pool, mesh);
    connection_pool::apply(&mut cluster, &mut protocol, &policy, mesh, &mut remarks);
    outlier_detection::apply(&mut cluster, &mut protocol, service, &policy, &mut remarks);
    match discovery {
        Discovery::Dynamic => cluster.lb_policy = part::LbPolicy::ClusterProvided.into(),
        _ => load_balancer::apply(&mut cluster, service, &policy, mesh, &mut remarks),
    }
    security::apply(&mut cluster, &mut protocol, input, discovery, &policy);
    proxy_protocol(&mut cluster, &policy, &mut remarks);
    protocol.finish(&mut cluster);
    Some(Translated { resource: cluster, problems: remarks.problems() })
}

impl Discovery {
    fn envoy_type(self, service: &Service) -> part::ClusterDiscoveryType {
        part::ClusterDiscoveryType::Type(i32::from(match self {
            Self::Eds => part::DiscoveryType::Eds,
            Self::StrictDns => part::DiscoveryType::StrictDns,
            Self::LogicalDns => part::DiscoveryType::LogicalDns,
            Self::OriginalDst => part::DiscoveryType::OriginalDst,
            Self::Dynamic => {
                let cache = DnsCache::Host(service.key.host.clone());
                return part::ClusterDiscoveryType::ClusterType(cache.cluster_type());
            }
        }))
    }
}

/// Istio's tag extraction reads a cluster's statistics by this name; MeshConfig may put another in its place.
fn stat_name(input: &ClusterInput<'_>, cluster: &str) -> String {
    let ClusterInput { service, port, subset, mesh, .. } = *input;
    match mesh.outbound_cluster_stat_name.as_str() {
        "" => name::StatName(cluster).to_string(),
        pattern => {
            let pattern = name::StatPattern { pattern, service, port: Some(port), subset, target_port: None };
            name::StatName(&pattern.to_string()).to_string()
        }
    }
}

fn eds_config(cluster: &str) -> part::EdsClusterConfig {
    part::EdsClusterConfig { eds_config: Some(message::ads()), service_name: cluster.to_owned() }
}

/// A ServiceEntry of resolution NONE may change the port of the original destination by `targetPort`.
fn port_override(service: &Service, port: &ServicePort) -> Option<part::LbConfig> {
    let target = port.target_port.filter(|it| *it != port.number && service.resolution == Resolution::Passthrough)?;
    let upstream_port_override = message::uint32(target.into());
    Some(part::LbConfig::OriginalDstLbConfig(part::OriginalDstLbConfig {
        upstream_port_override,
        ..Default::default()
    }))
}

/// Announces the downstream's address to the upstream with HAProxy's protocol.
fn proxy_protocol(cluster: &mut Cluster, policy: &Policy<'_>, remarks: &mut Remarks<'_>) {
    use xds::envoy::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
    use xds::envoy::{
        ProxyProtocolConfig, TransportSocket, core::proxy_protocol_config::Version, core::transport_socket,
    };
    let Some(written) = policy.proxy_protocol else { return };
    let version = match written.version.as_str() {
        "" | "V1" => Version::V1,
        "V2" => Version::V2,
        other => {
            let reason = Reason::UnknownEnumValue(format!("{other:?} is neither V1 nor V2"));
            return remarks.add(policy.origins.proxy_protocol, "proxyProtocol.version", reason);
        }
    };
    // Around whatever the cluster speaks otherwise.
    let around = |inner: TransportSocket| {
        let config = ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig { version: version.into(), ..Default::default() }),
            transport_socket: Some(inner),
            ..Default::default()
        };
        let config_type = Some(transport_socket::ConfigType::TypedConfig(message::any(&config)));
        TransportSocket { name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(), config_type }
    };
    for socket in &mut cluster.transport_socket_matches {
        socket.transport_socket = socket.transport_socket.take().map(around);
    }
    if cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = Some(around(cluster.transport_socket.take().unwrap_or_else(tls::plain)));
    }
}
