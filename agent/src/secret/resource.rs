//! One secret, from its name.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use bytes::BytesMut;
use ca::key::KeyPem;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

use super::{Resource, Source, TYPE_URL};
use crate::certificate::{Workload, files};

const WORKLOAD: &str = "default";
const ROOTS: &str = "ROOTCA";
const FILE_CERTIFICATE: &str = "file-cert:";
const FILE_ROOTS: &str = "file-root:";
const SYSTEM: &str = "system";
const REVOKED: &str = "./var/run/secrets/istio/crl/ca-crl.pem";

pub(super) fn resource(source: &Source, workload: Option<&Workload>, trust: &[String], name: &str) -> Option<Resource> {
    let kind = match name {
        WORKLOAD => {
            let workload = workload?;
            certificate(&workload.chain, &workload.key)
        }
        ROOTS => {
            let workload = workload?;
            let all = std::iter::once(workload.roots.as_str()).chain(trust.iter().map(String::as_str));
            let revoked = files::content(&source.directory.join(REVOKED)).ok();
            validation(&union(all), revoked.filter(|text| text.contains("-----BEGIN X509 CRL-----")))
        }
        _ => match (name.strip_prefix(FILE_CERTIFICATE), name.strip_prefix(FILE_ROOTS)) {
            (Some(paths), _) => from_certificate_file(&source.directory, paths)?,
            (None, Some(SYSTEM)) => validation(&read(Path::new(SYSTEM_ROOTS), "system")?, None),
            (None, Some(path)) => roots_in_file(&source.directory.join(path))?,
            (None, None) => return None,
        },
    };
    let secret = Secret { name: name.to_owned(), r#type: Some(kind) };
    let mut body = BytesMut::with_capacity(secret.encoded_len());
    secret.encode(&mut body).ok()?;
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let body = Any { type_url: TYPE_URL.to_owned(), value: body.to_vec() };
    Some(Resource { version: hasher.finish(), body })
}

const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `CERT~KEY`. Only what is a certificate and its key leaves a file.
fn from_certificate_file(directory: &Path, paths: &str) -> Option<secret::Type> {
    let (chain_path, key_path) = paths.split_once('~')?;
    let chain = read(&directory.join(chain_path), chain_path)?;
    let key = KeyPem::new(read(&directory.join(key_path), key_path)?);
    match Workload::from_files(&chain, key, &chain) {
        Ok(workload) => Some(certificate(&workload.chain, &workload.key)),
        Err(error) => {
            tracing::warn!(chain_path, %error, "a certificate in files is not served");
            None
        }
    }
}

fn roots_in_file(path: &Path) -> Option<secret::Type> {
    let text = read(path, &path.to_string_lossy())?;
    let (good, bad) = ca::certificate::Certificate::readable_from_pem(text.as_bytes());
    if good.is_empty() {
        tracing::warn!(path = %path.display(), bad, "a file of roots is not served: it holds no certificate");
        return None;
    }
    Some(validation(&ca::certificate::to_pem(&good), None))
}

fn read(path: &Path, name: &str) -> Option<String> {
    files::content(path).inspect_err(|error| tracing::warn!(name, %error, "a file Envoy asked for is not served")).ok()
}

fn certificate(chain: &str, key: &KeyPem) -> secret::Type {
    secret::Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key.expose())),
        ..TlsCertificate::default()
    })
}

/// Envoy wants a list for each CA of a chain unless only the leaf is looked up.
fn validation(roots: &str, revoked: Option<String>) -> secret::Type {
    secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(inline(roots)),
        only_verify_leaf_cert_crl: revoked.is_some(),
        crl: revoked.as_deref().map(inline),
        ..CertificateValidationContext::default()
    })
}

fn inline(text: &str) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())), ..DataSource::default() }
}

/// Each certificate once; what cannot be read is left out, or Envoy would refuse all of them.
fn union<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for text in texts {
        let (good, bad) = ca::certificate::Certificate::readable_from_pem(text.as_bytes());
        if bad > 0 {
            tracing::warn!(bad, "root certificates that cannot be read are left out");
        }
        all.extend(good.into_iter().filter(|certificate| seen.insert(certificate.der.to_vec())));
    }
    ca::certificate::to_pem(&all)
}
