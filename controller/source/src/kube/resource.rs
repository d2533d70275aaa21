//! Which kinds are watched, and where: a short table of Kubernetes' own, and every custom resource definition of the
//! cluster that `crds` reads. Which those are is written down in `crds` alone.

use super::Options;
use super::object::{self, Raw};
use crds::{Kind, decode};
use kube::api::ApiResource;
use kube::core::Version;
use kube::runtime::watcher::Event;
use serde_json::Value;
use std::collections::BTreeMap;

/// One kind at one version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    pub(super) resource: ApiResource,
    pub(super) scope: Scope,
    pub(super) need: Need,
    /// Whether there are so many that every byte counts.
    pub(super) count: Count,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Everywhere,
    One { namespace: String, name: String },
}

/// What it means not to be allowed to read a kind (F5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing is served before it can be read: no policy must be taken for "no policies", nor a cluster that may not
    /// be seen for an empty one.
    Always,
    /// The others are served without it.
    IfPermitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Many,
    Few,
}

/// Kubernetes' own kinds.
pub(super) fn core(options: &Options) -> Vec<Watched> {
    let own = Scope::One { namespace: options.namespace.clone(), name: options.mesh_config_map.clone() };
    let table = [
        (Kind::ConfigMap, "", "configmaps", own, Need::IfPermitted, Count::Few),
        (Kind::EndpointSlice, "discovery.k8s.io", "endpointslices", Scope::Everywhere, Need::Always, Count::Many),
        (Kind::Namespace, "", "namespaces", Scope::Everywhere, Need::Always, Count::Few),
        (Kind::Node, "", "nodes", Scope::Everywhere, Need::IfPermitted, Count::Many),
        (Kind::Pod, "", "pods", Scope::Everywhere, Need::Always, Count::Many),
        (Kind::Service, "", "services", Scope::Everywhere, Need::Always, Count::Few),
    ];
    let watched = |(kind, group, plural, scope, need, count): (Kind, &str, &str, Scope, Need, Count)| Watched {
        kind,
        resource: resource(group, "v1", kind.name(), plural),
        scope,
        need,
        count,
    };
    table.into_iter().map(watched).collect()
}

/// Where custom resource definitions are.
pub(super) fn definitions() -> Watched {
    let kind = Kind::Unread("CustomResourceDefinition");
    Watched {
        kind,
        resource: resource("apiextensions.k8s.io", "v1", kind.name(), "customresourcedefinitions"),
        scope: Scope::Everywhere,
        need: Need::Always,
        count: Count::Few,
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource { group: group.into(), version: version.into(), api_version, kind: kind.into(), plural: plural.into() }
}

/// The custom resource definitions of the cluster that concern us.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    by_name: BTreeMap<String, Definition>,
    listing: Option<BTreeMap<String, Definition>>,
}

/// A kind that `crds` reads, at every version that is served and read, best first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    pub(super) kind: Kind,
    versions: Vec<Watched>,
}

impl Definition {
    /// What to watch: what is watched now, as long as it is served.
    pub(super) fn choose(&self, now: Option<&Watched>) -> Option<&Watched> {
        now.and_then(|now| self.versions.iter().find(|served| *served == now)).or_else(|| self.versions.first())
    }
}

impl Definitions {
    /// Takes one event in. Says whether [`Self::all`] may have changed: in the middle of a list it has not.
    pub(super) fn apply(&mut self, event: Event<Raw>) -> Settled {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(raw) => insert(self.listing.get_or_insert_default(), &raw),
            Event::InitDone => self.by_name = self.listing.take().unwrap_or_default(),
            Event::Apply(raw) => insert(&mut self.by_name, &raw),
            Event::Delete(raw) => {
                self.by_name.remove(raw.meta.name.as_deref().unwrap_or_default());
            }
        }
        if self.listing.is_some() { Settled::No } else { Settled::Yes }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Definition> {
        self.by_name.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Yes,
    No,
}

fn insert(into: &mut BTreeMap<String, Definition>, raw: &Raw) {
    let name = raw.meta.name.clone().unwrap_or_default();
    match definition(&raw.value) {
        Some(definition) => into.insert(name, definition),
        None => into.remove(&name),
    };
}

fn definition(value: &Value) -> Option<Definition> {
    let spec = &value["spec"];
    let group = spec["group"].as_str()?;
    let (kind, plural) = (spec["names"]["kind"].as_str()?, spec["names"]["plural"].as_str()?);
    let conditions = value["status"]["conditions"].as_array()?;
    if !conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True") {
        return None;
    }
    let served = spec["versions"].as_array()?.iter().filter(|version| version["served"] == true);
    let mut versions: Vec<_> = served
        .filter_map(|version| {
            let resource = resource(group, version["name"].as_str()?, kind, plural);
            let read = reads(&resource)?;
            let need = if group == "security.istio.io" { Need::Always } else { Need::IfPermitted };
            Some(Watched { kind: read, resource, scope: Scope::Everywhere, need, count: Count::Few })
        })
        .collect();
    versions.sort_by_key(|watched| std::cmp::Reverse(Version::parse(&watched.resource.version).priority()));
    Some(Definition { kind: versions.first()?.kind, versions })
}

/// What `crds` makes of a kind at a version, asked by showing it an empty one.
fn reads(resource: &ApiResource) -> Option<Kind> {
    let decoded = decode::objects(object::empty(&resource.api_version, &resource.kind)).pop()?;
    let is_read = matches!(decoded.outcome, decode::Outcome::Object(_) | decode::Outcome::Refused);
    let kind = decoded.key.kind;
    (is_read && !matches!(kind, Kind::Unread(_))).then_some(kind)
}
