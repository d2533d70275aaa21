//! What one gateway proxy serves: the servers of every Gateway that selects it, merged by port.

use crate::{Hostname, Namespace, Protocol, service::Age};
use crds::networking::{Gateway, Server, ServerTls, ServerTlsMode};
use crds::{ObjectKey, Problem, Reason};
use std::collections::BTreeMap;

/// Where a server listens that names no address.
pub const ANY_ADDRESS: &str = "0.0.0.0";

/// Servers of all Gateways that select one proxy (`istio.md` 1.8).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MergedGateway {
    /// By address and port that the proxy really listens on (after Service port → target port). The name of a
    /// plain-text route table (`http.PORT`) has this port.
    pub listeners: BTreeMap<(String, u16), GatewayServer>,
}

/// One listener of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayServer {
    /// As written in the Gateway: the Service port, which virtual hosts are named after.
    pub port: u16,
    /// Of the oldest server.
    pub protocol: Protocol,
    /// `""` unless the Gateway sets `bind`; part of the route name.
    pub bind: String,
    /// Plain-text HTTP: all servers of the port share one route table.
    pub http: Vec<HttpServer>,
    /// TLS and TCP servers, each a filter chain.
    pub tls: Vec<TlsServer>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpServer {
    pub gateway: ObjectKey,
    pub hosts: Vec<ServerHost>,
    /// `tls.httpsRedirect`.
    pub https_redirect: bool,
}

/// `ns/host`: VirtualServices of which namespaces may bind which hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// `None`: any.
    pub namespace: Option<Namespace>,
    pub host: Hostname,
}

impl ServerHost {
    /// `host`, `*/host`, `./host` (the Gateway's own namespace) or `ns/host`.
    pub fn parse(text: &str, own: &Namespace) -> Self {
        let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
        let namespace = match namespace {
            "*" => None,
            "." => Some(own.clone()),
            name => Some(name.into()),
        };
        Self { namespace, host: Hostname::new(host) }
    }

    /// Whether a VirtualService of `namespace` may bind `host`, or a part of what it stands for, here.
    pub fn admits(&self, namespace: &str, host: &Hostname) -> bool {
        self.namespace.as_deref().is_none_or(|it| it == namespace) && self.host.overlaps(host)
    }
}

/// A server whose connections are not plain HTTP: TLS or opaque TCP. `tls` is `None` for TCP.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsServer {
    pub gateway: ObjectKey,
    /// Its place in the Gateway's `spec.servers`.
    pub index: usize,
    pub server_name: String,
    /// As written in the Gateway; servers of several ports may share a listener.
    pub port: u16,
    pub port_name: String,
    pub protocol: Protocol,
    pub hosts: Vec<ServerHost>,
    pub tls: Option<ServerTls>,
}

impl TlsServer {
    /// The same server, as its route table sees it.
    pub fn as_http(&self) -> HttpServer {
        HttpServer { gateway: self.gateway.clone(), hosts: self.hosts.clone(), https_redirect: false }
    }

    /// Whether Envoy holds the certificate; else connections are only routed by SNI.
    pub fn terminates(&self) -> bool {
        let passes = |tls: &ServerTls| matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
        self.tls.as_ref().is_some_and(|tls| !passes(tls))
    }
}

/// Merges the servers of all Gateways that select one proxy, given oldest first. `target_port` is the port behind a
/// port of the Services that select the proxy. Whatever conflicts with an older server is reported and left out.
pub fn merge(
    gateways: &[(&ObjectKey, Age, &Gateway)],
    target_port: impl Fn(u16) -> Option<u16>,
) -> (MergedGateway, Vec<Problem>) {
    let (mut merged, mut problems) = (MergedGateway::default(), vec![]);
    for (gateway, _, spec) in gateways {
        for (index, server) in spec.servers.iter().enumerate() {
            let at = format!("spec.servers[{index}]");
            let added = Candidate::new(gateway, index, server).and_then(|candidate| {
                candidate.join(&mut merged, target_port(candidate.port).unwrap_or(candidate.port))
            });
            if let Err((field, reason)) = added {
                problems.push(Problem::new(gateway, format!("{at}.{field}"), reason));
            }
        }
    }
    (merged, problems)
}

