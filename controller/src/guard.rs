//! The world behind a guard: a panic in a derivation is a bug of ours, and may cost the change that met it, but never
//! the configuration in force.

use crds::{Object, ObjectKey, Problem, Reason};
use model::Proxy;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Batch, Changes, World};
use xds::ConnectionId;

/// A world with the inputs that it has accepted.
pub struct Guarded {
    world: World,
    objects: BTreeMap<ObjectKey, Object>,
    proxies: BTreeMap<ConnectionId, Proxy>,
    /// What applies a batch; another one in tests.
    apply: fn(&mut World, Batch) -> Changes,
}

impl Default for Guarded {
    fn default() -> Self {
        Self::with(World::commit)
    }
}

impl Guarded {
    fn with(apply: fn(&mut World, Batch) -> Changes) -> Self {
        Self { world: World::new(), objects: BTreeMap::new(), proxies: BTreeMap::new(), apply }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// Applies the batch. If that panics, the world is made anew from what it had accepted before, and the batch is
    /// reported on each of its objects: the caller publishes what comes back either way, which for proxies is what
    /// they have already.
    pub fn commit(&mut self, batch: Batch) -> Changes {
        let (objects, proxies) = (batch.objects.clone(), batch.proxies.clone());
        match self.attempt(batch) {
            Some(changes) => {
                keep(&mut self.objects, objects);
                keep(&mut self.proxies, proxies);
                changes
            }
            None => self.recover(&objects),
        }
    }

    fn recover(&mut self, refused: &[(ObjectKey, Option<Object>)]) -> Changes {
        self.world = World::new();
        let before = Batch {
            objects: self.objects.iter().map(|(key, it)| (key.clone(), Some(it.clone()))).collect(),
            proxies: self.proxies.iter().map(|(id, it)| (*id, Some(it.clone()))).collect(),
        };
        let mut changes = self.attempt(before).unwrap_or_default();
        let why = "an internal error: this change is not applied, what was in force stays (please report it)";
        let problem = |(key, _): &_| Problem::new(key, "", Reason::Malformed(why.to_owned()));
        let problems = changes.problems.take().unwrap_or_else(|| self.world.problems());
        changes.problems = Some(problems.into_iter().chain(refused.iter().map(problem)).collect());
        changes
    }

    /// `None`: it panicked, and the world is spent. The panic has been printed by then.
    fn attempt(&mut self, batch: Batch) -> Option<Changes> {
        let Self { world, apply, .. } = self;
        catch_unwind(AssertUnwindSafe(|| apply(world, batch))).ok()
    }
}

fn keep<K: Ord, V>(all: &mut BTreeMap<K, V>, changes: Vec<(K, Option<V>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => _ = all.insert(key, value),
            None => _ = all.remove(&key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{Kind, Meta, Spec, kube};
    use xds::TypeUrl;

    fn service(name: &str) -> (ObjectKey, Option<Object>) {
        let key = ObjectKey::new(Kind::Service, "n", name);
        let meta = Meta { name: name.into(), namespace: "n".into(), ..Meta::default() };
        let port = kube::ServicePort { name: "http".into(), port: 80, ..Default::default() };
        let spec = Spec::Service(kube::Service { ports: vec![port], ..Default::default() });
        (key.clone(), Some(Object { key, meta, spec }))
    }

    fn objects(names: &[&str]) -> Batch {
        Batch { objects: names.iter().map(|name| service(name)).collect(), ..Batch::default() }
    }

    fn clusters(guarded: &Guarded) -> Vec<String> {
        let all = guarded.world().resources(ConnectionId(1), TypeUrl::Cluster);
        all.iter().filter(|it| it.name.starts_with("outbound|")).map(|it| it.name.to_string()).collect()
    }

    #[test]
    fn a_change_that_panics_is_reported_and_what_was_in_force_stays() {
        let mut guarded = Guarded::with(|world, batch| {
            assert!(batch.objects.iter().all(|(key, _)| &*key.name != "bad"), "as a bug would");
            world.commit(batch)
        });
        let id = "sidecar~10.0.0.1~p.n~n.svc.cluster.local";
        let proxy = Proxy::parse(id, &serde_json::Value::Null, model::Locality::default()).unwrap();
        guarded.commit(Batch { proxies: vec![(ConnectionId(1), Some(proxy))], ..objects(&["a"]) });
        let before = clusters(&guarded);
        assert_eq!(before, ["outbound|80||a.n.svc.cluster.local"]);

        let changes = guarded.commit(objects(&["b", "bad"]));
        assert_eq!(clusters(&guarded), before);
        let problems: Vec<String> = changes.problems.unwrap().iter().map(ToString::to_string).collect();
        assert!(
            problems.iter().any(|it| it.contains("Service n/bad") && it.contains("internal error")),
            "{problems:?}"
        );

        guarded.commit(objects(&["b"]));
        assert_eq!(clusters(&guarded).len(), 2, "the next change is applied");
    }
}
