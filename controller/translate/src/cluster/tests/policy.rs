use super::*;

fn tcp(fields: Value) -> Value {
    json!({"connectionPool": {"tcp": fields}})
}

fn http(fields: Value) -> Value {
    json!({"connectionPool": {"http": fields}})
}

fn outlier(fields: Value) -> Value {
    json!({"outlierDetection": fields})
}

fn breakers(fields: Value) -> Value {
    json!({"circuitBreakers": {"thresholds": [fields]}})
}

const NO_LIMIT: u32 = u32::MAX;

#[test]
fn tcp_settings_become_timeouts_keepalive_and_limits() {
    let keepalive = |fields: Value| json!({"upstreamConnectionOptions": {"tcpKeepalive": fields}});
    assert_policies(&[
        (json!({}), json!({"connectTimeout": "10s", "upstreamConnectionOptions": null, "http": null})),
        (tcp(json!({"connectTimeout": "1500ms"})), json!({"connectTimeout": "1.500s"})),
        (tcp(json!({"maxConnections": 7})), breakers(json!({"maxConnections": 7, "maxRequests": NO_LIMIT}))),
        (tcp(json!({"maxConnections": 0})), breakers(json!({"maxConnections": NO_LIMIT}))),
        (tcp(json!({"tcpKeepalive": {}})), keepalive(json!({"keepaliveTime": null}))),
        (
            tcp(json!({"tcpKeepalive": {"probes": 3, "time": "7200s", "interval": "75s"}})),
            keepalive(json!({"keepaliveProbes": 3, "keepaliveTime": 7200, "keepaliveInterval": 75})),
        ),
        (
            tcp(json!({"maxConnectionDuration": "1h"})),
            json!({"http": {"commonHttpProtocolOptions": {"maxConnectionDuration": "3600s"}}}),
        ),
        (tcp(json!({"idleTimeout": "9s"})), json!({"http": {"commonHttpProtocolOptions": {"idleTimeout": "9s"}}})),
    ]);
}

#[test]
fn http_settings_become_limits_and_protocol_options() {
    let common = |fields: Value| json!({"http": {"commonHttpProtocolOptions": fields}});
    let version = |name: &str| json!({"http": {"explicitHttpConfig": {name: {}}}});
    let both = json!({"connectionPool": {"tcp": {"idleTimeout": "9s"}, "http": {"idleTimeout": "8s"}}});
    assert_policies(&[
        (http(json!({"http1MaxPendingRequests": 4})), breakers(json!({"maxPendingRequests": 4}))),
        (http(json!({"http2MaxRequests": 5})), breakers(json!({"maxRequests": 5, "maxRetries": NO_LIMIT}))),
        (http(json!({"maxRetries": 6})), breakers(json!({"maxRetries": 6}))),
        (http(json!({"maxRequestsPerConnection": 1})), common(json!({"maxRequestsPerConnection": 1}))),
        (http(json!({"idleTimeout": "5s"})), common(json!({"idleTimeout": "5s"}))),
        (both, common(json!({"idleTimeout": "8s"}))),
        (http(json!({"idleTimeout": "5s"})), version("httpProtocolOptions")),
        (http(json!({"h2UpgradePolicy": "UPGRADE"})), version("http2ProtocolOptions")),
        (http(json!({"h2UpgradePolicy": "DO_NOT_UPGRADE"})), json!({"http": null})),
        (http(json!({"h2UpgradePolicy": "DEFAULT"})), json!({"http": null})),
        (
            http(json!({"useClientProtocol": true, "h2UpgradePolicy": "UPGRADE"})),
            json!({"http": {"useDownstreamProtocolConfig": {"httpProtocolOptions": {}, "http2ProtocolOptions": {}}}}),
        ),
        (
            http(json!({"h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 3,
                "http2KeepAlive": {"interval": "20s", "timeout": "4s"}})),
            json!({"http": {"explicitHttpConfig": {"http2ProtocolOptions": {
                "maxConcurrentStreams": 3, "connectionKeepalive": {"interval": "20s", "timeout": "4s"},
            }}}}),
        ),
        // Only HTTP/2 has streams.
        (
            http(json!({"maxConcurrentStreams": 3})),
            json!({"http": {"explicitHttpConfig": {"httpProtocolOptions": {"maxConcurrentStreams": null}}}}),
        ),
    ]);
}

