//! The client as one watch sees it: nothing it asks can hang for ever (F2), every answer is noted as progress, and a
//! server that ends its watches at once is not asked again at once.

use super::Timing;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use kube::Client;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tower::{BoxError, service_fn};

/// When the API server last answered.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    start: Instant,
    millis: Arc<AtomicU64>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), millis: Arc::default() }
    }

    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    fn beat(&self) {
        let millis = self.start.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }
}

/// What the watches of one API server tell each other: that it answers. One that could not reach it need not wait any
/// longer then.
#[derive(Clone, Debug, Default)]
pub(super) struct Server(Arc<Notify>);

impl Server {
    fn answers(&self) {
        self.0.notify_waiters();
    }

    /// Ends after the pause, or with the next answer to anybody.
    pub(super) async fn pause(&self, pause: Duration) {
        // Within the pause or after it: both are its end.
        timeout(pause, self.0.notified()).await.ok();
    }
}

/// The same API server, through `client`.
pub(super) fn lively(client: &Client, timing: Timing, pulse: &Pulse, server: &Server) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (client, pulse, server) = (client.clone(), pulse.clone(), server.clone());
    let next_watch = Arc::new(Mutex::new(Instant::now()));
    let service = service_fn(move |request: Request<kube::client::Body>| {
        let (client, pulse, server, next_watch) = (client.clone(), pulse.clone(), server.clone(), next_watch.clone());
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let start = turn(&next_watch, timing.spacing);
                sleep_until(start).await;
            }
            let answer = timeout(timing.silence, client.send(request)).await.map_err(|_| Silence(timing.silence))??;
            if answer.status().is_success() {
                pulse.beat();
                server.answers();
            }
            Ok::<_, BoxError>(answer.map(|body| Lively {
                body,
                pulse,
                silence: timing.silence,
                alarm: Box::pin(sleep(timing.silence)),
            }))
        }
    });
    Client::new(service, namespace)
}

/// When the next watch may start; the one after it starts later.
fn turn(next: &Mutex<Instant>, spacing: Duration) -> Instant {
    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
    let start = (*next).max(Instant::now());
    *next = start + spacing;
    start
}

#[derive(Debug, thiserror::Error)]
#[error("the API server said nothing for {0:?}")]
pub(super) struct Silence(Duration);

/// A body that fails when it is silent for too long.
struct Lively {
    body: kube::client::Body,
    pulse: Pulse,
    silence: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Body for Lively {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if !matches!(frame, Some(Err(_))) {
                    this.pulse.beat();
                }
                this.alarm.as_mut().reset(Instant::now() + this.silence);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                futures::ready!(this.alarm.as_mut().poll(cx));
                Poll::Ready(Some(Err(Silence(this.silence).into())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f01_who_could_not_reach_the_server_goes_on_when_it_answers_somebody() {
        let server = Server::default();
        let began = Instant::now();
        let waiting = [1, 20].map(|seconds| {
            let server = server.clone();
            tokio::spawn(async move {
                server.pause(Duration::from_secs(seconds)).await;
                Instant::now()
            })
        });
        sleep(Duration::from_secs(3)).await;
        server.answers();
        let [first, second] = waiting;
        assert_eq!(first.await.unwrap() - began, Duration::from_secs(1));
        assert_eq!(second.await.unwrap() - began, Duration::from_secs(3));
    }
}