/// The field of the server that is wrong, and why.
type Refusal = (String, Reason);

struct Candidate<'a> {
    gateway: &'a ObjectKey,
    index: usize,
    server: &'a Server,
    port: u16,
    protocol: Protocol,
    hosts: Vec<ServerHost>,
}

impl<'a> Candidate<'a> {
    fn new(gateway: &'a ObjectKey, index: usize, server: &'a Server) -> Result<Self, Refusal> {
        let invalid = |field: &str, why: String| (field.to_owned(), Reason::Invalid(why));
        let port = u16::try_from(server.port.number).ok().filter(|it| *it != 0);
        let number = server.port.number;
        let port = port.ok_or_else(|| invalid("port.number", format!("{number} is not between 1 and 65535")))?;
        let text = &server.port.protocol;
        let protocol = Protocol::parse(text).filter(|it| *it != Protocol::Udp);
        let protocol =
            protocol.ok_or_else(|| invalid("port.protocol", format!("{text:?} is no protocol of a server")))?;
        if protocol.is_tls() && server.tls.is_none() {
            return Err(invalid("tls", format!("a server of protocol {text} needs TLS settings")));
        }
        let hosts = server.hosts.iter().map(|host| ServerHost::parse(host, &gateway.namespace)).collect();
        Ok(Self { gateway, index, server, port, protocol, hosts })
    }

    /// Adds the server to the listener on `real`, its port in the proxy.
    fn join(&self, merged: &mut MergedGateway, real: u16) -> Result<(), Refusal> {
        let address = if self.server.bind.is_empty() { ANY_ADDRESS } else { &self.server.bind };
        let key = (address.to_owned(), real);
        if let Some(listener) = merged.listeners.get(&key) {
            self.check(listener, real)?;
        }
        let listener = merged.listeners.entry(key).or_insert_with(|| GatewayServer {
            port: self.port,
            protocol: self.protocol,
            bind: self.server.bind.clone(),
            http: vec![],
            tls: vec![],
        });
        match self.protocol.is_http() {
            true => listener.http.push(HttpServer {
                gateway: self.gateway.clone(),
                hosts: self.hosts.clone(),
                https_redirect: self.server.tls.as_ref().is_some_and(|tls| tls.https_redirect),
            }),
            false => listener.tls.push(self.tls_server()),
        }
        Ok(())
    }

    fn tls_server(&self) -> TlsServer {
        TlsServer {
            gateway: self.gateway.clone(),
            index: self.index,
            server_name: self.server.name.clone(),
            port: self.port,
            port_name: self.server.port.name.clone(),
            protocol: self.protocol,
            hosts: self.hosts.clone(),
            tls: self.server.tls.clone(),
        }
    }

