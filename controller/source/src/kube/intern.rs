//! One copy of what many objects have alike: the pods of a Deployment differ in names and addresses only.

use crds::kube::Container;
use crds::{Object, Spec};
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Interner {
    labels: Pool<BTreeMap<String, String>>,
    containers: Pool<Vec<Container>>,
    texts: Pool<str>,
}

impl Interner {
    pub(super) fn share(&mut self, object: &mut Object) {
        self.texts.share(&mut object.key.namespace);
        object.meta.namespace = object.key.namespace.clone();
        object.meta.name = object.key.name.clone();
        self.labels.share(&mut object.meta.labels);
        self.labels.share(&mut object.meta.annotations);
        if let Spec::Pod(pod) = &mut object.spec {
            self.texts.share(&mut pod.spec.service_account_name);
            self.texts.share(&mut pod.spec.node_name);
            self.containers.share(&mut pod.spec.containers);
        }
    }
}

#[derive(Debug)]
struct Pool<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// With so many of them, those that nobody else has any more are let go.
    clean_at: usize,
}

const CLEAN_AT_MIN: usize = 64;

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), clean_at: CLEAN_AT_MIN }
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        match self.known.get(value) {
            Some(known) => *value = known.clone(),
            None => {
                if self.known.len() >= self.clean_at {
                    self.known.retain(|it| Arc::strong_count(it) > 1);
                    self.clean_at = (self.known.len() * 2).max(CLEAN_AT_MIN);
                }
                self.known.insert(value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_one_and_what_nobody_has_any_more_is_let_go() {
        let mut pool = Pool::<str>::default();
        let (mut first, mut second): (Arc<str>, Arc<str>) = ("a".into(), "a".into());
        pool.share(&mut first);
        pool.share(&mut second);
        assert!(Arc::ptr_eq(&first, &second));
        for number in 0..1000 {
            pool.share(&mut number.to_string().into());
        }
        assert!(pool.known.len() <= CLEAN_AT_MIN && pool.known.contains("a"), "{} are kept", pool.known.len());
    }
}
