//! Takes back an earlier injection, so that injecting twice is injecting once (S52).
//!
//! What was added is known from the annotation `sidecar.istio.io/status`; what it replaced is in
//! `proxy.istio.io/overrides` and in the proxy's own environment. Volumes stay: merging them again changes nothing.

use super::annotation as a;
use super::pod::{self, LISTS};
use super::{Refusal, probe, prometheus};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A pod as it was before it met us.
pub(super) struct Undone {
    pub(super) pod: Value,
    /// Containers that were taken out: others may have added to them since.
    pub(super) previous: Vec<Value>,
}

/// Containers by the list they are in, as in the annotation.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Overrides {
    containers: Vec<Map<String, Value>>,
    init_containers: Vec<Map<String, Value>>,
}

impl Overrides {
    fn of(self, list: &str) -> Vec<Value> {
        let list = if list == "containers" { self.containers } else { self.init_containers };
        list.into_iter().map(Value::Object).collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    containers: Option<Vec<String>>,
    init_containers: Option<Vec<String>>,
}

pub(super) fn undo(pod: &Value, status_port: i32) -> Result<Undone, Refusal> {
    let mut pod = pod.clone();
    let given = overrides(&pod)?;
    let status: Option<Status> = pod::annotation(&pod, a::STATUS).and_then(|it| serde_json::from_str(it).ok());
    let mut previous = vec![];
    if let Some(status) = &status {
        let proxy = pod::proxy(&pod).cloned().unwrap_or_default();
        probe::restore(&mut pod, &proxy);
        prometheus::restore(&mut pod, &proxy, status_port);
        for (list, names) in LISTS.into_iter().zip([&status.containers, &status.init_containers]) {
            let names = names.as_deref().unwrap_or_default();
            take_out(&mut pod, list, names, &given, &mut previous);
        }
    }
    for (list, container) in given {
        let there = LISTS.iter().flat_map(|it| pod::containers(&pod, it)).any(|it| it["name"] == container["name"]);
        if !there {
            pod::containers_mut(&mut pod, list).push(container);
        }
    }
    pod::remove_annotation(&mut pod, a::STATUS);
    pod::remove_annotation(&mut pod, a::OVERRIDES);
    Ok(Undone { pod, previous })
}

fn take_out(
    pod: &mut Value,
    list: &'static str,
    names: &[String],
    given: &[(&'static str, Value)],
    previous: &mut Vec<Value>,
) {
    if pod::containers(pod, list).is_empty() {
        return;
    }
    let containers = pod::containers_mut(pod, list);
    for name in names {
        let Some(at) = containers.iter().position(|it| pod::named(it, name)) else { continue };
        let own = given.iter().find(|(_, it)| pod::named(it, name)).map(|(_, it)| it.clone());
        previous.push(match own {
            Some(own) => std::mem::replace(&mut containers[at], own),
            None => containers.remove(at),
        });
    }
    if containers.is_empty()
        && list == "initContainers"
        && let Some(spec) = pod["spec"].as_object_mut()
    {
        spec.shift_remove(list);
    }
}

/// What the annotation holds. It may repeat what the pod has, and not give the proxy rights that no container of the
/// pod's own spec asks for (S51).
fn overrides(pod: &Value) -> Result<Vec<(&'static str, Value)>, Refusal> {
    let Some(text) = pod::annotation(pod, a::OVERRIDES) else { return Ok(vec![]) };
    let read = || serde_json::from_str(text).map_err(|error| a::refusal(a::OVERRIDES, error.to_string()));
    let all = LISTS.into_iter().zip([read()?, read()?]);
    let all: Vec<_> =
        all.flat_map(|(list, read): (_, Overrides)| read.of(list).into_iter().map(move |it| (list, it))).collect();
    for (_, container) in &all {
        let name = container["name"].as_str().unwrap_or_default();
        let there = LISTS.iter().flat_map(|list| pod::containers(pod, list)).find(|it| pod::named(it, name));
        // Other webhooks rewrite images, so one that is there may differ.
        let agrees = |what: &str| match there {
            Some(_) if what == "/image" => true,
            Some(there) => container.pointer(what) == there.pointer(what),
            None => false,
        };
        if let Some(what) = rights(container).find(|what| !agrees(what)) {
            let reason = format!("{name:?} may have {what} only from a container of the pod's own spec");
            return Err(a::refusal(a::OVERRIDES, reason));
        }
    }
    Ok(all)
}

/// Pointers to the fields of the container that give rights or bring other code.
fn rights(container: &Value) -> impl Iterator<Item = &'static str> {
    type Gives = fn(&Value) -> bool;
    let gives: [(&'static str, Gives); 9] = [
        ("/image", |it| it.is_string()),
        ("/securityContext/privileged", |it| *it != false),
        ("/securityContext/allowPrivilegeEscalation", |it| *it != false),
        ("/securityContext/capabilities/add", |it| it.as_array().is_none_or(|it| !it.is_empty())),
        ("/securityContext/runAsUser", |it| *it == 0),
        ("/securityContext/runAsNonRoot", |it| *it != true),
        ("/securityContext/procMount", |it| *it != "Default"),
        ("/securityContext/seccompProfile/type", |it| *it == "Unconfined"),
        ("/securityContext/windowsOptions", |it| !it.is_null()),
    ];
    gives.into_iter().filter(|(at, gives)| container.pointer(at).is_some_and(gives)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn s51_overrides_by_annotation_bring_no_rights() {
        let pod = |overrides: &str, own: Value| json!({"metadata": {"annotations": {a::OVERRIDES: overrides}}, "spec": {"containers": [{"name": "app"}, own]}});
        let privileged = r#"{"containers":[{"name":"istio-proxy","securityContext":{"privileged":true}}]}"#;
        let image = r#"{"initContainers":[{"name":"istio-init","image":"evil"}]}"#;
        let harmless = r#"{"containers":[{"name":"istio-proxy","resources":{"limits":{"cpu":"1"}}}]}"#;
        for text in [privileged, image, "x", "{\"containers\":[1]}"] {
            let error = undo(&pod(text, json!({})), 15020).err().expect(text).to_string();
            assert!(error.starts_with("annotation proxy.istio.io/overrides: "), "{error}");
        }
        let own = json!({"name": "istio-proxy", "securityContext": {"privileged": true}});
        assert!(undo(&pod(privileged, own), 15020).is_ok(), "the pod itself asks for it");
        let undone = undo(&pod(harmless, json!({"name": "x"})), 15020).unwrap().pod;
        assert_eq!(undone["spec"]["containers"][2]["resources"]["limits"]["cpu"], "1");
    }
}
