//! Tests of the whole: golden pairs with their call tables, real Envoys, real processes. Knows every crate; nothing
//! knows it.

pub mod call;
pub mod cluster;
pub mod golden;
pub mod kubernetes;
pub mod navarch;
pub mod pilot_agent;
pub mod traffic;
pub mod validate;
