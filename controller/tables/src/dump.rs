//! What is in the tables, who read what and why a row is as it is: for people. Slow on purpose: reads are
//! kept as hashes, so names are found by walking the tables.

use crate::commit::Commit;
use crate::hash::IdentityMap;
use crate::reads::Read;
use crate::table::{Key, Table, TableId, Value};
use std::collections::BTreeSet;
use std::fmt;

/// A table of any type, as text. A world that lists its tables as `&[&dyn Dump]` has an admin page.
pub trait Dump {
    fn name(&self) -> &'static str;
    fn id(&self) -> TableId;
    /// All rows, by key.
    fn dump(&self) -> TableDump;
    /// Where in the table a key is, by its `Debug` text.
    fn find(&self, key: &str) -> Option<u32>;
    /// Every place that may be in use is below this one.
    fn places(&self) -> u32;
    fn row_at(&self, place: u32) -> Option<RowText>;
    fn key_at(&self, place: u32) -> Option<String>;
    /// What the row has read.
    fn reads_at(&self, place: u32) -> Vec<Read>;
    /// As what others remember this row: as a row, as a group.
    fn read_as(&self, place: u32) -> Option<[Read; 2]>;
    /// For an index: the table that it is made from.
    fn source(&self) -> Option<TableId>;
    /// For an index: the source's rows that are in this one.
    fn members_at(&self, place: u32) -> Vec<Member>;
}

/// A source row of an index's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Member {
    Key(String),
    Slot(u32),
}

/// A table and all its rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableDump {
    pub name: &'static str,
    pub rows: Vec<RowText>,
}

/// A row; one without a value is asked for, but its function returned none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowText {
    pub key: String,
    pub value: Option<String>,
}

/// A row with what it was made from and what was made from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowDump {
    pub table: &'static str,
    pub row: RowText,
    pub reads: Vec<ReadText>,
    pub readers: Vec<RowName>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RowName {
    pub table: &'static str,
    pub key: String,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReadText {
    pub table: &'static str,
    pub what: What,
}

/// What of a table was read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    All,
    Row(String),
    Members(String),
    /// A row or a group that does not exist: that is an answer, too. Its key is known only by its hash.
    Absent,
}

/// Where an index's rows come from.
pub(crate) struct Origin<K, V> {
    pub(crate) table: TableId,
    pub(crate) members: fn(&Table<K, V>, &K, &V) -> Vec<Member>,
}

impl<K: Key, V: Value + fmt::Debug> Dump for Table<K, V> {
    fn name(&self) -> &'static str {
        self.name()
    }
    fn id(&self) -> TableId {
        self.id
    }
    fn dump(&self) -> TableDump {
        let mut rows: Vec<_> = (0..self.places()).filter_map(|place| self.row(place)).collect();
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let text = |value: &_| format!("{value:?}");
        let rows =
            rows.iter().map(|row| RowText { key: format!("{:?}", row.key), value: row.value.as_ref().map(text) });
        TableDump { name: self.name(), rows: rows.collect() }
    }
    fn find(&self, key: &str) -> Option<u32> {
        (0..self.places()).find(|place| self.key_at(*place).is_some_and(|it| it == key))
    }
    fn places(&self) -> u32 {
        self.slots_end()
    }
    fn row_at(&self, place: u32) -> Option<RowText> {
        let value = self.row(place)?.value.as_ref().map(|value| format!("{value:?}"));
        Some(RowText { key: self.key_at(place)?, value })
    }
    fn key_at(&self, place: u32) -> Option<String> {
        Some(format!("{:?}", self.row(place)?.key))
    }
    fn reads_at(&self, place: u32) -> Vec<Read> {
        self.row(place).map_or_else(Vec::new, |row| row.reads.to_vec())
    }
    fn read_as(&self, place: u32) -> Option<[Read; 2]> {
        let key = &self.row(place)?.key;
        Some([Read::row(self.id, key), Read::members(self.id, key)])
    }
    fn source(&self) -> Option<TableId> {
        self.origin.as_ref().map(|origin| origin.table)
    }
    fn members_at(&self, place: u32) -> Vec<Member> {
        let (Some(origin), Some((key, value))) = (&self.origin, self.at(place)) else { return Vec::new() };
        (origin.members)(self, key, value)
    }
}

