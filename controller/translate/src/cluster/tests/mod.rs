//! What a DestinationRule's `trafficPolicy` becomes, field by field, and the shapes of all clusters.

mod fixed;
mod load_balancing;
mod policy;
mod security;
mod shape;

use super::*;
use crds::{Kind, ObjectKey, Problem, networking as n};
use model::{Hostname, Visibility, service::Age};
use serde_json::{Value, json};

/// `expected` is a part of `actual`; `null` means "not there". Other lists must be equal in length.
pub(crate) fn assert_part(actual: &Value, expected: &Value, path: &str) {
    match (actual, expected) {
        (Value::Object(have), Value::Object(want)) => {
            for (key, want) in want {
                let path = format!("{path}.{key}");
                assert_part(have.get(key).unwrap_or(&Value::Null), want, &path);
            }
        }
        (Value::Array(have), Value::Array(want)) => {
            assert_eq!(have.len(), want.len(), "{path}: {actual:#}");
            for (at, (have, want)) in have.iter().zip(want).enumerate() {
                assert_part(have, want, &format!("{path}[{at}]"));
            }
        }
        _ => assert_eq!(actual, expected, "{path}"),
    }
}

pub(crate) fn rule(spec: Value) -> MergedRule {
    let spec: n::DestinationRule = serde_json::from_value(spec).unwrap();
    let object = ObjectKey::new(Kind::DestinationRule, "books", "rule");
    MergedRule {
        host: Hostname::new(&spec.host),
        objects: vec![object],
        age: Age { created: "".into(), name: "".into(), namespace: "".into() },
        visibility: Visibility::Public,
        selector: None,
        traffic_policy: spec.traffic_policy,
        subsets: spec.subsets,
    }
}

/// `api.example.com:80` of the given protocol and resolution.
pub(crate) fn service(protocol: &str, resolution: &str) -> Service {
    let spec = serde_json::from_value(json!({
        "hosts": ["api.example.com"], "location": "MESH_INTERNAL", "resolution": resolution,
        "ports": [{"number": 80, "name": "main", "protocol": protocol}],
    }));
    let key = ObjectKey::new(Kind::ServiceEntry, "books", "api");
    let meta = crds::Meta::default();
    Service::from_entry(&Hostname::new("api.example.com"), &key, &meta, &spec.unwrap(), &MeshConfig::default())
}

/// The cluster as JSON. Options of HTTP are unpacked to the key `http`.
fn json_of(cluster: &Cluster) -> Value {
    let mut json = xds::json::of(cluster).unwrap();
    let options = json.as_object_mut().unwrap().remove("typedExtensionProtocolOptions");
    json["http"] = options.map_or(Value::Null, |mut it| it[http_protocol::KEY].take());
    json
}

fn translated(protocol: &str, policy: Value) -> (Value, Vec<Problem>) {
    translated_in(&MeshConfig::default(), protocol, policy)
}

fn translated_in(mesh: &MeshConfig, protocol: &str, policy: Value) -> (Value, Vec<Problem>) {
    let rule = rule(json!({"host": "api.example.com", "trafficPolicy": policy}));
    let service = service(protocol, "STATIC");
    let input = input(&service, Some(&rule), mesh);
    let Translated { resource, problems } = cluster(&input).unwrap();
    (json_of(&resource), problems)
}

fn input<'a>(service: &'a Service, rule: Option<&'a MergedRule>, mesh: &'a MeshConfig) -> ClusterInput<'a> {
    let port = &service.ports[0];
    ClusterInput { service, port, subset: None, rule, mesh, kind: ProxyKind::Sidecar, endpoints: None, peers: None }
}

/// Each policy of an HTTP port gives the part, without a problem.
fn assert_policies(table: &[(Value, Value)]) {
    for (policy, expected) in table {
        let (actual, problems) = translated("HTTP", policy.clone());
        assert_eq!(problems, [], "{policy}");
        assert_part(&actual, expected, &policy.to_string());
    }
}

/// Each policy gives the part, and one problem of the field.
fn assert_remarks(table: &[(Value, &str, Value)]) {
    for (policy, field, expected) in table {
        let (actual, problems) = translated("HTTP2", policy.clone());
        let fields: Vec<_> = problems.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, [format!("spec.trafficPolicy.{field}")], "{policy}");
        assert_eq!(problems[0].object, ObjectKey::new(Kind::DestinationRule, "books", "rule"));
        assert_part(&actual, expected, &policy.to_string());
    }
}
