//! Strategic merge as the API server does it to pods: objects field by field, null deletes, lists with a merge key
//! item by item, other lists as a whole
//! (<https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/>).
//!
//! The order of what is there stays; what is new follows. Two deliberate differences: `sysctls` merge by name, and a
//! volume whose kind of source changes is replaced, because no volume may have two.

use serde_json::{Map, Value};

/// Merge keys of a pod's lists (`patchMergeKey` in Kubernetes' types), by the name of the list.
const MERGE_KEYS: [(&str, &str); 16] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("imagePullSecrets", "name"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("resourceClaims", "name"),
    ("schedulingGates", "name"),
    ("ownerReferences", "uid"),
    ("sysctls", "name"),
    ("podIPs", "ip"),
];

/// Lays `overlay` over `target`.
pub(super) fn merge(target: &mut Value, overlay: &Value) {
    let Value::Object(over) = overlay else {
        *target = overlay.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    match over.get("$patch").and_then(Value::as_str) {
        Some("delete") => return fields.clear(),
        Some("replace") => fields.clear(),
        _ => {}
    }
    if let Some(Value::Array(kept)) = over.get("$retainKeys") {
        fields.retain(|name, _| kept.iter().any(|it| it == name));
    }
    for (name, value) in over.iter().filter(|(name, _)| !name.starts_with('$')) {
        let key = MERGE_KEYS.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        match (value, key) {
            (Value::Null, _) => {
                fields.shift_remove(name);
            }
            (Value::Array(items), Some(key)) => {
                list(fields.entry(name).or_insert_with(|| Value::Array(vec![])), items, name, key)
            }
            (Value::Object(_), _) => merge(fields.entry(name).or_insert(Value::Null), value),
            _ => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
}

fn list(target: &mut Value, overlay: &[Value], name: &str, key: &str) {
    if !target.is_array() {
        *target = Value::Array(vec![]);
    }
    let Value::Array(items) = target else { return };
    for over in overlay {
        let same = |it: &Value| it.get(key).is_some() && it.get(key) == over.get(key);
        let found = items.iter().position(same);
        match (found, over.get("$patch").and_then(Value::as_str)) {
            (_, Some("replace")) if over.get(key).is_none() => items.clear(),
            (Some(at), Some("delete")) => {
                items.remove(at);
            }
            (None, Some("delete")) => {}
            (Some(at), _) => {
                if name == "volumes" && has_other_source(&items[at], over) {
                    items[at] = Value::Null;
                }
                merge(&mut items[at], over);
            }
            (None, _) => {
                let mut item = Value::Null;
                merge(&mut item, over);
                items.push(item);
            }
        }
    }
}

fn has_other_source(volume: &Value, over: &Value) -> bool {
    let sources = |volume: &Value| -> Vec<String> {
        volume.as_object().into_iter().flatten().map(|(name, _)| name.clone()).filter(|it| it != "name").collect()
    };
    let over = sources(over);
    !over.is_empty() && sources(volume).iter().any(|it| !over.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_merge_as_the_api_server_merges_them() {
        let cases = [
            ("maps", json!({"a": {"x": 1}}), json!({"a": {"y": 2}, "b": 3}), json!({"a": {"x": 1, "y": 2}, "b": 3})),
            ("null deletes", json!({"a": 1, "b": 2}), json!({"a": null, "c": {"d": null}}), json!({"b": 2, "c": {}})),
            ("other lists", json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]})),
            (
                "containers by name, env by name, ports by number",
                json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}),
                json!({"containers": [{"name": "c"}, {"name": "a", "env": [{"name": "Y"}, {"name": "X", "value": "2"}],
                                       "ports": [{"containerPort": 80, "name": null}]}]}),
                json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "2"}, {"name": "Y"}],
                                       "ports": [{"containerPort": 80}]}, {"name": "b"}, {"name": "c"}]}),
            ),
            (
                "directives",
                json!({"containers": [{"name": "a"}, {"name": "b", "image": "x"}], "m": {"k": 1}}),
                json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "b", "$patch": "replace", "tty": true}],
                       "m": {"$patch": "delete"}}),
                json!({"containers": [{"name": "b", "tty": true}], "m": {}}),
            ),
            (
                "a volume has one source",
                json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {"medium": "Memory"}}]}),
                json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {"sizeLimit": "1Mi"}}]}),
                json!({"volumes": [{"name": "v", "emptyDir": {}},
                                   {"name": "w", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}),
            ),
            ("null is nothing", json!({"containers": null}), json!({"containers": []}), json!({"containers": []})),
        ];
        for (name, mut target, overlay, want) in cases {
            merge(&mut target, &overlay);
            assert_eq!(target, want, "{name}");
        }
    }
}
