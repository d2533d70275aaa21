//! The real Envoy's judgement: resources as one static bootstrap, run with `--mode validate`.
//!
//! A static bootstrap is the strictest reader there is: one wrong resource fails it all. Route tables and load
//! assignments go inline, because Envoy does not subscribe to anything while it validates and so would not look at them.

use crate::golden::Produced;
use anyhow::{Context, Result, bail};
use controller::envoy::bootstrap::{Bootstrap, Role, bootstrap};
use controller::envoy::find::{Envoy, PINNED_OLDEST, Search, find, release};
use controller::up::laptop::LowPorts;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use xds::TypeUrl;

const HTTP_CONNECTION_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Finds Envoy, or fetches it: a missing Envoy is a failed test, never a skipped one.
///
/// # Errors
/// As `navarch up`.
pub fn envoy() -> Result<Envoy> {
    find(&Search::from_environment(None))
}

/// The oldest Envoy that is supported: what it does not know must not be sent.
///
/// # Errors
/// When it cannot be had.
pub fn oldest_envoy() -> Result<Envoy> {
    release(&Search::from_environment(None), &PINNED_OLDEST).map_err(|tried| anyhow::anyhow!(tried.join("; ")))
}

/// Has Envoy judge everything that a proxy is sent.
///
/// # Errors
/// Envoy's own words.
pub fn validate(envoy: &Envoy, produced: &Produced) -> Result<()> {
    let mut file = tempfile::Builder::new().prefix("navarch-golden").suffix(".json").tempfile()?;
    file.write_all(static_bootstrap(produced)?.to_string().as_bytes())?;
    let mut command = Command::new(&envoy.path);
    command.args(["--mode", "validate", "--log-level", "warning", "--concurrency", "1", "--config-path"]);
    let output = command.arg(file.path()).output().with_context(|| format!("cannot run {}", envoy.path.display()))?;
    if !output.status.success() {
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let telling = said.lines().filter(|line| !line.contains("[warning]"));
        bail!("Envoy refuses it: {}", telling.collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

fn static_bootstrap(produced: &Produced) -> Result<Value> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut bootstrap = bootstrap(&Bootstrap {
        role: Role::Sidecar,
        pod: "golden",
        namespace: "default",
        workload: "golden",
        service_account: "default",
        labels: &BTreeMap::new(),
        more_metadata: &BTreeMap::new(),
        ip: nowhere.ip(),
        low_ports: LowPorts::Bindable,
        admin: nowhere,
        xds: nowhere,
    });
    let dynamic = bootstrap["dynamic_resources"].as_object_mut().context("a bootstrap has dynamic resources")?;
    // What refers to ADS may do so; nothing is to be fetched.
    dynamic.retain(|name, _| name == "ads_config");
    let by_name = |kind, key: &str| -> BTreeMap<String, &Value> {
        produced.of(kind).iter().filter_map(|it| Some((it[key].as_str()?.to_owned(), it))).collect()
    };
    let (routes, endpoints) = (by_name(TypeUrl::Route, "name"), by_name(TypeUrl::Endpoint, "clusterName"));
    let resources = &mut bootstrap["static_resources"];
    let clusters = resources["clusters"].as_array_mut().context("a bootstrap has static clusters")?;
    clusters.push(agent());
    clusters.extend(produced.of(TypeUrl::Cluster).iter().map(|it| with_endpoints(it.clone(), &endpoints)));
    let mut listeners = produced.of(TypeUrl::Listener).to_vec();
    let extensions = by_name(TypeUrl::Extension, "name");
    for listener in &mut listeners {
        with_routes(listener, &routes);
        with_extensions(listener, &extensions);
    }
    // A table that no listener names is judged, too.
    listeners.extend(unused(&listeners, &routes));
    resources["listeners"] = listeners.into();
    Ok(bootstrap)
}

/// Where certificates come from, in the bootstraps of proxies that have an agent beside them.
fn agent() -> Value {
    let address = json!({ "pipe": { "path": "./var/run/secrets/workload-spiffe-uds/socket" } });
    let endpoint = json!({ "endpoint": { "address": address } });
    json!({
        "name": "sds-grpc",
        "type": "STATIC",
        "load_assignment": { "cluster_name": "sds-grpc", "endpoints": [ { "lb_endpoints": [ endpoint ] } ] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        } },
    })
}

/// An EDS cluster becomes a static one with the same endpoints; the checks of a load assignment are the same.
fn with_endpoints(mut cluster: Value, endpoints: &BTreeMap<String, &Value>) -> Value {
    if cluster["type"] != "EDS" {
        return cluster;
    }
    let name =
        cluster["edsClusterConfig"]["serviceName"].as_str().or_else(|| cluster["name"].as_str()).unwrap_or_default();
    let assignment = endpoints.get(name).map_or_else(|| json!({ "clusterName": name }), |it| (*it).clone());
    let fields = cluster.as_object_mut().expect("a cluster is an object: its type was just read");
    fields.remove("edsClusterConfig");
    fields.insert("type".to_owned(), "STATIC".into());
    fields.insert("loadAssignment".to_owned(), assignment);
    cluster
}

/// Puts route tables in the place of their names, wherever a connection manager is nested.
fn with_routes(value: &mut Value, routes: &BTreeMap<String, &Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| with_routes(item, routes)),
        Value::Object(fields) => {
            let named = fields.get("rds").and_then(|it| it["routeConfigName"].as_str());
            if let Some(table) = named.and_then(|name| routes.get(name)) {
                let mut table = (*table).clone();
                // The default differs between static tables and those of RDS: there a missing cluster is a 503, only.
                table["validateClusters"] = table["validateClusters"].as_bool().unwrap_or_default().into();
                fields.remove("rds");
                fields.insert("routeConfig".to_owned(), table);
            }
            fields.values_mut().for_each(|field| with_routes(field, routes));
        }
        _ => {}
    }
}

