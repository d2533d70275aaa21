//! Listeners: what Envoy accepts, and the filter chains that decide what becomes of it (`istio.md` 2.3, 2.5, 2.6).
//!
//! [`outbound`] are a sidecar's listeners for the services it sees, [`inbound`] those for its own workload,
//! [`gateway`] those of routers. For proxies without certificates everything is plain text or passed through.

mod access_log;
mod chain;
pub mod gateway;
mod http;
pub mod inbound;
mod inspector;
pub mod outbound;
mod sni;
mod tcp;

pub use inbound::{InboundInput, InboundPort, inbound, virtual_inbound};

use crate::{message, name};
use crds::mesh_config::{InterceptionMode, MeshConfig};
use crds::networking::{Destination, OutboundTrafficPolicy, OutboundTrafficPolicyMode};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter};
use model::{Hostname, Protocol};
use prost::{Message, Name};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bind {
    Ip(IpAddr),
    /// A path, or `@name` for an abstract socket.
    Unix(Arc<str>),
}

impl Bind {
    pub const ANY: Self = Self::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    pub const LOCALHOST: Self = Self::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));

    /// An address, or a socket (`unix:///path`, `unix://@name`, `/path`, `@name`).
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix("unix://").or_else(|| Some(text).filter(|it| it.starts_with(['/', '@'])));
        match path {
            Some("" | "/" | "@") => None,
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Ip),
        }
    }

    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Ip(ip) if ip.is_unspecified())
    }

    fn address(&self, port: u16) -> core::Address {
        match self {
            Self::Ip(ip) => message::socket_address(ip.to_string(), port),
            Self::Unix(path) => message::pipe(path.to_string()),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// The listener that an application uses as its HTTP proxy (`proxyHttpPort`, or a Sidecar's egress listener of
/// protocol HTTP_PROXY); `route` is `http_proxy` or the port.
pub fn http_proxy(bind: &str, port: u16, route: &name::SidecarRoute, mesh: &MeshConfig) -> Listener {
    let listener_name = name::Listener { bind, port }.to_string();
    let manager = http::Manager {
        stat_prefix: name::StatName(&format!("outbound_{listener_name}")).to_string(),
        routes: http::Routes::Discovered(route.to_string()),
        role: http::Role::Proxy,
        protocol: Protocol::HttpProxy,
        mesh,
        upstream_alpn: None,
    };
    let address = Bind::parse(bind).map_or_else(|| message::socket_address(bind, port), |it| it.address(port));
    Listener {
        name: listener_name,
        address: Some(address),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: message::duration(crds::Duration::ZERO),
        max_connections_to_accept_per_socket_event: ONE_CONNECTION_PER_EVENT,
        filter_chains: vec![FilterChain {
            filters: vec![http::filter(&manager)],
            transport_socket_connect_timeout: message::duration(HANDSHAKE_TIMEOUT),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Where iptables send what leaves the workload: handed on to the listener of the original destination, or, when
/// there is none, treated as `policy` says.
pub fn virtual_outbound(policy: &OutboundTrafficPolicy, interception: InterceptionMode, mesh: &MeshConfig) -> Listener {
    let port = mesh.proxy_listen_port;
    Listener {
        name: name::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(Bind::ANY.address(port)),
        transparent: transparent(interception),
        use_original_dst: message::boolean(true),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        max_connections_to_accept_per_socket_event: ONE_CONNECTION_PER_EVENT,
        access_log: access_log::of_listener(mesh),
        filter_chains: vec![
            black_hole(name::VIRTUAL_OUTBOUND_BLACK_HOLE, port),
            FilterChain {
                name: name::VIRTUAL_OUTBOUND_CATCH_ALL_TCP.to_owned(),
                filters: vec![unknown_destination(policy, mesh)],
                ..Default::default()
            },
        ],
        ..Default::default()
    }
}

/// Connections to the listener's own port would otherwise be forwarded to it forever.
fn black_hole(chain_name: &str, port: u16) -> FilterChain {
    FilterChain {
        name: chain_name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: message::uint32(port.into()),
            ..Default::default()
        }),
        filters: vec![tcp::plain(name::BLACK_HOLE_CLUSTER, name::BLACK_HOLE_CLUSTER, vec![])],
        ..Default::default()
    }
}

/// The filter for connections to addresses that the mesh does not know.
fn unknown_destination(policy: &OutboundTrafficPolicy, mesh: &MeshConfig) -> Filter {
    let cluster = match (policy.mode, &policy.egress_proxy) {
        (OutboundTrafficPolicyMode::RegistryOnly, _) => name::BLACK_HOLE_CLUSTER.to_owned(),
        (_, Some(proxy)) => egress_proxy_cluster(proxy),
        // Dynamic DNS resolves names of HTTP requests only; other connections pass through (Istio, listener_builder.go).
        (_, None) => name::PASSTHROUGH_CLUSTER.to_owned(),
    };
    tcp::plain(&cluster, &cluster, access_log::file(mesh))
}

fn egress_proxy_cluster(proxy: &Destination) -> String {
    let port = proxy.port.as_ref().and_then(|it| u16::try_from(it.number).ok()).unwrap_or_default();
    let subset = Some(proxy.subset.as_str()).filter(|it| !it.is_empty());
    name::OutboundCluster { port, subset, host: &Hostname::new(&proxy.host) }.to_string()
}

/// TPROXY keeps the client's address, for which the listener's socket must be transparent.
fn transparent(interception: InterceptionMode) -> Option<envoy_types::pb::google::protobuf::BoolValue> {
    (interception == InterceptionMode::Tproxy).then_some(envoy_types::pb::google::protobuf::BoolValue { value: true })
}

fn network_filter<M: Message + Name>(filter_name: &str, config: &M) -> Filter {
    Filter { name: filter_name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(message::any(config))) }
}

/// How long a client may take for its TLS handshake (Istio's default for all chains).
const HANDSHAKE_TIMEOUT: crds::Duration = crds::Duration::from_secs(15);

/// Spreads connections over Envoy's workers (Istio's default since 1.26).
const ONE_CONNECTION_PER_EVENT: Option<envoy_types::pb::google::protobuf::UInt32Value> =
    Some(envoy_types::pb::google::protobuf::UInt32Value { value: 1 });

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

    fn policy(mode: OutboundTrafficPolicyMode, proxy: Option<&str>) -> OutboundTrafficPolicy {
        let egress_proxy = proxy.map(|host| Destination {
            host: host.into(),
            subset: "v1".into(),
            port: Some(crds::networking::PortSelector { number: 3128 }),
        });
        OutboundTrafficPolicy { mode, egress_proxy }
    }

    #[test]
    fn unknown_traffic_passes_through_or_ends_as_the_policy_says() {
        use OutboundTrafficPolicyMode::{AllowAny, AllowAnyDynamicDns, RegistryOnly};
        for (policy, expected) in [
            (policy(AllowAny, None), "PassthroughCluster"),
            (policy(AllowAnyDynamicDns, None), "PassthroughCluster"),
            (policy(RegistryOnly, None), "BlackHoleCluster"),
            (policy(RegistryOnly, Some("p.com")), "BlackHoleCluster"),
            (policy(AllowAny, Some("p.com")), "outbound|3128|v1|p.com"),
        ] {
            let listener = virtual_outbound(&policy, InterceptionMode::Redirect, &MeshConfig::default());
            let chain = &listener.filter_chains[1];
            assert_eq!(chain.name, "virtualOutbound-catchall-tcp");
            let proxy = tcp::tests::proxy(&chain.filters[0]);
            assert_eq!(proxy.cluster_specifier, Some(ClusterSpecifier::Cluster(expected.into())));
            assert_eq!(proxy.stat_prefix, expected);
        }
    }

    #[test]
    fn the_virtual_outbound_listener_refuses_its_own_port() {
        let mesh = MeshConfig { proxy_listen_port: 15999, ..Default::default() };
        let policy = policy(OutboundTrafficPolicyMode::AllowAny, None);
        let listener = virtual_outbound(&policy, InterceptionMode::Redirect, &mesh);
        assert_eq!((listener.name.as_str(), listener.transparent), ("virtualOutbound", None));
        assert_eq!(listener.use_original_dst, message::boolean(true));
        assert_eq!(listener.filter_chains[0].name, "virtualOutbound-blackhole");
        let matched = listener.filter_chains[0].filter_chain_match.as_ref().unwrap();
        assert_eq!(matched.destination_port, message::uint32(15999));
        let tproxy = virtual_outbound(&policy, InterceptionMode::Tproxy, &mesh);
        assert_eq!(tproxy.transparent, message::boolean(true));
    }

    #[test]
    fn the_http_proxy_listener_has_a_route_table_of_its_own() {
        let listener = http_proxy("127.0.0.1", 15002, &name::SidecarRoute::HttpProxy, &MeshConfig::default());
        assert_eq!(listener.name, "127.0.0.1_15002");
        assert_eq!(listener.bind_to_port, None);
        let manager = http::tests::manager(&listener.filter_chains[0].filters[0]);
        assert_eq!(manager.stat_prefix, "outbound_127.0.0.1_15002;");
        assert_eq!(http::tests::route_name(&manager), Some("http_proxy".to_owned()));
        assert_eq!(manager.http_protocol_options.unwrap().allow_absolute_url, message::boolean(true));
    }

    #[test]
    fn a_bind_is_an_address_or_a_socket() {
        for (text, expected) in [
            ("0.0.0.0", Some(Bind::ANY)),
            ("127.0.0.1", Some(Bind::LOCALHOST)),
            ("unix:///run/x", Some(Bind::Unix("/run/x".into()))),
            ("unix://@x", Some(Bind::Unix("@x".into()))),
            ("/run/x", Some(Bind::Unix("/run/x".into()))),
            ("unix://", None),
            ("localhost", None),
        ] {
            assert_eq!(Bind::parse(text), expected, "{text}");
        }
        assert!(Bind::parse("::").unwrap().is_wildcard());
    }
}
