//! What a CA signs with: its certificate and key, what stands between it and the root, and the roots. Read from Istio's
//! two formats, checked as a whole before it is used (S25); and the agent's side of the same, the check of what came back.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::certificate::{self, Authority, Certificate, ReadError};
use crate::clock::unix_s;
use crate::key::{KeyError, KeyKind, PrivateKey};
use crate::spiffe::Identity;
use crate::template::{self, Purpose, Template, whole_seconds};

/// A signing certificate that has been checked, with everything that belongs to it. Immutable; cheap to clone.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub signing: Certificate,
    pub key: Arc<PrivateKey>,
    /// From the signing certificate (first) up to below the root; empty when the signing certificate is the root.
    pub intermediates: Vec<Certificate>,
    /// What everybody trusts. The signing chain ends in one of them.
    pub roots: Vec<Certificate>,
    /// Entries of the roots' file that could not be read and were left out (S29).
    pub roots_left_out: usize,
}

/// Why a bundle is not used (S25). Never holds key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("incomplete: {0} is missing")]
    Incomplete(&'static str),
    #[error("{0}: {1}")]
    Read(&'static str, ReadError),
    #[error("the private key: {0}")]
    Key(#[from] KeyError),
    #[error("the private key does not belong to the signing certificate")]
    KeyMismatch,
    #[error("the signing certificate is no CA certificate, or may not sign certificates")]
    NotAuthority,
    #[error("the signing certificate's key or signature is too weak")]
    Weak,
    #[error("a certificate of the chain is expired")]
    Expired,
    #[error("a certificate of the chain is not valid yet")]
    NotYetValid,
    #[error("the chain does not end in one of the roots")]
    NoRoot,
    #[error("a CA above the signing certificate allows no CA that far below it")]
    PathLength,
    #[error("the new root and the old one share no root: distribute both before changing the signer")]
    Unrelated,
    #[error("the library refused to write the certificate")]
    Write,
}

/// Files or a Secret's data, by name.
pub type Files = BTreeMap<String, crate::store::Bytes>;

impl Bundle {
    /// A new root. `organization` is its subject's O, the trust domain in Istio.
    pub fn self_signed(kind: KeyKind, ttl: Duration, organization: &str, now: SystemTime) -> Result<Self, BundleError> {
        let key = PrivateKey::generate(kind)?;
        let name = template::organization(organization);
        let signing = root_certificate(&name, &key_id(&key), &key, Validity { ttl, now })?;
        Ok(Self::of_root(signing, key))
    }

    /// The same root with a later end: same key, name and key id, so that everything issued under the old one is valid
    /// under the new one and the other way round.
    pub fn renewed(&self, ttl: Duration, now: SystemTime) -> Result<Self, BundleError> {
        let old = &self.signing;
        // Verifiers compare a leaf's authority key id with the root's, so another id would break what is issued already.
        let id = old.facts.key_id.clone().unwrap_or_else(|| key_id(&self.key));
        let signing = root_certificate(&old.facts.subject, &id, &self.key, Validity { ttl, now })?;
        Ok(Self { signing: signing.clone(), roots: vec![signing], ..self.clone() })
    }

    fn of_root(signing: Certificate, key: PrivateKey) -> Self {
        let roots = vec![signing.clone()];
        Self { signing, key: Arc::new(key), intermediates: Vec::new(), roots, roots_left_out: 0 }
    }

    /// Reads the Secret `istio-ca-secret`, or files of either of the two `cacerts` formats; `None` when there is nothing.
    /// Times are not looked at: [`Self::check_time`].
    pub fn from_files(files: &Files) -> Result<Option<Self>, BundleError> {
        // An empty entry is as good as none: istio-ca-secret holds `cert-chain.pem: ""`.
        let file = |name: &str| files.get(name).map(crate::store::Bytes::expose).filter(|bytes| !bytes.is_empty());
        let (format, certificates, key) =
            match FORMATS.iter().find(|format| format.names().any(|name| file(name).is_some())) {
                None => return Ok(None),
                Some(format) => (
                    format,
                    file(format.certificate).ok_or(BundleError::Incomplete(format.certificate))?,
                    file(format.key).ok_or(BundleError::Incomplete(format.key))?,
                ),
            };
        let read = |name, bytes| Certificate::all_from_pem(bytes).map_err(|error| BundleError::Read(name, error));
        let mut chain = read(format.certificate, certificates)?;
        let signing = chain.first().cloned().ok_or(BundleError::Read(format.certificate, ReadError::None))?;
        let (roots, roots_left_out) = match file(format.roots) {
            Some(bytes) => Certificate::readable_from_pem(bytes),
            None if signing.is_self_signed() => (vec![signing.clone()], 0),
            None => return Err(BundleError::Incomplete(format.roots)),
        };
        if let Some(bytes) = file(format.chain) {
            chain.extend(read(format.chain, bytes)?);
        }
        let key = PrivateKey::from_pem(key)?;
        Self::checked(signing, key, chain, (roots, roots_left_out)).map(Some)
    }

    fn checked(
        signing: Certificate,
        key: PrivateKey,
        pool: Vec<Certificate>,
        (roots, roots_left_out): (Vec<Certificate>, usize),
    ) -> Result<Self, BundleError> {
        if key.public_key_info() != signing.facts.public_key_info {
            return Err(BundleError::KeyMismatch);
        }
        let roots =
            distinct(roots.into_iter().filter(|root| is_authority(root) && root.facts.subject == root.facts.issuer));
        let intermediates = if roots.contains(&signing) { Vec::new() } else { path(&signing, &pool, &roots)? };
        let root = roots.iter().find(|root| intermediates.last().is_none_or(|last| last.is_signed_by(root)));
        let root = if intermediates.is_empty() { &signing } else { root.ok_or(BundleError::NoRoot)? };
        let chain: Vec<&Certificate> = intermediates.iter().chain([root]).collect();
        for (below, certificate) in chain.iter().enumerate() {
            check_authority(certificate, below)?;
        }
        Ok(Self { signing, key: Arc::new(key), intermediates, roots, roots_left_out })
    }

    /// Whether it may sign now: nothing from the signing certificate up to below the root, nor the root, is out of time.
    pub fn check_time(&self, now: SystemTime) -> Result<(), BundleError> {
        let top = self.intermediates.last().unwrap_or(&self.signing);
        let root = self.roots.iter().filter(|root| top.is_signed_by(root)).max_by_key(|root| root.facts.not_after);
        for certificate in self.intermediates.iter().chain([&self.signing]).chain(root) {
            if now > certificate.facts.not_after {
                return Err(BundleError::Expired);
            }
            if now < certificate.facts.not_before {
                return Err(BundleError::NotYetValid);
            }
        }
        Ok(())
    }

    /// The whole of it as the Secret `istio-ca-secret` holds it.
    pub fn to_files(&self) -> Result<Files, BundleError> {
        let text = |text: String| crate::store::Bytes::new(text.into_bytes());
        Ok(Files::from([
            (ISTIO.certificate.to_owned(), text(self.signing.to_pem())),
            (ISTIO.key.to_owned(), crate::store::Bytes::new(self.key.to_pem()?.expose().as_bytes().to_vec())),
            (ISTIO.chain.to_owned(), text(certificate::to_pem(&self.intermediates))),
            (ISTIO.roots.to_owned(), text(self.roots_pem())),
        ]))
    }

    pub fn roots_pem(&self) -> String {
        certificate::to_pem(&self.roots)
    }

    /// When the last root ends.
    pub fn roots_end(&self) -> SystemTime {
        self.roots.iter().map(|root| root.facts.not_after).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// When the first certificate of the chain ends: nothing that is signed may live longer.
    pub fn chain_end(&self) -> SystemTime {
        let ends = self.intermediates.iter().map(|certificate| certificate.facts.not_after);
        ends.chain([self.signing.facts.not_after]).min().unwrap_or(self.signing.facts.not_after)
    }

    /// Whether everything in the mesh survives the step from `self` to `next` (F29): who trusts the old roots must be able
    /// to verify what the next one signs, and one set of roots must hold the other.
    pub fn may_become(&self, next: &Self) -> Result<(), BundleError> {
        let set =
            |bundle: &Self| bundle.roots.iter().map(|root| root.facts.public_key_info.clone()).collect::<BTreeSet<_>>();
        let (old, new) = (set(self), set(next));
        let top = next.intermediates.last().unwrap_or(&next.signing);
        let trusted = self.roots.iter().any(|root| top.is_signed_by(root));
        if trusted && (old.is_subset(&new) || new.is_subset(&old)) { Ok(()) } else { Err(BundleError::Unrelated) }
    }
}

/// From the signing certificate up, each signed by the next, the last by a root.
fn path(signing: &Certificate, pool: &[Certificate], roots: &[Certificate]) -> Result<Vec<Certificate>, BundleError> {
    let mut path = vec![signing.clone()];
    while path.len() <= CHAIN_MAX {
        let top = &path[path.len() - 1];
        if roots.iter().any(|root| top.is_signed_by(root)) {
            return Ok(path);
        }
        let next = pool.iter().find(|other| !path.contains(other) && top.is_signed_by(other));
        path.push(next.ok_or(BundleError::NoRoot)?.clone());
    }
    Err(BundleError::NoRoot)
}

/// `below` CAs stand between this one and the leaves.
fn check_authority(certificate: &Certificate, below: usize) -> Result<(), BundleError> {
    if !is_authority(certificate) {
        return Err(BundleError::NotAuthority);
    }
    if let Authority::Yes { path_length_max: Some(most) } = certificate.facts.authority
        && usize::try_from(most).is_ok_and(|most| below > most)
    {
        return Err(BundleError::PathLength);
    }
    // A root's own signature proves nothing, whatever it was made with.
    let self_issued = certificate.facts.subject == certificate.facts.issuer;
    if !certificate.facts.public_key.strong() || (certificate.facts.sha1 && !self_issued) {
        return Err(BundleError::Weak);
    }
    Ok(())
}

fn is_authority(certificate: &Certificate) -> bool {
    let facts = &certificate.facts;
    matches!(facts.authority, Authority::Yes { .. }) && facts.key_cert_sign.unwrap_or(true)
}

fn distinct(certificates: impl Iterator<Item = Certificate>) -> Vec<Certificate> {
    let mut seen = Vec::new();
    for certificate in certificates {
        if !seen.contains(&certificate) {
            seen.push(certificate);
        }
    }
    seen
}

struct Validity {
    ttl: Duration,
    now: SystemTime,
}

fn root_certificate(
    name: &[u8],
    key_id: &[u8],
    key: &PrivateKey,
    validity: Validity,
) -> Result<Certificate, BundleError> {
    let now = whole_seconds(validity.now);
    let template = Template {
        serial: serial()?,
        issuer: name,
        not_before: now - ROOT_BACKDATE,
        not_after: now + validity.ttl,
        public_key_info: &key.public_key_info(),
        purpose: Purpose::Root { key_id },
    };
    let der = template::certificate(&template, key).map_err(|_| BundleError::Write)?;
    Certificate::from_der(der.into()).ok_or(BundleError::Write)
}

/// The first 160 bits of the key's SHA-256 (RFC 7093, method 1).
fn key_id(key: &PrivateKey) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(rcgen::PublicKeyData::der_bytes(key))[..20].to_vec()
}

/// A random, positive serial.
pub(crate) fn serial() -> Result<[u8; template::SERIAL_BYTES], KeyError> {
    let mut serial = [0; template::SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| KeyError::Library)?;
    Ok(serial)
}

/// Why an agent does not use what a CA sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("the answer holds no certificate that can be read")]
    Empty,
    #[error("the certificate is for another key")]
    Key,
    #[error("the certificate is for another identity")]
    Identity,
    #[error(
        "the certificate is valid from {from_s} to {to_s}, here it is {now_s} (seconds since 1970); is a clock wrong?"
    )]
    Time { from_s: i64, to_s: i64, now_s: i64 },
    #[error("the chain does not lead to a root we trust")]
    Root,
}

