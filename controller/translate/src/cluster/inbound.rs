//! `inbound|PORT||`: from the proxy to the workload beside it.

use super::remark::Remarks;
use super::{connection_pool, fixed, http_protocol::HttpProtocol, metadata};
use crate::{Translated, message, name};
use crds::Duration;
use crds::mesh_config::MeshConfig;
use crds::networking::ConnectionPool;
use model::traffic_policy::{Origin, Origins, Policy};
use model::{Location, Protocol, ProxyKind, Service};
use std::net::SocketAddr;
use xds::envoy::cluster::cluster as part;
use xds::envoy::core::Address;
use xds::envoy::endpoint::lb_endpoint::HostIdentifier;
use xds::envoy::{Cluster, ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};

#[derive(Clone, Copy, Debug)]
pub struct InboundClusterInput<'a> {
    /// The workload's port, or that of the Sidecar's ingress listener.
    pub port: u16,
    pub protocol: Protocol,
    pub endpoint: InboundEndpoint<'a>,
    /// The service whose port this is; of several the oldest.
    pub service: Option<&'a Service>,
    /// The Sidecar's `inboundConnectionPool`, else that of the service's own DestinationRule.
    pub pool: Option<&'a ConnectionPool>,
    pub mesh: &'a MeshConfig,
}

/// Where the workload listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundEndpoint<'a> {
    /// On the address that the connection was made to.
    OriginalDst,
    Ip(SocketAddr),
    /// A path, or `@name`.
    Unix(&'a str),
}

/// Only connection pools apply to inbound clusters: the circuit breakers must be as wide here as at the clients.
pub fn inbound(input: &InboundClusterInput<'_>) -> Translated<Cluster> {
    let InboundClusterInput { port, protocol, endpoint, service, pool, mesh } = *input;
    let mut cluster = Cluster {
        name: name::InboundCluster(port).to_string(),
        common_lb_config: Some(part::CommonLbConfig::default()),
        metadata: service.filter(|it| it.location == Location::Mesh).map(metadata::inbound),
        ..Cluster::default()
    };
    cluster.alt_stat_name = stat_name(input, &cluster.name);
    place(&mut cluster, endpoint);
    let mesh_pool = mesh.default_traffic_policy.connection_pool.as_ref();
    let origin = if pool.is_some() { Origin::Rule } else { Origin::Mesh };
    let policy = Policy {
        connection_pool: pool.or(mesh_pool),
        origins: Origins { connection_pool: origin, ..Origins::default() },
        ..Policy::default()
    };
    // Whoever wrote the pool is not known here; its outbound clusters carry the same remarks with the object's name.
    let mut remarks = Remarks::new(None, mesh);
    let mut options = HttpProtocol::of_port(protocol, ProxyKind::Sidecar);
    connection_pool::apply(&mut cluster, &mut options, &policy, mesh, &mut remarks);
    options.finish(&mut cluster);
    Translated::flawless(cluster)
}

fn place(cluster: &mut Cluster, endpoint: InboundEndpoint<'_>) {
    let (kind, address) = match endpoint {
        InboundEndpoint::OriginalDst => {
            cluster.lb_policy = part::LbPolicy::ClusterProvided.into();
            // By default Envoy removes a destination that was not used for 5 s; here there is only one, always needed.
            cluster.cleanup_interval = message::duration(Duration::from_secs(FOREVER_SECONDS));
            (part::DiscoveryType::OriginalDst, None)
        }
        InboundEndpoint::Ip(address) => (part::DiscoveryType::Static, Some(message::ip_address(address))),
        InboundEndpoint::Unix(path) => (part::DiscoveryType::Static, Some(message::pipe(path))),
    };
    cluster.cluster_discovery_type = Some(part::ClusterDiscoveryType::Type(kind.into()));
    cluster.load_assignment = address.map(|it| load_assignment(&cluster.name, it));
    // Connections to loopback are not captured, whatever their source.
    let elsewhere = match endpoint {
        InboundEndpoint::OriginalDst => true,
        InboundEndpoint::Ip(address) => !address.ip().is_loopback(),
        InboundEndpoint::Unix(_) => false,
    };
    cluster.upstream_bind_config = elsewhere.then(fixed::bind_config);
}

fn load_assignment(cluster: &str, address: Address) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(address), ..Default::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
        ..Default::default()
    }
}

fn stat_name(input: &InboundClusterInput<'_>, cluster: &str) -> String {
    let InboundClusterInput { port, service, mesh, .. } = *input;
    match (mesh.inbound_cluster_stat_name.as_str(), service) {
        ("", _) | (_, None) => name::StatName(cluster).to_string(),
        (pattern, Some(service)) => {
            let own = service.ports.iter().find(|it| it.target_port.unwrap_or(it.number) == port);
            let port = Some(port);
            let pattern = name::StatPattern { pattern, service, port: own, subset: None, target_port: port };
            name::StatName(&pattern.to_string()).to_string()
        }
    }
}

/// 292 years, as Istio sends. Envoy counts nanoseconds in 64 bits and refuses one second more.
const FOREVER_SECONDS: u64 = 9_223_372_035;
