//! EnvoyFilter: users' patches over what was translated (`istio.md` 1.9).
//!
//! An object is compiled once ([`Patch::all`]), whoever it is for. The patches that reach one proxy are a [`Patches`];
//! proxies with equal ones share what comes out. A patch is applied to a resource or it is not: one that Envoy would
//! refuse is left out alone, with a problem of its object.

mod cluster;
mod list;
mod listener;
mod matching;
mod patch;
mod route;
mod structure;

pub(crate) use matching::port;
pub use patch::{Client, Patch};

use crate::extension::Extension;
use crds::networking::{ApplyTo, Operation, PatchContext};
use crds::{Problem, Reason};
use prost::{Message, Name};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use xds::envoy::core::TypedExtensionConfig;
use xds::envoy::{Cluster, Listener, RouteConfiguration};
use xds::{Resource, TypeUrl, Version};

/// Where a resource is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    Inbound,
    Outbound,
    Gateway,
}

impl Context {
    fn is(self, context: PatchContext) -> bool {
        match context {
            PatchContext::Any => true,
            PatchContext::SidecarInbound => self == Self::Inbound,
            PatchContext::SidecarOutbound => self == Self::Outbound,
            PatchContext::Gateway => self == Self::Gateway,
            PatchContext::Waypoint => false,
        }
    }
}

/// The patches that reach a proxy, in the order in which they are applied, after what extensions put in.
#[derive(Clone, Debug, Default)]
pub struct Patches {
    /// Equal for equal patches; empty for none.
    pub id: Arc<str>,
    of: BTreeMap<ApplyTo, Vec<Arc<Patch>>>,
    extensions: Vec<Arc<Extension>>,
    /// A gateway's ports, and those of its Services that lead there.
    ports: BTreeMap<u16, BTreeSet<u16>>,
}

impl PartialEq for Patches {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Patches {}

impl PartialOrd for Patches {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Patches {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for Patches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// What became of a resource.
#[derive(Debug, Default)]
pub struct Applied {
    /// `None`: removed.
    pub resource: Option<Arc<Resource>>,
    /// The patches that found something to do, by their [`Patch::id`].
    pub hits: BTreeSet<Arc<str>>,
    pub problems: Vec<Problem>,
}

/// What one patch did to a message; the error is why it cannot.
type Done = Result<bool, String>;

/// A message that patches change.
trait Patched: Message + Name + Default + Clone {
    const KIND: TypeUrl;
    fn name(&self) -> &str;
    /// Which of the patches of these kinds concern it at all.
    const APPLY_TO: &'static [ApplyTo];
    /// Applies all patches in Istio's order, and says which did something. `None`: it is removed.
    fn patch(self, patches: &Selected<'_>, tally: &mut Tally) -> Option<Self>;
    /// What Envoy checks beyond single fields.
    fn check(&self) -> Result<(), String>;
}

/// The patches to be applied in one go.
struct Selected<'a> {
    context: Context,
    patches: &'a Patches,
    only: Only<'a>,
}

#[derive(Clone, Copy)]
enum Only<'a> {
    All,
    These(&'a BTreeSet<Arc<str>>),
    Not(&'a BTreeSet<Arc<str>>),
}

impl Only<'_> {
    fn has(self, patch: &Patch) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(&patch.id),
            Self::Not(others) => !others.contains(&patch.id),
        }
    }
}

impl Selected<'_> {
    fn of(&self, kind: ApplyTo) -> impl Iterator<Item = &Patch> {
        let all = self.patches.of.get(&kind).into_iter().flatten().map(|it| &**it);
        all.filter(|it| self.context.is(it.matcher.context) && self.only.has(it))
    }

    fn is_empty(&self, kinds: &[ApplyTo]) -> bool {
        kinds.iter().all(|kind| self.of(*kind).next().is_none())
    }
}

#[derive(Default)]
struct Tally {
    hits: BTreeSet<Arc<str>>,
    problems: BTreeSet<Problem>,
}

impl Tally {
    fn note(&mut self, patch: &Patch, done: Done) -> bool {
        match done {
            Ok(true) => self.hits.insert(patch.id.clone()),
            Ok(false) => return false,
            Err(why) => {
                self.hits.insert(patch.id.clone());
                self.problems.insert(patch.problem(Reason::Invalid(why)))
            }
        };
        true
    }
}

