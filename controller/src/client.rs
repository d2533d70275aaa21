//! A small HTTP client: for Envoys' admin interfaces, for the built-in services (through their sidecar) and for the
//! load of `up --check`. It keeps connections alive and repeats only what was never sent.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{self, connect::Connected, connect::Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest wait for a whole answer. Envoy's own default route timeout is 15 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest answer: an Envoy's statistics of a large mesh, and nothing near a config dump.
const BODY_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<Connector, Full<Bytes>>,
}

impl Client {
    /// Connects to the host that the URL names.
    pub fn direct() -> Self {
        Self::with(Connector { proxy: None })
    }

    /// Sends every request to `proxy`, whatever host the URL names (absolute-form requests, RFC 9112 3.2.2).
    pub fn through(proxy: SocketAddr) -> Self {
        Self::with(Connector { proxy: Some(proxy) })
    }

    /// As [`Self::through`], in HTTP/2 without being asked (prior knowledge).
    pub fn through_in_http2(proxy: SocketAddr) -> Self {
        let connector = Connector { proxy: Some(proxy) };
        Self { inner: legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(connector) }
    }

    fn with(connector: Connector) -> Self {
        Self { inner: legacy::Client::builder(TokioExecutor::new()).build(connector) }
    }

    pub async fn get(&self, url: &str, headers: &HeaderMap) -> Result<Response<String>> {
        let mut request = Request::get(url).body(Full::default())?;
        request.headers_mut().extend(headers.clone());
        self.send(request).await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<String>> {
        let what = format!("{} {}", request.method(), request.uri());
        tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .unwrap_or_else(|_| bail!("no answer within {} s", TIMEOUT.as_secs()))
            .context(what)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<String>> {
        let (head, body) = self.inner.request(request).await?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok(Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
    }
}

#[derive(Clone, Debug)]
struct Connector {
    proxy: Option<SocketAddr>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let proxy = self.proxy;
        Box::pin(async move {
            let tcp = match proxy {
                Some(address) => TcpStream::connect(address).await?,
                None => TcpStream::connect((uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80))).await?,
            };
            tcp.set_nodelay(true)?;
            Ok(Stream { tcp: TokioIo::new(tcp), proxied: proxy.is_some() })
        })
    }
}

/// A TCP stream that knows whether it ends at a proxy: hyper then writes the absolute form.
#[derive(Debug)]
struct Stream {
    tcp: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
