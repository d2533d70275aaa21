//! A Kubernetes API server as object store.
//!
//! [`watch`] lists and watches every kind that `crds` reads and hands on what changed, in the same shape as the folder
//! source. It knows nothing of what the objects mean. `controller/docs/kubernetes-source.md` says what each fault of
//! the API server leads to.
//!
//! One task does everything: a stream of watcher events for each kind ([`stream`]), the state that turns them into
//! changes ([`state`]), the filter of `discoverySelectors` ([`discovery`]) and the batch that waits for its reader.

mod discovery;
mod health;
mod intern;
mod object;
mod resource;
mod run;
mod state;
mod stream;
mod transport;

pub use health::{Health, KindHealth};
pub use run::watch;

use crds::{Object, ObjectKey, Problem};
use std::time::Duration;
use tokio::sync::watch as watched;

/// What [`watch`] tells its reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Some objects are different now. The first of these comes after every kind's first list, with everything in it.
    Changed {
        /// In the order of keys, each key at most once; `None` is a removal. A key is also here when only its problems
        /// have changed, with the object as it is in force.
        changes: Vec<(ObjectKey, Option<Object>)>,
        /// All problems of every key in `changes`, and of objects that were refused while an earlier version stays in
        /// force; those have no entry in `changes`. They take the place of what was said of these keys before.
        problems: Vec<Problem>,
    },
    /// Every kind's first list has been handed on. Said once.
    Synced,
}

/// How to watch.
#[derive(Debug)]
pub struct Options {
    /// The control plane's own namespace: the only one whose ConfigMaps are read.
    pub namespace: String,
    /// The ConfigMap with the MeshConfig, which names the discovery selectors: `istio`, or `istio-REVISION`.
    pub mesh_config_map: String,
    /// A MeshConfig to take the selectors from instead of the ConfigMap's.
    pub mesh_config: Option<String>,
    pub timing: Timing,
    health: watched::Sender<Health>,
}

/// All durations of the source in one place.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Changes that come within this time of the first are one batch.
    pub batch: Duration,
    /// A watch ends after this time and is resumed from where it was.
    pub watch: Duration,
    /// Without an answer, or a byte of one, for this time the connection is dead.
    pub silence: Duration,
    /// First and longest pause after a failure; both vary by half.
    pub retry: (Duration, Duration),
    /// Two watches of one kind start at least this far apart, however soon the server ends them.
    pub spacing: Duration,
}

impl Default for Timing {
    /// A dead connection shows within 30 s (F2): the server sends a bookmark or ends the watch before `silence`.
    fn default() -> Self {
        Self {
            batch: Duration::from_millis(20),
            watch: Duration::from_secs(20),
            silence: Duration::from_secs(25),
            retry: (Duration::from_millis(500), Duration::from_secs(15)),
            spacing: Duration::from_secs(1),
        }
    }
}

impl Options {
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            mesh_config_map: "istio".into(),
            mesh_config: None,
            timing: Timing::default(),
            health: watched::Sender::new(Health::default()),
        }
    }

    /// How the watches are, from before the first of them. Take it before the options are given away.
    pub fn health(&self) -> watched::Receiver<Health> {
        self.health.subscribe()
    }
}

/// A client that leaves repeating to those who ask: kube's own repeats what the API server refuses for minutes, and
/// says nothing of it.
pub fn client(mut config: ::kube::Config) -> Result<::kube::Client, ::kube::Error> {
    config.default_retry = false;
    // A connection that nobody answers is tried anew soon: kube's own limit is as long as an outage.
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.try_into()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why [`watch`] ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nobody reads the changes any more")]
    NoReader,
}
