use super::*;
use crate::mesh_config::MeshConfig;
use crate::{Duration, yaml};
use serde_json::json;

fn decode(text: &str) -> Vec<Decoded> {
    objects(yaml::value(text).unwrap())
}

fn one(text: &str) -> Decoded {
    let mut all = decode(text);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

const VIRTUAL_SERVICE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n";

#[test]
fn every_served_version_and_kind_is_read() {
    for (api, kind, expected) in [
        ("v1", "ConfigMap", Kind::ConfigMap),
        ("v1", "Namespace", Kind::Namespace),
        ("v1", "Node", Kind::Node),
        ("v1", "Pod", Kind::Pod),
        ("v1", "Service", Kind::Service),
        ("apps/v1", "Deployment", Kind::Deployment),
        ("discovery.k8s.io/v1", "EndpointSlice", Kind::EndpointSlice),
        ("networking.istio.io/v1", "DestinationRule", Kind::DestinationRule),
        ("networking.istio.io/v1beta1", "Gateway", Kind::Gateway),
        ("networking.istio.io/v1beta1", "ProxyConfig", Kind::ProxyConfig),
        ("networking.istio.io/v1alpha3", "ServiceEntry", Kind::ServiceEntry),
        ("networking.istio.io/v1", "Sidecar", Kind::Sidecar),
        ("networking.istio.io/v1beta1", "VirtualService", Kind::VirtualService),
        ("networking.istio.io/v1alpha3", "WorkloadEntry", Kind::WorkloadEntry),
    ] {
        let decoded = one(&format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a}}\n"));
        let namespace = if expected.is_cluster_scoped() { "" } else { "default" };
        assert_eq!(decoded.key, ObjectKey::new(expected, namespace, "a"), "{kind}");
        assert!(decoded.object().is_some(), "{kind}: {:?}", decoded.problems);
    }
}

#[test]
fn kinds_that_are_not_read_are_skipped_named_or_refused() {
    for (api, kind, expected) in [
        ("v1", "Secret", "skipped v1 Secret"),
        ("networking.k8s.io/v1", "Ingress", "skipped networking.k8s.io/v1 Ingress"),
        ("rbac.authorization.k8s.io/v1", "Role", "skipped rbac.authorization.k8s.io/v1 Role"),
        ("cert-manager.io/v1", "Certificate", "skipped cert-manager.io/v1 Certificate"),
        (
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "AuthorizationPolicy default/a: not translated by this version of navarch, has no effect",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            "HTTPRoute default/a: not translated by this version of navarch, has no effect",
        ),
        (
            "networking.istio.io/v1",
            "VirtualServce",
            "object default/a: kind: unknown kind networking.istio.io/v1 VirtualServce, did you mean networking.istio.io/v1 VirtualService?",
        ),
        (
            "networking.istio.io/v2",
            "VirtualService",
            "object default/a: kind: unknown kind networking.istio.io/v2 VirtualService (served versions: v1, v1beta1, v1alpha3)",
        ),
        ("v1", "Servce", "object default/a: kind: unknown kind v1 Servce, did you mean v1 Service?"),
        ("extensions.istio.io/v1", "Nothing", "object default/a: kind: unknown kind extensions.istio.io/v1 Nothing"),
    ] {
        let decoded = one(&format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a}}\n"));
        let found = match &decoded.outcome {
            Outcome::Skipped(kind) => format!("skipped {kind}"),
            _ => lines(&decoded.problems).join("; "),
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn documents_without_a_kind_or_name_are_malformed() {
    for (text, expected) in [
        ("[1]", "document : expected an object with apiVersion and kind, found a list"),
        ("kind: Service\nmetadata: {name: a}", "object default/a: apiVersion: apiVersion is required"),
        ("apiVersion: v1\nmetadata: {name: a}", "object default/a: kind: kind is required"),
        ("apiVersion: v1\nkind: Service", "Service default/: metadata.name: a name is required"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {x: 1}}",
            "Service default/a: metadata.labels.x: invalid type: integer 1, expected a string",
        ),
    ] {
        let decoded = one(text);
        assert_eq!(decoded.outcome, Outcome::Refused);
        assert_eq!(lines(&decoded.problems), [expected]);
    }
}

#[test]
fn mistakes_are_named_by_their_path() {
    for (spec, expected) in [
        ("  http: [{rout: []}]", "spec.http[0].rout: unknown field, ignored"),
        ("  http: [{match: [{uri: {exct: /}}]}]", "spec.http[0].match[0].uri.exct: unknown field, ignored"),
        ("  hosts: a", "spec.hosts: invalid type: string \"a\", expected a sequence"),
        ("  http: [{timeout: 5}]", "spec.http[0].timeout: invalid type: integer 5, expected a string"),
        ("  http: [{timeout: 5x}]", "spec.http[0].timeout: \"5x\" is not a duration such as 1h, 30s, 1.5s or 100ms"),
        (
            "  http: [{redirect: {derivePort: SOMETIMES}}]",
            "spec.http[0].redirect.derivePort: unknown value \"SOMETIMES\", expected \"FROM_PROTOCOL_DEFAULT\" or \"FROM_REQUEST_PORT\"",
        ),
        (
            "  http: [{match: [{uri: {exact: a, prefix: b}}]}]",
            "spec.http[0].match[0].uri: only one of exact, prefix and regex may be set",
        ),
        (
            "  http: [{route: [{weight: -1.5}]}]",
            "spec.http[0].route[0].weight: invalid type: floating point -1.5, expected i32",
        ),
    ] {
        let decoded = one(&format!("{VIRTUAL_SERVICE}{spec}\n"));
        assert_eq!(lines(&decoded.problems), [format!("VirtualService default/a: {expected}")]);
    }
}

#[test]
fn an_unknown_enum_value_has_its_own_reason() {
    let decoded = one(&format!("{VIRTUAL_SERVICE}  http: [{{redirect: {{derivePort: X}}}}]"));
    assert!(matches!(&decoded.problems[0].reason, Reason::UnknownEnumValue(_)));
    assert_eq!(decoded.outcome, Outcome::Refused);
}

#[test]
fn an_unknown_field_leaves_the_object_in_force() {
    let decoded = one(&format!("{VIRTUAL_SERVICE}  nonsense: 1\nextra: 2"));
    assert_eq!(decoded.problems.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), ["extra", "spec.nonsense"]);
    assert!(decoded.object().is_some());
}

