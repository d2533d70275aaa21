//! Route tables of gateways.

use super::super::gateway::{GatewayRoutesInput, virtual_hosts};
use super::*;
use model::gateway::{HttpServer, ServerHost};

fn server(gateway: &str, hosts: &[&str], https_redirect: bool) -> HttpServer {
    HttpServer {
        gateway: ObjectKey::new(Kind::Gateway, "edge", gateway),
        hosts: hosts.iter().map(|it| ServerHost::parse(it, &"edge".into())).collect(),
        https_redirect,
    }
}

fn bound(name: &str, hosts: &[&str], http: Value) -> RouteRules {
    rules(name, json!({"hosts": hosts, "gateways": ["edge/gw", "edge/other"], "http": http}))
}

/// One route to a path of `reviews`, or to all of it.
fn to(name: &str, path: Option<&str>) -> Value {
    let matches: Vec<Value> = path.into_iter().map(|it| json!({"uri": {"prefix": it}})).collect();
    json!({"name": name, "match": matches, "route": [{"destination": {"host": "reviews"}}]})
}

fn made(servers: Vec<HttpServer>, rules: &[(&str, &RouteRules)]) -> Translated<Vec<VirtualHost>> {
    let mesh = Mesh::new();
    virtual_hosts(&GatewayRoutesInput {
        servers: &servers,
        port: 80,
        https: false,
        rules,
        destinations: &mesh.destinations(),
        namespace: "edge",
        labels: &BTreeMap::new(),
        listener_port: 8080,
        mesh: &mesh.config,
    })
}

/// Name, domains, names of routes, and whether TLS is required.
type Seen = (String, Vec<String>, Vec<String>, bool);

fn seen(servers: Vec<HttpServer>, rules: &[(&str, &RouteRules)]) -> Vec<Seen> {
    let hosts = made(servers, rules).resource.into_iter();
    hosts
        .map(|it| (it.name, it.domains, it.routes.into_iter().map(|it| it.name).collect(), it.require_tls == 2))
        .collect()
}

fn expected(name: &str, domains: &[&str], routes: &[&str], tls: bool) -> Seen {
    let owned = |list: &[&str]| list.iter().map(|it| it.to_string()).collect();
    (name.into(), owned(domains), owned(routes), tls)
}

#[test]
fn hosts_are_what_server_and_virtual_service_share() {
    for (served, hosts, shared) in [
        (&["*"][..], &["a.com"][..], &["a.com"][..]),
        (&["a.com"], &["*"], &["a.com"]),
        (&["*.com"], &["*.a.com"], &["*.a.com"]),
        (&["books/a.com"], &["a.com"], &["a.com"]),
        (&["*/a.com"], &["a.com"], &["a.com"]),
        (&["./a.com"], &["a.com"], &[]),
        (&["a.com"], &["b.com"], &[]),
        (&["a.com", "b.com"], &["*.com"], &["a.com", "b.com"]),
        (&["*"], &["A.com"], &["a.com"]),
    ] {
        let rules = bound("vs", hosts, json!([to("r", None)]));
        let got: Vec<_> = seen(vec![server("gw", served, false)], &[("edge/gw", &rules)]);
        match shared {
            [] => assert_eq!(got, [expected("blackhole:80", &["*"], &[], false)], "{served:?} {hosts:?}"),
            _ => assert_eq!(got, [expected(&format!("{}:80", shared[0]), shared, &["r"], false)]),
        }
    }
}

#[test]
fn a_port_that_nobody_binds_answers_404() {
    let rules = bound("vs", &["a.com"], json!([to("r", None)]));
    let black_hole = [expected("blackhole:80", &["*"], &[], false)];
    assert_eq!(seen(vec![server("gw", &["a.com"], false)], &[]), black_hole);
    assert_eq!(seen(vec![server("gw", &["a.com"], false)], &[("edge/other", &rules)]), black_hole);
    let elsewhere =
        bound("vs", &["a.com"], json!([{"match": [{"port": 81}], "route": [{"destination": {"host": "reviews"}}]}]));
    assert_eq!(seen(vec![server("gw", &["a.com"], false)], &[("edge/gw", &elsewhere)]), black_hole);
}

