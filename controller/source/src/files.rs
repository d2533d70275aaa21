//! A folder of plain `kubectl` YAML as object store.
//!
//! [`Store`] is the pure core: file contents in, changed objects and problems out. [`Folder`] feeds it from a
//! directory, once ([`Folder::load`]) or whenever something changes ([`Folder::watch`]). `docs/folder-source.md`
//! says what each kind of mistake leads to.

mod scan;
mod store;
mod watch;

pub use store::{Effect, FileContent, Located, Outcome, Store};
pub use watch::WatchError;

use scan::Scanner;
use std::path::{Path, PathBuf};

/// A directory and what was last read of it.
#[derive(Debug)]
pub struct Folder {
    scanner: Scanner,
    store: Store,
}

/// Why a folder cannot be started from. Later on, the same states keep what was in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("folder {0} does not exist")]
    Missing(PathBuf),
    #[error("{0} is not a folder")]
    NotAFolder(PathBuf),
    #[error("folder {0} has no .yaml, .yml or .json file")]
    NoFiles(PathBuf),
    #[error("folder {0} has no Kubernetes or Istio objects that navarch reads")]
    NoObjects(PathBuf),
    #[error("folder {0} cannot be read: {1}")]
    Unreadable(PathBuf, #[source] std::io::Error),
}

impl Folder {
    /// Reads the whole folder. The outcome has every object as a change.
    ///
    /// Wrong documents are problems of the outcome, not an error; without a single document of a kind that is read,
    /// the folder is most likely the wrong one.
    pub fn load(dir: impl Into<PathBuf>) -> Result<(Self, Outcome), LoadError> {
        let dir = dir.into();
        match std::fs::metadata(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(LoadError::Missing(dir)),
            Err(error) => return Err(LoadError::Unreadable(dir, error)),
            Ok(metadata) if !metadata.is_dir() => return Err(LoadError::NotAFolder(dir)),
            Ok(_) => {}
        }
        let mut scanner = Scanner::new(dir.clone());
        let files = scanner.scan(&Default::default());
        if files.is_empty() {
            return Err(LoadError::NoFiles(dir));
        }
        let mut store = Store::new(dir.clone());
        let outcome = store.apply(files);
        if outcome.changes.is_empty() && outcome.problems.is_empty() {
            return Err(LoadError::NoObjects(dir));
        }
        Ok((Self { scanner, store }, outcome))
    }

    pub fn dir(&self) -> &Path {
        self.scanner.dir()
    }

    /// What is in force, as of the last outcome.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reads what changed since the last time; `None` when nothing did. `touched` files are read in any case.
    fn rescan(&mut self, touched: &std::collections::BTreeSet<PathBuf>) -> Option<Outcome> {
        let files = self.scanner.scan(touched);
        let before = self.store.problems().to_vec();
        let outcome = self.store.apply(files);
        (!outcome.changes.is_empty() || outcome.problems != before).then_some(outcome)
    }
}

#[cfg(test)]
mod tests;
