//! The folder's state without its I/O: which object is in force, and what is wrong.
//!
//! Every change of files settles the whole state anew from the parsed files and the objects last in force. Only the
//! changed files are parsed. The rules, in order:
//!
//! 1. A key belongs to the first document that has it, in path order; later ones are reported.
//! 2. A good document's object is in force. A refused one leaves its last good version in force, if there was one.
//! 3. A document whose object cannot be told (not YAML, no name, no such kind) could be any of those last seen in its
//!    file, so those that no readable document has stay in force.
//! 4. Everything else is gone, unless nothing at all would be left: then all of it stays, because an emptied folder
//!    is far more often an accident than a wish.

use crds::{Kind, Object, ObjectKey, Problem, Reason, Severity, decode, yaml};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    Text(String),
    /// It is there and cannot be read; the text says why.
    Unreadable(String),
    Missing,
}

/// A problem and where it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    pub file: PathBuf,
    /// 1-based; 0 when the problem is the file itself.
    pub line: usize,
    pub problem: Problem,
    pub effect: Effect,
}

/// What is in force in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The object as it is written.
    InForce,
    /// What was in force before.
    LastGood,
    /// Nothing: there is no last good version.
    Absent,
}

/// What became of a change of files.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// In the order of keys; `None` is a removal.
    pub changes: Vec<(ObjectKey, Option<Object>)>,
    /// All problems of all files, old and new, in the order of files and lines.
    pub problems: Vec<Located>,
    /// Objects of kinds that navarch does not read, by kind.
    pub skipped: BTreeMap<String, usize>,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    files: BTreeMap<PathBuf, File>,
    in_force: BTreeMap<ObjectKey, InForce>,
    problems: Vec<Located>,
}

#[derive(Clone, Debug)]
struct InForce {
    object: Arc<Object>,
    /// Where it was last seen.
    file: PathBuf,
}

/// What parsing made of a file.
#[derive(Debug, Default)]
struct File {
    entries: Vec<Entry>,
    /// Documents whose object cannot be told: line and problem.
    untold: Vec<(usize, Problem)>,
    /// Remarks on documents that are no entry: kinds that are not translated.
    remarks: Vec<(usize, Problem)>,
    skipped: Vec<String>,
}

/// A document whose object is known by name.
#[derive(Debug)]
struct Entry {
    key: ObjectKey,
    line: usize,
    /// `None` when it is refused.
    object: Option<Arc<Object>>,
    problems: Vec<(usize, Problem)>,
}

impl Store {
    /// `dir` only names the folder in problems.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), files: BTreeMap::new(), in_force: BTreeMap::new(), problems: Vec::new() }
    }

    /// Takes the new content of some files, and says what that changes.
    pub fn apply(&mut self, files: BTreeMap<PathBuf, FileContent>) -> Outcome {
        for (path, content) in files {
            match content {
                FileContent::Missing => {
                    self.files.remove(&path);
                }
                FileContent::Text(text) => {
                    self.files.insert(path, File::parse(&text));
                }
                FileContent::Unreadable(why) => {
                    let key = ObjectKey::new(Kind::Unread("file"), "", file_name(&path));
                    let problem = Problem::new(&key, "", Reason::Malformed(why));
                    self.files.insert(path, File { untold: vec![(0, problem)], ..File::default() });
                }
            }
        }
        self.settle()
    }

    /// The objects in force.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.in_force.values().map(|in_force| &*in_force.object)
    }

    pub fn problems(&self) -> &[Located] {
        &self.problems
    }

    fn settle(&mut self) -> Outcome {
        let (claims, duplicates) = self.claims();
        let mut next = BTreeMap::new();
        for (key, (path, entry)) in &claims {
            let object = entry.object.clone().or_else(|| self.in_force.get(*key).map(|last| last.object.clone()));
            if let Some(object) = object {
                next.insert((*key).clone(), InForce { object, file: (*path).to_owned() });
            }
        }
        for (key, last) in &self.in_force {
            let may_be_untold = self.files.get(&last.file).is_some_and(|file| !file.untold.is_empty());
            if may_be_untold && !claims.contains_key(key) {
                next.insert(key.clone(), last.clone());
            }
        }
        let mut problems = self.located(&claims, &next);
        problems.extend(duplicates);
        if next.is_empty() && !self.in_force.is_empty() {
            next.clone_from(&self.in_force);
            problems.push(self.emptied());
        }
        problems.sort();
        let changes = changes(&self.in_force, &next);
        let mut skipped = BTreeMap::new();
        for kind in self.files.values().flat_map(|file| &file.skipped) {
            *skipped.entry(kind.clone()).or_insert(0) += 1;
        }
        self.in_force = next;
        self.problems.clone_from(&problems);
        Outcome { changes, problems, skipped }
    }

    /// The first document of each key, and a problem for each later one.
    fn claims(&self) -> (Claims<'_>, Vec<Located>) {
        let mut claims = Claims::new();
        let mut duplicates = Vec::new();
        for (path, file) in &self.files {
            for entry in &file.entries {
                let Some((first, owner)) = claims.get(&entry.key) else {
                    claims.insert(&entry.key, (path, entry));
                    continue;
                };
                let why = format!("already defined in {}:{}, which stays in force", first.display(), owner.line);
                let problem = Problem::new(&entry.key, "", Reason::Invalid(why));
                duplicates.push(Located { file: path.clone(), line: entry.line, problem, effect: Effect::InForce });
            }
        }
        (claims, duplicates)
    }

    fn located(&self, claims: &Claims<'_>, next: &BTreeMap<ObjectKey, InForce>) -> Vec<Located> {
        let mut all = Vec::new();
        let mut add = |file: &Path, problems: &[(usize, Problem)], effect| {
            all.extend(problems.iter().map(|(line, problem)| Located {
                file: file.to_owned(),
                line: *line,
                problem: problem.clone(),
                effect,
            }));
        };
        for (path, file) in &self.files {
            let keeps = next.iter().any(|(key, last)| last.file == *path && !claims.contains_key(key));
            add(path, &file.untold, if keeps { Effect::LastGood } else { Effect::Absent });
            add(path, &file.remarks, Effect::Absent);
        }
        for (key, (path, entry)) in claims {
            let effect = match (&entry.object, next.contains_key(*key)) {
                (Some(_), _) => Effect::InForce,
                (None, true) => Effect::LastGood,
                (None, false) => Effect::Absent,
            };
            add(path, &entry.problems, effect);
        }
        all
    }

    fn emptied(&self) -> Located {
        let key = ObjectKey::new(Kind::Unread("folder"), "", file_name(&self.dir));
        let reason = Reason::Malformed("has no objects any more; all that were in force stay".into());
        Located { file: self.dir.clone(), line: 0, problem: Problem::new(&key, "", reason), effect: Effect::LastGood }
    }
}

