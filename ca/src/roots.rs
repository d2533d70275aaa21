//! Keeps the ConfigMap `istio-ca-root-cert` right in every namespace: proxies find there whom to trust before they know
//! anything else. Made where it is missing, repaired where it was edited, within seconds (S29); only public certificates.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::authority::Authority;

mod kube;

pub use self::kube::{KubeRoots, watch_cluster};

/// What happened in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Namespace {
        name: String,
        phase: Phase,
    },
    NamespaceGone {
        name: String,
    },
    /// The ConfigMap of a namespace, with its `root-cert.pem`.
    ConfigMap {
        namespace: String,
        root: Option<String>,
    },
    ConfigMapGone {
        namespace: String,
    },
    /// Everything there is of a kind has been told since [`Event::Relisting`]; what was not told is gone.
    Listed(Kind),
    Relisting(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Namespaces,
    ConfigMaps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Active,
    /// Nothing can be created in it any more.
    Terminating,
}

/// Writes ConfigMaps. The cluster, or a test.
pub trait Writer: Send + Sync {
    /// Makes the namespace's ConfigMap hold `root`, whatever it holds now.
    fn write<'a>(&'a self, namespace: &'a str, root: &'a str) -> BoxFuture<'a, Result<(), String>>;
}

/// What is known of the cluster. Pure: events in, namespaces to write out.
#[derive(Debug, Default)]
pub struct State {
    namespaces: BTreeMap<String, Phase>,
    config_maps: BTreeMap<String, Option<String>>,
    listed: BTreeSet<Kind>,
    told: BTreeMap<Kind, BTreeSet<String>>,
}

impl State {
    /// Takes an event; answers which namespace it concerns, if only one.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Namespace { name, phase } => {
                self.tell(Kind::Namespaces, &name);
                self.namespaces.insert(name, phase);
            }
            Event::NamespaceGone { name } => {
                self.namespaces.remove(&name);
            }
            Event::ConfigMap { namespace, root } => {
                self.tell(Kind::ConfigMaps, &namespace);
                self.config_maps.insert(namespace, root);
            }
            Event::ConfigMapGone { namespace } => {
                self.config_maps.remove(&namespace);
            }
            Event::Relisting(kind) => {
                self.told.insert(kind, BTreeSet::new());
            }
            Event::Listed(kind) => {
                if let Some(told) = self.told.remove(&kind) {
                    match kind {
                        Kind::Namespaces => self.namespaces.retain(|name, _| told.contains(name)),
                        Kind::ConfigMaps => self.config_maps.retain(|name, _| told.contains(name)),
                    }
                }
                self.listed.insert(kind);
            }
        }
    }

    /// The namespaces whose ConfigMap is missing or wrong. None before both kinds have been listed once.
    pub fn wrong(&self, root: &str) -> Vec<String> {
        if self.listed.len() < 2 {
            return Vec::new();
        }
        let wrong = |(name, phase): &(&String, &Phase)| {
            **phase == Phase::Active
                && !IGNORED_NAMESPACES.contains(&name.as_str())
                && self.config_maps.get(*name).is_none_or(|found| found.as_deref() != Some(root))
        };
        self.namespaces.iter().filter(wrong).map(|(name, _)| name.clone()).collect()
    }

    fn tell(&mut self, kind: Kind, name: &str) {
        if let Some(told) = self.told.get_mut(&kind) {
            told.insert(name.to_owned());
        }
    }
}

/// Runs until `events` ends. Writes while `leader` is true; always the roots of the authority of the moment.
pub async fn run(
    events: impl Stream<Item = Event>,
    writer: Arc<dyn Writer>,
    mut authority: watch::Receiver<Arc<Authority>>,
    mut leader: watch::Receiver<bool>,
) {
    let mut events = std::pin::pin!(events);
    let mut state = State::default();
    let mut delays = Delays::default();
    loop {
        // While nothing is wrong this waits for ever; a failed write is tried again later, not at once.
        let retry = delays.next();
        tokio::select! {
            event = events.next() => match event {
                Some(event) => state.apply(event),
                None => return,
            },
            Ok(()) = authority.changed() => delays = Delays::default(),
            Ok(()) = leader.changed() => delays = Delays::default(),
            () = sleep_until(retry) => {}
        }
        if *leader.borrow_and_update() {
            let root = authority.borrow_and_update().roots_pem().clone();
            repair(&mut state, &mut delays, &*writer, &root).await;
        } else {
            delays = Delays::default();
        }
    }
}

async fn repair(state: &mut State, delays: &mut Delays, writer: &dyn Writer, root: &str) {
    let wrong = state.wrong(root);
    delays.keep_only(&wrong);
    let due = wrong.into_iter().filter(|namespace| delays.due(namespace));
    let results: Vec<(String, Result<(), String>)> = futures::stream::iter(due)
        .map(|namespace| async move {
            let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write(&namespace, root)).await;
            let written = written.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            (namespace, written)
        })
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await;
    for (namespace, result) in results {
        match result {
            Ok(()) => {
                tracing::debug!(target: "ca::roots", %namespace, "root certificate written");
                // The watch will say the same; until then it is not to be written again.
                state.config_maps.insert(namespace, Some(root.to_owned()));
            }
            Err(error) => {
                tracing::warn!(target: "ca::roots", %namespace, %error, "root certificate not written");
                delays.failed(namespace);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When namespaces that failed are due again: after 1 s, 2 s, 4 s … a minute.
#[derive(Debug, Default)]
struct Delays(BTreeMap<String, (u32, Instant)>);

impl Delays {
    fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, at)| *at).min()
    }

    fn due(&self, namespace: &str) -> bool {
        self.0.get(namespace).is_none_or(|(_, at)| *at <= Instant::now())
    }

    fn failed(&mut self, namespace: String) {
        let times = self.0.get(&namespace).map_or(0, |(times, _)| *times);
        let delay = Duration::from_secs(1 << times.min(6)).min(RETRY_MAX);
        self.0.insert(namespace, (times.saturating_add(1), Instant::now() + delay));
    }

    fn keep_only(&mut self, wrong: &[String]) {
        self.0.retain(|namespace, _| wrong.binary_search(namespace).is_ok());
    }
}

pub const CONFIG_MAP: &str = "istio-ca-root-cert";
pub const CONFIG_MAP_KEY: &str = "root-cert.pem";
/// As Istio, which serves `kube-system`.
pub const IGNORED_NAMESPACES: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
/// A fresh cluster of a thousand namespaces is done in seconds, and the API server is not pressed.
const WRITES_AT_ONCE: usize = 8;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
