//! The route table of a gateway's HTTP port: the hosts of its servers that VirtualServices bind
//! (`buildGatewayHTTPRouteConfig`).

use super::destination::Rules;
use super::matcher::is_catch_all;
use super::note::Notes;
use super::{Client, rule};
use crate::{Translated, name};
use crds::Problem;
use crds::mesh_config::MeshConfig;
use model::gateway::HttpServer;
use model::{Destinations, Hostname, ProxyKind, RouteRules};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use xds::envoy::route::virtual_host::TlsRequirementType;
use xds::envoy::{Route, RouteConfiguration, VirtualHost};

#[derive(Clone, Copy, Debug)]
pub struct GatewayRoutesInput<'a> {
    pub servers: &'a [HttpServer],
    /// As written in the Gateway: what clients know.
    pub port: u16,
    /// Whether the servers speak TLS.
    pub https: bool,
    /// VirtualServices by the gateway (`namespace/name`) that they are bound to, oldest first.
    pub rules: &'a [(&'a str, &'a RouteRules)],
    pub destinations: &'a Destinations<'a>,
    /// The proxy's.
    pub namespace: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// Where the proxy listens. Names and matches use the server's port, which is the one that clients know.
    pub listener_port: u16,
    pub mesh: &'a MeshConfig,
}

/// One virtual host for each set of hosts that have the same routes; a port whose hosts nobody binds answers 404.
pub fn virtual_hosts(input: &GatewayRoutesInput<'_>) -> Translated<Vec<VirtualHost>> {
    let mut table = Table::default();
    for server in input.servers {
        table.bind(input, server);
        if server.https_redirect {
            for host in &server.hosts {
                table.hosts.entry(host.host.clone()).or_default().redirects = true;
            }
        }
    }
    table.problems.sort();
    table.problems.dedup();
    let port = input.port;
    let resource = match table.hosts.is_empty() {
        true => vec![black_hole(port)],
        false => table.virtual_hosts(port),
    };
    Translated { resource, problems: table.problems }
}

/// The head of a gateway's route table: all but its virtual hosts.
pub fn route_configuration(name: &str) -> RouteConfiguration {
    RouteConfiguration { ignore_port_in_host_matching: true, ..super::head(name) }
}

fn black_hole(port: u16) -> VirtualHost {
    VirtualHost {
        name: name::VirtualHost { host: "blackhole", port }.to_string(),
        domains: vec!["*".into()],
        ..VirtualHost::default()
    }
}

#[derive(Default)]
struct Table {
    hosts: BTreeMap<Hostname, Host>,
    /// By place in the input's rules, and whether for a server that redirects to HTTPS.
    routes: BTreeMap<Part, Vec<Route>>,
    problems: Vec<Problem>,
}

type Part = (usize, bool);

#[derive(Default)]
struct Host {
    /// Whose routes it has.
    parts: Vec<Part>,
    /// `httpsRedirect`.
    redirects: bool,
}

impl Table {
    fn bind(&mut self, input: &GatewayRoutesInput<'_>, server: &HttpServer) {
        let gateway = format!("{}/{}", server.gateway.namespace, server.gateway.name);
        for (at, (_, rules)) in input.rules.iter().enumerate().filter(|(_, (name, _))| *name == gateway) {
            let hosts = shared_hosts(server, rules);
            if hosts.is_empty() {
                continue;
            }
            let part = (at, server.https_redirect);
            if !self.routes.contains_key(&part) {
                let made = routes(input, &gateway, rules, server);
                self.problems.extend(made.problems);
                self.routes.insert(part, made.resource);
            }
            if self.routes[&part].is_empty() {
                continue;
            }
            for host in hosts {
                let host = self.hosts.entry(host).or_default();
                host.redirects |= server.https_redirect;
                // Two servers of one gateway may have the same host.
                if !host.parts.iter().any(|it| it.0 == at) {
                    host.parts.push(part);
                }
            }
        }
    }

    /// Hosts of equal routes share a virtual host, which is named after the most specific of them.
    fn virtual_hosts(&self, port: u16) -> Vec<VirtualHost> {
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        hosts.sort_by_key(|(host, _)| specificity(host));
        let mut groups: BTreeMap<(&[Part], bool), Vec<&Hostname>> = BTreeMap::new();
        for (name, host) in hosts {
            groups.entry((&host.parts, host.redirects)).or_default().push(name);
        }
        let mut made: Vec<VirtualHost> = groups
            .into_iter()
            .map(|((parts, redirects), names)| self.virtual_host(parts, redirects, &names, port))
            .collect();
        made.sort_by(|a, b| a.name.cmp(&b.name));
        made
    }

    fn virtual_host(&self, parts: &[Part], redirects: bool, names: &[&Hostname], port: u16) -> VirtualHost {
        let routes = parts.iter().flat_map(|it| &self.routes[it]).cloned();
        // Else the first VirtualService's would hide all of the next.
        let (last, mut routes): (Vec<Route>, Vec<Route>) = routes.partition(is_catch_all);
        routes.extend(last);
        let domains: Vec<String> = names.iter().map(|it| domain(it)).collect();
        let require = if redirects { TlsRequirementType::All } else { TlsRequirementType::None };
        VirtualHost {
            name: name::VirtualHost { host: &domains[0], port }.to_string(),
            domains,
            routes,
            require_tls: require.into(),
            include_request_attempt_count: true,
            ..VirtualHost::default()
        }
    }
}

fn routes(
    input: &GatewayRoutesInput<'_>,
    gateway: &str,
    rules: &RouteRules,
    server: &HttpServer,
) -> Translated<Vec<Route>> {
    let client = Client { gateway, namespace: input.namespace, labels: input.labels, kind: ProxyKind::Router };
    let context = Rules {
        rules,
        destinations: input.destinations,
        client: &client,
        port: input.port,
        mesh: input.mesh,
        // A server with TLS settings, even if they only redirect.
        scheme: if input.https || server.https_redirect { "https" } else { "http" },
    };
    let mut notes = Notes::new(&rules.object);
    let routes = rule::routes(&context, &mut notes);
    Translated { resource: routes, problems: notes.problems() }
}

/// What the server and the VirtualService both serve: of two that overlap the narrower.
fn shared_hosts(server: &HttpServer, rules: &RouteRules) -> BTreeSet<Hostname> {
    let open = server.hosts.iter().filter(|it| it.namespace.as_ref().is_none_or(|it| *it == rules.namespace));
    let mut shared = BTreeSet::new();
    for served in open.map(|it| &it.host) {
        for bound in &rules.hosts {
            if bound.covers(served) {
                shared.insert(served.clone());
            } else if served.covers(bound) {
                shared.insert(bound.clone());
            }
        }
    }
    shared
}

/// Whole names before wildcards, long before short (`host.MoreSpecific`).
fn specificity(host: &Hostname) -> (bool, std::cmp::Reverse<usize>, Hostname) {
    (host.is_wildcard(), std::cmp::Reverse(host.as_str().len()), host.clone())
}

fn domain(host: &Hostname) -> String {
    match host.as_str().parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => host.to_string(),
    }
}
