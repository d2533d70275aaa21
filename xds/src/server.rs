//! ADS over gRPC: the thin, connected shell around [`Stream`](crate::Stream).
//!
//! It stands on tonic's transport with a response body of its own (see `frame.rs`). One aggregated service with
//! its two streaming methods is all there is: per-type services, unary `Fetch*` and reflection are
//! UNIMPLEMENTED, so nothing gets around what is checked here (rule X84).

mod frame;
mod limit;
mod session;

use crate::{ConnectionId, Hub, Protocol, TypeUrl, envoy};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::{Status, body::Body, transport::server::TcpIncoming};

use limit::Bucket;

/// What happens on streams, told to the owner of the world.
#[derive(Debug)]
pub enum Event {
    /// A proxy has said who it is. It waits until the [`Hub`] has a view for it.
    Connected {
        connection: ConnectionId,
        node: Box<envoy::core::Node>,
        peer: Box<Peer>,
    },
    /// The last word on a connection.
    Disconnected {
        connection: ConnectionId,
    },
    Ack {
        connection: ConnectionId,
        kind: TypeUrl,
        version: String,
        nonce: String,
    },
    /// The proxy refused a response; `names` are the resources in it, one of which is to blame.
    Nack {
        connection: ConnectionId,
        kind: TypeUrl,
        version: String,
        nonce: String,
        reason: String,
        names: Vec<Arc<str>>,
    },
    /// The proxy asked for a type that is not served.
    UnknownType {
        connection: ConnectionId,
        type_url: String,
        error: Option<String>,
    },
}

/// What the transport knows of the other end.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    pub address: Option<SocketAddr>,
    /// Of the gRPC call: tokens are among them.
    pub headers: http::HeaderMap,
    /// What the acceptor has put there, such as the identity of a client certificate.
    pub extensions: http::Extensions,
}

/// Bounds on what one client may cost the others.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request. A reconnect that names 10,000 resources and their versions takes about 1 MB.
    pub request_bytes_max: usize,
    /// Requests a second that one stream is read at, after a burst. Envoy sends one per response and subscription.
    pub requests_per_second: u32,
    pub requests_burst: u32,
    /// Streams a second that are begun, over all clients; more wait their turn (Istio: 25 on two cores).
    pub streams_per_second: u32,
    pub streams_burst: u32,
    /// How long listeners and routes wait for the endpoints of new clusters to be asked for and accepted.
    pub patience: Duration,
    /// A stream older than this is closed when nothing is on its way, so that proxies spread over replicas.
    /// Up to a tenth more, so that those that came together do not come back together.
    pub stream_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 4 << 20,
            requests_per_second: 500,
            requests_burst: 1000,
            streams_per_second: 100,
            streams_burst: 200,
            patience: Duration::from_secs(1),
            stream_age_max: Duration::from_secs(30 * 60),
        }
    }
}

/// The aggregated discovery service.
#[derive(Clone, Debug)]
pub struct AdsService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    events: mpsc::Sender<Event>,
    limits: Limits,
    connections: AtomicU64,
    streams: AtomicUsize,
    largest_request: AtomicUsize,
    starts: Mutex<Bucket>,
    closing: watch::Sender<bool>,
}

impl AdsService {
    pub fn new(hub: Arc<Hub>, events: mpsc::Sender<Event>, limits: Limits) -> Self {
        let starts = Mutex::new(Bucket::new(limits.streams_per_second, limits.streams_burst));
        let shared = Shared {
            hub,
            events,
            limits,
            connections: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            largest_request: AtomicUsize::new(0),
            starts,
            closing: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How many streams are open now.
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }

    /// The size of the largest request so far, to be seen before it meets the limit.
    pub fn largest_request(&self) -> usize {
        self.shared.largest_request.load(Ordering::Relaxed)
    }

    /// Ends every stream as soon as nothing is on its way, and begins no more.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    fn method(path: &str) -> Option<Protocol> {
        match path.strip_prefix("/envoy.service.discovery.v3.AggregatedDiscoveryService/")? {
            "DeltaAggregatedResources" => Some(Protocol::Delta),
            "StreamAggregatedResources" => Some(Protocol::Sotw),
            _ => None,
        }
    }
}

impl tonic::server::NamedService for AdsService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for AdsService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let Some(protocol) = Self::method(parts.uri.path()) else {
            return ready(Ok(Status::unimplemented("only the two aggregated streams are served").into_http()));
        };
        if !self.shared.hub.ready() {
            return ready(Ok(Status::unavailable("the configuration is still being read").into_http()));
        }
        let address = parts.extensions.get::<tonic::transport::server::TcpConnectInfo>();
        let address = address.and_then(tonic::transport::server::TcpConnectInfo::remote_addr);
        let peer = Peer { address, headers: parts.headers, extensions: parts.extensions };
        let session = session::Session::new(self.shared.clone(), protocol, peer, body);
        ready(Ok(frame::response(session)))
    }
}

/// Serves until `shutdown`, then lets what is being sent arrive.
pub async fn serve(
    listener: TcpListener,
    service: AdsService,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let closing = service.clone();
    let shutdown = async move {
        shutdown.await;
        closing.close();
    };
    tonic::transport::Server::builder()
        // Free, and the only thing that finds out about a peer that is gone without a word (rule X83).
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        // Envoy uses one. tonic's own default is none at all.
        .max_concurrent_streams(8)
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown)
        .await
}
