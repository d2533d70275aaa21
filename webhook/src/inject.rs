//! A pod in, the same pod with its proxy out: Istio's injection without anything around it.
//!
//! The pod is kept as JSON, so that fields this version does not know pass through untouched; what is added is built
//! from typed objects and merged the way Kubernetes merges. The steps, in [`inject`]: decide, take back an earlier
//! injection, render the templates, lay them under what the user says of the proxy, and finish what no template can do
//! (metrics, probes, order).

mod annotation;
mod config;
mod container;
mod decide;
mod function;
mod gateway;
mod input;
mod order;
mod overlay;
mod pod;
mod probe;
mod prometheus;
mod proxy_config;
mod sidecar;
mod strategic;
mod template;
mod undo;
mod workload;

pub use config::{Config, ConfigError, NativeSidecars, Options, Texts};
pub use decide::{Candidate, Decision, HostNetwork, SYSTEM_NAMESPACES, Skip, decide};
pub use proxy_config::ProxyConfigs;

use serde_json::{Value, json};
use std::collections::BTreeMap;

const PROXY: &str = "istio-proxy";
const INIT: &str = "istio-init";
const VALIDATION: &str = "istio-validation";

/// What comes with the pod: from the API server's request and from the URL it called.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The pod's namespace; a pod being created may not have it in its metadata yet.
    pub namespace: String,
    /// Environment for the proxy, from the URL: `ISTIO_META_CLUSTER_ID` and `ISTIO_META_NETWORK` above all.
    pub environment: BTreeMap<String, String>,
    /// The workload, where the caller knows it. Otherwise it is read from the pod's owner.
    pub workload: Option<Workload>,
}

/// What the pod belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// Why a pod that should be injected is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the pod cannot be read: {0}")]
    Pod(String),
    #[error("annotation {name}: {reason}")]
    Annotation { name: String, reason: String },
    #[error("template {name}: {reason}")]
    Template { name: String, reason: String },
}

/// The injected pod, or why it is left alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Injected(Value),
    Skipped(Skip),
}

/// Decides and injects. `pod` is as the API server sends it; the result differs from it only by what injection adds.
pub fn inject(pod: &Value, request: &Request, config: &Config) -> Result<Outcome, Refusal> {
    if !pod["spec"].is_object() {
        return Err(Refusal::Pod("it has no spec".into()));
    }
    let (labels, annotations) = (input::map(pod, "/metadata/labels"), input::map(pod, "/metadata/annotations"));
    let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).filter(|it| !it.is_empty());
    let candidate = Candidate {
        namespace: namespace.unwrap_or(&request.namespace),
        host_network: if pod["spec"]["hostNetwork"] == true { HostNetwork::Yes } else { HostNetwork::No },
        labels: &labels,
        annotations: &annotations,
    };
    if let Decision::Skip(why) = decide(&candidate, config) {
        return Ok(Outcome::Skipped(why));
    }
    annotation::validate(&annotations)?;
    let status_port = config.mesh.scalar("defaultConfig.statusPort").and_then(|it| it.parse().ok()).unwrap_or(15020);
    let undone = undo::undo(pod, status_port)?;
    let input = input::Input::new(&undone.pod, request, config)?;
    let names = template::selected(&input);
    let overlays: Result<Vec<_>, Refusal> = names.iter().map(|name| template::overlay(name, &input)).collect();
    let laid = overlay::lay(undone, &overlays?);
    let mut pod = laid.pod;
    finish(&mut pod, &laid.template, &input, request)?;
    let typed = serde_json::from_value::<k8s_openapi::api::core::v1::PodSpec>(pod["spec"].clone());
    typed.map_err(|error| Refusal::Template {
        name: names.join(","),
        reason: format!("the pod is none any more: {error}"),
    })?;
    Ok(Outcome::Injected(pod))
}

/// What depends on the whole pod and cannot be said in a template.
fn finish(pod: &mut Value, template: &Value, input: &input::Input<'_>, request: &Request) -> Result<(), Refusal> {
    environment(pod, input, request);
    prometheus::merge(pod, input)?;
    prometheus::secure_port(pod);
    let own = pod::annotation(pod, annotation::REWRITE_PROBES).and_then(annotation::parse_bool);
    let by_default = input.config.values.text("sidecarInjectorWebhook.rewriteAppHTTPProbe", "true") == "true";
    if own.unwrap_or(by_default) {
        probe::rewrite(pod, input.status_port());
    }
    if let Some(network) = request.environment.get("ISTIO_META_NETWORK") {
        let labels = pod::fields(pod::fields(pod, "metadata"), "labels");
        // A pod that says where it is knows better than the URL.
        if labels.get("topology.istio.io/network").is_none() {
            labels["topology.istio.io/network"] = network.as_str().into();
        }
    }
    pod::set_annotation(pod, annotation::STATUS, status(template, input));
    for (name, value) in &input.config.injector.injected_annotations {
        // Taken out first, so that they stand last after every injection.
        pod::remove_annotation(pod, name);
        pod::set_annotation(pod, name, value);
    }
    order::order(pod, if input.holds_application() { order::Hold::Yes } else { order::Hold::No });
    Ok(())
}

/// The URL's environment. Cluster and network are the pod's label, the URL's or the values', in this order.
fn environment(pod: &mut Value, input: &input::Input<'_>, request: &Request) {
    let mut environment = request.environment.clone();
    let network = input.labels.get("topology.istio.io/network").cloned();
    if let Some(network) = network {
        environment.insert("ISTIO_META_NETWORK".into(), network);
    }
    if let Some(proxy) = pod::proxy_mut(pod) {
        environment.iter().for_each(|(name, value)| pod::set_env(proxy, name, value));
    }
}

/// What was added, as Istio and its tools read it; also how [`undo`] knows.
fn status(template: &Value, input: &input::Input<'_>) -> String {
    let names = |list: &str| match template["spec"][list].as_array() {
        Some(items) if !items.is_empty() => items.iter().map(|it| it["name"].clone()).collect(),
        _ => Value::Null,
    };
    let revision = &input.config.options.revision;
    json!({
        "initContainers": names("initContainers"),
        "containers": names("containers"),
        "volumes": names("volumes"),
        "imagePullSecrets": names("imagePullSecrets"),
        "revision": if revision.is_empty() { "default" } else { revision },
    })
    .to_string()
}

#[cfg(test)]
mod tests;
