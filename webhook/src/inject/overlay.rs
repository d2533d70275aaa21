//! Templates laid over a pod, and under what the pod's author says of the same containers.

use super::annotation as a;
use super::pod::{self, LISTS, named};
use super::strategic;
use super::undo::Undone;
use super::{PROXY, probe, prometheus};
use serde_json::{Map, Value, json};

pub(super) struct Laid {
    pub(super) pod: Value,
    /// All templates as one: what was added.
    pub(super) template: Value,
}

/// The image that a user writes in a container that is there only to change the injected one: the field is required.
const AUTO: &str = "auto";

pub(super) fn lay(undone: Undone, overlays: &[Value]) -> Laid {
    let Undone { mut pod, previous } = undone;
    let mut template = json!({});
    for overlay in overlays {
        let overlay = beside_its_proxy(overlay.clone(), &template);
        strategic::merge(&mut template, &overlay);
        let mut rest = overlay;
        if let Some(spec) = rest.get_mut("spec").and_then(Value::as_object_mut) {
            LISTS.iter().for_each(|list| drop(spec.shift_remove(*list)));
        }
        strategic::merge(&mut pod, &rest);
    }
    let mut overrides = Map::new();
    for list in LISTS {
        for container in pod::containers(&template, list).to_vec() {
            let previous = previous.iter().find(|it| it["name"] == container["name"]);
            if let Some(own) = place(&mut pod, list, container, previous) {
                pod::array(overrides.entry(list).or_insert(Value::Null)).push(own);
            }
        }
    }
    if !overrides.is_empty() {
        pod::set_annotation(&mut pod, a::OVERRIDES, Value::Object(overrides).to_string());
    }
    adjust_user(&mut pod);
    Laid { pod, template }
}

/// A template that changes the proxy finds it where an earlier one put it: among the init containers if it is native.
fn beside_its_proxy(mut overlay: Value, template: &Value) -> Value {
    let native = pod::containers(template, "initContainers").iter().any(|it| named(it, PROXY));
    let at = pod::containers(&overlay, "containers").iter().position(|it| named(it, PROXY));
    if let (true, Some(at)) = (native, at) {
        let proxy = pod::containers_mut(&mut overlay, "containers").remove(at);
        pod::containers_mut(&mut overlay, "initContainers").push(proxy);
    }
    overlay
}

/// Puts a container of the templates into the pod. Returns what the user's own container of that name says.
fn place(pod: &mut Value, list: &'static str, container: Value, previous: Option<&Value>) -> Option<Value> {
    let name = container["name"].clone();
    let at = |pod: &Value, list: &str| pod::containers(pod, list).iter().position(|it| it["name"] == name);
    let found = LISTS.into_iter().find_map(|list| Some((list, at(pod, list)?)));
    let mut placed = container;
    let own = found.map(|(there, at)| {
        let mut own = pod::containers(pod, there)[at].clone();
        if own["image"] == AUTO
            && let Some(fields) = own.as_object_mut()
        {
            fields.shift_remove("image");
        }
        strategic::merge(&mut placed, &own);
        own
    });
    if let Some(previous) = previous {
        keep_additions(&mut placed, previous);
    }
    match found {
        Some((there, at)) if there == list => pod::containers_mut(pod, list)[at] = placed,
        Some((there, at)) => {
            pod::containers_mut(pod, there).remove(at);
            pod::containers_mut(pod, list).push(placed);
        }
        None => pod::containers_mut(pod, list).push(placed),
    }
    own
}

/// Another webhook may have given the injected container a variable or a mount since: those stay.
fn keep_additions(container: &mut Value, previous: &Value) {
    for (list, key) in [("env", "name"), ("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")] {
        let known = |items: &[Value], item: &Value| items.iter().any(|it| it[key] == item[key]);
        let of_ours =
            |item: &Value| list == "env" && [probe::PROBERS, prometheus::SCRAPING].iter().any(|it| named(item, it));
        let there = container[list].as_array().cloned().unwrap_or_default();
        let previous = previous[list].as_array().into_iter().flatten();
        let added: Vec<_> = previous.filter(|it| !known(&there, it) && !of_ours(it)).cloned().collect();
        if !added.is_empty() {
            pod::array(&mut container[list]).extend(added);
        }
    }
}

/// Where the user runs the proxy as somebody else, redirection has to spare that one. TPROXY needs root, whoever asks.
fn adjust_user(pod: &mut Value) {
    if let Some(proxy) = pod::proxy_mut(pod)
        && pod::env(proxy, "ISTIO_META_INTERCEPTION_MODE") == Some("TPROXY")
    {
        if !proxy["securityContext"]["runAsUser"].is_null() {
            proxy["securityContext"]["runAsUser"] = 0.into();
        }
        return;
    }
    let proxy = pod::proxy(pod).cloned().unwrap_or_default();
    let user = proxy["securityContext"]["runAsUser"].as_i64().filter(|it| *it != 0);
    let group = proxy["securityContext"]["runAsGroup"].clone();
    let Some(user) = user.filter(|it| *it != super::container::PROXY_USER) else { return };
    if pod::containers(pod, "initContainers").is_empty() {
        return;
    }
    let init = pod::containers_mut(pod, "initContainers");
    let Some(init) = init.iter_mut().find(|it| named(it, super::INIT) || named(it, super::VALIDATION)) else { return };
    if let Some(args) = init.get_mut("args").and_then(Value::as_array_mut)
        && let Some(at) = args.iter().position(|it| it == "-u")
        && let Some(value) = args.get_mut(at + 1)
    {
        *value = user.to_string().into();
    }
    if named(init, super::VALIDATION) {
        init["securityContext"]["runAsUser"] = user.into();
        init["securityContext"]["runAsGroup"] = group;
    }
}
