//! What is known of the running mesh, as one value: for the live view, for `--check`, and for whoever waits.

use super::laptop::PodKey;
use super::locate::Line;
use super::supervisor::State;
use crate::envoy::admin::{Destination, Requests};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use tokio::time::Instant;
use xds::TypeUrl;

/// How far back the observed split looks.
const WINDOW: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
pub struct Status {
    pub workloads: BTreeMap<PodKey, Workload>,
    pub problems: Vec<Line>,
    /// Of each service with subsets, requests by subset within the last seconds.
    pub splits: BTreeMap<String, Split>,
    pub ingress: Vec<SocketAddr>,
    /// Every workload runs and has its configuration.
    pub ready: bool,
    /// Changes of the folder that have been committed.
    pub folder_commits: u64,
    /// Since when every proxy has accepted all it should have; `None` while an answer is awaited.
    pub in_sync: Option<Instant>,
    pub nacks: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Workload {
    pub state: Option<State>,
    /// Streams; more than one for a moment when an Envoy reconnects.
    pub connections: usize,
    pub acks: BTreeMap<TypeUrl, (String, Instant)>,
    /// Of the last response that was refused; gone when a later one of that type is accepted.
    pub nack: Option<(TypeUrl, String)>,
}

/// Requests by subset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Split(pub BTreeMap<String, u64>);

impl Split {
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// In percent.
    pub fn share(&self, subset: &str) -> f64 {
        let of = self.0.get(subset).copied().unwrap_or_default();
        match self.total() {
            0 => 0.0,
            total => of as f64 * 100.0 / total as f64,
        }
    }
}

/// Counters of all Envoys over the last seconds, to tell what has been going on lately.
#[derive(Debug, Default)]
pub struct Window(VecDeque<(Instant, BTreeMap<PodKey, Requests>)>);

impl Window {
    pub fn push(&mut self, now: Instant, counters: BTreeMap<PodKey, Requests>) {
        self.0.push_back((now, counters));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(then, _)| now.duration_since(*then) > WINDOW) {
            self.0.pop_front();
        }
    }

    /// By service; those that have no subset are left out.
    pub fn splits(&self) -> BTreeMap<String, Split> {
        let (Some((_, first)), Some((_, last))) = (self.0.front(), self.0.back()) else { return BTreeMap::new() };
        let mut splits = BTreeMap::<String, Split>::new();
        for (pod, counters) in last {
            // An Envoy that was not there at first, or restarted since, counts from zero.
            let before =
                |it: &Destination| first.get(pod).and_then(|before| before.get(it)).copied().unwrap_or_default();
            for (destination, count) in counters.iter().filter(|(it, _)| !it.subset.is_empty()) {
                let split = splits.entry(format!("{}:{}", destination.host, destination.port)).or_default();
                let since = count.checked_sub(before(destination)).unwrap_or(*count);
                *split.0.entry(destination.subset.clone()).or_default() += since;
            }
        }
        splits.retain(|_, it| it.total() > 0);
        splits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(of: &[(&str, &str, u64)]) -> BTreeMap<PodKey, Requests> {
        let mut counters = BTreeMap::<PodKey, Requests>::new();
        for (pod, subset, count) in of {
            let pod = PodKey { namespace: "default".into(), name: (*pod).into() };
            let destination = Destination { host: "reviews".into(), port: 9080, subset: (*subset).into() };
            counters.entry(pod).or_default().insert(destination, *count);
        }
        counters
    }

    #[test]
    fn a_split_is_what_was_counted_lately_by_all_envoys() {
        let mut window = Window::default();
        let start = Instant::now();
        window.push(start, counters(&[("a", "v1", 100), ("a", "v2", 0), ("b", "v1", 50)]));
        window.push(start + WINDOW / 2, counters(&[("a", "v1", 160), ("a", "v2", 10), ("b", "v1", 60), ("a", "", 99)]));
        let splits = window.splits();
        let split = &splits["reviews:9080"];
        assert_eq!(split.0, BTreeMap::from([("v1".to_owned(), 70), ("v2".to_owned(), 10)]));
        assert!((split.share("v1") - 87.5).abs() < 1e-9);
    }

    #[test]
    fn an_envoy_that_restarted_counts_from_zero_and_old_counts_are_forgotten() {
        let mut window = Window::default();
        let start = Instant::now();
        window.push(start, counters(&[("a", "v1", 100)]));
        window.push(start + WINDOW / 2, counters(&[("a", "v1", 7)]));
        assert_eq!(window.splits()["reviews:9080"].0["v1"], 7);
        window.push(start + WINDOW * 3, counters(&[("a", "v1", 7)]));
        window.push(start + WINDOW * 6, counters(&[("a", "v1", 7)]));
        assert_eq!(window.splits(), BTreeMap::new());
    }
}
