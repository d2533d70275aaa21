//! Random histories: what was brought up to date step by step equals what is computed from nothing.

use crate::toy::{Proxy, Random, World, texts};
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};
use tables::{Commit, Table};

#[test]
fn incremental_equals_from_scratch() {
    for seed in 1..=6 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut world = World::new(1);
        for step in 0..800 {
            // Mostly small batches; now and then most of the world changes at once.
            let changes = if step % 50 == 49 { 200 } else { 4 };
            let batch = random.batch(changes);
            let before = world.dump();
            world.commit(batch.clone());
            let after = world.dump();

            let scratch = world.rebuilt();
            assert_eq!(after, scratch.dump(), "seed {seed}, step {step}: {batch:?}");
            assert_eq!(world.commit.reads_count(), scratch.commit.reads_count(), "seed {seed}, step {step}");

            let computed = world.computed();
            assert!(computed.windows(2).all(|pair| pair[0] != pair[1]), "computed twice: {computed:?}");
            let counted = [
                world.endpoints.computed().last,
                world.routes.computed().last,
                world.weights.computed().last,
                world.snapshots.computed().last,
            ];
            assert_eq!(counted.iter().sum::<u64>(), computed.len() as u64);
            for (before, after, changed) in [
                (&before[3], &after[3], world.pods_by_app.changes().len()),
                (&before[5], &after[5], world.endpoints.changes().len()),
            ] {
                let (before, after) = (texts(before), texts(after));
                let differ = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
                let differ: BTreeSet<_> = differ.collect();
                assert_eq!(changed, differ.len(), "a change is reported if and only if the value differs");
            }
        }
    }
}

/// Readers of nothing new are left alone: the same batch twice computes nothing.
#[test]
fn the_same_inputs_again_compute_nothing() {
    let mut random = Random(77);
    let mut world = World::new(1);
    for _ in 0..300 {
        world.commit(random.batch(10));
        world.commit(world.inputs());
        assert_eq!(world.computed(), Vec::<String>::new());
        assert!(world.pods.changes().is_empty() && world.snapshots.changes().is_empty());
        assert!(world.route_tables.changes().is_empty() && world.pods_by_app.changes().is_empty());
    }
}

#[test]
fn many_threads_do_what_one_does() {
    let mut random = Random(3);
    let mut worlds = [World::new(1), World::new(2), World::new(5)];
    for step in 0..12 {
        let mut batch = random.batch(50);
        // Enough rows of one table to share out.
        for id in 0..600 {
            let apps = vec![(id % 250) as u8, random.below(12) as u8];
            let proxy = Proxy { apps, port: 8000 + random.below(3) as u16 };
            batch.proxies.push((id, (random.below(9) > 0).then_some(proxy)));
        }
        for world in &mut worlds {
            world.commit(batch.clone());
        }
        let [one, others @ ..] = &worlds;
        assert!(step > 0 || one.snapshots.computed().last > 256);
        for other in others {
            assert_eq!(one.dump(), other.dump());
            assert_eq!(one.computed(), other.computed());
            assert_eq!(one.commit.reads_count(), other.commit.reads_count());
            let order = |world: &World| world.snapshots.changes().iter().map(|it| it.key).collect::<Vec<_>>();
            assert_eq!(order(one), order(other), "also the order of changes is the same");
        }
    }
}

/// Row 7 wants name 2 in group 1, and so do others: the smallest key has it, whatever happened before.
#[test]
fn a_contended_name_goes_to_the_smallest_key() {
    type Entry = (u8, u8, u32);
    let mut random = Random(5);
    let mut commit = Commit::default();
    let mut source: Table<u32, Option<Entry>> = commit.table("source");
    let mut target: Table<u8, OrdMap<u8, u32>> = commit.table("target");
    for step in 0..5_000 {
        let rows = (0..random.below(6)).map(|_| {
            let entry = (random.below(2) as u8, random.below(6) as u8, random.below(3));
            let value = [None, Some(None), Some(Some(entry)), Some(Some(entry))][random.below(4) as usize];
            (random.below(60), value)
        });
        let rows = rows.collect();
        commit.input(&mut source, rows);
        let before: BTreeMap<u8, OrdMap<u8, u32>> =
            target.rows().into_iter().map(|(group, map)| (group, map.clone())).collect();
        commit.collect(&mut target, &source, |_, entry| **entry);

        let mut model: BTreeMap<u8, OrdMap<u8, u32>> = BTreeMap::new();
        for (_, entry) in source.rows().into_iter().rev() {
            if let Some((group, name, value)) = entry {
                model.entry(*group).or_default().insert(*name, *value);
            }
        }
        let rows: BTreeMap<u8, OrdMap<u8, u32>> =
            target.rows().into_iter().map(|(group, map)| (group, map.clone())).collect();
        assert_eq!(rows, model, "step {step}");
        let changed = (0..2).filter(|group| before.get(group) != rows.get(group)).count();
        assert_eq!(target.changes().len(), changed, "step {step}");
    }
}
