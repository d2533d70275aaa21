//! A small ADS client: a pure [`Session`] and the gRPC [`Client`] around it.
//!
//! It asks like Envoy: for all clusters and listeners, then for the endpoints and routes that those name. It is
//! what the reference proxy, the command line and the tests speak with.

mod session;

pub use session::{Known, Received, Session};

use crate::{Protocol, Request, TypeUrl, envoy};
use envoy::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// A connected client.
#[derive(Debug)]
pub struct Client {
    session: Session,
    wire: Wire,
}

#[derive(Debug)]
enum Wire {
    Sotw(mpsc::Sender<envoy::DiscoveryRequest>, Streaming<envoy::DiscoveryResponse>),
    Delta(mpsc::Sender<envoy::DeltaDiscoveryRequest>, Streaming<envoy::DeltaDiscoveryResponse>),
}

/// Requests on their way to the transport; a stream has one or two a type.
const REQUESTS_MAX: usize = 64;
/// A push of 10,000 clusters is some 20 MB.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

impl Client {
    /// Opens a stream on a channel. Nothing is asked for yet.
    pub async fn open(channel: Channel, protocol: Protocol, node: envoy::core::Node) -> Result<Self, Status> {
        Self::resume(channel, Session::new(protocol, node)).await
    }

    /// Opens a stream with what an earlier one left, and asks for what that one had asked for.
    pub async fn resume(channel: Channel, mut session: Session) -> Result<Self, Status> {
        let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let first = session.reconnect();
        let wire = match session.protocol() {
            Protocol::Sotw => {
                let (sender, requests) = mpsc::channel(REQUESTS_MAX);
                let responses = service.stream_aggregated_resources(ReceiverStream::new(requests)).await?;
                Wire::Sotw(sender, responses.into_inner())
            }
            Protocol::Delta => {
                let (sender, requests) = mpsc::channel(REQUESTS_MAX);
                let responses = service.delta_aggregated_resources(ReceiverStream::new(requests)).await?;
                Wire::Delta(sender, responses.into_inner())
            }
        };
        let mut client = Self { session, wire };
        for request in first {
            client.send(request).await?;
        }
        Ok(client)
    }

    /// What the stream has brought so far.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Ends the stream; what it brought can be taken to the next one.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Asks for everything of a type.
    pub async fn subscribe_all(&mut self, kind: TypeUrl) -> Result<(), Status> {
        let request = self.session.subscribe_all(kind);
        self.send(request).await
    }

    /// Asks for exactly these names of a type.
    pub async fn subscribe(&mut self, kind: TypeUrl, names: &[&str]) -> Result<(), Status> {
        let names = names.iter().map(ToString::to_string).collect();
        match self.session.subscribe(kind, names) {
            Some(request) => self.send(request).await,
            None => Ok(()),
        }
    }

    /// Takes the next response, acknowledges it and asks for what it refers to. `None`: the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Received>, Status> {
        self.next_judged(|_| Ok(())).await
    }

    /// The same, with a say in whether the response is acceptable.
    pub async fn next_judged(
        &mut self,
        judge: impl FnOnce(&Received) -> Result<(), String>,
    ) -> Result<Option<Received>, Status> {
        let received = match &mut self.wire {
            Wire::Sotw(_, responses) => responses.message().await?.map(|response| self.session.sotw(response)),
            Wire::Delta(_, responses) => responses.message().await?.map(|response| self.session.delta(response)),
        };
        let Some(received) = received else { return Ok(None) };
        let requests = match judge(&received) {
            Ok(()) => self.session.accept(&received),
            Err(reason) => self.session.refuse(&received, &reason).into_iter().collect(),
        };
        for request in requests {
            // If the stream has ended meanwhile, the next call says so, and how.
            if self.send(request).await.is_err() {
                break;
            }
        }
        Ok(Some(received))
    }

    /// Sends a request as it is.
    pub async fn send(&mut self, request: Request) -> Result<(), Status> {
        let ended = Status::unavailable("the stream has ended");
        let sent = match (&self.wire, request) {
            (Wire::Sotw(sender, _), Request::Sotw(request)) => sender.send(request).await.is_ok(),
            (Wire::Delta(sender, _), Request::Delta(request)) => sender.send(request).await.is_ok(),
            _ => return Err(Status::internal("a request of the other protocol variant")),
        };
        if sent { Ok(()) } else { Err(ended) }
    }
}
