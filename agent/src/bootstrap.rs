//! The bootstrap Envoy is started with, as Istio's agent writes it: everything dynamic comes over the agent's two
//! sockets. Pure; proto JSON of `envoy.config.bootstrap.v3.Bootstrap`.

pub mod stats;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::environment::{Environment, Protocol};
use crate::node::node;

/// Where the agent's sockets are, as Envoy is to open them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sockets<'a> {
    /// Certificates.
    pub secrets: &'a str,
    /// Configuration.
    pub discovery: &'a str,
}

/// More than a pod serves; a loop in a user's routes would otherwise eat all file descriptors.
const CONNECTIONS_MAX: u32 = 1 << 20;

/// The whole bootstrap.
#[must_use]
pub fn bootstrap(of: &Environment, sockets: Sockets<'_>) -> Value {
    let mut whole = json!({
        "application_log_config": { "log_format": { "text_format": LOG_FORMAT } },
        "node": node(of),
        "admin": {
            "access_log": [ {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/null",
                },
            } ],
            "profile_path": "/var/lib/istio/data/envoy.prof",
            "address": socket_address(&localhost(of), of.proxy_config.admin_port),
        },
        "layered_runtime": { "layers": [
            { "name": "global config", "static_layer": runtime(of) },
            { "name": "admin", "admin_layer": {} },
        ] },
        "bootstrap_extensions": [ {
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                "buffer_size_kb": 64,
            },
        } ],
        "stats_config": stats::stats_config(&of.proxy_config),
        "cluster_manager": { "enable_deferred_cluster_creation": true },
        "default_regex_engine": regex_engine(),
        "overload_manager": overload_manager(connections_max(of)),
        "dynamic_resources": dynamic_resources(of),
        "static_resources": {
            "clusters": [
                tcp_cluster("prometheus_stats", &localhost(of), of.proxy_config.admin_port),
                tcp_cluster("agent", &localhost(of), of.proxy_config.status_port),
                socket_cluster("sds-grpc", sockets.secrets),
                socket_cluster("xds-grpc", sockets.discovery),
            ],
            "listeners": [
                listener(of, of.envoy_prometheus_port, "stats", "/stats/prometheus", "prometheus_stats"),
                listener(of, of.envoy_status_port, "agent", "/healthz/ready", "agent"),
            ],
        },
    });
    if !of.flags.outlier_log_path.is_empty() {
        whole["cluster_manager"]["outlier_detection"] = json!({ "event_log_path": of.flags.outlier_log_path });
    }
    whole
}

/// The one that Istio's expressions are written for.
#[must_use]
pub fn regex_engine() -> Value {
    json!({
        "name": "envoy.regex_engines.google_re2",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2" },
    })
}

/// A bound on connections must be there: Envoy warns about none, and a loop in a user's routes would otherwise take all
/// file descriptors.
#[must_use]
pub fn overload_manager(connections_max: impl Into<Value>) -> Value {
    json!({ "resource_monitors": [ {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": connections_max.into(),
        },
    } ] })
}

/// As Istio's proxies log, so that what collects their logs goes on working.
const LOG_FORMAT: &str = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t";

/// Istio's settings, the user's over them; an empty text removes one.
fn runtime(of: &Environment) -> Value {
    let mut layer = Map::new();
    // Istio accepts larger programs than Envoy's default of 100.
    layer.insert("re2.max_program_size.error_level".to_owned(), json!("32768"));
    layer.insert("envoy.reloadable_features.http_reject_path_with_fragment".to_owned(), json!(false));
    for (key, value) in &of.proxy_config.runtime_values {
        if value.is_empty() {
            layer.remove(key);
        } else if key != CONNECTIONS_MAX_KEY {
            // "true" and "5" are meant as what they look like.
            let value = serde_json::from_str(value).ok().filter(|it: &Value| it.is_boolean() || it.is_number());
            let text = || json!(of.proxy_config.runtime_values[key]);
            layer.insert(key.clone(), value.unwrap_or_else(text));
        }
    }
    Value::Object(layer)
}

/// Replaced by the overload manager in Envoy, and still how users ask for a limit.
const CONNECTIONS_MAX_KEY: &str = "overload.global_downstream_max_connections";

fn connections_max(of: &Environment) -> u32 {
    let asked = of.proxy_config.runtime_values.get(CONNECTIONS_MAX_KEY).and_then(|text| text.parse().ok());
    asked.filter(|number| *number > 0).unwrap_or(CONNECTIONS_MAX)
}

fn dynamic_resources(of: &Environment) -> Value {
    // 0s: a slow first answer means "wait", never "start without configuration".
    let ads = || json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let protocol = match of.discovery.protocol {
        Protocol::Delta => "DELTA_GRPC",
        Protocol::State => "GRPC",
    };
    json!({
        "lds_config": ads(),
        "cds_config": ads(),
        "ads_config": {
            "api_type": protocol,
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [ { "envoy_grpc": { "cluster_name": "xds-grpc" } } ],
        },
    })
}

fn tcp_cluster(name: &str, address: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": load_assignment(name, &socket_address(address, port)),
    })
}

/// HTTP/2 over one of the agent's sockets. The agent is always there: only the kernel's socket buffer is in between.
fn socket_cluster(name: &str, path: &str) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": load_assignment(name, &json!({ "pipe": { "path": path } })),
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        } },
        "circuit_breakers": { "thresholds": [
            { "priority": "DEFAULT", "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000 },
            { "priority": "HIGH", "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000 },
        ] },
    })
}

fn load_assignment(name: &str, address: &Value) -> Value {
    json!({
        "cluster_name": name,
        "endpoints": [ { "lb_endpoints": [ { "endpoint": { "address": address } } ] } ],
    })
}

/// One path to one cluster, on all addresses of the pod's families.
fn listener(of: &Environment, port: u16, stat_prefix: &str, path: &str, cluster: &str) -> Value {
    let (first, others) = wildcards(of);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "AUTO",
        "stat_prefix": stat_prefix,
        "route_config": { "virtual_hosts": [ {
            "name": "backend",
            "domains": [ "*" ],
            "routes": [ { "match": { "prefix": path }, "route": { "cluster": cluster } } ],
        } ] },
        "http_filters": [ {
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        } ],
    });
    let mut listener = json!({
        "address": socket_address(first, port),
        "filter_chains": [ { "filters": [
            { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager },
        ] } ],
        // Scrapes and probes are no reason to refuse them at the limit of connections, or users' connections for them.
        "ignore_global_conn_limit": true,
    });
    if let Some(second) = others {
        listener["additional_addresses"] = json!([ { "address": socket_address(second, port) } ]);
    }
    listener
}

fn wildcards(of: &Environment) -> (&'static str, Option<&'static str>) {
    let wildcard = |ip: &IpAddr| if ip.is_ipv6() { "::" } else { "0.0.0.0" };
    let first = wildcard(&of.pod.ip());
    (first, of.pod.ips.iter().map(wildcard).find(|other| *other != first))
}

/// localhost in the family of the pod's first address.
fn localhost(of: &Environment) -> String {
    if of.pod.ip().is_ipv6() { "::1".to_owned() } else { "127.0.0.1".to_owned() }
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}
