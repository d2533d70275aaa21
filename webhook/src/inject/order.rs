//! The order of a pod's containers, which is the order in which the kubelet starts them.

use super::pod::{containers, containers_mut, named};
use super::{INIT, PROXY, VALIDATION};
use serde_json::Value;

/// Whether the application waits for its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Yes,
    No,
}

pub(super) fn order(pod: &mut Value, hold: Hold) {
    match hold {
        Hold::Yes => first(pod, "containers", PROXY),
        // `kubectl exec` and the like go to the first container.
        Hold::No => last(pod, "containers", PROXY),
    }
    let list = "initContainers";
    if containers(pod, list).iter().any(|it| named(it, PROXY)) {
        // A native sidecar runs before the other init containers: they are part of the mesh.
        first(pod, list, PROXY);
        first(pod, list, VALIDATION);
        first(pod, list, INIT);
    } else {
        // Without a proxy yet, redirection would cut the other init containers off, so it comes last; the check of what
        // the node did comes first, so that nothing runs outside the mesh.
        first(pod, list, VALIDATION);
        last(pod, list, INIT);
    }
}

fn first(pod: &mut Value, list: &str, name: &str) {
    if let Some(container) = take(pod, list, name) {
        containers_mut(pod, list).insert(0, container);
    }
}

fn last(pod: &mut Value, list: &str, name: &str) {
    if let Some(container) = take(pod, list, name) {
        containers_mut(pod, list).push(container);
    }
}

fn take(pod: &mut Value, list: &str, name: &str) -> Option<Value> {
    let at = containers(pod, list).iter().position(|it| named(it, name))?;
    Some(containers_mut(pod, list).remove(at))
}
