//! Sidecar: <https://istio.io/latest/docs/reference/config/networking/sidecar/>.

use super::{ConnectionPool, Destination, Port, ServerTls, WorkloadSelector};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    pub workload_selector: Option<WorkloadSelector>,
    pub ingress: Vec<IngressListener>,
    pub egress: Vec<EgressListener>,
    pub inbound_connection_pool: Option<ConnectionPool>,
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressListener {
    pub port: Port,
    pub bind: String,
    pub capture_mode: CaptureMode,
    pub default_endpoint: String,
    pub tls: Option<ServerTls>,
    pub connection_pool: Option<ConnectionPool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressListener {
    pub port: Option<Port>,
    pub bind: String,
    pub capture_mode: CaptureMode,
    pub hosts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CaptureMode {
    #[default]
    Default,
    Iptables,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    pub mode: OutboundTrafficPolicyMode,
    pub egress_proxy: Option<Destination>,
}

/// Unset inside a set object is `REGISTRY_ONLY` (the zero value of Istio's enum).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicyMode {
    #[default]
    RegistryOnly,
    AllowAny,
    AllowAnyDynamicDns,
}