impl Commit {
    /// A row, found by its table's name and its key's `Debug` text, with what it has read and who has read it.
    /// Rows of an index have read the rows that they are made of.
    ///
    /// ```
    /// # use tables::{keys_from, Commit, Dump, Reads, Table};
    /// # fn double(reads: &mut Reads, of: &Table<u32, u32>, key: &u32) -> Option<u32> { Some(2 * **reads.get(of, key)?) }
    /// # let mut commit = Commit::default();
    /// # let (mut numbers, mut doubles) = (commit.table("numbers"), commit.table("doubles"));
    /// commit.input(&mut numbers, vec![(7, Some(21))]);
    /// commit.derive(&mut doubles, &[&keys_from(&numbers, |key, _| [*key])], &numbers, double);
    /// let tables: [&dyn Dump; 2] = [&numbers, &doubles];
    /// let row = commit.dump_row(&tables, "numbers", "7").unwrap();
    /// assert_eq!(row.to_string(), "numbers[7] = 21\n  read by doubles[7]\n");
    /// ```
    pub fn dump_row(&self, tables: &[&dyn Dump], table: &str, key: &str) -> Option<RowDump> {
        let table = *tables.iter().find(|it| it.name() == table)?;
        let place = table.find(key)?;
        Some(RowDump {
            table: table.name(),
            row: table.row_at(place)?,
            reads: read_by(tables, table, place),
            readers: self.readers_of(tables, table, place, key),
        })
    }

    fn readers_of(&self, tables: &[&dyn Dump], table: &dyn Dump, place: u32, key: &str) -> Vec<RowName> {
        let reads = table.read_as(place).into_iter().flatten().chain([Read::all(table.id())]);
        let mut readers = BTreeSet::new();
        for reader in reads.flat_map(|read| self.readers.of(read)) {
            let named = by_id(tables, reader.table).and_then(|by| Some((by.name(), by.key_at(reader.slot)?)));
            readers.extend(named.map(|(table, key)| RowName { table, key }));
        }
        for index in tables.iter().filter(|index| index.source() == Some(table.id())) {
            let has = |it: &u32| index.members_at(*it).iter().any(|member| is(member, place, key));
            let rows = (0..index.places()).filter(has).filter_map(|it| index.key_at(it));
            readers.extend(rows.map(|key| RowName { table: index.name(), key }));
        }
        readers.into_iter().collect()
    }
}

fn read_by(tables: &[&dyn Dump], table: &dyn Dump, place: u32) -> Vec<ReadText> {
    let reads = table.reads_at(place);
    let mut names: IdentityMap<Read, Option<String>> = reads.iter().map(|read| (*read, None)).collect();
    let read_tables: BTreeSet<TableId> = reads.iter().map(|read| read.table()).collect();
    for of in read_tables.iter().filter_map(|id| by_id(tables, *id)) {
        for it in 0..of.places() {
            for read in of.read_as(it).into_iter().flatten() {
                if let Some(name) = names.get_mut(&read) {
                    *name = of.key_at(it);
                }
            }
        }
    }
    let mut texts = BTreeSet::new();
    for (read, name) in names {
        let what = match name {
            _ if read.is_all() => What::All,
            Some(key) if read.is_members() => What::Members(key),
            Some(key) => What::Row(key),
            None => What::Absent,
        };
        texts.extend(by_id(tables, read.table()).map(|of| ReadText { table: of.name(), what }));
    }
    if let Some(source) = table.source().and_then(|id| by_id(tables, id)) {
        let keys = table.members_at(place).into_iter().filter_map(|member| match member {
            Member::Key(key) => Some(key),
            Member::Slot(slot) => source.key_at(slot),
        });
        texts.extend(keys.map(|key| ReadText { table: source.name(), what: What::Row(key) }));
    }
    texts.into_iter().collect()
}

fn is(member: &Member, place: u32, key: &str) -> bool {
    match member {
        Member::Key(it) => it == key,
        Member::Slot(it) => *it == place,
    }
}

fn by_id<'t>(tables: &[&'t dyn Dump], id: TableId) -> Option<&'t dyn Dump> {
    tables.iter().find(|table| table.id() == id).copied()
}

impl fmt::Display for RowDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.row.value.as_deref().unwrap_or("none");
        writeln!(f, "{}[{}] = {value}", self.table, self.row.key)?;
        self.reads.iter().try_for_each(|read| writeln!(f, "  reads {read}"))?;
        self.readers.iter().try_for_each(|reader| writeln!(f, "  read by {reader}"))
    }
}

impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.table, self.key)
    }
}

impl fmt::Display for ReadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::All => write!(f, "all of {}", self.table),
            What::Row(key) => write!(f, "{}[{key}]", self.table),
            What::Members(group) => write!(f, "the members of {}[{group}]", self.table),
            What::Absent => write!(f, "a row of {} that does not exist", self.table),
        }
    }
}
