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

use crate::forward_proxy::DnsCache;
use crate::{message, name, route};
use crds::mesh_config::{InterceptionMode, MeshConfig};
use crds::networking::{Destination, OutboundTrafficPolicy, OutboundTrafficPolicyMode};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use model::{Hostname, Protocol};
use prost::{Message, Name};
use std::collections::BTreeSet;
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
/// protocol HTTP_PROXY); `route` is `http_proxy` or the port, `resolved` are hosts in it that Envoy resolves.
pub fn http_proxy(
    bind: &str,
    port: u16,
    route: &name::SidecarRoute,
    mesh: &MeshConfig,
    resolved: Vec<DnsCache>,
) -> Listener {
    let listener_name = name::Listener { bind, port }.to_string();
    let manager = http::Manager {
        stat_prefix: name::StatName(&format!("outbound_{listener_name}")).to_string(),
        routes: http::Routes::Discovered(route.to_string()),
        role: http::Role::Proxy,
        protocol: Protocol::HttpProxy,
        mesh,
        upstream_alpn: None,
        resolved,
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
    let by_name = unknown_hosts(policy, mesh);
    let chains = [
        Some(black_hole(name::VIRTUAL_OUTBOUND_BLACK_HOLE, port)),
        by_name.clone(),
        Some(FilterChain {
            name: name::VIRTUAL_OUTBOUND_CATCH_ALL_TCP.to_owned(),
            filters: vec![unknown_destination(policy, mesh)],
            ..Default::default()
        }),
    ];
    Listener {
        name: name::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(Bind::ANY.address(port)),
        transparent: transparent(interception),
        use_original_dst: message::boolean(true),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        max_connections_to_accept_per_socket_event: ONE_CONNECTION_PER_EVENT,
        access_log: access_log::of_listener(mesh),
        listener_filters: by_name.iter().map(|_| inspector::http(&BTreeSet::new())).collect(),
        filter_chains: chains.into_iter().flatten().collect(),
        ..Default::default()
    }
}

/// Plain HTTP to unknown hosts, where Envoy resolves those.
fn unknown_hosts(policy: &OutboundTrafficPolicy, mesh: &MeshConfig) -> Option<FilterChain> {
    let resolved = vec![resolved(policy)?];
    let name = name::ALLOW_ANY_DYNAMIC_DNS;
    let table =
        RouteConfiguration { virtual_hosts: vec![route::catch_all(policy)], ..route::route_configuration(name) };
    let manager = http::Manager {
        stat_prefix: name::StatName(&format!("outbound_{}_{name}", name::VIRTUAL_OUTBOUND)).to_string(),
        routes: http::Routes::Inline(Box::new(table)),
        role: http::Role::Outbound,
        protocol: Protocol::Http,
        mesh,
        upstream_alpn: None,
        resolved,
    };
    Some(FilterChain {
        name: format!("{}-http", name::VIRTUAL_OUTBOUND_CATCH_ALL_TCP),
        filter_chain_match: Some(FilterChainMatch {
            application_protocols: chain::PLAIN_HTTP.map(String::from).to_vec(),
            ..Default::default()
        }),
        filters: vec![http::filter(&manager)],
        ..Default::default()
    })
}

/// What must be resolved so that unknown hosts can be reached.
pub fn resolved(policy: &OutboundTrafficPolicy) -> Option<DnsCache> {
    (policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns).then_some(DnsCache::Unknown)
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
            let by_name = policy.mode == AllowAnyDynamicDns;
            assert_eq!(
                (listener.filter_chains.len(), listener.listener_filters.len()),
                (2 + by_name as usize, by_name as usize)
            );
            let chain = &listener.filter_chains.last().unwrap();
            assert_eq!(chain.name, "virtualOutbound-catchall-tcp");
            let proxy = tcp::tests::proxy(&chain.filters[0]);
            assert_eq!(proxy.cluster_specifier, Some(ClusterSpecifier::Cluster(expected.into())));
            assert_eq!(proxy.stat_prefix, expected);
        }
    }

    #[test]
    fn plain_http_to_unknown_hosts_is_resolved_where_the_mesh_says_so() {
        let policy = policy(OutboundTrafficPolicyMode::AllowAnyDynamicDns, None);
        let listener = virtual_outbound(&policy, InterceptionMode::Redirect, &MeshConfig::default());
        let chain = &listener.filter_chains[1];
        assert_eq!(chain.name, "virtualOutbound-catchall-tcp-http");
        assert_eq!(chain.filter_chain_match.as_ref().unwrap().application_protocols, ["http/1.1", "h2c"]);
        let manager = http::tests::manager(&chain.filters[0]);
        let [.., resolving, router] = manager.http_filters.as_slice() else { panic!("{:?}", manager.http_filters) };
        assert_eq!(resolving.name, "envoy.filters.http.dynamic_forward_proxy");
        assert_eq!(router.name, "envoy.filters.http.router");
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
        let listener = http_proxy("127.0.0.1", 15002, &name::SidecarRoute::HttpProxy, &MeshConfig::default(), vec![]);
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
