//! The bootstrap that starts an Envoy as Istio's agent would: the same node id and metadata (what the control plane
//! and EnvoyFilters select by), the same stats tags (what dashboards query by), ADS over the delta protocol.
//!
//! Shapes: `envoy.config.bootstrap.v3.Bootstrap` in proto JSON; what Istio puts there is in `istio.md` 2.9 and 4.2.

use crate::up::laptop::LowPorts;
use agent::bootstrap::{overload_manager, regex_engine, stats};
pub use agent::node::ISTIO_VERSION;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// More connections than a laptop has; a bound must be there (Envoy warns about none, and a loop in a user's routes
/// would otherwise eat all file descriptors).
const CONNECTIONS_MAX: u32 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Sidecar,
    Gateway,
}

/// What tells one Envoy's bootstrap from another's.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    pub role: Role,
    pub pod: &'a str,
    pub namespace: &'a str,
    /// The Deployment's name.
    pub workload: &'a str,
    pub service_account: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// Of the node; what it says by itself counts more.
    pub more_metadata: &'a BTreeMap<String, String>,
    pub ip: IpAddr,
    pub low_ports: LowPorts,
    pub admin: SocketAddr,
    pub xds: SocketAddr,
}

/// The whole bootstrap, in proto JSON.
pub fn bootstrap(of: &Bootstrap<'_>) -> Value {
    json!({
        "node": node(of),
        "admin": { "address": socket_address(of.admin) },
        "layered_runtime": { "layers": [
            { "name": "global config", "static_layer": {
                // Istio accepts larger programs than Envoy's default of 100.
                "re2.max_program_size.error_level": 32768,
                "envoy.reloadable_features.http_reject_path_with_fragment": false,
            } },
            { "name": "admin", "admin_layer": {} },
        ] },
        "stats_config": stats_config(),
        "cluster_manager": { "enable_deferred_cluster_creation": true },
        "default_regex_engine": regex_engine(),
        "overload_manager": overload_manager(CONNECTIONS_MAX),
        "dynamic_resources": {
            "lds_config": ads(),
            "cds_config": ads(),
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [ { "envoy_grpc": { "cluster_name": "xds-grpc" } } ],
            },
        },
        "static_resources": { "clusters": [ xds_cluster(of.xds) ] },
    })
}

fn node(of: &Bootstrap<'_>) -> Value {
    let kind = match of.role {
        Role::Sidecar => "sidecar",
        Role::Gateway => "router",
    };
    let Bootstrap { pod, namespace, workload, ip, .. } = of;
    let mut node = json!({
        "id": format!("{kind}~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        "cluster": format!("{workload}.{namespace}"),
        "metadata": {
            "NAME": pod,
            "NAMESPACE": namespace,
            "WORKLOAD_NAME": workload,
            "OWNER": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}"),
            "SERVICE_ACCOUNT": of.service_account,
            "LABELS": of.labels,
            "INSTANCE_IPS": ip.to_string(),
            "INTERCEPTION_MODE": "NONE",
            // Istio then has no listeners on ports below 1024 that would be bound.
            "UNPRIVILEGED_POD": (of.low_ports == LowPorts::Raised).to_string(),
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local",
            "ISTIO_VERSION": ISTIO_VERSION,
            // Nobody beside it signs any: it neither speaks nor expects mutual TLS.
            (model::proxy::NO_CERTIFICATES): "true",
        },
    });
    if let Some(metadata) = node["metadata"].as_object_mut() {
        for (name, value) in of.more_metadata {
            metadata.entry(name).or_insert_with(|| value.as_str().into());
        }
    }
    node
}

/// Istio's tags and inclusion list, and with them the counters that `navarch up` shows: requests per cluster (and so
/// per subset), per listener and per HTTP connection manager.
fn stats_config() -> Value {
    let prefixes = [
        "reporter=",
        "cluster_manager",
        "listener_manager",
        "server",
        "cluster.",
        "listener.",
        "http.",
        "tcp.",
        "istio",
        "component",
    ];
    let patterns: Vec<Value> = (prefixes.iter().map(|it| json!({ "prefix": it })))
        .chain(stats::SUFFIXES.iter().map(|it| json!({ "suffix": it })))
        .chain([json!({ "safe_regex": { "regex": r"vhost\..*\.route\..*" } })])
        .collect();
    json!({
        "use_all_default_tags": false,
        "stats_tags": stats::tags(),
        "stats_matcher": { "inclusion_list": { "patterns": patterns } },
    })
}

/// Keepalives find a control plane that is gone without a FIN within half a minute.
fn xds_cluster(address: SocketAddr) -> Value {
    json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [ { "lb_endpoints": [ { "endpoint": { "address": socket_address(address) } } ] } ],
        },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {
                "connection_keepalive": { "interval": "20s", "timeout": "10s" },
            } },
        } },
        "upstream_connection_options": { "tcp_keepalive": { "keepalive_time": 300 } },
        "circuit_breakers": { "thresholds": [
            { "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000 },
        ] },
    })
}

fn ads() -> Value {
    // 0s: a slow first answer means "wait", never "start without configuration" (X-rules of reliability.md 2.2).
    json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" })
}

fn socket_address(of: SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::find::{self, Search};
    use std::process::Command;

    fn example(role: Role, labels: &BTreeMap<String, String>) -> Value {
        bootstrap(&Bootstrap {
            role,
            pod: "reviews-v1-0",
            namespace: "books",
            workload: "reviews-v1",
            service_account: "bookinfo-reviews",
            labels,
            more_metadata: &[("NAME", "mine"), ("TIER", "1")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            ip: "127.9.0.1".parse().unwrap(),
            low_ports: LowPorts::Raised,
            admin: "127.9.0.2:15000".parse().unwrap(),
            xds: "127.9.255.254:15010".parse().unwrap(),
        })
    }

    #[test]
    fn the_node_is_istios() {
        let labels = BTreeMap::from([("app".to_owned(), "reviews".to_owned())]);
        let node = &example(Role::Sidecar, &labels)["node"];
        assert_eq!(node["id"], "sidecar~127.9.0.1~reviews-v1-0.books~books.svc.cluster.local");
        assert_eq!(node["metadata"]["NAME"], "reviews-v1-0");
        assert_eq!(node["metadata"]["TIER"], "1");
        assert_eq!(node["metadata"]["LABELS"]["app"], "reviews");
        assert_eq!(node["metadata"]["INTERCEPTION_MODE"], "NONE");
        assert_eq!(node["metadata"]["INSTANCE_IPS"], "127.9.0.1");
        assert_eq!(node["metadata"]["UNPRIVILEGED_POD"], "true");
        assert!(example(Role::Gateway, &labels)["node"]["id"].as_str().unwrap().starts_with("router~"));
    }

    #[test]
    fn a_real_envoy_accepts_it() {
        let envoy = find::find(&Search::from_environment(None)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for role in [Role::Sidecar, Role::Gateway] {
            let path = directory.path().join("bootstrap.json");
            std::fs::write(&path, example(role, &BTreeMap::new()).to_string()).unwrap();
            let output = Command::new(&envoy.path)
                .args(["--mode", "validate", "--log-level", "warn", "--config-path"])
                .arg(&path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            // Deprecated fields and unknown runtime keys come as warnings.
            assert!(!said.contains("deprecated") && !said.contains("[warning]"), "{said}");
        }
    }
}
