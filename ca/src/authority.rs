//! The CA at one moment: a bundle, and what may be signed with it. Immutable; another bundle is another authority.
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bundle::{Bundle, serial};
use crate::certificate::{Certificate, PublicKeyKind};
use crate::csr::{Csr, CsrError};
use crate::spiffe::Identity;
use crate::template::{self, KeyEncipherment, Name, Purpose, Template, whole_seconds};

/// Bounds of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `DEFAULT_WORKLOAD_CERT_TTL`: for requests that name none.
    pub default_ttl: Duration,
    /// `MAX_WORKLOAD_CERT_TTL`: requests for more are refused.
    pub max_ttl: Duration,
    /// Trust domains that requests may name beside the caller's own. What is issued always names the caller's.
    pub trust_domain_aliases: Vec<Arc<str>>,
}

impl Default for Options {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { default_ttl: day, max_ttl: day * 90, trust_domain_aliases: Vec::new() }
    }
}

/// Signs.
#[derive(Debug)]
pub struct Authority {
    bundle: Bundle,
    options: Options,
    roots_pem: Arc<str>,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM, one certificate each: the leaf, what is between, the roots.
    pub chain: Vec<String>,
    /// The leaf's, in hexadecimal.
    pub serial: String,
    pub not_after: SystemTime,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("the request: {0}")]
    Csr(#[from] CsrError),
    #[error("the request asks for a name that is not the caller's")]
    ForeignName,
    #[error("the requested lifetime of {asked_s} s is above the maximum of {max_s} s")]
    LongTtl { asked_s: u64, max_s: u64 },
    #[error("the signing certificate is expired or not valid yet")]
    NotValidNow,
    #[error("the cryptographic library failed")]
    Library,
}

impl Authority {
    pub fn new(bundle: Bundle, options: Options) -> Self {
        let roots_pem = bundle.roots_pem().into();
        Self { bundle, options, roots_pem }
    }

    /// A certificate for `identity` and the key of the request. `ttl`: `None` for the default.
    pub fn sign(
        &self,
        csr_pem: &str,
        identity: &Identity,
        ttl: Option<Duration>,
        now: SystemTime,
    ) -> Result<Issued, SignError> {
        let csr = Csr::read(csr_pem)?;
        self.check_names(&csr, identity)?;
        let ttl = ttl.unwrap_or(self.options.default_ttl);
        if ttl > self.options.max_ttl {
            let (asked_s, max_s) = (ttl.as_secs(), self.options.max_ttl.as_secs());
            return Err(SignError::LongTtl { asked_s, max_s });
        }
        let identity = identity.to_string();
        let subject = Subject {
            public_key_info: &csr.public_key_info,
            public_key: csr.public_key,
            names: vec![Name::Uri(&identity)],
        };
        self.issue(subject, ttl, now)
    }

    /// A certificate for names of our own: what istiod serves with.
    pub(crate) fn sign_for_names(
        &self,
        names: &[String],
        public_key_info: &[u8],
        public_key: PublicKeyKind,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, SignError> {
        let names = names.iter().map(|name| Name::Dns(name)).collect();
        self.issue(Subject { public_key_info, public_key, names }, ttl, now)
    }

    fn issue(&self, subject: Subject<'_>, ttl: Duration, now: SystemTime) -> Result<Issued, SignError> {
        let now = whole_seconds(now);
        let end = self.bundle.chain_end();
        if now >= end || now < self.bundle.signing.facts.not_before {
            return Err(SignError::NotValidNow);
        }
        let not_after = (now + ttl).min(end);
        let serial = serial().map_err(|_| SignError::Library)?;
        let signing = &self.bundle.signing;
        let template = Template {
            serial,
            issuer: &signing.facts.subject,
            not_before: now - BACKDATE,
            not_after,
            public_key_info: subject.public_key_info,
            purpose: Purpose::Leaf {
                names: subject.names,
                key_encipherment: match subject.public_key {
                    PublicKeyKind::Rsa { .. } => KeyEncipherment::Yes,
                    _ => KeyEncipherment::No,
                },
                issuer_key_id: signing.facts.key_id.as_deref(),
            },
        };
        let der = template::certificate(&template, &self.bundle.key).map_err(|_| SignError::Library)?;
        let above = self.bundle.intermediates.iter().chain(&self.bundle.roots).map(Certificate::to_pem);
        let chain = [crate::certificate::pem("CERTIFICATE", &der)].into_iter().chain(above).collect();
        let serial = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Issued { chain, serial, not_after })
    }

    /// Names in the request are ignored when they are the caller's, and refused when they are not (S11): such a request
    /// was meant for somebody else.
    fn check_names(&self, csr: &Csr, identity: &Identity) -> Result<(), SignError> {
        let own = |text: &String| {
            text.parse::<Identity>().is_ok_and(|named| {
                let aliases = &self.options.trust_domain_aliases;
                named.same_workload(identity)
                    && (named.trust_domain == identity.trust_domain || aliases.contains(&named.trust_domain))
            })
        };
        let common_name = csr.common_name.iter().all(|name| name.is_empty() || own(name));
        if csr.uris.len() == csr.names && csr.uris.iter().all(own) && common_name {
            Ok(())
        } else {
            Err(SignError::ForeignName)
        }
    }

    /// What everybody in the mesh trusts, in PEM.
    pub fn roots_pem(&self) -> &Arc<str> {
        &self.roots_pem
    }

    pub fn roots(&self) -> &[Certificate] {
        &self.bundle.roots
    }

    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub fn options(&self) -> &Options {
        &self.options
    }
}

struct Subject<'a> {
    public_key_info: &'a [u8],
    public_key: PublicKeyKind,
    names: Vec<Name<'a>>,
}

/// Leaves are valid from five minutes ago: clocks differ (F26; Istio has seen up to 30 s and gives 2 minutes).
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests;
