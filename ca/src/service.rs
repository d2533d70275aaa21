//! The gRPC service that agents ask: authenticate, limit, sign, tell the audit log.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status};

use crate::authenticate::{Authenticator, Caller, Escaped, PodRef, Refusal};
use crate::authority::{Authority, Issued, SignError};
use crate::clock::{Clock, unix_s};
use crate::limit::{Limiter, Rate, Verdict};
use crate::metrics::Metrics;
use crate::spiffe::Identity;
use crate::wire::{IstioCertificateRequest, IstioCertificateResponse, PATH, SERVICE};

/// `istio.v1.auth.IstioCertificateService` for tonic's router. Cheap to clone.
#[derive(Clone)]
pub struct CertificateService(Arc<Inner>);

struct Inner {
    authenticator: Authenticator,
    authority: watch::Receiver<Arc<Authority>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    limits: Mutex<Limits>,
    started: Instant,
    signers: Semaphore,
}

struct Limits {
    by_pod: Limiter<PodRef>,
    by_identity: Limiter<Identity>,
}

impl CertificateService {
    pub fn new(
        authenticator: Authenticator,
        authority: watch::Receiver<Arc<Authority>>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let limits = Limits {
            by_pod: Limiter::new(RATE_OF_A_POD, LIMITED_CALLERS_MAX),
            by_identity: Limiter::new(RATE_OF_AN_IDENTITY, LIMITED_CALLERS_MAX),
        };
        let signers = Semaphore::new(SIGNERS_MAX);
        let limits = Mutex::new(limits);
        Self(Arc::new(Inner { authenticator, authority, clock, metrics, limits, started: Instant::now(), signers }))
    }

    async fn answer(
        self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let inner = &*self.0;
        inner.metrics.csr.increment();
        let (metadata, extensions, request) = request.into_parts();
        let peer = crate::tls::peer(&extensions);
        let address = crate::tls::remote(&extensions);
        let caller = inner.authenticator.authenticate(&metadata.into_headers(), peer.as_deref()).await;
        let caller = caller.map_err(|refusal| {
            inner.metrics.authentication_failure.increment();
            audit_stranger(address, &refusal);
            match refusal {
                Refusal::Unauthenticated(text) => Status::unauthenticated(text),
                Refusal::Unavailable(text) => Status::unavailable(text),
            }
        })?;
        let result = inner.issue(&caller, request).await;
        audit(address, &caller, result.as_ref());
        let issued = result.map_err(|refusal| refusal.status)?;
        inner.metrics.success.increment();
        Ok(Response::new(IstioCertificateResponse { cert_chain: issued.chain }))
    }
}

/// What the client is told, and what the audit log is.
struct Refused {
    status: Status,
    reason: String,
}

impl Refused {
    fn new(code: Code, text: &str, reason: impl Into<String>) -> Self {
        Self { status: Status::new(code, text), reason: reason.into() }
    }
}

impl Inner {
    async fn issue(&self, caller: &Caller, request: IstioCertificateRequest) -> Result<Issued, Refused> {
        // S13: node agents that ask for others' certificates belong to ambient mode, which we do not serve.
        if request.metadata_holds(IMPERSONATED) {
            self.metrics.authentication_failure.increment();
            let text = "request impersonation authentication failure";
            return Err(Refused::new(Code::Unauthenticated, text, "impersonation is not supported"));
        }
        if self.limited(caller) == Verdict::TooOften {
            self.metrics.rate_limited.increment();
            return Err(Refused::new(Code::ResourceExhausted, "too many requests", "too many requests"));
        }
        let _signer = self
            .signers
            .acquire()
            .await
            .map_err(|error| Refused::new(Code::Unavailable, "shutting down", error.to_string()))?;
        let authority = self.authority.borrow().clone();
        let (identity, now) = (caller.identity.clone(), self.clock.now());
        let ttl = u64::try_from(request.validity_duration).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs);
        let signed = tokio::task::spawn_blocking(move || authority.sign(&request.csr, &identity, ttl, now)).await;
        match signed {
            Ok(Ok(issued)) => Ok(issued),
            Ok(Err(error)) => Err(self.count(&error)),
            Err(error) => Err(Refused::new(Code::Internal, "signing failed", error.to_string())),
        }
    }

    fn limited(&self, caller: &Caller) -> Verdict {
        let now = self.started.elapsed();
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        match &caller.pod {
            Some(pod) => match limits.by_pod.take(pod, now) {
                Verdict::Allowed => limits.by_identity.take(&caller.identity, now),
                Verdict::TooOften => Verdict::TooOften,
            },
            None => limits.by_identity.take(&caller.identity, now),
        }
    }

    fn count(&self, error: &SignError) -> Refused {
        let (counter, code) = match error {
            SignError::Csr(_) => (&self.metrics.csr_parsing_error, Code::InvalidArgument),
            SignError::ForeignName => (&self.metrics.id_extraction_error, Code::InvalidArgument),
            SignError::LongTtl { .. } => (&self.metrics.csr_sign_error, Code::InvalidArgument),
            SignError::NotValidNow => (&self.metrics.csr_sign_error, Code::Unavailable),
            SignError::Library => (&self.metrics.csr_sign_error, Code::Internal),
        };
        counter.increment();
        // The texts of these errors are ours and hold nothing of the request.
        Refused::new(code, &format!("CSR signing error ({error})"), error.to_string())
    }
}

fn audit(address: Option<SocketAddr>, caller: &Caller, result: Result<&Issued, &Refused>) {
    let identity = &caller.identity;
    let pod = caller.pod.as_ref().map(|pod| Escaped::new(&format!("{}/{}", pod.name, pod.uid)));
    let credential = caller.credential;
    match result {
        Ok(Issued { serial, not_after, .. }) => {
            let not_after_s = unix_s(*not_after);
            tracing::info!(target: "ca::audit", ?address, %identity, ?pod, ?credential, %serial, not_after_s, "certificate issued");
        }
        Err(Refused { reason, .. }) => {
            tracing::warn!(target: "ca::audit", ?address, %identity, ?pod, ?credential, %reason, "certificate refused");
        }
    }
}

fn audit_stranger(address: Option<SocketAddr>, refusal: &Refusal) {
    tracing::warn!(target: "ca::audit", ?address, reason = %refusal, "certificate refused");
}

impl tonic::server::NamedService for CertificateService {
    const NAME: &'static str = SERVICE;
}

impl tonic::server::UnaryService<IstioCertificateRequest> for CertificateService {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<'static, Result<Response<IstioCertificateResponse>, Status>>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

impl tower_service::Service<http::Request<Body>> for CertificateService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("only CreateCertificate is served").into_http());
            }
            let codec = tonic_prost::ProstCodec::default();
            let grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
            let mut grpc = grpc;
            Ok(grpc.unary(service, request).await)
        })
    }
}

impl std::fmt::Debug for CertificateService {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CertificateService")
    }
}

const IMPERSONATED: &str = "ImpersonatedIdentity";
/// A request of the largest size allowed, and its metadata.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// An agent asks once at its start and then every few hours; its retries are seconds apart.
const RATE_OF_A_POD: Rate = Rate { burst: 20.0, per_s: 0.5 };
/// A thousand pods of one service account may start at once.
const RATE_OF_AN_IDENTITY: Rate = Rate { burst: 1000.0, per_s: 100.0 };
const LIMITED_CALLERS_MAX: usize = 16 * 1024;
/// Signatures at once, so that a storm leaves processors to xDS.
const SIGNERS_MAX: usize = 4;

#[cfg(test)]
mod tests;
