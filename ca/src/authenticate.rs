//! Who is calling: a Kubernetes token, reviewed by the API server, or a certificate of ours (S1-S9).
//!
//! The client gets a generic text; what exactly was wrong is logged here, once.
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::HeaderMap;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::authority::Authority;
use crate::clock::Clock;
use crate::spiffe::{Identity, TrustDomains};

mod certificate;
mod token;

pub use token::KubeReviewer;

/// The certificates that the other end of a TLS connection proved to own: leaf first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificates {
    pub chain: Vec<CertificateDer<'static>>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Always of the mesh's own trust domain, whichever alias was presented (S30).
    pub identity: Identity,
    /// The pod a token is bound to (S15); certificates do not say.
    pub pod: Option<PodRef>,
    pub credential: Credential,
}

/// A pod as tokens name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    pub name: Arc<str>,
    pub uid: Arc<str>,
}

/// What the caller showed; a token counts more, as it names the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Token,
    Certificate,
}

/// Why a caller is not let in; the texts are for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Unauthenticated(String),
    /// Try again: the API server could not be asked. Never to be taken for a bad token (S8).
    #[error("{0}")]
    Unavailable(String),
}

/// Asks somebody about a token. The API server, or a test.
pub trait TokenReviewer: Send + Sync {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewOutage>>;
}

/// The API server did not answer, or not to this question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tokens cannot be reviewed: {0}")]
pub struct ReviewOutage(pub String);

/// What the process is configured with.
#[derive(Clone, Debug)]
pub struct Options {
    pub trust_domains: TrustDomains,
    /// `TOKEN_AUDIENCES`.
    pub audiences: Vec<String>,
    /// `CLUSTER_ID`: the only one that callers may name.
    pub cluster_id: String,
}

impl Options {
    pub fn new(trust_domains: TrustDomains) -> Self {
        Self { trust_domains, audiences: vec!["istio-ca".to_owned()], cluster_id: "Kubernetes".to_owned() }
    }
}

/// Authenticates callers of xDS, CSR and debug endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    options: Options,
    tokens: token::Tokens,
    authority: watch::Receiver<Arc<Authority>>,
    clock: Clock,
}

impl Authenticator {
    pub fn new(
        options: Options,
        reviewer: Arc<dyn TokenReviewer>,
        authority: watch::Receiver<Arc<Authority>>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { options, tokens: token::Tokens::new(reviewer), authority, clock }))
    }

    /// Decides by the headers of a request and the certificates of its connection. Both may be there; they must agree (S7).
    pub async fn authenticate(&self, headers: &HeaderMap, peer: Option<&PeerCertificates>) -> Result<Caller, Refusal> {
        let result = self.0.decide(headers, peer).await;
        result.map_err(|failure| {
            match &failure {
                Failure::Refused(detail) => tracing::warn!(target: "ca::authenticate", %detail, "caller refused"),
                Failure::Outage(detail) => {
                    tracing::warn!(target: "ca::authenticate", %detail, "caller could not be checked")
                }
            }
            failure.into()
        })
    }
}

impl Inner {
    async fn decide(&self, headers: &HeaderMap, peer: Option<&PeerCertificates>) -> Result<Caller, Failure> {
        check_cluster(headers, &self.options.cluster_id)?;
        let now = self.clock.now();
        // The guard is gone before anything is awaited.
        let authority = self.authority.borrow().clone();
        let by_certificate = match peer {
            Some(peer) => Some(certificate::identity(peer, &authority, &self.options.trust_domains, now)?),
            None => None,
        };
        let Some(token) = token::bearer(headers)? else {
            let identity = by_certificate.ok_or_else(|| refused("neither a token nor a certificate"))?;
            return Ok(Caller { identity, pod: None, credential: Credential::Certificate });
        };
        let caller = self.tokens.caller(token, &self.options, now).await?;
        match by_certificate {
            Some(identity) if identity != caller.identity => {
                Err(refused(&format!("the certificate is {identity}'s, the token {}'s", caller.identity)))
            }
            _ => Ok(caller),
        }
    }
}

/// Callers may name the cluster their token is of. There is one (S4).
fn check_cluster(headers: &HeaderMap, own: &str) -> Result<(), Failure> {
    let mut values = headers.get_all(crate::wire::CLUSTER_ID_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(value), None) if value.as_bytes() == own.as_bytes() => Ok(()),
        (Some(_), None) => Err(refused("the header clusterid names a cluster that is not configured")),
        (Some(_), Some(_)) => Err(refused("the header clusterid stands more than once")),
    }
}

/// A refusal with its details, which are for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Refused(Escaped),
    Outage(Escaped),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(_) => Self::Unauthenticated("request authenticate failure".to_owned()),
            Failure::Outage(_) => Self::Unavailable("credentials cannot be checked at the moment".to_owned()),
        }
    }
}

fn refused(detail: &str) -> Failure {
    Failure::Refused(Escaped::new(detail))
}

/// Text that may hold what strangers sent: no control characters, no endless lines (S9).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Escaped(String);

impl Escaped {
    pub(crate) fn new(text: &str) -> Self {
        let escape = |character: char| -> String {
            if character.is_control() { character.escape_unicode().collect() } else { character.into() }
        };
        Self(text.chars().take(LOGGED_CHARACTERS_MAX).map(escape).collect())
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Escaped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authenticator").field("options", &self.0.options).finish_non_exhaustive()
    }
}

const LOGGED_CHARACTERS_MAX: usize = 500;

#[cfg(test)]
mod tests;