impl Patches {
    /// `patches` and `extensions` in order; `ports` for gateways.
    pub fn new(patches: Vec<Arc<Patch>>, extensions: Vec<Arc<Extension>>, ports: BTreeMap<u16, BTreeSet<u16>>) -> Self {
        let ids = patches.iter().map(|it| &*it.id).chain(extensions.iter().map(|it| &*it.id));
        let ids: Vec<&str> = ids.collect();
        let id = Version::of(format!("{ids:?} {ports:?}").as_bytes()).to_string();
        let mut of: BTreeMap<ApplyTo, Vec<Arc<Patch>>> = BTreeMap::new();
        for patch in patches {
            of.entry(patch.apply_to).or_default().push(patch);
        }
        Self { id: id.into(), of, extensions, ports }
    }

    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.extensions.is_empty()
    }

    /// What did nothing though it is for such resources.
    pub fn unmatched(&self, context: Context, hits: &BTreeSet<&Arc<str>>) -> impl Iterator<Item = Problem> {
        let patches = self.of.values().flatten().filter(move |it| it.is_for(context) && !hits.contains(&it.id));
        let extensions = self.extensions.iter().filter(move |it| it.is_for(context) && !hits.contains(&it.id));
        patches.map(|it| it.unmatched()).chain(extensions.map(|it| it.unmatched()))
    }

    fn extend(&self, context: Context) -> bool {
        self.extensions.iter().any(|it| it.is_for(context))
    }

    /// Whether resources of this kind may be changed at all.
    pub fn concern(&self, context: Context, kind: TypeUrl) -> bool {
        let selected = Selected { context, patches: self, only: Only::All };
        match kind {
            TypeUrl::Cluster => !selected.is_empty(Cluster::APPLY_TO),
            TypeUrl::Listener => !selected.is_empty(Listener::APPLY_TO) || self.extend(context),
            TypeUrl::Route => !selected.is_empty(RouteConfiguration::APPLY_TO),
            _ => false,
        }
    }

    /// Whether they add resources of this kind.
    pub fn add(&self, context: Context, kind: TypeUrl) -> bool {
        let apply_to = match kind {
            TypeUrl::Cluster => ApplyTo::Cluster,
            TypeUrl::Listener => ApplyTo::Listener,
            TypeUrl::Extension if context != Context::Inbound && !self.extensions.is_empty() => return true,
            TypeUrl::Extension => ApplyTo::ExtensionConfig,
            _ => return false,
        };
        Selected { context, patches: self, only: Only::All }.of(apply_to).any(|it| it.operation == Operation::Add)
    }

    /// Applies them to one resource.
    pub fn apply(&self, context: Context, kind: TypeUrl, resource: &Arc<Resource>) -> Applied {
        match kind {
            TypeUrl::Cluster if !self.concerns_cluster(context, &resource.name) => Applied::unchanged(resource),
            TypeUrl::Cluster => self.applied::<Cluster>(context, resource),
            TypeUrl::Listener => self.applied::<Listener>(context, resource),
            TypeUrl::Route => self.applied::<RouteConfiguration>(context, resource),
            _ => Applied::unchanged(resource),
        }
    }

    /// There may be thousands of clusters, and their names nearly always tell.
    fn concerns_cluster(&self, context: Context, name: &str) -> bool {
        let selected = Selected { context, patches: self, only: Only::All };
        selected.of(ApplyTo::Cluster).any(|it| it.operation != Operation::Add && matching::may_be_cluster(it, name))
    }

    fn applied<M: Patched>(&self, context: Context, resource: &Arc<Resource>) -> Applied {
        if !self.concern(context, M::KIND) {
            return Applied::unchanged(resource);
        }
        // What was encoded here decodes here.
        let Ok(base) = M::decode(&*resource.bytes()) else { return Applied::unchanged(resource) };
        let mut tally = Tally::default();
        let message = self.patched(context, &base, &mut tally);
        let encoded = message.map(|it| Arc::new(Resource::whole(resource.name.clone(), &it)));
        let resource = match encoded {
            Some(patched) if patched == *resource => Some(resource.clone()),
            other => other,
        };
        Applied { resource, hits: tally.hits, problems: tally.problems.into_iter().collect() }
    }

    /// All that Envoy takes. A patch that it would refuse is left out, and the others are applied as if it were not
    /// there.
    fn patched<M: Patched>(&self, context: Context, base: &M, tally: &mut Tally) -> Option<M> {
        let mut refused: BTreeSet<Arc<str>> = BTreeSet::new();
        loop {
            let mut found = Tally::default();
            let selected = Selected { context, patches: self, only: Only::Not(&refused) };
            let message = base.clone().patch(&selected, &mut found);
            let violation = refusal(base, message.as_ref());
            tally.hits.extend(found.hits.iter().cloned());
            if violation.is_none() {
                tally.problems.extend(found.problems);
                return message;
            }
            let Some((patch, violation)) = self.culprit(context, base, &found.hits) else { return Some(base.clone()) };
            let resource = format!("{} {}", M::NAME, base.name());
            tally.problems.insert(patch.problem(Reason::EnvoyWouldReject { resource, violation }));
            refused.insert(patch.id.clone());
        }
    }

    /// The first with which Envoy would refuse what those before it make.
    fn culprit<M: Patched>(&self, context: Context, base: &M, hits: &BTreeSet<Arc<str>>) -> Option<(&Patch, String)> {
        let mut with = BTreeSet::new();
        let in_order = M::APPLY_TO.iter().filter_map(|kind| self.of.get(kind)).flatten();
        in_order.filter(|it| hits.contains(&it.id)).find_map(|patch| {
            with.insert(patch.id.clone());
            let selected = Selected { context, patches: self, only: Only::These(&with) };
            let patched = base.clone().patch(&selected, &mut Tally::default());
            Some((&**patch, refusal(base, patched.as_ref())?))
        })
    }

    /// Resources that patches add, by name; what was translated wins where the names are equal.
    pub fn added(&self, context: Context, kind: TypeUrl) -> Vec<(Arc<str>, Applied)> {
        match kind {
            TypeUrl::Cluster => self.added_of::<Cluster>(context),
            TypeUrl::Listener => self.added_of::<Listener>(context),
            TypeUrl::Extension => self.extensions(context),
            _ => vec![],
        }
    }

    /// Without a context they are not added a second time on the inbound side.
    fn added_of<M: Patched>(&self, context: Context) -> Vec<(Arc<str>, Applied)> {
        let selected = Selected { context, patches: self, only: Only::All };
        let apply_to = M::APPLY_TO[0];
        let adds = selected.of(apply_to).filter(|it| it.operation == Operation::Add);
        let adds = adds.filter(|it| context != Context::Inbound || it.matcher.context != PatchContext::Any);
        adds.map(|patch| {
            let message: M = patch.message();
            let refused = violation(&message);
            let resource = Arc::new(Resource::whole(message.name(), &message));
            (resource.name.clone(), added(patch, M::NAME, resource, refused))
        })
        .collect()
    }

    fn extensions(&self, context: Context) -> Vec<(Arc<str>, Applied)> {
        let selected = Selected { context, patches: self, only: Only::All };
        let adds = selected.of(ApplyTo::ExtensionConfig).filter(|it| it.operation == Operation::Add);
        let adds = adds.map(|patch| {
            let message: TypedExtensionConfig = patch.message();
            let refused = first_violation(TypeUrl::Extension, &message);
            let resource = Arc::new(Resource::whole(message.name.as_str(), &message));
            (resource.name.clone(), added(patch, "TypedExtensionConfig", resource, refused))
        });
        // Once for all sides.
        let own = self.extensions.iter().filter(|_| context != Context::Inbound);
        let own = own.map(|it| (it.resource().name.clone(), Applied::unchanged(it.resource())));
        adds.chain(own).collect()
    }
}

