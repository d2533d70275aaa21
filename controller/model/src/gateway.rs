//! What one gateway proxy serves: the servers of every Gateway that selects it, merged by port.

use crate::{Hostname, Namespace, Protocol};
use crds::ObjectKey;
use crds::networking::ServerTls;
use std::collections::BTreeMap;

/// Servers of all Gateways that select one proxy (`istio.md` 1.8).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MergedGateway {
    /// By address and port that the proxy really listens on (after Service port → target port).
    pub listeners: BTreeMap<(String, u16), GatewayServer>,
}

/// One listener of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayServer {
    /// As written in the Gateway: the Service port. Names of routes use it.
    pub port: u16,
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

/// A server whose connections are not plain HTTP: TLS passthrough or opaque TCP. `tls` is `None` for TCP.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsServer {
    pub gateway: ObjectKey,
    pub server_name: String,
    pub port_name: String,
    pub protocol: Protocol,
    pub hosts: Vec<ServerHost>,
    pub tls: Option<ServerTls>,
}
