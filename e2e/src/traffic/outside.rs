//! What the mesh does not know: an echo on a port of 127.0.0.1, in plain text and behind TLS; and a filter's module.

use anyhow::{Context, Result};
use controller::service::{Identity, Service, Speaks};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Whom the server's certificate is for.
const NAMES: [&str; 2] = ["tls.outside.test", "named.outside.test"];

/// It ends when this is dropped.
pub(super) struct Outside {
    port: u16,
    tls_port: u16,
    /// Of who signed the server's certificate.
    root: PathBuf,
    module: PathBuf,
    _plain: Service,
    _tls: JoinSet<()>,
}

impl Outside {
    /// The root's certificate and the module are written into the folder.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        let identity = Identity {
            pod: "outside".to_owned(),
            namespace: String::new(),
            labels: BTreeMap::new(),
            image: "example/echo".to_owned(),
            environment: BTreeMap::new(),
            proxy: None,
        };
        let plain = Service::start(identity, &[((Ipv4Addr::LOCALHOST, 0).into(), Speaks::Http)]).await?;
        let address = plain.addresses[0];
        let (config, certificate) = server_config()?;
        let root = folder.join("outside.pem");
        std::fs::write(&root, certificate)?;
        let module = folder.join("module.wasm");
        std::fs::write(&module, wat::parse_str(include_str!("module.wat"))?)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let tls_port = listener.local_addr()?.port();
        let mut tls = JoinSet::new();
        tls.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), address));
        Ok(Self { port: address.port(), tls_port, root, module, _plain: plain, _tls: tls })
    }

    /// Puts ports and paths in the places that a file names.
    pub(super) fn fill_in(&self, text: &str) -> String {
        text.replace("$OUTSIDE_PORT", &self.port.to_string())
            .replace("$OUTSIDE_TLS_PORT", &self.tls_port.to_string())
            .replace("$OUTSIDE_ROOT", &self.root.to_string_lossy())
            .replace("$MODULE", &self.module.to_string_lossy())
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, echo: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that does not trust the certificate goes away: that is what some cases are about.
            let (Ok(mut tls), Ok(mut plain)) = (acceptor.accept(tcp).await, TcpStream::connect(echo).await) else {
                return;
            };
            tokio::io::copy_bidirectional(&mut tls, &mut plain).await.ok();
        });
    }
}

/// With a certificate that a root of its own has signed, which comes along.
fn server_config() -> Result<(ServerConfig, String)> {
    let mut params = CertificateParams::default();
    // Equal names would make the server's certificate look as if it had signed itself.
    params.distinguished_name.push(DnType::CommonName, "outside root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate()?;
    let root = params.self_signed(&root_key)?;
    let issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(NAMES.map(str::to_owned))?.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private)
        .context("the server's certificate")?;
    Ok((config, root.pem()))
}
