//! The clusters that every proxy has: for traffic that no service explains.

use super::{connection_pool, http_protocol::HttpProtocol};
use crate::forward_proxy::DnsCache;
use crate::{message, name};
use crds::Duration;
use crds::mesh_config::MeshConfig;
use xds::envoy::Cluster;
use xds::envoy::cluster::cluster as part;
use xds::envoy::core::{BindConfig, ExtraSourceAddress, SocketAddress, socket_address::PortSpecifier};

/// Connections end here: no endpoint, ever.
pub fn black_hole() -> Cluster {
    Cluster {
        name: name::BLACK_HOLE_CLUSTER.into(),
        alt_stat_name: name::StatName(name::BLACK_HOLE_CLUSTER).to_string(),
        cluster_discovery_type: Some(part::ClusterDiscoveryType::Type(part::DiscoveryType::Static.into())),
        connect_timeout: message::duration(Duration::from_secs(10)),
        ..Cluster::default()
    }
}

/// To wherever the connection was going, speaking whatever the client speaks.
pub fn passthrough(mesh: &MeshConfig) -> Cluster {
    original_destination(name::PASSTHROUGH_CLUSTER, mesh)
}

/// To wherever an HTTP request says, for hosts that the mesh does not know.
pub fn allow_any_dynamic_dns(mesh: &MeshConfig) -> Cluster {
    let cluster_type = part::ClusterDiscoveryType::ClusterType(DnsCache::Unknown.cluster_type());
    let mut cluster = Cluster {
        name: name::ALLOW_ANY_DYNAMIC_DNS_CLUSTER.into(),
        alt_stat_name: name::StatName(name::ALLOW_ANY_DYNAMIC_DNS_CLUSTER).to_string(),
        cluster_discovery_type: Some(cluster_type),
        lb_policy: part::LbPolicy::ClusterProvided.into(),
        ..Cluster::default()
    };
    onward(&mut cluster, mesh);
    cluster
}

/// To the workload beside the proxy, on a port that no service names.
pub fn inbound_passthrough(mesh: &MeshConfig) -> Cluster {
    Cluster {
        upstream_bind_config: Some(bind_config()),
        ..original_destination(name::INBOUND_PASSTHROUGH_CLUSTER, mesh)
    }
}

fn original_destination(name: &str, mesh: &MeshConfig) -> Cluster {
    let mut cluster = Cluster {
        name: name.into(),
        alt_stat_name: name::StatName(name).to_string(),
        cluster_discovery_type: Some(part::ClusterDiscoveryType::Type(part::DiscoveryType::OriginalDst.into())),
        lb_policy: part::LbPolicy::ClusterProvided.into(),
        ..Cluster::default()
    };
    onward(&mut cluster, mesh);
    cluster
}

/// The mesh's default connection pool applies, except for what belongs to HTTP: there the idle timeout is fixed, as
/// these connections are pooled by address and would pile up.
fn onward(cluster: &mut Cluster, mesh: &MeshConfig) {
    connection_pool::apply_defaults(cluster, mesh);
    let mut protocol = HttpProtocol::downstream();
    protocol.common_mut().idle_timeout = message::duration(IDLE_TIMEOUT);
    protocol.finish(cluster);
}

/// The source address that tells iptables (`-s 127.0.0.6/32 -j RETURN`) that a connection comes from the proxy's
/// inbound side, so that it is not captured again. Envoy picks the one of the upstream's family.
pub(super) fn bind_config() -> BindConfig {
    let extra = ExtraSourceAddress { address: Some(source_address(SOURCE_V6)), ..Default::default() };
    BindConfig {
        source_address: Some(source_address(SOURCE_V4)),
        extra_source_addresses: vec![extra],
        ..Default::default()
    }
}

fn source_address(address: &str) -> SocketAddress {
    SocketAddress { address: address.into(), port_specifier: Some(PortSpecifier::PortValue(0)), ..Default::default() }
}

const SOURCE_V4: &str = "127.0.0.6";
const SOURCE_V6: &str = "::6";
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
