//! Bringing a derived table up to date.

use crate::commit::Commit;
use crate::hash::FoldMap;
use crate::keys::Keys;
use crate::reads::{Read, Reads};
use crate::shared::Shared;
use crate::table::{Key, Table, Value};
use crate::who::Reader;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A row's new state, as far as it differs.
struct Fresh<V> {
    slot: u32,
    value: Option<Option<V>>,
    reads: Option<Box<[Read]>>,
}

impl Commit {
    /// Brings a derived table up to date: the rows that `keys` ask for, each computed by `value` from `from`
    /// (a table, or a tuple of tables). `value` is a plain function, so it can use nothing but what it is
    /// given here; it must depend on nothing else, and may run on any thread.
    pub fn derive<K: Key, V: Value, F: Copy + Sync>(
        &mut self,
        table: &mut Table<K, V>,
        keys: &[&dyn Keys<K>],
        from: F,
        value: fn(&mut Reads, F, &K) -> Option<V>,
    ) {
        self.walk(table);
        self.ask(table, keys);
        let dirty = self.dirty[usize::from(table.id.0)].take();
        if dirty.is_empty() {
            return;
        }
        table.computed.last = dirty.len() as u64;
        table.computed.total += table.computed.last;
        let threads = if dirty.len() > PARALLEL_ROWS { self.threads() } else { 1 };
        let compute = |slots: &[u32]| compute(table, slots, from, value);
        let fresh = if threads > 1 { in_parallel(threads, &dirty, &compute) } else { compute(&dirty) };
        for Fresh { slot, value, reads } in fresh {
            let reader = Reader { table: table.id, slot };
            if let (Some(reads), Some(row)) = (reads, table.row_mut(slot)) {
                self.readers.replace(reader, &row.reads, &reads);
                row.reads = reads;
            }
            if let Some(value) = value {
                table.store(self, slot, value.map(Shared::new));
            }
        }
    }

    /// Counts who asks for which row: rows that are new are dirty, rows that nobody asks for are removed.
    fn ask<K: Key, V>(&mut self, table: &mut Table<K, V>, keys: &[&dyn Keys<K>]) {
        let mut demand: FoldMap<K, i64> = FoldMap::default();
        for source in keys {
            source.changes(&mut |key, by| *demand.entry(key).or_default() += by);
        }
        for (key, by) in demand.into_iter().filter(|(_, by)| *by != 0) {
            let slot = table.slot(&key).unwrap_or_else(|| table.insert_row(key));
            let row = table.row_mut(slot).expect("the row was just found or inserted");
            let before = row.demand;
            row.demand =
                u32::try_from(i64::from(before) + by).expect("a source row takes back only what it has asked for");
            if row.demand == 0 {
                table.remove_row(self, slot);
                self.dirty[usize::from(table.id.0)].remove(slot);
            } else if before == 0 {
                self.dirty[usize::from(table.id.0)].insert(slot);
            }
        }
    }
}

/// Only looks: rows of one table cannot see each other, so any number of these can run at the same time.
fn compute<K: Key, V: Value, F: Copy>(
    table: &Table<K, V>,
    slots: &[u32],
    from: F,
    value: fn(&mut Reads, F, &K) -> Option<V>,
) -> Vec<Fresh<V>> {
    let mut reads = Reads::new(table.id, table.name());
    let fresh = |slot: &u32| {
        let row = table.row(*slot).expect("a dirty slot is in use: removing a row makes it clean");
        let new = value(&mut reads, from, &row.key);
        let reads = reads.finish(&row.reads);
        let value = (row.value.as_deref() != new.as_ref()).then_some(new);
        Fresh { slot: *slot, value, reads }
    };
    slots.iter().map(fresh).collect()
}

/// Deals the slots out in small hands, since some rows take much longer than others, and puts the results
/// together in the order of the slots: nobody can tell how many threads there were.
fn in_parallel<V: Send>(
    threads: usize,
    slots: &[u32],
    compute: &(impl Fn(&[u32]) -> Vec<Fresh<V>> + Sync),
) -> Vec<Fresh<V>> {
    let hands: Vec<&[u32]> = slots.chunks(HAND).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(hand) = hands.get(at) else { return done };
            done.push((at, compute(hand)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            // A derivation's own panic goes on, with its message.
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().flat_map(|(_, fresh)| fresh).collect()
}

/// Starting threads costs some 50 µs, as much as computing a few dozen rows.
const PARALLEL_ROWS: usize = 256;
const HAND: usize = 32;
