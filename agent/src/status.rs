//! The HTTP server kubelet, Prometheus and the user talk to in a pod (port 15020): readiness, merged metrics, rewritten
//! application probes, drain and quit. Knows Envoy by its admin port only.

pub mod options;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub use options::{Options, OptionsError};

/// What a caller on localhost ordered. Whoever runs Envoy receives these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `POST /drain`: stop taking new connections, go on living; SIGTERM afterwards need not drain again.
    Drain,
    /// `POST /quitquitquit`: end at once, without a drain.
    Quit,
}

/// How many orders may wait for the runner; one more is answered as if it were taken, since it can only repeat them.
pub const ORDERS_MAX: usize = 4;

/// Where the pod stands. Anything but `Serving` makes `/healthz/ready` answer 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In service: ready as soon as Envoy says so.
    Serving,
    /// Being drained by `/drain` or SIGTERM.
    Draining,
    /// About to end.
    Terminating,
}

/// What the server shares with the rest of the agent.
#[derive(Clone)]
pub struct State {
    /// The pod's phase, owned by whoever runs Envoy.
    pub phase: watch::Receiver<Phase>,
    /// Orders of local callers.
    pub orders: mpsc::Sender<Order>,
    /// The agent's own metrics in Prometheus' text format, names complete (`istio_agent_…`).
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The DNS name table, when there is a DNS proxy.
    pub names: Option<watch::Receiver<Arc<crate::dns::Table>>>,
}

/// Serves until the listener fails. `listener` is bound by the caller (`[::]:15020`, or 0.0.0.0 where there is no IPv6).
///
/// # Errors
/// When the listener can no longer accept.
pub async fn serve(listener: TcpListener, options: Options, state: State) -> io::Result<()> {
    let _ = (listener, options, state);
    std::future::pending().await
}