#[test]
fn several_virtual_services_of_a_host_are_joined_and_catch_alls_come_last() {
    let old = bound("old", &["a.com"], json!([to("old/x", Some("/x")), to("old", None)]));
    let new = bound("new", &["a.com", "b.com"], json!([to("new/y", Some("/y")), to("new", None)]));
    assert_eq!(
        seen(vec![server("gw", &["*"], false)], &[("edge/gw", &old), ("edge/gw", &new)]),
        [
            expected("a.com:80", &["a.com"], &["old/x", "new/y", "old", "new"], false),
            expected("b.com:80", &["b.com"], &["new/y", "new"], false),
        ]
    );
}

#[test]
fn hosts_of_equal_routes_share_the_virtual_host_of_the_most_specific() {
    let rules = bound("vs", &["*.com", "a.com", "long.a.com"], json!([to("r", None)]));
    assert_eq!(
        seen(vec![server("gw", &["*"], false)], &[("edge/gw", &rules)]),
        [expected("long.a.com:80", &["long.a.com", "a.com", "*.com"], &["r"], false)]
    );
}

#[test]
fn no_domain_is_in_two_virtual_hosts() {
    let rules = bound("vs", &["a.com", "*"], json!([to("r", None)]));
    let servers = vec![server("gw", &["a.com"], false), server("gw", &["*"], false), server("other", &["a.com"], true)];
    let got = seen(servers, &[("edge/gw", &rules), ("edge/other", &rules)]);
    let mut domains: Vec<_> = got.iter().flat_map(|it| &it.1).collect();
    domains.sort();
    assert_eq!(domains, ["*", "a.com"]);
}

#[test]
fn https_redirect_requires_tls_of_bound_and_unbound_hosts() {
    let rules = bound("vs", &["a.com"], json!([to("r", None)]));
    assert_eq!(
        seen(
            vec![server("gw", &["a.com", "b.com", "c.com"], true), server("gw", &["d.com"], false)],
            &[("edge/gw", &rules)]
        ),
        [expected("a.com:80", &["a.com"], &["r"], true), expected("b.com:80", &["b.com", "c.com"], &[], true)]
    );
}

#[test]
fn matches_are_decided_for_the_gateway_and_its_servers_port() {
    let route = |name: &str, from: Value| json!({"name": name, "match": [from], "route": [{"destination": {"host": "reviews"}}]});
    let rules = bound(
        "vs",
        &["a.com"],
        json!([
            route("mesh", json!({"gateways": ["mesh"]})),
            route("other", json!({"gateways": ["edge/other"]})),
            route("gw", json!({"gateways": ["edge/gw"], "uri": {"exact": "/1"}})),
            route("server port", json!({"port": 80, "uri": {"exact": "/2"}})),
            route("listener port", json!({"port": 8080})),
            route("namespace", json!({"sourceNamespace": "edge"})),
        ]),
    );
    let got = seen(vec![server("gw", &["a.com"], false)], &[("edge/gw", &rules)]);
    assert_eq!(got, [expected("a.com:80", &["a.com"], &["gw", "server port", "namespace"], false)]);
}

#[test]
fn virtual_hosts_count_attempts_and_problems_name_the_virtual_service() {
    let rules = bound("vs", &["a.com"], json!([{"route": [{"destination": {"host": "nobody"}}]}]));
    let made = made(vec![server("gw", &["a.com"], false)], &[("edge/gw", &rules)]);
    assert!(made.resource[0].include_request_attempt_count);
    assert_eq!(made.resource[0].routes.len(), 1);
    assert_eq!(
        made.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "VirtualService books/vs: spec.http[0].route[0].destination.host: host nobody.books.svc.cluster.local is not known to the mesh"
        ]
    );
}
