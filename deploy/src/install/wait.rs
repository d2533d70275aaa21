//! Waiting for what others do with an applied object, and saying what is missing meanwhile.

use super::apply::{api, explain};
use super::{InstallError, Progress};
use crate::kind;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Whether an object is waited for.
pub(super) fn is_awaited(object: &Value) -> bool {
    match object["kind"].as_str() {
        Some("CustomResourceDefinition" | "Deployment" | "DaemonSet") => true,
        // Pods that match are refused until the control plane has put its certificate in; a URL brings its own.
        Some("MutatingWebhookConfiguration") => object["webhooks"][0]["clientConfig"]["service"].is_object(),
        _ => false,
    }
}

/// Returns when the object is ready, or fails at the limit with what is missing.
pub(super) async fn ready(
    client: &kube::Client,
    object: &Value,
    ready_within: Duration,
    limit: Instant,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), InstallError> {
    let description = kind::describe(object);
    let Some(kind) = kind::of(object) else { return Ok(()) };
    let api = api(client, kind, object["metadata"]["namespace"].as_str());
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut told = String::new();
    loop {
        let state = match api.get(name).await {
            Ok(live) => state(&live),
            // An API server that is busy or restarting is waited for like everything else.
            Err(error) => State::Missing(explain(&error)),
        };
        let State::Missing(mut state) = state else {
            tell(Progress::Ready { object: description });
            return Ok(());
        };
        if let Some(pods) = pods(client, object).await {
            state = format!("{state} ({pods})");
        }
        if Instant::now() >= limit {
            return Err(InstallError::NotReady { hint: hint(object), object: description, after: ready_within, state });
        }
        if state != told {
            tell(Progress::Waiting { object: description.clone(), state: state.clone() });
            told = state;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How far an object is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Missing(String),
}

fn state(live: &DynamicObject) -> State {
    let (spec, status) = (&live.data["spec"], &live.data["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let is_seen = number(&status["observedGeneration"]) >= live.metadata.generation.unwrap_or(0);
    let kind = live.types.as_ref().map_or("", |types| types.kind.as_str());
    match kind {
        "CustomResourceDefinition" => {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let is = |name: &str| conditions.clone().any(|c| c["type"] == name && c["status"] == "True");
            if is("Established") { State::Ready } else { State::Missing("not established yet".into()) }
        }
        "Deployment" => {
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let (all, updated) = (number(&status["replicas"]), number(&status["updatedReplicas"]));
            rollout(is_seen, wanted, all, updated, number(&status["availableReplicas"]))
        }
        "DaemonSet" => {
            let wanted = number(&status["desiredNumberScheduled"]);
            let updated = number(&status["updatedNumberScheduled"]);
            rollout(is_seen, wanted, updated, updated, number(&status["numberAvailable"]))
        }
        "MutatingWebhookConfiguration" => {
            let mut hooks = live.data["webhooks"].as_array().into_iter().flatten();
            let has_bundle = |hook: &Value| hook["clientConfig"]["caBundle"].as_str().is_some_and(|b| !b.is_empty());
            match hooks.all(has_bundle) {
                true => State::Ready,
                false => State::Missing("the control plane has not put its certificate in yet".into()),
            }
        }
        _ => State::Ready,
    }
}

fn rollout(is_seen: bool, wanted: i64, all: i64, updated: i64, available: i64) -> State {
    if is_seen && updated >= wanted && available >= wanted && all == updated {
        return State::Ready;
    }
    if is_seen && updated >= wanted && all > updated {
        return State::Missing(format!("{} old pods are going away", all - updated));
    }
    State::Missing(format!("{} of {wanted} pods ready", available.min(updated)))
}

/// What keeps a workload's pods from being ready, as the kubelet and the scheduler say it.
async fn pods(client: &kube::Client, object: &Value) -> Option<String> {
    let labels = object["spec"]["selector"]["matchLabels"].as_object()?;
    let namespace = object["metadata"]["namespace"].as_str()?;
    let selector: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(&selector.join(",")).limit(PODS_MAX)).await.ok()?;
    let pods = list.items.iter().filter_map(|pod| serde_json::to_value(pod).ok());
    let reasons: Vec<String> = pods.filter_map(|pod| pod_reason(&pod)).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn pod_reason(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str()?;
    let statuses = ["initContainerStatuses", "containerStatuses"].into_iter();
    let mut statuses = statuses.flat_map(|field| pod["status"][field].as_array().into_iter().flatten());
    let waiting = statuses.find_map(|status| {
        let waiting = &status["state"]["waiting"];
        let reason =
            waiting["reason"].as_str().filter(|reason| !["ContainerCreating", "PodInitializing"].contains(reason))?;
        let message = waiting["message"].as_str().map(|message| format!(": {message}")).unwrap_or_default();
        Some(format!("{reason}{message}"))
    });
    let unscheduled = || {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let condition = conditions.find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
        Some(format!("not scheduled: {}", condition["message"].as_str().unwrap_or_default()))
    };
    Some(format!("pod {name}: {}", waiting.or_else(unscheduled)?))
}

/// Where to look when waiting was in vain.
fn hint(object: &Value) -> String {
    let (name, namespace) = (object["metadata"]["name"].as_str(), object["metadata"]["namespace"].as_str());
    let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
    match object["kind"].as_str() {
        Some(kind @ ("Deployment" | "DaemonSet")) => {
            let kind = kind.to_ascii_lowercase();
            format!(
                "`kubectl describe {kind} {name} -n {namespace}` and `kubectl logs {kind}/{name} -n {namespace}` say more; \
                 run the same command again once it is mended, or allow it longer with --readiness-timeout"
            )
        }
        Some("MutatingWebhookConfiguration") => {
            "`kubectl logs deployment/istiod` in the control plane's namespace says whether it is the leader and what it \
             may not patch"
                .into()
        }
        _ => format!("`kubectl describe {} {name}` says more", object["kind"].as_str().unwrap_or_default()),
    }
}

/// Between two looks at an object.
const POLL: Duration = Duration::from_millis(500);
/// Pods of one workload whose reasons are shown.
const PODS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(kind: &str, data: Value) -> State {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "generation": 2}});
        object.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        state(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_deployment_is_ready_when_its_new_pods_are_and_its_old_ones_are_gone() {
        let missing = |text: &str| State::Missing(text.into());
        for (seen, replicas, updated, available, expected) in [
            (1, 1, 1, 1, missing("1 of 1 pods ready")),
            (2, 1, 0, 1, missing("0 of 1 pods ready")),
            (2, 2, 1, 2, missing("1 old pods are going away")),
            (2, 1, 1, 0, missing("0 of 1 pods ready")),
            (2, 1, 1, 1, State::Ready),
        ] {
            let status = json!({"spec": {"replicas": 1}, "status": {"observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}});
            assert_eq!(live("Deployment", status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn a_webhook_is_ready_with_a_bundle_in_each() {
        let hooks = |second: &str| json!({"webhooks": [{"clientConfig": {"caBundle": "eA=="}}, {"clientConfig": {"caBundle": second}}]});
        assert_eq!(live("MutatingWebhookConfiguration", hooks("eA==")), State::Ready);
        assert_ne!(live("MutatingWebhookConfiguration", hooks("")), State::Ready);
    }

    #[test]
    fn what_keeps_a_pod_is_told() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}});
        assert_eq!(pod_reason(&pod).unwrap(), "pod p: ErrImagePull: no such image");
        let pod = json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}});
        assert_eq!(pod_reason(&pod).unwrap(), "pod p: not scheduled: 0/1 nodes");
        assert_eq!(pod_reason(&json!({"metadata": {"name": "p"}, "status": {}})), None);
    }
}
