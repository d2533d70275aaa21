//! One place to scrape: Prometheus asks the agent, and the agent joins its own metrics, Envoy's and the application's.
//!
//! Where the application's are is moved from the pod's annotations to the proxy's environment.

use super::annotation as a;
use super::input::Input;
use super::{Refusal, pod};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) const SCRAPING: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
const MERGED_PATH: &str = "/stats/prometheus";

/// Ports of the proxy itself; scraping them for the application would loop or miss.
const RESERVED_PORTS: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// As the agent reads it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Scraping {
    scrape: String,
    path: String,
    port: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<Target>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Target {
    port: String,
    path: String,
}

const ANNOTATIONS: [(&str, &str); 3] = [
    ("prometheus.io/scrape", "prometheus_io_scrape"),
    ("prometheus.io/path", "prometheus_io_path"),
    ("prometheus.io/port", "prometheus_io_port"),
];
const TARGETS: (&str, &str) = ("prometheus.istio.io/scrape-targets", "prometheus_istio_io_scrape_targets");

pub(super) fn merge(pod: &mut Value, input: &Input<'_>) -> Result<(), Refusal> {
    let scrape = find(pod, "prometheus_io_scrape").and_then(|it| a::parse_bool(&it)).unwrap_or(true);
    if !scrape || !is_enabled(input) {
        return Ok(());
    }
    let agent = input.mesh_status_port().to_string();
    if find(pod, "prometheus_io_port").is_some_and(|it| it == agent) {
        // The user sends Prometheus to the agent, and means it.
        if is_merged(pod, &agent) {
            point_at_agent(pod, agent);
        }
        return Ok(());
    }
    let text = |name: &str| find(pod, name).unwrap_or_default();
    let mut scraping = Scraping {
        scrape: text("prometheus_io_scrape"),
        path: text("prometheus_io_path"),
        port: text("prometheus_io_port"),
        targets: targets(&text(TARGETS.1)),
    };
    let checked: Vec<_> = match scraping.targets.first() {
        Some(first) => {
            (scraping.port, scraping.path) = (first.port.clone(), first.path.clone());
            scraping.targets.iter().map(|it| (TARGETS.0, it.port.as_str())).collect()
        }
        None => {
            Some(("prometheus.io/port", scraping.port.as_str())).into_iter().filter(|it| !it.1.is_empty()).collect()
        }
    };
    for (annotation, port) in checked {
        check(port, &agent).map_err(|reason| a::refusal(annotation, reason))?;
    }
    if scraping != Scraping::default()
        && let (Some(proxy), Ok(json)) = (pod::proxy_mut(pod), serde_json::to_string(&scraping))
    {
        pod::set_env(proxy, SCRAPING, &json);
    }
    point_at_agent(pod, agent);
    Ok(())
}

fn point_at_agent(pod: &mut Value, agent: String) {
    clear(pod);
    pod::set_annotation(pod, "prometheus.io/path", MERGED_PATH);
    pod::set_annotation(pod, "prometheus.io/port", agent);
    pod::set_annotation(pod, "prometheus.io/scrape", "true");
}

/// Whether the annotations are what [`point_at_agent`] writes.
fn is_merged(pod: &Value, agent: &str) -> bool {
    let is = |name: &str, value: &str| pod::annotation(pod, name) == Some(value);
    is("prometheus.io/port", agent) && is("prometheus.io/path", MERGED_PATH) && is("prometheus.io/scrape", "true")
}

/// Tells Prometheus of the port with mutual TLS, if the proxy has one.
pub(super) fn secure_port(pod: &mut Value) {
    let port = pod::proxy(pod).and_then(|it| pod::env(it, "ENVOY_SECURE_MERGED_METRICS_PORT")).map(str::to_owned);
    let Some(port) = port.filter(|it| !it.is_empty() && it != "0") else { return };
    if find(pod, "prometheus_istio_io_secure_port").is_none_or(|it| it == port) {
        pod::remove_annotation(pod, "prometheus.istio.io/secure-port");
        pod::set_annotation(pod, "prometheus.istio.io/secure-port", port);
    }
}

/// Puts back what [`merge`] moved.
pub(super) fn restore(pod: &mut Value, proxy: &Value, status_port: i32) {
    if !is_merged(pod, &status_port.to_string()) {
        return;
    }
    clear(pod);
    let scraping = pod::env(proxy, SCRAPING).and_then(|it| serde_json::from_str::<Scraping>(it).ok());
    let Some(scraping) = scraping else { return };
    let targets: Vec<_> = scraping.targets.iter().map(|it| format!("{}:{}", it.port, it.path)).collect();
    let (path, port) = if targets.is_empty() { (scraping.path, scraping.port) } else { Default::default() };
    let all = [
        (ANNOTATIONS[0].0, scraping.scrape),
        (ANNOTATIONS[1].0, path),
        (ANNOTATIONS[2].0, port),
        (TARGETS.0, targets.join(",")),
    ];
    for (name, value) in all.into_iter().filter(|(_, value)| !value.is_empty()) {
        pod::set_annotation(pod, name, value);
    }
}

fn is_enabled(input: &Input<'_>) -> bool {
    let own = input.annotations.get(a::MERGE_METRICS).and_then(|it| a::parse_bool(it));
    own.unwrap_or_else(|| input.config.mesh.text("enablePrometheusMerge", "true") == "true")
}

/// Prometheus makes one name of `prometheus.io/port`, `prometheus-io/port` and the like.
fn sanitized(name: &str) -> String {
    name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect()
}

fn find(pod: &Value, name: &str) -> Option<String> {
    let annotations = pod.pointer("/metadata/annotations")?.as_object()?;
    annotations.iter().find(|(it, _)| sanitized(it) == name)?.1.as_str().map(str::to_owned)
}

fn clear(pod: &mut Value) {
    let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    let ours = |name: &str| ANNOTATIONS.iter().chain([&TARGETS]).any(|(_, it)| sanitized(name) == *it);
    annotations.retain(|name, _| !ours(name));
}

/// `PORT[:PATH],…`; one that cannot be read counts as none, as in Istio.
fn targets(text: &str) -> Vec<Target> {
    let target = |entry: &str| {
        let (port, path) = entry.split_once(':').unwrap_or((entry, ""));
        let path = if path.trim().is_empty() { "/metrics" } else { path.trim() };
        Target { port: port.trim().to_owned(), path: path.to_owned() }
    };
    let all: Vec<_> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(target).collect();
    if all.iter().any(|it| it.port.is_empty()) { vec![] } else { all }
}

fn check(port: &str, agent: &str) -> Result<(), String> {
    let number: u16 = port.parse().ok().filter(|it| *it != 0).ok_or_else(|| format!("{port:?} is not a port"))?;
    match number.to_string() == agent || RESERVED_PORTS.contains(&number) {
        true => Err(format!("port {port} is the proxy's own")),
        false => Ok(()),
    }
}
