//! Which socket a client with certificates speaks through.

use super::*;

fn sockets(service: &Service, rule: Option<&MergedRule>, mesh: &MeshConfig, ports: &[&str]) -> Value {
    let peers =
        Peers { service_accounts: ["api".into()].into(), mutual_ports: ports.iter().map(|it| (*it).into()).collect() };
    let input = ClusterInput { peers: Some(&peers), ..input(service, rule, mesh) };
    let json = json_of(&cluster(&input).unwrap().resource);
    let names: Vec<&Value> =
        json["transportSocketMatches"].as_array().into_iter().flatten().map(|it| &it["name"]).collect();
    let sni = &json["transportSocket"]["typedConfig"]["sni"];
    json!({ "matches": names, "sni": sni })
}

#[test]
fn without_a_rule_each_endpoint_gets_what_it_takes() {
    let mesh = MeshConfig::default();
    let none = json!({"matches": [], "sni": null});
    let auto = json!({"matches": ["tlsMode-istio", "tlsMode-disabled"], "sni": null});
    let inside = service("HTTP", "STATIC");
    assert_eq!(sockets(&inside, None, &mesh, &[]), auto);
    let off = MeshConfig { enable_auto_mtls: false, ..MeshConfig::default() };
    assert_eq!(sockets(&inside, None, &off, &[]), none);
    let outside = Service { location: model::Location::External, ..inside };
    assert_eq!(sockets(&outside, None, &mesh, &[]), none);
    // Endpoints that Envoy makes up say nothing: all of them, or none.
    let headless = service("HTTP", "NONE");
    assert_eq!(sockets(&headless, None, &mesh, &[]), none);
    let all = json!({"matches": [], "sni": "outbound_.80_._.api.example.com"});
    assert_eq!(sockets(&headless, None, &mesh, &["main"]), all);
}

#[test]
fn a_rules_word_counts_for_all_endpoints() {
    let mesh = MeshConfig::default();
    let service = service("HTTP", "STATIC");
    for (tls, sni) in [
        (json!({"mode": "DISABLE"}), Value::Null),
        (json!({"mode": "ISTIO_MUTUAL"}), json!("outbound_.80_._.api.example.com")),
        (json!({"mode": "ISTIO_MUTUAL", "sni": "mine"}), json!("mine")),
    ] {
        let rule = rule(json!({"host": "api.example.com", "trafficPolicy": {"tls": tls}}));
        assert_eq!(sockets(&service, Some(&rule), &mesh, &[]), json!({"matches": [], "sni": sni}), "{tls}");
    }
}

#[test]
fn a_client_without_certificates_speaks_plain_text() {
    let (mesh, service) = (MeshConfig::default(), service("HTTP", "STATIC"));
    let rule = rule(json!({"host": "api.example.com", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}));
    let json = json_of(&cluster(&input(&service, Some(&rule), &mesh)).unwrap().resource);
    assert_part(&json, &json!({"transportSocket": null, "transportSocketMatches": null}), "");
}

#[test]
fn the_proxy_protocol_goes_around_whatever_is_spoken() {
    let (mesh, service) = (MeshConfig::default(), service("HTTP", "STATIC"));
    let rule = rule(json!({"host": "api.example.com", "trafficPolicy": {"proxyProtocol": {"version": "V2"}}}));
    let peers = Peers::default();
    let input = ClusterInput { peers: Some(&peers), ..input(&service, Some(&rule), &mesh) };
    let json = json_of(&cluster(&input).unwrap().resource);
    let inner = |at: usize| &json["transportSocketMatches"][at]["transportSocket"]["typedConfig"]["transportSocket"];
    assert_eq!(
        (&inner(0)["name"], &inner(1)["name"]),
        (&json!("envoy.transport_sockets.tls"), &json!("envoy.transport_sockets.raw_buffer"))
    );
}

#[test]
fn simple_and_mutual_are_spoken_with_the_users_own_certificates() {
    let tls = |protocol: &str, tls: Value| translated(protocol, json!({"tls": tls})).0;
    let names = |json: &Value| json["http"]["upstreamHttpProtocolOptions"].clone();
    let context = |json: &Value| json["transportSocket"]["typedConfig"].clone();

    let http = tls("HTTP", json!({"mode": "SIMPLE", "caCertificates": "/ca.pem"}));
    assert_eq!(names(&http), json!({"autoSni": true, "autoSanValidation": true}));
    let ca = json!({"commonTlsContext": {"validationContext": {"trustedCa": {"filename": "/ca.pem"}}}});
    assert_part(&context(&http), &ca, "");
    assert_part(&http, &json!({"http": {"explicitHttpConfig": {"httpProtocolOptions": {}}}}), "");

    let h2 = tls("HTTP2", json!({"mode": "SIMPLE", "sni": "a.b", "subjectAltNames": ["c.d"]}));
    assert_eq!(names(&h2), Value::Null);
    assert_part(&context(&h2), &json!({"sni": "a.b", "commonTlsContext": {"alpnProtocols": ["h2"]}}), "");
    let named = tls("HTTP", json!({"mode": "SIMPLE", "subjectAltNames": ["c.d"]}));
    assert_eq!(names(&named), json!({"autoSni": true}));
    let unverified = tls("HTTP", json!({"mode": "SIMPLE", "insecureSkipVerify": true}));
    assert_eq!(names(&unverified), json!({"autoSni": true}));
}

#[test]
fn a_credential_is_asked_for_by_gateways_only() {
    let (mesh, service) = (MeshConfig::default(), service("HTTP", "STATIC"));
    let tls = json!({"mode": "SIMPLE", "credentialName": "shop"});
    let rule = rule(json!({"host": "api.example.com", "trafficPolicy": {"tls": tls}}));
    for (kind, socket) in [(ProxyKind::Sidecar, false), (ProxyKind::Router, true)] {
        let input = ClusterInput { kind, ..input(&service, Some(&rule), &mesh) };
        assert_eq!(cluster(&input).unwrap().resource.transport_socket.is_some(), socket, "{kind:?}");
    }
}
