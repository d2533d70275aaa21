//! Labels and equality selectors.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Shared: every endpoint of a pod carries the pod's labels.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Whether every pair of the selector is among the labels. An empty selector selects everything.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
