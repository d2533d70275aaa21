//! The fields of Kubernetes' own objects that navarch reads, and no others: what is not here can change without
//! anything being computed. Shapes: <https://kubernetes.io/docs/reference/kubernetes-api/>.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub r#type: ServiceType,
    /// `None` is the headless Service's literal "None".
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    pub external_name: Option<String>,
    pub ports: Vec<ServicePort>,
    pub selector: Labels,
    pub publish_not_ready_addresses: bool,
    pub internal_traffic_policy: Option<String>,
    pub traffic_distribution: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    pub name: String,
    pub port: u16,
    pub protocol: TransportProtocol,
    pub app_protocol: Option<String>,
    pub target_port: Option<IntOrString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Int(u16),
    String(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub address_type: String,
    pub endpoints: Vec<SliceEndpoint>,
    pub ports: Vec<SlicePort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    pub addresses: Vec<String>,
    pub conditions: Conditions,
    pub node_name: Option<String>,
    /// Of a pod of a headless Service: its name below the Service's.
    pub hostname: Option<String>,
    pub zone: Option<String>,
    pub target_ref: Option<TargetRef>,
}

/// Absent `ready` and `serving` mean true, absent `terminating` means false (Kubernetes API).
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlicePort {
    pub name: Option<String>,
    pub port: Option<u16>,
    pub protocol: TransportProtocol,
}

/// `spec` and `status` of a Pod, as far as they are read.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub service_account_name: Arc<str>,
    pub node_name: Arc<str>,
    /// Shared among pods that are alike.
    pub containers: Arc<Vec<Container>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub ports: Vec<ContainerPort>,
    pub env: Vec<EnvVar>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: String,
    pub container_port: u16,
    pub protocol: TransportProtocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

/// What of a Pod's status decides anything: without texts, because nothing is as many as Pods.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenPodStatus")]
pub struct PodStatus {
    /// The Pod's own first. Kubernetes gives one of each family at most.
    pub ips: [Option<IpAddr>; 2],
    /// Neither ended nor said to be unready. (A file may say nothing of it.)
    pub is_ready: bool,
}

/// A Pod's status as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenPodStatus {
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<WrittenPodIp>,
    phase: String,
    conditions: Vec<WrittenCondition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WrittenPodIp {
    ip: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WrittenCondition {
    r#type: String,
    status: String,
}

impl Default for PodStatus {
    fn default() -> Self {
        WrittenPodStatus::default().into()
    }
}

impl From<WrittenPodStatus> for PodStatus {
    fn from(written: WrittenPodStatus) -> Self {
        let texts = written.pod_ips.iter().map(|it| &it.ip).chain([&written.pod_ip]);
        let mut ips = Vec::new();
        for ip in texts.filter_map(|it| it.parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        let has_ended = matches!(written.phase.as_str(), "Succeeded" | "Failed");
        let is_unready = written.conditions.iter().any(|it| it.r#type == "Ready" && it.status != "True");
        Self { ips: [ips.first().copied(), ips.get(1).copied()], is_ready: !has_ended && !is_unready }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    pub replicas: Option<u16>,
    pub selector: LabelSelector,
    pub template: PodTemplate,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    pub metadata: TemplateMeta,
    pub spec: PodSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct TemplateMeta {
    pub labels: Labels,
    pub annotations: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    pub data: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_status_says_its_addresses_once_and_whether_it_is_ready() {
        let ready =
            |status: &str| json!([{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": status}]);
        for (written, ips, is_ready) in [
            (json!({}), &[][..], true),
            (json!({"podIP": "10.0.0.7"}), &["10.0.0.7"], true),
            (
                json!({"podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}]}),
                &["10.0.0.7", "fd00::7"],
                true,
            ),
            (
                json!({"podIPs": [{"ip": "fd00::7"}, {"ip": "10.0.0.7"}], "phase": "Running"}),
                &["fd00::7", "10.0.0.7"],
                true,
            ),
            (json!({"podIP": "no address"}), &[], true),
            (json!({"podIP": "10.0.0.7", "conditions": ready("True")}), &["10.0.0.7"], true),
            (json!({"podIP": "10.0.0.7", "conditions": ready("False")}), &["10.0.0.7"], false),
            (json!({"podIP": "10.0.0.7", "conditions": ready("Unknown")}), &["10.0.0.7"], false),
            (json!({"podIP": "10.0.0.7", "phase": "Succeeded"}), &["10.0.0.7"], false),
            (json!({"podIP": "10.0.0.7", "phase": "Failed"}), &["10.0.0.7"], false),
        ] {
            let status: PodStatus = serde_json::from_value(written.clone()).unwrap();
            let found: Vec<_> = status.ips.iter().flatten().map(ToString::to_string).collect();
            assert_eq!(
                (found.as_slice(), status.is_ready),
                (ips.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice(), is_ready),
                "{written}"
            );
        }
        let empty: Pod = serde_json::from_value(json!({})).unwrap();
        assert!(empty.status.is_ready && empty == Pod::default());
    }
}
