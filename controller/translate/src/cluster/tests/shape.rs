use super::*;
use model::endpoint::{Address, Endpoint, Health};
use model::service::TrafficDistribution;

fn endpoint(address: Address) -> Endpoint {
    Endpoint {
        address,
        port: 8080,
        labels: Default::default(),
        locality: Default::default(),
        weight: 1,
        health: Health::Healthy,
        node: None,
        workload: None,
        service_account: None,
        tls: model::TlsMode::Disabled,
        hostname: None,
    }
}

fn endpoints(names: &[&str]) -> Endpoints {
    let list = names.iter().map(|it| endpoint(Address::Name((*it).into()))).collect();
    Endpoints { by_port: [("main".into(), list)].into() }
}

#[test]
fn an_eds_cluster_asks_over_ads_for_its_own_name() {
    let mesh = MeshConfig::default();
    let service = service("HTTP", "STATIC");
    let actual = json_of(&cluster(&input(&service, None, &mesh)).unwrap().resource);
    let expected = json!({
        "name": "outbound|80||api.example.com",
        "altStatName": "outbound|80||api.example.com;",
        "type": "EDS",
        "edsClusterConfig": {
            "serviceName": "outbound|80||api.example.com",
            "edsConfig": {"ads": {}, "initialFetchTimeout": "0s", "resourceApiVersion": "V3"},
        },
        "connectTimeout": "10s",
        "lbPolicy": "LEAST_REQUEST",
        "commonLbConfig": {},
        "circuitBreakers": {"thresholds": [{
            "maxConnections": u32::MAX, "maxPendingRequests": u32::MAX, "maxRequests": u32::MAX,
            "maxRetries": u32::MAX, "trackRemaining": true,
        }]},
        "metadata": {"filterMetadata": {"istio": {
            "services": [{"host": "api.example.com", "name": "api.example.com", "namespace": "books"}],
        }}},
        "http": null,
    });
    assert_part(&actual, &expected, "eds");
    // And nothing else.
    let keys: Vec<_> = actual.as_object().unwrap().keys().filter(|key| expected.get(key.as_str()).is_none()).collect();
    assert_eq!(keys, ["typedExtensionProtocolOptions"; 0]);
}

