//! Callers known by their certificate, verified from the roots up, here and now, not only at the handshake: connections
//! outlive certificates and roots.
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;

use super::{Failure, PeerCertificates, refused};
use crate::authority::Authority;
use crate::certificate::{Authority as Constraint, Certificate};
use crate::spiffe::{Identity, TrustDomains};

/// The identity of a chain that passes every check of S5.
pub(super) fn identity(
    peer: &PeerCertificates,
    authority: &Authority,
    trust_domains: &TrustDomains,
    now: SystemTime,
) -> Result<Identity, Failure> {
    let (leaf, between) = peer.chain.split_first().ok_or_else(|| refused("an empty certificate chain"))?;
    let read = Certificate::from_der(leaf.clone()).ok_or_else(|| refused("a certificate that cannot be read"))?;
    check_leaf(&read)?;
    let [uri] = read.facts.uris.as_slice() else {
        return Err(refused(&format!("a certificate with {} URIs, not one", read.facts.uris.len())));
    };
    let identity: Identity =
        uri.parse().map_err(|error| refused(&format!("the certificate's URI is no identity: {error}")))?;
    if !trust_domains.accepts(&identity.trust_domain) {
        return Err(refused(&format!("the certificate is of the foreign trust domain {}", identity.trust_domain)));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authority.roots().iter().map(|root| root.der.clone()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| refused(&format!("no roots to verify with: {error}")))?;
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    verifier
        .verify_client_cert(leaf, between, UnixTime::since_unix_epoch(since))
        .map_err(|error| refused(&format!("the certificate does not verify: {error}")))?;
    Ok(Identity { trust_domain: trust_domains.local.clone(), ..identity })
}

/// What the verifier would let pass, or would call by another name.
pub(super) fn check_leaf(leaf: &Certificate) -> Result<(), Failure> {
    let facts = &leaf.facts;
    if facts.authority != Constraint::No {
        return Err(refused("the certificate is a CA's"));
    }
    if !facts.client_auth {
        return Err(refused("the certificate is not for clients"));
    }
    if !facts.public_key.strong() {
        return Err(refused("the certificate's key is too weak"));
    }
    if facts.sha1 {
        return Err(refused("the certificate is signed with SHA-1"));
    }
    Ok(())
}
