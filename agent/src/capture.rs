//! Traffic capture: the netfilter rules that send a pod's traffic through its Envoy (`istio-iptables`).
//!
//! `config` says what is wanted, `plan` turns it into rules as values, `iptables` and `nftables` write the same rules
//! for their tool, `apply` runs the tool, `check` proves that the rules bite.

pub mod apply;
pub mod check;
pub mod cli;
pub mod config;
pub mod iptables;
mod netlink;
pub mod nftables;
pub mod plan;
pub mod rule;
#[cfg(test)]
mod tests;
