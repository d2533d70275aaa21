//! Every field that users may set, from the types themselves.

use crate::{extensions as x, networking as n, security as s};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;
use std::collections::BTreeSet;

/// A kind with the paths of its fields below `spec`: `http[].match[].uri.exact`; `{}` stands for a key of the user's.
/// Messages are not listed, their fields are.
///
/// ```
/// let (kind, fields) = &crds::field::all()[5];
/// assert_eq!(*kind, "ServiceEntry");
/// assert!(fields.contains("endpoints[].ports{}"));
/// ```
pub fn all() -> Vec<(&'static str, BTreeSet<String>)> {
    let of = |(kind, schema): (_, Value)| {
        let mut fields = BTreeSet::new();
        walk(&schema, &schema, String::new(), &mut fields);
        (kind, fields)
    };
    schemas().into_iter().map(of).collect()
}

/// A kind with the schema of its `spec`, as the types have it.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("DestinationRule", of::<n::DestinationRule>()),
        ("EnvoyFilter", of::<n::EnvoyFilter>()),
        ("Gateway", of::<n::Gateway>()),
        ("PeerAuthentication", of::<s::PeerAuthentication>()),
        ("ProxyConfig", of::<n::ProxyConfig>()),
        ("ServiceEntry", of::<n::ServiceEntry>()),
        ("Sidecar", of::<n::Sidecar>()),
        ("TrafficExtension", of::<x::TrafficExtension>()),
        ("VirtualService", of::<n::VirtualService>()),
        ("WasmPlugin", of::<x::WasmPlugin>()),
        ("WorkloadEntry", of::<n::WorkloadEntry>()),
        ("WorkloadGroup", of::<n::WorkloadGroup>()),
    ]
}

/// Messages that stand in several places, and are read by the same code in each: their fields are listed once.
const ALIKE: [(&str, &str); 6] = [
    ("ingress[].connectionPool.", "inboundConnectionPool."),
    ("subsets[].trafficPolicy.", "trafficPolicy."),
    ("trafficPolicy.portLevelSettings[].connectionPool.", "trafficPolicy.connectionPool."),
    ("trafficPolicy.portLevelSettings[].loadBalancer.", "trafficPolicy.loadBalancer."),
    ("trafficPolicy.portLevelSettings[].outlierDetection.", "trafficPolicy.outlierDetection."),
    ("trafficPolicy.portLevelSettings[].tls.", "trafficPolicy.tls."),
];

fn once(mut path: String) -> String {
    for (again, first) in ALIKE {
        if let Some(rest) = path.strip_prefix(again) {
            path = format!("{first}{rest}");
        }
    }
    path
}

/// Whether a path leads to, or into, a message that stands elsewhere, too.
fn is_again(path: &str) -> bool {
    let whole = format!("{path}.");
    ALIKE.iter().any(|(again, _)| {
        again.starts_with(&whole) || again.starts_with(&format!("{path}[")) || whole.starts_with(again)
    })
}

fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

fn walk(root: &Value, schema: &Value, path: String, fields: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference.strip_prefix('#').and_then(|it| root.pointer(it));
        return walk(root, target.unwrap_or(&Value::Null), path, fields);
    }
    // What may be absent is one of the type and nothing.
    let nullable = schema["anyOf"].as_array().into_iter().flatten().find(|it| it["type"] != "null");
    if let Some(schema) = nullable {
        return walk(root, schema, path, fields);
    }
    if schema["items"].is_object() {
        return walk(root, &schema["items"], format!("{path}[]"), fields);
    }
    if schema["additionalProperties"].is_object() {
        return walk(root, &schema["additionalProperties"], format!("{path}{{}}"), fields);
    }
    match schema["properties"].as_object().filter(|it| !it.is_empty()) {
        Some(properties) => {
            for (name, schema) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(root, schema, path, fields);
            }
        }
        None => _ = fields.insert(once(path)),
    }
}

/// The fields of `all` that a value sets, by the same paths.
pub fn set_in(all: &BTreeSet<String>, spec: &Value) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    seek(all, spec, String::new(), &mut set);
    set
}

fn seek(all: &BTreeSet<String>, value: &Value, path: String, set: &mut BTreeSet<String>) {
    let known = once(path.clone());
    if all.contains(&known) {
        set.insert(known);
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|it| seek(all, it, format!("{path}[]"), set)),
        Value::Object(map) => {
            for (name, value) in map {
                let named = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let beginning = once(format!("{named}."));
                let begins = |at: &str| {
                    let begins =
                        |it: &String| it == at || it.strip_prefix(at).is_some_and(|it| it.starts_with(['.', '[', '{']));
                    all.iter().any(begins)
                };
                let begins = |at: &str| begins(at) || begins(beginning.trim_end_matches('.')) || is_again(at);
                // A name that is no field is a key of the user's.
                let at = if begins(&named) { named } else { format!("{path}{{}}") };
                seek(all, value, at, set);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_found_in_types_and_in_values() {
        let all = all();
        let of = |kind: &str| &all.iter().find(|(it, _)| *it == kind).unwrap().1;
        let routes = of("VirtualService");
        for field in ["hosts[]", "http[].match[].headers{}.exact", "http[].timeout", "http[].fault.delay.fixedDelay"] {
            assert!(routes.contains(field), "{field} is not in {routes:?}");
        }
        let spec = json!({"hosts": ["a"], "http": [{"match": [{"headers": {"x": {"exact": "1"}}}], "timeout": "1s"}]});
        let set = set_in(routes, &spec);
        assert_eq!(Vec::from_iter(&set), ["hosts[]", "http[].match[].headers{}.exact", "http[].timeout"]);
    }
}
