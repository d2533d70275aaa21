//! Kubernetes for tests, behind one trait: [`local::Local`] out of real programs in namespaces of their own, and
//! [`kind::Kind`] where there is Docker. Knows nothing of navarch.

mod certificate;
mod config;
mod kernel;
pub mod kind;
pub mod local;
mod lock;
pub mod plan;
pub mod process;
pub mod program;

use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This machine cannot do it, and why; find it with `error.downcast_ref::<Unsupported>()`. Everything else is a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not supported here: {0}")]
pub struct Unsupported(pub String);

/// What is told while something takes long.
pub type Progress<'a> = &'a dyn Fn(&str);

/// A Kubernetes cluster of one node.
pub trait Cluster: Send + Sync {
    fn name(&self) -> &str;

    /// Until the node is ready and the cluster's DNS answers. Does nothing when it is up; cleans up after a crash.
    ///
    /// # Errors
    /// [`Unsupported`], or what failed with the end of the log that says why.
    fn up(&self, progress: Progress<'_>) -> Result<()>;

    /// Leaves nothing. Does nothing when there is none.
    ///
    /// # Errors
    /// When something does not go away.
    fn down(&self) -> Result<()>;

    /// # Errors
    /// When it cannot be told.
    fn status(&self) -> Result<Status>;

    /// The administrator's; its addresses are those that [`Self::command`] sees.
    ///
    /// # Errors
    /// When the cluster is not up.
    fn kubeconfig(&self) -> Result<PathBuf>;

    /// A tar as `docker save` and `deploy::image` make it. Pods use it with `imagePullPolicy: IfNotPresent` or `Never`.
    ///
    /// # Errors
    /// When it is refused.
    fn load_image(&self, tar: &Path) -> Result<()>;

    /// A program in the network of the node (files and processes are this machine's), with `KUBECONFIG` set: from
    /// there the API server, pods' addresses and ClusterIPs can be reached; names of Services cannot, unless asked at
    /// [`Self::dns`].
    ///
    /// # Errors
    /// [`Unsupported`], or when the cluster is not up.
    fn command(&self, program: &Path) -> Result<Command>;

    /// `kubectl`, ready for arguments.
    ///
    /// # Errors
    /// As [`Self::command`].
    fn kubectl(&self) -> Result<Command>;

    /// Runs this on a thread whose sockets are in the node's network: a test's own client. What it starts on other
    /// threads is in that network only if the thread is made inside (a current-thread runtime is).
    ///
    /// # Errors
    /// [`Unsupported`], or when the cluster is not up.
    fn inside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()>;

    /// Components' logs, pods' logs and the API server's audit log, as files in a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    fn logs(&self, into: &Path) -> Result<()>;

    /// The API server ends, and what it runs goes on.
    ///
    /// # Errors
    /// When it does not end.
    fn stop_apiserver(&self) -> Result<()>;

    /// Until it is ready again.
    ///
    /// # Errors
    /// When it does not become ready.
    fn start_apiserver(&self) -> Result<()>;

    /// # Errors
    /// When the cluster is not up.
    fn nodes(&self) -> Result<Vec<String>>;

    /// Every request to the API server, one JSON object a line (level Metadata).
    fn audit_log(&self) -> PathBuf;

    /// The cluster's DNS server.
    fn dns(&self) -> std::net::Ipv4Addr;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Absent,
    Running,
    /// A crash, or `up` or `down` at work.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Whether each component runs.
    pub components: BTreeMap<String, bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Local,
    Kind,
}

/// A cluster by its name, whether it is up or not.
///
/// # Errors
/// When no cluster can have that name.
pub fn open(backend: Backend, name: &str) -> Result<Box<dyn Cluster>> {
    let name = plan::Name::parse(name)?;
    Ok(match backend {
        Backend::Local => Box::new(local::Local::new(name)?),
        Backend::Kind => Box::new(kind::Kind::new(name)?),
    })
}

#[cfg(test)]
mod tests;
