use super::*;
use model::service::TrafficDistribution;

/// One endpoint in each of five places, all but the last in region r1 or r2.
fn places() -> Vec<Endpoint> {
    let list = ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1", "r3/z1/s1"];
    list.iter().zip(1..).map(|(locality, last)| endpoint(last, locality)).collect()
}

fn locality(setting: Value) -> Value {
    json!({"outlierDetection": {}, "loadBalancer": {"localityLbSetting": setting}})
}

#[test]
fn failover_needs_outlier_detection_and_goes_from_near_to_far() {
    let here = vantage("r1/z1/s1");
    let plain = Case::new(places());
    assert!(!plain.needs_vantage());
    assert_eq!(plain.seen(Some(&here)), plain.seen(None));
    let near = groups(&[("0*1", &[1]), ("1*1", &[2]), ("2*1", &[3]), ("3*1", &[4]), ("3*1", &[5])]);
    // The mesh's setting is on by default.
    let case = Case::new(places()).policy(json!({"outlierDetection": {}}));
    assert!(case.needs_vantage());
    assert_eq!(case.seen(Some(&here)), near);
    assert_eq!(case.seen(None), groups(&[("0*1", &[1]), ("0*1", &[2]), ("0*1", &[3]), ("0*1", &[4]), ("0*1", &[5])]));
    let to_r3 = json!({"failover": [{"from": "r1", "to": "r3"}]});
    let case = Case::new(places()).policy(locality(to_r3));
    let expected = groups(&[("0*1", &[1]), ("1*1", &[2]), ("2*1", &[3]), ("4*1", &[4]), ("3*1", &[5])]);
    assert_eq!(case.seen(Some(&here)), expected);
}

#[test]
fn priorities_have_no_gaps() {
    let case = Case::new(places()).policy(json!({"outlierDetection": {}}));
    let expected = groups(&[("1*1", &[1]), ("1*1", &[2]), ("1*1", &[3]), ("0*1", &[4]), ("1*1", &[5])]);
    assert_eq!(case.seen(Some(&vantage("r2/z9"))), expected);
}

#[test]
fn disabled_settings_do_nothing() {
    let here = vantage("r1/z1/s1");
    let case = Case::new(places()).policy(locality(json!({"enabled": false})));
    assert!(!case.needs_vantage());
    assert_eq!(case.seen(Some(&here)), case.seen(None));
    let mut case = Case::new(places()).policy(json!({"outlierDetection": {}}));
    case.mesh.locality_lb_setting.enabled = Some(false);
    assert!(!case.needs_vantage());
    let mut case = Case::new(places()).policy(json!({"loadBalancer": {"zoneAwareLbSetting": {"enabled": false}}}));
    case.service.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
    assert!(!case.needs_vantage(), "the rule beats the Service");
}

#[test]
fn distribute_shares_by_percent_and_empties_the_rest() {
    let here = vantage("r1/z1/s1");
    let distribute = |to: Value| {
        let setting = json!({"distribute": [{"from": "r9", "to": {"r9": 100}}, {"from": "r1/z1/*", "to": to}]});
        Case::new(places()).policy(json!({"loadBalancer": {"localityLbSetting": setting}}))
    };
    let case = distribute(json!({"r1/z1/*": 70, "r2": 30}));
    assert!(case.needs_vantage(), "without outlier detection, too");
    let expected = groups(&[("0*35", &[1]), ("0*35", &[2]), ("0*1", &[]), ("0*30", &[4]), ("0*1", &[])]);
    assert_eq!(case.seen(Some(&here)), expected);
    // Narrow patterns come first, whatever their order; shares are rounded up.
    let case = distribute(json!({"*": 10, "r1/z1/s1": 90}));
    let expected = groups(&[("0*90", &[1]), ("0*3", &[2]), ("0*3", &[3]), ("0*3", &[4]), ("0*3", &[5])]);
    assert_eq!(case.seen(Some(&here)), expected);
    // From elsewhere nothing changes.
    assert_eq!(case.seen(Some(&vantage("r2"))), case.seen(None));
}

