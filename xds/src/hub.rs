//! What all streams share: the sets of resources, who sees which, and the bell that wakes streams.

use crate::snapshot::{ConnectionId, Layer, Layers, SetName, Snapshot, Update, View};
use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;
use tonic::Code;

/// The state that the world publishes and streams read. The lock is held for look-ups only.
///
/// ```
/// use xds::{ConnectionId, Hub, Layer, Resource, TypeUrl, Update, View, envoy};
/// let hub = Hub::default();
/// let cluster = envoy::Cluster { name: "a".into(), ..Default::default() };
/// let set = Layer::unit("a".into(), Some(Resource::whole("a", &cluster).into()));
/// let view = View { layers: [(TypeUrl::Cluster, vec!["clusters".into()])].into() };
/// hub.publish(Update { sets: vec![("clusters".into(), Some(set))], nodes: vec![(ConnectionId(1), Some(view.into()))] });
/// assert!(hub.snapshot(ConnectionId(1)).unwrap().get(TypeUrl::Cluster, "a").is_some());
/// assert!(hub.snapshot(ConnectionId(2)).is_none());
/// ```
#[derive(Debug)]
pub struct Hub {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
    ready: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    sets: HashMap<SetName, Layer>,
    views: HashMap<ConnectionId, Arc<View>>,
    /// Every open stream, and why it has to end. What is said of a stream that is gone is not kept.
    open: HashMap<ConnectionId, Option<(Code, String)>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { state: RwLock::default(), revision: watch::Sender::new(0), ready: AtomicBool::new(false) }
    }
}

impl Hub {
    /// Applies all of an update, then wakes every stream; those whose layers are untouched go back to sleep.
    pub fn publish(&self, update: Update) {
        // What is replaced is dropped after the lock: freeing a large layer takes milliseconds.
        let mut replaced = Vec::with_capacity(update.sets.len());
        {
            let mut state = self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (name, layer) in update.sets {
                replaced.push(match layer {
                    Some(layer) => state.sets.insert(name, layer),
                    None => state.sets.remove(&name),
                });
            }
            for (connection, view) in update.nodes {
                match view {
                    Some(view) => state.views.insert(connection, view),
                    None => state.views.remove(&connection),
                };
            }
        }
        self.revision.send_modify(|revision| *revision += 1);
        drop(replaced);
    }

    /// What a proxy should have now; `None` until the owner gave it a view.
    pub fn snapshot(&self, connection: ConnectionId) -> Option<Snapshot> {
        let state = self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let view = state.views.get(&connection)?;
        let layers = |sets: &Vec<SetName>| {
            Layers::new(sets.iter().map(|set| state.sets.get(set).cloned().unwrap_or_default()).collect())
        };
        Some(Snapshot::new(view.layers.iter().map(|(kind, sets)| (*kind, layers(sets))).collect()))
    }

    /// Ends the stream of a connection with this status, such as when it is not who it claims to be.
    ///
    /// ```
    /// let hub = xds::Hub::default();
    /// hub.refuse(xds::ConnectionId(1), (tonic::Code::PermissionDenied, "somebody else's name".into()));
    /// ```
    pub fn refuse(&self, connection: ConnectionId, status: (Code, String)) {
        {
            let mut state = self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some(refusal) = state.open.get_mut(&connection) else { return };
            refusal.get_or_insert(status);
        }
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(crate) fn opened(&self, connection: ConnectionId) {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner).open.insert(connection, None);
    }

    pub(crate) fn closed(&self, connection: ConnectionId) {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner).open.remove(&connection);
    }

    pub(crate) fn refusal(&self, connection: ConnectionId) -> Option<(Code, String)> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).open.get(&connection).cloned().flatten()
    }

    /// Rings after every publication.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Until this is set every stream is refused (rule X8): better no answer than a part of the world.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}
