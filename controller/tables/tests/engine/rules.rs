//! The engine's promises, one at a time.

use crate::toy::{Batch, Pod, Proxy, World};
use imbl::OrdSet;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tables::{Commit, Reads, Shared, Table, keys_from};

fn pod(app: u8, address: u32, noise: u32) -> Option<Pod> {
    Some(Pod { app, address, noise })
}

fn proxy(apps: &[u8]) -> Option<Proxy> {
    Some(Proxy { apps: apps.to_vec(), port: 8000 })
}

/// Pods 1 and 2 of app 1, pod 3 of app 2; proxy 1 talks to app 1, proxy 2 to apps 1 and 2.
fn world() -> World {
    let mut world = World::new(1);
    world.commit(Batch {
        pods: vec![(1, pod(1, 10, 0)), (2, pod(1, 20, 0)), (3, pod(2, 30, 0))],
        rules: vec![(2, Some(5))],
        proxies: vec![(1, proxy(&[1])), (2, proxy(&[1, 2]))],
    });
    world
}

#[test]
fn only_what_reads_a_change_is_computed() {
    let mut world = world();
    world.commit(Batch { pods: vec![(3, pod(2, 31, 0))], ..Batch::default() });
    assert_eq!(world.computed(), ["endpoints 2", "route (2, 8000)", "snapshot 1", "snapshot 2"]);
    world.commit(Batch::default());
    assert_eq!(world.computed(), Vec::<String>::new());
    assert_eq!((world.endpoints.computed().last, world.endpoints.computed().total), (0, 3));
}

#[test]
fn an_equal_value_stops_the_wave() {
    let mut world = world();
    let before = world.endpoints.peek(&1).unwrap().clone();
    world.commit(Batch { pods: vec![(1, pod(1, 10, 99))], ..Batch::default() });
    assert_eq!(world.computed(), ["endpoints 1"]);
    assert_eq!(world.pods.changes().len(), 1);
    assert!(world.endpoints.changes().is_empty());
    assert_eq!(*world.endpoints.peek(&1).unwrap(), before, "the same value by pointer");
}

#[test]
fn that_a_row_is_missing_is_remembered() {
    let mut world = world();
    assert_eq!(world.routes.peek(&(1, 8000)).unwrap().weight, None);
    world.commit(Batch { rules: vec![(1, Some(9))], ..Batch::default() });
    assert_eq!(world.routes.peek(&(1, 8000)).unwrap().weight, Some(9));
    assert!(!world.computed().contains(&"route (2, 8000)".to_owned()));
    world.commit(Batch { rules: vec![(1, None)], ..Batch::default() });
    assert_eq!(world.routes.peek(&(1, 8000)).unwrap().weight, None);
}

#[test]
fn a_group_that_does_not_exist_yet_is_remembered() {
    let mut world = world();
    world.commit(Batch { proxies: vec![(9, proxy(&[7]))], ..Batch::default() });
    assert!(world.routes.peek(&(7, 8000)).is_none(), "asked for, without a value");
    world.commit(Batch { pods: vec![(70, pod(7, 77, 0))], ..Batch::default() });
    assert_eq!(**world.routes.peek(&(7, 8000)).unwrap().endpoints, [77]);
}

#[test]
fn there_and_back_again_is_never_wrong() {
    let mut world = world();
    let before = world.dump();
    for address in [11, 10, 11, 10] {
        world.commit(Batch { pods: vec![(1, pod(1, address, 0))], ..Batch::default() });
        assert_eq!(**world.endpoints.peek(&1).unwrap(), [address, 20]);
    }
    assert_eq!(world.dump(), before);
    // Within one batch only the last value counts, so this is no change at all.
    world.commit(Batch { pods: vec![(1, pod(1, 11, 0)), (1, None), (1, pod(1, 10, 0))], ..Batch::default() });
    assert!(world.pods.changes().is_empty());
}

#[test]
fn a_row_goes_with_the_last_row_that_asks_for_it() {
    let mut world = world();
    world.commit(Batch { proxies: vec![(1, None)], ..Batch::default() });
    assert_eq!(world.routes.rows().keys().collect::<Vec<_>>(), [&(1, 8000), &(2, 8000)], "proxy 2 still asks");
    world.commit(Batch { proxies: vec![(2, proxy(&[2]))], ..Batch::default() });
    assert_eq!(world.routes.rows().keys().collect::<Vec<_>>(), [&(2, 8000)]);
    let [change] = world.routes.changes() else { panic!("one route went") };
    assert!(change.old.is_some() && change.new.is_none());

    world.commit(Batch {
        proxies: vec![(2, None)],
        pods: (1..=3).map(|id| (id, None)).collect(),
        rules: vec![(2, None)],
    });
    assert!(world.tables().iter().all(|table| table.dump().rows.is_empty()));
    assert_eq!(world.commit.reads_count(), 0);
}

