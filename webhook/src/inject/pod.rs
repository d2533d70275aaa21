//! Small reads and writes on a pod kept as JSON.

use serde_json::{Map, Value};

pub(super) const LISTS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn named(container: &Value, name: &str) -> bool {
    container["name"] == name
}

pub(super) fn containers<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod["spec"][list].as_array().map_or(&[], Vec::as_slice)
}

/// The list, made if it is not there.
pub(super) fn containers_mut<'a>(pod: &'a mut Value, list: &str) -> &'a mut Vec<Value> {
    let place = &mut fields(pod, "spec")[list];
    array(place)
}

pub(super) fn array(place: &mut Value) -> &mut Vec<Value> {
    if !place.is_array() {
        *place = Value::Array(vec![]);
    }
    match place {
        Value::Array(items) => items,
        _ => unreachable!("made an array above"),
    }
}

/// The object under that name, made if it is not there.
pub(super) fn fields<'a>(of: &'a mut Value, name: &str) -> &'a mut Value {
    if !of[name].is_object() {
        of[name] = Value::Object(Map::new());
    }
    &mut of[name]
}

pub(super) fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"].get(name)?.as_str()
}

pub(super) fn set_annotation(pod: &mut Value, name: &str, value: impl Into<String>) {
    fields(fields(pod, "metadata"), "annotations")[name] = Value::String(value.into());
}

pub(super) fn remove_annotation(pod: &mut Value, name: &str) {
    if let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.shift_remove(name);
    }
}

/// The proxy, wherever it is.
pub(super) fn proxy(pod: &Value) -> Option<&Value> {
    LISTS.iter().flat_map(|list| containers(pod, list)).find(|it| named(it, super::PROXY))
}

pub(super) fn proxy_mut(pod: &mut Value) -> Option<&mut Value> {
    let list = LISTS.into_iter().find(|list| containers(pod, list).iter().any(|it| named(it, super::PROXY)))?;
    containers_mut(pod, list).iter_mut().find(|it| named(it, super::PROXY))
}

pub(super) fn env<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    container["env"].as_array()?.iter().find(|it| named(it, name))?["value"].as_str()
}

pub(super) fn set_env(container: &mut Value, name: &str, value: &str) {
    let variable = serde_json::json!({ "name": name, "value": value });
    let env = array(&mut container["env"]);
    match env.iter_mut().find(|it| named(it, name)) {
        Some(there) => *there = variable,
        None => env.push(variable),
    }
}
