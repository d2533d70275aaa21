//! Every kind of object under every operation, on resources small enough to be read whole.

use super::*;
use crds::{Spec, decode, yaml};
use serde_json::{Value, json};
use xds::json;

const LISTENER: &str = r#"
name: virtualInbound
address: {socketAddress: {address: 0.0.0.0, portValue: 15006}}
listenerFilters:
- {name: envoy.filters.listener.original_dst}
- {name: envoy.filters.listener.tls_inspector}
filterChains:
- name: http
  filterChainMatch: {destinationPort: 8080, transportProtocol: tls, applicationProtocols: [istio, h2], serverNames: [a.com]}
  transportSocket:
    name: envoy.transport_sockets.tls
    typedConfig:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      requireClientCertificate: true
  filters:
  - name: envoy.filters.network.rbac
    typedConfig: {"@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, statPrefix: r}
  - name: envoy.filters.network.http_connection_manager
    typedConfig:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      statPrefix: in
      httpFilters:
      - name: envoy.filters.http.cors
        typedConfig: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
      - name: envoy.filters.http.router
        typedConfig: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, startChildSpan: true}
      routeConfig:
        name: inbound|8080||
        virtualHosts:
        - {name: "inbound|http|8080", domains: ["*"], routes: [{name: default, match: {prefix: /}, route: {cluster: "inbound|8080||"}}]}
- name: tcp
  filters:
  - name: envoy.filters.network.tcp_proxy
    typedConfig: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, statPrefix: t, cluster: t}
"#;

const CLUSTER: &str = r#"
name: outbound|80|v1|a.com
connectTimeout: 1.5s
altStatName: s
transportSocket:
  name: envoy.transport_sockets.tls
  typedConfig: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: a.com}
"#;

const ROUTES: &str = r#"
name: "80"
virtualHosts:
- name: a.com:80
  domains: [a.com]
  routes:
  - {name: first, match: {prefix: /a}, route: {cluster: a}}
  - {name: second, match: {prefix: /b}, redirect: {hostRedirect: b}}
- {name: b.com:80, domains: [b.com], routes: [{name: only, match: {prefix: /}, directResponse: {status: 404}}]}
"#;

fn resource(kind: TypeUrl, text: &str) -> Arc<Resource> {
    let value = yaml::value(text).unwrap();
    let bytes = json::from_json(kind.url(), &value).unwrap();
    Arc::new(Resource::encoded(kind, value["name"].as_str().unwrap(), bytes))
}

fn patches(list: &str) -> (Patches, Vec<String>) {
    let text = format!(
        "{{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {{name: f, namespace: ns}}, spec: {{configPatches: [{list}]}}}}"
    );
    let decoded = decode::checked(yaml::value(&text).unwrap()).pop().unwrap();
    let decode::Outcome::Object(object) = decoded.outcome else { panic!("{text}: {:?}", decoded.problems) };
    let Spec::EnvoyFilter(filter) = &object.spec else { panic!("an EnvoyFilter") };
    let (patches, problems) = Patch::all(&object.key, filter);
    (Patches::new(patches, vec![], BTreeMap::new()), problems.iter().map(ToString::to_string).collect())
}

struct Shown {
    value: Option<Value>,
    hits: usize,
    problems: Vec<String>,
}

fn apply(kind: TypeUrl, text: &str, context: Context, list: &str) -> Shown {
    let (patches, problems) = patches(list);
    assert_eq!(problems, [""; 0], "{list}");
    let applied = patches.apply(context, kind, &resource(kind, text));
    Shown {
        value: applied.resource.map(|it| json::to_json(kind.url(), &it.bytes()).unwrap()),
        hits: applied.hits.len(),
        problems: applied.problems.iter().map(ToString::to_string).collect(),
    }
}

/// The patch, a JSON pointer, and what is there then.
type Case<'a> = (&'a str, &'a str, Value);

fn check(kind: TypeUrl, text: &str, context: Context, cases: &[Case<'_>]) {
    for (patch, pointer, expected) in cases {
        let shown = apply(kind, text, context, patch);
        assert_eq!(shown.problems, [""; 0], "{patch}");
        assert_eq!(shown.hits, 1, "{patch}");
        let value = shown.value.unwrap_or_default();
        let found = names(value.pointer(pointer).unwrap_or(&Value::Null));
        assert_eq!(found, *expected, "{patch}\n{value:#}");
    }
}

/// Lists of named things by their names.
fn names(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.iter().all(|it| it["name"].is_string()) => {
            items.iter().map(|it| it["name"].clone()).collect()
        }
        other => other.clone(),
    }
}

