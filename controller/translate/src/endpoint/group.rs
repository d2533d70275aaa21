//! Endpoints of one locality and priority, before they become messages.

use model::{Endpoint, Locality};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    pub(super) locality: &'a Locality,
    pub(super) endpoints: Vec<&'a Endpoint>,
    pub(super) weight: u32,
    pub(super) priority: u32,
}

impl<'a> Group<'a> {
    fn new(locality: &'a Locality, endpoints: Vec<&'a Endpoint>, priority: u32) -> Self {
        let weight = endpoints.iter().fold(0, |sum: u32, it| sum.saturating_add(it.weight.max(1)));
        Self { locality, endpoints, weight, priority }
    }

    /// In order of localities; endpoints keep their order. A locality weighs as much as its endpoints together.
    pub(super) fn by_locality(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<Self> {
        let mut by_locality: BTreeMap<&Locality, Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in endpoints {
            by_locality.entry(&endpoint.locality).or_default().push(endpoint);
        }
        by_locality.into_iter().map(|(locality, endpoints)| Self::new(locality, endpoints, 0)).collect()
    }

    /// Into one group for each priority that `of` gives, in order of priorities.
    pub(super) fn split(&self, of: impl Fn(&Endpoint) -> u32) -> Vec<Self> {
        let mut by_priority: BTreeMap<u32, Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in &self.endpoints {
            by_priority.entry(of(endpoint)).or_default().push(endpoint);
        }
        by_priority.into_iter().map(|(priority, endpoints)| Self::new(self.locality, endpoints, priority)).collect()
    }
}

/// Envoy wants priorities from 0 without gaps.
pub(super) fn compact_priorities(groups: &mut [Group<'_>]) {
    let used: std::collections::BTreeSet<u32> = groups.iter().map(|it| it.priority).collect();
    for group in groups {
        // At most as many as there are groups.
        group.priority = used.range(..group.priority).count() as u32;
    }
}
