//! A connected Envoy, as its `Node` describes it (`istio.md` 2.9).

use crate::endpoint::PodFacts;
use crate::{Labels, Locality, Namespace};
use crds::mesh_config::InterceptionMode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    Sidecar,
    /// A gateway: `router` in node ids.
    Router,
}

/// Ports below 1024, for a proxy that binds them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LowPorts {
    Bound,
    /// The kernel would refuse them, and Envoy the listener (`UNPRIVILEGED_POD`): they get none.
    Skipped,
}

/// Whether a proxy can prove who its workload is. Without, it neither speaks nor expects mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Certificates {
    #[default]
    None,
    /// Of the workload, kept fresh by the agent beside it, which is the cluster `sds-grpc` of its bootstrap.
    Workload,
}

/// Whether the agent answers DNS, and wants to know names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DnsCapture {
    #[default]
    Off,
    On,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    pub kind: ProxyKind,
    /// Pod name.
    pub name: Arc<str>,
    pub namespace: Namespace,
    /// First is the one that binds and matches; never empty.
    pub ips: Vec<IpAddr>,
    pub labels: Labels,
    /// Where it listens for services' ports, by their names, as its WorkloadEntry says; a Pod has none.
    pub ports: Arc<BTreeMap<String, u16>>,
    pub interception: InterceptionMode,
    /// `HTTP_PROXY_PORT` of the metadata; overrides MeshConfig's `proxyHttpPort`.
    pub http_proxy_port: Option<u16>,
    pub low_ports: LowPorts,
    pub locality: Arc<Locality>,
    pub node: Option<Arc<str>>,
    pub service_account: Option<Arc<str>>,
    pub certificates: Certificates,
    pub dns_capture: DnsCapture,
    /// `ISTIO_VERSION`.
    pub version: Option<Arc<str>>,
    /// The texts of its metadata, for EnvoyFilters that ask for them.
    pub metadata: Arc<BTreeMap<String, String>>,
}

/// Metadata by which an Envoy that no agent serves (`navarch up`) says that it has no certificates. Istio's agents
/// always have some.
pub const NO_CERTIFICATES: &str = "NAVARCH_NO_CERTIFICATES";

impl Proxy {
    /// Reads `TYPE~IP~POD.NAMESPACE~DOMAIN` and the metadata that Istio's bootstrap sends.
    /// The error is one sentence for the client whose node it is.
    pub fn parse(id: &str, metadata: &Value, locality: Locality) -> Result<Self, String> {
        let parts: Vec<&str> = id.split('~').collect();
        let [kind, ip, pod, domain] = parts[..] else {
            return Err(format!("node id {id:?} is not TYPE~IP~POD.NAMESPACE~DOMAIN"));
        };
        let kind = match kind {
            "sidecar" => ProxyKind::Sidecar,
            "router" => ProxyKind::Router,
            other => {
                return Err(format!("node id {id:?}: proxy type {other:?} is not served (sidecar and router are)"));
            }
        };
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|it| !it.is_empty());
        let listed = metadata.get("INSTANCE_IPS").map(instance_ips).unwrap_or_default();
        let own = || ip.parse().into_iter().collect::<Vec<IpAddr>>();
        let ips = if listed.is_empty() { own() } else { listed };
        if ips.is_empty() {
            return Err(format!("node id {id:?} has no IP address, nor has its metadata INSTANCE_IPS"));
        }
        let (name, pod_namespace) = pod.rsplit_once('.').unwrap_or((pod, ""));
        let namespace = text("NAMESPACE").or_else(|| Some(pod_namespace).filter(|it| !it.is_empty()));
        let namespace = namespace.or_else(|| domain.split('.').next()).unwrap_or("default");
        let labels = metadata.get("LABELS").and_then(Value::as_object);
        let labels = labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
        Ok(Self {
            kind,
            name: name.into(),
            namespace: namespace.into(),
            ips,
            labels: Arc::new(labels.collect()),
            ports: Arc::default(),
            interception: match text("INTERCEPTION_MODE") {
                Some("NONE") => InterceptionMode::None,
                Some("TPROXY") => InterceptionMode::Tproxy,
                _ => InterceptionMode::Redirect,
            },
            http_proxy_port: text("HTTP_PROXY_PORT").and_then(|it| it.parse().ok()).filter(|it| *it != 0),
            low_ports: match text("UNPRIVILEGED_POD") {
                Some("true") => LowPorts::Skipped,
                _ => LowPorts::Bound,
            },
            locality: Arc::new(locality),
            node: text("NODE_NAME").map(Arc::from),
            service_account: text("SERVICE_ACCOUNT").map(Arc::from),
            certificates: match text(NO_CERTIFICATES) {
                Some("true") => Certificates::None,
                _ => Certificates::Workload,
            },
            dns_capture: match text("DNS_CAPTURE") {
                Some("true") => DnsCapture::On,
                _ => DnsCapture::Off,
            },
            version: text("ISTIO_VERSION").map(Arc::from),
            metadata: Arc::new(texts(metadata)),
        })
    }
}

