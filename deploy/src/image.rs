//! Container images without a registry and without Docker: a tar as `docker save` makes it, from files of this machine.
//!
//! The same files give the same bytes, so an image that did not change is not loaded again.

mod closure;
mod contents;
mod layer;

pub use closure::{Library, libraries, parse_ldd};
pub use contents::{HUB, Programs, app, coredns, pause, pilot, proxy, reference, static_program, stripped};
pub use layer::{Entry, Layer};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What can go wrong while an image is made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("ldd {}: {why}", program.display())]
    Libraries { program: PathBuf, why: String },
    #[error("{0} is not on this machine; {1}")]
    Missing(String, &'static str),
    #[error("{0} is no image reference: it needs a name and a tag, as in navarch/pilot:0.1.0")]
    Reference(String),
}

/// An image: its names, how it starts, and its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// As pods name it, each with a tag: `navarch/pilot:0.1.0`.
    pub references: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// As in a Dockerfile: `1337:1337`, or empty for root.
    pub user: String,
    pub labels: BTreeMap<String, String>,
    /// Lowest first. What images share belongs into a layer of its own: a node keeps it once.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Writes the image beside `path` and renames it into place. Returns the image's id, the digest of its config.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a reference has no tag.
    pub fn write(&self, path: &Path) -> Result<String, ImageError> {
        if let Some(wrong) = self.references.iter().find(|it| !is_reference(it)) {
            return Err(ImageError::Reference(wrong.clone()));
        }
        let failed = |source| ImageError::File { path: path.to_owned(), source };
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let partial = path.with_extension(format!("partial-{}", std::process::id()));
        let written = self.write_to(&partial);
        if written.is_err() {
            std::fs::remove_file(&partial).ok();
        }
        let id = written?;
        std::fs::rename(&partial, path).map_err(failed)?;
        Ok(id)
    }

    fn write_to(&self, path: &Path) -> Result<String, ImageError> {
        let failed = |source| ImageError::File { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        let mut archive = tar::Builder::new(file);
        let mut digests: Vec<String> = vec![];
        for layer in &self.layers {
            // Its digest is part of its name, so it has to exist before it is added; on disk, as Envoy is 100 MB.
            let scratch = path.with_extension(format!("layer-{}", digests.len()));
            let digest = layer.write(&scratch).and_then(|digest| {
                // The same layer twice would be the same name twice.
                if !digests.contains(&digest) {
                    add_file(&mut archive, &format!("{digest}/layer.tar"), &scratch).map_err(failed)?;
                }
                Ok(digest)
            });
            std::fs::remove_file(&scratch).ok();
            digests.push(digest?);
        }
        let config = self.config(&digests).to_string();
        let id = hex(&Sha256::digest(config.as_bytes()));
        add_bytes(&mut archive, &format!("{id}.json"), config.as_bytes()).map_err(failed)?;
        let layers: Vec<String> = digests.iter().map(|it| format!("{it}/layer.tar")).collect();
        let manifest = json!([{"Config": format!("{id}.json"), "RepoTags": self.references, "Layers": layers}]);
        add_bytes(&mut archive, "manifest.json", manifest.to_string().as_bytes()).map_err(failed)?;
        archive.into_inner().and_then(|mut file| file.flush()).map_err(failed)?;
        Ok(id)
    }

    fn config(&self, digests: &[String]) -> Value {
        let environment: Vec<String> = self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        json!({
            "architecture": ARCHITECTURE,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "Env": environment,
                "User": self.user,
                "WorkingDir": "/",
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": digests.iter().map(|it| format!("sha256:{it}")).collect::<Vec<_>>()},
            "history": digests.iter().map(|_| json!({"created": "1970-01-01T00:00:00Z"})).collect::<Vec<_>>(),
        })
    }
}

/// Go's name of this machine's architecture, which images use.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Whether there is a tag after the last slash (a port may stand before it).
fn is_reference(text: &str) -> bool {
    let name = text.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_some_and(|(name, tag)| !name.is_empty() && !tag.is_empty())
}

/// A header that says nothing of when and by whom: bytes must not differ from run to run.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn add_bytes(archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64, 0o644), name, bytes)
}

fn add_file(archive: &mut tar::Builder<File>, name: &str, path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    archive.append_data(&mut header(file.metadata()?.len(), 0o644), name, file)
}

fn digest_of(file: &mut File) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
