//! Persistent maps, one for each group, of what the rows of another table put there.

use crate::commit::Commit;
use crate::dump::{Member, Origin};
use crate::few::Few;
use crate::hash::hash;
use crate::shared::Shared;
use crate::table::{Key, Table, Value};
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

impl Commit {
    /// Keeps, for each group, a map of what the source rows put there under a name; a group without entries
    /// does not exist. One change costs O(log n), however many entries the group has, and the old map stays
    /// valid for whoever holds it ([`imbl::OrdMap::diff`] between the two costs about what changed).
    ///
    /// If several source rows want the same name in the same group, the one with the smallest key has it;
    /// if that one goes, the next one gets it. Which rows want a name is kept as their slots (about 40 bytes an
    /// entry); a change to a contended name asks `entries` for each of its contenders again. So `entries` must
    /// depend on its arguments only.
    ///
    /// ```
    /// let mut commit = tables::Commit::default();
    /// let (mut routes, mut tables) = (commit.table("routes"), commit.table("route_tables"));
    /// commit.input(&mut routes, vec![(1, Some(("a.example", "v1"))), (2, Some(("a.example", "v2")))]);
    /// commit.collect(&mut tables, &routes, |_, route| Some((8080, route.0, route.1)));
    /// assert_eq!(tables.peek(&8080).unwrap()["a.example"], "v1");
    /// ```
    pub fn collect<K: Key, V, G: Key, N: Key, T: Clone + Value>(
        &mut self,
        target: &mut Table<G, OrdMap<N, T>>,
        source: &Table<K, V>,
        entries: impl Fn(&K, &Shared<V>) -> Option<(G, N, T)>,
    ) {
        self.walk(target);
        self.check_source(target.id, source.id);
        target.origin = Some(Origin { table: source.id, members: contributors });
        for (group, names) in claim(target, source, &entries) {
            let mut map = target.peek(&group).map_or_else(OrdMap::new, |map| (**map).clone());
            let mut differs = false;
            for (name, claim) in names {
                let new = match claim {
                    Claim::Alone(entry) => Some(entry),
                    Claim::Contended => first_of(target, source, &entries, &group, &name),
                };
                if map.get(&name) == new.as_ref() {
                    continue;
                }
                differs = true;
                match new {
                    Some(entry) => _ = map.insert(name, entry),
                    None => _ = map.remove(&name),
                }
            }
            if differs {
                target.replace(self, group, (!map.is_empty()).then_some(map));
            }
        }
    }
}

/// What is known of a name that a change has touched.
enum Claim<T> {
    /// One row wants it, and it has just said what to put there.
    Alone(T),
    /// Nobody, some, or a row that has not changed: ask.
    Contended,
}

/// Takes the claims of changed rows back and writes their new ones down.
fn claim<K: Key, V, G: Key, N: Key, T>(
    target: &mut Table<G, OrdMap<N, T>>,
    source: &Table<K, V>,
    entries: &impl Fn(&K, &Shared<V>) -> Option<(G, N, T)>,
) -> BTreeMap<G, BTreeMap<N, Claim<T>>> {
    let mut touched: BTreeMap<G, BTreeMap<N, Claim<T>>> = BTreeMap::new();
    // First all that go: a removed row's slot may already belong to a new row.
    for change in source.changes() {
        let Some((group, name, _)) = change.old.as_ref().and_then(|old| entries(&change.key, old)) else { continue };
        if let Entry::Occupied(mut rows) = target.claims.entry(hash(&(&group, &name)))
            && !rows.get_mut().remove(change.slot)
        {
            rows.remove();
        }
        touched.entry(group).or_default().insert(name, Claim::Contended);
    }
    for change in source.changes() {
        let Some((group, name, entry)) = change.new.as_ref().and_then(|new| entries(&change.key, new)) else {
            continue;
        };
        let claim = match target.claims.entry(hash(&(&group, &name))) {
            Entry::Vacant(rows) => {
                rows.insert(Few::One(change.slot));
                Claim::Alone(entry)
            }
            Entry::Occupied(mut rows) => {
                rows.get_mut().insert(change.slot);
                Claim::Contended
            }
        };
        touched.entry(group).or_default().insert(name, claim);
    }
    touched
}

/// What the smallest of the rows that want this name puts there.
fn first_of<K: Key, V, G: Key, N: Key, T>(
    target: &Table<G, OrdMap<N, T>>,
    source: &Table<K, V>,
    entries: &impl Fn(&K, &Shared<V>) -> Option<(G, N, T)>,
    group: &G,
    name: &N,
) -> Option<T> {
    let rows = target.claims.get(&hash(&(group, name)))?;
    let wanted = rows.iter().filter_map(|slot| {
        let (key, value) = source.at(slot)?;
        // Another name may have the same hash.
        let (_, _, entry) = entries(key, value).filter(|(g, n, _)| g == group && n == name)?;
        Some((key, entry))
    });
    wanted.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, entry)| entry)
}

fn contributors<G: Key, N: Key, T>(table: &Table<G, OrdMap<N, T>>, group: &G, map: &OrdMap<N, T>) -> Vec<Member> {
    let rows = map.keys().filter_map(|name| table.claims.get(&hash(&(group, name))));
    rows.flat_map(|rows| rows.iter()).map(Member::Slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_go_with_the_rows_that_made_them() {
        let mut commit = Commit::default();
        let (mut source, mut target) = (commit.table("source"), commit.table::<(), OrdMap<u32, u32>>("target"));
        let mut step = |rows: Vec<(u32, Option<u32>)>| {
            commit.input(&mut source, rows);
            commit.collect(&mut target, &source, |key, name| Some(((), **name, *key)));
            (target.claims.len(), target.claims.values().map(|rows| rows.iter().count()).sum::<usize>())
        };
        assert_eq!(step((0..40).map(|key| (key, Some(key % 2))).collect()), (2, 40));
        assert_eq!(step((0..40).map(|key| (key, Some(key % 4))).collect()), (4, 40));
        assert_eq!(step((1..40).map(|key| (key, None)).collect()), (1, 1));
        assert_eq!(step(vec![(0, Some(9))]), (1, 1));
        assert_eq!(step(vec![(0, None), (1, Some(9))]), (1, 1), "the new row has the old one's slot");
        assert_eq!(step(vec![(1, None)]), (0, 0));
        assert!(target.is_empty());
    }
}
