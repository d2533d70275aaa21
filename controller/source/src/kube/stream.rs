//! The endless stream of one kind: kube's watcher, with pauses after failures and the two faults it does not recover
//! from by itself.

use super::Timing;
use super::object::Raw;
use super::resource::{Scope, Watched};
use super::transport::{Pulse, Server, Silence, lively};
use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use kube::core::Status;
use kube::runtime::watcher::{self, Config, Error, Event, watcher};
use kube::{Api, Client};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// After so many refused watches everything is listed again: what the server does not like may be where the watch is
/// to go on from, and a client that repeats requests by itself hides what the server said.
const REFUSALS_MAX: u32 = 4;

/// Objects of one answer to a list. What is kept of an object comes to lie among what is dropped of all that come with
/// it, and holds their memory in place; kube's own 500 are 5 MB of Pods.
const PAGE: u32 = 100;

/// What a watch has to tell.
#[derive(Debug)]
pub(super) enum Step {
    Event(Event<Raw>),
    /// It goes on by itself, after a pause.
    Trouble(Trouble),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Forbidden,
    /// The kind is not served (any more, or yet).
    NotServed,
    Failed(String),
}

struct Driver {
    client: Client,
    watched: Watched,
    timing: Timing,
    pulse: Pulse,
    server: Server,
    watcher: BoxStream<'static, watcher::Result<Event<Raw>>>,
    failures: u32,
    /// Watches in a row that the server refused to begin, or never answered.
    refusals: u32,
    last_failure: Instant,
    /// The last failure was that the server could not be reached.
    is_unreachable: bool,
    pause: Option<Duration>,
}

pub(super) fn steps(
    client: &Client,
    watched: Watched,
    timing: Timing,
    pulse: &Pulse,
    server: &Server,
) -> BoxStream<'static, Step> {
    let client = lively(client, timing, pulse, server);
    let watcher = start(&client, &watched, timing);
    let last_failure = Instant::now();
    let driver = Driver {
        client,
        watched,
        timing,
        pulse: pulse.clone(),
        server: server.clone(),
        watcher,
        failures: 0,
        refusals: 0,
        last_failure,
        is_unreachable: false,
        pause: None,
    };
    unfold(driver, |mut driver| async {
        let step = driver.next().await;
        Some((step, driver))
    })
    .boxed()
}

impl Driver {
    async fn next(&mut self) -> Step {
        loop {
            match self.pause.take() {
                Some(pause) if self.is_unreachable => self.server.pause(pause).await,
                Some(pause) => sleep(pause).await,
                None => {}
            }
            match self.watcher.next().await {
                Some(Ok(event)) => {
                    // `Init` only says that a list is about to be asked for.
                    if !matches!(event, Event::Init) {
                        self.failures = 0;
                    }
                    return Step::Event(event);
                }
                Some(Err(error)) => return Step::Trouble(self.failed(error)),
                None => self.watcher = start(&self.client, &self.watched, self.timing),
            }
        }
    }

    fn failed(&mut self, error: Error) -> Trouble {
        // A watch that worked in between says nothing when there is nothing to say.
        if self.pulse.last() > self.last_failure + self.timing.spacing {
            (self.failures, self.refusals) = (0, 0);
        }
        self.last_failure = Instant::now();
        // What it cost to find the server says nothing of how it takes what it is asked.
        if std::mem::replace(&mut self.is_unreachable, is_unreachable(&error)) != self.is_unreachable {
            self.failures = 0;
        }
        self.pause = Some(pause(self.timing.retry, self.failures, random()));
        self.failures = self.failures.saturating_add(1);
        let is_refusal = match &error {
            Error::WatchStartFailed(kube::Error::Api(status)) => status.code != 401 && status.code != 403,
            Error::WatchStartFailed(kube::Error::Service(error)) => error.is::<Silence>(),
            _ => false,
        };
        self.refusals = if is_refusal { self.refusals + 1 } else { 0 };
        if is_lost(&error) || self.refusals == REFUSALS_MAX {
            self.refusals = 0;
            self.watcher = start(&self.client, &self.watched, self.timing);
        }
        match status(&error) {
            Some(status) if status.code == 403 => Trouble::Forbidden,
            Some(status) if status.code == 404 => Trouble::NotServed,
            _ => Trouble::Failed(told(&error)),
        }
    }
}

fn start(client: &Client, watched: &Watched, timing: Timing) -> BoxStream<'static, watcher::Result<Event<Raw>>> {
    let seconds = timing.watch.as_secs().max(1).try_into().unwrap_or(u32::MAX);
    let config = Config::default().timeout(seconds).page_size(PAGE);
    match &watched.scope {
        Scope::Everywhere => watcher(Api::all_with(client.clone(), &watched.resource), config).boxed(),
        Scope::One { namespace, name } => {
            let api = Api::namespaced_with(client.clone(), namespace, &watched.resource);
            watcher(api, config.fields(&format!("metadata.name={name}"))).boxed()
        }
    }
}

/// Whether the watch cannot go on from where it was. kube's watcher lists again when the watch says 410 while it runs;
/// it asks for the same again for ever when the answer to the request is 410, or (etcd restored from a backup, F8)
/// that the version lies in the future.
fn is_lost(error: &Error) -> bool {
    let is_start_or_watch = matches!(error, Error::WatchStartFailed(_) | Error::WatchError(_));
    is_start_or_watch
        && status(error)
            .is_some_and(|status| status.code == 410 || status.message.contains("Too large resource version"))
}

/// Whether there was no answer at all, or it broke off.
fn is_unreachable(error: &Error) -> bool {
    use kube::Error::{HyperError, ReadEvents, Service};
    let (Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error)) = error else {
        return false;
    };
    matches!(error, Service(_) | HyperError(_) | ReadEvents(_))
}

fn status(error: &Error) -> Option<&Status> {
    match error {
        Error::WatchError(status) => Some(status),
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// With every cause, because the first says only that something failed.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Doubles with every failure; `random` (0 to 1) spreads it from a half to one and a half.
fn pause((first, longest): (Duration, Duration), failures: u32, random: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    doubled.min(longest).mul_f64(0.5 + random)
}

fn random() -> f64 {
    f64::from((RandomState::new().build_hasher().finish() >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f7_pauses_double_up_to_the_longest_and_vary_by_half() {
        let bounds = (Duration::from_secs(1), Duration::from_secs(10));
        assert_eq!(pause(bounds, 0, 0.5), Duration::from_secs(1));
        assert_eq!(pause(bounds, 3, 0.5), Duration::from_secs(8));
        assert_eq!(pause(bounds, 99, 0.0), Duration::from_secs(5));
        assert_eq!(pause(bounds, 99, 1.0), Duration::from_secs(15));
    }
}
