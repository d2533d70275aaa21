//! Where a rule sends requests.

use super::*;

const CLUSTER: &str = "outbound|9080||reviews.books.svc.cluster.local";

#[test]
fn a_single_destination_is_the_routes_cluster() {
    let (routes, _) = Mesh::new().routes(&json!([
        {"match": [{"port": 9080, "uri": {"exact": "/1"}}], "route": [{"destination": {"host": "reviews"}}]},
        {"match": [{"uri": {"exact": "/2"}}], "route": [{"destination": {"host": "reviews", "subset": "v2"}, "weight": 0}]},
        {"match": [{"uri": {"exact": "/3"}}], "route": [{"destination": {"host": "ratings"}}]},
        {"match": [{"uri": {"exact": "/4"}}], "route": [{"destination": {"host": "ratings", "port": {"number": 81}}}]},
        {"match": [{"uri": {"exact": "/5"}}], "route": [{"destination": {"host": "old", "subset": "v1"}}]},
    ]));
    let clusters: Vec<_> = routes.iter().map(|it| it["route"]["cluster"].as_str().unwrap()).collect();
    assert_eq!(
        clusters,
        [
            CLUSTER,
            "outbound|9080|v2|reviews.books.svc.cluster.local",
            "outbound|9080||ratings.books.svc.cluster.local",
            "outbound|81||ratings.books.svc.cluster.local",
            "outbound|9080|v1|reviews.books.svc.cluster.local",
        ]
    );
}

#[test]
fn weighted_destinations_without_those_of_weight_zero() {
    let destination =
        |subset: &str, weight: i32| json!({"destination": {"host": "reviews", "subset": subset}, "weight": weight});
    let (routes, problems) = Mesh::new().routes(&json!([{
        "route": [destination("v1", 90), destination("v2", 0), destination("", 15)],
    }]));
    assert_eq!(problems, [""; 0]);
    assert_part(
        &routes[0]["route"],
        &json!({"cluster": null, "weightedClusters": {"totalWeight": null, "clusters": [
            {"name": "outbound|9080|v1|reviews.books.svc.cluster.local", "weight": 90},
            {"name": CLUSTER, "weight": 15},
        ]}}),
        "",
    );
    assert_eq!(routes[0]["decorator"]["operation"], "vs:9080/*");
}

#[test]
fn metadata_and_decorator() {
    assert_routes([
        (
            json!({}),
            json!({
                "metadata": {"filterMetadata": {"istio": {
                    "config": "/apis/networking.istio.io/v1alpha3/namespaces/books/virtual-service/vs",
                }}},
                "decorator": {"operation": "reviews.books.svc.cluster.local:9080/*"},
            }),
        ),
        (
            json!({"match": [{"uri": {"exact": "/a"}}]}),
            json!({"decorator": {"operation": "reviews.books.svc.cluster.local:9080/a"}}),
        ),
    ]);
}

#[test]
fn timeout() {
    assert_routes([
        (json!({}), json!({"route": {"timeout": "0s", "maxGrpcTimeout": "0s"}})),
        (json!({"timeout": "1.5s"}), json!({"route": {"timeout": "1.500s", "maxGrpcTimeout": "1.500s"}})),
    ]);
}