impl Proxy {
    /// As the API server knows its Pod: labels select policies and gateways, so what a client says of itself does not
    /// count where something better is known. What the Pod does not say yet (addresses, a node) stays as it was said.
    pub fn known_by(mut self, pod: &PodFacts) -> Self {
        self.labels = pod.labels.clone();
        self.service_account = pod.service_account.clone().or(self.service_account);
        self.node = pod.node.clone().or(self.node);
        if *pod.locality != Locality::default() {
            self.locality = pod.locality.clone();
        }
        if pod.ips[0].is_some() {
            self.ips = pod.ips.into_iter().flatten().collect();
        }
        self
    }
}

fn texts(metadata: &Value) -> BTreeMap<String, String> {
    let all = metadata.as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A list of strings, or the comma-separated text that older agents send.
fn instance_ips(value: &Value) -> Vec<IpAddr> {
    match value {
        Value::Array(list) => list.iter().filter_map(|it| it.as_str()?.parse().ok()).collect(),
        Value::String(text) => text.split(',').filter_map(|it| it.trim().parse().ok()).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_read_as_istio_writes_it() {
        let metadata = json!({
            "NAMESPACE": "books", "INSTANCE_IPS": "10.0.0.7,fd00::7", "LABELS": {"app": "reviews"},
            "INTERCEPTION_MODE": "NONE", "HTTP_PROXY_PORT": "15002", "NODE_NAME": "n1", "UNPRIVILEGED_POD": "true",
        });
        let id = "sidecar~10.0.0.7~reviews-v1.books~books.svc.cluster.local";
        let proxy = Proxy::parse(id, &metadata, Locality::default()).unwrap();
        assert_eq!((&*proxy.name, &*proxy.namespace, proxy.ips.len()), ("reviews-v1", "books", 2));
        assert_eq!((proxy.interception, proxy.http_proxy_port), (InterceptionMode::None, Some(15002)));
        assert_eq!(proxy.low_ports, LowPorts::Skipped);
        assert_eq!(proxy.labels.get("app").map(String::as_str), Some("reviews"));
    }

    #[test]
    fn the_id_alone_is_enough_and_a_broken_one_is_explained() {
        let proxy = Proxy::parse("router~10.0.0.1~gw.istio-system~x", &Value::Null, Locality::default()).unwrap();
        assert_eq!((proxy.kind, &*proxy.namespace), (ProxyKind::Router, "istio-system"));
        for (id, part) in [("a~b", "TYPE~IP"), ("sidecar~x~a.b~c", "no IP"), ("ztunnel~1.2.3.4~a.b~c", "ztunnel")] {
            let error = Proxy::parse(id, &Value::Null, Locality::default()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
