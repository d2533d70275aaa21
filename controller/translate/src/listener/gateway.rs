//! A router's listeners, one for each address and port of its Gateways' servers: HTTP, HTTPS, TLS that ends here or is
//! only routed by SNI, and TCP.

use super::chain::{self, Chain, Content, Origin};
use super::{Bind, ONE_CONNECTION_PER_EVENT, access_log, http, inspector, sni, tcp};
use crate::route::Client;
use crate::tls::{self, Termination};
use crate::{Translated, name};
use crds::mesh_config::MeshConfig;
use crds::networking::{RouteDestination, ServerTlsMode};
use crds::{Problem, Reason};
use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use model::{Certificates, Destinations, GatewayServer, Protocol, RouteRules, TlsServer, port};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
pub struct GatewayListenerInput<'a> {
    /// Address and port that the proxy listens on: the key in [`model::MergedGateway`].
    pub bind: &'a str,
    pub port: u16,
    pub server: &'a GatewayServer,
    /// VirtualServices by the gateway (`namespace/name`) that they are bound to, oldest first.
    pub rules: &'a [(&'a str, &'a RouteRules)],
    pub destinations: &'a Destinations<'a>,
    pub mesh: &'a MeshConfig,
    pub client: &'a Client<'a>,
    pub certificates: Certificates,
}

/// The listener of a gateway's port. `None`: none of its servers leads anywhere, or the proxy itself has the port.
pub fn listener(input: &GatewayListenerInput<'_>) -> Translated<Option<Listener>> {
    let (mut chains, mut problems) = (vec![], vec![]);
    let address = name::Listener { bind: input.bind, port: input.port }.to_string();
    if let Err(reason) = check(input, &address) {
        let servers = input.server.tls.iter().map(|it| &it.gateway);
        let mut objects: Vec<_> = input.server.http.iter().map(|it| &it.gateway).chain(servers).collect();
        objects.dedup();
        let problems = objects.into_iter().map(|it| Problem::new(it, "spec.servers", reason.clone())).collect();
        return Translated { resource: None, problems };
    }
    for server in &input.server.tls {
        for incoming in server_chains(input, server, &address, &mut problems) {
            chain::add(&mut chains, incoming, &address, &mut problems);
        }
    }
    if let Some(incoming) = http_chain(input, &address) {
        chain::add(&mut chains, incoming, &address, &mut problems);
    }
    // Each match of a route says again what is wrong with its destinations.
    problems.sort();
    problems.dedup();
    let resource = (!chains.is_empty()).then(|| finish(input, address, chains));
    Translated { resource, problems }
}

fn check(input: &GatewayListenerInput<'_>, address: &str) -> Result<(), Reason> {
    if port::RESERVED.contains(&input.port) {
        return Err(Reason::PortConflict { address: address.to_owned(), with: "the proxy itself".to_owned() });
    }
    match Bind::parse(input.bind) {
        Some(_) => Ok(()),
        None => Err(Reason::Invalid(format!("{:?} is no address to bind to", input.bind))),
    }
}

/// All plain-text HTTP servers of the port share a chain. The route table has the port that the proxy listens on.
fn http_chain<'a>(input: &GatewayListenerInput<'a>, address: &str) -> Option<Chain<'a>> {
    let first = input.server.http.first()?;
    let routes = name::GatewayHttpRoute { port: input.port, bind: &input.server.bind }.to_string();
    let filter = http_filter(input, address, routes, input.server.protocol);
    let origin = Origin { object: &first.gateway, field: "spec.servers".into(), name: first.gateway.to_string() };
    Some(plain_chain(vec![], filter, origin))
}

fn http_filter(input: &GatewayListenerInput<'_>, address: &str, routes: String, protocol: Protocol) -> Filter {
    http::filter(&http::Manager {
        stat_prefix: name::StatName(&format!("outbound_{address}")).to_string(),
        routes: http::Routes::Discovered(routes),
        role: http::Role::Gateway,
        protocol,
        mesh: input.mesh,
        // The gateway does not tell HTTP from other traffic of a port that is sniffed: requests say what they are.
        upstream_alpn: (input.certificates == Certificates::Workload).then_some(tls::ALPN_OF_REQUESTS),
        resolved: vec![],
    })
}

