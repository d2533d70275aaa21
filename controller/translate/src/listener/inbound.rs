//! A sidecar's listeners for connections to its own workload (`istio.md` 2.6). TLS that is not the mesh's goes through
//! untouched, where anything but the mesh's is accepted.

use super::chain::{PLAIN_HTTP, RAW_BUFFER};
use super::{
    Bind, HANDSHAKE_TIMEOUT, ONE_CONNECTION_PER_EVENT, access_log, black_hole, http, inspector, tcp, transparent,
};
use crate::tls::{self, Termination};
use crate::{message, name, route};
use crds::mesh_config::{InterceptionMode, MeshConfig};
use crds::networking::ServerTls;
use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter};
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, route::Action, route_action::ClusterSpecifier};
use model::{Certificates, EffectiveModes, Mode, Protocol, Service, ServicePort};
use std::collections::BTreeSet;

/// A port of the workload, or of a Sidecar's ingress listener.
#[derive(Clone, Debug)]
pub struct InboundPort<'a> {
    pub port: u16,
    pub protocol: Protocol,
    /// Whose port it is; of several services the oldest.
    pub service: Option<(&'a Service, &'a ServicePort)>,
    /// `inbound|PORT||`.
    pub cluster: String,
    /// Of a Sidecar's ingress listener: it has effect where no TLS of the mesh is taken.
    pub tls: Option<&'a ServerTls>,
}

#[derive(Clone, Debug)]
pub struct InboundInput<'a> {
    /// Of ports that occur twice the first counts.
    pub ports: Vec<InboundPort<'a>>,
    pub interception: InterceptionMode,
    /// What the workload's ports accept; `None`: without certificates, plain text.
    pub security: Option<&'a EffectiveModes>,
    pub mesh: &'a MeshConfig,
}

/// Where iptables send what comes to the workload: a chain set for each port that a service declares, and one for all
/// other ports.
pub fn virtual_inbound(input: &InboundInput<'_>) -> Listener {
    let mesh = input.mesh;
    let own_port = mesh.proxy_inbound_listen_port;
    let mut chains = vec![black_hole(name::VIRTUAL_INBOUND_BLACK_HOLE, own_port)];
    let mut seen = BTreeSet::from([own_port]);
    let ports: Vec<&InboundPort<'_>> = input.ports.iter().filter(|it| seen.insert(it.port)).collect();
    // Ports that a policy names and no service: they are passed through, as the policy says.
    let named = input.security.iter().flat_map(|it| it.ports.keys().copied()).filter(|it| seen.insert(*it));
    let named: Vec<u16> = named.collect();
    let mode = |port: u16| mode_of(input.security, port);
    let of_others = input.security.map_or(Mode::Disable, |it| it.mode);
    let inspected = |it: Mode| it != Mode::Disable;
    let takes_tls = |it: &InboundPort<'_>| inspected(mode(it.port)) || it.tls.is_some();
    let inspects =
        inspected(of_others) || ports.iter().any(|it| takes_tls(it)) || named.iter().any(|it| inspected(mode(*it)));
    chains.extend(catch_all(None, of_others, mesh));
    if inspects && !inspected(of_others) {
        // What the inspector calls TLS meets no chain for what is not.
        chains.push(chain(name::VIRTUAL_INBOUND, None, &Row::TLS_PASSTHROUGH, &passthrough(mesh), mesh));
    }
    for port in named.iter().copied() {
        chains.extend(catch_all(Some(port), mode(port), mesh));
    }
    for port in &ports {
        chains.extend(port_chains(&Bind::ANY.to_string(), port, input.security, mesh));
    }
    let mut listener_filters = inspector::original(input.interception);
    if inspects {
        let all = ports.iter().map(|it| it.port).chain(named).chain([own_port]);
        let own_tls = |it: &u16| ports.iter().any(|port| port.port == *it && port.tls.is_some());
        let plain = all.filter(|it| *it == own_port || !inspected(mode(*it)) && !own_tls(it));
        listener_filters.push(inspector::tls(&plain.collect()));
    }
    listener_filters.extend(http_inspector(&chains));
    Listener {
        name: name::VIRTUAL_INBOUND.to_owned(),
        address: Some(Bind::ANY.address(own_port)),
        transparent: transparent(input.interception),
        filter_chains: chains,
        listener_filters,
        ..frame(mesh)
    }
}

