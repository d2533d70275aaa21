use super::*;

fn lb(fields: Value) -> Value {
    json!({"loadBalancer": fields})
}

fn hash(fields: Value) -> Value {
    lb(json!({"consistentHash": fields}))
}

#[test]
fn every_simple_algorithm_has_its_policy() {
    assert_policies(&[
        (json!({}), json!({"lbPolicy": "LEAST_REQUEST", "type": "EDS"})),
        (lb(json!({})), json!({"lbPolicy": "LEAST_REQUEST"})),
        (lb(json!({"simple": "UNSPECIFIED"})), json!({"lbPolicy": "LEAST_REQUEST"})),
        (lb(json!({"simple": "LEAST_CONN"})), json!({"lbPolicy": "LEAST_REQUEST"})),
        (lb(json!({"simple": "LEAST_REQUEST"})), json!({"lbPolicy": "LEAST_REQUEST", "leastRequestLbConfig": null})),
        (lb(json!({"simple": "RANDOM"})), json!({"lbPolicy": "RANDOM"})),
        // Envoy's own default: proto JSON leaves it out.
        (lb(json!({"simple": "ROUND_ROBIN"})), json!({"lbPolicy": null, "roundRobinLbConfig": null})),
        (
            lb(json!({"simple": "PASSTHROUGH"})),
            json!({"lbPolicy": "CLUSTER_PROVIDED", "type": "ORIGINAL_DST", "edsClusterConfig": null}),
        ),
    ]);
}

#[test]
fn consistent_hash_is_a_ring_or_maglev() {
    let ring = |config: Value| json!({"lbPolicy": "RING_HASH", "ringHashLbConfig": config});
    assert_policies(&[
        (hash(json!({"useSourceIp": true})), ring(json!({"minimumRingSize": "1024"}))),
        (hash(json!({"minimumRingSize": 2048})), ring(json!({"minimumRingSize": "2048"}))),
        (hash(json!({"ringHash": {"minimumRingSize": 64}})), ring(json!({"minimumRingSize": "64"}))),
        (hash(json!({"ringHash": {}})), ring(json!(null))),
        (hash(json!({"maglev": {}})), json!({"lbPolicy": "MAGLEV", "maglevLbConfig": null})),
        (
            hash(json!({"maglev": {"tableSize": 251}})),
            json!({"lbPolicy": "MAGLEV", "maglevLbConfig": {"tableSize": "251"}}),
        ),
    ]);
}

#[test]
fn warm_up_is_slow_start() {
    let config = json!({"slowStartWindow": "60s", "minWeightPercent": {"value": 10.0},
        "aggression": {"defaultValue": 1.0, "runtimeKey": "("}});
    let own =
        json!({"slowStartWindow": "60s", "minWeightPercent": {"value": 20.0}, "aggression": {"defaultValue": 1.5}});
    let least =
        |config: &Value| json!({"lbPolicy": "LEAST_REQUEST", "leastRequestLbConfig": {"slowStartConfig": config}});
    let robin = |config: &Value| json!({"roundRobinLbConfig": {"slowStartConfig": config}});
    assert_policies(&[
        (lb(json!({"warmup": {"duration": "1m"}})), least(&config)),
        (lb(json!({"simple": "ROUND_ROBIN", "warmup": {"duration": "1m"}})), robin(&config)),
        (
            lb(
                json!({"simple": "LEAST_REQUEST", "warmup": {"duration": "1m", "minimumPercent": 20, "aggression": 1.5}}),
            ),
            least(&own),
        ),
        (lb(json!({"warmupDurationSecs": "30s"})), least(&json!({"slowStartWindow": "30s", "aggression": null}))),
        (
            lb(json!({"simple": "ROUND_ROBIN", "warmupDurationSecs": "30s"})),
            robin(&json!({"slowStartWindow": "30s", "minWeightPercent": null})),
        ),
    ]);
}

