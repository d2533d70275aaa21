//! Which EnvoyFilters reach a proxy, beside the extensions that do.

use crate::catalog::{Groups, Objects};
use crate::extension::{self, ExtensionTables};
use crate::key::Instance;
use crds::networking::{EnvoyFilter, TargetReference};
use crds::{ObjectKey, Problem};
use model::service::Age;
use model::{Proxy, ProxyKind, label};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tables::{Reads, Table};
use translate::envoy_filter::{Client, Patch, Patches};

/// An object's patches, ready to be applied.
#[derive(Debug, PartialEq)]
pub(crate) struct Compiled {
    pub(crate) patches: Vec<Arc<Patch>>,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) type FilterTables<'t> =
    (&'t Groups<Arc<str>, ObjectKey>, &'t Objects<EnvoyFilter>, &'t Table<ObjectKey, Compiled>, ExtensionTables<'t>);

pub(crate) fn compiled(reads: &mut Reads, filters: &Objects<EnvoyFilter>, key: &ObjectKey) -> Option<Compiled> {
    let filter = reads.get(filters, key)?;
    let (patches, problems) = Patch::all(key, &filter.spec);
    Some(Compiled { patches, problems })
}

/// By priority, the root namespace's before the proxy's own, older ones first; of an object in the order of its list.
/// `instances` are a gateway's.
pub(crate) fn patches_of(
    reads: &mut Reads,
    (by_namespace, filters, compiled, extensions): FilterTables<'_>,
    (proxy, root): (&Proxy, &str),
    instances: &[Instance],
) -> Arc<Patches> {
    let extensions = extension::extensions_of(reads, extensions, (proxy, root));
    let root: Arc<str> = root.into();
    let namespaces = [Some(&root), Some(&proxy.namespace).filter(|it| **it != root)];
    let mut selected = vec![];
    for (rank, namespace) in namespaces.into_iter().flatten().enumerate() {
        let members = reads.members(by_namespace, filters, namespace);
        let selecting = members.filter(|(_, it)| selects(&it.spec, namespace, proxy));
        selected.extend(selecting.map(|(key, it)| (it.spec.priority, rank, Age::new(&it.meta), key.clone())));
    }
    if selected.is_empty() && extensions.is_empty() {
        return Arc::default();
    }
    selected.sort();
    let client = Client { version: proxy.version.as_deref(), metadata: &proxy.metadata };
    let mut patches = vec![];
    for (.., key) in selected {
        let of = reads.get(compiled, &key).map(|it| it.patches.as_slice()).unwrap_or_default();
        patches.extend(of.iter().filter(|it| it.selects(client)).cloned());
    }
    let ports = if proxy.kind == ProxyKind::Router { ports(instances) } else { BTreeMap::new() };
    match patches.is_empty() && extensions.is_empty() {
        true => Arc::default(),
        false => Arc::new(Patches::new(patches, extensions, ports)),
    }
}

/// A gateway's ports, each with those of its Services that lead there.
fn ports(instances: &[Instance]) -> BTreeMap<u16, BTreeSet<u16>> {
    let mut ports: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for instance in instances {
        ports.entry(instance.target).or_default().insert(instance.port);
    }
    ports
}

/// The label of the pods of a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Whether a policy with these labels or targets, of this namespace, is for the proxy. Services and ServiceEntries are
/// targets in waypoints, of which there are none.
pub(crate) fn attaches(
    labels: &BTreeMap<String, String>,
    (targets, namespace): (&[TargetReference], &Arc<str>),
    proxy: &Proxy,
) -> bool {
    if !targets.is_empty() {
        let own = proxy.labels.get(GATEWAY_NAME);
        let is_own = |it: &TargetReference| it.kind == "Gateway" && own == Some(&it.name);
        return *namespace == proxy.namespace && targets.iter().any(is_own);
    }
    label::selects(labels, &proxy.labels)
}

fn selects(filter: &EnvoyFilter, namespace: &Arc<str>, proxy: &Proxy) -> bool {
    let labels = filter.workload_selector.as_ref().map(|it| &it.labels);
    attaches(labels.unwrap_or(&BTreeMap::new()), (&filter.target_refs, namespace), proxy)
}
