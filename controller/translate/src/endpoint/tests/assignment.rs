use super::*;
use model::service::TrafficDistribution;

#[test]
fn an_assignment_has_localities_in_order_with_weights_health_and_workloads() {
    let workload = |revision: &str| Workload {
        name: "reviews-v1".into(),
        namespace: "books".into(),
        canonical_name: "reviews".into(),
        canonical_revision: revision.into(),
        kube_cluster: "Kubernetes".into(),
    };
    let mut case = Case::new(vec![
        Endpoint { weight: 3, workload: Some(Arc::new(workload("v1"))), ..endpoint(1, "r2/z1/s1") },
        Endpoint { workload: Some(Arc::new(workload("latest"))), ..endpoint(2, "r1/z1") },
        Endpoint { health: Health::Unhealthy, weight: 2, ..endpoint(3, "r2/z1/s1") },
    ]);
    case.service.publish_not_ready = true;
    let actual = xds::json::of(&case.assignment(None)).unwrap();
    let address = |ip: &str| json!({"address": {"socketAddress": {"address": ip, "portValue": 8080}}});
    let metadata = |text: &str| json!({"filterMetadata": {"istio": {"workload": text}}});
    let expected = json!({
        "clusterName": "outbound|80||api.example.com",
        "endpoints": [
            {
                "locality": {"region": "r1", "zone": "z1"},
                "loadBalancingWeight": 1,
                "lbEndpoints": [{
                    "endpoint": address("10.0.0.2"), "healthStatus": "HEALTHY", "loadBalancingWeight": 1,
                    "metadata": metadata("reviews-v1;books;reviews;;Kubernetes"),
                }],
            },
            {
                "locality": {"region": "r2", "zone": "z1", "subZone": "s1"},
                "loadBalancingWeight": 5,
                "lbEndpoints": [
                    {
                        "endpoint": address("10.0.0.1"), "healthStatus": "HEALTHY", "loadBalancingWeight": 3,
                        "metadata": metadata("reviews-v1;books;reviews;v1;Kubernetes"),
                    },
                    {"endpoint": address("10.0.0.3"), "healthStatus": "UNHEALTHY", "loadBalancingWeight": 2},
                ],
            },
        ],
    });
    assert_eq!(actual, expected);
}

#[test]
fn no_endpoint_is_an_empty_assignment() {
    let empty = xds::json::of(&Case::new(vec![]).assignment(None)).unwrap();
    assert_eq!(empty, json!({"clusterName": "outbound|80||api.example.com"}));
}

#[test]
fn a_subset_has_the_endpoints_that_carry_its_labels() {
    let version =
        |last, version| Endpoint { labels: labels(&[("version", version), ("x", "y")]), ..endpoint(last, "") };
    let mut case = Case::new(vec![version(1, "v1"), version(2, "v2"), version(3, "v1")]);
    case.rule = Some(rule(json!({"host": "api.example.com", "subsets": [
        {"name": "v1", "labels": {"version": "v1"}}, {"name": "both", "labels": {}},
        {"name": "none", "labels": {"version": "v9"}},
    ]})));
    for (subset, expected) in [
        (None, groups(&[("0*3", &[1, 2, 3])])),
        (Some("v1"), groups(&[("0*2", &[1, 3])])),
        (Some("both"), groups(&[("0*3", &[1, 2, 3])])),
        (Some("none"), vec![]),
    ] {
        case.subset = subset;
        assert_eq!(case.seen(None), expected, "{subset:?}");
        assert_eq!(case.assignment(None).cluster_name, format!("outbound|80|{}|api.example.com", subset.unwrap_or("")));
    }
}

#[test]
fn unready_endpoints_are_sent_only_where_somebody_looks_at_health() {
    let unhealthy = |last| Endpoint { health: Health::Unhealthy, ..endpoint(last, "") };
    let draining = Endpoint { health: Health::Draining, ..endpoint(3, "") };
    let mut case = Case::new(vec![endpoint(1, ""), unhealthy(2), draining]);
    let alone = groups(&[("0*1", &[1])]);
    let both = groups(&[("0*2", &[1, 2])]);
    assert_eq!(case.seen(None), alone);
    case.service.publish_not_ready = true;
    assert_eq!(case.seen(None), both);
    // With a panic threshold Envoy would some day use them.
    let mut case = case.policy(json!({"outlierDetection": {"minHealthPercent": 10}}));
    assert_eq!(case.seen(None), alone);
    case.service.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
    assert_eq!(case.seen(None), both);
}

#[test]
fn names_are_for_envoys_own_resolver_only() {
    let named = Endpoint { address: Address::Name("a.b".into()), ..endpoint(1, "") };
    let unix = Endpoint { address: Address::Unix("/run/s".into()), port: 0, ..endpoint(1, "") };
    let mut case = Case::new(vec![named, unix]);
    let addresses = |case: &Case| {
        let json = xds::json::of(&case.assignment(None)).unwrap();
        let list = json["endpoints"][0]["lbEndpoints"].as_array().unwrap().clone();
        list.iter().map(|it| it["endpoint"]["address"].clone()).collect::<Vec<_>>()
    };
    let pipe = json!({"pipe": {"path": "/run/s"}});
    assert_eq!(addresses(&case), std::slice::from_ref(&pipe));
    case.service = service("HTTP", "DNS");
    assert_eq!(addresses(&case), [json!({"socketAddress": {"address": "a.b", "portValue": 8080}}), pipe]);
}

#[test]
fn node_local_services_are_reached_only_on_the_proxys_node() {
    let on = |last, node: &str| Endpoint { node: Some(node.into()), ..endpoint(last, "") };
    let mut case = Case::new(vec![on(1, "n1"), on(2, "n2"), endpoint(3, "")]);
    case.service.node_local = true;
    assert!(case.needs_vantage());
    let here = Vantage { node: Some("n2".into()), ..vantage("") };
    assert_eq!(case.seen(Some(&here)), groups(&[("0*1", &[2])]));
    assert_eq!(case.seen(Some(&vantage(""))), groups(&[]));
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let workload = Workload::new("w", &"books".into(), &Default::default());
    let workload = Some(Arc::new(workload));
    let list = (1..20).map(|it| Endpoint { workload: workload.clone(), ..endpoint(it, "r/z") }).collect();
    let case = Case::new(list);
    let bytes = || xds::canonical::encode(&case.assignment(None));
    assert_eq!(bytes(), bytes());
}
