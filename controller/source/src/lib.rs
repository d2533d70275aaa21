//! Where objects come from: a folder of YAML files. It decodes and validates, and hands on what changed.
//!
//! This crate does I/O and knows nothing of what the objects mean: no mesh, no Envoy.

pub mod files;
pub mod mesh_config;
