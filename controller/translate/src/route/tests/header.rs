//! `http[].headers` and `http[].route[].headers`.

use super::*;

fn option(name: &str, value: &str, action: Option<&str>) -> Value {
    json!({"header": {"key": name, "value": value}, "appendAction": action})
}

#[test]
fn set_add_and_remove_of_request_and_response() {
    let set = Some("OVERWRITE_IF_EXISTS_OR_ADD");
    let operations = json!({
        "set": {"b": "1", "a": "%REQ(x)%", ":path": "/no"}, "add": {"c": "100%%"}, "remove": ["d", ":method", "Host"],
    });
    let added = json!([option("a", "%REQ(x)%", set), option("b", "1", set), option("c", "100%%", None)]);
    assert_routes([(
        json!({"headers": {"request": operations, "response": operations}}),
        json!({
            "requestHeadersToAdd": added, "requestHeadersToRemove": ["d"],
            "responseHeadersToAdd": added, "responseHeadersToRemove": ["d"],
            "route": {"hostRewriteLiteral": null},
        }),
    )]);
}

#[test]
fn a_single_destinations_headers_follow_the_rules_own() {
    let headers = |name: &str| json!({"request": {"add": {name: "1"}}, "response": {"remove": [name]}});
    assert_routes([(
        json!({"headers": headers("a"), "route": [{"destination": {"host": "reviews"}, "headers": headers("b")}]}),
        json!({
            "requestHeadersToAdd": [option("a", "1", None), option("b", "1", None)],
            "responseHeadersToRemove": ["a", "b"],
        }),
    )]);
}

#[test]
fn a_weighted_destinations_headers_are_its_own() {
    let headers = json!({"request": {"set": {"a": "1", "host": "b.com"}}});
    let to = |headers: Value| json!({"destination": {"host": "reviews"}, "weight": 1, "headers": headers});
    assert_routes([(
        json!({"route": [to(headers), to(json!({}))]}),
        json!({"requestHeadersToAdd": null, "route": {"hostRewriteLiteral": null, "weightedClusters": {"clusters": [
            {"requestHeadersToAdd": [{"header": {"key": "a"}}], "hostRewriteLiteral": "b.com"},
            {"requestHeadersToAdd": null, "hostRewriteLiteral": null},
        ]}}}),
    )]);
}

#[test]
fn the_host_is_rewritten_and_the_rules_own_wins() {
    let request = |value: &str| json!({"request": {"set": {":authority": value}}});
    let single = |headers: Value| json!([{"destination": {"host": "reviews"}, "headers": headers}]);
    assert_routes([
        (json!({"headers": request("a.com")}), json!({"route": {"hostRewriteLiteral": "a.com"}})),
        (json!({"route": single(request("b.com"))}), json!({"route": {"hostRewriteLiteral": "b.com"}})),
        (
            json!({"headers": request("a.com"), "route": single(request("b.com"))}),
            json!({"route": {"hostRewriteLiteral": "a.com"}}),
        ),
        (
            json!({"headers": {"request": {"add": {"Host": "x.com"}, "set": {"Host": "y.com"}}}}),
            json!({"route": {"hostRewriteLiteral": "y.com"}, "requestHeadersToAdd": null}),
        ),
    ]);
}
