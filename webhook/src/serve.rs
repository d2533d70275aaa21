//! The webhooks' HTTP: `/inject`, `/inject/KEY/VALUE…`, `/validate` and `/ready`.

mod admission;
mod limit;
pub mod metrics;
mod validate;

use crate::inject;
use axum::Router;
use axum::routing::{get, post};
use metrics::Metrics;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct State {
    injection: watch::Receiver<Arc<inject::Config>>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

impl State {
    /// Requests see the configuration that was last sent when they came.
    pub fn new(injection: watch::Receiver<Arc<inject::Config>>, metrics: Arc<Metrics>) -> Self {
        Self { injection, metrics, places: Arc::new(Semaphore::new(limit::REQUESTS_AT_ONCE_MAX)) }
    }
}

/// What listens on 15017. TLS is the caller's; so is the limit on the time a client takes for its headers.
///
/// `/ready` is 200 as long as requests are answered at all: the caller serves this router only once it has a
/// configuration.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/inject", post(admission::inject))
        .route("/inject/{*pairs}", post(admission::inject))
        .route("/validate", post(admission::validate))
        .route("/ready", get(|| async { "ok" }))
        .with_state(state)
}
