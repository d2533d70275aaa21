//! What runs beside Envoy in a pod: its bootstrap, its certificates, its way to the control plane, traffic capture.
//!
//! Pure: `environment`, `node`, `bootstrap`, `certificate::schedule`, `drain`. Shells: the rest; `proxy` wires them.

pub mod backoff;
pub mod bootstrap;
pub mod capture;
pub mod certificate;
pub mod cli;
pub mod discovery;
pub mod dns;
pub mod drain;
pub mod environment;
pub mod envoy;
mod health;
pub mod metrics;
pub mod node;
pub mod proxy;
pub mod secret;
pub mod status;
#[cfg(test)]
mod testing;
mod upstream;