fn server_chains<'a>(
    input: &GatewayListenerInput<'a>,
    server: &'a TlsServer,
    address: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Chain<'a>> {
    let field = |name: &str| format!("spec.servers[{}].tls.{name}", server.index);
    match &server.tls {
        None => tcp_chain(input, server, problems).into_iter().collect(),
        Some(tls) if tls.mode == ServerTlsMode::Passthrough => passthrough_chains(input, server, problems),
        // Nobody serves them yet, as validation says: Envoy would keep the whole listener back while it waits.
        Some(tls) if tls.needs_credentials() => vec![],
        Some(tls) if tls.mode == ServerTlsMode::AutoPassthrough => {
            problems.push(Problem::new(&server.gateway, field("mode"), Reason::NotTranslated));
            vec![]
        }
        Some(written) => {
            let is_http = server.protocol == Protocol::Https;
            let alpn = if is_http { tls::ALPN_OF_HTTP_SERVERS } else { &[] };
            let Some(socket) = (Termination { written, certificates: input.certificates, alpn }).socket() else {
                let why = "the gateway has no certificate of the mesh, so the server has no listener".to_owned();
                problems.push(Problem::new(&server.gateway, field("mode"), Reason::Ineffective(why)));
                return vec![];
            };
            let chain = match is_http {
                true => Some(https_chain(input, server, address)),
                false => tcp_chain(input, server, problems),
            };
            let Some(chain) = chain else { return vec![] };
            terminated(chain, socket, server, problems).into_iter().collect()
        }
    }
}

fn https_chain<'a>(input: &GatewayListenerInput<'a>, server: &'a TlsServer, address: &str) -> Chain<'a> {
    let routes = https_route(server, &input.server.bind);
    let origin = Origin {
        object: &server.gateway,
        field: format!("spec.servers[{}]", server.index),
        name: server.gateway.to_string(),
    };
    // HTTP/1.1 or HTTP/2, as client and server agree.
    plain_chain(vec![], http_filter(input, address, routes, Protocol::Http), origin)
}

/// The name of the route table of a server that terminates HTTPS.
pub fn https_route(server: &TlsServer, bind: &str) -> String {
    let TlsServer { port, port_name, gateway, .. } = server;
    name::GatewayHttpsRoute { port: *port, port_name, gateway, bind }.to_string()
}

/// The chain for those who ask for one of the server's hosts.
fn terminated<'a>(
    chain: Chain<'a>,
    socket: TransportSocket,
    server: &TlsServer,
    problems: &mut Vec<Problem>,
) -> Option<Chain<'a>> {
    let hosts: Vec<String> = server.hosts.iter().map(|it| it.host.to_string()).collect();
    let (names, wrong) = sni::server_names(&hosts);
    let note = |(at, why)| Problem::new(&server.gateway, format!("spec.servers[{}].hosts[{at}]", server.index), why);
    problems.extend(wrong.into_iter().map(note));
    let server_names = match names {
        Some(names) if names.is_empty() => return None,
        names => names.unwrap_or_default(),
    };
    Some(Chain { server_names, transport_socket: Some(socket), ..chain })
}

/// The VirtualServices that a server's Gateway and hosts let in.
fn bound<'a>(input: &GatewayListenerInput<'a>, server: &TlsServer) -> Vec<&'a RouteRules> {
    let gateway = gateway_name(server);
    let admits = |rules: &RouteRules| {
        rules.hosts.iter().any(|host| server.hosts.iter().any(|it| it.admits(&rules.namespace, host)))
    };
    input.rules.iter().filter(|(name, rules)| *name == gateway && admits(rules)).map(|(_, rules)| *rules).collect()
}

fn gateway_name(server: &TlsServer) -> String {
    format!("{}/{}", server.gateway.namespace, server.gateway.name)
}

