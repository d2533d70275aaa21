//! One stream of Envoy's is one stream to the control plane. It waits while there is no control plane, and ends when the
//! control plane ends it, so that Envoy comes again and says what it has.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, stream};
use http::uri::PathAndQuery;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};

use super::Options;
use super::frame::{Dialect, Frames, answered_type};
use super::own::{health, subscription};
use crate::backoff::Backoff;
use crate::health::Health;
use crate::upstream::UpstreamError;

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const STATE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const LISTENER_TYPE: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// A whole mesh's endpoints in one message; anything larger is an error, not a configuration.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Frames on the way to a connection that does not take them.
const FRAMES_MAX: usize = 16;
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// After an outage every proxy is back within this time.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Serves Envoy until the listener fails; dropping it ends all streams.
pub(crate) async fn serve(listener: UnixListener, options: Arc<Options>) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .add_service(Service(options))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
}

#[derive(Clone)]
struct Service(Arc<Options>);

impl tonic::server::NamedService for Service {
    const NAME: &'static str = SERVICE;
}

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let dialect = match request.uri().path() {
            STATE => Dialect::State,
            DELTA => Dialect::Delta,
            path => {
                let status = Status::unimplemented(format!("{path} is not served"));
                return Box::pin(std::future::ready(Ok(status.into_http())));
            }
        };
        let handler = Handler { options: Arc::clone(&self.0), dialect };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Frames)
                .max_decoding_message_size(FRAME_BYTES_MAX)
                .max_encoding_message_size(FRAME_BYTES_MAX);
            Ok(grpc.streaming(handler, request).await)
        })
    }
}

struct Handler {
    options: Arc<Options>,
    dialect: Dialect,
}

impl StreamingService<Bytes> for Handler {
    type Response = Bytes;
    type ResponseStream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (options, dialect) = (Arc::clone(&self.options), self.dialect);
        Box::pin(async move {
            let frames = stream::try_unfold(Stage::New(Box::new(request.into_inner())), move |stage| {
                let options = Arc::clone(&options);
                async move {
                    let mut relay = match stage {
                        Stage::New(from_envoy) => match Relay::open(options, dialect, *from_envoy).await? {
                            Some(relay) => Box::new(relay),
                            None => return Ok(None),
                        },
                        Stage::Open(relay) => relay,
                    };
                    Ok(relay.next().await?.map(|frame| (frame, Stage::Open(relay))))
                }
            });
            Ok(Response::new(Box::pin(frames) as Self::ResponseStream))
        })
    }
}

enum Stage {
    New(Box<Streaming<Bytes>>),
    Open(Box<Relay>),
}

/// An Envoy's stream and its counterpart.
struct Relay {
    options: Arc<Options>,
    dialect: Dialect,
    from_envoy: Streaming<Bytes>,
    from_istiod: Streaming<Bytes>,
    to_istiod: mpsc::Sender<Bytes>,
    /// Not taken by the connection yet.
    waiting: VecDeque<Bytes>,
    own: Own,
    health: watch::Receiver<Option<Health>>,
}

/// The agent's own subscriptions come after Envoy's first for listeners, so that they never delay its start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    NotYet,
    Subscribed,
}

type Upward = (mpsc::Sender<Bytes>, Streaming<Bytes>);

impl Relay {
    /// Waits for Envoy's first words, then for a control plane that hears them. Ends early when Envoy goes.
    async fn open(
        options: Arc<Options>,
        dialect: Dialect,
        mut from_envoy: Streaming<Bytes>,
    ) -> Result<Option<Self>, Status> {
        let Some(first) = from_envoy.message().await? else { return Ok(None) };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let mut attempt = 0;
        let (to_istiod, from_istiod) = loop {
            match connect(&options, dialect, attempt, first.clone()).await {
                Ok(upward) => break upward,
                Err(error) => {
                    options.metrics.connection_failed();
                    let wait = backoff.wait();
                    tracing::warn!(%error, retry_in = ?wait, address = options.upstream.server.address, "no control plane");
                    tokio::time::sleep(wait).await;
                }
            }
            attempt += 1;
        };
        tracing::info!(address = options.upstream.server.address, "connected to the control plane");
        options.metrics.discovery_request();
        let mut health = options.health.subscribe();
        // Every control plane is told anew.
        health.mark_changed();
        let (waiting, own) = (VecDeque::new(), Own::NotYet);
        let mut relay = Self { options, dialect, from_envoy, from_istiod, to_istiod, waiting, own, health };
        relay.subscribe_after(&first);
        Ok(Some(relay))
    }

