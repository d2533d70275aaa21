//! Hashing: fast, and the same in every run and on every machine, so that a commit's work and the order
//! in which it reports changes can be repeated. (std's default hasher is keyed at random.)

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

pub(crate) type FoldMap<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;
pub(crate) type FoldSet<K> = HashSet<K, BuildHasherDefault<Fold>>;
/// For keys that are hashes already.
pub(crate) type IdentityMap<K, V> = HashMap<K, V, BuildHasherDefault<Identity>>;

pub(crate) fn hash<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = Fold::default();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Multiplies and folds the halves of the 128-bit product together, a word at a time: a few instructions
/// per eight bytes, and every bit of the key reaches every bit of the hash.
pub(crate) struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            // The length goes with a short word, or "a" and "a\0" would be the same.
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            word[7] = rest.len() as u8;
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }
    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, FACTOR);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn finish(&self) -> u64 {
        fold(self.0 ^ SEED, FACTOR)
    }
}

#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys of an IdentityMap hash as one u64")
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Digits of pi and of the golden ratio: arbitrary, odd, about half of the bits set.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_keys_hash_differently() {
        let mut seen = HashSet::new();
        for n in 0u32..100_000 {
            assert!(seen.insert(hash(&n)), "{n}");
            assert!(seen.insert(hash(&format!("service-{n}.default.svc.cluster.local"))), "{n}");
            assert!(seen.insert(hash(&(n, "x", Some(n)))), "{n}");
        }
        assert_ne!(hash("a"), hash("a\0"));
        assert_ne!(hash(&("ab", "c")), hash(&("a", "bc")));
    }

    /// hashbrown takes the bucket from the low bits and a tag from the top seven.
    #[test]
    fn low_and_high_bits_are_both_spread() {
        let hashes: Vec<u64> = (0u64..4096).map(|n| hash(&n)).collect();
        for shift in [0, 57] {
            let mut buckets = [0; 128];
            hashes.iter().for_each(|hash| buckets[(hash >> shift) as usize & 127] += 1);
            assert!(buckets.iter().all(|n| (8..=72).contains(n)), "shift {shift}: {buckets:?}");
        }
    }

    #[test]
    fn the_hash_is_the_same_in_every_run() {
        assert_eq!(hash("reviews"), hash(&String::from("reviews")));
        assert_eq!(hash(&1u64), fold(fold(SEED ^ 1, FACTOR) ^ SEED, FACTOR));
    }
}