/// The listener of one port of a Sidecar's ingress that is bound to an address of its own.
pub fn inbound(bind: &str, port: &InboundPort<'_>, security: Option<&EffectiveModes>, mesh: &MeshConfig) -> Listener {
    let address =
        Bind::parse(bind).map_or_else(|| message::socket_address(bind, port.port), |it| it.address(port.port));
    let chains = port_chains(bind, port, security, mesh);
    let mode = mode_of(security, port.port);
    let tls = (mode != Mode::Disable || port.tls.is_some()).then(|| inspector::tls(&BTreeSet::new()));
    Listener {
        name: name::Listener { bind, port: port.port }.to_string(),
        address: Some(address),
        listener_filters: tls.into_iter().chain(http_inspector(&chains)).collect(),
        filter_chains: chains,
        ..frame(mesh)
    }
}

fn mode_of(security: Option<&EffectiveModes>, port: u16) -> Mode {
    security.map_or(Mode::Disable, |it| it.of_port(port))
}

fn frame(mesh: &MeshConfig) -> Listener {
    Listener {
        traffic_direction: TrafficDirection::Inbound.into(),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: message::duration(mesh.protocol_detection_timeout),
        max_connections_to_accept_per_socket_event: ONE_CONNECTION_PER_EVENT,
        access_log: access_log::of_listener(mesh),
        ..Default::default()
    }
}

/// Not for the ports where nothing is sniffed: servers that speak first would never be heard there.
fn http_inspector(chains: &[FilterChain]) -> Option<ListenerFilter> {
    let port = |it: &FilterChainMatch| it.destination_port.as_ref().map_or(0, |port| port.value);
    let matches = || chains.iter().filter_map(|it| it.filter_chain_match.as_ref());
    let sniffs = |it: &&FilterChainMatch| it.transport_protocol == RAW_BUFFER && !it.application_protocols.is_empty();
    let sniffed: BTreeSet<u32> = matches().filter(sniffs).map(port).collect();
    let others = matches().map(port).filter(|it| *it != 0 && !sniffed.contains(it));
    let others = others.filter_map(|it| u16::try_from(it).ok());
    (!sniffed.is_empty()).then(|| inspector::http(&others.collect()))
}

/// For ports that no service declares: all of them, or one that a policy names.
fn catch_all(port: Option<u16>, mode: Mode, mesh: &MeshConfig) -> Vec<FilterChain> {
    let filters = passthrough(mesh);
    let name = |row: &Row| match row.content {
        Content::Http => name::VIRTUAL_INBOUND_CATCH_ALL_HTTP,
        Content::Bytes => name::VIRTUAL_INBOUND,
    };
    rows(mode, Protocol::Auto).iter().map(|row| chain(name(row), port, row, &filters, mesh)).collect()
}

fn passthrough(mesh: &MeshConfig) -> Filters {
    let cluster = name::INBOUND_PASSTHROUGH_CLUSTER;
    let manager = http::Manager {
        stat_prefix: name::StatName(cluster).to_string(),
        routes: http::Routes::Inline(Box::new(passthrough_routes(mesh))),
        role: http::Role::Inbound,
        protocol: Protocol::Auto,
        mesh,
        upstream_alpn: None,
        resolved: vec![],
    };
    let bytes = tcp::plain(cluster, cluster, access_log::file(mesh));
    Filters { http: http::filter(&manager), bytes, own_tls: None }
}

