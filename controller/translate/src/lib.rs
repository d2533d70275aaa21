//! What Envoy is told: pure functions from the mesh's values to Envoy's messages.
//!
//! This crate knows Istio's translation rules. It reads no tables, files or clocks, and knows of no connections.

pub mod cluster;
pub mod endpoint;
pub mod envoy_filter;
pub mod extension;
pub mod forward_proxy;
pub mod listener;
pub mod message;
pub mod name;
pub mod name_table;
pub mod route;
pub mod tls;
pub mod trust;

/// An Envoy resource, and what in the users' configuration could not be honoured in it. A wrong part is left out
/// alone; the rest is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Translated<T> {
    pub resource: T,
    pub problems: Vec<crds::Problem>,
}

impl<T> Translated<T> {
    /// A resource in which nothing had to be left out.
    pub fn flawless(resource: T) -> Self {
        Self { resource, problems: Vec::new() }
    }
}
