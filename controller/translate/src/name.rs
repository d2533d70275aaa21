//! Every name that goes on the wire, in one place. The shapes are Istio's (`istio.md` 2.1–2.4): dashboards, EnvoyFilters
//! and `istioctl` know them.

use crds::{Kind, ObjectKey};
use model::{Hostname, Registry, Service, ServicePort};
use std::fmt::{self, Display, Formatter};

/// Where Envoy sends what nobody wants.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
pub const ALLOW_ANY_DYNAMIC_DNS_CLUSTER: &str = "AllowAnyDynamicDNSCluster";
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";

pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
pub const VIRTUAL_OUTBOUND_BLACK_HOLE: &str = "virtualOutbound-blackhole";
pub const VIRTUAL_OUTBOUND_CATCH_ALL_TCP: &str = "virtualOutbound-catchall-tcp";
pub const VIRTUAL_INBOUND_BLACK_HOLE: &str = "virtualInbound-blackhole";
pub const VIRTUAL_INBOUND_CATCH_ALL_HTTP: &str = "virtualInbound-catchall-http";
pub const PASSTHROUGH_FILTER_CHAIN: &str = "PassthroughFilterChain";

/// The route table of the HTTP proxy listener.
pub const HTTP_PROXY_ROUTE: &str = "http_proxy";
/// Virtual hosts for hosts that the mesh does not know.
pub const ALLOW_ANY: &str = "allow_any";
pub const ALLOW_ANY_DYNAMIC_DNS: &str = "allow_any_dynamic_dns";
pub const BLOCK_ALL: &str = "block_all";
/// The route that a service has without a VirtualService.
pub const DEFAULT_ROUTE: &str = "default";

/// The filter and the configuration of a TrafficExtension. A WasmPlugin is one, too.
pub fn extension(owner: &ObjectKey) -> String {
    format!("extensions.istio.io/trafficextension/{}.{}", owner.namespace, owner.name)
}

/// `outbound|PORT|SUBSET|HOST`, the port being the service's; also the name of the load assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundCluster<'a> {
    pub port: u16,
    pub subset: Option<&'a str>,
    pub host: &'a Hostname,
}

impl Display for OutboundCluster<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset.unwrap_or_default(), self.host)
    }
}

/// `outbound_.PORT_.SUBSET_.HOST`: an outbound cluster's name where only DNS names are allowed (SNI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundSni<'a>(pub OutboundCluster<'a>);

impl Display for OutboundSni<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let OutboundCluster { port, subset, host } = self.0;
        write!(f, "outbound_.{port}_.{}_.{host}", subset.unwrap_or_default())
    }
}

/// `inbound|PORT||`: also the name of the port's inline route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundCluster(pub u16);

impl Display for InboundCluster {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "inbound|{}||", self.0)
    }
}

/// `inbound|http|PORT`: the only virtual host of a port's inbound route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundVirtualHost(pub u16);

impl Display for InboundVirtualHost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "inbound|http|{}", self.0)
    }
}

/// `ADDRESS_PORT`; inbound filter chains have names of the same shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener<'a> {
    pub bind: &'a str,
    pub port: u16,
}

impl Display for Listener<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.bind, self.port)
    }
}

/// The route table of a sidecar's outbound listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SidecarRoute {
    /// `80`: all HTTP services of the port.
    Port(u16),
    /// `HOST:PORT`: one service whose protocol is sniffed, on its own address.
    Service(Hostname, u16),
    /// A Unix socket's path.
    Unix(String),
    /// `http_proxy`.
    HttpProxy,
}

impl Display for SidecarRoute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Service(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
            Self::HttpProxy => f.write_str(HTTP_PROXY_ROUTE),
        }
    }
}

/// `http.PORT[.BIND]`: the route table shared by all plain-text HTTP servers of a gateway's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayHttpRoute<'a> {
    pub port: u16,
    /// Empty unless the Gateway sets it.
    pub bind: &'a str,
}

impl Display for GatewayHttpRoute<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "http.{}", self.port)?;
        suffix(f, self.bind)
    }
}

/// `https.PORT.PORTNAME.GATEWAY.NAMESPACE[.BIND]`: the route table of one server that terminates TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayHttpsRoute<'a> {
    pub port: u16,
    pub port_name: &'a str,
    pub gateway: &'a ObjectKey,
    pub bind: &'a str,
}

impl Display for GatewayHttpsRoute<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { port, port_name, gateway, bind } = self;
        write!(f, "https.{port}.{port_name}.{}.{}", gateway.name, gateway.namespace)?;
        suffix(f, bind)
    }
}

fn suffix(f: &mut Formatter<'_>, bind: &str) -> fmt::Result {
    match bind {
        "" => Ok(()),
        bind => write!(f, ".{bind}"),
    }
}

/// `HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualHost<'a> {
    pub host: &'a str,
    pub port: u16,
}

impl Display for VirtualHost<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `HOST:PORT/*`: a default route's name in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    pub host: &'a str,
    pub port: u16,
}

