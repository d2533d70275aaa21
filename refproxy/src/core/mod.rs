//! The oracle: given a snapshot of Envoy configuration and a call, which listener, filter chain, route and cluster.
//!
//! The walk is Envoy's: `listener` (capture, listener filters, hand-off) → `filter_chain` (the sieve) → `network` (TLS,
//! network filters) → `http` (what the connection manager does to a request first) → `virtual_host` (domains) →
//! `route` (matchers) → `action` (cluster, redirect, rewrites) → `cluster` (endpoints).
//!
//! What Envoy would refuse is `Rejected`; what changes the decision and is not modelled is `Unsupported`. Filters that may
//! answer or refuse (RBAC, JWT, rate limits…) are not evaluated but listed in `At::gates`. Runtime layers are taken to be
//! empty, and every listener and cluster to be warm.

mod action;
mod call;
mod cluster;
mod filter_chain;
mod http;
mod listener;
mod matcher;
mod network;
mod outcome;
mod path;
mod redirect;
mod regex;
mod route;
mod trace;
mod virtual_host;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Any;

pub use call::{Call, Protocol, Request, Tls};
pub use outcome::{At, Decision, Discovery, Endpoint, Forward, HeaderMutation, HostFromEndpoint, Mirror, Outcome};
pub use trace::Step;

use outcome::{Stop, rejected};

/// What one proxy has been given. Maps are keyed by resource name; `endpoints` by EDS service name.
///
/// Virtual hosts that travel by VHDS belong into the `virtual_hosts` of their route configuration here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub listeners: Vec<Listener>,
    pub routes: BTreeMap<String, RouteConfiguration>,
    pub clusters: BTreeMap<String, Cluster>,
    pub endpoints: BTreeMap<String, ClusterLoadAssignment>,
}

/// What becomes of a call under a configuration, and why.
///
/// ```
/// use refproxy::core::{Call, Config, Outcome, decide};
/// let decision = decide(&Config::default(), &Call::direct("10.0.0.1:80"));
/// assert_eq!(decision.outcome, Outcome::NoListener);
/// ```
pub fn decide(config: &Config, call: &Call) -> Decision {
    let mut walk = Walk {
        config,
        call,
        restored: None,
        resolved: BTreeMap::new(),
        trace: trace::Trace::default(),
        at: At::default(),
    };
    let outcome = listener::accept(&mut walk).unwrap_or_else(|stop| *stop);
    walk.trace.note(format!("outcome: {outcome}"));
    Decision { outcome, at: walk.at, trace: walk.trace.into_steps() }
}

/// One decision under way.
struct Walk<'a> {
    config: &'a Config,
    call: &'a Call,
    /// Where the connection was going before it was redirected, once `original_dst` has found out.
    restored: Option<SocketAddr>,
    /// What filters on the way have resolved, by DNS cache.
    resolved: BTreeMap<String, String>,
    trace: trace::Trace,
    at: At,
}

/// The message name in an `Any`: what decides which extension it configures (not the filter's free-form `name`).
fn message_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

fn decode<M: prost::Message + Default>(any: &Any, path: &str) -> Result<M, Stop> {
    M::decode(any.value.as_slice()).map_err(|error| rejected(path, format!("not a {}: {error}", message_name(any))))
}

/// A thing's name, or its place in the list when it has none.
fn name_or_index(name: &str, index: usize) -> String {
    if name.is_empty() { format!("#{index}") } else { name.to_owned() }
}

/// Which of the weighted choices a roll in [0, 1) lands on. `None` if all weights are zero.
fn weighted_index(weights: &[u32], roll: f64) -> Option<usize> {
    index_at(weights, |total| scaled(roll, total))
}

/// The choice in whose interval a point below the total lies; intervals follow one another in the order listed.
fn index_at(weights: &[u32], point: impl Fn(u64) -> u64) -> Option<usize> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total == 0 {
        return None;
    }
    let point = point(total);
    let mut end = 0;
    weights.iter().position(|weight| {
        end += u64::from(*weight);
        point < end
    })
}

/// `floor(roll × total)`, kept below `total` whatever the caller rolled.
fn scaled(roll: f64, total: u64) -> u64 {
    ((roll.max(0.0) * total as f64) as u64).min(total.saturating_sub(1))
}
