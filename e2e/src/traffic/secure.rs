//! Requests in TLS: a connection each.

use super::case::{Case, Protocol, Tls};
use super::keys::Keys;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};

/// Sends the request to the address, and names its host as the one that is meant (SNI).
pub(super) async fn send(
    request: Request<Full<Bytes>>,
    address: SocketAddr,
    case: &Case,
    keys: &Keys,
) -> Result<Response<String>> {
    let host = request.uri().host().context("no host")?.to_owned();
    let versions: &[_] = match case.tls.version.as_deref() {
        None => &[&TLS12, &TLS13],
        Some("1.2") => &[&TLS12],
        Some("1.3") => &[&TLS13],
        Some(other) => anyhow::bail!("no TLS {other} here"),
    };
    let Tls { certificate, .. } = &case.tls;
    let mut config = keys.client(certificate.as_deref(), versions)?;
    let is_http2 = case.protocol == Protocol::Http2;
    config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let tcp = TcpStream::connect(address).await?;
    let tls = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host)?, tcp).await?;
    let io = TokioIo::new(tls);
    let response = match is_http2 {
        true => {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        }
        false => {
            let (mut sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.send_request(in_origin_form(request)?).await?
        }
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
}

fn in_origin_form(mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>> {
    let uri = request.uri().clone();
    let host = uri.authority().context("no host")?.as_str().parse()?;
    request.headers_mut().entry(http::header::HOST).or_insert(host);
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    *request.uri_mut() = Uri::try_from(path)?;
    Ok(request)
}