#[test]
fn kubernetes_own_objects_may_have_fields_that_are_not_read() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, uid: x, creationTimestamp: null}\nspec: {ports: [{port: 80, nodePort: 3}], sessionAffinity: None}\nstatus: {}";
    let decoded = one(text);
    assert_eq!(decoded.problems, []);
    assert!(decoded.object().is_some());
}

#[test]
fn null_is_absent_but_not_in_a_selector() {
    assert!(one(&format!("{VIRTUAL_SERVICE}  hosts:\n  http:\n  - timeout:\n    headers:\n")).object().is_some());
    let decoded = one("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: }}");
    assert_eq!(
        lines(&decoded.problems),
        ["Service default/a: spec.selector.app: invalid type: null, expected a string"]
    );
}

#[test]
fn lists_are_flattened() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- apiVersion: v1\n  kind: List\n  items:\n  - {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {ports: 1}}\n";
    let all = decode(text);
    let found: Vec<_> = all.iter().map(|d| (d.at.as_str(), d.key.to_string(), lines(&d.problems))).collect();
    assert_eq!(
        found,
        [
            ("items[0]", "Namespace a".into(), vec![]),
            (
                "items[1].items[0]",
                "Service default/b".into(),
                vec![
                    "Service default/b: items[1].items[0].spec.ports: invalid type: integer 1, expected a sequence"
                        .into()
                ]
            ),
        ]
    );
}

#[test]
fn checked_refuses_what_validation_refuses() {
    let all = checked(yaml::value(&format!("{VIRTUAL_SERVICE}  hosts: [a]")).unwrap());
    assert_eq!(all[0].outcome, Outcome::Refused);
}

fn mesh(text: &str, last_good: &MeshConfig) -> (MeshConfig, Vec<String>) {
    let key = ObjectKey::new(Kind::ConfigMap, "istio-system", "istio");
    let (config, problems) = mesh_config_text(text, last_good, &key);
    let problems = problems.iter().map(|p| format!("{}: {}", p.field, p.reason)).collect();
    (config, problems)
}

#[test]
fn a_bad_mesh_field_keeps_its_last_good_value_and_no_other() {
    let (first, problems) =
        mesh("connectTimeout: 5s\naccessLogFile: /dev/stdout\nproxyHttpPort: 15002", &MeshConfig::default());
    assert_eq!(problems, [""; 0]);
    let (second, problems) = mesh("connectTimeout: soon\naccessLogFile: /tmp/log\ntrustDomain: example.org", &first);
    assert_eq!(problems, ["connectTimeout: \"soon\" is not a duration such as 1h, 30s, 1.5s or 100ms"]);
    assert_eq!(second.connect_timeout, Duration::from_secs(5));
    assert_eq!(second.access_log_file, "/tmp/log");
    assert_eq!(second.trust_domain, "example.org");
    assert_eq!(second.proxy_http_port, 0, "a field that is removed goes back to its default");
}