    /// What Istio's `mergeGateways` refuses: anything but more plain HTTP beside plain HTTP, anything beside plain
    /// TCP, and TLS servers that share a host. Plain text that comes after TLS takes what has no matching SNI.
    fn check(&self, listener: &GatewayServer, real: u16) -> Result<(), Refusal> {
        let plain_tcp = listener.tls.iter().find(|it| it.tls.is_none()).map(|it| &it.gateway);
        let plain_http = listener.http.first().map(|it| &it.gateway).filter(|_| !self.protocol.is_http());
        if let Some(owner) = plain_tcp.or(plain_http) {
            let address = if listener.bind.is_empty() { ANY_ADDRESS } else { &listener.bind };
            let with = format!("{:?} of {owner}", listener.protocol);
            return Err(("port".into(), Reason::PortConflict { address: format!("{address}:{real}"), with }));
        }
        if self.protocol.is_http() || self.server.tls.is_none() {
            return Ok(());
        }
        let own = self.tls_server();
        for other in listener.tls.iter().filter(|it| it.tls.is_some()) {
            let same_host = |a: &ServerHost, b: &ServerHost| match own.terminates() || other.terminates() {
                true => a.host == b.host, // SNI decides alone which certificate is shown.
                false => a == b,
            };
            if let Some(at) = own.hosts.iter().position(|a| other.hosts.iter().any(|b| same_host(a, b))) {
                let (domain, owner) = (own.hosts[at].host.to_string(), other.gateway.to_string());
                return Err((format!("hosts[{at}]"), Reason::DuplicateDomain { domain, owner }));
            }
            let same_route = own.terminates() && other.terminates() && own.protocol == Protocol::Https;
            if same_route && (&own.gateway, own.port, &own.port_name) == (&other.gateway, other.port, &other.port_name)
            {
                let why = format!("port name {:?} is already used in this Gateway", own.port_name);
                return Err(("port.name".into(), Reason::Invalid(why)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::networking::Port;
    use crds::{Kind, Meta};

    fn server(port: u32, protocol: &str, hosts: &[&str], mode: Option<ServerTlsMode>) -> Server {
        Server {
            port: Port {
                number: port,
                name: format!("{protocol}-{port}"),
                protocol: protocol.into(),
                target_port: None,
            },
            hosts: hosts.iter().map(|it| it.to_string()).collect(),
            tls: mode.map(|mode| ServerTls { mode, ..Default::default() }),
            ..Default::default()
        }
    }

    /// Each server is a Gateway of its own: g0, g1, …
    fn merged(servers: Vec<Server>) -> (MergedGateway, Vec<Problem>) {
        let gateways: Vec<_> = servers
            .into_iter()
            .enumerate()
            .map(|(at, server)| {
                let key = ObjectKey::new(Kind::Gateway, "n", format!("g{at}"));
                (key, Gateway { servers: vec![server], ..Default::default() })
            })
            .collect();
        let input: Vec<_> = gateways.iter().map(|(key, spec)| (key, Age::new(&Meta::default()), spec)).collect();
        merge(&input, |port| (port == 80).then_some(8080))
    }

    #[test]
    fn a_port_is_the_target_port_of_the_gateways_service() {
        let (merged, problems) = merged(vec![
            server(80, "HTTP", &["*"], None),
            server(8443, "TLS", &["*"], Some(ServerTlsMode::Passthrough)),
        ]);
        let keys: Vec<_> = merged.listeners.keys().map(|(address, port)| (address.as_str(), *port)).collect();
        assert_eq!(keys, [("0.0.0.0", 8080), ("0.0.0.0", 8443)]);
        assert_eq!(merged.listeners[&("0.0.0.0".to_owned(), 8080)].port, 80);
        assert_eq!(problems, []);
    }

    #[test]
    fn servers_of_one_port_merge_or_the_later_one_is_refused() {
        use ServerTlsMode::{Passthrough, Simple};
        let (http, tcp) = (|| server(80, "HTTP", &["a.com"], None), || server(80, "TCP", &["*"], None));
        let grpc = || server(80, "GRPC", &["b.com"], None);
        let tls = |host: &str, mode| server(80, "TLS", &[host], Some(mode));
        let https = |host: &str| server(80, "HTTPS", &[host], Some(Simple));
        for (first, second, refused) in [
            (http(), http(), None),
            (http(), grpc(), None),
            (http(), tcp(), Some("port")),
            (tcp(), http(), Some("port")),
            (tcp(), tcp(), Some("port")),
            (http(), https("a.com"), Some("port")),
            (tcp(), tls("a.com", Passthrough), Some("port")),
            (https("a.com"), http(), None),
            (tls("a.com", Passthrough), tcp(), None),
            (https("a.com"), https("b.com"), None),
            (https("a.com"), https("a.com"), Some("hosts[0]")),
            (https("x/a.com"), https("y/a.com"), Some("hosts[0]")),
            (tls("x/a.com", Passthrough), tls("y/a.com", Passthrough), None),
            (tls("a.com", Passthrough), tls("a.com", Passthrough), Some("hosts[0]")),
        ] {
            let case = format!("{first:?} then {second:?}");
            let (merged, problems) = merged(vec![first, second]);
            let listener = &merged.listeners[&("0.0.0.0".to_owned(), 8080)];
            assert_eq!(listener.http.len() + listener.tls.len(), 2 - usize::from(refused.is_some()), "{case}");
            let found: Vec<_> = problems.iter().map(|it| (&*it.object.name, it.field.clone())).collect();
            let expected: Vec<_> = refused.iter().map(|field| ("g1", format!("spec.servers[0].{field}"))).collect();
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn different_binds_never_conflict() {
        let bound = |bind: &str, protocol: &str| Server { bind: bind.into(), ..server(80, protocol, &["*"], None) };
        let (merged, problems) = merged(vec![bound("10.0.0.1", "HTTP"), bound("10.0.0.2", "TCP"), bound("", "TCP")]);
        assert_eq!((merged.listeners.len(), problems.len()), (3, 0));
        assert_eq!(merged.listeners[&("10.0.0.1".to_owned(), 8080)].bind, "10.0.0.1");
    }

    #[test]
    fn a_wrong_server_is_refused_alone() {
        for (wrong, field) in [
            (server(0, "HTTP", &["*"], None), "port.number"),
            (server(70000, "HTTP", &["*"], None), "port.number"),
            (server(81, "SMTP", &["*"], None), "port.protocol"),
            (server(81, "UDP", &["*"], None), "port.protocol"),
            (server(81, "HTTPS", &["*"], None), "tls"),
        ] {
            let (merged, problems) = merged(vec![wrong, server(80, "HTTP", &["*"], None)]);
            assert_eq!(merged.listeners.len(), 1, "{field}");
            assert_eq!(problems.len(), 1, "{field}");
            assert_eq!(problems[0].field, format!("spec.servers[0].{field}"));
        }
    }

    #[test]
    fn one_gateways_https_servers_need_their_own_port_names() {
        let https = |host: &str| server(443, "HTTPS", &[host], Some(ServerTlsMode::Simple));
        let spec = Gateway { servers: vec![https("a.com"), https("b.com")], ..Default::default() };
        let key = ObjectKey::new(Kind::Gateway, "n", "g");
        let (merged, problems) = merge(&[(&key, Age::new(&Meta::default()), &spec)], |_| None);
        assert_eq!(merged.listeners[&("0.0.0.0".to_owned(), 443)].tls.len(), 1);
        assert_eq!(problems[0].field, "spec.servers[1].port.name");
    }

    #[test]
    fn hosts_say_who_may_bind_them() {
        for (text, namespace, host, expected) in [
            ("*", "a", "x.com", true),
            ("./x.com", "n", "x.com", true),
            ("./x.com", "a", "x.com", false),
            ("a/*.com", "a", "x.com", true),
            ("a/*.com", "b", "x.com", false),
            ("*/x.com", "b", "*.com", true),
            ("x.com", "b", "y.com", false),
        ] {
            let server = ServerHost::parse(text, &"n".into());
            assert_eq!(server.admits(namespace, &Hostname::new(host)), expected, "{text} {namespace}/{host}");
        }
        let redirect = Server {
            tls: Some(ServerTls { https_redirect: true, ..Default::default() }),
            ..server(80, "HTTP", &["*"], None)
        };
        assert!(merged(vec![redirect]).0.listeners[&("0.0.0.0".to_owned(), 8080)].http[0].https_redirect);
    }
}