#[test]
fn resolution_and_proxy_decide_the_type() {
    let mesh = MeshConfig::default();
    for (resolution, kind, expected) in [
        ("STATIC", ProxyKind::Sidecar, Discovery::Eds),
        ("NONE", ProxyKind::Sidecar, Discovery::OriginalDst),
        ("NONE", ProxyKind::Router, Discovery::Eds),
        ("DNS", ProxyKind::Sidecar, Discovery::StrictDns),
        ("DNS_ROUND_ROBIN", ProxyKind::Router, Discovery::LogicalDns),
        ("DYNAMIC_DNS", ProxyKind::Sidecar, Discovery::Dynamic),
    ] {
        let service = service("HTTP", resolution);
        assert_eq!(discovery(&service, kind, &Policy::default()), expected, "{resolution} {kind:?}");
    }
    let passthrough = rule(json!({"trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}));
    let policy = policy(Some(&passthrough), 80, None, &mesh);
    assert_eq!(discovery(&service("HTTP", "STATIC"), ProxyKind::Router, &policy), Discovery::OriginalDst);
}

#[test]
fn a_wildcard_host_is_resolved_by_each_request() {
    let mesh = MeshConfig::default();
    let rule = rule(json!({"host": "api.example.com", "subsets": [{"name": "v1"}], "trafficPolicy": {
        "loadBalancer": {"simple": "PASSTHROUGH"}, "connectionPool": {"tcp": {"maxConnections": 7}},
    }}));
    let service = service("GRPC", "DYNAMIC_DNS");
    let made = cluster(&input(&service, Some(&rule), &mesh)).unwrap().resource;
    let cache = json!({"name": "api.example.com_dfp_dns_cache", "dnsLookupFamily": "V4_PREFERRED"});
    let expected = json!({
        "type": null, "lbPolicy": "CLUSTER_PROVIDED", "commonLbConfig": null, "edsClusterConfig": null,
        "clusterType": {"name": "envoy.clusters.dynamic_forward_proxy", "typedConfig": {
            "dnsCacheConfig": cache, "allowInsecureClusterOptions": true,
        }},
        "http": {"explicitHttpConfig": {"http2ProtocolOptions": {}}},
    });
    assert_part(&json_of(&made), &expected, "dynamic");
    assert_eq!(made.circuit_breakers.unwrap().thresholds[0].max_connections, message::uint32(7));
    let subset = ClusterInput { subset: Some("v1"), ..input(&service, Some(&rule), &mesh) };
    assert_eq!(cluster(&subset), None, "there is nothing to choose a subset of");
}

#[test]
fn the_ports_protocol_decides_the_http_version() {
    let http2 = json!({"explicitHttpConfig": {"http2ProtocolOptions": {}}});
    let downstream = json!({"useDownstreamProtocolConfig": {"httpProtocolOptions": {}, "http2ProtocolOptions": {}}});
    let mesh = MeshConfig::default();
    for (protocol, kind, expected) in [
        ("HTTP", ProxyKind::Sidecar, &Value::Null),
        ("HTTP_PROXY", ProxyKind::Sidecar, &Value::Null),
        ("HTTP2", ProxyKind::Sidecar, &http2),
        ("GRPC", ProxyKind::Router, &http2),
        ("GRPC-WEB", ProxyKind::Sidecar, &http2),
        ("TCP", ProxyKind::Sidecar, &Value::Null),
        ("TLS", ProxyKind::Sidecar, &Value::Null),
        ("HTTPS", ProxyKind::Sidecar, &Value::Null),
        ("MONGO", ProxyKind::Sidecar, &Value::Null),
        ("", ProxyKind::Sidecar, &downstream),
        ("", ProxyKind::Router, &Value::Null),
    ] {
        let service = service(protocol, "STATIC");
        let actual = cluster(&ClusterInput { kind, ..input(&service, None, &mesh) }).unwrap().resource;
        assert_part(&json_of(&actual), &json!({"http": expected}), &format!("{protocol} {kind:?}"));
    }
}

#[test]
fn subsets_are_clusters_of_their_own_and_unknown_ones_are_none() {
    let mesh = MeshConfig::default();
    let rule = rule(json!({"host": "api.example.com", "subsets": [
        {"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}},
    ]}));
    let service = service("HTTP", "STATIC");
    let of = |subset| cluster(&ClusterInput { subset, ..input(&service, Some(&rule), &mesh) });
    let config = "/apis/networking.istio.io/v1alpha3/namespaces/books/destination-rule/rule";
    let v1 = json_of(&of(Some("v1")).unwrap().resource);
    let expected = json!({
        "name": "outbound|80|v1|api.example.com", "lbPolicy": "RANDOM",
        "metadata": {"filterMetadata": {"istio": {"subset": "v1", "config": config}}},
    });
    assert_part(&v1, &expected, "v1");
    assert_part(&json_of(&of(None).unwrap().resource), &json!({"lbPolicy": "LEAST_REQUEST"}), "all");
    assert!(of(Some("v2")).is_none());
}

#[test]
fn some_services_have_no_cluster() {
    let mesh = MeshConfig::default();
    let udp = service("UDP", "STATIC");
    assert!(cluster(&input(&udp, None, &mesh)).is_none());
    let alias = Service { resolution: Resolution::Alias(Hostname::new("b.c")), ..service("HTTP", "STATIC") };
    assert!(cluster(&input(&alias, None, &mesh)).is_none());
    let dns = service("HTTP", "DNS");
    assert!(cluster(&input(&dns, None, &mesh)).is_none(), "no endpoints given");
    let empty = Endpoints::default();
    assert!(cluster(&ClusterInput { endpoints: Some(&empty), ..input(&dns, None, &mesh) }).is_none());
}

#[test]
fn dns_clusters_carry_their_endpoints() {
    let mesh = MeshConfig::default();
    let endpoints = endpoints(&["a.example.com", "b.example.com"]);
    for (resolution, kind, names) in [
        ("DNS", "STRICT_DNS", &["a.example.com", "b.example.com"][..]),
        ("DNS_ROUND_ROBIN", "LOGICAL_DNS", &["a.example.com"]),
    ] {
        let service = service("HTTP", resolution);
        let cluster = cluster(&ClusterInput { endpoints: Some(&endpoints), ..input(&service, None, &mesh) });
        let list: Vec<_> = names.iter().map(|name| {
            json!({"endpoint": {"address": {"socketAddress": {"address": name, "portValue": 8080}}}, "loadBalancingWeight": 1})
        }).collect();
        let expected = json!({
            "type": kind, "dnsLookupFamily": "V4_PREFERRED", "dnsRefreshRate": "60s", "respectDnsTtl": true,
            "dnsJitter": "0.100s", "edsClusterConfig": null,
            "typedDnsResolverConfig": {"name": "envoy.network.dns_resolver.cares", "typedConfig": {"udpMaxQueries": 100}},
            "loadAssignment": {
                "clusterName": "outbound|80||api.example.com",
                "endpoints": [{"lbEndpoints": list, "loadBalancingWeight": names.len()}],
            },
        });
        assert_part(&json_of(&cluster.unwrap().resource), &expected, resolution);
    }
}

#[test]
fn a_target_port_overrides_the_original_destinations() {
    let mesh = MeshConfig::default();
    let mut service = service("TCP", "NONE");
    let of = |service: &Service| json_of(&cluster(&input(service, None, &mesh)).unwrap().resource);
    let expected = json!({"type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED", "originalDstLbConfig": null});
    assert_part(&of(&service), &expected, "none");
    service.ports[0].target_port = Some(8080);
    assert_part(&of(&service), &json!({"originalDstLbConfig": {"upstreamPortOverride": 8080}}), "8080");
}

#[test]
fn services_with_unready_endpoints_never_panic() {
    let mesh = MeshConfig::default();
    let rule = rule(json!({"trafficPolicy": {"outlierDetection": {"minHealthPercent": 30}}}));
    let plain = service("HTTP", "STATIC");
    let published = Service { publish_not_ready: true, ..plain.clone() };
    let near = Service { traffic_distribution: Some(TrafficDistribution::PreferSameZone), ..plain.clone() };
    for (service, rule, expected) in [
        (&plain, None, Value::Null),
        (&published, None, json!({})),
        (&near, None, json!({})),
        (&published, Some(&rule), json!({"value": 30.0})),
        (&near, Some(&rule), json!({"value": null})),
    ] {
        let actual = json_of(&cluster(&input(service, rule, &mesh)).unwrap().resource);
        assert_part(&actual["commonLbConfig"], &json!({"healthyPanicThreshold": expected}), "panic");
    }
}

#[test]
fn stat_names_follow_the_meshs_pattern() {
    let pattern = "%SERVICE%.%SERVICE_FQDN%.%SERVICE_NAME%.%SERVICE_PORT%.%SERVICE_PORT_NAME%.%SUBSET_NAME%";
    let mesh = MeshConfig { outbound_cluster_stat_name: pattern.into(), ..MeshConfig::default() };
    let entry = service("HTTP", "STATIC");
    let kube = Service {
        key: model::ServiceKey { host: Hostname::new("api.books.svc.cluster.local"), namespace: "books".into() },
        registry: model::Registry::Kubernetes,
        ..entry.clone()
    };
    for (service, expected) in [
        (&entry, "api.example.com.api.example.com.api.example.com.80.main.;"),
        (&kube, "api.books.api.books.svc.cluster.local.api.80.main.;"),
    ] {
        assert_eq!(cluster(&input(service, None, &mesh)).unwrap().resource.alt_stat_name, expected);
    }
}

#[test]
fn external_services_are_marked() {
    let mesh = MeshConfig::default();
    let service = Service { location: model::Location::External, ..service("HTTP", "STATIC") };
    let actual = json_of(&cluster(&input(&service, None, &mesh)).unwrap().resource);
    assert_part(&actual, &json!({"metadata": {"filterMetadata": {"istio": {"external": true}}}}), "external");
}

#[test]
fn gateways_share_all_clusters_but_those_of_sniffed_and_original_destinations() {
    let mesh = MeshConfig::default();
    let endpoints = endpoints(&["a.example.com"]);
    for protocol in ["HTTP", "GRPC", "TCP", "TLS", ""] {
        for resolution in ["STATIC", "DNS", "DNS_ROUND_ROBIN", "NONE"] {
            let service = service(protocol, resolution);
            let of = |kind| {
                let endpoints = Some(&endpoints);
                cluster(&ClusterInput { kind, endpoints, ..input(&service, None, &mesh) }).unwrap()
            };
            let differs = of(ProxyKind::Sidecar) != of(ProxyKind::Router);
            assert_eq!(
                depends_on_kind(&service, &service.ports[0], &Policy::default()),
                differs,
                "{protocol} {resolution}"
            );
        }
    }
}
