//! What makes rows differ: the keys of the tables. Two proxies with equal keys get the same bytes.

use crds::ObjectKey;
use crds::mesh_config::InterceptionMode;
use model::{Hostname, Labels, Locality, Namespace, ProxyKind, ServiceKey};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The DestinationRules of one namespace for one host or wildcard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey {
    pub namespace: Namespace,
    pub host: Hostname,
}

/// One of a [`RuleKey`]'s merged rules: rules of different visibility stay apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    pub key: RuleKey,
    pub at: usize,
}

/// What a group of proxies sees of the mesh. Proxies of one scope share clusters, routes and outbound listeners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey {
    pub namespace: Namespace,
    pub kind: ProxyKind,
    /// Set only while some VirtualService asks for source labels.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    pub reach: Reach,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// The base that all namespaces share, and on top of it what this namespace sees differently.
    Layered,
    /// Nothing is shared: a Sidecar limits the imports, or listeners bind addresses of their own.
    Full { sidecar: Option<ObjectKey>, interception: InterceptionMode, http_proxy_port: Option<u16> },
}

/// A set of resources that proxies share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKey {
    /// As any namespace sees what is public.
    Base,
    /// Where gateways differ from the base.
    RouterBase,
    Own(Arc<ScopeKey>),
}

impl fmt::Display for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("base"),
            Self::RouterBase => f.write_str("base of routers"),
            Self::Own(scope) => write!(f, "{scope}"),
        }
    }
}

impl fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.kind, self.namespace)?;
        if let Some(labels) = &self.labels {
            write!(f, " {labels:?}")?;
        }
        match &self.reach {
            Reach::Layered => Ok(()),
            Reach::Full { sidecar, interception, http_proxy_port } => {
                write!(f, " full {interception:?} {http_proxy_port:?}")?;
                sidecar.as_ref().map_or(Ok(()), |key| write!(f, " {key}"))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterKey {
    pub service: ServiceKey,
    pub port: u16,
    pub subset: Option<Arc<str>>,
    pub rule: Option<RuleRef>,
    /// `Router` only where it makes a difference (headless services).
    pub kind: ProxyKind,
}

/// Where a proxy stands, for load assignments that differ by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VantageKey {
    pub locality: Arc<Locality>,
    pub node: Option<Arc<str>>,
    pub labels: Labels,
}

/// What the inbound side of a sidecar depends on. Replicas of a workload have equal keys when captured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundKey {
    pub interception: InterceptionMode,
    pub sidecar: Option<ObjectKey>,
    /// Set where listeners bind it (interception NONE) or a Sidecar's `0.0.0.0` endpoint means it.
    pub ip: Option<IpAddr>,
    pub ports: Vec<Instance>,
}

/// A service port that the workload serves, and where the program listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    pub target: u16,
    pub service: ServiceKey,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayKey {
    pub namespace: Namespace,
    pub labels: Labels,
    pub scope: Arc<ScopeKey>,
    /// Service ports that lead to this gateway: a Gateway names those, the proxy listens on their targets.
    pub ports: Vec<Instance>,
}

/// One outbound listener address. `bind` is an IP address or a Unix path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    pub set: SetKey,
    pub bind: Arc<str>,
    pub port: u16,
}

/// A virtual host of a route table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualHostKey {
    pub table: TableKey,
    pub subject: Subject,
}

/// A route configuration: `rds` is its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    pub set: SetKey,
    pub rds: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Service { service: ServiceKey, port: u16 },
    /// A VirtualService's host that no service has.
    Host { host: Hostname, rules: ObjectKey },
    /// A base virtual host that this scope must not see.
    Mask(Arc<str>),
}
