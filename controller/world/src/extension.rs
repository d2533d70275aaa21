//! Which extensions reach a proxy.

use crate::catalog::{Groups, Objects};
use crate::envoy_filter::attaches;
use crds::extensions::{TrafficExtension, WasmPlugin};
use crds::networking::TargetReference;
use crds::{Kind, ObjectKey, Problem, Reason};
use model::Proxy;
use model::service::Age;
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{Reads, Table};
use translate::extension::Extension;

/// A TrafficExtension, or a WasmPlugin, ready to be put into listeners.
#[derive(Debug, PartialEq)]
pub(crate) struct Compiled {
    extension: Option<Arc<Extension>>,
    labels: BTreeMap<String, String>,
    targets: Vec<TargetReference>,
    age: Age,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) type ExtensionTables<'t> = (&'t Groups<Arc<str>, ObjectKey>, &'t Table<ObjectKey, Compiled>);

pub(crate) fn compiled(
    reads: &mut Reads,
    (extensions, plugins): (&Objects<TrafficExtension>, &Objects<WasmPlugin>),
    key: &ObjectKey,
) -> Option<Compiled> {
    let namesake = ObjectKey::new(Kind::TrafficExtension, key.namespace.clone(), key.name.clone());
    let same = reads.get(extensions, &namesake);
    let (meta, spec, is_shadowed) = match key.kind {
        Kind::WasmPlugin => {
            let is_shadowed = same.is_some();
            reads.get(plugins, key).map(|it| (&it.meta, it.spec.extension(), is_shadowed))?
        }
        _ => same.map(|it| (&it.meta, it.spec.clone(), false))?,
    };
    let shadowed = is_shadowed.then(|| {
        let why = format!("{namesake} has the same name, and is in force in its place");
        Problem::new(key, "metadata.name", Reason::Ineffective(why))
    });
    Some(Compiled {
        extension: if is_shadowed { None } else { Extension::new(key, &spec).map(Arc::new) },
        labels: spec.selector.map(|it| it.match_labels).unwrap_or_default(),
        targets: spec.target_refs,
        age: Age::new(meta),
        problems: shadowed.into_iter().collect(),
    })
}

/// By phase and priority, the root namespace's before the proxy's own, older ones first.
pub(crate) fn extensions_of(
    reads: &mut Reads,
    (by_namespace, compiled): ExtensionTables<'_>,
    (proxy, root): (&Proxy, &str),
) -> Vec<Arc<Extension>> {
    let root: Arc<str> = root.into();
    let namespaces = [Some(&root), Some(&proxy.namespace).filter(|it| **it != root)];
    let mut selected = vec![];
    for (rank, namespace) in namespaces.into_iter().flatten().enumerate() {
        let members = reads.members(by_namespace, compiled, namespace);
        let selecting = members.filter(|(_, it)| attaches(&it.labels, (&it.targets, namespace), proxy));
        let extensions = selecting.filter_map(|(_, it)| Some((it.extension.clone()?, rank, it.age.clone())));
        selected.extend(extensions);
    }
    selected
        .sort_by(|(a, a_rank, a_age), (b, b_rank, b_age)| (a.order(), a_rank, a_age).cmp(&(b.order(), b_rank, b_age)));
    selected.into_iter().map(|(it, ..)| it).collect()
}