const HTTP_FILTERS: &str = "/filterChains/0/filters/1/typedConfig/httpFilters";
const HOSTS: &str = "/filterChains/0/filters/1/typedConfig/routeConfig/virtualHosts";

const LUA: &str =
    r#"{name: lua, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}"#;
const RBAC: &str = r#"{name: mine, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: x}}"#;
const MINE: &str = "{name: mine}";
const CORS: &str = "envoy.filters.http.cors";
const ROUTER: &str = "envoy.filters.http.router";
const RBACS: &str = "envoy.filters.network.rbac";
const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const DST: &str = "envoy.filters.listener.original_dst";
const TLS: &str = "envoy.filters.listener.tls_inspector";

fn chain(of: &str) -> String {
    format!("match: {{listener: {{filterChain: {{{of}}}}}}}")
}

fn network(name: &str) -> String {
    chain(&format!("filter: {{name: {name}}}"))
}

fn sub(name: &str) -> String {
    chain(&format!("filter: {{name: {MANAGER}, subFilter: {{name: {name}}}}}"))
}

fn on(name: &str) -> String {
    format!("match: {{listener: {{listenerFilter: {name}}}}}")
}

fn case(to: &str, matching: &str, operation: &str, value: &str) -> String {
    let comma = if matching.is_empty() { "" } else { ", " };
    format!("{{applyTo: {to}, {matching}{comma}patch: {{operation: {operation}, value: {value}}}}}")
}

fn check_listener(cases: &[(String, &str, Value)]) {
    let cases: Vec<Case<'_>> =
        cases.iter().map(|(patch, at, expected)| (patch.as_str(), *at, expected.clone())).collect();
    check(TypeUrl::Listener, LISTENER, Context::Inbound, &cases);
}

#[test]
fn listeners_and_listener_filters() {
    check_listener(&[
        (
            case(
                "LISTENER",
                "match: {listener: {name: virtualInbound}}",
                "MERGE",
                "{per_connection_buffer_limit_bytes: 7}",
            ),
            "/perConnectionBufferLimitBytes",
            json!(7),
        ),
        (
            case("LISTENER", "match: {listener: {portNumber: 15006}}", "MERGE", "{stat_prefix: s}"),
            "/statPrefix",
            json!("s"),
        ),
        (case("LISTENER", "", "REMOVE", "{}"), "", Value::Null),
        (
            case("LISTENER", "", "MERGE_AND_REPLACE_LIST", "{listener_filters: [{name: mine}]}"),
            "/listenerFilters",
            json!(["mine"]),
        ),
        (case("LISTENER_FILTER", "", "ADD", MINE), "/listenerFilters", json!([DST, TLS, "mine"])),
        (case("LISTENER_FILTER", "", "INSERT_FIRST", MINE), "/listenerFilters", json!(["mine", DST, TLS])),
        (case("LISTENER_FILTER", &on(TLS), "INSERT_BEFORE", MINE), "/listenerFilters", json!([DST, "mine", TLS])),
        (case("LISTENER_FILTER", &on(DST), "INSERT_AFTER", MINE), "/listenerFilters", json!([DST, "mine", TLS])),
        (case("LISTENER_FILTER", &on(DST), "REPLACE", MINE), "/listenerFilters", json!(["mine", TLS])),
        (case("LISTENER_FILTER", &on(DST), "REMOVE", "{}"), "/listenerFilters", json!([TLS])),
        (
            case("LISTENER_FILTER", &on(DST), "MERGE", "{filter_disabled: {any_match: true}}"),
            "/listenerFilters/0/filterDisabled/anyMatch",
            json!(true),
        ),
    ]);
}

