//! The DNS proxy of a pod (localhost:15053): answers the mesh's names from the table istiod sends and hands everything
//! else to the resolvers of the pod's resolv.conf.
//!
//! `table` and `answer` are pure; `forward` asks upstream; `serve` holds the sockets.

pub mod answer;
pub mod forward;
pub mod metrics;
pub mod resolv_conf;
pub mod serve;
pub mod table;
#[cfg(test)]
mod tests;
pub mod wire;

pub use metrics::Metrics;
pub use resolv_conf::ResolvConf;
pub use serve::{Options, serve};
pub use table::{Place, Table};
