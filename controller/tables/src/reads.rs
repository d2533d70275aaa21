//! Looking at earlier tables, and remembering what was looked at.

use crate::hash::hash;
use crate::shared::Shared;
use crate::table::{Key, Table, TableId};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Something that a row's computation looked at: a row, a group's members or a whole table, in eight bytes.
/// A key is kept as 50 bits of its hash: a collision costs one needless computation and can never hide a
/// needed one. There is nothing to intern, and a key that does not exist is as good as one that does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Read(u64);

/// What one row's computation has read so far. Every lookup goes through here.
pub struct Reads {
    reader: TableId,
    reader_name: &'static str,
    seen: Vec<Read>,
}

impl Reads {
    /// The row of this key. That there is none is remembered, too.
    ///
    /// ```
    /// # use tables::{keys_from, Commit, Reads, Table};
    /// fn greeting(reads: &mut Reads, names: &Table<u32, String>, id: &u32) -> Option<String> {
    ///     let name = reads.get(names, id)?;
    ///     Some(format!("Hello, {}!", **name))
    /// }
    /// # let mut commit = Commit::default();
    /// # let (mut names, mut greetings) = (commit.table("names"), commit.table("greetings"));
    /// commit.input(&mut names, vec![(1, Some("Ada".to_owned()))]);
    /// commit.derive(&mut greetings, &[&keys_from(&names, |id, _| [*id])], &names, greeting);
    /// assert_eq!(**greetings.peek(&1).unwrap(), "Hello, Ada!");
    /// ```
    ///
    /// # Panics
    /// If the table is not walked before the table of the row that is being computed. So do `members` and `all`.
    pub fn get<'t, K: Key, V>(&mut self, table: &'t Table<K, V>, key: &K) -> Option<&'t Shared<V>> {
        self.check(table);
        self.seen.push(Read::row(table.id, key));
        table.peek(key)
    }

    /// The rows of `of` that `index` has in this group, by key. It is remembered as *one* read, however many
    /// rows there are, and is dirty when a row joins, leaves or gets a new value.
    ///
    /// If `index` does not group `of` itself but another table with the same keys, each member is a read of
    /// its own: right, but larger.
    pub fn members<'t, G: Key, K: Key, V>(
        &mut self,
        index: &'t Table<G, imbl::OrdSet<K>>,
        of: &'t Table<K, V>,
        group: &G,
    ) -> impl Iterator<Item = (&'t K, &'t Shared<V>)> + use<'t, G, K, V> {
        self.check(index);
        self.check(of);
        let set = index.peek(group);
        if index.origin.as_ref().is_some_and(|origin| origin.table == of.id) {
            self.seen.push(Read::members(index.id, group));
        } else {
            let keys = set.iter().flat_map(|set| set.iter());
            self.seen.extend(keys.map(|key| Read::row(of.id, key)).chain([Read::row(index.id, group)]));
        }
        set.into_iter().flat_map(|set| set.iter()).filter_map(move |key| Some((key, of.peek(key)?)))
    }

    /// All rows, by key. For small tables that change rarely: any change makes the reader dirty.
    pub fn all<'t, K: Key, V>(
        &mut self,
        table: &'t Table<K, V>,
    ) -> impl Iterator<Item = (&'t K, &'t Shared<V>)> + use<'t, K, V> {
        self.check(table);
        self.seen.push(Read::all(table.id));
        table.sorted()
    }

    pub(crate) fn new(reader: TableId, reader_name: &'static str) -> Self {
        Self { reader, reader_name, seen: Vec::new() }
    }

    /// Ends a row: what it has read, each once and in order, if that differs from what it read before.
    pub(crate) fn finish(&mut self, before: &[Read]) -> Option<Box<[Read]>> {
        self.seen.sort_unstable();
        self.seen.dedup();
        let reads = (self.seen != before).then(|| self.seen.as_slice().into());
        self.seen.clear();
        reads
    }

    fn check<K, V>(&self, table: &Table<K, V>) {
        let (name, reader) = (table.name(), self.reader_name);
        assert!(table.id < self.reader, "`{reader}` reads `{name}`, which is not an earlier table");
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("reader", &self.reader_name).field("seen", &self.seen.len()).finish()
    }
}

// The table and the kind are in the middle: a hash table takes its bucket from the low bits and its tag from
// the top seven, and those must stay random.
const TABLE_BITS: u32 = 10;
const TABLE_SHIFT: u32 = 45;
const KIND_SHIFT: u32 = TABLE_SHIFT + TABLE_BITS;
const HASH_MASK: u64 = !(((1 << (TABLE_BITS + 2)) - 1) << TABLE_SHIFT);
const ROW: u64 = 0;
const MEMBERS: u64 = 1;
const ALL: u64 = 2;
pub(crate) const TABLES_MAX: u16 = (1 << TABLE_BITS) - 1;

impl Read {
    pub(crate) fn row<K: Hash>(table: TableId, key: &K) -> Self {
        Self::pack(table, ROW, hash(&(table.0, key)))
    }

    pub(crate) fn members<G: Hash>(index: TableId, group: &G) -> Self {
        Self::pack(index, MEMBERS, hash(&(index.0, group)))
    }

    pub(crate) fn all(table: TableId) -> Self {
        Self::pack(table, ALL, hash(&table.0))
    }

    pub(crate) fn table(self) -> TableId {
        TableId((self.0 >> TABLE_SHIFT) as u16 & TABLES_MAX)
    }

    pub(crate) fn is_all(self) -> bool {
        self.kind() == ALL
    }

    pub(crate) fn is_members(self) -> bool {
        self.kind() == MEMBERS
    }

    fn kind(self) -> u64 {
        self.0 >> KIND_SHIFT & 3
    }

    fn pack(table: TableId, kind: u64, hash: u64) -> Self {
        Self(hash & HASH_MASK | u64::from(table.0) << TABLE_SHIFT | kind << KIND_SHIFT)
    }
}

impl Hash for Read {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = ["row", "members", "all", ""][self.kind() as usize];
        write!(f, "{kind} of table {} ({:x})", self.table().0, self.0 & HASH_MASK)
    }
}