#[test]
fn filter_chains_and_network_filters() {
    check_listener(&[
        (case("FILTER_CHAIN", &chain("name: tcp"), "REMOVE", "{}"), "/filterChains", json!(["http"])),
        (
            case("FILTER_CHAIN", &chain("sni: a.com"), "MERGE", "{metadata: {filter_metadata: {m: {k: v}}}}"),
            "/filterChains/0/metadata/filterMetadata/m/k",
            json!("v"),
        ),
        (
            case(
                "FILTER_CHAIN",
                &chain("name: http"),
                "MERGE",
                r#"{transport_socket: {name: envoy.transport_sockets.tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, session_timeout: 5s}}}"#,
            ),
            "/filterChains/0/transportSocket/typedConfig",
            json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "requireClientCertificate": true, "sessionTimeout": "5s"}),
        ),
        (
            case(
                "FILTER_CHAIN",
                "",
                "ADD",
                r#"{name: mine, filter_chain_match: {destination_port: 1}, filters: [{name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: t}}]}"#,
            ),
            "/filterChains",
            json!(["http", "tcp", "mine"]),
        ),
        (
            case("NETWORK_FILTER", &chain("name: http"), "INSERT_FIRST", RBAC),
            "/filterChains/0/filters",
            json!(["mine", RBACS, MANAGER]),
        ),
        (
            case("NETWORK_FILTER", &network(MANAGER), "INSERT_BEFORE", RBAC),
            "/filterChains/0/filters",
            json!([RBACS, "mine", MANAGER]),
        ),
        (
            case("NETWORK_FILTER", &network(RBACS), "INSERT_AFTER", RBAC),
            "/filterChains/0/filters",
            json!([RBACS, "mine", MANAGER]),
        ),
        (case("NETWORK_FILTER", &network(RBACS), "REPLACE", RBAC), "/filterChains/0/filters", json!(["mine", MANAGER])),
        (case("NETWORK_FILTER", &network(RBACS), "REMOVE", "{}"), "/filterChains/0/filters", json!([MANAGER])),
        (
            case("NETWORK_FILTER", &network("istio.metadata_exchange"), "INSERT_BEFORE", RBAC),
            "/filterChains/0/filters",
            json!([RBACS, "mine", MANAGER]),
        ),
        (
            case(
                "NETWORK_FILTER",
                &network(MANAGER),
                "MERGE",
                r#"{name: envoy.filters.network.http_connection_manager, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, server_name: me}}"#,
            ),
            "/filterChains/0/filters/1/typedConfig/serverName",
            json!("me"),
        ),
    ]);
}

#[test]
fn http_filters() {
    check_listener(&[
        (case("HTTP_FILTER", &sub(ROUTER), "INSERT_BEFORE", LUA), HTTP_FILTERS, json!([CORS, "lua", ROUTER])),
        (case("HTTP_FILTER", &sub(CORS), "INSERT_AFTER", LUA), HTTP_FILTERS, json!([CORS, "lua", ROUTER])),
        (
            case("HTTP_FILTER", &chain("destinationPort: 8080"), "INSERT_FIRST", LUA),
            HTTP_FILTERS,
            json!(["lua", CORS, ROUTER]),
        ),
        (
            case("HTTP_FILTER", "match: {listener: {portNumber: 8080}}", "INSERT_BEFORE", LUA),
            HTTP_FILTERS,
            json!(["lua", CORS, ROUTER]),
        ),
        (case("HTTP_FILTER", &sub(CORS), "REPLACE", LUA), HTTP_FILTERS, json!(["lua", ROUTER])),
        (case("HTTP_FILTER", &sub(CORS), "REMOVE", "{}"), HTTP_FILTERS, json!([ROUTER])),
        (case("HTTP_FILTER", &sub("istio.stats"), "INSERT_BEFORE", LUA), HTTP_FILTERS, json!([CORS, "lua", ROUTER])),
        (
            case("HTTP_FILTER", &chain("applicationProtocols: 'istio,h2'"), "INSERT_FIRST", LUA),
            HTTP_FILTERS,
            json!(["lua", CORS, ROUTER]),
        ),
        (
            case(
                "HTTP_FILTER",
                &chain("transportSocket: envoy.transport_sockets.tls, sni: a.com, transportProtocol: tls"),
                "INSERT_FIRST",
                LUA,
            ),
            HTTP_FILTERS,
            json!(["lua", CORS, ROUTER]),
        ),
        (
            case(
                "HTTP_FILTER",
                &sub(ROUTER),
                "MERGE",
                r#"{typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false}}"#,
            ),
            "/filterChains/0/filters/1/typedConfig/httpFilters/1/typedConfig",
            json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "startChildSpan": true, "dynamicStats": false}),
        ),
        (
            format!("{{applyTo: HTTP_FILTER, patch: {{operation: ADD, filterClass: STATS, value: {LUA}}}}}"),
            HTTP_FILTERS,
            json!([CORS, "lua", ROUTER]),
        ),
        (
            format!("{{applyTo: HTTP_FILTER, patch: {{operation: ADD, filterClass: AUTHN, value: {LUA}}}}}"),
            HTTP_FILTERS,
            json!(["lua", CORS, ROUTER]),
        ),
    ]);
}

