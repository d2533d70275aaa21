//! Reading certificates: PEM to DER, and the few facts of each that the rest asks for.
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::clock::from_unix_s;

/// A certificate that could be read, with its DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub der: CertificateDer<'static>,
    pub facts: Facts,
}

/// What certificates say, as far as we ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name fields as they stand, in DER: names are compared byte by byte.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// SubjectPublicKeyInfo, in DER.
    pub public_key_info: Vec<u8>,
    pub public_key: PublicKeyKind,
    pub authority: Authority,
    /// What the key may be used for; `None` without that extension, which allows everything.
    pub key_cert_sign: Option<bool>,
    pub server_auth: bool,
    pub client_auth: bool,
    pub uris: Vec<String>,
    pub dns_names: Vec<String>,
    /// Subject alternative names of all kinds.
    pub names: usize,
    pub sha1: bool,
    pub serial: Vec<u8>,
    /// The subject key identifier.
    pub key_id: Option<Vec<u8>>,
}

/// The basic constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    No,
    Yes { path_length_max: Option<u32> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyKind {
    Rsa { bits: usize },
    P256,
    P384,
    Other,
}

impl PublicKeyKind {
    /// RSA from 2048 bits, P-256, P-384: what both rustls and Envoy verify.
    pub fn strong(self) -> bool {
        match self {
            Self::Rsa { bits } => (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits),
            Self::P256 | Self::P384 => true,
            Self::Other => false,
        }
    }

    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let curve = || info.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Self::Rsa { bits: key.key_size() },
            Ok(PublicKey::EC(_)) => match curve().as_deref() {
                Some("1.2.840.10045.3.1.7") => Self::P256,
                Some("1.3.132.0.34") => Self::P384,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// A text or blob that is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("no certificate in PEM form")]
    None,
    #[error("certificate {0} cannot be read")]
    Malformed(usize),
}

impl Certificate {
    pub fn from_der(der: CertificateDer<'static>) -> Option<Self> {
        let facts = Facts::of(&der)?;
        Some(Self { der, facts })
    }

    /// All certificates of a PEM text, which must hold at least one; every one must be readable.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, ReadError> {
        let mut all = Vec::new();
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let der = der.map_err(|_| ReadError::Malformed(index))?;
            all.push(Self::from_der(der).ok_or(ReadError::Malformed(index))?);
        }
        if all.is_empty() { Err(ReadError::None) } else { Ok(all) }
    }

    /// The certificates of a PEM text that can be read, and how many cannot.
    pub fn readable_from_pem(pem: &[u8]) -> (Vec<Self>, usize) {
        let mut bad = 0;
        let mut all = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            match der.ok().and_then(Self::from_der) {
                Some(certificate) => all.push(certificate),
                None => bad += 1,
            }
        }
        (all, bad)
    }

    pub fn to_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub fn is_self_signed(&self) -> bool {
        self.facts.subject == self.facts.issuer && self.is_signed_by(self)
    }

    /// Name and signature fit; nothing else is looked at.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        if self.facts.issuer != issuer.facts.subject {
            return false;
        }
        let (Ok((_, own)), Ok((_, info))) =
            (X509Certificate::from_der(&self.der), SubjectPublicKeyInfo::from_der(&issuer.facts.public_key_info))
        else {
            return false;
        };
        own.verify_signature(Some(&info)).is_ok()
    }

    pub fn valid_at(&self, now: SystemTime) -> bool {
        self.facts.not_before <= now && now <= self.facts.not_after
    }
}

impl Facts {
    fn of(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        // Each of these is an error when the extension stands twice.
        let constraints = certificate.basic_constraints().ok()?;
        let usage = certificate.key_usage().ok()?;
        let purposes = certificate.extended_key_usage().ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        Some(Self {
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            not_before: from_unix_s(certificate.validity().not_before.timestamp()),
            not_after: from_unix_s(certificate.validity().not_after.timestamp()),
            public_key_info: certificate.public_key().raw.to_vec(),
            public_key: PublicKeyKind::of(certificate.public_key()),
            authority: match constraints {
                Some(found) if found.value.ca => Authority::Yes { path_length_max: found.value.path_len_constraint },
                _ => Authority::No,
            },
            key_cert_sign: usage.map(|usage| usage.value.key_cert_sign()),
            server_auth: purposes.as_ref().is_some_and(|purposes| purposes.value.server_auth),
            client_auth: purposes.as_ref().is_some_and(|purposes| purposes.value.client_auth),
            uris: uris(names),
            dns_names: names.iter().filter_map(dns_name).collect(),
            names: names.len(),
            sha1: SHA1_SIGNATURES.contains(&algorithm.as_str()),
            serial: certificate.raw_serial().to_vec(),
            key_id: certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            }),
        })
    }
}

pub(crate) fn uris(names: &[GeneralName<'_>]) -> Vec<String> {
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.iter().filter_map(uri).collect()
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// Many certificates as one PEM text.
pub fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> String {
    certificates.into_iter().map(Certificate::to_pem).collect()
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

pub const RSA_BITS_MIN: usize = 2048;
/// Above this verification is so slow that a request becomes an attack.
pub const RSA_BITS_MAX: usize = 8192;
/// sha1WithRSAEncryption (two of its ids) and ecdsa-with-SHA1.
const SHA1_SIGNATURES: [&str; 3] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"];
