//! Which files a folder has, and which of them may have changed since the last look.

use super::FileContent;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Larger files are not read: no folder of objects has one, and a mistaken path may.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How deep folders may nest; ends loops of symbolic links.
const DEPTH_MAX: usize = 32;

/// A file written this recently may be written again within the same tick of its clock, so it is read once more.
const FRESH: Duration = Duration::from_secs(1);

/// A known file written this recently is probably being written: it is left for the next scan, unless its events say
/// that it is complete. Without events (network file systems) this is all that keeps a half-written file out.
const WRITING: Duration = Duration::from_millis(20);

/// A directory, and how its files looked when they were last read.
#[derive(Debug)]
pub(super) struct Scanner {
    dir: PathBuf,
    seen: BTreeMap<PathBuf, Stamp>,
    leaves_some: Leaves,
}

/// Whether the last scan left files for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    Nothing,
    Files,
}

/// Equal stamps mean an unchanged file. The inode tells files apart that were renamed over each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file as a scan finds it.
struct Found {
    stamp: Stamp,
    /// Since it was last written; `None` when the clocks disagree.
    age: Option<Duration>,
}

impl Scanner {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, seen: BTreeMap::new(), leaves_some: Leaves::Nothing }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn leaves(&self) -> Leaves {
        self.leaves_some
    }

    /// The files that changed since the last scan, and those `touched`, which are read even if they look the same.
    pub(super) fn scan(&mut self, touched: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, FileContent> {
        let mut found = BTreeMap::new();
        collect(&self.dir, 0, &mut found);
        let mut changed = BTreeMap::new();
        self.seen.retain(|path, _| {
            let is_there = found.contains_key(path);
            if !is_there {
                changed.insert(path.clone(), FileContent::Missing);
            }
            is_there
        });
        self.leaves_some = Leaves::Nothing;
        for (path, Found { stamp, age }) in found {
            let before = self.seen.get(&path);
            let is_touched = touched.contains(&path);
            if before == Some(&stamp) && !is_touched {
                continue;
            }
            if before.is_some() && !is_touched && age.is_some_and(|age| age < WRITING) {
                self.leaves_some = Leaves::Files;
                continue;
            }
            changed.insert(path.clone(), read(&path, stamp.bytes));
            // A fresh file gets no lasting stamp, so that the next scan reads it again.
            let is_settled = age.is_some_and(|age| age > FRESH);
            self.seen.insert(path, if is_settled { stamp } else { Stamp::default() });
        }
        changed
    }
}

/// Adds the YAML files below `dir`. Links are followed: a mounted ConfigMap is links into a hidden folder that is
/// swapped whole.
fn collect(dir: &Path, depth: usize, found: &mut BTreeMap<PathBuf, Found>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_temporary(&name) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() && depth < DEPTH_MAX {
            collect(&path, depth + 1, found);
        } else if metadata.is_file() && is_yaml(&path) {
            found.insert(path, Found::of(&metadata));
        }
    }
}

/// Hidden files, and what editors write beside a file: `.a.yaml.swp`, `a.yaml~`, `#a.yaml#`.
fn is_temporary(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with('~')
}

fn is_yaml(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"))
}

fn read(path: &Path, bytes: u64) -> FileContent {
    if bytes > FILE_BYTES_MAX {
        return FileContent::Unreadable(format!("{bytes} bytes are more than the {FILE_BYTES_MAX} that are read"));
    }
    match fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => FileContent::Text(text),
            Err(_) => FileContent::Unreadable("not UTF-8 text".into()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => FileContent::Missing,
        Err(error) => FileContent::Unreadable(format!("cannot be read: {error}")),
    }
}

impl Found {
    fn of(metadata: &Metadata) -> Self {
        let stamp = Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Self { stamp, age }
    }
}
