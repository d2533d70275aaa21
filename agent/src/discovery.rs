//! Envoy's way to the control plane: frames pass as they are, over TLS and with what vouches for this pod. The name
//! table and the mesh's trust are asked for on the same stream, and their answers stay here.

mod frame;
mod own;
mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;

use crate::dns::{Place, Table};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::upstream::Upstream;

pub(crate) use serve::serve;

/// What a proxy of streams needs.
pub(crate) struct Options {
    pub(crate) upstream: Upstream,
    /// The pod's cluster, told along so that a control plane of several knows whom to ask about the token.
    pub(crate) cluster_id: String,
    pub(crate) metrics: Arc<Metrics>,
    /// For the DNS proxy, if there is one.
    pub(crate) names: Option<Names>,
    /// Further roots of the mesh.
    pub(crate) trust: watch::Sender<Arc<Vec<String>>>,
    /// The application's, where a WorkloadGroup asks for it.
    pub(crate) health: watch::Sender<Option<Health>>,
}

/// Where name tables go.
pub(crate) struct Names {
    pub(crate) place: Place,
    pub(crate) table: watch::Sender<Arc<Table>>,
}
