//! The client's end: gRPC channels over TLS whose settings are asked for anew with every connection, so that renewed
//! roots and certificates are used without restarts.
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use super::provider;
use crate::key::{KeyError, KeyPem, PrivateKey};

/// Why a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("none of the roots can be read")]
    Roots,
    #[error("the client certificate cannot be read")]
    Certificate,
    #[error("the client key: {0}")]
    Key(#[from] KeyError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the server's name: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("the server's address: {0}")]
    Address(#[from] http::uri::InvalidUri),
}

/// Called for every connection.
pub type ConfigSource = Arc<dyn Fn() -> Result<Arc<ClientConfig>, ClientError> + Send + Sync>;

/// Verifies the server against `roots_pem`, and shows `certificate` (a chain in PEM, and its key) if there is one.
pub fn client_config(roots_pem: &str, certificate: Option<(&str, &KeyPem)>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(roots_pem.as_bytes()).flatten());
    if good == 0 {
        return Err(ClientError::Roots);
    }
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots);
    let mut config = match certificate {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
            let chain = chain.map_err(|_| ClientError::Certificate)?;
            let key = PrivateKey::from_pem(key.expose().as_bytes())?.for_rustls()?;
            let key = rustls::sign::CertifiedKey::new(chain, key);
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A channel to `address` (`host:port`) that expects the server to be `server_name`; connects when first used, and again
/// when a connection is lost.
pub fn channel(address: &str, server_name: &str, config: ConfigSource) -> Result<Channel, ClientError> {
    let server_name = ServerName::try_from(server_name.to_owned())?;
    let origin: Uri = format!("https://{}", server_name.to_str()).parse()?;
    // tonic wants its own TLS for "https"; ours is in the connector.
    let endpoint: Endpoint = format!("http://{address}").parse::<Uri>()?.into();
    let endpoint = endpoint
        .origin(origin)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    Ok(endpoint.connect_with_connector_lazy(Connector { address: address.into(), server_name, config }))
}

#[derive(Clone)]
struct Connector {
    address: Arc<str>,
    server_name: ServerName<'static>,
    config: ConfigSource,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, server_name, config } = self.clone();
        Box::pin(async move {
            let config = config().map_err(io::Error::other)?;
            let stream = TcpStream::connect(&*address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(TlsConnector::from(config).connect(server_name, stream).await?))
        })
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As Istio's agent: the other end is asked every 30 s, and has 10 s to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