/// Who owns each key.
type Claims<'a> = BTreeMap<&'a ObjectKey, (&'a Path, &'a Entry)>;

fn changes(
    before: &BTreeMap<ObjectKey, InForce>,
    after: &BTreeMap<ObjectKey, InForce>,
) -> Vec<(ObjectKey, Option<Object>)> {
    let is_new = |key: &ObjectKey, now: &InForce| {
        before.get(key).is_none_or(|old| !Arc::ptr_eq(&old.object, &now.object) && old.object != now.object)
    };
    let set = after.iter().filter(|(key, now)| is_new(key, now));
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    let mut changes: Vec<_> = set
        .map(|(key, now)| (key.clone(), Some((*now.object).clone())))
        .chain(removed.map(|key| (key.clone(), None)))
        .collect();
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    changes
}

impl File {
    fn parse(text: &str) -> Self {
        let mut file = Self::default();
        for document in yaml::documents(text) {
            match document.content {
                Err(error) => {
                    let key = ObjectKey::new(Kind::Unread("document"), "", "");
                    file.untold.push((error.line, Problem::new(&key, "", Reason::Malformed(error.message))));
                }
                Ok(content) => {
                    for decoded in decode::checked(content.value.clone()) {
                        file.add(decoded, &content);
                    }
                }
            }
        }
        file
    }

    fn add(&mut self, decoded: decode::Decoded, content: &yaml::Content) {
        let line = content.line_of(&decoded.at);
        let located = |problem: Problem| {
            let at = if problem.field.is_empty() { &decoded.at } else { &problem.field };
            (content.line_of(at), problem)
        };
        let problems: Vec<_> = decoded.problems.into_iter().map(located).collect();
        let is_told = !matches!(decoded.key.kind, Kind::Unread(_)) && !decoded.key.name.is_empty();
        match decoded.outcome {
            decode::Outcome::Object(object) => {
                self.entries.push(Entry { key: decoded.key, line, object: Some(Arc::from(object)), problems });
            }
            decode::Outcome::Refused if is_told => {
                self.entries.push(Entry { key: decoded.key, line, object: None, problems });
            }
            decode::Outcome::Refused => self.untold.extend(problems),
            decode::Outcome::NotTranslated => self.remarks.extend(problems),
            decode::Outcome::Skipped(kind) => self.skipped.push(kind),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.problem)?;
        match (self.problem.severity(), self.effect) {
            (Severity::Error, Effect::LastGood) => f.write_str(" (the last good version stays in force)"),
            (Severity::Error, Effect::Absent) => f.write_str(" (not in force)"),
            _ => Ok(()),
        }
    }
}
