//! What is in force of one kind, without its I/O: watcher events in, changes out.
//!
//! Objects are not kept here, their fingerprints are: what is equal to what was handed on is not handed on again, and
//! a list that follows a lost watch is one replacement of all (F3).

use super::intern::Interner;
use super::object::{self, Raw};
use super::resource::{Count, Watched};
use crds::{Object, ObjectKey, Problem, Reason, decode};
use kube::runtime::watcher::Event;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) key: ObjectKey,
    pub(super) now: Now,
    pub(super) problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Now {
    Set(Box<Object>),
    /// Refused: what is in force of it, if anything, stays.
    Kept,
    Gone,
}

#[derive(Debug)]
pub(super) struct Objects {
    watched: Watched,
    known: HashMap<ObjectKey, Known>,
    listing: Option<Listing>,
    interner: Interner,
    /// How many lists have been completed.
    pub(super) lists: u64,
}

/// What was last handed on of an object: fingerprints, in as little as there can be, for every Pod has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// `None`: never in force.
    object: Option<NonZeroU64>,
    problems: u32,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
    /// To be handed on again whatever it is.
    Forgotten,
}

#[derive(Debug, Default)]
struct Listing {
    seen: HashSet<ObjectKey>,
    changes: Vec<Change>,
}

impl Objects {
    pub(super) fn new(watched: Watched) -> Self {
        Self { watched, known: HashMap::new(), listing: None, interner: Interner::default(), lists: 0 }
    }

    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.known.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn refused(&self) -> usize {
        self.known.values().filter(|known| known.verdict == Verdict::Refused).count()
    }

    /// Takes one event in, and says what changes. Nothing of a list does before its end.
    pub(super) fn apply(&mut self, event: Event<Raw>) -> Vec<Change> {
        match event {
            Event::Init => self.listing = Some(Listing::default()),
            Event::InitApply(raw) => {
                let (key, change) = self.decoded(raw);
                let listing = self.listing.get_or_insert_default();
                listing.seen.insert(key);
                listing.changes.extend(change);
            }
            Event::InitDone => return self.replaced(),
            Event::Apply(raw) => {
                let (_, change) = self.decoded(raw);
                return self.noted(change.into_iter().collect());
            }
            Event::Delete(raw) => {
                let key = self.key(&raw);
                return self.known.remove(&key).map(|_| gone(key)).into_iter().collect();
            }
        }
        Vec::new()
    }

    /// Everything is gone: the kind itself does not exist any more.
    pub(super) fn clear(&mut self) -> Vec<Change> {
        self.listing = None;
        self.known.drain().map(|(key, _)| gone(key)).collect()
    }

    /// Another watch takes over, perhaps of another version. What is in force stays until its list is in.
    pub(super) fn rewatch(&mut self, watched: Watched) {
        self.listing = None;
        self.watched = watched;
    }

    /// The next list hands everything on again.
    pub(super) fn forget(&mut self) {
        self.listing = None;
        for known in self.known.values_mut() {
            known.verdict = Verdict::Forgotten;
        }
    }

    fn replaced(&mut self) -> Vec<Change> {
        self.lists += 1;
        let Listing { seen, changes } = self.listing.take().unwrap_or_default();
        let lost: Vec<_> = self.known.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        for key in &lost {
            self.known.remove(key);
        }
        let mut all = self.noted(changes);
        all.extend(lost.into_iter().map(gone));
        all
    }

    /// Remembers what is about to be handed on.
    fn noted(&mut self, changes: Vec<Change>) -> Vec<Change> {
        for change in &changes {
            let known = self.next(change);
            self.known.insert(change.key.clone(), known);
        }
        changes
    }

    fn next(&self, change: &Change) -> Known {
        let problems = fingerprint(&change.problems).get() as u32;
        match &change.now {
            Now::Set(object) => Known { object: Some(fingerprint(object)), problems, verdict: Verdict::Accepted },
            Now::Kept | Now::Gone => {
                let object = self.known.get(&change.key).and_then(|known| known.object);
                Known { object, problems, verdict: Verdict::Refused }
            }
        }
    }

    /// The object's key, and the change if it is one.
    fn decoded(&mut self, raw: Raw) -> (ObjectKey, Option<Change>) {
        let mut key = self.key(&raw);
        let mut value = raw.into_value(&self.watched.resource);
        if self.watched.count == Count::Many {
            object::strip_many(&mut value);
        }
        let decoded = catch_unwind(AssertUnwindSafe(|| decode::checked(value).pop()));
        let change = match decoded {
            Ok(Some(decoded)) if decoded.key == key => {
                let now = match decoded.outcome {
                    decode::Outcome::Object(mut object) => {
                        self.interner.share(&mut object);
                        key = object.key.clone();
                        Now::Set(object)
                    }
                    _ => Now::Kept,
                };
                Change { key: key.clone(), now, problems: decoded.problems }
            }
            Ok(_) => refused(&key, "is not what its metadata says it is"),
            Err(_) => refused(&key, "cannot be decoded, which is a bug of navarch's"),
        };
        let is_new = self.known.get(&key) != Some(&self.next(&change));
        (key, is_new.then_some(change))
    }

    fn key(&self, raw: &Raw) -> ObjectKey {
        let kind = self.watched.kind;
        let namespace = match raw.meta.namespace.as_deref().unwrap_or_default() {
            _ if kind.is_cluster_scoped() => "",
            "" => "default",
            namespace => namespace,
        };
        ObjectKey::new(kind, namespace, raw.meta.name.as_deref().unwrap_or_default())
    }
}

fn gone(key: ObjectKey) -> Change {
    Change { key, now: Now::Gone, problems: Vec::new() }
}

fn refused(key: &ObjectKey, why: &str) -> Change {
    let problem = Problem::new(key, "", Reason::Malformed(why.into()));
    Change { key: key.clone(), now: Now::Kept, problems: vec![problem] }
}

/// Objects have no hash of their own; how they print says all that is in them.
fn fingerprint(value: &impl fmt::Debug) -> NonZeroU64 {
    struct Sink(DefaultHasher);
    impl Write for Sink {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    // A sink that never fails.
    let _ = write!(sink, "{value:?}");
    NonZeroU64::new(sink.0.finish()).unwrap_or(NonZeroU64::MIN)
}
