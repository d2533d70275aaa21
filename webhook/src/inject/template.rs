//! Which templates a pod gets, and what each adds to it: `sidecar` and `gateway` are built in, users' own are Go
//! templates in the ConfigMap, as in Istio. A text in the ConfigMap under a built-in's name replaces it.

use super::annotation as a;
use super::config::{Config, NativeSidecars};
use super::container::PROXY_USER;
use super::input::{Input, Interception};
use super::{Refusal, function, gateway, sidecar};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Istio's functions, and the getters of Go's messages that templates call on what are plain fields here.
pub(super) fn engine(environment: &BTreeMap<String, String>) -> go_template::Engine {
    let environment = Arc::new(environment.clone());
    let mut engine = go_template::Engine::new();
    for name in function::NAMES {
        let environment = environment.clone();
        engine = engine.function(name, move |args| function::call(name, args, &environment));
    }
    let same = |args: &[Value]| Ok(args.first().cloned().unwrap_or_default());
    engine = engine.method("String", same).method("GetValue", same).method("Value", same);
    for (getter, field) in GETTERS {
        engine = engine.method(getter, move |args| Ok(args.first().map_or(Value::Null, |it| it[field].clone())));
    }
    engine
}

const GETTERS: [(&str, &str); 6] = [
    ("GetTracing", "Tracing"),
    ("GetTlsSettings", "TlsSettings"),
    ("GetCaCertificates", "CaCertificates"),
    ("GetDefaultConfig", "DefaultConfig"),
    ("GetStatusPort", "StatusPort"),
    ("GetTrustDomain", "TrustDomain"),
];

/// Names in the order in which they are applied.
pub(super) fn selected(input: &Input<'_>) -> Vec<String> {
    let injector = &input.config.injector;
    let asked = input.annotations.get(a::TEMPLATES).map(|it| it.split(',').map(|it| it.trim().to_owned()).collect());
    let names: Vec<String> = match asked {
        Some(names) => names,
        None if injector.default_templates.is_empty() => vec!["sidecar".into()],
        None => injector.default_templates.clone(),
    };
    let aliased = |name: String| injector.aliases.get(&name).cloned().unwrap_or_else(|| vec![name]);
    names.into_iter().flat_map(aliased).collect()
}

/// What the template lays over the pod.
pub(super) fn overlay(name: &str, input: &Input<'_>) -> Result<Value, Refusal> {
    let refusal = |reason: String| Refusal::Template { name: name.to_owned(), reason };
    let mut overlay = match (input.config.templates.get(name), name) {
        (Some(template), _) => {
            let text = template.render(name, &context(input)).map_err(|error| refusal(error.to_string()))?;
            crds::yaml::value(&text).map_err(|error| refusal(format!("what it gives is not YAML: {error}")))?
        }
        (None, "sidecar") => typed(&sidecar::sidecar(input)?).map_err(refusal)?,
        (None, "gateway") => typed(&gateway::gateway(input)).map_err(refusal)?,
        (None, _) => return Err(refusal(unknown(input.config))),
    };
    if overlay.is_null() {
        overlay = Value::Object(Map::new());
    }
    let Some(fields) = overlay.as_object_mut() else { return Err(refusal("it gives no pod".into())) };
    // Null would delete: a template whose conditions all failed must not take the pod's spec with it.
    fields.retain(|name, value| (name == "metadata" || name == "spec") && !value.is_null());
    Ok(overlay)
}

fn typed(pod: &k8s_openapi::api::core::v1::Pod) -> Result<Value, String> {
    let mut value = serde_json::to_value(pod).map_err(|error| error.to_string())?;
    if let Some(spec) = value["spec"].as_object_mut() {
        spec.retain(|_, it| it.as_array().is_none_or(|it| !it.is_empty()));
    }
    Ok(value)
}

fn unknown(config: &Config) -> String {
    let own = config.injector.templates.keys().map(String::as_str);
    let all: BTreeSet<_> = own.chain(["gateway", "sidecar"]).collect();
    format!("there is none of that name, only {}", all.into_iter().collect::<Vec<_>>().join(", "))
}

/// What a template sees: Istio's `SidecarTemplateData`, under Go's names.
pub(super) fn context(input: &Input<'_>) -> Value {
    let options = &input.config.options;
    let mut spec = function::exported(&json!(input.spec));
    for list in ["Containers", "InitContainers", "Volumes", "ImagePullSecrets", "Tolerations"] {
        if spec[list].is_null() {
            spec[list] = json!([]);
        }
    }
    for name in ["ServiceAccountName", "NodeName", "HostNetwork", "RestartPolicy"] {
        if spec[name].is_null() {
            spec[name] = if name == "HostNetwork" { false.into() } else { "".into() };
        }
    }
    let inbound = input.config.mesh.text("inboundTrafficPolicy.mode", "PASSTHROUGH").to_lowercase();
    json!({
        "TypeMeta": { "APIVersion": input.workload.api_version, "Kind": input.workload.kind },
        "DeploymentMeta": { "Name": input.workload.name, "Namespace": input.namespace },
        "ObjectMeta": {
            "Name": input.name,
            "Namespace": input.namespace,
            "Labels": input.labels,
            "Annotations": input.annotations,
        },
        "Spec": spec,
        "ProxyConfig": proxy_config(input),
        "MeshConfig": mesh_config(input),
        "Values": input.config.values.0,
        "Revision": options.revision,
        "NativeSidecars": options.native_sidecars == NativeSidecars::Native,
        "ProxyImage": input.proxy_image(),
        "ProxyInitImage": input.init_image(),
        "ProxyUID": PROXY_USER,
        "ProxyGID": PROXY_USER,
        "InboundTrafficPolicyMode": if inbound == "localhost" { "localhost" } else { "passthrough" },
        "CompliancePolicy": options.compliance_policy,
    })
}

/// What Go has when nothing is set is set.
fn proxy_config(input: &Input<'_>) -> Value {
    let mut config = function::exported(&input.proxy.0);
    if !config.is_object() {
        config = json!({});
    }
    let mode = match input.proxy.filled("interceptionMode").as_deref() {
        Some("TPROXY") => Interception::Tproxy,
        Some("NONE") => Interception::None,
        _ => Interception::Redirect,
    };
    config["InterceptionMode"] = match mode {
        Interception::Redirect => "REDIRECT",
        Interception::Tproxy => "TPROXY",
        Interception::None => "NONE",
    }
    .into();
    let hold = input.proxy.is("holdApplicationUntilProxyStarts");
    config["HoldApplicationUntilProxyStarts"] = hold.into();
    if config["ProxyMetadata"].is_null() {
        config["ProxyMetadata"] = json!({});
    }
    config
}

fn mesh_config(input: &Input<'_>) -> Value {
    let mut config = function::exported(&input.config.mesh.0);
    if !config.is_object() {
        config = json!({});
    }
    config["TrustDomain"] = input.trust_domain().into();
    config
}
