//! Where objects come from: a folder of YAML files, or an API server. It decodes and validates, and hands on what
//! changed. Beside it, the lease by which one of several replicas writes to the API server.
//!
//! This crate does I/O and knows nothing of what the objects mean: no mesh, no Envoy.

pub mod files;
pub mod kube;
pub mod lease;
pub mod mesh_config;