fn passthrough_routes(mesh: &MeshConfig) -> RouteConfiguration {
    let cluster = name::INBOUND_PASSTHROUGH_CLUSTER.to_owned();
    let mut table = route::inbound(0, None, Protocol::Auto, mesh);
    for route in table.virtual_hosts.iter_mut().flat_map(|it| &mut it.routes) {
        if let Some(Action::Route(action)) = &mut route.action {
            action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster.clone()));
        }
    }
    RouteConfiguration { name: cluster, ..table }
}

fn port_chains(
    bind: &str,
    port: &InboundPort<'_>,
    security: Option<&EffectiveModes>,
    mesh: &MeshConfig,
) -> Vec<FilterChain> {
    let chain_name = name::Listener { bind, port: port.port }.to_string();
    let mode = mode_of(security, port.port);
    let certificates = if security.is_some() { Certificates::Workload } else { Certificates::None };
    let alpn = if port.protocol.is_http() { tls::ALPN_OF_HTTP_SERVERS } else { &[] };
    let own = port.tls.filter(|_| mode == Mode::Disable);
    let own_tls = own.and_then(|written| Termination { written, certificates, alpn }.socket());
    let rows = match &own_tls {
        Some(_) => vec![Row::own_tls(port.protocol)],
        None => rows(mode, port.protocol),
    };
    let filters = Filters { http: http_filter(&chain_name, port, mesh), bytes: tcp_filter(port, mesh), own_tls };
    rows.iter().map(|row| chain(&chain_name, Some(port.port), row, &filters, mesh)).collect()
}

fn http_filter(chain_name: &str, port: &InboundPort<'_>, mesh: &MeshConfig) -> Filter {
    http::filter(&http::Manager {
        stat_prefix: name::StatName(&format!("inbound_{chain_name}")).to_string(),
        routes: http::Routes::Inline(Box::new(route::inbound(port.port, port.service, port.protocol, mesh))),
        role: http::Role::Inbound,
        protocol: port.protocol,
        mesh,
        upstream_alpn: None,
        resolved: vec![],
    })
}

fn tcp_filter(port: &InboundPort<'_>, mesh: &MeshConfig) -> Filter {
    let stat_prefix = match (mesh.inbound_cluster_stat_name.as_str(), port.service) {
        ("", _) | (_, None) => port.cluster.clone(),
        (pattern, Some((service, service_port))) => {
            let (port, target_port) = (Some(service_port), Some(port.port));
            name::StatPattern { pattern, service, port, subset: None, target_port }.to_string()
        }
    };
    tcp::plain(&stat_prefix, &port.cluster, access_log::file(mesh))
}

/// What a chain does with the connections that it takes.
struct Filters {
    http: Filter,
    bytes: Filter,
    own_tls: Option<TransportSocket>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Http,
    Bytes,
}

/// One filter chain of a port (`istio.md` 2.6).
struct Row {
    transport: Transport,
    /// Empty: any, or none.
    alpn: &'static [&'static str],
    content: Content,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    /// TLS that ends here: the mesh's.
    Mutual,
    /// TLS that ends here, with certificates of the user's own.
    Own,
    /// TLS that ends at the workload.
    Foreign,
}

impl Row {
    fn own_tls(protocol: Protocol) -> Self {
        let content = if protocol.is_http() { Content::Http } else { Content::Bytes };
        Self { transport: Transport::Own, alpn: &[], content }
    }

    const TLS_PASSTHROUGH: Self = Self { transport: Transport::Foreign, alpn: &[], content: Content::Bytes };
}

