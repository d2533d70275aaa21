//! How the watches are: what `/ready` and the metrics are made from.

use std::collections::BTreeMap;
use tokio::time::Instant;

/// The state of every watched kind, by the kind's name. Refreshed at most once a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    pub kinds: BTreeMap<String, KindHealth>,
    /// Whether every kind's first list has been handed on.
    pub is_synced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KindHealth {
    /// Whether the first list is in, or is known not to be needed.
    pub is_listed: bool,
    /// When the API server last answered: an object, a bookmark, the end of a watch.
    pub progress: Instant,
    /// What is wrong now, if something is: `forbidden: needs list and watch of pods`.
    pub trouble: Option<String>,
    pub objects: usize,
    /// How many times everything was listed: one, unless the API server forgot where the watch was.
    pub lists: u64,
    /// Objects that are refused now.
    pub refused: usize,
}

impl Health {
    /// The kinds that are not in yet: what a start waits for.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &KindHealth)> {
        self.kinds.iter().filter(|(_, kind)| !kind.is_listed).map(|(name, kind)| (name.as_str(), kind))
    }

    /// When the kind that has been silent longest was last heard of.
    pub fn oldest_progress(&self) -> Option<Instant> {
        self.kinds.values().map(|kind| kind.progress).min()
    }
}
