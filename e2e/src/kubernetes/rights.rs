//! What navarch may do, and what its pods may.

use super::bench::{Bench, LIMIT, until};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;

const ISTIOD: &str = "system:serviceaccount:istio-system:istiod";

/// The admission of the API server itself is the judge.
pub(super) fn restricted(bench: &Bench) -> Result<String> {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    bench.kubectl(&["label", "namespace", "istio-system", label, "--overwrite"])?;
    for deployment in ["istiod", "istio-ingressgateway"] {
        let name = format!("deployment/{deployment}");
        bench.kubectl(&["rollout", "restart", &name, "--namespace=istio-system"])?;
        bench.rolled_out("istio-system", deployment)?;
    }
    bench.kubectl(&["label", "namespace", "istio-system", "pod-security.kubernetes.io/enforce-"])?;
    Ok("both were made anew under enforcement".to_owned())
}

/// A mistake is refused when it is written, by object, field and reason; what is only doubtful is let in with a warning.
pub(super) fn validated(bench: &Bench) -> Result<String> {
    let wrong = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wrong, namespace: default}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews}, weight: -5}
";
    let refused = match bench.apply(wrong) {
        Err(why) => format!("{why:#}"),
        Ok(_) => anyhow::bail!("a negative weight was accepted"),
    };
    ensure!(refused.contains("spec.http[0].route[0].weight"), "the refusal does not name the field: {refused}");
    let policies = bench.json(&["get", "validatingwebhookconfiguration", "istio-validator-istio-system"])?;
    let policy = policies["webhooks"][0]["failurePolicy"].as_str().unwrap_or_default().to_owned();
    ensure!(policy == "Fail", "f37: the validator was seen to refuse, but its failurePolicy is {policy}");
    let last = refused.lines().last().unwrap_or_default();
    Ok(format!("{last}\nfailurePolicy {policy}"))
}

/// From the API server's own record of the whole run.
pub(super) fn exact(bench: &Bench) -> Result<String> {
    let text = std::fs::read_to_string(bench.cluster.audit_log()).context("the audit log")?;
    let (mut used, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for event in text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok()) {
        if event["user"]["username"] != ISTIOD || event["objectRef"].is_null() {
            continue;
        }
        let part = |at: &str| event["objectRef"][at].as_str().unwrap_or_default().to_owned();
        let resource = match part("subresource") {
            of_all if of_all.is_empty() => part("resource"),
            subresource => format!("{}/{subresource}", part("resource")),
        };
        let right = (part("apiGroup"), resource, event["verb"].as_str().unwrap_or_default().to_owned());
        match event["responseStatus"]["code"].as_u64() {
            Some(403) => _ = forbidden.insert(right),
            _ => _ = used.insert(right),
        }
    }
    ensure!(!used.is_empty(), "the audit log has nothing of {ISTIOD}");
    ensure!(forbidden.is_empty(), "forbidden: {forbidden:?}");
    let granted = granted(bench)?;
    let stars: Vec<_> =
        granted.iter().filter(|(group, resource, verb)| [group, resource, verb].iter().any(|it| *it == "*")).collect();
    ensure!(stars.is_empty(), "s43: wildcards are granted: {stars:?}");
    let idle: BTreeSet<String> =
        granted.difference(&used).map(|(group, resource, verb)| format!("{verb} {resource}.{group}")).collect();
    let idle: Vec<&String> = idle.iter().filter(|it| !RARE.iter().any(|(right, _)| right == it)).collect();
    ensure!(idle.is_empty(), "granted and never used: {idle:?}");
    let rare = RARE.iter().map(|(right, why)| format!("{right} ({why})"));
    Ok(format!(
        "{} rights used, 0 forbidden, {} granted; not needed in this run: {}",
        used.len(),
        granted.len(),
        rare.collect::<Vec<_>>().join(", ")
    ))
}

/// Rights that a run of an hour does not need, and when they are.
const RARE: &[(&str, &str)] = &[
    ("update secrets.", "the self-signed root is renewed in its last fifth"),
    ("get workloadgroups.networking.istio.io", REGISTERED),
    ("get workloadentries.networking.istio.io", REGISTERED),
    ("create workloadentries.networking.istio.io", REGISTERED),
    ("patch workloadentries.networking.istio.io", REGISTERED),
    ("delete workloadentries.networking.istio.io", REGISTERED),
    ("patch workloadentries/status.networking.istio.io", REGISTERED),
];
const REGISTERED: &str = "a workload outside of Kubernetes registers itself";

fn granted(bench: &Bench) -> Result<BTreeSet<(String, String, String)>> {
    let mut all = BTreeSet::new();
    for kind in ["clusterroles", "roles"] {
        let roles = until("roles", LIMIT, || bench.json(&["get", kind, "--all-namespaces", "--selector=app=istiod"]))?;
        for rule in roles["items"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|it| it["rules"].as_array().cloned().unwrap_or_default())
        {
            let list = |at: &str| -> Vec<String> {
                let all = rule[at].as_array().cloned().unwrap_or_default();
                all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    all.extend(list("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
    }
    ensure!(!all.is_empty(), "no roles labelled app=istiod");
    Ok(all)
}