/// A chain that fits, split as SDS needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Leaf and intermediates, in PEM.
    pub certificates_pem: String,
    /// The roots that came along, in PEM.
    pub roots_pem: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Checks an answer of the CA before anything uses it: right key, right identity, valid now, leading to one of `roots`;
/// with empty `roots`, to the last certificate of the answer itself.
pub fn check_chain(
    answer: &[String],
    key: &PrivateKey,
    identity: &Identity,
    roots_pem: &str,
    now: SystemTime,
) -> Result<Chain, ChainError> {
    let all: Vec<Certificate> =
        answer.iter().flat_map(|pem| Certificate::readable_from_pem(pem.as_bytes()).0).collect();
    let (leaf, rest) = all.split_first().ok_or(ChainError::Empty)?;
    if leaf.facts.public_key_info != key.public_key_info() {
        return Err(ChainError::Key);
    }
    if leaf.facts.uris != [identity.to_string()] {
        return Err(ChainError::Identity);
    }
    if !leaf.valid_at(now) {
        let (from_s, to_s) = (unix_s(leaf.facts.not_before), unix_s(leaf.facts.not_after));
        return Err(ChainError::Time { from_s, to_s, now_s: unix_s(now) });
    }
    let is_root = |certificate: &&Certificate| certificate.is_self_signed();
    let sent: Vec<Certificate> = rest.iter().filter(is_root).cloned().collect();
    let trusted =
        if roots_pem.is_empty() { sent.clone() } else { Certificate::readable_from_pem(roots_pem.as_bytes()).0 };
    let path = path(leaf, rest, &trusted).map_err(|_| ChainError::Root)?;
    Ok(Chain {
        certificates_pem: certificate::to_pem(&path),
        roots_pem: certificate::to_pem(&sent),
        not_before: leaf.facts.not_before,
        not_after: leaf.facts.not_after,
    })
}

/// Names of files, or of a Secret's keys.
#[derive(Debug)]
struct Format {
    certificate: &'static str,
    key: &'static str,
    chain: &'static str,
    roots: &'static str,
}

impl Format {
    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        [self.certificate, self.key].into_iter()
    }
}

const ISTIO: Format =
    Format { certificate: "ca-cert.pem", key: "ca-key.pem", chain: "cert-chain.pem", roots: "root-cert.pem" };
/// As cert-manager writes them: the chain stands behind the certificate in one file.
const KUBERNETES: Format = Format { certificate: "tls.crt", key: "tls.key", chain: "", roots: "ca.crt" };
const FORMATS: [Format; 2] = [ISTIO, KUBERNETES];
/// Certificates between a leaf and its root; more is a loop or a mistake.
const CHAIN_MAX: usize = 8;
/// A new root is valid from an hour ago: clocks differ (F26).
const ROOT_BACKDATE: Duration = Duration::from_secs(3600);
/// Every file a `cacerts` folder may hold that we read.
pub const CACERTS_FILES: [&str; 7] =
    ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "tls.crt", "tls.key", "ca.crt"];

#[cfg(test)]
mod tests;
