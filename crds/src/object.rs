//! What every object has: a key and metadata; and the closed list of kinds that navarch reads.

use crate::{extensions as x, kube, networking as n, security as s};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The kinds navarch reads. Cluster-scoped kinds have an empty namespace in their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ConfigMap,
    Deployment,
    DestinationRule,
    EndpointSlice,
    EnvoyFilter,
    Gateway,
    Namespace,
    Node,
    PeerAuthentication,
    Pod,
    ProxyConfig,
    Service,
    ServiceEntry,
    Sidecar,
    TrafficExtension,
    VirtualService,
    WasmPlugin,
    WorkloadEntry,
    WorkloadGroup,
    /// A kind that navarch does not read. No [`Object`] ever has it: it occurs only in the key of a `Problem`.
    Unread(&'static str),
}

impl Kind {
    /// The kind as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Deployment => "Deployment",
            Self::DestinationRule => "DestinationRule",
            Self::EndpointSlice => "EndpointSlice",
            Self::EnvoyFilter => "EnvoyFilter",
            Self::Gateway => "Gateway",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::Pod => "Pod",
            Self::ProxyConfig => "ProxyConfig",
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
            Self::Sidecar => "Sidecar",
            Self::TrafficExtension => "TrafficExtension",
            Self::VirtualService => "VirtualService",
            Self::WasmPlugin => "WasmPlugin",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::WorkloadGroup => "WorkloadGroup",
            Self::Unread(name) => name,
        }
    }

    /// Whether objects of this kind live outside any namespace.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::Namespace | Self::Node | Self::Unread("GatewayClass"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Shared: all pods of a Deployment have the same, and every endpoint of a pod carries the pod's.
pub type Labels = Arc<BTreeMap<String, String>>;

/// The part of `metadata` that decides anything. `resourceVersion` and managed fields are left out on purpose:
/// a change of those alone is no change.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub labels: Labels,
    pub annotations: Labels,
    /// RFC 3339; compares as text. Absent (empty) in files: then names decide what is older.
    pub creation_timestamp: Arc<str>,
}

/// An object of one kind: metadata and its decoded content.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub key: ObjectKey,
    pub meta: Meta,
    pub spec: Spec,
}

/// The content of an object. Pods, EndpointSlices and ConfigMaps carry more than `spec`; see [`kube`].
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    ConfigMap(kube::ConfigMap),
    Deployment(Box<kube::Deployment>),
    DestinationRule(Box<n::DestinationRule>),
    EndpointSlice(kube::EndpointSlice),
    EnvoyFilter(Box<n::EnvoyFilter>),
    Gateway(n::Gateway),
    Namespace,
    Node,
    PeerAuthentication(s::PeerAuthentication),
    Pod(kube::Pod),
    ProxyConfig(n::ProxyConfig),
    Service(kube::Service),
    ServiceEntry(n::ServiceEntry),
    Sidecar(Box<n::Sidecar>),
    TrafficExtension(Box<x::TrafficExtension>),
    VirtualService(n::VirtualService),
    WasmPlugin(Box<x::WasmPlugin>),
    WorkloadEntry(n::WorkloadEntry),
    WorkloadGroup(Box<n::WorkloadGroup>),
}
