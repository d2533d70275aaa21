//! Where a derived table's keys come from: a row exists while some source row asks for it.

use crate::table::{Key, Table};
use std::fmt;

/// Keys that are asked for, as what changed in the last commit.
pub trait Keys<K> {
    /// Calls `count` with each key that is asked for once more (1) or once less (-1).
    fn changes(&self, count: &mut dyn FnMut(K, i64));
}

/// See [`keys_from`].
pub struct KeysFrom<'t, SK, SV, F> {
    source: &'t Table<SK, SV>,
    keys: F,
}

/// The keys that each row of `source` asks for. `keys` must depend on its arguments only: what it said of a
/// value when the row came is taken back when the row goes.
///
/// ```
/// # use tables::{keys_from, Commit, Reads, Table};
/// # fn length(_: &mut Reads, _: (), word: &String) -> Option<usize> { Some(word.len()) }
/// # let mut commit = Commit::default();
/// # let (mut lines, mut words) = (commit.table::<u32, String>("lines"), commit.table("words"));
/// commit.input(&mut lines, vec![(1, Some("the cat".into())), (2, Some("the dog".into()))]);
/// let asked = keys_from(&lines, |_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
/// commit.derive(&mut words, &[&asked], (), length);
/// assert_eq!(words.len(), 3);
/// ```
pub fn keys_from<SK, SV, F, I>(source: &Table<SK, SV>, keys: F) -> KeysFrom<'_, SK, SV, F>
where
    F: Fn(&SK, &SV) -> I,
{
    KeysFrom { source, keys }
}

impl<K: Eq, SK: Key, SV, F, I> Keys<K> for KeysFrom<'_, SK, SV, F>
where
    F: Fn(&SK, &SV) -> I,
    I: IntoIterator<Item = K>,
{
    fn changes(&self, count: &mut dyn FnMut(K, i64)) {
        for change in self.source.changes() {
            match (&change.old, &change.new) {
                (None, None) => {}
                (None, Some(new)) => (self.keys)(&change.key, new).into_iter().for_each(|key| count(key, 1)),
                (Some(old), None) => (self.keys)(&change.key, old).into_iter().for_each(|key| count(key, -1)),
                (Some(old), Some(new)) => {
                    let old = (self.keys)(&change.key, old).into_iter().collect();
                    difference(old, (self.keys)(&change.key, new).into_iter().collect(), count);
                }
            }
        }
    }
}

/// A long list usually changes in one place, so what both lists begin and end with is skipped: comparing keys
/// is many times cheaper than counting them.
fn difference<K: Eq>(mut old: Vec<K>, mut new: Vec<K>, count: &mut dyn FnMut(K, i64)) {
    while !old.is_empty() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    new.into_iter().skip(same).for_each(|key| count(key, 1));
    old.into_iter().skip(same).for_each(|key| count(key, -1));
}

impl<SK, SV, F> fmt::Debug for KeysFrom<'_, SK, SV, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeysFrom").field(&self.source.name()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_what_differs_is_counted() {
        for (old, new, want) in [
            ("", "", vec![]),
            ("", "ab", vec![('a', 1), ('b', 1)]),
            ("ab", "", vec![('a', -1), ('b', -1)]),
            ("abcd", "abxcd", vec![('x', 1)]),
            ("abcd", "acd", vec![('b', -1)]),
            ("aaa", "aa", vec![('a', -1)]),
            ("ab", "ba", vec![]),
        ] {
            let mut counts = BTreeMap::new();
            difference(old.chars().collect(), new.chars().collect(), &mut |key, by| {
                *counts.entry(key).or_insert(0) += by;
            });
            counts.retain(|_, by| *by != 0);
            assert_eq!(counts.into_iter().collect::<Vec<_>>(), want, "{old} → {new}");
        }
    }
}
