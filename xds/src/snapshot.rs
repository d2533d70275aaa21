//! What a proxy should have, made of layers that proxies share.
//!
//! A set of resources is a [`Layer`]: a persistent map, so that a new revision shares all but the changed
//! path with the one before it. A proxy's [`View`] is, for each type, a pile of set names. Everything here is
//! cloned in O(1), and two revisions are compared in O(what changed).

use crate::{Resource, TypeUrl};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::Arc,
};

/// The name of a set of resources; the owner of the world chooses it.
pub type SetName = Arc<str>;

/// A set of resources of one type by name. `None` hides a resource of that name in the layers below.
pub type Layer = imbl::OrdMap<Arc<str>, Option<Arc<Resource>>>;

/// One stream of one proxy. Two streams of the same node are two connections (rule X5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which sets a proxy sees. In each pile the first layer that knows a name wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub layers: BTreeMap<TypeUrl, Vec<SetName>>,
}

/// What a commit changed. Applied as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// `None` drops the set. A view that still names it sees an empty layer.
    pub sets: Vec<(SetName, Option<Layer>)>,
    /// `None` forgets the proxy.
    pub nodes: Vec<(ConnectionId, Option<Arc<View>>)>,
}

/// The layers of one type, top first.
#[derive(Clone, Debug, Default)]
pub struct Layers(Vec<Layer>);

/// What one proxy should have at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    types: BTreeMap<TypeUrl, Layers>,
}

impl Snapshot {
    pub fn new(types: BTreeMap<TypeUrl, Layers>) -> Self {
        Self { types }
    }

    /// The layers of a type; none if the view does not mention it.
    pub fn layers(&self, kind: TypeUrl) -> &Layers {
        static NONE: Layers = Layers(Vec::new());
        self.types.get(&kind).unwrap_or(&NONE)
    }

    pub fn get(&self, kind: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.layers(kind).get(name)
    }
}

impl Layers {
    pub fn new(layers: Vec<Layer>) -> Self {
        Self(layers)
    }

    /// The resource of that name in the topmost layer that knows it.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.0.iter().find_map(|layer| layer.get(name))?.as_ref()
    }

    /// The shared spelling of a name, so that what is kept per stream is a pointer and not a copy.
    pub fn name(&self, name: &str) -> Arc<str> {
        let known = self.0.iter().find_map(|layer| layer.get_key_value(name));
        known.map_or_else(|| name.into(), |(name, _)| name.clone())
    }

    /// Every visible resource in the order of names. O(all), for a stream's first response only.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &Arc<Resource>> + '_> {
        match &*self.0 {
            [] => Box::new(std::iter::empty()),
            [only] => Box::new(only.values().flatten()),
            several => {
                let mut all: BTreeMap<&Arc<str>, &Option<Arc<Resource>>> = BTreeMap::new();
                several.iter().rev().for_each(|layer| all.extend(layer));
                Box::new(all.into_values().flatten())
            }
        }
    }

    /// Every visible resource whose name starts so.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let names = |layer: &'a Layer| {
            layer.range::<_, str>(from).map(|(name, _)| name).take_while(move |name| name.starts_with(prefix))
        };
        let names: BTreeSet<&Arc<str>> = self.0.iter().flat_map(names).collect();
        names.into_iter().filter_map(|name| self.get(name))
    }

    /// Nothing can differ: every layer is the very same map.
    pub fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.ptr_eq(b))
    }

    /// Calls `each` with every name whose visible resource differs, and with it before and after.
    ///
    /// The work is in proportion to the difference, as long as a pile keeps its number of layers: shared parts
    /// of two maps are skipped. When layers come or go, only those are walked.
    pub fn diff<'a>(
        &'a self,
        new: &'a Self,
        mut each: impl FnMut(&'a Arc<str>, Option<&'a Arc<Resource>>, Option<&'a Arc<Resource>>),
    ) {
        for name in self.candidates(new) {
            let (before, after) = (self.get(name), new.get(name));
            if before != after {
                each(name, before, after);
            }
        }
    }

    /// Names that may differ: those that differ in some layer.
    fn candidates<'a>(&'a self, new: &'a Self) -> BTreeSet<&'a Arc<str>> {
        let (mut old, mut new) = (&*self.0, &*new.0);
        let mut names = BTreeSet::new();
        if old.len() != new.len() {
            (old, new) = without_shared_ends(old, new);
            names.extend(old.iter().chain(new).flat_map(|layer| layer.keys()));
            return names;
        }
        for (old, new) in old.iter().zip(new) {
            names.extend(old.diff(new).map(|item| match item {
                imbl::ordmap::DiffItem::Add(name, _) | imbl::ordmap::DiffItem::Remove(name, _) => name,
                imbl::ordmap::DiffItem::Update { new: (name, _), .. } => name,
            }));
        }
        names
    }
}

fn without_shared_ends<'a>(mut old: &'a [Layer], mut new: &'a [Layer]) -> (&'a [Layer], &'a [Layer]) {
    while let ([a, rest_of_old @ ..], [b, rest_of_new @ ..]) = (old, new)
        && a.ptr_eq(b)
    {
        (old, new) = (rest_of_old, rest_of_new);
    }
    while let ([rest_of_old @ .., a], [rest_of_new @ .., b]) = (old, new)
        && a.ptr_eq(b)
    {
        (old, new) = (rest_of_old, rest_of_new);
    }
    (old, new)
}
