//! The kinds of objects that the charts write: how the API server calls them, and in which order they are applied.

use serde_json::Value;

/// A kind that a chart may write.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub name: &'static str,
    pub plural: &'static str,
    pub scope: Scope,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// Objects of an earlier phase are there before those of a later one are applied; they are removed in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Namespace,
    /// Waited for: until a definition is established its kind is unknown.
    Definition,
    Account,
    Right,
    Configuration,
    Service,
    Policy,
    /// Waited for, until the new pods are ready.
    Workload,
    Scaling,
    /// Last, because a webhook without its server keeps pods from being created.
    Webhook,
}

/// All kinds, by phase.
pub const KINDS: &[Kind] = &[
    kind("", "v1", "Namespace", "namespaces", Scope::Cluster, Phase::Namespace),
    kind(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        Scope::Cluster,
        Phase::Definition,
    ),
    kind("", "v1", "ServiceAccount", "serviceaccounts", Scope::Namespaced, Phase::Account),
    kind(RBAC, "v1", "ClusterRole", "clusterroles", Scope::Cluster, Phase::Right),
    kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", Scope::Cluster, Phase::Right),
    kind(RBAC, "v1", "Role", "roles", Scope::Namespaced, Phase::Right),
    kind(RBAC, "v1", "RoleBinding", "rolebindings", Scope::Namespaced, Phase::Right),
    kind("", "v1", "ConfigMap", "configmaps", Scope::Namespaced, Phase::Configuration),
    kind("", "v1", "Service", "services", Scope::Namespaced, Phase::Service),
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", Scope::Namespaced, Phase::Policy),
    kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", Scope::Namespaced, Phase::Policy),
    kind("apps", "v1", "Deployment", "deployments", Scope::Namespaced, Phase::Workload),
    kind("apps", "v1", "DaemonSet", "daemonsets", Scope::Namespaced, Phase::Workload),
    kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", Scope::Namespaced, Phase::Scaling),
    kind(
        ADMISSION,
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        Scope::Cluster,
        Phase::Webhook,
    ),
    kind(
        ADMISSION,
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        Scope::Cluster,
        Phase::Webhook,
    ),
];

/// The kind of an object, if a chart may write it.
pub fn of(object: &Value) -> Option<&'static Kind> {
    let api_version = object["apiVersion"].as_str()?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let name = object["kind"].as_str()?;
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.name == name)
}

/// How people are told of an object: `Deployment istio-system/istiod`.
pub fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

const fn kind(
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    scope: Scope,
    phase: Phase,
) -> Kind {
    Kind { group, version, name, plural, scope, phase }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
