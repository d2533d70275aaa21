//! A sidecar's listeners for connections to its own workload (`istio.md` 2.6, rows DISABLE): plain text, since there
//! are no certificates yet. TLS that reaches a port goes through untouched.

use super::chain::{PLAIN_HTTP, RAW_BUFFER};
use super::{Bind, ONE_CONNECTION_PER_EVENT, access_log, black_hole, http, inspector, tcp, transparent};
use crate::{message, name, route};
use crds::mesh_config::{InterceptionMode, MeshConfig};
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter};
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, route::Action, route_action::ClusterSpecifier};
use model::{Protocol, Service, ServicePort};
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
}

#[derive(Clone, Debug)]
pub struct InboundInput<'a> {
    /// Of ports that occur twice the first counts.
    pub ports: Vec<InboundPort<'a>>,
    pub interception: InterceptionMode,
    pub mesh: &'a MeshConfig,
}

/// Where iptables send what comes to the workload: a chain set for each port that a service declares, and one for all
/// other ports.
pub fn virtual_inbound(input: &InboundInput<'_>) -> Listener {
    let mesh = input.mesh;
    let own_port = mesh.proxy_inbound_listen_port;
    let mut chains = vec![black_hole(name::VIRTUAL_INBOUND_BLACK_HOLE, own_port)];
    chains.extend(catch_all(mesh));
    let mut seen = BTreeSet::from([own_port]);
    for port in &input.ports {
        if seen.insert(port.port) {
            chains.extend(port_chains(&Bind::ANY.to_string(), port, mesh));
        }
    }
    let mut listener_filters = inspector::original(input.interception);
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
pub fn inbound(bind: &str, port: &InboundPort<'_>, mesh: &MeshConfig) -> Listener {
    let address =
        Bind::parse(bind).map_or_else(|| message::socket_address(bind, port.port), |it| it.address(port.port));
    let chains = port_chains(bind, port, mesh);
    Listener {
        name: name::Listener { bind, port: port.port }.to_string(),
        address: Some(address),
        listener_filters: http_inspector(&chains).into_iter().collect(),
        filter_chains: chains,
        ..frame(mesh)
    }
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
    let sniffed: BTreeSet<u32> = matches().filter(|it| !it.application_protocols.is_empty()).map(port).collect();
    let others = matches().map(port).filter(|it| !sniffed.contains(it)).filter_map(|it| u16::try_from(it).ok());
    (!sniffed.is_empty()).then(|| inspector::http(&others.collect()))
}

/// For ports that no service declares.
fn catch_all(mesh: &MeshConfig) -> [FilterChain; 2] {
    let cluster = name::INBOUND_PASSTHROUGH_CLUSTER;
    let manager = http::Manager {
        stat_prefix: name::StatName(cluster).to_string(),
        routes: http::Routes::Inline(Box::new(passthrough_routes(mesh))),
        role: http::Role::Inbound,
        protocol: Protocol::Auto,
        mesh,
    };
    let bytes = tcp::plain(cluster, cluster, access_log::file(mesh));
    [
        chain(name::VIRTUAL_INBOUND_CATCH_ALL_HTTP, Sniff::Http, None, http::filter(&manager)),
        chain(name::VIRTUAL_INBOUND, Sniff::Nothing, None, bytes),
    ]
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

fn port_chains(bind: &str, port: &InboundPort<'_>, mesh: &MeshConfig) -> Vec<FilterChain> {
    let chain_name = name::Listener { bind, port: port.port }.to_string();
    let made = |sniff, filter| chain(&chain_name, sniff, Some(port.port), filter);
    let http = || http_filter(&chain_name, port, mesh);
    match port.protocol {
        Protocol::Udp => vec![],
        Protocol::Auto => vec![made(Sniff::Http, http()), made(Sniff::Nothing, tcp_filter(port, mesh))],
        it if it.is_http() => vec![made(Sniff::Nothing, http())],
        _ => vec![made(Sniff::Nothing, tcp_filter(port, mesh))],
    }
}

fn http_filter(chain_name: &str, port: &InboundPort<'_>, mesh: &MeshConfig) -> Filter {
    http::filter(&http::Manager {
        stat_prefix: name::StatName(&format!("inbound_{chain_name}")).to_string(),
        routes: http::Routes::Inline(Box::new(route::inbound(port.port, port.service, port.protocol, mesh))),
        role: http::Role::Inbound,
        protocol: port.protocol,
        mesh,
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sniff {
    Http,
    Nothing,
}

fn chain(chain_name: &str, sniff: Sniff, port: Option<u16>, filter: Filter) -> FilterChain {
    FilterChain {
        name: chain_name.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: port.and_then(|it| message::uint32(it.into())),
            transport_protocol: RAW_BUFFER.into(),
            application_protocols: match sniff {
                Sniff::Http => PLAIN_HTTP.map(String::from).to_vec(),
                Sniff::Nothing => vec![],
            },
            ..Default::default()
        }),
        filters: vec![filter],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::outbound::tests::service;
    use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;

    fn port(number: u16, protocol: Protocol) -> InboundPort<'static> {
        InboundPort { port: number, protocol, service: None, cluster: name::InboundCluster(number).to_string() }
    }

    fn virtual_of(ports: Vec<InboundPort<'_>>, mesh: &MeshConfig) -> Listener {
        virtual_inbound(&InboundInput { ports, interception: InterceptionMode::Redirect, mesh })
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
        let listener = inbound("127.1.2.3", &bound, &mesh);
        assert_eq!((listener.name.as_str(), listener.listener_filters.len()), ("127.1.2.3_3307", 0));
        assert_eq!(rows(&listener), [("127.1.2.3_3307", 3307, 0, "tcp")]);
        assert_eq!(tcp::tests::proxy(&listener.filter_chains[0].filters[0]).stat_prefix, "db.n_3307");
        let http = inbound("127.1.2.3", &port(9080, Protocol::Http), &mesh);
        let manager = http::tests::manager(&http.filter_chains[0].filters[0]);
        assert_eq!(manager.stat_prefix, "inbound_127.1.2.3_9080;");
    }
}
