//! DestinationRules: several of one host and namespace are one rule.

use crate::{Hostname, Labels, Namespace, Visibility, service::Age};
use crds::mesh_config::MeshConfig;
use crds::networking::{DestinationRule, Subset, TrafficPolicy};
use crds::{ObjectKey, Problem, Reason};

/// What the DestinationRules of one namespace say about one host (or wildcard) with equal visibility:
/// subsets in order of age (a repeated name: the first wins), the first top-level policy.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedRule {
    pub host: Hostname,
    /// Oldest first; the first is named in Envoy's metadata.
    pub objects: Vec<ObjectKey>,
    pub age: Age,
    pub visibility: Visibility,
    /// Labels of the clients that it is for, all of its namespace; `None`: any client.
    pub selector: Option<Labels>,
    pub traffic_policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
}

impl MergedRule {
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }
}

/// Merges the DestinationRules of one namespace and one host, given oldest first; rules of different visibility, or
/// for different clients, stay apart; one for selected clients is for those of its namespace (`istio.md` 1.2). A subset
/// that repeats a name is reported and left out.
pub fn merge(
    rules: &[(&ObjectKey, Age, &DestinationRule)],
    namespace: &Namespace,
    mesh: &MeshConfig,
) -> (Vec<MergedRule>, Vec<Problem>) {
    let (mut merged, mut problems): (Vec<MergedRule>, _) = (vec![], vec![]);
    for (object, age, spec) in rules {
        let selector = spec.workload_selector.as_ref().map(|it| Labels::new(it.match_labels.clone()));
        let visibility = match &selector {
            Some(_) => Visibility::Only([namespace.clone()].into()),
            None => Visibility::new(&spec.export_to, &mesh.default_destination_rule_export_to, namespace),
        };
        let known = merged.iter().position(|it| it.visibility == visibility && it.selector == selector);
        let at = known.unwrap_or_else(|| {
            merged.push(MergedRule {
                host: Hostname::resolve(&spec.host, namespace),
                objects: vec![],
                age: age.clone(),
                visibility,
                selector,
                traffic_policy: None,
                subsets: vec![],
            });
            merged.len() - 1
        });
        add(&mut merged[at], object, spec, &mut problems);
    }
    (merged, problems)
}

fn add(rule: &mut MergedRule, object: &ObjectKey, spec: &DestinationRule, problems: &mut Vec<Problem>) {
    for (at, subset) in spec.subsets.iter().enumerate() {
        match rule.subset(&subset.name).is_some() {
            true => {
                let why = format!("subset {} of {} is already defined; the first wins", subset.name, rule.host);
                problems.push(Problem::new(object, format!("spec.subsets[{at}].name"), Reason::Ineffective(why)));
            }
            false => rule.subsets.push(subset.clone()),
        }
    }
    match (&rule.traffic_policy, &spec.traffic_policy) {
        (None, policy) => rule.traffic_policy.clone_from(policy),
        (Some(_), Some(_)) => {
            let why = format!("{} already has a trafficPolicy, of {}; the first wins", rule.host, rule.objects[0]);
            problems.push(Problem::new(object, "spec.trafficPolicy", Reason::Ineffective(why)));
        }
        (Some(_), None) => {}
    }
    rule.objects.push(object.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{Kind, Meta};

    fn rule(subsets: &[&str], policy: bool, export_to: &[&str]) -> DestinationRule {
        DestinationRule {
            host: "reviews".into(),
            subsets: subsets.iter().map(|it| Subset { name: it.to_string(), ..Default::default() }).collect(),
            traffic_policy: policy.then(TrafficPolicy::default),
            export_to: export_to.iter().map(|it| it.to_string()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn rules_of_one_host_add_their_subsets_and_the_first_policy_wins() {
        let namespace: Namespace = "n".into();
        let keys = ["a", "b", "c"].map(|name| ObjectKey::new(Kind::DestinationRule, "n", name));
        let specs = [rule(&["v1"], false, &[]), rule(&["v1", "v2"], true, &[]), rule(&["v3"], true, &["."])];
        let input: Vec<_> = keys.iter().zip(&specs).map(|(k, s)| (k, Age::new(&Meta::default()), s)).collect();
        let (merged, problems) = merge(&input, &namespace, &MeshConfig::default());
        assert_eq!(merged.len(), 2, "private rules stay apart");
        assert_eq!(merged[0].subsets.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["v1", "v2"]);
        assert_eq!(merged[0].objects, keys[..2]);
        assert!(merged[0].traffic_policy.is_some());
        assert_eq!(merged[0].host.as_str(), "reviews.n.svc.cluster.local");
        assert_eq!(problems.len(), 1);
        assert_eq!((&*problems[0].object.name, &*problems[0].field), ("b", "spec.subsets[0].name"));
    }
}