/// Istio's table, by what the port accepts and what is known of its protocol. Where other TLS is accepted besides the
/// mesh's, ALPN tells one from the other: clients of the mesh always name one of `istio…`, and nobody else does.
fn rows(mode: Mode, protocol: Protocol) -> Vec<Row> {
    use Content::{Bytes, Http};
    use Transport::{Mutual, Plain};
    let row = |transport, alpn, content| Row { transport, alpn, content };
    let content = if protocol.is_http() { Http } else { Bytes };
    match (mode, protocol) {
        (_, Protocol::Udp) => vec![],
        (Mode::Disable, Protocol::Auto) => vec![row(Plain, &PLAIN_HTTP, Http), row(Plain, &[], Bytes)],
        (Mode::Disable, _) => vec![row(Plain, &[], content)],
        (Mode::Strict, Protocol::Auto) => vec![row(Mutual, &tls::ALPN_HTTP, Http), row(Mutual, &[], Bytes)],
        (Mode::Strict, _) => vec![row(Mutual, &[], content)],
        (Mode::Permissive, Protocol::Auto) => vec![
            row(Mutual, &tls::ALPN_HTTP, Http),
            row(Plain, &PLAIN_HTTP, Http),
            row(Mutual, &tls::ALPN_TCP, Bytes),
            row(Plain, &[], Bytes),
            Row::TLS_PASSTHROUGH,
        ],
        (Mode::Permissive, it) if it.is_http() => vec![row(Mutual, &ALPN_MESH, Http), row(Plain, &[], Http)],
        (Mode::Permissive, _) => vec![row(Mutual, &ALPN_MESH, Bytes), Row::TLS_PASSTHROUGH, row(Plain, &[], Bytes)],
    }
}

/// All that clients of the mesh say.
const ALPN_MESH: [&str; 5] =
    [tls::ALPN_TCP[0], tls::ALPN_TCP[1], tls::ALPN_HTTP[0], tls::ALPN_HTTP[1], tls::ALPN_HTTP[2]];

fn chain(chain_name: &str, port: Option<u16>, row: &Row, filters: &Filters, mesh: &MeshConfig) -> FilterChain {
    let transport_socket = match row.transport {
        Transport::Mutual => Some(tls::downstream(mesh)),
        Transport::Own => filters.own_tls.clone(),
        Transport::Plain | Transport::Foreign => None,
    };
    let ends_here = transport_socket.is_some();
    FilterChain {
        name: chain_name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: port.and_then(|it| message::uint32(it.into())),
            transport_protocol: match row.transport {
                Transport::Plain => RAW_BUFFER.into(),
                Transport::Mutual | Transport::Own | Transport::Foreign => TLS.into(),
            },
            application_protocols: row.alpn.iter().map(|it| (*it).to_owned()).collect(),
            ..Default::default()
        }),
        filters: vec![match row.content {
            Content::Http => filters.http.clone(),
            Content::Bytes => filters.bytes.clone(),
        }],
        transport_socket,
        transport_socket_connect_timeout: if ends_here { message::duration(HANDSHAKE_TIMEOUT) } else { None },
        ..Default::default()
    }
}

