//! `networking.istio.io`: <https://istio.io/latest/docs/reference/config/networking/>. Field names are Istio's.

mod destination_rule;
mod envoy_filter;
mod gateway;
mod proxy_config;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_group;

pub use destination_rule::*;
pub use envoy_filter::*;
pub use gateway::*;
pub use proxy_config::*;
pub use service_entry::*;
pub use sidecar::*;
pub use virtual_service::*;
pub use workload_group::*;

use schemars::JsonSchema;
use serde::Deserialize;

/// `Port` of Gateway servers, Sidecar listeners and ServiceEntries.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub number: u32,
    pub name: String,
    pub protocol: String,
    pub target_port: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PortSelector {
    pub number: u32,
}

#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Percent {
    /// 0 to 100.
    pub value: f64,
}