#[test]
fn failover_priority_compares_labels_in_order() {
    let with = |last, pairs: &[(&str, &str)]| Endpoint { labels: labels(pairs), ..endpoint(last, "r1") };
    let list = vec![
        with(1, &[("team", "a"), ("tier", "x")]),
        with(2, &[("team", "a"), ("tier", "y")]),
        with(3, &[("team", "b"), ("tier", "x")]),
        with(4, &[("team", "a"), ("tier", "x")]),
    ];
    let case = |setting: Value| Case::new(list.clone()).policy(locality(setting));
    let here = Vantage { labels: labels(&[("team", "a"), ("tier", "x")]), ..vantage("r1") };
    let expected = groups(&[("0*2", &[1, 4]), ("1*1", &[2]), ("2*1", &[3])]);
    assert_eq!(case(json!({"failoverPriority": ["team", "tier"]})).seen(Some(&here)), expected);
    // A written value stands in for the proxy's label.
    let expected = groups(&[("0*1", &[2]), ("1*2", &[1, 4]), ("2*1", &[3])]);
    assert_eq!(case(json!({"failoverPriority": ["team", "tier=y"]})).seen(Some(&here)), expected);
    // Region failover goes within each priority.
    let setting = json!({"failoverPriority": ["team"], "failover": [{"from": "r1", "to": "r2"}]});
    let mut case = Case::new(vec![
        Endpoint { labels: labels(&[("team", "a")]), ..endpoint(1, "r1") },
        Endpoint { labels: labels(&[("team", "a")]), ..endpoint(2, "r2") },
        Endpoint { labels: labels(&[("team", "b")]), ..endpoint(3, "r1") },
    ]);
    case = case.policy(locality(setting));
    let expected = groups(&[("0*1", &[1]), ("2*1", &[3]), ("1*1", &[2])]);
    assert_eq!(case.seen(Some(&here)), expected);
}

#[test]
fn another_network_comes_after_all_of_this_one() {
    let network = |last, network, locality| Endpoint {
        labels: labels(&[("topology.istio.io/network", network)]),
        ..endpoint(last, locality)
    };
    let setting = json!({"failoverPriority": ["topology.istio.io/network", "topology.kubernetes.io/region"]});
    let list = vec![network(1, "n2", "r1"), network(2, "n1", "r2"), network(3, "n1", "r1"), network(4, "n2", "r2")];
    let case = Case::new(list).policy(locality(setting));
    let here = Vantage { labels: labels(&[("topology.istio.io/network", "n1")]), ..vantage("r1") };
    let expected = groups(&[("0*1", &[3]), ("2*1", &[1]), ("1*1", &[2]), ("3*1", &[4])]);
    assert_eq!(case.seen(Some(&here)), expected);
}

#[test]
fn traffic_distribution_prefers_zone_or_node_without_outlier_detection() {
    let on = |last, locality, node: &str| Endpoint { node: Some(node.into()), ..endpoint(last, locality) };
    let list = vec![on(1, "r1/z1", "n1"), on(2, "r1/z1", "n2"), on(3, "r1/z2", "n3"), on(4, "r2/z1", "n4")];
    let mut case = Case::new(list);
    let here = Vantage { node: Some("n2".into()), ..vantage("r1/z1") };
    for (distribution, expected) in [
        (TrafficDistribution::PreferSameZone, groups(&[("0*2", &[1, 2]), ("1*1", &[3]), ("2*1", &[4])])),
        (TrafficDistribution::PreferSameNode, groups(&[("0*1", &[2]), ("1*1", &[1]), ("2*1", &[3]), ("3*1", &[4])])),
    ] {
        case.service.traffic_distribution = Some(distribution);
        assert!(case.needs_vantage());
        assert_eq!(case.seen(Some(&here)), expected, "{distribution:?}");
    }
}

#[test]
fn zone_aware_balancing_keeps_a_region_together() {
    let setting = json!({"failover": [{"from": "r1", "to": "r3"}]});
    let case = Case::new(places()).policy(json!({"loadBalancer": {"zoneAwareLbSetting": setting}}));
    assert!(case.needs_vantage());
    let expected = groups(&[("0*1", &[1]), ("0*1", &[2]), ("0*1", &[3]), ("2*1", &[4]), ("1*1", &[5])]);
    assert_eq!(case.seen(Some(&vantage("r1/z1/s1"))), expected);
}

#[test]
fn dns_clusters_prefer_too() {
    let case = Case { service: service("HTTP", "DNS"), ..Case::new(places()) }.policy(json!({"outlierDetection": {}}));
    let endpoints = Endpoints { by_port: [("main".into(), case.endpoints.clone())].into() };
    let input = cluster::ClusterInput {
        service: &case.service,
        port: &case.service.ports[0],
        subset: None,
        rule: case.rule.as_ref(),
        mesh: &case.mesh,
        kind: ProxyKind::Sidecar,
        endpoints: Some(&endpoints),
        peers: None,
    };
    let here = vantage("r3");
    let seen = cluster::cluster_seen_from(&input, Some(&here)).unwrap().resource;
    let priorities: Vec<_> = seen.load_assignment.unwrap().endpoints.iter().map(|it| it.priority).collect();
    assert_eq!(priorities, [1, 1, 1, 1, 0]);
}