#[test]
fn retry_budgets_replace_nothing_else() {
    let budget = |fields: Value| breakers(json!({"retryBudget": fields, "maxRetries": NO_LIMIT}));
    assert_policies(&[
        (
            json!({"retryBudget": {}}),
            budget(json!({"budgetPercent": {"value": 20.0}, "minRetryConcurrency": 3, "budgetInterval": null})),
        ),
        (
            json!({"retryBudget": {"percent": 35.5, "minRetryConcurrency": 7, "budgetInterval": "2s"}}),
            budget(json!({"budgetPercent": {"value": 35.5}, "minRetryConcurrency": 7, "budgetInterval": "2s"})),
        ),
    ]);
}

#[test]
fn outlier_detection_keeps_istios_defaults() {
    let detection = |fields: Value| json!({"outlierDetection": fields});
    let panic = |percent: Value| json!({"commonLbConfig": {"healthyPanicThreshold": percent}});
    assert_policies(&[
        (json!({}), json!({"outlierDetection": null, "commonLbConfig": {"healthyPanicThreshold": null}})),
        (outlier(json!({})), detection(json!({"enforcingSuccessRate": 0, "consecutive5xx": null}))),
        (outlier(json!({})), panic(json!({}))),
        (outlier(json!({"minHealthPercent": 40})), panic(json!({"value": 40.0}))),
        (outlier(json!({"minHealthPercent": -1})), panic(json!(null))),
        (
            outlier(json!({"consecutive5xxErrors": 7})),
            detection(json!({"consecutive5xx": 7, "enforcingConsecutive5xx": 100})),
        ),
        (
            outlier(json!({"consecutive5xxErrors": 0})),
            detection(json!({"consecutive5xx": 0, "enforcingConsecutive5xx": 0})),
        ),
        (
            outlier(json!({"consecutiveGatewayErrors": 2})),
            detection(json!({"consecutiveGatewayFailure": 2, "enforcingConsecutiveGatewayFailure": 100})),
        ),
        (
            outlier(json!({"consecutiveLocalOriginFailures": 4})),
            detection(json!({"consecutiveLocalOriginFailure": null, "enforcingLocalOriginSuccessRate": null})),
        ),
        (
            outlier(json!({"splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailures": 4})),
            detection(json!({"splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailure": 4,
                "enforcingConsecutiveLocalOriginFailure": 100, "enforcingLocalOriginSuccessRate": 0})),
        ),
        (
            outlier(json!({"interval": "5s", "baseEjectionTime": "1m", "maxEjectionPercent": 50})),
            detection(json!({"interval": "5s", "baseEjectionTime": "60s", "maxEjectionPercent": 50})),
        ),
        (outlier(json!({"maxEjectionPercent": 0})), detection(json!({"maxEjectionPercent": null}))),
    ]);
}

#[test]
fn error_codes_replace_any_5xx() {
    let status = |code: &str| json!({"httpResponseHeadersMatch": {"headers": [{"name": ":status", "stringMatch": {"exact": code}}]}});
    let matcher = |rule: Value| json!({"http": {"outlierDetection": {"errorMatcher": rule}}});
    assert_policies(&[
        (outlier(json!({"outlierDetectionHttpErrorCodes": [503]})), matcher(status("503"))),
        (
            outlier(json!({"outlierDetectionHttpErrorCodes": [429, 503]})),
            matcher(json!({"orMatch": {"rules": [status("429"), status("503")]}})),
        ),
        (outlier(json!({"outlierDetectionHttpErrorCodes": []})), json!({"http": null})),
    ]);
}

#[test]
fn proxy_protocol_wraps_the_plain_socket() {
    for (policy, version) in
        [(json!({}), json!(null)), (json!({"version": "V1"}), json!(null)), (json!({"version": "V2"}), json!("V2"))]
    {
        let (actual, _) = translated("TCP", json!({"proxyProtocol": policy}));
        let config =
            json!({"config": {"version": version}, "transportSocket": {"name": "envoy.transport_sockets.raw_buffer"}});
        let name = "envoy.transport_sockets.upstream_proxy_protocol";
        assert_part(&actual, &json!({"transportSocket": {"name": name, "typedConfig": config}}), &policy.to_string());
    }
}

