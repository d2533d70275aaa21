//! What a policy is for: selected workloads, or gateways by name.

use super::report::Report;
use super::rule;
use crate::networking::TargetReference;
use std::collections::BTreeMap;

const TARGETS_MAX: usize = 16;
/// What a target may be: its group and kind. Without a group it is of the core.
const TARGETS: [(&str, &str); 5] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];

/// `labels` are those of the field `selector`.
pub(super) fn validate(
    (selector, labels): (&str, Option<&BTreeMap<String, String>>),
    targets: &[TargetReference],
    report: &mut Report<'_>,
) {
    let field = selector.split('.').next().unwrap_or_default();
    if let Some(labels) = labels {
        report.check(format!("spec.{selector}"), rule::selector(labels));
        if !targets.is_empty() {
            report.error("spec", format!("only one of targetRefs or {field} can be set"));
        }
    }
    if targets.len() > TARGETS_MAX {
        report.error("spec.targetRefs", format!("at most {TARGETS_MAX} are allowed"));
    }
    for (i, target) in targets.iter().enumerate() {
        let at = format!("spec.targetRefs[{i}]");
        if target.name.is_empty() || target.kind.is_empty() {
            report.error(&at, "name and kind must be set");
        } else if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
            report.error(&at, "must be a Gateway, GatewayClass, Service or ServiceEntry");
        } else if target.kind != "Gateway" {
            report.warning(format!("{at}.kind"), "only a Gateway can be a target: there are no waypoints");
        }
        if !target.namespace.is_empty() {
            report.error(format!("{at}.namespace"), "a target has to be in the same namespace");
        }
    }
}
