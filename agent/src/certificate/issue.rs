//! Certificates from the CA: a new key and a request each time, the old certificate in use until the new one is there.

use std::sync::Arc;
use std::time::Duration;

use ca::clock::Clock;
use ca::csr::CsrError;
use ca::wire;
use tokio::sync::watch;

use super::schedule::renew_in;
use super::{Workload, WorkloadError};
use crate::backoff::{Backoff, random};
use crate::environment::Certificates;
use crate::metrics::Metrics;
use crate::upstream::{Upstream, UpstreamError};

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the CA: {:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("no answer from the CA within {REQUEST_TIMEOUT:?}")]
    Timeout,
    #[error("the CA's answer: {0}")]
    Answer(#[from] WorkloadError),
    #[error("the request: {0}")]
    Request(#[from] CsrError),
    #[error("the task that makes keys ended")]
    Task,
}

/// For one request, connecting included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// F33: at most 10 s after a good token appeared there is a certificate.
const RETRY_MAX: Duration = Duration::from_secs(8);
/// Timers stand still while a machine sleeps; certificates do not.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Keeps `publish` supplied for ever. `issue` is told which attempt in a row it is.
pub(crate) async fn keep<F>(
    settings: &Certificates,
    clock: &Clock,
    metrics: &Metrics,
    publish: &watch::Sender<Option<Arc<Workload>>>,
    issue: impl Fn(u32) -> F,
) where
    F: Future<Output = Result<Workload, IssueError>>,
{
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut attempt = 0;
    loop {
        metrics.certificate_request();
        match issue(attempt).await {
            Ok(workload) => {
                (attempt, backoff) = (0, Backoff::new(RETRY_FIRST, RETRY_MAX));
                let life = workload.not_after.duration_since(clock.now()).unwrap_or_default();
                let wait = renew_in(life, settings.grace_ratio, settings.grace_jitter, random());
                tracing::info!(identity = %settings.identity, renew_in = ?wait, "the workload's certificate is issued");
                output(settings, &workload);
                publish.send_replace(Some(Arc::new(workload)));
                sleep(clock, wait).await;
            }
            Err(error) => {
                metrics.certificate_failure();
                attempt += 1;
                let wait = backoff.wait();
                let expired = publish.borrow().as_ref().is_some_and(|it| clock.now() >= it.not_after);
                if expired {
                    tracing::error!(%error, retry_in = ?wait, "the workload's certificate HAS EXPIRED and there is no new one");
                } else {
                    tracing::warn!(%error, retry_in = ?wait, "no certificate");
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn output(settings: &Certificates, workload: &Workload) {
    let Some(directory) = &settings.output else { return };
    if let Err(error) = workload.write(directory) {
        tracing::error!(%error, directory = %directory.display(), "OUTPUT_CERTS cannot be written");
    }
}

/// Until the wall clock says so.
async fn sleep(clock: &Clock, wait: Duration) {
    let end = clock.now() + wait;
    while let Ok(left) = end.duration_since(clock.now()) {
        if left.is_zero() {
            return;
        }
        // A timer may fire a little early by the wall clock; a millisecond more ends that.
        tokio::time::sleep(left.min(SLEEP_MAX) + Duration::from_millis(1)).await;
    }
}

/// One request to the CA.
pub(crate) async fn request(
    settings: &Certificates,
    upstream: &Upstream,
    cluster_id: &str,
    attempt: u32,
) -> Result<Workload, IssueError> {
    let (identity, kind) = (settings.identity.clone(), settings.key);
    // An RSA key takes a second or more.
    let made = tokio::task::spawn_blocking(move || ca::csr::request(&identity, kind)).await;
    let (key, csr) = made.map_err(|_| IssueError::Task)??;
    let credential = upstream.credential(attempt);
    let bearer = upstream.bearer(credential)?;
    let mut client = wire::Client::new(upstream.channel(credential)?, cluster_id);
    let text = |text: &String| wire::Value { text: Some(text.clone()) };
    let metadata = settings
        .signer
        .as_ref()
        .map(|signer| wire::Struct { fields: std::iter::once(("CertSigner".to_owned(), text(signer))).collect() });
    let validity_duration = i64::try_from(settings.ttl.as_secs()).unwrap_or(i64::MAX);
    let request = wire::IstioCertificateRequest { csr, validity_duration, metadata };
    let answer = client.create_certificate(bearer.as_ref().map(|token| token.as_str()), request);
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer).await.map_err(|_| IssueError::Timeout)?;
    Ok(Workload::from_answer(&answer.map_err(Box::new)?.cert_chain, key)?)
}
