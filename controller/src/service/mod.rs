//! The services that play a workload's part when it has no command of its own: Bookinfo's roles by image name, an
//! echo for all others. They run inside navarch and listen on the workload's application address, or in a container of
//! their own ([`run`]).

mod bookinfo;
mod echo;
mod page;

use crate::client::Client;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Longest request body that is read (and echoed).
const BODY_BYTES_MAX: usize = 1 << 20;

/// Who answers: what a real workload would learn from its pod's environment.
#[derive(Clone, Debug)]
pub struct Identity {
    pub pod: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub image: String,
    /// Of the first container: Bookinfo's programs read their peers' host names from it.
    pub environment: BTreeMap<String, String>,
    /// The sidecar's HTTP proxy; `None` where connections are captured.
    pub proxy: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaks {
    Http,
    Tcp,
}

/// A running service; it ends when this is dropped.
#[derive(Debug)]
pub struct Service {
    /// As they were bound.
    pub addresses: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    ProductPage,
    Details,
    Reviews { stars: Option<&'static str> },
    Ratings,
    Echo,
}

struct Part {
    role: Role,
    identity: Identity,
    peers: Client,
    /// How many requests came for each path; of the echo.
    seen: Mutex<BTreeMap<String, u64>>,
}

/// A request whose body has been read.
struct Call {
    method: http::Method,
    version: http::Version,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    /// Of this port's connections the one it came on, counted from 1.
    connection: u64,
}

type Answer = Response<Full<Bytes>>;

impl Service {
    /// Binds all addresses before it returns, so that a taken port is the caller's error.
    pub async fn start(identity: Identity, listen: &[(SocketAddr, Speaks)]) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let peers = identity.proxy.map_or_else(Client::direct, Client::through);
        let part = Arc::new(Part { role: Role::of_image(&identity.image), peers, identity, seen: Mutex::default() });
        let mut addresses = vec![];
        for (address, speaks) in listen {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            addresses.push(listener.local_addr()?);
            match speaks {
                Speaks::Http => tasks.spawn(serve_http(listener, part.clone())),
                Speaks::Tcp => tasks.spawn(echo::serve_tcp(listener)),
            };
        }
        Ok(Self { addresses, _tasks: tasks })
    }
}

/// `navarch service`: one service as a program, which is what containers of the examples run. Ends when asked to.
pub async fn run(args: &crate::args::Service, stop: impl Future<Output = ()>) -> Result<()> {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let named = |name: &str| environment.get(name).cloned().unwrap_or_default();
    let identity = Identity {
        pod: named("HOSTNAME"),
        namespace: named("POD_NAMESPACE"),
        labels: BTreeMap::new(),
        image: args.image.clone(),
        environment: environment.clone(),
        proxy: None,
    };
    let http = args.http.iter().map(|it| (*it, Speaks::Http));
    let listen: Vec<_> = http.chain(args.tcp.iter().map(|it| (*it, Speaks::Tcp))).collect();
    let _service = Service::start(identity, &listen).await?;
    stop.await;
    Ok(())
}

impl Role {
    /// `docker.io/istio/examples-bookinfo-reviews-v2:1.20.3` plays reviews v2.
    fn of_image(image: &str) -> Self {
        let name = image.rsplit('/').next().unwrap_or_default();
        let name = name.split([':', '@']).next().unwrap_or_default();
        let Some((_, role)) = name.split_once("bookinfo-") else { return Self::Echo };
        match role {
            _ if role.starts_with("productpage") => Self::ProductPage,
            _ if role.starts_with("details") => Self::Details,
            _ if role.starts_with("reviews-v2") => Self::Reviews { stars: Some("black") },
            _ if role.starts_with("reviews-v3") => Self::Reviews { stars: Some("red") },
            _ if role.starts_with("reviews") => Self::Reviews { stars: None },
            _ if role.starts_with("ratings") => Self::Ratings,
            _ => Self::Echo,
        }
    }
}

async fn serve_http(listener: TcpListener, part: Arc<Part>) {
    // Owns the connections: they end with the service.
    let mut connections = JoinSet::new();
    let mut accepted_count = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((tcp, _)) = accepted else {
            // Out of file descriptors: let connections end first.
            tokio::task::yield_now().await;
            continue;
        };
        tcp.set_nodelay(true).ok();
        let part = part.clone();
        accepted_count += 1;
        let connection = accepted_count;
        connections.spawn(async move {
            let handler = hyper::service::service_fn(move |request| handle(part.clone(), connection, request));
            // Both HTTP/1.1 and HTTP/2 with prior knowledge: ports named http2 and grpc get the latter.
            let server = auto::Builder::new(TokioExecutor::new());
            server.serve_connection_with_upgrades(TokioIo::new(tcp), handler).await.ok();
        });
    }
}

async fn handle(
    part: Arc<Part>,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Answer, std::convert::Infallible> {
    let wants_websocket = request.headers().get(http::header::UPGRADE).is_some_and(|it| it == "websocket");
    if part.role == Role::Echo && wants_websocket {
        return Ok(echo::upgrade(request));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "the body is too long"));
    };
    let call = Call {
        method: head.method,
        version: head.version,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
        connection,
    };
    Ok(match part.role {
        Role::Echo => echo::answer_http(&part, &call).await,
        Role::ProductPage => bookinfo::product_page(&part, &call).await,
        Role::Details => bookinfo::details(&call),
        Role::Reviews { stars } => bookinfo::reviews(&part, &call, stars).await,
        Role::Ratings => bookinfo::ratings(&call),
    })
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}

fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    answer(status, "application/json", value.to_string())
}

#[cfg(test)]
mod tests;
