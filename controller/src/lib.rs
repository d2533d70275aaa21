//! The control plane as one program: `navarch up` (a mesh on a laptop) and `navarch translate` (the same, offline).
//!
//! This crate is wiring: it owns tokio, processes, sockets and the terminal, and hands facts to the pure crates.
//! What Envoy gets is decided in `model`, `translate` and `world`; how it travels in `xds`.

pub mod args;
pub mod client;
pub mod discovery;
pub mod envoy;
pub mod guard;
pub mod load;
pub mod log;
mod node;
pub mod run;
pub mod service;
pub mod tables;
pub mod translate;
pub mod up;
