//! When a request is tried again (`retry.ConvertPolicy`).

use crate::message;
use crds::networking::HttpRetry;
use xds::envoy::RetryPolicy;
use xds::envoy::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use xds::envoy::previous_hosts::PreviousHostsPredicate;
use xds::envoy::route::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};

const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const STATUS_CODES: &str = "retriable-status-codes";
const ATTEMPTS: u32 = 2;

/// Which endpoints a retry may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// Others than those that have failed, if the rule does not say otherwise.
    Any,
    /// The one that the request's hash chooses.
    Hashed,
}

/// `None`, the rule and the mesh being silent, is Istio's default; no attempts is no retry.
pub(super) fn policy(from: Option<&HttpRetry>, hosts: Hosts) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        retry_on: RETRY_ON.into(),
        num_retries: message::uint32(ATTEMPTS),
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::default()
    };
    if hosts == Hosts::Any {
        policy.retry_host_predicate = previous_hosts();
    }
    let Some(from) = from else { return Some(policy) };
    policy.num_retries = message::uint32(u32::try_from(from.attempts).ok().filter(|it| *it > 0)?);
    if !from.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&from.retry_on);
    }
    policy.per_try_timeout = from.per_try_timeout.and_then(message::duration);
    match from.retry_ignore_previous_hosts {
        Some(true) => policy.retry_host_predicate = previous_hosts(),
        Some(false) => policy.retry_host_predicate.clear(),
        None => {}
    }
    if from.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(previous_priorities());
    }
    // Envoy refuses an interval of nothing.
    let backoff = from.backoff.filter(|it| !it.0.is_zero());
    policy.retry_back_off = backoff.map(|it| RetryBackOff { base_interval: message::duration(it), max_interval: None });
    Some(policy)
}

/// Requests that were reset before the application saw them.
pub(super) fn inbound_policy() -> RetryPolicy {
    RetryPolicy {
        retry_on: "reset-before-request".into(),
        num_retries: message::uint32(ATTEMPTS),
        ..RetryPolicy::default()
    }
}

/// Envoy's conditions, and the status codes that Istio allows among them.
fn conditions(retry_on: &str) -> (String, Vec<u32>) {
    let parts = retry_on.split(',').map(str::trim).filter(|it| !it.is_empty());
    let code = |part: &str| part.parse::<u32>().ok().filter(|it| is_status(*it));
    let (codes, mut names): (Vec<&str>, Vec<&str>) = parts.partition(|it| code(it).is_some());
    if !codes.is_empty() && !names.iter().any(|it| it.contains(STATUS_CODES)) {
        // Istio leaves an empty condition in front when there are codes only; it means nothing to Envoy.
        names.push(STATUS_CODES);
    }
    (names.join(","), codes.into_iter().filter_map(code).collect())
}

/// The codes that Go's `http.StatusText` knows.
fn is_status(code: u32) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
}

fn previous_hosts() -> Vec<RetryHostPredicate> {
    let config = message::any(&PreviousHostsPredicate {});
    vec![RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    }]
}

fn previous_priorities() -> RetryPriority {
    let config = message::any(&PreviousPrioritiesConfig { update_frequency: 2 });
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(config)),
    }
}
