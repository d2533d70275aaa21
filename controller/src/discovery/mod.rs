//! `navarch discovery`: the control plane in Kubernetes, in istiod's place.
//!
//! [`process`] starts everything and owns every task; [`core`] is the one loop that decides; the rest are doors:
//! [`door`] to xDS, [`http`] for readiness, metrics and debugging, [`injector`] for the webhooks' configuration; [`addresses`]
//! writes what was allocated to ServiceEntries, [`entries`] the WorkloadEntries that [`registration`] makes of workloads
//! that register themselves.

mod addresses;
mod args;
mod core;
mod door;
mod entries;
mod environment;
mod http;
mod identity;
mod injector;
mod metrics;
mod process;
mod query;
mod registration;

pub use args::Discovery;
pub use process::run;

#[cfg(test)]
mod tests;
