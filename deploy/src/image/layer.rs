//! One layer: paths and what is there, written in the order of the paths.

use super::closure::libraries;
use super::{ImageError, digest_of, header};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Read when the layer is written; symbolic links are followed.
    File {
        source: PathBuf,
        mode: u32,
    },
    Text {
        text: String,
        mode: u32,
    },
    Link {
        target: PathBuf,
    },
    Folder {
        mode: u32,
    },
}

/// Files of an image, by their path from its root, without the leading slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Layer {
    /// Puts something at an absolute path, and folders above it where there are none.
    #[must_use]
    pub fn with(mut self, path: impl AsRef<Path>, entry: Entry) -> Self {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        for folder in path.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()) {
            self.entries.entry(folder.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path, entry);
        self
    }

    #[must_use]
    pub fn text(self, path: &str, text: &str) -> Self {
        self.with(path, Entry::Text { text: text.to_owned(), mode: 0o644 })
    }

    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.with(path, Entry::Link { target: target.into() })
    }

    #[must_use]
    pub fn program(self, path: &str, source: &Path) -> Self {
        self.with(path, Entry::File { source: source.to_owned(), mode: 0o755 })
    }

    /// A program or library's shared libraries and loader, where it looks for them.
    ///
    /// # Errors
    /// When `ldd` cannot say which they are.
    pub fn libraries_of(mut self, program: &Path) -> Result<Self, ImageError> {
        for library in libraries(program)? {
            self = self.with(&library.path, Entry::File { source: library.path.clone(), mode: 0o755 });
        }
        Ok(self)
    }

    #[must_use]
    pub fn entries(&self) -> &BTreeMap<PathBuf, Entry> {
        &self.entries
    }

    /// Without what is in a lower layer already.
    #[must_use]
    pub fn without(mut self, lower: &Self) -> Self {
        self.entries.retain(|path, entry| lower.entries.get(path) != Some(entry));
        self
    }

    /// Writes the layer's tar; returns its digest.
    pub(super) fn write(&self, path: &Path) -> Result<String, ImageError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ImageError::File { path, source }
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let mut archive = tar::Builder::new(file.map_err(failed(path))?);
        for (at, entry) in &self.entries {
            match entry {
                Entry::File { source, mode } => {
                    let file = File::open(source).map_err(failed(source))?;
                    let size = file.metadata().map_err(failed(source))?.len();
                    archive.append_data(&mut header(size, *mode), at, file).map_err(failed(source))?;
                }
                Entry::Text { text, mode } => {
                    let mut header = header(text.len() as u64, *mode);
                    archive.append_data(&mut header, at, text.as_bytes()).map_err(failed(path))?;
                }
                Entry::Link { target } => {
                    let mut header = header(0, 0o777);
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, at, target).map_err(failed(path))?;
                }
                Entry::Folder { mode } => {
                    let mut header = header(0, *mode);
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, at, std::io::empty()).map_err(failed(path))?;
                }
            }
        }
        let mut file = archive.into_inner().map_err(failed(path))?;
        digest_of(&mut file).map_err(failed(path))
    }
}
