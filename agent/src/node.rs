//! Who a proxy says it is: the node of its bootstrap, which the control plane chooses configuration by. Pure.

use serde_json::{Map, Value, json};

use crate::environment::{Drain, Environment, Role};

/// The Istio whose proxies ours say they are: control planes and EnvoyFilters choose features by it.
pub const ISTIO_VERSION: &str = "1.30.0";

/// What is asked for a version gets this one: those who ask, such as Kiali, compare it with Istio's.
pub const VERSION: &str = concat!("1.30.0", "-navarch.", env!("CARGO_PKG_VERSION"));

const META: &str = "ISTIO_META_";
const META_JSON: &str = "ISTIO_METAJSON_";
/// Labels of VM images; its entries are labels, not metadata.
const META_LABELS: &str = "ISTIO_METAJSON_LABELS";
/// `region/zone/subzone`, with dots where labels allow no slashes.
const LOCALITY_LABEL: &str = "istio-locality";

/// `envoy.config.core.v3.Node`, in proto JSON.
#[must_use]
pub fn node(of: &Environment) -> Value {
    let mut node = json!({ "id": id(of), "cluster": cluster(of), "metadata": metadata(of) });
    if let Some(locality) = of.pod.labels.get(LOCALITY_LABEL) {
        let separator = if locality.contains('/') { '/' } else { '.' };
        let mut parts = locality.splitn(3, separator);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        node["locality"] = json!({ "region": part(), "zone": part(), "sub_zone": part() });
    }
    node
}

/// `TYPE~IP~POD.NAMESPACE~DOMAIN`
#[must_use]
pub fn id(of: &Environment) -> String {
    let kind = match of.flags.role {
        Role::Sidecar => "sidecar",
        Role::Router => "router",
    };
    let (pod, namespace) = (&of.pod.name, &of.pod.namespace);
    format!("{kind}~{}~{pod}.{namespace}~{}", of.pod.ip(), domain(of))
}

/// `--domain`; without the flag, `NAMESPACE.svc.cluster.local`.
#[must_use]
pub fn domain(of: &Environment) -> String {
    match of.flags.domain.as_str() {
        "" => format!("{}.svc.cluster.local", of.pod.namespace),
        domain => domain.to_owned(),
    }
}

fn cluster(of: &Environment) -> String {
    let namespace = &of.pod.namespace;
    match (of.flags.service_cluster.as_str(), of.proxy_config.service_cluster.as_str()) {
        ("" | "istio-proxy", "istio-proxy") => {
            let app = of.pod.labels.get("app").filter(|app| !app.is_empty());
            format!("{}.{namespace}", app.map_or("istio-proxy", String::as_str))
        }
        ("" | "istio-proxy", configured) => configured.to_owned(),
        (flag, _) => flag.to_owned(),
    }
}

fn metadata(of: &Environment) -> Value {
    let mut all = Map::new();
    let mut set = |key: &str, value: Value| all.insert(key.to_owned(), value);
    set("ISTIO_VERSION", json!(ISTIO_VERSION));
    set("CLUSTER_ID", json!(of.pod.cluster_id));
    for (name, value) in &of.variables {
        if let Some(key) = name.strip_prefix(META).filter(|key| !key.is_empty()) {
            set(key, json!(value));
        }
    }
    for (name, value) in of.variables.iter().filter(|(name, _)| name.starts_with(META_JSON) && *name != META_LABELS) {
        match serde_json::from_str(value) {
            Ok(Value::Object(entries)) => entries.into_iter().for_each(|(key, value)| {
                set(&key, value);
            }),
            _ => tracing::warn!(name, "is not a JSON object and is left out of the node's metadata"),
        }
    }
    set("NAME", json!(of.pod.name));
    set("NAMESPACE", json!(of.pod.namespace));
    set("SERVICE_ACCOUNT", json!(of.pod.service_account));
    let ips: Vec<String> = of.pod.ips.iter().map(ToString::to_string).collect();
    set("INSTANCE_IPS", json!(ips.join(",")));
    let mut labels = of.pod.labels.clone();
    let told = of.variables.get(META_LABELS).and_then(|text| serde_json::from_str(text).ok());
    if let Some(Value::Object(told)) = told {
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let told: Vec<(String, String)> = told.into_iter().map(|(key, value)| (key, text(value))).collect();
        set("STATIC_LABELS", told.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
        labels.extend(told);
    }
    set("LABELS", json!(labels));
    set("ANNOTATIONS", json!(of.pod.annotations));
    set("PROXY_CONFIG", of.proxy_config.json.clone());
    set("PILOT_SAN", json!([of.discovery.server.name]));
    set("ENVOY_STATUS_PORT", json!(of.envoy_status_port));
    set("ENVOY_PROMETHEUS_PORT", json!(of.envoy_prometheus_port));
    if matches!(of.drain, Drain::WhenIdle { .. }) {
        set("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", json!("true"));
    }
    if !of.flags.outlier_log_path.is_empty() {
        set("OUTLIER_LOG_PATH", json!(of.flags.outlier_log_path));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    #[test]
    fn the_nodes_parts_come_from_the_pod() {
        let files = [
            ("./etc/istio/pod/labels", "app=\"reviews\"\nistio-locality=\"a.b.c\"\n"),
            ("./etc/istio/pod/annotations", "x/y=\"z\"\n"),
        ];
        let variables = [("ISTIO_META_NETWORK", "n1"), ("ISTIO_METAJSON_X", r#"{"DEEP":{"a":1}}"#)];
        let node = node(&environment(Role::Sidecar, &variables, &files).unwrap());
        assert_eq!(node["id"], "sidecar~10.0.0.5~reviews-1.books~books.svc.cluster.local");
        assert_eq!(node["cluster"], "reviews.books");
        assert_eq!(node["locality"], json!({ "region": "a", "zone": "b", "sub_zone": "c" }));
        let metadata = &node["metadata"];
        assert_eq!(metadata["LABELS"]["app"], "reviews");
        assert_eq!(metadata["ANNOTATIONS"]["x/y"], "z");
        assert_eq!(metadata["NETWORK"], "n1");
        assert_eq!(metadata["DEEP"]["a"], 1);
        assert_eq!(metadata["INSTANCE_IPS"], "10.0.0.5");
        assert_eq!(metadata["PROXY_CONFIG"]["statusPort"], 15020);
    }

    #[test]
    fn a_variable_cannot_take_the_pods_own_name() {
        let node = node(&environment(Role::Router, &[("ISTIO_META_NAMESPACE", "kube-system")], &[]).unwrap());
        assert_eq!(node["metadata"]["NAMESPACE"], "books");
        assert_eq!(node["cluster"], "istio-proxy.books");
        assert!(node["id"].as_str().unwrap().starts_with("router~"));
    }
}
