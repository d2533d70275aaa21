//! Labels and equality selectors.

pub use crds::Labels;
use std::collections::BTreeMap;

/// Whether every pair of the selector is among the labels. An empty selector selects everything.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
