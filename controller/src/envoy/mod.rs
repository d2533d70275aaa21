//! The data plane's side of the house: where a stock Envoy is found, how it is started, and what its admin
//! interface says.

pub mod admin;
pub mod bootstrap;
pub mod find;
