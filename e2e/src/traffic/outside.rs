//! What the mesh does not know: an echo on a port of 127.0.0.1, in plain text, behind TLS, and behind a forward proxy;
//! and a filter's module.

use super::keys::Keys;
use anyhow::Result;
use controller::service::{Identity, Service, Speaks};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The forward proxy reaches the echo under this name, and nothing else.
const BEHIND_PROXY: &str = "CONNECT behind.outside.test:443 HTTP/1.1\r\n";

/// It ends when this is dropped.
pub(super) struct Outside {
    port: u16,
    tls_port: u16,
    proxy_port: u16,
    files: BTreeMap<&'static str, String>,
    module: PathBuf,
    _plain: Service,
    _tasks: JoinSet<()>,
}

impl Outside {
    /// The keys' files and the module are written into the folder.
    pub(super) async fn start(folder: &Path, keys: &Keys) -> Result<Self> {
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
        let module = folder.join("module.wasm");
        std::fs::write(&module, wat::parse_str(include_str!("module.wat"))?)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let tls_port = listener.local_addr()?.port();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(Arc::new(keys.server()?)), address));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let proxy_port = listener.local_addr()?.port();
        tasks.spawn(forward(listener, address));
        Ok(Self {
            port: address.port(),
            tls_port,
            proxy_port,
            module,
            files: keys.write(folder)?,
            _plain: plain,
            _tasks: tasks,
        })
    }

    /// Puts ports and paths in the places that a file names.
    pub(super) fn fill_in(&self, text: &str) -> String {
        let ports = text
            .replace("$OUTSIDE_PORT", &self.port.to_string())
            .replace("$OUTSIDE_TLS_PORT", &self.tls_port.to_string())
            .replace("$OUTSIDE_PROXY_PORT", &self.proxy_port.to_string())
            .replace("$MODULE", &self.module.to_string_lossy());
        // Names that begin like others come first.
        self.files.iter().rev().fold(ports, |text, (name, value)| text.replace(&format!("${name}"), value))
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

/// A forward proxy: CONNECT to one name, 403 for all else.
async fn forward(listener: TcpListener, echo: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
                let Ok(byte) = tcp.read_u8().await else { return };
                head.push(byte);
            }
            if !head.starts_with(BEHIND_PROXY.as_bytes()) {
                tcp.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.ok();
                return;
            }
            let Ok(mut plain) = TcpStream::connect(echo).await else { return };
            if tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
                tokio::io::copy_bidirectional(&mut tcp, &mut plain).await.ok();
            }
        });
    }
}
