//! The smallest HTTP client that fits: one request, a time limit, a size limit, a source address. Used for Envoy, for
//! the application's metrics and for its probes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: http::StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, never larger than the limit.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Connecting failed.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// Not HTTP, or cut off.
    #[error("{0}")]
    Http(String),
    /// Another status than 200 where only that counts.
    #[error("status {0}")]
    Status(http::StatusCode),
}

/// `GET http://ADDRESS/PATH`, for an answer of 200.
///
/// # Errors
/// Anything but a whole answer of 200 in time.
pub async fn get(address: SocketAddr, path: &str, timeout: Duration, bytes_max: usize) -> Result<Answer, ClientError> {
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Empty::new())
        .map_err(|error| ClientError::Http(error.to_string()))?;
    let answer = send(request, Way { address, source: None, tls: None }, timeout, bytes_max).await?;
    if answer.status == http::StatusCode::OK { Ok(answer) } else { Err(ClientError::Status(answer.status)) }
}

/// How a request travels.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where to.
    pub address: SocketAddr,
    /// From which address, if it can be had.
    pub source: Option<IpAddr>,
    /// With TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Sends one HTTP/1.1 request on a connection of its own.
///
/// # Errors
/// Anything but a whole answer in time.
pub async fn send(
    request: Request<Empty<Bytes>>,
    way: Way,
    timeout: Duration,
    bytes_max: usize,
) -> Result<Answer, ClientError> {
    let exchange = async {
        let stream = connect(way.address, way.source).await.map_err(ClientError::Connect)?;
        match way.tls {
            None => exchange(stream, request, bytes_max).await,
            Some(config) => {
                let name = ServerName::IpAddress(way.address.ip().into());
                let connector = tokio_rustls::TlsConnector::from(config);
                let stream = connector.connect(name, stream).await.map_err(ClientError::Connect)?;
                exchange(stream, request, bytes_max).await
            }
        }
    };
    tokio::time::timeout(timeout, exchange).await.map_err(|_| ClientError::Timeout(timeout))?
}

/// Connects, from `source` where the machine has that address: 127.0.0.6 is known to the capture rules, which then do
/// not send the connection to Envoy. Elsewhere (a laptop, no IPv6) from any address.
///
/// # Errors
/// When nobody answers.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if socket.bind(SocketAddr::new(source, 0)).is_ok() {
            return socket.connect(address).await;
        }
    }
    TcpStream::connect(address).await
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>, bytes_max: usize) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |error: hyper::Error| ClientError::Http(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let answer = async {
        let response: Response<hyper::body::Incoming> = sender.send_request(request).await.map_err(http)?;
        let (parts, body) = response.into_parts();
        let body =
            Limited::new(body, bytes_max).collect().await.map_err(|error| ClientError::Http(error.to_string()))?;
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    };
    // The connection lives exactly as long as its one exchange.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(http(error)),
        },
    }
}
