//! Who read what, and who has to be computed again.

use crate::few::Few;
use crate::hash::IdentityMap;
use crate::reads::Read;
use crate::table::TableId;
use std::collections::hash_map::Entry;

/// A row that has read something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reader {
    pub(crate) table: TableId,
    pub(crate) slot: u32,
}

#[derive(Default)]
pub(crate) struct Readers(IdentityMap<Read, Few<Reader>>);

impl Readers {
    pub(crate) fn of(&self, read: Read) -> impl Iterator<Item = Reader> + '_ {
        self.0.get(&read).into_iter().flat_map(Few::iter)
    }

    /// How many reads are remembered.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(|readers| readers.iter().count()).sum()
    }

    /// Replaces what a row has read. Both lists are sorted.
    pub(crate) fn replace(&mut self, reader: Reader, before: &[Read], after: &[Read]) {
        for read in before.iter().filter(|read| after.binary_search(read).is_err()) {
            if let Entry::Occupied(mut readers) = self.0.entry(*read)
                && !readers.get_mut().remove(reader)
            {
                readers.remove();
            }
        }
        for read in after.iter().filter(|read| before.binary_search(read).is_err()) {
            self.0.entry(*read).and_modify(|readers| readers.insert(reader)).or_insert(Few::One(reader));
        }
    }
}

/// A set of slots as bits: to mark a slot twice costs nothing, and it is read in order.
#[derive(Default)]
pub(crate) struct Slots {
    words: Vec<u64>,
    /// No word before this one has a bit set.
    from: usize,
    /// Nor any from this one on.
    to: usize,
}

impl Slots {
    pub(crate) fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (slot % 64);
        (self.from, self.to) =
            if self.from == self.to { (word, word + 1) } else { (self.from.min(word), self.to.max(word + 1)) };
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(word) = self.words.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// Empties the set.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        let mut slots = Vec::new();
        for index in self.from..self.to {
            let mut word = std::mem::take(&mut self.words[index]);
            while word != 0 {
                slots.push(index as u32 * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
        (self.from, self.to) = (0, 0);
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_once_and_in_order() {
        let mut slots = Slots::default();
        for slot in [700, 3, 64, 3, 63, 5] {
            slots.insert(slot);
        }
        slots.remove(5);
        slots.remove(100_000);
        assert_eq!(slots.take(), [3, 63, 64, 700]);
        assert_eq!(slots.take(), [0; 0]);
        slots.insert(1);
        assert_eq!(slots.take(), [1]);
    }

    #[test]
    fn a_read_is_forgotten_with_its_last_reader() {
        let mut readers = Readers::default();
        let (one, two) = (Reader { table: TableId(2), slot: 1 }, Reader { table: TableId(2), slot: 2 });
        let mut reads = [Read::row(TableId(1), &"a"), Read::row(TableId(1), &"b"), Read::all(TableId(1))];
        reads.sort_unstable();
        readers.replace(one, &[], &reads);
        readers.replace(two, &[], &reads[..2]);
        assert_eq!(readers.count(), 5);
        readers.replace(one, &reads, &reads[1..]);
        assert!(readers.of(reads[0]).eq([two]));
        readers.replace(two, &reads[..2], &[]);
        readers.replace(one, &reads[1..], &[]);
        assert!(readers.0.is_empty());
    }
}
