//! Value tables, one per semantic trap, named after the trap.

mod action_traps;
mod listener_traps;
mod matcher_traps;
mod route_traps;

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    Address, SocketAddress, TransportSocket, address, socket_address, transport_socket,
};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, header_matcher, route,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use envoy_types::pb::google::protobuf::{Any, BoolValue, UInt32Value};
use prost::Name;

use super::{Call, Config, Decision, Outcome, decide};

fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

fn no() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.into(), ..RegexMatcher::default() }
}

fn rewrite(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution: substitution.into() }
}

fn address(at: &str) -> Option<Address> {
    let (ip, port) = at.rsplit_once(':').unwrap();
    let port = socket_address::PortSpecifier::PortValue(port.parse().unwrap());
    let ip = ip.trim_matches(['[', ']']).to_owned();
    let socket = SocketAddress { address: ip, port_specifier: Some(port), ..SocketAddress::default() };
    Some(Address { address: Some(address::Address::SocketAddress(socket)) })
}

/// A listener named after its address, with both inspectors.
fn listener(at: &str, filter_chains: Vec<FilterChain>) -> Listener {
    let inspector = |name: &str, config: Any| ListenerFilter {
        name: name.into(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    };
    let listener_filters = vec![
        inspector("tls_inspector", any(&TlsInspector::default())),
        inspector("http_inspector", any(&HttpInspector {})),
    ];
    Listener { name: at.into(), address: address(at), filter_chains, listener_filters, ..Listener::default() }
}

/// A chain that proxies TCP to the cluster of its own name: which chain was chosen is which cluster is reached.
fn chain(name: &str, matches: FilterChainMatch) -> FilterChain {
    let proxy =
        TcpProxy { cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(name.into())), ..TcpProxy::default() };
    FilterChain {
        name: name.into(),
        filter_chain_match: Some(matches),
        filters: vec![network_filter(&proxy)],
        ..FilterChain::default()
    }
}

fn network_filter<M: Name>(config: &M) -> Filter {
    Filter { name: M::NAME.into(), config_type: Some(filter::ConfigType::TypedConfig(any(config))) }
}

fn http_filter<M: Name>(config: &M) -> HttpFilter {
    let config_type = Some(http_filter::ConfigType::TypedConfig(any(config)));
    HttpFilter { name: M::NAME.into(), config_type, ..HttpFilter::default() }
}

fn http_chain(manager: &HttpConnectionManager) -> FilterChain {
    FilterChain { name: "http".into(), filters: vec![network_filter(manager)], ..FilterChain::default() }
}

fn terminates_tls(chain: FilterChain, context: &DownstreamTlsContext) -> FilterChain {
    let config_type = Some(transport_socket::ConfigType::TypedConfig(any(context)));
    FilterChain { transport_socket: Some(TransportSocket { name: "tls".into(), config_type }), ..chain }
}

fn manager(configuration: RouteConfiguration) -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(configuration)),
        http_filters: vec![http_filter(&Router::default())],
        ..HttpConnectionManager::default()
    }
}

fn to_cluster(name: &str) -> RouteAction {
    RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster(name.into())), ..RouteAction::default() }
}

fn matching(path: PathSpecifier) -> RouteMatch {
    RouteMatch { path_specifier: Some(path), ..RouteMatch::default() }
}

fn prefix(prefix: &str) -> RouteMatch {
    matching(PathSpecifier::Prefix(prefix.into()))
}

/// A route to the cluster of its own name.
fn route_named(name: &str, matches: RouteMatch) -> Route {
    route_with(name, matches, route::Action::Route(to_cluster(name)))
}

fn route_with(name: &str, matches: RouteMatch, action: route::Action) -> Route {
    Route { name: name.into(), r#match: Some(matches), action: Some(action), ..Route::default() }
}

fn host_named(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    VirtualHost { name: name.into(), domains, routes, ..VirtualHost::default() }
}

fn configuration(virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration { name: "rc".into(), virtual_hosts, ..RouteConfiguration::default() }
}

fn any_host(routes: Vec<Route>) -> RouteConfiguration {
    configuration(vec![host_named("any", &["*"], routes)])
}

fn header(name: &str, specifier: header_matcher::HeaderMatchSpecifier) -> HeaderMatcher {
    HeaderMatcher { name: name.into(), header_match_specifier: Some(specifier), ..HeaderMatcher::default() }
}

/// Listeners, and every cluster that a table's letters and names may ask for.
fn config(listeners: Vec<Listener>) -> Config {
    let names = ["a", "b", "c", "d", "hit", "miss", "default", "canary", "PassthroughCluster", "api.example.com"];
    let clusters: BTreeMap<_, _> =
        names.iter().map(|name| ((*name).to_owned(), Cluster { name: (*name).into(), ..Cluster::default() })).collect();
    Config { listeners, clusters, ..Config::default() }
}

fn http_config(manager: &HttpConnectionManager) -> Config {
    config(vec![listener("0.0.0.0:80", vec![http_chain(manager)])])
}

fn decide_http(configuration: RouteConfiguration, call: &Call) -> Decision {
    decide(&http_config(&manager(configuration)), call)
}

fn call(authority: &str, path: &str) -> Call {
    Call::direct("10.0.0.1:80").get(authority, path)
}

/// The cluster reached, or the outcome in words.
fn reached(decision: &Decision) -> String {
    decision.cluster().map_or_else(|| decision.outcome.to_string(), str::to_owned)
}

fn is_rejected(decision: &Decision) -> bool {
    matches!(decision.outcome, Outcome::Rejected { .. })
}

fn is_unsupported(decision: &Decision) -> bool {
    matches!(decision.outcome, Outcome::Unsupported { .. })
}
