//! What Envoy would refuse is left out alone; what the client does not know keeps its name.

use super::*;

const TO: &str = r#"[{"destination": {"host": "reviews"}}]"#;

/// The field and reason of the only problem of a rule, and how many routes it makes beside a good one.
#[track_caller]
fn assert_problem(mut rule: Value, routes: usize, problem: &str) {
    if rule.get("route").is_none() {
        rule["route"] = serde_json::from_str(TO).unwrap();
    }
    let matches = rule.get("match").cloned().unwrap_or(json!([{"uri": {"prefix": "/a"}}]));
    rule["match"] = matches;
    let good: Value = serde_json::from_str(TO).unwrap();
    let (made, problems) = Mesh::new().routes(&json!([rule, {"name": "good", "route": good}]));
    assert_eq!((made.len(), problems.len()), (routes + 1, 1), "{rule} {problems:?}");
    assert!(problems[0].starts_with(problem), "{problems:?} does not start with {problem}");
    assert_eq!(made[routes]["name"], "good");
}

#[test]
fn a_route_with_an_invalid_regex_is_dropped_alone() {
    let broken = json!({"regex": "("});
    for (from, field) in [
        (json!({"uri": broken}), "uri"),
        (json!({"uri": {"regex": ""}}), "uri"),
        (json!({"method": broken}), "method"),
        (json!({"headers": {"a": broken}}), "headers.a"),
        (json!({"withoutHeaders": {"a": {"regex": "(?=x)"}}}), "withoutHeaders.a"),
        (json!({"queryParams": {"a": broken}}), "queryParams.a"),
        (json!({"headers": {"@request.auth.claims.a": broken}}), "headers.@request.auth.claims.a"),
    ] {
        assert_problem(json!({"match": [from]}), 0, &format!("spec.http[0].match[0].{field}: invalid regex (RE2)"));
    }
    let rewrite = json!({"rewrite": {"uriRegexRewrite": {"match": "(", "rewrite": "x"}}});
    assert_problem(rewrite, 0, "spec.http[0].rewrite.uriRegexRewrite.match: invalid regex (RE2)");
}

#[test]
fn one_bad_match_costs_no_other_of_its_rule() {
    let rule = json!({"match": [{"uri": {"regex": "("}}, {"uri": {"exact": "/b"}}]});
    assert_problem(rule, 1, "spec.http[0].match[0].uri: invalid regex");
}

#[test]
fn values_that_envoy_refuses_drop_their_route() {
    let big = "x".repeat((1 << 20) + 1);
    for (fields, problem) in [
        (json!({"match": [{"headers": {"": {}}}]}), "match[0].headers.: a header has no name"),
        (json!({"match": [{"headers": {"a": {"prefix": ""}}}]}), "match[0].headers.a: the prefix is empty"),
        (json!({"match": [{"queryParams": {"": {}}}]}), "match[0].queryParams.: a query parameter's name"),
        (json!({"redirect": {"redirectCode": 304}}), "redirect.redirectCode: 304 is none of"),
        (json!({"redirect": {"port": 70000}}), "redirect.port: 70000 is not a port"),
        (json!({"redirect": {"authority": "a\nb"}}), "redirect.authority: \"a\\nb\" contains a line end"),
        (json!({"directResponse": {"status": 100}}), "directResponse.status: 100 is not a status"),
        (
            json!({"directResponse": {"status": 200, "body": {"string": big}}}),
            "directResponse.body: the body has 1048577",
        ),
        (json!({"directResponse": {"status": 200, "body": {"bytes": "!"}}}), "directResponse.body.bytes: not base64"),
        (json!({"headers": {"request": {"set": {"a": "50%"}}}}), "headers.request.set.a: \"50%\": a % is neither"),
        (json!({"headers": {"response": {"add": {"a": "%req%"}}}}), "headers.response.add.a: \"%req%\": a %"),
        (json!({"headers": {"request": {"remove": [""]}}}), "headers.request.remove[0]: a header has no name"),
        (json!({"rewrite": {"uri": "/a\r"}}), "rewrite.uri: "),
        (json!({"timeout": "87000000h"}), "timeout: longer than the 292 years"),
        (json!({"retries": {"attempts": 1, "perTryTimeout": "87000000h"}}), "retries.perTryTimeout: longer than"),
        (json!({"route": []}), ": there is no route, redirect or directResponse"),
    ] {
        let dot = if problem.starts_with(':') { "" } else { "." };
        assert_problem(fields, 0, &format!("spec.http[0]{dot}{problem}"));
    }
}

#[test]
fn weights_that_envoy_refuses_drop_their_route() {
    let to = |weights: &[i64]| {
        let route = |weight: &i64| json!({"destination": {"host": "reviews"}, "weight": weight});
        json!({"route": weights.iter().map(route).collect::<Vec<_>>()})
    };
    assert_problem(to(&[0, 0]), 0, "spec.http[0].route: the sum of the weights is 0");
    assert_problem(to(&[1, -1]), 0, "spec.http[0].route[1].weight: the weight -1 is negative");
    let max = i64::from(i32::MAX);
    assert_problem(to(&[max, max, max]), 0, "spec.http[0].route[2].weight: the sum of the weights exceeds");
}

#[test]
fn unknown_destinations_keep_their_clusters_name() {
    for (destination, cluster, problem) in [
        (
            json!({"host": "nobody"}),
            "outbound|9080||nobody.books.svc.cluster.local",
            "host: host nobody.books.svc.cluster.local is not known to the mesh",
        ),
        (
            json!({"host": "reviews", "subset": "v9"}),
            "outbound|9080|v9|reviews.books.svc.cluster.local",
            "subset: subset v9 of reviews.books.svc.cluster.local is defined by no DestinationRule",
        ),
        (
            json!({"host": "reviews", "port": {"number": 1}}),
            "outbound|1||reviews.books.svc.cluster.local",
            "port: host reviews.books.svc.cluster.local has no port 1",
        ),
    ] {
        let http = json!([{"route": [{"destination": destination}]}]);
        let (routes, problems) = Mesh::new().routes(&http);
        assert_eq!(routes[0]["route"]["cluster"], cluster);
        assert_eq!(problems, [format!("spec.http[0].route[0].destination.{problem}")]);
    }
    let bad = json!({"route": [{"destination": {"host": "reviews", "port": {"number": 70000}}}]});
    assert_problem(bad, 0, "spec.http[0].route[0].destination.port.number: 70000 is not a port");
}

#[test]
fn a_problem_is_told_once_for_all_matches_of_a_rule() {
    let (routes, problems) = Mesh::new().routes(&json!([{
        "match": [{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}], "route": [{"destination": {"host": "nobody"}}],
    }]));
    assert_eq!((routes.len(), problems.len()), (2, 1));
}
