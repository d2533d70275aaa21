//! Which rules make routes, and what a service has without any.

use super::*;

fn client(labels: &BTreeMap<String, String>) -> Client<'_> {
    Client { gateway: "mesh", namespace: "books", labels, kind: ProxyKind::Sidecar }
}

fn to(name: &str, matches: Value) -> Value {
    json!({"name": name, "match": matches, "route": [{"destination": {"host": "reviews"}}]})
}

fn names(http: Value) -> Vec<String> {
    let (routes, problems) = Mesh::new().routes(&http);
    assert_eq!(problems, [""; 0]);
    routes.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_match_is_a_route_and_a_catch_all_ends_them() {
    let path = |path: &str| json!({"uri": {"prefix": path}});
    for (http, expected) in [
        (json!([to("a", json!([path("/a"), path("/b")])), to("b", json!([]))]), vec!["a", "a", "b"]),
        (json!([to("a", json!([])), to("b", json!([path("/b")]))]), vec!["a"]),
        (json!([to("a", json!([path("/"), path("/b")])), to("b", json!([]))]), vec!["a"]),
        (json!([to("a", json!([{"uri": {"regex": ".*"}}])), to("b", json!([]))]), vec!["a"]),
        (json!([to("a", json!([{"uri": {"prefix": "/"}, "headers": {"x": {}}}])), to("b", json!([]))]), vec!["a", "b"]),
        (json!([to("a", json!([{"port": 1}])), to("b", json!([]))]), vec!["b"]),
        (json!([{"name": "a", "delegate": {"name": "x"}}, to("b", json!([]))]), vec!["b"]),
    ] {
        assert_eq!(names(http.clone()), expected, "{http}");
    }
}

#[test]
fn a_service_without_rules_has_the_default_route() {
    let labels = BTreeMap::new();
    let host = Mesh::new().virtual_host("reviews", None, &client(&labels)).resource;
    assert_eq!(
        (host.name.as_str(), host.domains.as_slice(), host.include_request_attempt_count),
        ("test", &["test".into()][..], true)
    );
    assert_part(
        &json!(json_of(&host.routes)),
        &json!([{
            "name": "default", "match": {"prefix": "/", "caseSensitive": null}, "metadata": null,
            "decorator": {"operation": "reviews.books.svc.cluster.local:9080/*"},
            "route": {
                "cluster": "outbound|9080||reviews.books.svc.cluster.local", "timeout": "0s", "maxGrpcTimeout": "0s",
                "retryPolicy": {"numRetries": 2}, "hashPolicy": null,
            },
        }]),
        "",
    );
}

#[test]
fn the_default_route_hashes_as_the_services_rule_says() {
    let labels = BTreeMap::new();
    let host = Mesh::new().virtual_host("sticky", None, &client(&labels)).resource;
    assert_eq!(json_of(&host.routes)[0]["route"]["hashPolicy"], json!([{"header": {"headerName": "x-user"}}]));
}

#[test]
fn rules_of_which_none_applies_leave_a_service_its_default_route() {
    let labels = BTreeMap::new();
    let spec = json!({"http": [to("a", json!([{"port": 1}]))]});
    let host = Mesh::new().virtual_host("reviews", Some(spec.clone()), &client(&labels)).resource;
    assert_eq!(host.routes[0].name, "default");
    assert_eq!(host.routes.len(), 1);
    let host = Mesh::new().virtual_host("", Some(spec), &client(&labels)).resource;
    assert_eq!(host.routes, [], "a host that only the VirtualService knows has none");
}

#[test]
fn rules_are_not_followed_by_the_default_route() {
    let labels = BTreeMap::new();
    let spec = json!({"http": [to("a", json!([{"uri": {"exact": "/a"}}]))]});
    let host = Mesh::new().virtual_host("reviews", Some(spec), &client(&labels)).resource;
    assert_eq!(host.routes.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a"]);
}