/// What Envoy calls a connection of which the inspector saw that it is TLS.
const TLS: &str = "tls";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::outbound::tests::service;
    use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;

    fn port(number: u16, protocol: Protocol) -> InboundPort<'static> {
        let cluster = name::InboundCluster(number).to_string();
        InboundPort { port: number, protocol, service: None, cluster, tls: None }
    }

    fn virtual_of(ports: Vec<InboundPort<'_>>, mesh: &MeshConfig) -> Listener {
        virtual_inbound(&InboundInput { ports, interception: InterceptionMode::Redirect, security: None, mesh })
    }

    /// Name, destination port, number of application protocols, kind of filter.
    fn rows(listener: &Listener) -> Vec<(&str, u32, usize, &str)> {
        let row = |chain: &'_ FilterChain| {
            let matched = chain.filter_chain_match.clone().unwrap();
            let kind = if chain.filters[0].name.ends_with("tcp_proxy") { "tcp" } else { "http" };
            let port = matched.destination_port.map_or(0, |it| it.value);
            (port, matched.application_protocols.len(), kind)
        };
        listener.filter_chains.iter().map(|it| (it.name.as_str(), row(it).0, row(it).1, row(it).2)).collect()
    }

    #[test]
    fn each_port_has_the_chains_of_its_protocol() {
        let protocols = [Protocol::Auto, Protocol::Http, Protocol::Grpc, Protocol::Tcp, Protocol::Https, Protocol::Udp];
        let ports = protocols.iter().zip(1..).map(|(protocol, number)| port(number, *protocol)).collect();
        let listener = virtual_of(ports, &MeshConfig::default());
        assert_eq!(listener.name, "virtualInbound");
        assert_eq!(
            rows(&listener),
            [
                ("virtualInbound-blackhole", 15006, 0, "tcp"),
                ("virtualInbound-catchall-http", 0, 2, "http"),
                ("virtualInbound", 0, 0, "tcp"),
                ("0.0.0.0_1", 1, 2, "http"),
                ("0.0.0.0_1", 1, 0, "tcp"),
                ("0.0.0.0_2", 2, 0, "http"),
                ("0.0.0.0_3", 3, 0, "http"),
                ("0.0.0.0_4", 4, 0, "tcp"),
                ("0.0.0.0_5", 5, 0, "tcp"),
            ]
        );
    }

    #[test]
    fn only_ports_that_are_sniffed_meet_the_http_inspector() {
        let listener = virtual_of(vec![port(1, Protocol::Auto), port(2, Protocol::Tcp)], &MeshConfig::default());
        let names: Vec<_> = listener.listener_filters.iter().map(|it| it.name.rsplit('.').next().unwrap()).collect();
        assert_eq!(names, ["original_dst", "http_inspector"]);
        let Some(Rule::OrMatch(set)) = listener.listener_filters[1].filter_disabled.clone().unwrap().rule else {
            panic!("no set")
        };
        let start = |rule: Option<Rule>| match rule {
            Some(Rule::DestinationPortRange(range)) => range.start,
            other => panic!("{other:?}"),
        };
        assert_eq!(set.rules.into_iter().map(|it| start(it.rule)).collect::<Vec<_>>(), [2, 15006]);
    }

    #[test]
    fn undeclared_ports_reach_the_workload_as_they_are() {
        let listener = virtual_of(vec![], &MeshConfig::default());
        let manager = http::tests::manager(&listener.filter_chains[1].filters[0]);
        assert_eq!(manager.stat_prefix, "InboundPassthroughCluster;");
        let Some(RouteSpecifier::RouteConfig(table)) = manager.route_specifier else { panic!("not inline") };
        assert_eq!(
            (table.name.as_str(), table.virtual_hosts[0].name.as_str()),
            ("InboundPassthroughCluster", "inbound|http|0")
        );
        let Some(Action::Route(action)) = &table.virtual_hosts[0].routes[0].action else { panic!("no route") };
        assert_eq!(action.cluster_specifier, Some(ClusterSpecifier::Cluster("InboundPassthroughCluster".into())));
    }

    #[test]
    fn a_port_is_named_once_and_never_the_proxys_own() {
        let ports = vec![port(80, Protocol::Http), port(80, Protocol::Tcp), port(15006, Protocol::Http)];
        assert_eq!(rows(&virtual_of(ports, &MeshConfig::default()))[3..], [("0.0.0.0_80", 80, 0, "http")]);
    }

    #[test]
    fn a_bound_listener_has_its_address_and_no_original_destination() {
        let db = service("db", "10.0.0.1", &[(3306, Protocol::Tcp)]);
        let bound = InboundPort { service: Some((&db, &db.ports[0])), ..port(3307, Protocol::Tcp) };
        let mesh = MeshConfig { inbound_cluster_stat_name: "%SERVICE%_%TARGET_PORT%".into(), ..Default::default() };
        let listener = inbound("127.1.2.3", &bound, None, &mesh);
        assert_eq!((listener.name.as_str(), listener.listener_filters.len()), ("127.1.2.3_3307", 0));
        assert_eq!(rows(&listener), [("127.1.2.3_3307", 3307, 0, "tcp")]);
        assert_eq!(tcp::tests::proxy(&listener.filter_chains[0].filters[0]).stat_prefix, "db.n_3307");
        let http = inbound("127.1.2.3", &port(9080, Protocol::Http), None, &mesh);
        let manager = http::tests::manager(&http.filter_chains[0].filters[0]);
        assert_eq!(manager.stat_prefix, "inbound_127.1.2.3_9080;");
    }

    fn secured(ports: Vec<InboundPort<'_>>, modes: &EffectiveModes) -> Listener {
        let mesh = MeshConfig::default();
        virtual_inbound(&InboundInput {
            ports,
            interception: InterceptionMode::Redirect,
            security: Some(modes),
            mesh: &mesh,
        })
    }

    /// Port, transport, first application protocol, whether TLS ends here, kind of filter.
    fn secured_rows(listener: &Listener) -> Vec<(u32, String, String, bool, &'static str)> {
        let row = |chain: &FilterChain| {
            let matched = chain.filter_chain_match.clone().unwrap();
            let kind = if chain.filters[0].name.ends_with("tcp_proxy") { "tcp" } else { "http" };
            let alpn = matched.application_protocols.first().cloned().unwrap_or_default();
            let port = matched.destination_port.map_or(0, |it| it.value);
            (port, matched.transport_protocol, alpn, chain.transport_socket.is_some(), kind)
        };
        listener.filter_chains.iter().skip(1).map(row).collect()
    }

    #[test]
    fn s37_strict_has_no_chain_for_plain_text_on_any_port() {
        let ports = [Protocol::Auto, Protocol::Http, Protocol::Grpc, Protocol::Tcp, Protocol::Https, Protocol::Mysql];
        let ports = ports.iter().zip(1..).map(|(protocol, number)| port(number, *protocol)).collect();
        let modes = EffectiveModes { mode: Mode::Strict, ports: [(99, Mode::Strict)].into() };
        let listener = secured(ports, &modes);
        let rows = secured_rows(&listener);
        assert!(rows.iter().all(|(_, transport, _, mutual, _)| transport == "tls" && *mutual), "{rows:#?}");
        let ports: BTreeSet<u32> = rows.iter().map(|it| it.0).collect();
        assert_eq!(ports, [0, 1, 2, 3, 4, 5, 6, 99].into());
        // Nothing to be sniffed, and TLS is looked for everywhere.
        assert_eq!(listener.listener_filters.len(), 2);
        assert!(listener.default_filter_chain.is_none());
    }

    #[test]
    fn s38_permissive_knows_the_mesh_by_alpn_and_passes_other_tls_through() {
        let listener = secured(vec![port(1, Protocol::Tcp), port(2, Protocol::Http)], &EffectiveModes::default());
        let row = |port, transport: &str, alpn: &str, mutual, kind| {
            (port, transport.to_owned(), alpn.to_owned(), mutual, kind)
        };
        assert_eq!(
            secured_rows(&listener),
            [
                row(0, "tls", "istio-http/1.0", true, "http"),
                row(0, "raw_buffer", "http/1.1", false, "http"),
                row(0, "tls", "istio-peer-exchange", true, "tcp"),
                row(0, "raw_buffer", "", false, "tcp"),
                row(0, "tls", "", false, "tcp"),
                row(1, "tls", "istio-peer-exchange", true, "tcp"),
                row(1, "tls", "", false, "tcp"),
                row(1, "raw_buffer", "", false, "tcp"),
                row(2, "tls", "istio-peer-exchange", true, "http"),
                row(2, "raw_buffer", "", false, "http"),
            ]
        );
    }

    #[test]
    fn what_no_policy_secures_is_as_without_certificates() {
        let ports = || vec![port(1, Protocol::Auto), port(2, Protocol::Mysql)];
        let off = EffectiveModes { mode: Mode::Disable, ports: Default::default() };
        assert_eq!(secured(ports(), &off), virtual_of(ports(), &MeshConfig::default()));
        // One port that is secured makes the inspector look at all but those known not to be.
        let one = EffectiveModes { mode: Mode::Disable, ports: [(1, Mode::Strict)].into() };
        let rows = secured_rows(&secured(ports(), &one));
        assert!(rows.contains(&(0, "tls".into(), String::new(), false, "tcp")), "{rows:#?}");
    }
}
