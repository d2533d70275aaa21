//! Leader election by a Lease, for those who write: status, ConfigMaps, webhooks. What is served needs no leader.
//!
//! [`Candidate`] is the rules, without clock or network; [`Election::run`] asks the API server. Nobody's clock is
//! compared with anybody else's: a candidate waits from when *it* saw the last renewal, a leader stops counting from
//! before it *sent* its last one. As the wait is longer than the lead, two never lead at once (F12).

mod candidate;

use candidate::{Candidate, Record};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// One candidate for one Lease.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    /// The Lease's name: [`Election::STATUS`].
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

    /// Whether this candidate leads now, and the task that makes it so, to be spawned. When `stop` is ready, the task
    /// releases the Lease, so that another one leads at once, and ends. Dropped, it says nothing to anybody.
    pub fn run(
        self,
        client: Client,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> (watch::Receiver<bool>, impl Future<Output = ()> + Send) {
        let (leads, receiver) = watch::channel(false);
        let api = Api::namespaced(client, &self.namespace);
        let candidate = Candidate::new(self.identity, self.timing);
        let runner = Runner { api, name: self.lease, candidate, timing: self.timing, lead: Lead(leads) };
        (receiver, runner.run(stop))
    }
}

struct Runner {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    timing: Timing,
    lead: Lead,
}

/// Says that nobody leads any more when it is dropped.
struct Lead(watch::Sender<bool>);

impl Lead {
    fn tell(&self, leads: bool) -> bool {
        self.0.send_if_modified(|old| std::mem::replace(old, leads) != leads)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.tell(false);
    }
}

impl Runner {
    async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let next = Instant::now() + self.timing.retry;
            // A leader that waits for an answer must not forget to stop in time.
            let until = self.candidate.leads_until().unwrap_or_else(|| Instant::now() + self.timing.renew);
            tokio::select! {
                result = self.attempt() => if let Err(error) = result {
                    tracing::debug!(lease = self.name, %error, "leader election");
                },
                () = sleep_until(until) => {}
                () = &mut stop => return self.release().await,
            }
            self.tell();
            loop {
                let until = self.candidate.leads_until().map_or(next, |until| until.min(next));
                tokio::select! {
                    () = sleep_until(until) => self.tell(),
                    () = &mut stop => return self.release().await,
                }
                if until >= next {
                    break;
                }
            }
        }
    }

    fn tell(&self) {
        let leads = self.candidate.leads(Instant::now());
        if self.lead.tell(leads) {
            tracing::info!(lease = self.name, leads, "leader election");
        }
    }

    /// Looks at the Lease, and takes or renews it if that is allowed.
    async fn attempt(&mut self) -> Result<(), kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let now = Instant::now();
        let Some(wanted) = self.candidate.look(found.as_ref().map(record), now) else { return Ok(()) };
        self.write(found, &wanted).await?;
        self.candidate.wrote(now);
        Ok(())
    }

    /// Fails when somebody else wrote since `found` was read.
    async fn write(&self, found: Option<Lease>, wanted: &Record) -> Result<(), kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = found else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let spec = Some(spec(wanted, None, self.timing));
            self.api.create(&params, &Lease { metadata, spec }).await?;
            return Ok(());
        };
        lease.spec = Some(spec(wanted, lease.spec.take(), self.timing));
        self.api.replace(&self.name, &params, &lease).await?;
        Ok(())
    }

    async fn release(mut self) {
        self.lead.tell(false);
        let Some(released) = self.candidate.release(Instant::now()) else { return };
        let release = async {
            let found = self.api.get_opt(&self.name).await?;
            match found.as_ref().map(record) {
                Some(record) if self.candidate.holds(&record) => self.write(found, &released).await,
                _ => Ok(()),
            }
        };
        match timeout(self.timing.retry, release).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "released"),
            Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "not released, and runs out by itself"),
            Err(_) => tracing::warn!(lease = self.name, "not released in time, and runs out by itself"),
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        lease: Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().try_into().unwrap_or_default()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        stamp: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
    }
}

fn spec(wanted: &Record, before: Option<LeaseSpec>, timing: Timing) -> LeaseSpec {
    let now = Some(MicroTime(Timestamp::now()));
    let before = before.unwrap_or_default();
    let is_same = before.holder_identity.as_deref() == Some(&wanted.holder);
    let seconds = if wanted.holder.is_empty() { Duration::from_secs(1) } else { timing.lease };
    LeaseSpec {
        holder_identity: Some(wanted.holder.clone()),
        lease_duration_seconds: Some(seconds.as_secs().max(1).try_into().unwrap_or(i32::MAX)),
        acquire_time: if is_same { before.acquire_time } else { now.clone() },
        renew_time: now,
        lease_transitions: Some(wanted.transitions),
        ..before
    }
}
