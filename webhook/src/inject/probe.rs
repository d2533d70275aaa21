//! Probes of the application, sent through the agent: the kubelet has no certificate, so under mutual TLS it could not
//! ask the application itself.
//!
//! The agent learns what to ask from `ISTIO_KUBE_APP_PROBERS`: JSON from the path that the kubelet asks to the handler
//! that the user wrote, with named ports resolved.

use super::pod::{self, LISTS};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

/// What may be rewritten: where it is in the container, the first and the last part of its path.
const PROBES: [(&str, &str, &str); 5] = [
    ("/readinessProbe", "app-health", "readyz"),
    ("/livenessProbe", "app-health", "livez"),
    ("/startupProbe", "app-health", "startupz"),
    ("/lifecycle/preStop", "app-lifecycle", "prestopz"),
    ("/lifecycle/postStart", "app-lifecycle", "poststartz"),
];

/// Rewrites every probe of every container but the proxy, and tells the proxy.
pub(super) fn rewrite(pod: &mut Value, status_port: i32) {
    if pod::proxy(pod).is_none() || status_port == 0 {
        return;
    }
    let mut probers = BTreeMap::new();
    for list in LISTS.into_iter().filter(|list| !pod::containers(pod, list).is_empty()).collect::<Vec<_>>() {
        for container in pod::containers_mut(pod, list).iter_mut().filter(|it| !pod::named(it, super::PROXY)) {
            for (at, first, last) in PROBES {
                let path = format!("/{first}/{}/{last}", container["name"].as_str().unwrap_or_default());
                if let Some(prober) = redirect(container, at, &path, status_port) {
                    probers.insert(path, prober);
                }
            }
        }
    }
    if !probers.is_empty()
        && let Some(proxy) = pod::proxy_mut(pod)
    {
        pod::set_env(proxy, PROBERS, &json!(probers).to_string());
    }
}

/// What the agent has to do instead; `None` when the probe stays as it is.
fn redirect(container: &mut Value, at: &str, path: &str, status_port: i32) -> Option<Value> {
    let ports = container["ports"].clone();
    let probe = container.pointer_mut(at)?.as_object_mut()?;
    let kind =
        ["httpGet", "tcpSocket", "grpc"].into_iter().find(|kind| probe.get(*kind).is_some_and(Value::is_object))?;
    // A lifecycle handler has no gRPC in Kubernetes.
    let mut handler = probe[kind].clone();
    if kind != "grpc" {
        let port = number(&handler["port"], &ports)?;
        let theirs = handler["path"].as_str().is_some_and(|it| it.starts_with("/app-health/") || it == path);
        if port == i64::from(status_port) && theirs {
            return None;
        }
        handler["port"] = port.into();
    }
    let mut redirected = if kind == "httpGet" { probe[kind].clone() } else { json!({}) };
    redirected["path"] = path.into();
    redirected["port"] = status_port.into();
    if redirected["scheme"] == "HTTPS" {
        redirected["scheme"] = "HTTP".into();
    } else if redirected["scheme"].is_null()
        && let Some(fields) = redirected.as_object_mut()
    {
        fields.shift_remove("scheme");
    }
    probe.shift_remove(kind);
    probe.insert("httpGet".into(), redirected);
    let mut prober = Map::from_iter([(kind.to_owned(), handler)]);
    if let Some(seconds) = probe.get("timeoutSeconds").filter(|it| it.as_i64().is_some_and(|it| it != 0)) {
        prober.insert("timeoutSeconds".into(), seconds.clone());
    }
    Some(prober.into())
}

/// A port by number or by the name that the container gives it.
fn number(port: &Value, ports: &Value) -> Option<i64> {
    match port {
        Value::Number(number) => number.as_i64(),
        Value::String(name) => {
            ports.as_array()?.iter().find(|it| it["name"] == name.as_str())?["containerPort"].as_i64()
        }
        _ => None,
    }
}

/// Puts back what [`rewrite`] took, as far as the proxy that was there remembers it.
pub(super) fn restore(pod: &mut Value, proxy: &Value) {
    let probers: Option<Map<String, Value>> = pod::env(proxy, PROBERS).and_then(|it| serde_json::from_str(it).ok());
    let Some(probers) = probers else { return };
    for list in LISTS {
        if pod::containers(pod, list).is_empty() {
            continue;
        }
        for container in pod::containers_mut(pod, list) {
            for (at, first, last) in PROBES {
                let path = format!("/{first}/{}/{last}", container["name"].as_str().unwrap_or_default());
                let Some(prober) = probers.get(&path) else { continue };
                let handler = ["httpGet", "tcpSocket", "grpc"].into_iter().find_map(|it| Some((it, prober.get(it)?)));
                let probe = container.pointer_mut(at).and_then(Value::as_object_mut);
                let ours =
                    |probe: &Map<String, Value>| probe.get("httpGet").is_some_and(|it| it["path"] == path.as_str());
                if let (Some((kind, handler)), Some(probe)) = (handler, probe.filter(|it| ours(it))) {
                    probe.shift_remove("httpGet");
                    probe.insert(kind.to_owned(), handler.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_go_through_the_agent_and_come_back() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "app", "ports": [{"name": "web", "containerPort": 80}],
             "readinessProbe": {"httpGet": {"path": "/r", "port": "web", "scheme": "HTTPS"}, "timeoutSeconds": 2},
             "livenessProbe": {"tcpSocket": {"port": 90}},
             "startupProbe": {"grpc": {"port": 91, "service": "s"}},
             "lifecycle": {"preStop": {"httpGet": {"path": "/p", "port": 92}}, "postStart": {"exec": {"command": ["x"]}}}},
            {"name": "other", "readinessProbe": {"httpGet": {"path": "/r", "port": "unknown"}}, "livenessProbe": {"exec": {}}},
            {"name": "istio-proxy", "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}}}]}});
        let before = pod.clone();
        rewrite(&mut pod, 15020);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["readinessProbe"],
            json!({"timeoutSeconds": 2, "httpGet": {"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP"}})
        );
        assert_eq!(container["livenessProbe"], json!({"httpGet": {"path": "/app-health/app/livez", "port": 15020}}));
        assert_eq!(container["lifecycle"]["postStart"], json!({"exec": {"command": ["x"]}}));
        assert_eq!(pod["spec"]["containers"][1], before["spec"]["containers"][1]);
        let proxy = pod["spec"]["containers"][2].clone();
        assert_eq!(proxy["readinessProbe"], before["spec"]["containers"][2]["readinessProbe"]);
        assert_eq!(
            pod::env(&proxy, PROBERS).unwrap(),
            concat!(
                r#"{"/app-health/app/livez":{"tcpSocket":{"port":90}},"#,
                r#""/app-health/app/readyz":{"httpGet":{"path":"/r","port":80,"scheme":"HTTPS"},"timeoutSeconds":2},"#,
                r#""/app-health/app/startupz":{"grpc":{"port":91,"service":"s"}},"#,
                r#""/app-lifecycle/app/prestopz":{"httpGet":{"path":"/p","port":92}}}"#
            )
        );
        let rewritten = pod.clone();
        rewrite(&mut pod, 15020);
        assert_eq!(pod, rewritten, "what is rewritten stays");
        restore(&mut pod, &proxy);
        assert_eq!(pod["spec"]["containers"][0]["livenessProbe"], before["spec"]["containers"][0]["livenessProbe"]);
        assert_eq!(pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], 80);
    }
}
