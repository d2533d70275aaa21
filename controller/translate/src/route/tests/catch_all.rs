//! What no service answers, the heads of tables, and inbound tables.

use super::*;
use model::Protocol;

#[test]
fn outbound_traffic_policy() {
    let onward =
        |cluster: &str| json!({"cluster": cluster, "timeout": "0s", "maxGrpcTimeout": "0s", "retryPolicy": null});
    for (policy, name, route, response) in [
        (json!({"mode": "ALLOW_ANY"}), "allow_any", onward("PassthroughCluster"), Value::Null),
        (
            json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "Out.com", "port": {"number": 3128}, "subset": "a"}}),
            "allow_any",
            onward("outbound|3128|a|out.com"),
            Value::Null,
        ),
        (
            json!({"mode": "ALLOW_ANY_DYNAMIC_DNS"}),
            "allow_any_dynamic_dns",
            onward("AllowAnyDynamicDNSCluster"),
            Value::Null,
        ),
        (json!({"mode": "REGISTRY_ONLY"}), "block_all", Value::Null, json!({"status": 502})),
    ] {
        let host = catch_all(&serde_json::from_value(policy).unwrap());
        assert_part(
            &xds::json::of(&host).unwrap(),
            &json!({
                "name": name, "domains": ["*"], "includeRequestAttemptCount": true,
                "routes": [{"name": name, "match": {"prefix": "/"}, "route": route, "directResponse": response}],
            }),
            name,
        );
    }
}

#[test]
fn the_heads_of_tables() {
    for (head, ignores_port) in [
        (route_configuration("80"), true),
        (route_configuration("http_proxy"), false),
        (http_proxy_configuration("3128"), false),
        (super::super::gateway::route_configuration("http.80"), true),
    ] {
        let json = xds::json::of(&head).unwrap();
        let expected = json!({
            "validateClusters": false, "maxDirectResponseBodySizeBytes": 1048576, "virtualHosts": null,
            "ignorePortInHostMatching": ignores_port.then_some(true),
        });
        assert_part(&json, &expected, &head.name);
    }
}

#[test]
fn inbound_tables_forward_everything_to_the_port() {
    let reviews = service("books", "reviews", json!({"ports": [{"name": "http", "port": 80}]}));
    let mesh = MeshConfig::default();
    let table = inbound(9080, Some((&reviews, &reviews.ports[0])), Protocol::Http, &mesh);
    assert_part(
        &xds::json::of(&table).unwrap(),
        &json!({
            "name": "inbound|9080||", "validateClusters": false,
            "maxDirectResponseBodySizeBytes": null, "ignorePortInHostMatching": null,
            "virtualHosts": [{"name": "inbound|http|80", "domains": ["*"], "includeRequestAttemptCount": null, "routes": [{
                "name": "default", "match": {"prefix": "/"},
                "decorator": {"operation": "reviews.books.svc.cluster.local:80/*"},
                "route": {
                    "cluster": "inbound|9080||", "timeout": "0s", "maxGrpcTimeout": null,
                    "maxStreamDuration": {"maxStreamDuration": "0s", "grpcTimeoutHeaderMax": "0s"},
                    "retryPolicy": {"retryOn": "reset-before-request", "numRetries": 2, "retryHostPredicate": null},
                },
            }]}],
        }),
        "",
    );
    for (protocol, retries) in [(Protocol::Grpc, false), (Protocol::GrpcWeb, false), (Protocol::Auto, true)] {
        let json = xds::json::of(&inbound(1, None, protocol, &mesh)).unwrap();
        assert_eq!(!json["virtualHosts"][0]["routes"][0]["route"]["retryPolicy"].is_null(), retries, "{protocol:?}");
    }
}
