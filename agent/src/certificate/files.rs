//! Certificates that somebody else puts into files (`FILE_MOUNTED_CERTS`, or a CSI driver): looked at once a second,
//! since a volume of Kubernetes is replaced by one rename of `..data` that file watches are known to miss.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca::key::KeyPem;
use tokio::sync::watch;

use super::Workload;

/// Three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The leaf and intermediates.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Roots.
    pub roots: PathBuf,
}

/// How often files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Larger files are not certificates.
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Files {
    /// Where a CSI driver puts them.
    #[must_use]
    pub fn of_driver(directory: &Path) -> Self {
        let directory = directory.join("./var/run/secrets/workload-spiffe-credentials");
        Self {
            chain: directory.join("certificates.pem"),
            key: directory.join("private_key.pem"),
            roots: directory.join("ca_certificates.pem"),
        }
    }

    /// Where `FILE_MOUNTED_CERTS` has them.
    #[must_use]
    pub fn mounted(directory: &Path) -> Self {
        let directory = directory.join("./etc/certs");
        Self {
            chain: directory.join("cert-chain.pem"),
            key: directory.join("key.pem"),
            roots: directory.join("root-cert.pem"),
        }
    }

    /// Whether all are there.
    #[must_use]
    pub fn exist(&self) -> bool {
        [&self.chain, &self.key, &self.roots].into_iter().all(|path| path.exists())
    }

    /// Keeps `publish` supplied for ever. What cannot be read leaves the certificate in use where it is.
    pub async fn keep(&self, publish: &watch::Sender<Option<Arc<Workload>>>) {
        let mut said = String::new();
        loop {
            let problem = match self.read() {
                Ok(workload) => {
                    publish.send_if_modified(|current| {
                        let changed = current.as_deref() != Some(&workload);
                        if changed {
                            tracing::info!(chain = %self.chain.display(), "the workload's certificate is read");
                            *current = Some(Arc::new(workload));
                        }
                        changed
                    });
                    String::new()
                }
                Err(problem) => problem,
            };
            if problem != said && !problem.is_empty() {
                tracing::error!(problem, chain = %self.chain.display(), "the mounted certificate is not used");
            }
            said = problem;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn read(&self) -> Result<Workload, String> {
        let chain = content(&self.chain).map_err(|error| error.to_string())?;
        let key = KeyPem::new(content(&self.key).map_err(|error| error.to_string())?);
        let roots = content(&self.roots).map_err(|error| error.to_string())?;
        Workload::from_files(&chain, key, &roots).map_err(|error| error.to_string())
    }
}

/// A small text file.
pub(crate) fn content(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("too large for a certificate"));
    }
    std::fs::read_to_string(path)
}
