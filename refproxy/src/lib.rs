//! The reference proxy: what Envoy does with a configuration, written to be read.
//!
//! [`core`] is the pure part, an oracle without I/O, clock or randomness. It must know nothing of Istio: it judges the
//! Envoy configuration that navarch hands out, not the intent behind it.

pub mod core;
