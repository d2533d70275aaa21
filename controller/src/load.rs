//! Load, for `up --check` and for tests in Kubernetes: requests without a pause from several clients, each counted for the phase it began in.

use crate::client::Client;
use http::HeaderMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Clients at once: enough to keep two cores busy, few enough that a request's time is not all queueing.
const CLIENTS: usize = 8;

/// Failures that are told in full; the rest is counted.
const SAID_MAX: usize = 5;

const POLL: Duration = Duration::from_millis(5);

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The phase that new requests count for; between phases none, though they are sent all the same.
    pub phase: Option<usize>,
    pub ending: bool,
    pub phases: Vec<Phase>,
    pub requests: u64,
    pub failed: u64,
    pub failures: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Phase {
    pub under_way: u64,
    /// Answers by the reviews pod that the page says it asked.
    pub answers: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    clients: JoinSet<()>,
}

impl Load {
    pub fn start(url: &str) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(browse(url.to_owned(), tally.clone()));
        }
        Self { tally, clients }
    }

    /// Counts requests begun from now on, until there are so many answers, and none is under way.
    pub async fn phase(&self, answers: u64, limit: Duration) -> Option<Phase> {
        let index = {
            let mut tally = lock(&self.tally);
            tally.phases.push(Phase::default());
            tally.phase = Some(tally.phases.len() - 1);
            tally.phases.len() - 1
        };
        let limit = Instant::now() + limit;
        let phase = |it: &Tally| it.phases[index].clone();
        let enough = self.until(limit, |it| phase(it).answers.values().sum::<u64>() >= answers).await;
        lock(&self.tally).phase = None;
        let ended = self.until(limit, |it| phase(it).under_way == 0).await;
        (enough && ended).then(|| phase(&lock(&self.tally)))
    }

    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Lets what is under way end; every request counts.
    pub async fn stop(mut self) -> Tally {
        lock(&self.tally).ending = true;
        while self.clients.join_next().await.is_some() {}
        let tally = lock(&self.tally);
        tally.clone()
    }

    async fn until(&self, limit: Instant, condition: impl Fn(&Tally) -> bool) -> bool {
        let wait = async {
            while !condition(&lock(&self.tally)) {
                sleep(POLL).await;
            }
        };
        timeout_at(limit, wait).await.is_ok()
    }
}

async fn browse(url: String, tally: Arc<Mutex<Tally>>) {
    let client = Client::direct();
    loop {
        let phase = {
            let mut tally = lock(&tally);
            if tally.ending {
                return;
            }
            let phase = tally.phase;
            if let Some(phase) = phase {
                tally.phases[phase].under_way += 1;
            }
            phase
        };
        let answer = client.get(&url, &HeaderMap::new()).await;
        let seen = match &answer {
            Ok(response) if response.status().is_success() => reviewer(response.body()),
            Ok(response) => Err(format!("{url} answered {}: {}", response.status(), response.body())),
            Err(why) => Err(format!("{why:#}")),
        };
        let mut tally = lock(&tally);
        tally.requests += 1;
        match (seen, phase) {
            (Ok(pod), Some(phase)) => *tally.phases[phase].answers.entry(pod).or_default() += 1,
            (Ok(_), None) => {}
            (Err(why), _) => {
                tally.failed += 1;
                if tally.failures.len() < SAID_MAX {
                    tally.failures.push(why);
                }
            }
        }
        if let Some(phase) = phase {
            tally.phases[phase].under_way -= 1;
        }
    }
}

/// The page is whole only if details and reviews both answered.
fn reviewer(page: &str) -> Result<String, String> {
    let pod = page.split_once("data-reviews=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(pod, _)| pod);
    match pod {
        Some(pod) if page.contains("data-details=\"ok\"") && !page.contains("class=\"error\"") => Ok(pod.to_owned()),
        _ => {
            let why = page.split_once("class=\"error\"").map_or(page, |(_, rest)| rest);
            Err(format!("the page is not whole: {}", why.chars().take(300).collect::<String>()))
        }
    }
}

/// A client that panicked must not hide what the others counted.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_count_as_answers() {
        let whole = "<dl data-details=\"ok\">..</dl><span data-reviews=\"reviews-v2-0\">reviews-v2-0</span>";
        assert_eq!(reviewer(whole), Ok("reviews-v2-0".to_owned()));
        assert!(reviewer("<span data-reviews=\"reviews-v2-0\">").unwrap_err().contains("not whole"));
        let broken = format!("{whole}<p class=\"error\" title=\"ratings is unavailable\">");
        assert!(reviewer(&broken).unwrap_err().contains("ratings is unavailable"));
    }
}
