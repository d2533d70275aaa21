//! One batch of changes on its way through the tables.

use crate::hash::FoldSet;
use crate::reads::{Read, TABLES_MAX};
use crate::rubbish::Rubbish;
use crate::table::{Key, Table, TableId, Value};
use crate::who::{Reader, Readers, Slots};
use std::fmt;
use std::num::NonZeroUsize;

/// Owns who-read-what and what is dirty. Every commit calls one of [`input`](Self::input),
/// [`group`](Self::group), [`collect`](Self::collect), [`derive`](Self::derive) for *every* table, in the
/// order in which [`table`](Self::table) made them; anything else panics, since a table that is left out
/// would have its last changes counted twice. So does the next commit after a derivation has panicked: some
/// tables know of the batch and some do not, and only a new world, filled from the same inputs, is right.
#[derive(Default)]
pub struct Commit {
    names: Vec<&'static str>,
    walked: u16,
    pub(crate) readers: Readers,
    pub(crate) dirty: Vec<Slots>,
    pub(crate) rubbish: Rubbish,
    threads: Option<NonZeroUsize>,
}

impl Commit {
    /// Large batches of rows are computed by this many threads, else by as many as the machine has to offer.
    /// The result is the same for any number.
    #[must_use]
    pub fn with_threads(threads: NonZeroUsize) -> Self {
        Self { threads: Some(threads), ..Self::default() }
    }

    /// Makes a table, which comes after all tables made before. The name is for dumps and panics.
    pub fn table<K: Key, V>(&mut self, name: &'static str) -> Table<K, V> {
        self.names.push(name);
        let id = u16::try_from(self.names.len()).ok().filter(|id| *id <= TABLES_MAX);
        self.dirty.resize_with(self.names.len() + 1, Slots::default);
        Table::new(TableId(id.expect("a world has fewer than 1024 tables")), name)
    }

    /// Sets (`Some`) or removes (`None`) rows of an input table. An equal value is no change; of several
    /// entries for one key the last one counts.
    ///
    /// ```
    /// let mut commit = tables::Commit::default();
    /// let mut ports = commit.table("ports");
    /// commit.input(&mut ports, vec![("web", Some(80)), ("web", Some(8080))]);
    /// assert_eq!(ports.changes().len(), 1);
    /// commit.input(&mut ports, vec![("web", Some(8080))]);
    /// assert!(ports.changes().is_empty());
    /// ```
    pub fn input<K: Key, V: Value>(&mut self, table: &mut Table<K, V>, rows: Vec<(K, Option<V>)>) {
        self.walk(table);
        for (key, value) in last_of_each_key(rows) {
            let same = table.peek(&key).map(|old| &**old) == value.as_ref();
            if !same {
                table.replace(self, key, value);
            }
        }
    }

    /// How many reads are remembered, over all rows: the engine's memory is about 70 bytes for each.
    pub fn reads_count(&self) -> usize {
        self.readers.count()
    }

    /// The next table's turn: forgets its last changes.
    pub(crate) fn walk<K: Key, V: Value>(&mut self, table: &mut Table<K, V>) {
        let next = self.walked % self.names.len() as u16;
        let (name, expected) = (table.name(), self.names[usize::from(next)]);
        assert!(table.id.0 == next + 1, "`{name}` is walked out of order: `{expected}` comes next");
        self.walked = next + 1;
        table.computed.last = 0;
        self.rubbish.clear(&mut table.changes);
    }

    /// What an index is made of must be earlier, too.
    pub(crate) fn check_source(&self, index: TableId, source: TableId) {
        let name = |id: TableId| self.names[usize::from(id.0) - 1];
        assert!(source < index, "`{}` reads `{}`, which is not an earlier table", name(index), name(source));
    }

    /// Whoever has read this has to be computed again.
    pub(crate) fn mark(&mut self, read: Read) {
        for reader in self.readers.of(read) {
            self.dirty[usize::from(reader.table.0)].insert(reader.slot);
        }
    }

    pub(crate) fn forget(&mut self, table: TableId, slot: u32, reads: &[Read]) {
        self.readers.replace(Reader { table, slot }, reads, &[]);
    }

    pub(crate) fn threads(&mut self) -> usize {
        let threads = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.get_or_insert_with(threads).get()
    }
}

fn last_of_each_key<K: Key, V>(mut rows: Vec<(K, Option<V>)>) -> Vec<(K, Option<V>)> {
    if rows.len() > 1 {
        let mut seen = FoldSet::default();
        rows.reverse();
        rows.retain(|(key, _)| seen.insert(key.clone()));
        rows.reverse();
    }
    rows
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("tables", &self.names).finish_non_exhaustive()
    }
}
