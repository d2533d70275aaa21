//! MeshConfig, the parts that change what is translated:
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/>. Decoded field by field by
//! [`crate::decode::mesh_config`]: a bad field keeps its last good value.

use crate::networking::{
    ConnectionPool, H2UpgradePolicy, HttpRetry, LocalityLbSetting, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
    OutlierDetection, TcpKeepalive,
};
use crate::{Duration, object::Meta};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Defaults are Istio's (`pkg/config/mesh/mesh.go`).
#[derive(Clone, Debug, PartialEq)]
pub struct MeshConfig {
    pub root_namespace: String,
    pub trust_domain: String,
    pub trust_domain_aliases: Vec<String>,
    pub proxy_listen_port: u16,
    pub proxy_inbound_listen_port: u16,
    /// 0: no HTTP proxy listener.
    pub proxy_http_port: u16,
    pub connect_timeout: Duration,
    pub protocol_detection_timeout: Duration,
    pub dns_refresh_rate: Duration,
    pub tcp_keepalive: Option<TcpKeepalive>,
    pub h2_upgrade_policy: H2UpgradePolicy,
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    pub inbound_traffic_policy: InboundTrafficPolicy,
    pub default_service_export_to: Vec<String>,
    pub default_virtual_service_export_to: Vec<String>,
    pub default_destination_rule_export_to: Vec<String>,
    pub locality_lb_setting: LocalityLbSetting,
    pub default_http_retry_policy: Option<HttpRetry>,
    pub default_traffic_policy: DefaultTrafficPolicy,
    pub path_normalization: PathNormalization,
    pub access_log_file: String,
    pub access_log_format: String,
    pub access_log_encoding: AccessLogEncoding,
    pub disable_envoy_listener_log: bool,
    pub enable_auto_mtls: bool,
    pub mesh_mtls: MeshMtls,
    /// Namespaces that are looked at; none: all of them. For the source, not for the translation.
    pub discovery_selectors: Vec<LabelSelector>,
    pub outbound_cluster_stat_name: String,
    pub inbound_cluster_stat_name: String,
    pub default_config: ProxyConfig,
    pub service_settings: Vec<ServiceSettings>,
    pub ingress_service: String,
    pub ingress_selector: String,
    /// Roots that proxies trust besides the CA's own.
    pub ca_certificates: Vec<CertificateData>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: vec![],
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            proxy_http_port: 0,
            connect_timeout: Duration::from_secs(10),
            protocol_detection_timeout: Duration::ZERO,
            dns_refresh_rate: Duration::from_secs(60),
            tcp_keepalive: None,
            h2_upgrade_policy: H2UpgradePolicy::DoNotUpgrade,
            outbound_traffic_policy: OutboundTrafficPolicy {
                mode: OutboundTrafficPolicyMode::AllowAny,
                egress_proxy: None,
            },
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            default_service_export_to: vec!["*".into()],
            default_virtual_service_export_to: vec!["*".into()],
            default_destination_rule_export_to: vec!["*".into()],
            locality_lb_setting: LocalityLbSetting { enabled: Some(true), ..Default::default() },
            default_http_retry_policy: None,
            default_traffic_policy: DefaultTrafficPolicy::default(),
            path_normalization: PathNormalization::default(),
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::default(),
            disable_envoy_listener_log: false,
            enable_auto_mtls: true,
            mesh_mtls: MeshMtls::default(),
            discovery_selectors: vec![],
            outbound_cluster_stat_name: String::new(),
            inbound_cluster_stat_name: String::new(),
            default_config: ProxyConfig::default(),
            service_settings: vec![],
            ingress_service: "istio-ingressgateway".into(),
            ingress_selector: String::new(),
            ca_certificates: vec![],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct InboundTrafficPolicy {
    pub mode: InboundTrafficPolicyMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InboundTrafficPolicyMode {
    #[default]
    Passthrough,
    Localhost,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshMtls {
    pub min_protocol_version: TlsVersion,
}

/// `TLS_AUTO` is TLS 1.2 for servers of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    #[serde(rename = "TLSV1_2")]
    V1_2,
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

/// Kubernetes' label selector; all of it must hold.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<LabelExpression>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct LabelExpression {
    pub key: String,
    pub operator: LabelOperator,
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
pub enum LabelOperator {
    #[default]
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|it| it.holds(labels))
    }
}

impl LabelExpression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|it| self.values.contains(it));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// What fills blocks that a DestinationRule leaves out.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    pub connection_pool: Option<ConnectionPool>,
    pub outlier_detection: Option<OutlierDetection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PathNormalization {
    pub normalization: Normalization,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    #[default]
    Default,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessLogEncoding {
    #[default]
    Text,
    Json,
}

/// The fields of `defaultConfig` that reach xDS or the bootstrap. Others are accepted and kept for the agent.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    pub interception_mode: InterceptionMode,
    pub proxy_metadata: BTreeMap<String, String>,
    pub concurrency: Option<u32>,
    pub stat_name_length: Option<u32>,
    pub drain_duration: Option<Duration>,
    pub discovery_address: String,
    pub gateway_topology: GatewayTopology,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InterceptionMode {
    #[default]
    Redirect,
    Tproxy,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTopology {
    pub num_trusted_proxies: u32,
}

/// Of its fields only this one has an effect; a warning names the others.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct CertificateData {
    pub pem: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ServiceSettings {
    pub settings: ServiceSetting,
    pub hosts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSetting {
    pub cluster_local: bool,
}

/// Where a MeshConfig is found: the ConfigMap named `istio` in the root namespace, key `mesh`.
pub fn is_mesh_config_map(meta: &Meta) -> bool {
    &*meta.name == "istio"
}