impl Display for Operation<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/*", self.host, self.port)
    }
}

/// `/apis/networking.istio.io/v1alpha3/namespaces/NS/KIND/NAME`: metadata naming the object behind a resource. The
/// version is fixed in Istio, whatever the user wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigPath<'a>(pub &'a ObjectKey);

impl Display for ConfigPath<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.0.kind {
            Kind::DestinationRule => "destination-rule",
            Kind::VirtualService => "virtual-service",
            Kind::ServiceEntry => "service-entry",
            Kind::PeerAuthentication => "peer-authentication",
            Kind::WorkloadEntry => "workload-entry",
            Kind::WorkloadGroup => "workload-group",
            Kind::Gateway => "gateway",
            Kind::Sidecar => "sidecar",
            other => other.name(),
        };
        let ObjectKey { namespace, name, .. } = self.0;
        write!(f, "/apis/networking.istio.io/v1alpha3/namespaces/{namespace}/{kind}/{name}")
    }
}

/// What a cluster's statistics are filed under. The `;` ends the name for Istio's tag extraction, which would
/// otherwise have to guess where a name with dots ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatName<'a>(pub &'a str);

impl Display for StatName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{};", self.0)
    }
}

/// The parts of a service that `outboundClusterStatName` and `inboundClusterStatName` may name.
#[derive(Clone, Copy, Debug)]
pub struct StatPattern<'a> {
    pub pattern: &'a str,
    pub service: &'a Service,
    pub port: Option<&'a ServicePort>,
    pub subset: Option<&'a str>,
    /// The workload's port; of inbound clusters. Outbound it is 0, as in Istio.
    pub target_port: Option<u16>,
}

impl Display for StatPattern<'_> {
    /// Istio's `telemetry.BuildStatPrefix`: a part that does not exist becomes empty text.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let host = &self.service.key.host;
        let port = |text: fn(&ServicePort) -> String| self.port.map(text).unwrap_or_default();
        let text = self
            .pattern
            .replace("%SERVICE%", &short_name(self.service))
            .replace("%SERVICE_FQDN%", host.as_str())
            .replace("%SERVICE_NAME%", service_name(self.service))
            .replace("%SUBSET_NAME%", self.subset.unwrap_or_default())
            .replace("%TARGET_PORT%", &self.target_port.unwrap_or(0).to_string())
            .replace("%SERVICE_PORT%", &port(|it| it.number.to_string()))
            .replace("%SERVICE_PORT_NAME%", &port(|it| it.name.to_string()));
        f.write_str(&text)
    }
}

/// `name.namespace` of Kubernetes Services, the host of others.
fn short_name(service: &Service) -> String {
    match service.registry {
        Registry::Kubernetes => format!("{}.{}", service.object.name, service.key.namespace),
        Registry::External => service.key.host.to_string(),
    }
}

/// The name of a Kubernetes Service, the host of others.
pub(crate) fn service_name(service: &Service) -> &str {
    match service.registry {
        Registry::Kubernetes => &service.object.name,
        Registry::External => service.key.host.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_istios_shapes() {
        let host = Hostname::new("reviews.books.svc.cluster.local");
        let cluster = OutboundCluster { port: 9080, subset: Some("v2"), host: &host };
        let gateway = ObjectKey::new(Kind::Gateway, "istio-system", "edge");
        for (name, expected) in [
            (cluster.to_string(), "outbound|9080|v2|reviews.books.svc.cluster.local"),
            (OutboundCluster { subset: None, ..cluster }.to_string(), "outbound|9080||reviews.books.svc.cluster.local"),
            (OutboundSni(cluster).to_string(), "outbound_.9080_.v2_.reviews.books.svc.cluster.local"),
            (InboundCluster(8080).to_string(), "inbound|8080||"),
            (InboundVirtualHost(8080).to_string(), "inbound|http|8080"),
            (Listener { bind: "10.0.0.1", port: 3306 }.to_string(), "10.0.0.1_3306"),
            (SidecarRoute::Port(80).to_string(), "80"),
            (SidecarRoute::Service(Hostname::new("a.b"), 81).to_string(), "a.b:81"),
            (SidecarRoute::Unix("/run/x".into()).to_string(), "/run/x"),
            (SidecarRoute::HttpProxy.to_string(), "http_proxy"),
            (GatewayHttpRoute { port: 80, bind: "" }.to_string(), "http.80"),
            (GatewayHttpRoute { port: 80, bind: "10.0.0.1" }.to_string(), "http.80.10.0.0.1"),
            (
                GatewayHttpsRoute { port: 443, port_name: "https", gateway: &gateway, bind: "" }.to_string(),
                "https.443.https.edge.istio-system",
            ),
            (VirtualHost { host: "a.b", port: 80 }.to_string(), "a.b:80"),
            (Operation { host: "a.b", port: 80 }.to_string(), "a.b:80/*"),
            (StatName("x").to_string(), "x;"),
            (
                ConfigPath(&ObjectKey::new(Kind::VirtualService, "n", "v")).to_string(),
                "/apis/networking.istio.io/v1alpha3/namespaces/n/virtual-service/v",
            ),
        ] {
            assert_eq!(name, expected);
        }
    }
}
