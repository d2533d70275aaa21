//! DestinationRule (`ValidateDestinationRule`).

use super::report::Report;
use super::rule::{self, ExportsToNobody};
use super::traffic_policy;
use super::virtual_service::subset_name;
use crate::Object;
use crate::networking::DestinationRule;
use std::collections::BTreeSet;

pub(super) fn validate(rule: &DestinationRule, object: &Object, report: &mut Report<'_>) {
    let namespace = &*object.key.namespace;
    report.check("spec.host", rule::wildcard_domain(&rule.host));
    if let Some(policy) = &rule.traffic_policy {
        traffic_policy::validate(policy, "spec.trafficPolicy", report);
    }
    let mut names = BTreeSet::new();
    for (i, subset) in rule.subsets.iter().enumerate() {
        let at = format!("spec.subsets[{i}]");
        report.check(format!("{at}.name"), subset_name(&subset.name));
        if !names.insert(&subset.name) {
            report.error(format!("{at}.name"), format!("duplicate subset names: {}", subset.name));
        }
        report.check(format!("{at}.labels"), rule::labels(&subset.labels));
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy::validate(policy, &format!("{at}.trafficPolicy"), report);
        }
    }
    report.check("spec.exportTo", rule::export_to(&rule.export_to, namespace, ExportsToNobody::Refused));
    let Some(selector) = &rule.workload_selector else { return };
    if rule.export_to.iter().any(|entry| entry != "." && entry != namespace) {
        let why = "destination rule with workload selector cannot have exportTo beyond current namespace";
        report.error("spec.exportTo", why);
    }
    report.check("spec.workloadSelector.matchLabels", rule::selector(&selector.match_labels));
    if selector.match_labels.is_empty() {
        report.warning("spec.workloadSelector", "workload selector specified without labels");
    }
}