#[test]
fn retries() {
    const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    let previous = json!([{"name": "envoy.retry_host_predicates.previous_hosts", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    }}]);
    let policy = |retries: Value| route(json!({"retries": retries}))["route"]["retryPolicy"].clone();
    assert_eq!(
        route(json!({}))["route"]["retryPolicy"],
        json!({
            "retryOn": DEFAULT, "numRetries": 2, "hostSelectionRetryMaxAttempts": "5", "retryHostPredicate": previous,
        })
    );
    assert_eq!(policy(json!({"attempts": 0})), Value::Null);
    for (retries, expected) in [
        (json!({"attempts": 3}), json!({"numRetries": 3, "retryOn": DEFAULT, "perTryTimeout": null})),
        (json!({"attempts": 1, "perTryTimeout": "2s"}), json!({"perTryTimeout": "2s"})),
        (
            json!({"attempts": 1, "retryOn": "5xx, 503,429,x,999"}),
            json!({"retryOn": "5xx,x,999,retriable-status-codes", "retriableStatusCodes": [503, 429]}),
        ),
        (json!({"attempts": 1, "retryOn": "reset"}), json!({"retryOn": "reset", "retriableStatusCodes": null})),
        (json!({"attempts": 1, "retryIgnorePreviousHosts": false}), json!({"retryHostPredicate": null})),
        (json!({"attempts": 1, "retryIgnorePreviousHosts": true}), json!({"retryHostPredicate": previous})),
        (
            json!({"attempts": 1, "backoff": "10ms"}),
            json!({"retryBackOff": {"baseInterval": "0.010s", "maxInterval": null}}),
        ),
        (
            json!({"attempts": 1, "retryRemoteLocalities": true}),
            json!({"retryPriority": {
                "name": "envoy.retry_priorities.previous_priorities", "typedConfig": {"updateFrequency": 2},
            }}),
        ),
    ] {
        assert_part(&policy(retries.clone()), &expected, &retries.to_string());
    }
}

#[test]
fn the_meshs_retry_policy_stands_in_for_an_absent_one() {
    let mut mesh = Mesh::new();
    mesh.config.default_http_retry_policy = serde_json::from_value(json!({"attempts": 7})).unwrap();
    let labels = BTreeMap::new();
    let client = Client { gateway: "mesh", namespace: "", labels: &labels, kind: ProxyKind::Sidecar };
    let to = |retries: Value| json!({"retries": retries, "route": [{"destination": {"host": "reviews"}}]});
    for (spec, retries) in [
        (None, json!(7)),
        (Some(json!({"http": [to(Value::Null)]})), json!(7)),
        (Some(json!({"http": [to(json!({"attempts": 1}))]})), json!(1)),
    ] {
        let host = mesh.virtual_host("reviews", spec, &client).resource;
        assert_eq!(json_of(&host.routes)[0]["route"]["retryPolicy"]["numRetries"], retries);
    }
}

#[test]
fn rewrite() {
    assert_routes([
        (json!({"rewrite": {"uri": "/b"}}), json!({"route": {"prefixRewrite": "/b", "hostRewriteLiteral": null}})),
        (
            json!({"rewrite": {"authority": "b.com"}, "headers": {"request": {"set": {"host": "c.com"}}}}),
            json!({"route": {"hostRewriteLiteral": "b.com", "prefixRewrite": null}}),
        ),
        (
            json!({"rewrite": {"uriRegexRewrite": {"match": "^/(.*)", "rewrite": "/x/\\1"}}}),
            json!({"route": {"regexRewrite": {"pattern": {"regex": "^/(.*)"}, "substitution": "/x/\\1"}}}),
        ),
    ]);
}

#[test]
fn consistent_hash_of_the_destination() {
    let by_header = json!([{"header": {"headerName": "x-user"}}]);
    let (routes, _) = Mesh::new().routes(&json!([{"route": [{"destination": {"host": "sticky"}}]}]));
    assert_part(
        &routes[0]["route"],
        &json!({"hashPolicy": by_header, "retryPolicy": {"numRetries": 2, "retryHostPredicate": null}}),
        "single",
    );
    let weighted = json!([{"route": [
        {"destination": {"host": "sticky"}, "weight": 1}, {"destination": {"host": "reviews"}, "weight": 1},
    ]}]);
    let (routes, _) = Mesh::new().routes(&weighted);
    assert_part(&routes[0]["route"], &json!({"hashPolicy": by_header}), "weighted");
    assert_eq!(routes[0]["route"]["retryPolicy"]["retryHostPredicate"].as_array().unwrap().len(), 1);
}

