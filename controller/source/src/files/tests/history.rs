//! Random histories: whatever is done to the folder, the store ends as a model that knows the rules and nothing else.

use super::*;
use std::collections::BTreeSet;

/// A document of the model.
#[derive(Clone, Debug, PartialEq)]
enum Doc {
    Good(&'static str, u32),
    /// Refused, and its name is known.
    Bad(&'static str),
    /// Nobody knows what it is.
    Broken,
    Skipped,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const FILES: [&str; 4] = ["1.yaml", "2.yaml", "sub/3.yml", "sub/4.json"];

type Files = BTreeMap<&'static str, Vec<Doc>>;

impl Doc {
    fn text(&self, random: &mut Random) -> String {
        match self {
            Self::Good(name, version) => virtual_service(name, &format!("v{version}")),
            Self::Bad(name) => {
                let good = virtual_service(name, "v0");
                match random.below(3) {
                    0 => good.replace("hosts: [v0]", "hosts: 5"),
                    1 => good.replace("hosts: [v0]", "hosts: ['*']"),
                    _ => good.replace("host: v0", "host: ''"),
                }
            }
            Self::Broken => {
                ["kind: [\n", "text\n", "kind: Sevice\napiVersion: v1\nmetadata: {name: a}\n", "a: 1\na: 2\n"]
                    [random.below(4)]
                .to_owned()
            }
            Self::Skipped => "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n".to_owned(),
        }
    }
}

/// The rules once more, without any state but what was in force: name to version and the file it was last seen in.
fn model(
    files: &Files,
    before: &BTreeMap<&'static str, (u32, &'static str)>,
) -> BTreeMap<&'static str, (u32, &'static str)> {
    let mut next = BTreeMap::new();
    let mut claimed = BTreeSet::new();
    for (file, docs) in files {
        for doc in docs {
            match doc {
                Doc::Good(name, version) if claimed.insert(*name) => {
                    next.insert(*name, (*version, *file));
                }
                Doc::Bad(name) if claimed.insert(*name) => {
                    if let Some((version, _)) = before.get(name) {
                        next.insert(*name, (*version, *file));
                    }
                }
                _ => {}
            }
        }
    }
    for (name, (version, file)) in before {
        let is_broken = files.get(file).is_some_and(|docs| docs.contains(&Doc::Broken));
        if is_broken && !claimed.contains(name) {
            next.insert(*name, (*version, *file));
        }
    }
    if next.is_empty() { before.clone() } else { next }
}

/// A small generator, so that a failure is found again by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn docs(&mut self, version: &mut u32) -> Vec<Doc> {
        (0..self.below(4))
            .map(|_| {
                *version += 1;
                match self.below(8) {
                    0 => Doc::Broken,
                    1 | 2 => Doc::Bad(NAMES[self.below(4)]),
                    3 => Doc::Skipped,
                    _ => Doc::Good(NAMES[self.below(4)], *version),
                }
            })
            .collect()
    }
}

/// One edit: some files are written (whole, or only the beginning: a half write), renamed or deleted.
fn edit(files: &mut Files, random: &mut Random, version: &mut u32) {
    for _ in 0..=random.below(2) {
        let file = FILES[random.below(4)];
        match random.below(6) {
            0 => {
                files.remove(file);
            }
            1 => {
                if let Some(docs) = files.remove(file) {
                    files.insert(FILES[random.below(4)], docs);
                }
            }
            2 => {
                if let Some(docs) = files.get_mut(file)
                    && let Some(last) = docs.last_mut()
                {
                    *last = Doc::Broken;
                }
            }
            3 => files.clear(),
            _ => {
                let docs = random.docs(version);
                files.insert(file, docs);
            }
        }
    }
}

#[test]
fn any_history_ends_as_the_rules_say() {
    for seed in 1..=300 {
        let mut random = Random(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed));
        let (mut files, mut expected, mut version) = (Files::new(), BTreeMap::new(), 0);
        let mut store = Store::new("dir");
        let mut written: BTreeMap<&str, String> = BTreeMap::new();
        let mut applied = BTreeMap::new();
        for step in 0..40 {
            let before = files.clone();
            edit(&mut files, &mut random, &mut version);
            let mut batch = BTreeMap::new();
            for file in FILES {
                match files.get(file) {
                    Some(docs) if before.get(file) == Some(docs) && written.contains_key(file) => {}
                    Some(docs) => {
                        let text = docs.iter().map(|doc| doc.text(&mut random)).collect::<Vec<_>>().join("---\n");
                        written.insert(file, text.clone());
                        batch.insert(PathBuf::from(file), FileContent::Text(text));
                    }
                    None if written.remove(file).is_some() => {
                        batch.insert(PathBuf::from(file), FileContent::Missing);
                    }
                    None => {}
                }
            }
            expected = model(&files, &expected);
            let outcome = store.apply(batch);
            let want = expected.iter().map(|(name, (version, _))| format!("{name}=v{version}")).collect::<Vec<_>>();
            assert_eq!(in_force(&store), want.join(" "), "seed {seed}, step {step}: {files:#?}");
            // The changes alone lead to the same state.
            for (key, object) in outcome.changes {
                match object {
                    Some(object) => applied.insert(key, object),
                    None => applied.remove(&key),
                };
            }
            assert!(applied.values().eq(store.objects()), "seed {seed}, step {step}");
            let has_mistake = files.values().flatten().any(|doc| matches!(doc, Doc::Bad(_) | Doc::Broken));
            assert!(!has_mistake || !outcome.problems.is_empty(), "seed {seed}, step {step}: every mistake is told");
        }
    }
}

/// A store that has seen everything says of good files what one says that has seen nothing.
#[test]
fn good_files_leave_no_trace_of_history() {
    let mut random = Random(7);
    let (mut files, mut version) = (Files::new(), 0);
    let mut store = Store::new("dir");
    for _ in 0..50 {
        edit(&mut files, &mut random, &mut version);
        let text = |docs: &Vec<Doc>, random: &mut Random| {
            docs.iter().map(|doc| doc.text(random)).collect::<Vec<_>>().join("---\n")
        };
        let all = FILES.map(|file| {
            let content =
                files.get(file).map_or(FileContent::Missing, |docs| FileContent::Text(text(docs, &mut random)));
            (PathBuf::from(file), content)
        });
        store.apply(BTreeMap::from(all));
    }
    let last = texts(&[("1.yaml", &virtual_service("a", "v1")), ("2.yaml", &virtual_service("b", "v1"))]);
    let mut all = BTreeMap::from(FILES.map(|file| (PathBuf::from(file), FileContent::Missing)));
    all.extend(last.clone());
    let outcome = store.apply(all);
    let mut fresh = Store::new("dir");
    let fresh_outcome = fresh.apply(last);
    assert!(store.objects().eq(fresh.objects()));
    assert_eq!(outcome.problems, fresh_outcome.problems);
}