/// What is removed and asked for again in one commit was never gone.
#[test]
fn a_row_that_is_handed_over_is_not_computed_again() {
    let mut world = world();
    let before = world.routes.peek(&(2, 8000)).unwrap().clone();
    world.commit(Batch { proxies: vec![(2, None), (3, proxy(&[2]))], ..Batch::default() });
    assert_eq!(*world.routes.peek(&(2, 8000)).unwrap(), before);
    assert!(world.routes.changes().is_empty());
}

#[test]
fn changes_say_what_was_and_what_is() {
    let mut world = world();
    world.commit(Batch { pods: vec![(1, pod(1, 11, 0)), (3, None), (4, pod(1, 40, 0))], ..Batch::default() });
    let changes: Vec<_> = world.endpoints.changes().iter().map(|it| format!("{it:?}")).collect();
    assert_eq!(changes.len(), 2);
    assert!(changes.contains(&"Change { key: 1, old: Some([10, 20]), new: Some([11, 20, 40]) }".to_owned()));
    assert!(changes.contains(&"Change { key: 2, old: Some([30]), new: None }".to_owned()));
}

type Members<'t> = (&'t Table<u32, OrdSet<u32>>, &'t Table<u32, u32>, &'t Table<u32, u32>);

fn sum(reads: &mut Reads, (index, of, _): Members<'_>, _: &u32) -> Option<u32> {
    Some(reads.members(index, of, &0).map(|(_, value)| **value).sum())
}

fn sum_of_other(reads: &mut Reads, (index, _, other): Members<'_>, _: &u32) -> Option<u32> {
    Some(reads.members(index, other, &0).map(|(_, value)| **value).sum())
}

struct Sums {
    commit: Commit,
    of: Table<u32, u32>,
    other: Table<u32, u32>,
    index: Table<u32, OrdSet<u32>>,
    readers: Table<u32, ()>,
    sums: Table<u32, u32>,
}

