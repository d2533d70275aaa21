//! A table: its rows, what changed in the last commit, and what each row read.

use crate::commit::Commit;
use crate::dump::Origin;
use crate::few::Few;
use crate::hash::{IdentityMap, hash};
use crate::reads::Read;
use crate::shared::Shared;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::OnceLock;

/// What a row can be found by.
pub trait Key: Clone + Eq + Hash + Ord + fmt::Debug + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Ord + fmt::Debug + Send + Sync + 'static> Key for T {}

/// What a row can hold. Equality decides whether readers hear of a new value.
pub trait Value: PartialEq + Send + Sync + 'static {}
impl<T: PartialEq + Send + Sync + 'static> Value for T {}

/// A table's place in the order in which a commit walks the tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableId(pub(crate) u16);

/// Rows of one kind; made by [`Commit::table`]. Derivations look at it only through [`Reads`](crate::Reads);
/// `peek` and `rows` are for those who stand outside of the data flow: tests, dumps, consumers of a commit.
pub struct Table<K, V> {
    pub(crate) id: TableId,
    name: &'static str,
    /// By the hashes of their keys, which stand in the rows only.
    slot_of: HashTable<u32>,
    slots: Vec<Option<Row<K, V>>>,
    free: Vec<u32>,
    /// The slots in the order of their keys, sorted when first asked for.
    order: OnceLock<Box<[u32]>>,
    pub(crate) changes: Vec<Change<K, V>>,
    pub(crate) computed: Computed,
    /// Where an index's rows come from.
    pub(crate) origin: Option<Origin<K, V>>,
    /// For [`Commit::collect`]: which source rows want to be the entry with this hash.
    pub(crate) claims: IdentityMap<u64, Few<u32>>,
}

pub(crate) struct Row<K, V> {
    pub(crate) key: K,
    pub(crate) value: Option<Shared<V>>,
    /// How many source rows ask for this one.
    pub(crate) demand: u32,
    pub(crate) reads: Box<[Read]>,
}

/// A row that differs after a commit.
pub struct Change<K, V> {
    pub key: K,
    pub old: Option<Shared<V>>,
    pub new: Option<Shared<V>>,
    pub(crate) slot: u32,
}

/// How many rows a table has computed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Computed {
    pub total: u64,
    pub last: u64,
}

impl<K: Key, V> Table<K, V> {
    pub(crate) fn new(id: TableId, name: &'static str) -> Self {
        Self {
            id,
            name,
            slot_of: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: OnceLock::new(),
            changes: Vec::new(),
            computed: Computed::default(),
            origin: None,
            claims: IdentityMap::default(),
        }
    }

    /// The rows that the last commit changed: one change a row, in an order that depends on history only.
    pub fn changes(&self) -> &[Change<K, V>] {
        &self.changes
    }

    /// How many rows there are, with those that are asked for but have no value.
    pub fn len(&self) -> usize {
        self.slot_of.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slot_of.is_empty()
    }

    /// All rows that have a value.
    pub fn rows(&self) -> BTreeMap<K, &V> {
        self.sorted().map(|(key, value)| (key.clone(), &**value)).collect()
    }

    pub fn peek(&self, key: &K) -> Option<&Shared<V>> {
        self.row(self.slot(key)?)?.value.as_ref()
    }

    pub fn computed(&self) -> Computed {
        self.computed
    }

    /// All rows that have a value, by key.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&K, &Shared<V>)> {
        let order = self.order.get_or_init(|| {
            let mut rows: Vec<(u32, &Row<K, V>)> =
                (0..).zip(&self.slots).filter_map(|(slot, row)| Some((slot, row.as_ref()?))).collect();
            rows.sort_unstable_by(|(_, a), (_, b)| a.key.cmp(&b.key));
            rows.iter().map(|(slot, _)| *slot).collect()
        });
        order.iter().filter_map(|slot| self.at(*slot))
    }

    pub(crate) fn slot(&self, key: &K) -> Option<u32> {
        self.slot_of.find(hash(key), |slot| self.is_at(*slot, key)).copied()
    }

    fn is_at(&self, slot: u32, key: &K) -> bool {
        self.row(slot).is_some_and(|row| row.key == *key)
    }

    pub(crate) fn row(&self, slot: u32) -> Option<&Row<K, V>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn row_mut(&mut self, slot: u32) -> Option<&mut Row<K, V>> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn at(&self, slot: u32) -> Option<(&K, &Shared<V>)> {
        let row = self.row(slot)?;
        Some((&row.key, row.value.as_ref()?))
    }

    pub(crate) fn insert_row(&mut self, key: K) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                // Not twice as many: a table's slots are most of what it takes.
                self.slots.reserve_exact((self.slots.len() / 8).max(8));
            }
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a table has fewer than 2^32 rows")
        });
        self.order.take();
        let key_hash = hash(&key);
        self.slots[slot as usize] = Some(Row { key, value: None, demand: 0, reads: Box::default() });
        let slots = &self.slots;
        let hash_at = |slot: &u32| slots[*slot as usize].as_ref().map_or(0, |row| hash(&row.key));
        self.slot_of.insert_unique(key_hash, slot, hash_at);
        slot
    }

    /// Sets the value of a row to one that is known to differ, and tells its readers.
    pub(crate) fn store(&mut self, commit: &mut Commit, slot: u32, new: Option<Shared<V>>) {
        let Some(row) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let old = std::mem::replace(&mut row.value, new.clone());
        if self.changes.is_empty() {
            commit.mark(Read::all(self.id));
        }
        commit.mark(Read::row(self.id, &row.key));
        self.changes.push(Change { key: row.key.clone(), old, new, slot });
    }

    pub(crate) fn remove_row(&mut self, commit: &mut Commit, slot: u32) {
        if self.at(slot).is_some() {
            self.store(commit, slot, None);
        }
        if let Some(row) = self.slots.get_mut(slot as usize).and_then(Option::take) {
            // `order` may keep the slot: it is empty until a new row takes it, which is sorted then.
            if let Ok(entry) = self.slot_of.find_entry(hash(&row.key), |it| *it == slot) {
                entry.remove();
            }
            self.free.push(slot);
            commit.forget(self.id, slot, &row.reads);
        }
    }

    /// Sets or removes a row of an index; the value is known to differ.
    pub(crate) fn replace(&mut self, commit: &mut Commit, key: K, value: Option<V>) {
        let slot = self.slot(&key);
        match (slot, value) {
            (Some(slot), None) => self.remove_row(commit, slot),
            (None, None) => {}
            (slot, Some(value)) => {
                let slot = slot.unwrap_or_else(|| self.insert_row(key));
                self.store(commit, slot, Some(Shared::new(value)));
            }
        }
    }
}

impl<K, V> Table<K, V> {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// One more than the greatest slot in use.
    pub(crate) fn slots_end(&self) -> u32 {
        self.slots.len() as u32
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).field("rows", &self.slot_of.len()).finish_non_exhaustive()
    }
}

impl<K: Clone, V> Clone for Change<K, V> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), old: self.old.clone(), new: self.new.clone(), slot: self.slot }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Change<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new, .. } = self;
        f.debug_struct("Change").field("key", key).field("old", old).field("new", new).finish()
    }
}
