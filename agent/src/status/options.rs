//! What the status server is told once, at start; `from_environment` reads pilot-agent's variables. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::probe::{self, Probe};

/// Settings of the status server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Envoy's admin, normally 127.0.0.1:15000. `None` with `DISABLE_ENVOY`.
    pub envoy_admin: Option<SocketAddr>,
    /// Envoy's metrics listener, normally 127.0.0.1:15090.
    pub envoy_metrics: SocketAddr,
    /// Where the application's metrics are; empty when none are merged.
    pub scrapes: Vec<Scrape>,
    /// Where probes go: the pod's own address (`INSTANCE_IP`), as kubelet would.
    pub application: IpAddr,
    /// Probes by path. Other paths are refused: they would be a way past Envoy (S40).
    pub probes: BTreeMap<String, Probe>,
    /// The server's own port, which a probe's `Host` must not show.
    pub status_port: u16,
}

/// One endpoint of the application's metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// Its port on localhost.
    pub port: u16,
    /// Its path, with the slash.
    pub path: String,
}

/// A setting that cannot be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// `ISTIO_PROMETHEUS_ANNOTATIONS`
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: {0}")]
    Prometheus(String),
    /// `ISTIO_KUBE_APP_PROBERS`
    #[error("ISTIO_KUBE_APP_PROBERS: {0}")]
    Probers(String),
    /// Another variable.
    #[error("{0}: {1:?} cannot be used")]
    Variable(&'static str, String),
}

/// Whether application metrics are merged: Istio does so for sidecars only, since a gateway's 15020 may be public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `proxy sidecar`
    Sidecar,
    /// `proxy router`
    Router,
}

/// Ports of the mesh itself: nothing of the application is there, and 15020 would scrape itself for ever.
const RESERVED_PORTS: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];
/// How many endpoints one pod may have scraped.
const SCRAPES_MAX: usize = 32;

impl Options {
    /// Reads `ISTIO_KUBE_APP_PROBERS`, `ISTIO_PROMETHEUS_ANNOTATIONS`, `INSTANCE_IP`, `ENVOY_PROMETHEUS_PORT`,
    /// `REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION`, `DISABLE_ENVOY` through `variable` (a pure function in tests).
    ///
    /// # Errors
    /// A setting that cannot be understood.
    pub fn from_environment(
        role: Role,
        status_port: u16,
        admin_port: u16,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OptionsError> {
        let set = |name: &str| variable(name).filter(|text| !text.is_empty());
        let switched_on = |name: &str| set(name).is_some_and(|text| matches!(text.as_str(), "true" | "1"));
        let metrics_port = match set("ENVOY_PROMETHEUS_PORT") {
            None => 15090,
            Some(text) => text.parse().map_err(|_| OptionsError::Variable("ENVOY_PROMETHEUS_PORT", text))?,
        };
        let pod: Option<IpAddr> = set("INSTANCE_IP").and_then(|text| text.parse().ok());
        let localhost = match pod {
            Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let legacy = switched_on("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION");
        let scrapes = match (role, set("ISTIO_PROMETHEUS_ANNOTATIONS")) {
            (Role::Sidecar, Some(text)) => scrapes(&text, status_port)?,
            _ => Vec::new(),
        };
        let probes = match set("ISTIO_KUBE_APP_PROBERS") {
            Some(text) => probe::parse(&text).map_err(OptionsError::Probers)?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            envoy_admin: (!switched_on("DISABLE_ENVOY")).then(|| SocketAddr::new(localhost, admin_port)),
            envoy_metrics: SocketAddr::new(localhost, metrics_port),
            scrapes,
            application: if legacy { localhost } else { pod.unwrap_or(localhost) },
            probes,
            status_port,
        })
    }
}

/// The annotations as the injector writes them; ports may be text or numbers.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Annotations {
    scrape: String,
    path: String,
    port: String,
    targets: Vec<Target>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Target {
    port: String,
    path: String,
}

fn scrapes(text: &str, status_port: u16) -> Result<Vec<Scrape>, OptionsError> {
    let error = |message: String| OptionsError::Prometheus(message);
    let annotations: Annotations = serde_json::from_str(text).map_err(|problem| error(problem.to_string()))?;
    if annotations.scrape == "false" {
        return Ok(Vec::new());
    }
    let targets = if annotations.targets.is_empty() {
        let port = if annotations.port.is_empty() { "80".to_owned() } else { annotations.port };
        vec![Target { port, path: annotations.path }]
    } else {
        annotations.targets
    };
    if targets.len() > SCRAPES_MAX {
        return Err(error(format!("{} targets are more than {SCRAPES_MAX}", targets.len())));
    }
    targets
        .into_iter()
        .map(|target| {
            let port: u16 = target.port.parse().map_err(|_| error(format!("port {:?}", target.port)))?;
            if port == 0 || port == status_port || RESERVED_PORTS.contains(&port) {
                return Err(error(format!("port {port} is the mesh's own, not the application's")));
            }
            let path = match target.path.as_str() {
                "" => "/metrics".to_owned(),
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            };
            Ok(Scrape { port, path })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Options, OptionsError> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Options::from_environment(Role::Sidecar, 15020, 15000, &variable)
    }

    #[test]
    fn the_applications_metrics_are_where_the_annotations_say() {
        for (json, expected) in [
            (r#"{"scrape":"true","path":"/m","port":"9080"}"#, vec![(9080, "/m")]),
            (r#"{"scrape":"true"}"#, vec![(80, "/metrics")]),
            (r#"{"scrape":"false","port":"9080"}"#, vec![]),
            (r#"{"targets":[{"port":"1","path":""},{"port":"2","path":"x"}]}"#, vec![(1, "/metrics"), (2, "/x")]),
        ] {
            let scrapes = read(&[("ISTIO_PROMETHEUS_ANNOTATIONS", json)]).expect("good settings").scrapes;
            let scrapes: Vec<(u16, &str)> = scrapes.iter().map(|scrape| (scrape.port, scrape.path.as_str())).collect();
            assert_eq!(scrapes, expected, "{json}");
        }
    }

    #[test]
    fn s40_the_meshs_own_ports_are_never_scraped() {
        for port in ["15020", "015020", "15000", "15090", "0", "70000", "http"] {
            let json = format!(r#"{{"scrape":"true","port":"{port}"}}"#);
            let error = read(&[("ISTIO_PROMETHEUS_ANNOTATIONS", &json)]).expect_err(port);
            assert!(matches!(error, OptionsError::Prometheus(_)), "{port}");
        }
    }

    #[test]
    fn a_pod_of_ipv6_asks_envoy_and_the_application_over_ipv6() {
        let options = read(&[("INSTANCE_IP", "fd00::5")]).expect("good settings");
        assert_eq!(options.envoy_admin.map(|admin| admin.to_string()).as_deref(), Some("[::1]:15000"));
        assert_eq!(options.application.to_string(), "fd00::5");
        let legacy = [("INSTANCE_IP", "10.0.0.5"), ("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true")];
        assert_eq!(read(&legacy).expect("good settings").application.to_string(), "127.0.0.1");
        assert_eq!(read(&[("DISABLE_ENVOY", "true")]).expect("good settings").envoy_admin, None);
    }
}