/// Only the port, as clients know it, and the gateway are compared: callers from outside have no labels.
fn applies(server: &TlsServer, rules: &RouteRules, port: Option<u32>, gateways: &[String]) -> bool {
    let own = gateway_name(server);
    port.is_none_or(|it| it == 0 || it == u32::from(server.port))
        && (gateways.is_empty() || gateways.iter().any(|it| RouteRules::gateway(it, &rules.namespace) == own))
}

/// The first TCP route that applies; without any the server has no chain.
fn tcp_chain<'a>(
    input: &GatewayListenerInput<'a>,
    server: &'a TlsServer,
    problems: &mut Vec<Problem>,
) -> Option<Chain<'a>> {
    for rules in bound(input, server) {
        for (at, route) in rules.tcp.iter().enumerate() {
            let fits = route.r#match.iter().any(|it| applies(server, rules, it.port, &it.gateways));
            if route.r#match.is_empty() || fits {
                let origin = rule_origin(rules, format!("spec.tcp[{at}]"));
                let made = rule_chain(input, server, rules, &route.route, vec![], origin, problems);
                if made.is_some() {
                    return made;
                }
            }
        }
    }
    None
}

/// A chain for each SNI match.
fn passthrough_chains<'a>(
    input: &GatewayListenerInput<'a>,
    server: &'a TlsServer,
    problems: &mut Vec<Problem>,
) -> Vec<Chain<'a>> {
    let mut chains = vec![];
    for rules in bound(input, server) {
        for (at, route) in rules.tls.iter().enumerate() {
            for (index, matched) in route.r#match.iter().enumerate() {
                if !applies(server, rules, matched.port, &matched.gateways) {
                    continue;
                }
                let field = format!("spec.tls[{at}].match[{index}]");
                let (names, wrong) = sni::server_names(&matched.sni_hosts);
                let note = |(at, why)| Problem::new(&rules.object, format!("{field}.sniHosts[{at}]"), why);
                problems.extend(wrong.into_iter().map(note));
                if names.as_ref().is_some_and(Vec::is_empty) {
                    continue;
                }
                let names = names.unwrap_or_default();
                let origin = rule_origin(rules, field);
                chains.extend(rule_chain(input, server, rules, &route.route, names, origin, problems));
            }
        }
    }
    chains
}

fn rule_chain<'a>(
    input: &GatewayListenerInput<'a>,
    server: &TlsServer,
    rules: &'a RouteRules,
    routes: &[RouteDestination],
    server_names: Vec<String>,
    origin: Origin<'a>,
    problems: &mut Vec<Problem>,
) -> Option<Chain<'a>> {
    let context = tcp::Context { rules, destinations: input.destinations, port: server.port, mesh: input.mesh };
    let field = origin.field.split(".match").next().unwrap_or_default().to_owned();
    let filter = context.filter(routes, &field, problems)?;
    Some(plain_chain(server_names, filter, origin))
}

fn rule_origin(rules: &RouteRules, field: String) -> Origin<'_> {
    Origin { object: &rules.object, field, name: rules.object.to_string() }
}

fn plain_chain(server_names: Vec<String>, filter: Filter, origin: Origin<'_>) -> Chain<'_> {
    Chain {
        server_names,
        cidrs: vec![],
        content: Content::Any,
        filters: vec![filter],
        transport_socket: None,
        metadata: None,
        origin,
    }
}

fn finish(input: &GatewayListenerInput<'_>, listener_name: String, chains: Vec<Chain<'_>>) -> Listener {
    let has_sni = chains.iter().any(|it| !it.server_names.is_empty());
    let filter_chains: Vec<FilterChain> = chains.into_iter().map(Chain::filter_chain).collect();
    Listener {
        name: listener_name,
        address: Bind::parse(input.bind).map(|it| it.address(input.port)),
        traffic_direction: TrafficDirection::Outbound.into(),
        // No timeout of its own: Envoy's 15 seconds end handshakes that never come.
        listener_filters: has_sni.then(|| inspector::tls(&BTreeSet::new())).into_iter().collect(),
        filter_chains,
        max_connections_to_accept_per_socket_event: ONE_CONNECTION_PER_EVENT,
        access_log: access_log::of_listener(input.mesh),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