#[test]
fn mirror_and_mirrors() {
    let all = json!({"defaultValue": {"numerator": 100}});
    let half = json!({"defaultValue": {"numerator": 500_000, "denominator": "MILLION"}});
    let to = json!({"host": "ratings"});
    let policies = |fields: Value| route(fields)["route"]["requestMirrorPolicies"].clone();
    for (fields, expected) in [
        (
            json!({"mirror": to}),
            json!([{
                "cluster": "outbound|9080||ratings.books.svc.cluster.local", "runtimeFraction": all,
                "traceSampled": false, "disableShadowHostSuffixAppend": true,
            }]),
        ),
        (json!({"mirror": to, "mirrorPercent": 5}), json!([{"runtimeFraction": {"defaultValue": {"numerator": 5}}}])),
        (json!({"mirror": to, "mirrorPercent": 0}), Value::Null),
        (json!({"mirror": to, "mirrorPercentage": {"value": 50.0}}), json!([{"runtimeFraction": half}])),
        (json!({"mirror": to, "mirrorPercentage": {"value": 0.0}}), Value::Null),
        (
            json!({"mirrors": [{"destination": to}, {"destination": {"host": "reviews", "subset": "v1"}, "percentage": {"value": 50.0}}]}),
            json!([
                {"runtimeFraction": all},
                {"cluster": "outbound|9080|v1|reviews.books.svc.cluster.local", "runtimeFraction": half},
            ]),
        ),
    ] {
        assert_part(&policies(fields.clone()), &expected, &fields.to_string());
    }
}

#[test]
fn redirect() {
    assert_routes([
        (
            json!({"redirect": {"uri": "/b", "authority": "b.com"}}),
            json!({
                "route": null, "redirect": {"hostRedirect": "b.com", "pathRedirect": "/b", "responseCode": null},
                "decorator": {"operation": "vs:9080/*"},
            }),
        ),
        (
            json!({"redirect": {"uri": "/b", "prefixRewrite": "/c", "scheme": "https", "redirectCode": 308}}),
            json!({"redirect": {"prefixRewrite": "/c", "schemeRedirect": "https", "responseCode": "PERMANENT_REDIRECT"}}),
        ),
        (json!({"redirect": {"port": 8443}}), json!({"redirect": {"portRedirect": 8443}})),
        (json!({"redirect": {"port": 80}}), json!({"redirect": {"portRedirect": null}})),
        (json!({"redirect": {"port": 80, "scheme": "https"}}), json!({"redirect": {"portRedirect": 80}})),
        (json!({"redirect": {"port": 443, "scheme": "https"}}), json!({"redirect": {"portRedirect": null}})),
        (json!({"redirect": {"derivePort": "FROM_REQUEST_PORT"}}), json!({"redirect": {"portRedirect": 9080}})),
        (json!({"redirect": {"derivePort": "FROM_PROTOCOL_DEFAULT"}}), json!({"redirect": {"portRedirect": null}})),
    ]);
    for (code, expected) in
        [(301, Value::Null), (302, json!("FOUND")), (303, json!("SEE_OTHER")), (307, json!("TEMPORARY_REDIRECT"))]
    {
        assert_eq!(route(json!({"redirect": {"redirectCode": code}}))["redirect"]["responseCode"], expected, "{code}");
    }
}

#[test]
fn direct_response() {
    assert_routes([
        (json!({"directResponse": {"status": 404}}), json!({"directResponse": {"status": 404, "body": null}})),
        (
            json!({"directResponse": {"status": 200, "body": {"string": "hi"}}}),
            json!({"directResponse": {"status": 200, "body": {"inlineString": "hi"}}}),
        ),
        (
            json!({"directResponse": {"status": 200, "body": {"bytes": "AP_-YQ"}}}),
            json!({"directResponse": {"body": {"inlineBytes": "AP/+YQ=="}}}),
        ),
    ]);
}