/// Puts what ECDS has in the place of its name. Modules stay names: their files are somewhere else.
fn with_extensions(value: &mut Value, extensions: &BTreeMap<String, &Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| with_extensions(item, extensions)),
        Value::Object(fields) => {
            let named = fields.get("name").and_then(Value::as_str).and_then(|name| extensions.get(name));
            let config = named.map(|it| &it["typedConfig"]).filter(|it| !is_module(it));
            if let Some(config) = config.filter(|_| fields.contains_key("configDiscovery")) {
                fields.remove("configDiscovery");
                fields.insert("typedConfig".to_owned(), config.clone());
            }
            fields.values_mut().for_each(|field| with_extensions(field, extensions));
        }
        _ => {}
    }
}

fn is_module(config: &Value) -> bool {
    config["@type"].as_str().is_some_and(|it| it.ends_with(".wasm.v3.Wasm"))
}

/// A listener for each route table that is not inline anywhere.
fn unused(listeners: &[Value], routes: &BTreeMap<String, &Value>) -> Vec<Value> {
    let text = Value::from(listeners.to_vec()).to_string();
    let spare = routes.iter().filter(|(_, table)| !text.contains(&format!("\"name\":{}", table["name"])));
    let listener = |(at, (name, _)): (usize, (&String, &&Value))| {
        let mut listener = json!({
            "name": format!("route table {name}"),
            "address": { "socketAddress": { "address": "127.0.0.1", "portValue": at + 1 } },
            "filterChains": [ { "filters": [ { "name": "http", "typedConfig": {
                "@type": HTTP_CONNECTION_MANAGER,
                "statPrefix": "http",
                "rds": { "routeConfigName": name },
                "httpFilters": [ { "name": "router", "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } } ],
            } } ] } ],
        });
        with_routes(&mut listener, routes);
        listener
    };
    spare.enumerate().map(listener).collect()
}
