//! The workload's certificate: asked for, renewed in time, kept while it cannot be; or read from files of somebody
//! else's. Keys live in memory alone, unless `OUTPUT_CERTS` says otherwise, and are wiped when they are replaced.

pub mod files;
pub mod issue;
pub mod schedule;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use ca::certificate::Certificate;
use ca::key::{KeyPem, PrivateKey};

/// A certificate in use.
#[derive(Clone, PartialEq, Eq)]
pub struct Workload {
    /// In PEM: the leaf first, then intermediates.
    pub chain: String,
    /// Its key.
    pub key: KeyPem,
    /// In PEM: what others' certificates are verified against.
    pub roots: String,
    /// The leaf's.
    pub not_before: SystemTime,
    /// The leaf's.
    pub not_after: SystemTime,
}

impl fmt::Debug for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Workload").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Why certificates and a key are no good together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Nothing there.
    #[error("there is no certificate")]
    Empty,
    /// Not PEM.
    #[error("the certificates cannot be read")]
    Certificates,
    /// No root.
    #[error("there is no root certificate")]
    Roots,
    /// Not a key.
    #[error("the key cannot be read")]
    Key,
    /// They belong to different keys.
    #[error("the certificate is of another key")]
    OtherKey,
}

impl Workload {
    /// From what a CA answers: the leaf, intermediates, and the roots at the end.
    ///
    /// # Errors
    /// Certificates that cannot be read or do not fit the key.
    pub fn from_answer(certificates: &[String], key: KeyPem) -> Result<Self, WorkloadError> {
        let all = read(&certificates.join("\n"))?;
        // Roots are signed by themselves. A CA whose last certificate is not (an anchor in the middle) means that one.
        let first_root = all.iter().skip(1).position(Certificate::is_self_signed).map(|index| index + 1);
        let first_root = first_root.unwrap_or(all.len() - 1);
        let (chain, roots) = all.split_at(first_root);
        if chain.is_empty() {
            return Err(WorkloadError::Roots);
        }
        Self::new(chain, ca::certificate::to_pem(roots), key)
    }

    /// From three files' content.
    ///
    /// # Errors
    /// What cannot be read or does not fit.
    pub fn from_files(chain: &str, key: KeyPem, roots: &str) -> Result<Self, WorkloadError> {
        let roots = read(roots).map_err(|_| WorkloadError::Roots)?;
        Self::new(&read(chain)?, ca::certificate::to_pem(&roots), key)
    }

    fn new(chain: &[Certificate], roots: String, key: KeyPem) -> Result<Self, WorkloadError> {
        let leaf = chain.first().ok_or(WorkloadError::Empty)?;
        let private = PrivateKey::from_pem(key.expose().as_bytes()).map_err(|_| WorkloadError::Key)?;
        if private.public_key_info() != leaf.facts.public_key_info {
            return Err(WorkloadError::OtherKey);
        }
        let (not_before, not_after) = (leaf.facts.not_before, leaf.facts.not_after);
        Ok(Self { chain: ca::certificate::to_pem(chain), key, roots, not_before, not_after })
    }

    /// `OUTPUT_CERTS`: each file is whole at every moment, the key for its owner alone.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let files = [("key.pem", self.key.expose()), ("cert-chain.pem", &*self.chain), ("root-cert.pem", &*self.roots)];
        for (name, content) in files {
            let part = directory.join(format!(".{name}.part"));
            std::fs::remove_file(&part).ok();
            let mode = if name == "key.pem" { 0o600 } else { 0o644 };
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
            file.write_all(content.as_bytes())?;
            std::fs::rename(&part, directory.join(name))?;
        }
        Ok(())
    }
}

fn read(pem: &str) -> Result<Vec<Certificate>, WorkloadError> {
    let all = Certificate::all_from_pem(pem.as_bytes()).map_err(|_| WorkloadError::Certificates)?;
    if all.is_empty() { Err(WorkloadError::Empty) } else { Ok(all) }
}
