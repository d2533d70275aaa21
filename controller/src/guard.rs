//! The world behind a guard: a panic in a derivation is a bug of ours, and may cost the change that met it, but never
//! the configuration in force.

use crds::{ObjectKey, Problem, Reason};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Batch, Changes, World};

/// A world, and the way back to what it had accepted.
pub struct Guarded {
    world: World,
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
        Self { world: World::new(), apply }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// Applies the batch. If that panics, the world is made anew from what it had accepted before, and the batch is
    /// reported on each of its objects: the caller publishes what comes back either way, which for proxies is what
    /// they have already.
    pub fn commit(&mut self, batch: Batch) -> Changes {
        let replaced = Batch {
            objects: batch.objects.iter().map(|(key, _)| (key.clone(), self.world.object(key))).collect(),
            proxies: batch.proxies.iter().map(|(id, _)| (*id, self.world.proxy(*id))).collect(),
            roots: self.world.roots(),
        };
        match self.attempt(batch) {
            Some(changes) => changes,
            None => self.recover(replaced),
        }
    }

    /// However far the world has come with its inputs, those of the batch are set to what they were.
    fn recover(&mut self, replaced: Batch) -> Changes {
        let refused: Vec<ObjectKey> = replaced.objects.iter().map(|(key, _)| key.clone()).collect();
        let inputs = std::mem::take(&mut self.world).into_inputs();
        let before = Batch {
            objects: over(inputs.objects, replaced.objects),
            proxies: over(inputs.proxies, replaced.proxies),
            roots: replaced.roots,
        };
        let mut changes = self.attempt(before).unwrap_or_default();
        let why = "an internal error: this change is not applied, what was in force stays (please report it)";
        let problem = |key: &ObjectKey| Problem::new(key, "", Reason::Malformed(why.to_owned()));
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

/// What there is when the second has been applied to the first.
fn over<K: Ord, V>(first: Vec<(K, Option<V>)>, second: Vec<(K, Option<V>)>) -> Vec<(K, Option<V>)> {
    let all: BTreeMap<K, Option<V>> = first.into_iter().chain(second).collect();
    all.into_iter().filter(|(_, value)| value.is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{Kind, Meta, Object, Spec, kube};
    use model::Proxy;
    use xds::{ConnectionId, TypeUrl};

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

    #[test]
    fn a_panic_after_the_inputs_were_taken_undoes_changes_and_removals() {
        let mut guarded = Guarded::with(|world, batch| {
            let is_bad = batch.objects.iter().any(|(key, _)| &*key.name == "bad");
            let changes = world.commit(batch);
            assert!(!is_bad, "as a bug would, when everything is half done");
            changes
        });
        guarded.commit(objects(&["a", "b"]));
        let before = guarded.world().object(&service("a").0);
        let (key, mut other) = service("a");
        if let Some(Spec::Service(spec)) = other.as_mut().map(|it| &mut it.spec) {
            spec.ports[0].port = 81;
        }
        let mut batch = objects(&["bad", "c"]);
        batch.objects.extend([(key.clone(), other), (service("b").0, None)]);
        guarded.commit(batch);
        assert_eq!(guarded.world().object(&key), before);
        assert!(guarded.world().object(&service("b").0).is_some());
        assert!(guarded.world().object(&service("c").0).is_none());
    }
}