#[test]
fn inbound_routes_stand_in_their_listeners() {
    check_listener(&[
        (
            case(
                "VIRTUAL_HOST",
                "match: {context: SIDECAR_INBOUND, routeConfiguration: {portNumber: 8080}}",
                "MERGE",
                "{include_request_attempt_count: true}",
            ),
            &format!("{HOSTS}/0/includeRequestAttemptCount"),
            json!(true),
        ),
        (
            case(
                "HTTP_ROUTE",
                "match: {routeConfiguration: {vhost: {route: {name: default}}}}",
                "MERGE",
                "{route: {timeout: 3s}}",
            ),
            &format!("{HOSTS}/0/routes/0/route/timeout"),
            json!("3s"),
        ),
    ]);
}

#[test]
fn clusters() {
    let socket = |name: &str| {
        format!(
            r#"{{transport_socket: {{name: {name}, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, allow_renegotiation: true}}}}}}"#
        )
    };
    let merge = |matching: &str, value: &str| {
        format!("{{applyTo: CLUSTER, match: {{cluster: {{{matching}}}}}, patch: {{operation: MERGE, value: {value}}}}}")
    };
    let any = |value: &str| merge("", value);
    let sni = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    let cases = [
        (any("{connect_timeout: 2s}"), "/connectTimeout", json!("2s")),
        (merge("service: a.com, portNumber: 80, subset: v1", "{connect_timeout: 2s}"), "/connectTimeout", json!("2s")),
        (
            merge("name: 'outbound|80|v1|a.com', service: other", "{connect_timeout: 2s}"),
            "/connectTimeout",
            json!("2s"),
        ),
        (
            any(&socket("envoy.transport_sockets.tls")),
            "/transportSocket/typedConfig",
            json!({"@type": sni, "sni": "a.com", "allowRenegotiation": true}),
        ),
        (any(&socket("other")), "/transportSocket/typedConfig", json!({"@type": sni, "allowRenegotiation": true})),
        ("{applyTo: CLUSTER, patch: {operation: REMOVE}}".to_owned(), "", Value::Null),
    ];
    let cases: Vec<Case<'_>> =
        cases.iter().map(|(patch, at, expected)| (patch.as_str(), *at, expected.clone())).collect();
    check(TypeUrl::Cluster, CLUSTER, Context::Outbound, &cases);
    for matching in ["subset: v2", "service: b.com", "portNumber: 81", "name: a"] {
        let shown = apply(TypeUrl::Cluster, CLUSTER, Context::Outbound, &merge(matching, "{connect_timeout: 2s}"));
        assert_eq!((shown.hits, &shown.value.unwrap()["connectTimeout"]), (0, &json!("1.500s")), "{matching}");
    }
}

