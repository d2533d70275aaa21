//! Accepting connections: handshakes side by side, but not too many and not for ever (S49).
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream, StreamExt as _};
use futures::{FutureExt as _, stream};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ClientCerts, ConnectionInfo, Protocols, ServingCertificate};
use crate::authenticate::PeerCertificates;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    info: ConnectionInfo,
}

impl TlsConnection {
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

/// Connections for tonic's `serve_with_incoming`: h2 over TLS from 1.2 up. Failed handshakes are logged and left out.
pub fn incoming(
    listener: TcpListener,
    serving: ServingCertificate,
    clients: ClientCerts,
) -> impl Stream<Item = io::Result<TlsConnection>> + Send {
    accept(listener, serving, clients, Protocols::Grpc)
}

/// The same for [`serve_http`]: h2 and http/1.1.
pub fn incoming_http(
    listener: TcpListener,
    serving: ServingCertificate,
    clients: ClientCerts,
) -> impl Stream<Item = io::Result<TlsConnection>> + Send {
    accept(listener, serving, clients, Protocols::Http)
}

struct Acceptor {
    listener: TcpListener,
    serving: ServingCertificate,
    clients: ClientCerts,
    protocols: Protocols,
    handshakes: FuturesUnordered<BoxFuture<'static, io::Result<TlsConnection>>>,
}

fn accept(
    listener: TcpListener,
    serving: ServingCertificate,
    clients: ClientCerts,
    protocols: Protocols,
) -> impl Stream<Item = io::Result<TlsConnection>> + Send {
    let acceptor = Acceptor { listener, serving, clients, protocols, handshakes: FuturesUnordered::new() };
    stream::unfold(acceptor, |mut acceptor| async move {
        let connection = acceptor.next().await;
        Some((Ok(connection), acceptor))
    })
}

impl Acceptor {
    async fn next(&mut self) -> TlsConnection {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.next(), if !self.handshakes.is_empty() => match done {
                    Ok(connection) => return connection,
                    Err(error) => tracing::debug!(target: "ca::tls", %error, "handshake failed"),
                },
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, remote)) => self.begin(stream, remote),
                    Err(error) => {
                        // Most often no file descriptor is left, which an immediate retry would not change.
                        tracing::warn!(target: "ca::tls", %error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn begin(&self, stream: TcpStream, remote: SocketAddr) {
        let config = match self.serving.server_config(self.clients, self.protocols) {
            Ok(config) => config,
            Err(error) => return tracing::error!(target: "ca::tls", %error, "no settings to accept with"),
        };
        let handshake = async move {
            stream.set_nodelay(true)?;
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let chain = stream.get_ref().1.peer_certificates();
            let peer = chain.map(|chain| PeerCertificates {
                chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            });
            let info = ConnectionInfo { remote: Some(remote), peer: peer.map(Arc::new) };
            Ok(TlsConnection { stream, info })
        };
        self.handshakes.push(handshake.boxed());
    }
}

/// Serves an axum `Router`, or any such service, over HTTP/1.1 and HTTP/2 until `shutdown`; then lets what is under way
/// end. Requests carry [`ConnectionInfo`] in their extensions.
pub async fn serve_http<S, B>(
    connections: impl Stream<Item = io::Result<TlsConnection>>,
    service: S,
    shutdown: impl Future<Output = ()> + Send + 'static,
) where
    S: tower_service::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let shutdown = shutdown.boxed().shared();
    let mut connections = pin!(connections);
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = shutdown.clone() => break,
            Some(()) = open.next(), if !open.is_empty() => {}
            connection = connections.next(), if open.len() < CONNECTIONS_MAX => match connection {
                Some(Ok(connection)) => open.push(serve_one(connection, service.clone(), shutdown.clone())),
                Some(Err(error)) => tracing::debug!(target: "ca::tls", %error, "a connection could not be accepted"),
                None => break,
            },
        }
    }
    while open.next().await.is_some() {}
}

async fn serve_one<S, B>(connection: TlsConnection, service: S, shutdown: impl Future<Output = ()>)
where
    S: tower_service::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let info = connection.info.clone();
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(info.clone());
        service.clone().call(request)
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).keep_alive_interval(KEEP_ALIVE);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = shutdown => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(target: "ca::tls", %error, "a connection ended badly");
    }
}

impl tonic::transport::server::Connected for TlsConnection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Handshakes under way at once; the next connection waits in the kernel's queue.
const HANDSHAKES_MAX: usize = 1024;
/// S49: who takes longer is not a client of ours.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Open HTTP connections; API servers keep a handful each.
const CONNECTIONS_MAX: usize = 1024;
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const STREAMS_MAX: u32 = 250;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
