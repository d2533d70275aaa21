use super::*;

fn inbound_json(endpoint: InboundEndpoint<'_>, protocol: Protocol, mesh: &MeshConfig) -> Value {
    let service = service("HTTP", "STATIC");
    let service = Some(&service);
    let input = InboundClusterInput { port: 80, protocol, endpoint, service, pool: None, mesh };
    json_of(&inbound(&input).resource)
}

const BIND: &str = "127.0.0.6";

#[test]
fn inbound_clusters_reach_the_workload_uncaptured() {
    let bound = json!({
        "sourceAddress": {"address": BIND, "portValue": 0},
        "extraSourceAddresses": [{"address": {"address": "::6", "portValue": 0}}],
    });
    let address = |address: Value| json!({"clusterName": "inbound|80||", "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}]});
    let socket = |ip: &str| address(json!({"socketAddress": {"address": ip, "portValue": 9000}}));
    let ip = |text: &str| InboundEndpoint::Ip(text.parse().unwrap());
    for (endpoint, expected) in [
        (
            InboundEndpoint::OriginalDst,
            json!({"type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED", "upstreamBindConfig": bound,
                "cleanupInterval": "9223372035s", "loadAssignment": null}),
        ),
        // STATIC is proto's default, which JSON shows because it is one of a oneof.
        (
            ip("127.0.0.1:9000"),
            json!({"type": "STATIC", "upstreamBindConfig": null, "loadAssignment": socket("127.0.0.1")}),
        ),
        (ip("[::1]:9000"), json!({"upstreamBindConfig": null, "loadAssignment": socket("::1")})),
        (ip("10.0.0.7:9000"), json!({"upstreamBindConfig": bound, "loadAssignment": socket("10.0.0.7")})),
        (
            InboundEndpoint::Unix("/run/app"),
            json!({"upstreamBindConfig": null, "loadAssignment": address(json!({"pipe": {"path": "/run/app"}}))}),
        ),
    ] {
        let actual = inbound_json(endpoint, Protocol::Http, &MeshConfig::default());
        assert_part(&actual, &expected, &format!("{endpoint:?}"));
        let common = json!({"name": "inbound|80||", "altStatName": "inbound|80||;", "http": null,
            "metadata": {"filterMetadata": {"istio": {"services": [{"host": "api.example.com"}]}}}});
        assert_part(&actual, &common, "common");
    }
}

#[test]
fn inbound_clusters_speak_the_ports_protocol_and_are_not_upgraded() {
    let mesh = MeshConfig { h2_upgrade_policy: n::H2UpgradePolicy::Upgrade, ..MeshConfig::default() };
    for (protocol, expected) in [
        (Protocol::Http, json!(null)),
        (Protocol::Grpc, json!({"explicitHttpConfig": {"http2ProtocolOptions": {}}})),
        (Protocol::Auto, json!({"useDownstreamProtocolConfig": {"http2ProtocolOptions": {}}})),
    ] {
        let actual = inbound_json(InboundEndpoint::OriginalDst, protocol, &mesh);
        assert_part(&actual, &json!({"http": expected}), &format!("{protocol:?}"));
    }
}

#[test]
fn inbound_pools_come_from_the_caller_or_the_mesh() {
    let pool = |connections| {
        serde_json::from_value::<n::ConnectionPool>(json!({"tcp": {"maxConnections": connections}})).unwrap()
    };
    let (own, default) = (pool(3), pool(9));
    let policy = crds::mesh_config::DefaultTrafficPolicy { connection_pool: Some(default), outlier_detection: None };
    let mesh = MeshConfig { default_traffic_policy: policy, ..MeshConfig::default() };
    for (pool, expected) in [(Some(&own), 3), (None, 9)] {
        let (port, protocol, endpoint) = (80, Protocol::Http, InboundEndpoint::OriginalDst);
        let input = InboundClusterInput { port, protocol, endpoint, service: None, pool, mesh: &mesh };
        let actual = json_of(&inbound(&input).resource);
        assert_part(&actual, &json!({"circuitBreakers": {"thresholds": [{"maxConnections": expected}]}}), "pool");
        assert_eq!(actual.get("metadata"), None);
    }
}

#[test]
fn inbound_stat_names_follow_the_meshs_pattern() {
    let pattern = "%SERVICE_FQDN%_%SERVICE_PORT%_%TARGET_PORT%";
    let mesh = MeshConfig { inbound_cluster_stat_name: pattern.into(), ..MeshConfig::default() };
    let actual = inbound_json(InboundEndpoint::OriginalDst, Protocol::Http, &mesh);
    assert_part(&actual, &json!({"altStatName": "api.example.com_80_80;"}), "stat name");
}

#[test]
fn what_no_service_explains_is_dropped_or_passed_through() {
    let black_hole = json_of(&black_hole());
    let expected =
        json!({"name": "BlackHoleCluster", "type": "STATIC", "connectTimeout": "10s", "loadAssignment": null});
    assert_part(&black_hole, &expected, "black hole");
    let mesh = MeshConfig::default();
    let http = json!({
        "commonHttpProtocolOptions": {"idleTimeout": "300s"},
        "useDownstreamProtocolConfig": {"httpProtocolOptions": {}, "http2ProtocolOptions": {}},
    });
    let expected = json!({"type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED", "connectTimeout": "10s", "http": http,
        "circuitBreakers": {"thresholds": [{"maxConnections": u32::MAX}]}});
    for (actual, name, bind) in [
        (passthrough(&mesh), "PassthroughCluster", json!(null)),
        (inbound_passthrough(&mesh), "InboundPassthroughCluster", json!({"sourceAddress": {"address": BIND}})),
    ] {
        let actual = json_of(&actual);
        assert_part(&actual, &expected, name);
        assert_part(
            &actual,
            &json!({"name": name, "altStatName": format!("{name};"), "upstreamBindConfig": bind}),
            name,
        );
    }
}
