//! A set that is usually tiny and sometimes huge: most rows have one reader, `mesh_config` has them all.

use crate::hash::FoldSet;
use std::hash::Hash;

pub(crate) enum Few<T> {
    One(T),
    Some(Vec<T>),
    Many(Box<FoldSet<T>>),
}

impl<T: Copy + Eq + Hash> Few<T> {
    pub(crate) fn insert(&mut self, item: T) {
        match self {
            Self::One(one) if *one == item => {}
            Self::One(one) => *self = Self::Some(vec![*one, item]),
            Self::Some(some) if some.contains(&item) => {}
            Self::Some(some) if some.len() < SOME_MAX => some.push(item),
            Self::Some(some) => *self = Self::Many(Box::new(some.drain(..).chain([item]).collect())),
            Self::Many(many) => _ = many.insert(item),
        }
    }

    /// Takes an item out, and says whether anything is left.
    #[must_use]
    pub(crate) fn remove(&mut self, item: T) -> bool {
        match self {
            Self::One(one) => *one != item,
            Self::Some(some) => {
                some.retain(|it| *it != item);
                !some.is_empty()
            }
            Self::Many(many) => {
                many.remove(&item);
                !many.is_empty()
            }
        }
    }

    /// In no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        let (slice, set): (&[T], _) = match self {
            Self::One(one) => (std::slice::from_ref(one), None),
            Self::Some(some) => (some, None),
            Self::Many(many) => (&[], Some(many)),
        };
        slice.iter().chain(set.into_iter().flat_map(|set| set.iter())).copied()
    }
}

/// Up to here a scan is faster than a hash table, and four times smaller.
const SOME_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_is_a_set_at_every_size() {
        let mut few = Few::One(0u32);
        let mut model = BTreeSet::from([0u32]);
        for n in (0..100).chain(0..100) {
            few.insert(n);
            model.insert(n);
            assert_eq!(few.iter().collect::<BTreeSet<_>>(), model);
            assert_eq!(few.iter().count(), model.len());
        }
        for n in 0..100 {
            model.remove(&n);
            assert_eq!(few.remove(n), !model.is_empty());
            assert_eq!(few.iter().collect::<BTreeSet<_>>(), model);
        }
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Few<u64>>() <= 24);
    }
}