#[test]
fn settings_without_effect_or_sense_are_remarked() {
    let slow = |field: &str| json!({"leastRequestLbConfig": {"slowStartConfig": {field: {}}}});
    assert_remarks(&[
        (
            lb(json!({"simple": "RANDOM", "warmup": {"duration": "1m"}})),
            "loadBalancer.warmup",
            json!({"lbPolicy": "RANDOM"}),
        ),
        (lb(json!({"warmup": {}})), "loadBalancer.warmup.duration", json!({"leastRequestLbConfig": null})),
        (
            lb(json!({"warmup": {"duration": "1m", "minimumPercent": 101}})),
            "loadBalancer.warmup.minimumPercent",
            slow("minWeightPercent"),
        ),
        (
            lb(json!({"warmup": {"duration": "1m", "aggression": 0}})),
            "loadBalancer.warmup.aggression",
            slow("aggression"),
        ),
        (
            hash(json!({"maglev": {"tableSize": 250}})),
            "loadBalancer.consistentHash.maglev.tableSize",
            json!({"lbPolicy": "MAGLEV", "maglevLbConfig": null}),
        ),
        (
            hash(json!({"maglev": {"tableSize": 5_000_081}})),
            "loadBalancer.consistentHash.maglev.tableSize",
            json!({"lbPolicy": "MAGLEV", "maglevLbConfig": null}),
        ),
        (
            hash(json!({"ringHash": {"minimumRingSize": 8_388_609}})),
            "loadBalancer.consistentHash.ringHash.minimumRingSize",
            json!({"lbPolicy": "RING_HASH", "ringHashLbConfig": null}),
        ),
        (
            hash(json!({"minimumRingSize": 8_388_609})),
            "loadBalancer.consistentHash.minimumRingSize",
            json!({"ringHashLbConfig": {"minimumRingSize": "1024"}}),
        ),
        (
            lb(json!({"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}})),
            "loadBalancer.localityLbSetting",
            json!({"commonLbConfig": {"localityWeightedLbConfig": null}}),
        ),
    ]);
}

#[test]
fn localities_weigh_only_where_something_asks_for_it() {
    let common = |field: &str, value: Value| json!({"commonLbConfig": {field: value}});
    let weighted = |value| common("localityWeightedLbConfig", value);
    let zone_aware = |value| common("zoneAwareLbConfig", value);
    let locality = |fields: Value| json!({"localityLbSetting": fields});
    let with_outlier = |fields: Value| json!({"loadBalancer": fields, "outlierDetection": {}});
    let failover = json!({"failover": [{"from": "a", "to": "b"}]});
    let off = json!({"enabled": false, "failover": [{"from": "a", "to": "b"}]});
    assert_policies(&[
        (with_outlier(json!({})), weighted(json!(null))),
        (with_outlier(locality(failover)), weighted(json!({}))),
        (with_outlier(locality(json!({"failoverPriority": ["topology.kubernetes.io/zone"]}))), weighted(json!({}))),
        (with_outlier(locality(off)), weighted(json!(null))),
        (lb(locality(json!({"distribute": [{"from": "a", "to": {"a": 100}}]}))), weighted(json!({}))),
        (lb(json!({"zoneAwareLbSetting": {}})), zone_aware(json!({"routingEnabled": null}))),
        (lb(json!({"zoneAwareLbSetting": {"minClusterSize": 3}})), zone_aware(json!({"minClusterSize": "3"}))),
        (lb(json!({"zoneAwareLbSetting": {"enabled": false}})), zone_aware(json!({"routingEnabled": {}}))),
    ]);
}

#[test]
fn routes_hash_by_what_the_rule_names() {
    let of = |fields: Value| {
        let rule = rule(json!({"host": "a", "trafficPolicy": hash(fields)}));
        let mesh = MeshConfig::default();
        let policies = hash_policies(&policy(Some(&rule), 80, None, &mesh));
        policies.iter().map(|it| xds::json::of(it).unwrap()).collect::<Vec<_>>()
    };
    for (fields, expected) in [
        (json!({"httpHeaderName": "x-user"}), json!([{"header": {"headerName": "x-user"}}])),
        (
            json!({"httpCookie": {"name": "s", "path": "/p", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Lax"}]}}),
            json!([{"cookie": {"name": "s", "path": "/p", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Lax"}]}}]),
        ),
        (json!({"httpCookie": {"name": "s"}}), json!([{"cookie": {"name": "s"}}])),
        (json!({"useSourceIp": true}), json!([{"connectionProperties": {"sourceIp": true}}])),
        (json!({"useSourceIp": false}), json!([])),
        (json!({"httpQueryParameterName": "q"}), json!([{"queryParameter": {"name": "q"}}])),
        (json!({"httpHeaderName": ""}), json!([])),
    ] {
        assert_eq!(Value::from(of(fields.clone())), expected, "{fields}");
    }
    assert_eq!(hash_policies(&Policy::default()), []);
}
