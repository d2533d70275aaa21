//! What a pod belongs to, from its owner: Istio's guesses (`pkg/kube/util.go`, `GetDeployMetaFromPod`).

use super::Workload;
use serde_json::Value;

pub(super) fn of_pod(pod: &Value) -> Workload {
    let meta = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
    let label = |name: &str| pod["metadata"]["labels"][name].as_str().filter(|it| !it.is_empty());
    let alone = Workload { api_version: "v1".into(), kind: "Pod".into(), name: meta("name").into() };
    let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    // A pod with a name of its own is its own workload, whoever owns it.
    let Some(owner) = owners.find(|it| it["controller"] == true).filter(|_| !meta("generateName").is_empty()) else {
        return alone;
    };
    let text = |name: &str| owner[name].as_str().unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    let of = |api_version: &str, kind: &str, name: &str| Workload {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
    };
    let without = |hash: &str| name.strip_suffix(hash).map(|it| it.strip_suffix('-').unwrap_or(it));
    if kind == "ReplicaSet" {
        if let Some(name) = label("pod-template-hash").and_then(without) {
            return of(text("apiVersion"), "Deployment", name);
        }
        if let Some(name) = label("rollouts-pod-template-hash").and_then(without) {
            return of("v1alpha1", "Rollout", name);
        }
    }
    if kind == "ReplicationController"
        && let Some(name) = label("deploymentconfig")
    {
        return of(text("apiVersion"), "DeploymentConfig", name);
    }
    // A CronJob's Jobs have their minute behind the name.
    let minute = |it: &str| (8..=10).contains(&it.len()) && it.chars().all(|it| it.is_ascii_digit());
    if kind == "Job"
        && let Some((name, _)) = name.rsplit_once('-').filter(|(name, it)| minute(it) && !name.is_empty())
    {
        return of("batch/v1", "CronJob", name);
    }
    of(text("apiVersion"), kind, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_owner_names_the_workload() {
        let pod = |owner: (&str, &str, &str), label: (&str, &str)| {
            let (version, kind, name) = owner;
            json!({"metadata": {"generateName": "x-", "labels": {label.0: label.1},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n"},
                                    {"apiVersion": version, "kind": kind, "name": name, "controller": true}]}})
        };
        let cases = [
            (("apps/v1", "ReplicaSet", "web-5d4"), ("pod-template-hash", "5d4"), "apps/v1 Deployment web"),
            (("apps/v1", "ReplicaSet", "web-5d4"), ("pod-template-hash", "other"), "apps/v1 ReplicaSet web-5d4"),
            (("apps/v1", "ReplicaSet", "web-5d4"), ("rollouts-pod-template-hash", "5d4"), "v1alpha1 Rollout web"),
            (("v1", "ReplicationController", "web-1"), ("deploymentconfig", "web"), "v1 DeploymentConfig web"),
            (("batch/v1", "Job", "night-28123456"), ("a", "b"), "batch/v1 CronJob night"),
            (("batch/v1", "Job", "night-12"), ("a", "b"), "batch/v1 Job night-12"),
            (("apps/v1", "StatefulSet", "db"), ("a", "b"), "apps/v1 StatefulSet db"),
        ];
        for (owner, label, want) in cases {
            let it = of_pod(&pod(owner, label));
            assert_eq!(format!("{} {} {}", it.api_version, it.kind, it.name), want);
        }
        let mut named = pod(("apps/v1", "StatefulSet", "db"), ("a", "b"));
        named["metadata"] = json!({"name": "db-0", "ownerReferences": named["metadata"]["ownerReferences"]});
        assert_eq!(of_pod(&named).kind, "Pod");
    }
}
