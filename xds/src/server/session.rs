//! One stream: reads requests, hears the hub's bell, and has a response ready when HTTP/2 asks for one.
//!
//! There is no task and no queue of messages a stream: what is due is worked out when it can be sent, so what
//! was superseded while a slow proxy was reading is never built.

use super::{Event, Peer, Shared, frame::Requests, limit::Bucket};
use crate::{ConnectionId, Observed, Protocol, ProtocolError, Request, Response, Stream, Version, envoy};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, PoisonError, atomic::Ordering},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Status, body::Body};

pub(super) struct Session {
    shared: Arc<Shared>,
    protocol: Protocol,
    connection: ConnectionId,
    /// Until the first request, which is when the owner hears of it.
    peer: Option<Box<Peer>>,
    requests: Requests,
    stream: Stream,
    bell: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    bucket: Bucket,
    /// When the next request may be read.
    read_at: Instant,
    /// When waiting for endpoints ends.
    patience_ends: Option<Instant>,
    closes_at: Instant,
    ready: VecDeque<Response>,
    has_answered: bool,
}

enum Step {
    Request(Option<Result<Bytes, Status>>),
    Published,
    WaitedEnough,
    Close,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, protocol: Protocol, peer: Peer, body: Body) -> Self {
        let connection = ConnectionId(shared.connections.fetch_add(1, Ordering::Relaxed) + 1);
        shared.streams.fetch_add(1, Ordering::Relaxed);
        let read_at = shared.starts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let age = shared.limits.stream_age_max;
        shared.hub.opened(connection);
        let jitter = age / 10 * (Version::of(&connection.0.to_le_bytes()).0 % 100) as u32 / 100;
        Self {
            requests: Requests::new(body, shared.limits.request_bytes_max),
            stream: Stream::new(protocol),
            bell: shared.hub.watch(),
            closing: shared.closing.subscribe(),
            bucket: Bucket::new(shared.limits.requests_per_second, shared.limits.requests_burst),
            patience_ends: None,
            closes_at: Instant::now() + age + jitter,
            ready: VecDeque::new(),
            has_answered: false,
            peer: Some(Box::new(peer)),
            shared,
            protocol,
            connection,
            read_at,
        }
    }

    /// The next response; `None` if the stream ends well.
    pub(super) async fn next(mut self) -> (Self, Option<Result<Response, Status>>) {
        let response = self.advance().await.transpose();
        (self, response)
    }

    async fn advance(&mut self) -> Result<Option<Response>, Status> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                self.has_answered = true;
                return Ok(Some(response));
            }
            // Everything that the proxy has said already is heard before it is answered: a request for endpoints
            // often follows right behind the ACK of their clusters.
            while let Some(request) = self.request_at_hand().await {
                match request {
                    Some(request) => self.hear(request?).await?,
                    None => return Ok(None),
                }
            }
            self.ready.extend(self.stream.responses());
            if !self.ready.is_empty() {
                continue;
            }
            match self.step().await {
                Step::Request(None) => return Ok(None),
                Step::Request(Some(request)) => self.hear(request?).await?,
                Step::Published => self.look()?,
                Step::WaitedEnough => {
                    self.patience_ends = None;
                    self.stream.stop_waiting();
                }
                Step::Close => return Ok(None),
            }
        }
    }

    /// A request that is there already. `None`: there is none; `Some(None)`: there will be none.
    async fn request_at_hand(&mut self) -> Option<Option<Result<Bytes, Status>>> {
        if self.read_at > Instant::now() {
            return None;
        }
        tokio::select! {
            biased;
            request = self.requests.next() => Some(request),
            () = std::future::ready(()) => None,
        }
    }

    async fn step(&mut self) -> Step {
        let waits = self.stream.is_waiting();
        let patience_ends =
            waits.then(|| *self.patience_ends.get_or_insert_with(|| Instant::now() + self.shared.limits.patience));
        self.patience_ends = patience_ends;
        let closes = self.has_answered;
        let read_at = self.read_at;
        tokio::select! {
            request = async { tokio::time::sleep_until(read_at).await; self.requests.next().await } => Step::Request(request),
            _ = self.bell.changed() => Step::Published,
            () = at(patience_ends) => Step::WaitedEnough,
            // Not before the first response (rule X7, gRFC A57).
            () = at(closes.then_some(self.closes_at)) => Step::Close,
            _ = self.closing.wait_for(|closing| *closing) => Step::Close,
        }
    }

    fn look(&mut self) -> Result<(), Status> {
        if let Some((code, reason)) = self.shared.hub.refusal(self.connection) {
            return Err(Status::new(code, reason));
        }
        if let Some(snapshot) = self.shared.hub.snapshot(self.connection) {
            self.stream.snapshot(snapshot);
        }
        Ok(())
    }

    async fn hear(&mut self, request: Bytes) -> Result<(), Status> {
        self.read_at = self.bucket.take();
        self.shared.largest_request.fetch_max(request.len(), Ordering::Relaxed);
        let malformed = |error: prost::DecodeError| Status::invalid_argument(error.to_string());
        let request = match self.protocol {
            Protocol::Sotw => Request::Sotw(envoy::DiscoveryRequest::decode(request).map_err(malformed)?),
            Protocol::Delta => Request::Delta(envoy::DeltaDiscoveryRequest::decode(request).map_err(malformed)?),
        };
        let node = match &request {
            Request::Sotw(request) => &request.node,
            Request::Delta(request) => &request.node,
        };
        let node = self.peer.is_some().then(|| node.clone()).flatten();
        let observed = self.stream.request(request).map_err(status)?;
        if let Some(peer) = self.peer.take() {
            let node = Box::new(node.unwrap_or_default());
            tell(&self.shared.events, Event::Connected { connection: self.connection, node, peer }).await?;
            // It may have a view by now; the bell has been rung for it then, or rings later.
            self.look()?;
        }
        match observed {
            Some(observed) => tell(&self.shared.events, event(self.connection, observed)).await,
            None => Ok(()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
        self.shared.hub.closed(self.connection);
        // The owner has not heard of it, so it need not hear that it is gone.
        if self.peer.is_some() {
            return;
        }
        let gone = Event::Disconnected { connection: self.connection };
        if let Err(mpsc::error::TrySendError::Full(gone)) = self.shared.events.try_send(gone)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Must not get lost, or the owner keeps the proxy for ever. The task lives until the owner reads on.
            let events = self.shared.events.clone();
            runtime.spawn(async move { events.send(gone).await });
        }
    }
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<(), Status> {
    events.send(event).await.map_err(|_| Status::unavailable("shutting down"))
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => pending().await,
    }
}

fn event(connection: ConnectionId, observed: Observed) -> Event {
    match observed {
        Observed::Ack { kind, version, nonce } => Event::Ack { connection, kind, version, nonce },
        Observed::Nack { kind, version, nonce, reason, names } => {
            Event::Nack { connection, kind, version, nonce, reason, names }
        }
        Observed::UnknownType { type_url, error } => Event::UnknownType { connection, type_url, error },
    }
}

fn status(error: ProtocolError) -> Status {
    match error {
        ProtocolError::TooManyNames => Status::resource_exhausted(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}