#[test]
fn values_that_envoy_refuses_are_left_out_alone() {
    let none = |field: &str| json!({"outlierDetection": {field: null, "enforcingSuccessRate": 0}});
    assert_remarks(&[
        (tcp(json!({"connectTimeout": "0s"})), "connectionPool.tcp.connectTimeout", json!({"connectTimeout": "10s"})),
        (
            http(json!({"http2KeepAlive": {"interval": "20s"}, "maxConcurrentStreams": 3})),
            "connectionPool.http.http2KeepAlive",
            json!({"http": {"explicitHttpConfig": {"http2ProtocolOptions": {
                "connectionKeepalive": null, "maxConcurrentStreams": 3}}}}),
        ),
        (outlier(json!({"interval": "0s"})), "outlierDetection.interval", none("interval")),
        (outlier(json!({"baseEjectionTime": "0s"})), "outlierDetection.baseEjectionTime", none("baseEjectionTime")),
        (
            outlier(json!({"maxEjectionPercent": 101})),
            "outlierDetection.maxEjectionPercent",
            none("maxEjectionPercent"),
        ),
        (
            outlier(json!({"minHealthPercent": 101})),
            "outlierDetection.minHealthPercent",
            json!({"commonLbConfig": {"healthyPanicThreshold": {"value": null}}}),
        ),
        (
            outlier(json!({"outlierDetectionHttpErrorCodes": [5, 503]})),
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
            json!({"http": {"outlierDetection": {"errorMatcher": {"httpResponseHeadersMatch": {}}}}}),
        ),
        (
            json!({"retryBudget": {"percent": 101}}),
            "retryBudget.percent",
            breakers(json!({"retryBudget": {"budgetPercent": {"value": 20.0}}})),
        ),
        (json!({"proxyProtocol": {"version": "V3"}}), "proxyProtocol.version", json!({"transportSocket": null})),
    ]);
}

#[test]
fn the_meshs_settings_are_the_base() {
    let mesh = MeshConfig {
        h2_upgrade_policy: n::H2UpgradePolicy::Upgrade,
        tcp_keepalive: Some(n::TcpKeepalive { probes: 9, time: Some(crds::Duration::from_secs(60)), interval: None }),
        connect_timeout: crds::Duration::from_secs(3),
        ..MeshConfig::default()
    };
    let http2 = json!({"explicitHttpConfig": {"http2ProtocolOptions": {}}});
    let policy = json!({"connectionPool": {"tcp": {"tcpKeepalive": {"probes": 2}}}});
    let keepalive = json!({"tcpKeepalive": {"keepaliveProbes": 2, "keepaliveTime": 60}});
    let (actual, _) = translated_in(&mesh, "HTTP", policy);
    let expected = json!({"http": http2, "connectTimeout": "3s", "upstreamConnectionOptions": keepalive});
    assert_part(&actual, &expected, "mesh");
    // A port that is not declared HTTP is upgraded only by its own rule.
    let (actual, _) = translated_in(&mesh, "TCP", json!({}));
    assert_part(&actual, &json!({"http": null}), "tcp");
    let (actual, _) = translated_in(&mesh, "HTTP", http(json!({"h2UpgradePolicy": "DO_NOT_UPGRADE"})));
    assert_part(&actual, &json!({"http": null}), "own");
}

#[test]
fn a_bad_default_of_the_mesh_is_remarked_on_the_mesh() {
    let pool = serde_json::from_value(json!({"tcp": {"connectTimeout": "0s"}})).unwrap();
    let default_traffic_policy =
        crds::mesh_config::DefaultTrafficPolicy { connection_pool: pool, outlier_detection: None };
    let mesh = MeshConfig { default_traffic_policy, ..MeshConfig::default() };
    let (_, problems) = translated_in(&mesh, "HTTP", json!({}));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].object, ObjectKey::new(Kind::ConfigMap, "istio-system", "istio"));
    assert_eq!(problems[0].field, "defaultTrafficPolicy.connectionPool.tcp.connectTimeout");
}