type Sum = fn(&mut Reads, Members<'_>, &u32) -> Option<u32>;

impl Sums {
    fn new() -> Self {
        let mut commit = Commit::default();
        Self {
            of: commit.table("of"),
            other: commit.table("other"),
            index: commit.table("index"),
            readers: commit.table("readers"),
            sums: commit.table("sums"),
            commit,
        }
    }

    fn commit(&mut self, of: Vec<(u32, Option<u32>)>, other: Vec<(u32, Option<u32>)>, readers: u32, sum: Sum) {
        let c = &mut self.commit;
        c.input(&mut self.of, of);
        c.input(&mut self.other, other);
        c.group(&mut self.index, &self.of, |key, _| vec![key % 2]);
        c.input(&mut self.readers, (0..readers).map(|id| (id, Some(()))).collect());
        let keys = keys_from(&self.readers, |id, _| [*id]);
        c.derive(&mut self.sums, &[&keys], (&self.index, &self.of, &self.other), sum);
    }
}

/// Two million member reads are two thousand remembered ones.
#[test]
fn members_are_one_read_however_many_they_are() {
    let mut sums = Sums::new();
    sums.commit((0..2000).map(|key| (key, Some(1))).collect(), vec![], 2000, sum);
    assert_eq!(**sums.sums.peek(&77).unwrap(), 1000);
    assert_eq!(sums.commit.reads_count(), 2000);

    sums.commit(vec![(10, Some(5))], vec![], 0, sum);
    assert_eq!(**sums.sums.peek(&77).unwrap(), 1004, "a member's new value");
    assert!(sums.index.changes().is_empty(), "the membership is the same");
    sums.commit(vec![(10, None)], vec![], 0, sum);
    assert_eq!(**sums.sums.peek(&77).unwrap(), 999, "a member has left");
    sums.commit(vec![(4000, Some(3))], vec![], 0, sum);
    assert_eq!(**sums.sums.peek(&77).unwrap(), 1002, "a member has joined");
    sums.commit(vec![(11, Some(5))], vec![], 0, sum);
    assert_eq!(sums.sums.computed().last, 0, "another group's member");
    assert_eq!(sums.commit.reads_count(), 2000);
}

/// An index of one table may be used to read another one that has the same keys.
#[test]
fn members_of_another_table_are_followed_one_by_one() {
    let mut sums = Sums::new();
    let (keys, values) = ((0..20).map(|key| (key, Some(0))), (0..20).map(|key| (key, Some(1))));
    sums.commit(keys.collect(), values.collect(), 1, sum_of_other);
    assert_eq!((**sums.sums.peek(&0).unwrap(), sums.commit.reads_count()), (10, 11));
    sums.commit(vec![], vec![(2, Some(5))], 0, sum_of_other);
    assert_eq!(**sums.sums.peek(&0).unwrap(), 14);
    sums.commit(vec![(2, None)], vec![(100, Some(7))], 0, sum_of_other);
    assert_eq!((**sums.sums.peek(&0).unwrap(), sums.commit.reads_count()), (9, 10));
    sums.commit(vec![(100, Some(0))], vec![], 0, sum_of_other);
    assert_eq!(**sums.sums.peek(&0).unwrap(), 16);
}

fn keys_in_order(reads: &mut Reads, of: &Table<String, u32>, _: &()) -> Option<Vec<String>> {
    Some(reads.all(of).map(|(key, _)| key.clone()).collect())
}

/// Else a derivation could tell in which order rows came.
#[test]
fn all_rows_come_by_key_whatever_their_history() {
    let mut commit = Commit::default();
    let mut of: Table<String, u32> = commit.table("of");
    let mut keys = commit.table("keys");
    for rows in
        [vec![("c", Some(1)), ("a", Some(1)), ("b", Some(1))], vec![("a", None), ("d", Some(1)), ("aa", Some(1))]]
    {
        commit.input(&mut of, rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        commit.derive(&mut keys, &[&keys_from(&of, |_, _| [()])], &of, keys_in_order);
    }
    assert_eq!(**keys.peek(&()).unwrap(), ["aa", "b", "c", "d"]);
}

type OneTable<'t> = &'t Table<u32, u32>;
fn copy(reads: &mut Reads, from: OneTable<'_>, key: &u32) -> Option<u32> {
    reads.get(from, key).map(|value| **value)
}

fn copy_of_later(threads: usize, rows: u32) {
    let mut commit = Commit::with_threads(NonZeroUsize::new(threads).unwrap());
    let (mut input, mut early) = (commit.table("input"), commit.table("early"));
    let later: Table<u32, u32> = commit.table("later");
    commit.input(&mut input, (0..rows).map(|key| (key, Some(key))).collect());
    commit.derive(&mut early, &[&keys_from(&input, |key, _| [*key])], &later, copy);
}

#[test]
#[should_panic(expected = "`early` reads `later`, which is not an earlier table")]
fn reading_a_later_table_panics() {
    copy_of_later(1, 1);
}

#[test]
#[should_panic(expected = "`early` reads `later`, which is not an earlier table")]
fn reading_a_later_table_panics_on_any_thread() {
    copy_of_later(4, 1000);
}

#[test]
#[should_panic(expected = "`index` reads `later`, which is not an earlier table")]
fn grouping_a_later_table_panics() {
    let mut commit = Commit::default();
    let mut index = commit.table("index");
    let later: Table<u32, u32> = commit.table("later");
    commit.group(&mut index, &later, |_, value| vec![*value]);
}

#[test]
#[should_panic(expected = "`b` is walked out of order: `a` comes next")]
fn leaving_a_table_out_panics() {
    let mut commit = Commit::default();
    let (mut a, mut b): (OwnTable, OwnTable) = (commit.table("a"), commit.table("b"));
    commit.input(&mut a, vec![]);
    commit.input(&mut b, vec![]);
    commit.input(&mut b, vec![]);
}
type OwnTable = Table<u32, u32>;

/// Tells on which thread it was dropped.
struct Witness(u32, Sender<Option<String>>);

impl PartialEq for Witness {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        _ = self.1.send(std::thread::current().name().map(str::to_owned));
    }
}

fn dropped_by(rows: u32) -> Receiver<Option<String>> {
    let (sender, receiver) = channel();
    let mut commit = Commit::default();
    let mut table: Table<u32, Witness> = commit.table("table");
    commit.input(&mut table, (0..rows).map(|key| (key, Some(Witness(key, sender.clone())))).collect());
    commit.input(&mut table, (0..rows).map(|key| (key, None)).collect());
    assert_eq!(table.changes().len(), rows as usize);
    commit.input(&mut table, vec![]);
    receiver
}

#[test]
fn a_large_list_of_changes_is_dropped_elsewhere() {
    let names = dropped_by(10_000);
    for _ in 0..10_000 {
        let name = names.recv_timeout(Duration::from_secs(60)).expect("all values are dropped");
        assert_eq!(name.as_deref(), Some("tables-drop"));
    }
}

#[test]
fn a_small_list_of_changes_is_dropped_at_once() {
    let names: Vec<_> = dropped_by(10).try_iter().collect();
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| name.as_deref() != Some("tables-drop")));
}

/// The old set stays as it was for whoever holds it, and shares all but one path with the new one.
#[test]
fn a_large_group_changes_in_place_of_nobody() {
    let mut sums = Sums::new();
    sums.commit((0..20_000).map(|key| (key, Some(1))).collect(), vec![], 0, sum);
    let before: Shared<OrdSet<u32>> = sums.index.peek(&0).unwrap().clone();
    sums.commit(vec![(10_000, None), (40_000, Some(1))], vec![], 0, sum);
    let after = sums.index.peek(&0).unwrap();
    assert_eq!((before.len(), after.len()), (10_000, 10_000));
    assert!(before.contains(&10_000) && !after.contains(&10_000));
    assert_eq!(before.diff(after).count(), 2);
}