    /// The next frame for Envoy; `None` when Envoy has gone.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let room = self.waiting.len() < FRAMES_MAX;
            let to_istiod = self.to_istiod.clone();
            tokio::select! {
                permit = to_istiod.reserve(), if !self.waiting.is_empty() => {
                    let permit = permit.map_err(|_| ended(&self.options, "it takes nothing more"))?;
                    permit.send(self.waiting.pop_front().unwrap_or_default());
                }
                frame = self.from_istiod.message(), if room => {
                    let frame = match frame {
                        Ok(Some(frame)) => frame,
                        Ok(None) => return Err(ended(&self.options, "it ended the stream")),
                        Err(status) => return Err(ended(&self.options, status.message())),
                    };
                    self.options.metrics.discovery_response();
                    let own = answered_type(&frame).and_then(|it| self.options.own_types().find(|own| *own == it));
                    let Some(own) = own else { return Ok(Some(frame)) };
                    let acknowledgement = self.options.take(self.dialect, own, frame);
                    self.waiting.push_back(acknowledgement);
                }
                Ok(()) = self.health.changed(), if room && self.own == Own::Subscribed => {
                    let current = self.health.borrow_and_update().clone();
                    self.waiting.extend(current.map(|it| health(self.dialect, &it)));
                }
                frame = self.from_envoy.message(), if self.waiting.is_empty() => {
                    let Ok(Some(frame)) = frame else {
                        self.options.metrics.ended_by_envoy();
                        return Ok(None);
                    };
                    self.options.metrics.discovery_request();
                    self.waiting.push_back(frame.clone());
                    self.subscribe_after(&frame);
                }
            }
        }
    }

    fn subscribe_after(&mut self, frame: &[u8]) {
        if self.own == Own::NotYet && self.dialect.asked_type(frame) == Some(LISTENER_TYPE) {
            self.own = Own::Subscribed;
            self.waiting.extend(self.options.own_types().map(|own| subscription(self.dialect, own)));
        }
    }
}

fn ended(options: &Options, why: &str) -> Status {
    options.metrics.ended_by_istiod();
    tracing::info!(why, "the control plane's stream has ended; Envoy will come again");
    Status::unavailable("the control plane's stream has ended")
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<Status>),
    #[error("the token holds characters that no header may")]
    Token,
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
}

/// One attempt. The control plane must hear Envoy's first frame before it answers at all, so that goes along.
async fn connect(options: &Options, dialect: Dialect, attempt: u32, first: Bytes) -> Result<Upward, ConnectError> {
    let credential = options.upstream.credential(attempt);
    let bearer = options.upstream.bearer(credential)?;
    let mut grpc = tonic::client::Grpc::new(options.upstream.channel(credential)?)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let (to_istiod, frames) = mpsc::channel(FRAMES_MAX);
    to_istiod.try_send(first).map_err(|_| Box::new(Status::internal("a new queue is full")))?;
    let mut request = Request::new(ReceiverStream::new(frames));
    if let Some(token) = bearer {
        let value = format!("Bearer {}", &*token).parse();
        let mut value: MetadataValue<_> = value.map_err(|_| ConnectError::Token)?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    if !options.cluster_id.is_empty()
        && let Ok(value) = options.cluster_id.parse()
    {
        request.metadata_mut().insert("clusterid", value);
    }
    grpc.ready().await?;
    let path = PathAndQuery::from_static(match dialect {
        Dialect::State => STATE,
        Dialect::Delta => DELTA,
    });
    let answer = grpc.streaming(request, path, Frames).await.map_err(Box::new)?;
    Ok((to_istiod, answer.into_inner()))
}
