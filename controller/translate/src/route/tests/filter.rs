//! What HTTP filters do differently for a route: `fault` and `corsPolicy`.

use super::*;

#[test]
fn fault_delay_and_abort() {
    let quarter = json!({"numerator": 250_000, "denominator": "MILLION"});
    let fault = |fields: Value| {
        let route = route(json!({"fault": fields}));
        route["typedPerFilterConfig"][fault::FILTER].clone()
    };
    for (fields, expected) in [
        (
            json!({"delay": {"fixedDelay": "5s", "percentage": {"value": 25.0}}}),
            json!({"delay": {"fixedDelay": "5s", "percentage": quarter}, "abort": null}),
        ),
        (json!({"delay": {"fixedDelay": "5s", "percent": 10}}), json!({"delay": {"percentage": {"numerator": 10}}})),
        (
            json!({"abort": {"httpStatus": 503, "percentage": {"value": 25.0}}}),
            json!({"abort": {"httpStatus": 503, "percentage": quarter}, "delay": null}),
        ),
        (json!({"abort": {"grpcStatus": "UNAVAILABLE"}}), json!({"abort": {"grpcStatus": 14, "percentage": null}})),
    ] {
        assert_part(&fault(fields.clone()), &expected, &fields.to_string());
    }
}

#[test]
fn faults_that_envoy_cannot_inject_leave_the_route_as_it_is() {
    for (fields, problem) in [
        (
            json!({"delay": {"exponentialDelay": "1s"}}),
            "spec.http[0].fault.delay: only fixedDelay is supported, by Istio as well",
        ),
        (
            json!({"delay": {"fixedDelay": "0s"}}),
            "spec.http[0].fault.delay.fixedDelay: a delay must be longer than nothing",
        ),
        (
            json!({"abort": {"http2Error": "x"}}),
            "spec.http[0].fault.abort: only httpStatus and grpcStatus are supported, by Istio as well",
        ),
        (
            json!({"abort": {"httpStatus": 100}}),
            "spec.http[0].fault.abort.httpStatus: 100 is not a status from 200 to 599",
        ),
        (json!({"abort": {"grpcStatus": "X"}}), "spec.http[0].fault.abort.grpcStatus: X is not a gRPC status"),
    ] {
        let http = json!([{"fault": fields, "route": [{"destination": {"host": "reviews"}}]}]);
        let (routes, problems) = Mesh::new().routes(&http);
        assert_eq!((routes.len(), &routes[0]["typedPerFilterConfig"]), (1, &Value::Null));
        assert_eq!(problems, [problem]);
    }
}

#[test]
fn cors_policy() {
    let cors = |fields: Value| route(json!({"corsPolicy": fields}))["typedPerFilterConfig"][cors::FILTER].clone();
    for (fields, expected) in [
        (
            json!({
                "allowOrigins": [{"exact": "a"}, {"regex": "b.*"}], "allowOrigin": ["ignored"],
                "allowMethods": ["GET", "PUT"], "allowHeaders": ["x", "y"], "exposeHeaders": ["z"],
                "maxAge": "1m30.9s", "allowCredentials": true,
            }),
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
                "allowOriginStringMatch": [{"exact": "a"}, {"safeRegex": {"regex": "b.*"}}],
                "allowMethods": "GET,PUT", "allowHeaders": "x,y", "exposeHeaders": "z", "maxAge": "90",
                "allowCredentials": true, "filterEnabled": {"defaultValue": {"numerator": 100}},
                "forwardNotMatchingPreflights": true,
            }),
        ),
        (json!({"allowOrigin": ["a"]}), json!({"allowOriginStringMatch": [{"exact": "a"}], "allowCredentials": null})),
        (json!({"unmatchedPreflights": "IGNORE"}), json!({"forwardNotMatchingPreflights": false})),
    ] {
        assert_part(&cors(fields.clone()), &expected, &fields.to_string());
    }
}

#[test]
fn a_cors_origin_that_cannot_be_matched_is_left_out_alone() {
    let (routes, problems) = Mesh::new().routes(&json!([{
        "corsPolicy": {"allowOrigins": [{"regex": "("}, {"exact": "a"}]}, "route": [{"destination": {"host": "reviews"}}],
    }]));
    let policy = &routes[0]["typedPerFilterConfig"][cors::FILTER];
    assert_eq!(policy["allowOriginStringMatch"], json!([{"exact": "a"}]));
    assert!(problems[0].starts_with("spec.http[0].corsPolicy.allowOrigins[0]: invalid regex"), "{problems:?}");
}
