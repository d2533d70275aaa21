//! Admission: sidecars injected into pods, wrong configuration refused.
//!
//! [`inject`] is pure: a pod and the injector's configuration in, the changed pod out. [`serve`] is the HTTP shell that
//! the API server calls, [`bundle`] keeps our webhook configurations callable, [`kube_inject`] does to files what the
//! webhook does to pods. This crate knows pods and Istio's annotations; it knows nothing of Envoy or xDS.

pub mod bundle;
pub mod cli;
pub mod inject;
pub mod kube_inject;
pub mod serve;

mod patch;
mod yaml;