fn added(patch: &Patch, kind: &str, resource: Arc<Resource>, refused: Option<String>) -> Applied {
    let problem = refused.map(|violation| {
        patch.problem(Reason::EnvoyWouldReject { resource: format!("{kind} {}", resource.name), violation })
    });
    Applied {
        resource: problem.is_none().then_some(resource),
        hits: [patch.id.clone()].into(),
        problems: problem.into_iter().collect(),
    }
}

impl Applied {
    fn unchanged(resource: &Arc<Resource>) -> Self {
        Self { resource: Some(resource.clone()), ..Self::default() }
    }
}

/// Why Envoy would refuse what patches made of `base`.
fn refusal<M: Patched>(base: &M, patched: Option<&M>) -> Option<String> {
    let patched = patched?;
    if patched.name() != base.name() {
        return Some(format!("its name must stay {:?}", base.name()));
    }
    violation(patched)
}

fn violation<M: Patched>(message: &M) -> Option<String> {
    first_violation(M::KIND, message).or_else(|| message.check().err())
}

/// S62: what a patch makes may be large, but not without limit.
const BYTES_MAX: usize = 10 * 1024 * 1024;

fn first_violation<M: Message + Name>(kind: TypeUrl, message: &M) -> Option<String> {
    let bytes = xds::canonical::encode(message);
    if bytes.len() > BYTES_MAX {
        return Some(format!("{} bytes are more than {BYTES_MAX}", bytes.len()));
    }
    xds::validate(kind.url(), &bytes).first().map(|it| format!("{} {}", it.path, it.reason))
}

#[cfg(test)]
mod tests;