#[test]
fn default_config_is_read_field_by_field_too() {
    let (first, _) = mesh("defaultConfig: {interceptionMode: NONE, concurrency: 2}", &MeshConfig::default());
    let (second, problems) = mesh("defaultConfig: {interceptionMode: SOME, concurrency: 4}", &first);
    assert_eq!(
        problems,
        ["defaultConfig.interceptionMode: unknown value \"SOME\", expected one of \"REDIRECT\", \"TPROXY\", \"NONE\""]
    );
    assert_eq!(second.default_config.interception_mode, first.default_config.interception_mode);
    assert_eq!(second.default_config.concurrency, Some(4));
}

#[test]
fn mesh_rules_are_istios() {
    for (text, expected) in [
        ("rootNamespace: A_B", "rootNamespace: \"A_B\" is not a namespace"),
        ("trustDomain: a..b", "trustDomain: trust domain name"),
        ("trustDomainAliases: ['a b']", "trustDomainAliases: trust domain name"),
        ("proxyListenPort: 0", "proxyListenPort: port number 0"),
        ("proxyListenPort: 70000", "proxyListenPort: invalid value: integer"),
        ("connectTimeout: 2h", "connectTimeout: time must be"),
        ("connectTimeout: 0s", "connectTimeout: duration must be greater than 1ms"),
        ("protocolDetectionTimeout: 1us", "protocolDetectionTimeout: only durations to ms"),
        ("defaultServiceExportTo: ['*', a]", "defaultServiceExportTo: cannot have both"),
        ("defaultHttpRetryPolicy: {attempts: -1}", "defaultHttpRetryPolicy: attempts: attempts cannot be negative"),
        ("defaultTrafficPolicy: {connectionPool: {}}", "defaultTrafficPolicy: connectionPool: connection pool must"),
        ("localityLbSetting: {distribute: [{from: a, to: {b: 1}}]}", "localityLbSetting: distribute[0].to: total"),
        ("serviceSettings: [{hosts: ['a b']}]", "serviceSettings: domain name"),
        ("defaultConfig: {drainDuration: 1500ms}", "defaultConfig.drainDuration: drain time only"),
        ("h2UpgradePolicy: MAYBE", "h2UpgradePolicy: unknown value \"MAYBE\""),
        ("defaultConfig: 1", "defaultConfig: must be a mapping"),
        ("a: [", "mesh: line"),
        ("[]", "mesh: MeshConfig must be a mapping"),
    ] {
        let last_good = MeshConfig { access_log_file: "kept".into(), ..MeshConfig::default() };
        let (config, problems) = mesh(text, &last_good);
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{text}: {problems:?}");
        let is_whole = problems[0].starts_with("mesh:");
        assert_eq!(config == last_good, is_whole, "only what cannot be read at all keeps every field: {text}");
    }
}

#[test]
fn mesh_fields_are_translated_named_or_unknown() {
    let text = "enableTracing: true\nnonsense: 1\nenablePrometheusMerge: true\noutboundTrafficPolicy: {mode: ALLOW_ANY, tls: {}}\ndefaultConfig: {tracing: {}, image: {}, gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}, odd: 1}\nlocalityLbSetting: {failoverPriority: [a]}";
    let (config, problems) = mesh(text, &MeshConfig::default());
    let untranslated = "not translated by this version of navarch, has no effect";
    assert_eq!(
        problems,
        [
            format!("outboundTrafficPolicy.tls: {untranslated}"),
            format!("enableTracing: {untranslated}"),
            "nonsense: unknown field, ignored".into(),
            format!("defaultConfig.gatewayTopology.proxyProtocol: {untranslated}"),
            format!("defaultConfig.tracing: {untranslated}"),
            "defaultConfig.odd: unknown field, ignored".into(),
        ]
    );
    assert_eq!(config.default_config.gateway_topology.num_trusted_proxies, 1);
}

#[test]
fn mesh_config_is_found_in_its_config_map() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    trustDomain: example.org\n";
    let object = one(text).into_object().unwrap();
    let (config, problems) = mesh_config_map(&object, &MeshConfig::default());
    assert_eq!((config.trust_domain.as_str(), problems.len()), ("example.org", 0));
    let object = one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\n").into_object().unwrap();
    let (kept, problems) = mesh_config_map(&object, &config);
    assert_eq!((kept, problems.len()), (config, 1));
}

#[test]
fn a_value_that_is_no_object_is_no_document() {
    assert_eq!(object(json!("text")).outcome, Outcome::Refused);
}
