//! Sets of resources as patched by EnvoyFilters, beside those that were translated. What a patched set costs follows
//! what changed in the set it is made from; proxies without EnvoyFilters pay nothing.

use crds::Problem;
use imbl::ordmap::DiffItem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tables::Table;
use translate::envoy_filter::{Applied, Context, Patches};
use xds::{Layer, SetName, TypeUrl};

/// A set for the proxies that these patches reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PatchedKey {
    /// `None`: what the patches add.
    pub(crate) base: Option<SetName>,
    pub(crate) kind: TypeUrl,
    pub(crate) context: Context,
    pub(crate) patches: Arc<Patches>,
}

impl PatchedKey {
    pub(crate) fn name(&self) -> SetName {
        let base = self.base.as_deref().unwrap_or("added");
        format!("{base} {:?} {:?} patched by {}", self.kind, self.context, self.patches.id).into()
    }
}

#[derive(Default)]
struct Patched {
    /// What it was made from.
    base: Layer,
    layer: Layer,
    /// Of the resources in which patches did something.
    found: BTreeMap<Arc<str>, Found>,
}

struct Found {
    hits: BTreeSet<Arc<str>>,
    problems: Vec<Problem>,
}

/// All patched sets.
#[derive(Default)]
pub(crate) struct Patcher {
    sets: BTreeMap<PatchedKey, Patched>,
    by_base: BTreeMap<SetName, BTreeSet<PatchedKey>>,
    /// Problems of all sets, and patches that found nothing.
    problems: Vec<Problem>,
}

impl Patcher {
    /// What sets that are wanted now, or have changed, are when patched. `all` are the sets as they are now, `changed`
    /// those of them that are not what they were.
    pub(crate) fn update(
        &mut self,
        wanted: &Table<PatchedKey, ()>,
        all: &BTreeMap<SetName, Layer>,
        changed: &[SetName],
    ) -> Vec<(SetName, Option<Layer>)> {
        let mut out = BTreeMap::new();
        for change in wanted.changes() {
            match change.new {
                Some(_) => _ = out.insert(change.key.name(), Some(self.insert(&change.key, all))),
                None => {
                    self.remove(&change.key);
                    out.insert(change.key.name(), None);
                }
            }
        }
        for name in changed {
            for key in self.by_base.get(name).into_iter().flatten() {
                let Some(patched) = self.sets.get_mut(key) else { continue };
                patched.follow(key, all.get(name));
                out.insert(key.name(), Some(patched.layer.clone()));
            }
        }
        if !out.is_empty() {
            self.problems = self.found_problems();
        }
        out.into_iter().collect()
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn insert(&mut self, key: &PatchedKey, all: &BTreeMap<SetName, Layer>) -> Layer {
        let mut patched = Patched::default();
        match &key.base {
            Some(base) => {
                self.by_base.entry(base.clone()).or_default().insert(key.clone());
                patched.follow(key, all.get(base));
            }
            None => {
                for (name, applied) in key.patches.added(key.context, key.kind) {
                    patched.put(name, applied);
                }
            }
        }
        let layer = patched.layer.clone();
        self.sets.insert(key.clone(), patched);
        layer
    }

    fn remove(&mut self, key: &PatchedKey) {
        self.sets.remove(key);
        let Some(base) = &key.base else { return };
        if let Some(keys) = self.by_base.get_mut(base) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_base.remove(base);
            }
        }
    }

    /// A patch that some proxy has, and that finds nothing anywhere, is said to match nothing.
    fn found_problems(&self) -> Vec<Problem> {
        let (mut problems, mut hit): (BTreeSet<Problem>, BTreeSet<&Arc<str>>) = Default::default();
        for found in self.sets.values().flat_map(|it| it.found.values()) {
            hit.extend(&found.hits);
            problems.extend(found.problems.iter().cloned());
        }
        let patches: BTreeMap<_, _> = self.sets.keys().map(|it| ((it.context, &it.patches.id), &it.patches)).collect();
        for ((context, _), patches) in patches {
            problems.extend(patches.unmatched(context, &hit));
        }
        problems.into_iter().collect()
    }
}

impl Patched {
    /// Brings it up to what its base is now.
    fn follow(&mut self, key: &PatchedKey, base: Option<&Layer>) {
        let base = base.cloned().unwrap_or_default();
        let old = std::mem::replace(&mut self.base, base.clone());
        for item in old.diff(&base) {
            match item {
                DiffItem::Add(name, resource) | DiffItem::Update { new: (name, resource), .. } => {
                    let applied = match resource {
                        Some(resource) => key.patches.apply(key.context, key.kind, resource),
                        // What hides a resource of a lower set.
                        None => Applied::default(),
                    };
                    self.put(name.clone(), applied);
                }
                DiffItem::Remove(name, _) => {
                    self.layer.remove(name);
                    self.found.remove(name);
                }
            }
        }
    }

    fn put(&mut self, name: Arc<str>, Applied { resource, hits, problems }: Applied) {
        self.layer.insert(name.clone(), resource);
        match hits.is_empty() {
            true => _ = self.found.remove(&name),
            false => _ = self.found.insert(name, Found { hits, problems }),
        }
    }
}
