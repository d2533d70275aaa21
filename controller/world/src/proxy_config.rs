//! ProxyConfigs that never come to bear (which one a pod gets, injection decides: by then it is in the pod), and the
//! part of a proxy's configuration that agents are told on their streams.

use crate::catalog::{Groups, Mesh, Objects};
use crds::networking::ProxyConfig;
use crds::{ObjectKey, Problem, Reason};
use model::label;
use model::service::Age;
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{Reads, Table};
use xds::{Layer, Resource};

/// The oldest counts alone, at each level: another one for the whole namespace, or for workloads that an older one
/// selects anyway.
pub(crate) fn passed_over(
    reads: &mut Reads,
    (by_namespace, all): (&Groups<Arc<str>, ObjectKey>, &Objects<ProxyConfig>),
    namespace: &Arc<str>,
) -> Option<Vec<Problem>> {
    let members = reads.members(by_namespace, all, namespace);
    let mut sorted: Vec<_> = members.map(|(key, it)| (Age::new(&it.meta), key, &it.spec.selector)).collect();
    sorted.sort();
    let mut kept: Vec<(&ObjectKey, Option<&BTreeMap<String, String>>)> = vec![];
    let mut problems = vec![];
    for (_, key, selector) in sorted {
        let labels = selector.as_ref().map(|it| &it.match_labels);
        let before = kept.iter().find(|(_, older)| match (older, labels) {
            (None, None) => true,
            (Some(older), Some(labels)) => label::selects(older, labels),
            _ => false,
        });
        match before {
            // It selects nothing, which its validation says.
            _ if labels.is_some_and(BTreeMap::is_empty) => {}
            Some((older, _)) => {
                let why = format!("what it is for is ruled by {older}, the older one wins");
                problems.push(Problem::new(key, "", Reason::Ineffective(why)));
            }
            None => kept.push((key, labels)),
        }
    }
    (!problems.is_empty()).then_some(problems)
}

/// The same for every agent, alone in its layer.
pub(crate) fn trust(reads: &mut Reads, (roots, mesh): (&Table<(), String>, &Mesh), (): &()) -> Option<Layer> {
    let (roots, mesh) = (reads.get(roots, &())?, reads.get(mesh, &())?);
    let resource = Resource::whole(TRUST, &translate::trust::trust_config(roots, mesh));
    Some(Layer::unit(TRUST.into(), Some(Arc::new(resource))))
}

/// Agents do not look at it: there is only one.
const TRUST: &str = "trust";