#[test]
fn routes_and_virtual_hosts() {
    let case = |to: &str, matching: &str, operation: &str, value: &str| {
        format!(
            "{{applyTo: {to}, match: {{routeConfiguration: {{{matching}}}}}, patch: {{operation: {operation}, value: {value}}}}}"
        )
    };
    let route = "{name: mine, match: {prefix: /m}, route: {cluster: m}}";
    let of = |route: &str| format!("vhost: {{name: a.com:80, route: {{{route}}}}}");
    let (hosts, routes) = ("/virtualHosts", "/virtualHosts/0/routes");
    let cases = [
        (
            case("ROUTE_CONFIGURATION", "name: '80'", "MERGE", "{max_direct_response_body_size_bytes: 9}"),
            "/maxDirectResponseBodySizeBytes",
            json!(9),
        ),
        (
            case("VIRTUAL_HOST", "portNumber: 80", "ADD", "{name: mine, domains: [c.com]}"),
            hosts,
            json!(["a.com:80", "b.com:80", "mine"]),
        ),
        (case("VIRTUAL_HOST", "vhost: {name: b.com:80}", "REMOVE", "{}"), hosts, json!(["a.com:80"])),
        (
            case("VIRTUAL_HOST", "vhost: {domainName: b.com}", "REPLACE", "{name: mine, domains: [b.com]}"),
            hosts,
            json!(["a.com:80", "mine"]),
        ),
        (
            case("VIRTUAL_HOST", "vhost: {name: b.com:80}", "MERGE", "{domains: [d.com]}"),
            "/virtualHosts/1/domains",
            json!(["b.com", "d.com"]),
        ),
        (case("HTTP_ROUTE", "vhost: {name: a.com:80}", "ADD", route), routes, json!(["first", "second", "mine"])),
        (
            case("HTTP_ROUTE", "vhost: {name: a.com:80}", "INSERT_BEFORE", route),
            routes,
            json!(["mine", "first", "second"]),
        ),
        (case("HTTP_ROUTE", &of("name: second"), "INSERT_BEFORE", route), routes, json!(["first", "mine", "second"])),
        (case("HTTP_ROUTE", &of("name: first"), "INSERT_AFTER", route), routes, json!(["first", "mine", "second"])),
        (case("HTTP_ROUTE", &of("name: second"), "INSERT_FIRST", route), routes, json!(["mine", "first", "second"])),
        (case("HTTP_ROUTE", &of("action: REDIRECT"), "REMOVE", "{}"), routes, json!(["first"])),
        (
            case("HTTP_ROUTE", &of("action: ROUTE"), "MERGE", "{route: {timeout: 1s}}"),
            "/virtualHosts/0/routes/0/route",
            json!({"cluster": "a", "timeout": "1s"}),
        ),
        (
            case("HTTP_ROUTE", "vhost: {route: {action: DIRECT_RESPONSE}}", "REMOVE", "{}"),
            "/virtualHosts/1/routes",
            Value::Null,
        ),
    ];
    let cases: Vec<Case<'_>> =
        cases.iter().map(|(patch, at, expected)| (patch.as_str(), *at, expected.clone())).collect();
    check(TypeUrl::Route, ROUTES, Context::Outbound, &cases);
    for matching in ["name: '81'", "portNumber: 81", "vhost: {name: c}", "vhost: {route: {name: third}}"] {
        let shown =
            apply(TypeUrl::Route, ROUTES, Context::Outbound, &case("HTTP_ROUTE", matching, "INSERT_FIRST", route));
        assert_eq!(shown.hits, 0, "{matching}");
    }
}

#[test]
fn contexts_decide_and_additions_are_made_once() {
    let patch = |context: &str, operation: &str| {
        format!(
            "{{applyTo: CLUSTER, match: {{context: {context}}}, patch: {{operation: {operation}, value: {{name: mine, connect_timeout: 1s}}}}}}"
        )
    };
    let all = [Context::Inbound, Context::Outbound, Context::Gateway];
    for (context, of, added) in [
        ("ANY", [true, true, true], [false, true, true]),
        ("SIDECAR_INBOUND", [true, false, false], [true, false, false]),
        ("SIDECAR_OUTBOUND", [false, true, false], [false, true, false]),
        ("GATEWAY", [false, false, true], [false, false, true]),
        ("WAYPOINT", [false; 3], [false; 3]),
    ] {
        let (remove, _) = patches(&patch(context, "REMOVE"));
        let (add, _) = patches(&patch(context, "ADD"));
        let resource = resource(TypeUrl::Cluster, CLUSTER);
        let removed = all.map(|it| remove.apply(it, TypeUrl::Cluster, &resource).resource.is_none());
        assert_eq!(removed, of, "{context}");
        assert_eq!(all.map(|it| !add.added(it, TypeUrl::Cluster).is_empty()), added, "{context}");
    }
}

#[test]
fn gateways_routes_are_found_by_port_and_gateway() {
    let (patches, _) = patches(
        "{applyTo: ROUTE_CONFIGURATION, match: {context: GATEWAY, routeConfiguration: {portNumber: 443, portName: https-a, gateway: ns/gw}}, patch: {operation: MERGE, value: {max_direct_response_body_size_bytes: 9}}}",
    );
    let services =
        Patches::new(patches.of.values().flatten().cloned().collect(), vec![], [(8443, [443].into())].into());
    for (name, found) in [
        ("https.8443.https-a.gw.ns", [false, true]),
        ("https.443.https-a.gw.ns", [true, true]),
        ("https.443.https-b.gw.ns", [false, false]),
        ("http.443", [false, false]),
    ] {
        let routes = resource(TypeUrl::Route, &format!("{{name: {name}}}"));
        let hits = [&patches, &services].map(|it| it.apply(Context::Gateway, TypeUrl::Route, &routes).hits.len() == 1);
        assert_eq!(hits, found, "{name}");
    }
}

