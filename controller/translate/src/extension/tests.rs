//! Where filters go, by phase, priority, port and direction.

use super::*;
use crds::{Spec, decode, yaml};
use serde_json::Value;
use xds::{TypeUrl, json};

const LISTENER: &str = r#"
name: virtualInbound
address: {socketAddress: {address: 0.0.0.0, portValue: 15006}}
filterChains:
- {name: virtualInbound-blackhole, filterChainMatch: {destinationPort: 15006}, filters: [{name: tcp}]}
- name: any
  filters: [{name: tcp}]
- name: http
  filterChainMatch: {destinationPort: 8080}
  filters:
  - {name: envoy.filters.network.rbac}
  - name: envoy.filters.network.http_connection_manager
    typedConfig:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      statPrefix: in
      httpFilters:
      - {name: envoy.filters.http.jwt_authn}
      - {name: envoy.filters.http.rbac}
      - {name: envoy.filters.http.router}
"#;

fn extension(name: &str, spec: &str) -> Arc<Extension> {
    let text = format!(
        "{{apiVersion: extensions.istio.io/v1alpha1, kind: TrafficExtension, metadata: {{name: {name}, namespace: ns}}, spec: {spec}}}"
    );
    let object = decode::object(yaml::value(&text).unwrap()).into_object().unwrap();
    let Spec::TrafficExtension(spec) = &object.spec else { panic!("a TrafficExtension") };
    Arc::new(Extension::new(&object.key, spec).unwrap())
}

/// The names of the filters of each chain, those of a connection manager in brackets; and how many extensions hit.
fn filters(context: Context, listener: &str, extensions: &[(&str, &str)]) -> (Vec<String>, usize) {
    let value = yaml::value(listener).unwrap();
    let bytes = json::from_json(TypeUrl::Listener.url(), &value).unwrap();
    let mut listener = Listener::decode(&*bytes).unwrap();
    let mut extensions: Vec<_> = extensions.iter().map(|(name, spec)| extension(name, spec)).collect();
    extensions.sort_by_key(|it| it.order());
    let hits = apply(&mut listener, context, &extensions);
    let shown = json::to_json(TypeUrl::Listener.url(), &xds::canonical::encode(&listener)).unwrap();
    let chains = shown["filterChains"].as_array().unwrap().iter();
    let shown = chains.map(|it| format!("{}: {}", it["name"].as_str().unwrap(), names(&it["filters"])));
    (shown.collect(), hits.len())
}

fn names(list: &Value) -> String {
    let name = |it: &Value| {
        let name = it["name"].as_str().unwrap().rsplit(['.', '/']).next().unwrap().to_owned();
        match &it["typedConfig"]["httpFilters"] {
            Value::Null => name,
            inner => format!("[{}]", names(inner)),
        }
    };
    list.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn phases_and_priorities_order_http_filters() {
    let lua = "lua: {inlineCode: a}";
    let (chains, hits) = filters(
        Context::Inbound,
        LISTENER,
        &[
            ("last", &format!("{{{lua}}}")),
            ("stats", &format!("{{{lua}, phase: STATS}}")),
            ("low", &format!("{{{lua}, phase: AUTHZ, priority: -3}}")),
            ("high", &format!("{{{lua}, phase: AUTHZ, priority: 10}}")),
            ("none", &format!("{{{lua}, phase: AUTHZ}}")),
            ("first", &format!("{{{lua}, phase: AUTHN}}")),
        ],
    );
    let http = "http: rbac [first jwt_authn high low none rbac stats last router]";
    assert_eq!(chains, ["virtualInbound-blackhole: tcp", "any: tcp", http]);
    assert_eq!(hits, 6);
}

#[test]
fn network_filters_are_for_all_chains() {
    let wasm = "wasm: {url: 'file:///a.wasm', type: NETWORK}";
    let (chains, hits) = filters(
        Context::Inbound,
        LISTENER,
        &[("after", &format!("{{{wasm}}}")), ("before", &format!("{{{wasm}, phase: AUTHZ}}"))],
    );
    let http = "http: before rbac after [jwt_authn rbac router]";
    assert_eq!(chains, ["virtualInbound-blackhole: tcp", "any: before after tcp", http]);
    assert_eq!(hits, 2);
}

#[test]
fn ports_and_directions_match() {
    let outbound = LISTENER.replace("virtualInbound\n", "0.0.0.0_15006\n");
    let lua = |matching: &str| format!("{{lua: {{inlineCode: a}}, match: [{matching}]}}");
    for (context, matching, expected) in [
        (Context::Inbound, "{mode: SERVER}", 1),
        (Context::Inbound, "{mode: CLIENT}", 0),
        (Context::Inbound, "{mode: CLIENT_AND_SERVER}", 1),
        (Context::Inbound, "{ports: [{number: 8080}]}", 1),
        (Context::Inbound, "{ports: [{number: 15006}]}", 0),
        (Context::Inbound, "{mode: CLIENT}, {mode: SERVER, ports: [{number: 1}, {number: 8080}]}", 1),
        (Context::Outbound, "{mode: SERVER}", 0),
        (Context::Outbound, "{mode: CLIENT}", 1),
        (Context::Outbound, "{ports: [{number: 8080}]}", 0),
        (Context::Outbound, "{ports: [{number: 15006}]}", 1),
        (Context::Gateway, "{mode: CLIENT, ports: [{number: 15006}]}", 1),
        (Context::Gateway, "{mode: SERVER}", 0),
    ] {
        let listener = if context == Context::Inbound { LISTENER } else { &outbound };
        let (_, hits) = filters(context, listener, &[("a", &lua(matching))]);
        assert_eq!(hits, expected, "{context:?} {matching}");
    }
    let unknown = LISTENER.replace("virtualInbound\n", "virtualOutbound\n");
    assert_eq!(filters(Context::Outbound, &unknown, &[("a", &lua(""))]).1, 0);
}
