//! Indexes: for each group, the keys of the source rows in it.

use crate::commit::Commit;
use crate::dump::{Member, Origin};
use crate::reads::Read;
use crate::table::{Key, Table};
use imbl::OrdSet;
use std::collections::BTreeMap;

enum Step {
    Joined,
    Left,
    Stayed,
}

impl Commit {
    /// Keeps an index: for each group, the keys of the source rows in it. A row may be in any number of
    /// groups; a group without rows does not exist. The sets are persistent: one change in a group of 10,000
    /// costs O(log n), also when someone holds on to the old set.
    ///
    /// ```
    /// let mut commit = tables::Commit::default();
    /// let (mut pods, mut by_node) = (commit.table("pods"), commit.table("pods_by_node"));
    /// commit.input(&mut pods, vec![("a", Some("node-1")), ("b", Some("node-1"))]);
    /// commit.group(&mut by_node, &pods, |_, node| vec![*node]);
    /// assert!(by_node.peek(&"node-1").unwrap().iter().eq(&["a", "b"]));
    /// ```
    pub fn group<K: Key, V, G: Key>(
        &mut self,
        index: &mut Table<G, OrdSet<K>>,
        source: &Table<K, V>,
        groups_of: impl Fn(&K, &V) -> Vec<G>,
    ) {
        self.walk(index);
        self.check_source(index.id, source.id);
        index.origin = Some(Origin { table: source.id, members: keys_of });
        let mut touched: BTreeMap<G, Vec<(&K, Step)>> = BTreeMap::new();
        for change in source.changes() {
            let groups = |value: &Option<_>| value.as_deref().map_or_else(Vec::new, |it| groups_of(&change.key, it));
            let (before, after) = (groups(&change.old), groups(&change.new));
            for group in after.iter().filter(|group| !before.contains(group)) {
                touched.entry(group.clone()).or_default().push((&change.key, Step::Joined));
            }
            for group in before {
                let step = if after.contains(&group) { Step::Stayed } else { Step::Left };
                touched.entry(group).or_default().push((&change.key, step));
            }
        }
        for (group, steps) in touched {
            // A member's new value concerns whoever reads the members, if not who reads only their keys.
            self.mark(Read::members(index.id, &group));
            if steps.iter().all(|(_, step)| matches!(step, Step::Stayed)) {
                continue;
            }
            let mut set = index.peek(&group).map_or_else(OrdSet::new, |set| (**set).clone());
            for (key, step) in steps {
                match step {
                    Step::Joined => _ = set.insert(key.clone()),
                    Step::Left => _ = set.remove(key),
                    Step::Stayed => {}
                }
            }
            index.replace(self, group, (!set.is_empty()).then_some(set));
        }
    }
}

fn keys_of<G, K: Key>(_: &Table<G, OrdSet<K>>, _: &G, set: &OrdSet<K>) -> Vec<Member> {
    set.iter().map(|key| Member::Key(format!("{key:?}"))).collect()
}
