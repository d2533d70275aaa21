//! TLS of the control plane: istiod's own certificate from the CA, renewed by itself; connections accepted with it.
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::authenticate::PeerCertificates;
use crate::authority::{Authority, SignError};
use crate::certificate::{Certificate, PublicKeyKind};
use crate::clock::Clock;
use crate::key::{KeyError, KeyKind, PrivateKey};

mod accept;
mod connect;

pub use accept::{TlsConnection, incoming, incoming_http, serve_http};
pub use connect::{ClientError, ConfigSource, channel, client_config};

/// What is known of a request's connection; in the request's extensions.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    pub remote: Option<SocketAddr>,
    pub peer: Option<Arc<PeerCertificates>>,
}

/// The verified certificates of a request's connection, from its extensions.
pub fn peer(extensions: &http::Extensions) -> Option<Arc<PeerCertificates>> {
    let direct = || extensions.get::<Arc<PeerCertificates>>().cloned();
    extensions.get::<ConnectionInfo>().and_then(|info| info.peer.clone()).or_else(direct)
}

/// The other end's address, from a request's extensions.
pub fn remote(extensions: &http::Extensions) -> Option<SocketAddr> {
    let plain = || extensions.get::<tonic::transport::server::TcpConnectInfo>().and_then(|info| info.remote_addr());
    extensions.get::<ConnectionInfo>().and_then(|info| info.remote).or_else(plain)
}

/// Whether clients may show a certificate. One that is shown must verify against the mesh's roots of the moment, or the
/// handshake fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientCerts {
    None,
    Optional,
}

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocols {
    /// h2 alone.
    Grpc,
    /// h2 and http/1.1.
    Http,
}

/// What istiod's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingOptions {
    pub names: Vec<String>,
    pub ttl: Duration,
    pub key: KeyKind,
}

impl ServingOptions {
    pub fn new(names: Vec<String>) -> Self {
        Self { names, ttl: Duration::from_secs(24 * 3600), key: KeyKind::P256 }
    }
}

/// The names istiod is reached by: `istiod`, its revision's Service and the old `istio-pilot`, each with and without
/// namespace, and `custom` ones (`ISTIOD_CUSTOM_HOST`).
pub fn istiod_names(namespace: &str, revision: &str, custom: &[String]) -> Vec<String> {
    let revisioned = (!revision.is_empty() && revision != "default").then(|| format!("istiod-{revision}"));
    let services =
        ["istiod".to_owned(), "istio-pilot".to_owned(), "istiod-remote".to_owned()].into_iter().chain(revisioned);
    let forms = |service: String| {
        [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service,
        ]
    };
    let mut names: Vec<String> = Vec::new();
    for name in services.flat_map(forms).chain(custom.iter().cloned()).filter(|name| !name.is_empty()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Why there is no certificate to serve with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServingError {
    #[error("signing the serving certificate: {0}")]
    Sign(#[from] SignError),
    #[error("the serving certificate's key: {0}")]
    Key(#[from] KeyError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the roots: {0}")]
    Roots(#[from] rustls::server::VerifierBuilderError),
}

/// istiod's certificate. It is looked at for every connection, and issued anew when the authority has changed or half of
/// its life is over: there is no task that could be forgotten. Cheap to clone.
#[derive(Clone)]
pub struct ServingCertificate(Arc<Serving>);

struct Serving {
    authority: watch::Receiver<Arc<Authority>>,
    options: ServingOptions,
    clock: Clock,
    current: Mutex<Current>,
}

struct Current {
    authority: Arc<Authority>,
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
    /// Emptied with every new certificate or root: sessions of old settings cannot be resumed (S32).
    configs: BTreeMap<(ClientCerts, Protocols), Arc<ServerConfig>>,
}

impl ServingCertificate {
    pub fn new(
        authority: watch::Receiver<Arc<Authority>>,
        options: ServingOptions,
        clock: Clock,
    ) -> Result<Self, ServingError> {
        let first = authority.borrow().clone();
        let (key, renew_at) = certified(&first, &options, clock.now())?;
        let current = Mutex::new(Current { authority: first, key, renew_at, configs: BTreeMap::new() });
        Ok(Self(Arc::new(Serving { authority, options, clock, current })))
    }

    /// The settings for the next connection.
    pub fn server_config(&self, clients: ClientCerts, protocols: Protocols) -> Result<Arc<ServerConfig>, ServingError> {
        let mut current = self.fresh();
        if let Some(config) = current.configs.get(&(clients, protocols)) {
            return Ok(config.clone());
        }
        let config = Arc::new(server_config(&current, clients, protocols)?);
        current.configs.insert((clients, protocols), config.clone());
        Ok(config)
    }

    /// The certificate in use, leaf first.
    pub fn certificate(&self) -> Arc<CertifiedKey> {
        self.fresh().key.clone()
    }

    fn fresh(&self) -> MutexGuard<'_, Current> {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        let authority = self.0.authority.borrow().clone();
        let now = self.0.clock.now();
        if Arc::ptr_eq(&authority, &current.authority) && now < current.renew_at {
            return current;
        }
        match certified(&authority, &self.0.options, now) {
            Ok((key, renew_at)) => {
                *current = Current { authority, key, renew_at, configs: BTreeMap::new() };
            }
            Err(error) => {
                tracing::error!(target: "ca::tls", %error, "the serving certificate stays as it is");
                current.authority = authority;
                current.renew_at = now + RETRY;
                current.configs.clear();
            }
        }
        current
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServingCertificate").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// A new key, its certificate, and when half of that is over.
fn certified(
    authority: &Authority,
    options: &ServingOptions,
    now: SystemTime,
) -> Result<(Arc<CertifiedKey>, SystemTime), ServingError> {
    let key = PrivateKey::generate(options.key)?;
    let kind = if key.is_rsa() { PublicKeyKind::Rsa { bits: 2048 } } else { PublicKeyKind::P256 };
    let issued = authority.sign_for_names(&options.names, &key.public_key_info(), kind, options.ttl, now)?;
    let leaf = issued.chain.first().map(|pem| Certificate::readable_from_pem(pem.as_bytes()).0).unwrap_or_default();
    let chain =
        leaf.iter().chain(&authority.bundle().intermediates).map(|certificate| certificate.der.clone()).collect();
    let left = issued.not_after.duration_since(now).unwrap_or_default();
    Ok((Arc::new(CertifiedKey::new(chain, key.for_rustls()?)), now + left / 2))
}

fn server_config(current: &Current, clients: ClientCerts, protocols: Protocols) -> Result<ServerConfig, ServingError> {
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        ClientCerts::None => Arc::new(NoClientAuth),
        ClientCerts::Optional => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(current.authority.roots().iter().map(|root| root.der.clone()));
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated().build()?
        }
    };
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = config.with_client_cert_verifier(verifier);
    let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(current.key.clone())));
    config.alpn_protocols = match protocols {
        Protocols::Grpc => vec![b"h2".to_vec()],
        Protocols::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// After a failed renewal.
const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
