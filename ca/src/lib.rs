//! Workload identities: who asks (SPIFFE ids from tokens and certificates), and what is signed for them.
//!
//! Knows nothing of xDS, routing or proxies. Pure: `spiffe`, `key`, `certificate`, `csr`, `bundle`, `authority`,
//! `rotate`, `limit`. Shells: `authenticate`, `store`, `roots`, `service`, `tls`, `wire`.
pub mod authenticate;
pub mod authority;
pub mod bundle;
pub mod certificate;
pub mod clock;
pub mod csr;
pub mod key;
pub mod limit;
pub mod metrics;
pub mod roots;
pub mod rotate;
pub mod service;
pub mod spiffe;
pub mod store;
mod template;
pub mod tls;
pub mod wire;

#[cfg(test)]
mod testing;
