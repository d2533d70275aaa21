//! Certificate signing requests: made by agents, read by the CA.
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use crate::certificate::{PublicKeyKind, uris};
use crate::key::{KeyError, KeyKind, KeyPem, PrivateKey};
use crate::spiffe::Identity;

/// What a request may decide: its key. The names it asks for are compared with the caller's and then forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    /// SubjectPublicKeyInfo, in DER.
    pub public_key_info: Vec<u8>,
    pub public_key: PublicKeyKind,
    /// Alternative names that are URIs, and how many there are of all kinds.
    pub uris: Vec<String>,
    pub names: usize,
    pub common_name: Option<String>,
}

/// Why a request is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("longer than {CSR_BYTES_MAX} bytes")]
    Large,
    #[error("not a certificate signing request in PEM form")]
    Malformed,
    #[error("the signature does not fit the key, or its algorithm is not supported")]
    Signature,
    #[error("the key is too weak or of a kind that is not supported (RSA from 2048 bits, P-256, P-384)")]
    WeakKey,
    #[error("it asks for a CA certificate")]
    Authority,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the request could not be written")]
    Write,
}

/// A new key, and a request for a certificate of it for `identity`. The key is for the caller alone.
pub fn request(identity: &Identity, kind: KeyKind) -> Result<(KeyPem, String), CsrError> {
    let key = PrivateKey::generate(kind)?;
    let csr = request_for(identity, &key)?;
    Ok((key.to_pem()?, csr))
}

/// A request for a key that is there already.
pub fn request_for(identity: &Identity, key: &PrivateKey) -> Result<String, CsrError> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let uri = identity.to_string().try_into().map_err(|_| CsrError::Write)?;
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let csr = params.serialize_request(key).map_err(|_| CsrError::Write)?;
    csr.pem().map_err(|_| CsrError::Write)
}

impl Csr {
    /// Reads and checks a request: size, form, proof of possession (S12), strength of the key.
    pub fn read(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > CSR_BYTES_MAX {
            return Err(CsrError::Large);
        }
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| CsrError::Malformed)?;
        if !LABELS.contains(&block.label.as_str()) {
            return Err(CsrError::Malformed);
        }
        let (rest, csr) = X509CertificationRequest::from_der(&block.contents).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let info = &csr.certification_request_info;
        let public_key = PublicKeyKind::of(&info.subject_pki);
        if !public_key.strong() {
            return Err(CsrError::WeakKey);
        }
        csr.verify_signature().map_err(|_| CsrError::Signature)?;
        let mut read = Self {
            public_key_info: info.subject_pki.raw.to_vec(),
            public_key,
            uris: Vec::new(),
            names: 0,
            common_name: info
                .subject
                .iter_common_name()
                .next()
                .map(|name| name.as_str().unwrap_or_default().to_owned()),
        };
        for extension in csr.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    read.uris.extend(uris(&names.general_names));
                    read.names += names.general_names.len();
                }
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => return Err(CsrError::Authority),
                ParsedExtension::ParseError { .. } => return Err(CsrError::Malformed),
                // Everything else is ours to say.
                _ => {}
            }
        }
        Ok(read)
    }
}

/// S12. An RSA-8192 request is 3 KiB.
pub const CSR_BYTES_MAX: usize = 16 * 1024;
const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