#[test]
fn what_envoy_would_refuse_is_left_out_alone() {
    let good = "{applyTo: LISTENER, patch: {operation: MERGE, value: {stat_prefix: s}}}";
    let lua = r#"{name: lua, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}"#;
    let manager = "match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}";
    for (bad, why) in [
        (format!("{{applyTo: HTTP_FILTER, patch: {{operation: ADD, value: {lua}}}}}"), "INSERT_BEFORE envoy.filters.http.router"),
        (format!("{{applyTo: NETWORK_FILTER, {manager}, patch: {{operation: INSERT_AFTER, value: {{name: mine}}}}}}"), "must be the last one"),
        ("{applyTo: FILTER_CHAIN, match: {listener: {filterChain: {name: tcp}}}, patch: {operation: MERGE, value: {filter_chain_match: {destination_port: 8080, transport_protocol: tls, application_protocols: [istio, h2], server_names: [a.com]}}}}".into(), "another one matches"),
        ("{applyTo: LISTENER, patch: {operation: MERGE, value: {name: other}}}".into(), "its name must stay"),
        ("{applyTo: VIRTUAL_HOST, match: {routeConfiguration: {portNumber: 8080}}, patch: {operation: ADD, value: {name: mine, domains: ['*']}}}".into(), "has the domain"),
        ("{applyTo: LISTENER_FILTER, patch: {operation: ADD, value: {}}}".into(), "listener_filters[2].name"),
    ] {
        let shown = apply(TypeUrl::Listener, LISTENER, Context::Inbound, &format!("{bad}, {good}"));
        let value = shown.value.unwrap();
        assert_eq!(value["statPrefix"], "s", "{bad}: the good one is in force");
        assert_eq!(shown.problems.len(), 1, "{bad}: {:?}", shown.problems);
        assert!(shown.problems[0].contains("EnvoyFilter ns/f: spec.configPatches[0]"), "{:?}", shown.problems);
        assert!(shown.problems[0].contains(why), "{bad}: {:?}", shown.problems);
        let alone = apply(TypeUrl::Listener, LISTENER, Context::Inbound, good);
        assert_eq!(value, alone.value.unwrap(), "{bad}");
    }
}

#[test]
fn values_that_are_no_message_of_envoys() {
    for (value, why) in [
        ("{nam: a}", "nam"),
        ("{name: 5}", "not a envoy.config.cluster.v3.Cluster"),
        (r#"{name: a, transport_socket: {name: t, typed_config: {"@type": type.googleapis.com/no.Such}}}"#, "no.Such"),
    ] {
        let (patches, problems) =
            patches(&format!("{{applyTo: CLUSTER, patch: {{operation: MERGE, value: {value}}}}}"));
        assert_eq!(problems.len(), 1, "{value}: {problems:?}");
        assert!(problems[0].contains("spec.configPatches[0].patch.value") && problems[0].contains(why), "{problems:?}");
        // A field that is not known may be a newer Envoy's: it alone is passed over.
        assert_eq!(patches.is_empty(), why != "nam", "{value}");
    }
}

#[test]
fn proxies_are_told_apart_by_version_and_metadata() {
    let metadata: BTreeMap<String, String> = [("CLUSTER_ID".to_owned(), "a".to_owned())].into();
    for (proxy, selected) in [
        ("{}", true),
        ("{proxyVersion: '^1\\.31.*'}", true),
        ("{proxyVersion: '^1\\.30.*'}", false),
        ("{metadata: {CLUSTER_ID: a}}", true),
        ("{metadata: {CLUSTER_ID: b}}", false),
        ("{metadata: {OTHER: ''}}", false),
    ] {
        let (patches, _) =
            patches(&format!("{{applyTo: CLUSTER, match: {{proxy: {proxy}}}, patch: {{operation: REMOVE}}}}"));
        let client = Client { version: Some("1.31.0"), metadata: &metadata };
        assert_eq!(patches.of.values().flatten().all(|it| it.selects(client)), selected, "{proxy}");
        let unknown = Client { version: None, ..client };
        assert_eq!(
            patches.of.values().flatten().all(|it| it.selects(unknown)),
            selected && !proxy.contains("Version"),
            "{proxy}"
        );
    }
}
