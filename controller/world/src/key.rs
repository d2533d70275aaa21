//! What makes rows differ: the keys of the tables. Two proxies with equal keys get the same bytes.

use crds::ObjectKey;
use crds::mesh_config::InterceptionMode;
use model::{Certificates, EffectiveModes, Hostname, Labels, Locality, LowPorts, Namespace, ProxyKind, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use translate::listener::outbound::KnownAddresses;

/// The DestinationRules of one namespace for one host or wildcard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleKey {
    pub(crate) namespace: Namespace,
    pub(crate) host: Hostname,
}

/// One of a [`RuleKey`]'s merged rules: rules of different visibility stay apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleRef {
    pub(crate) key: RuleKey,
    pub(crate) at: usize,
}

/// What a group of proxies sees of the mesh. Proxies of one scope share clusters, routes and outbound listeners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ScopeKey {
    pub(crate) namespace: Namespace,
    pub(crate) kind: ProxyKind,
    /// Set only while some VirtualService asks for source labels.
    pub(crate) labels: Option<Arc<BTreeMap<String, String>>>,
    /// Of the namespace's DestinationRules that are for selected clients: those that select the proxy.
    pub(crate) selectors: Arc<BTreeSet<Labels>>,
    pub(crate) reach: Reach,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// The base that all namespaces share, and on top of it what this namespace sees differently.
    Layered,
    /// Nothing is shared: a Sidecar limits the imports, or listeners bind addresses of their own.
    Full {
        sidecar: Option<ObjectKey>,
        interception: InterceptionMode,
        http_proxy_port: Option<u16>,
        low_ports: LowPorts,
    },
}

/// A set of resources that proxies share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetKey {
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
        for selector in self.selectors.iter() {
            write!(f, " selected by {selector:?}")?;
        }
        match &self.reach {
            Reach::Layered => Ok(()),
            Reach::Full { sidecar, interception, http_proxy_port, low_ports } => {
                write!(f, " full {interception:?} {http_proxy_port:?} {low_ports:?}")?;
                sidecar.as_ref().map_or(Ok(()), |key| write!(f, " {key}"))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClusterKey {
    pub(crate) service: ServiceKey,
    pub(crate) port: u16,
    pub(crate) subset: Option<Arc<str>>,
    pub(crate) rule: Option<RuleRef>,
    /// `Router` only where it makes a difference (headless services).
    pub(crate) kind: ProxyKind,
    /// Of the client. Load assignments are the same for all, under the key without.
    pub(crate) certificates: Certificates,
}

impl ClusterKey {
    /// The same cluster for each kind of client.
    pub(crate) fn of_clients(&self) -> [Self; 2] {
        CERTIFICATES.map(|certificates| Self { certificates, ..self.clone() })
    }
}

/// What clients may differ by, in their outbound listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Client {
    pub(crate) certificates: Certificates,
    pub(crate) known: KnownAddresses,
}

pub(crate) const CLIENTS: [Client; 6] = [
    Client { certificates: Certificates::None, known: KnownAddresses::None },
    Client { certificates: Certificates::None, known: KnownAddresses::V4 },
    Client { certificates: Certificates::None, known: KnownAddresses::All },
    Client { certificates: Certificates::Workload, known: KnownAddresses::None },
    Client { certificates: Certificates::Workload, known: KnownAddresses::V4 },
    Client { certificates: Certificates::Workload, known: KnownAddresses::All },
];

/// What clients may differ by, in what they are sent of a service.
pub(crate) const CERTIFICATES: [Certificates; 2] = [Certificates::None, Certificates::Workload];

/// Where a proxy stands, for load assignments that differ by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VantageKey {
    pub(crate) locality: Arc<Locality>,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) labels: Labels,
}

/// What the inbound side of a sidecar depends on. Replicas of a workload have equal keys when captured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InboundKey {
    pub(crate) interception: InterceptionMode,
    pub(crate) sidecar: Option<ObjectKey>,
    /// Set where listeners bind it (interception NONE) or a Sidecar's `0.0.0.0` endpoint means it.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) ports: Vec<Instance>,
    /// What its ports accept; `None`: it has no certificates.
    pub(crate) security: Option<EffectiveModes>,
}

/// A service port that the workload serves, and where the program listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instance {
    pub(crate) target: u16,
    pub(crate) service: ServiceKey,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GatewayKey {
    pub(crate) namespace: Namespace,
    pub(crate) labels: Labels,
    pub(crate) scope: Arc<ScopeKey>,
    pub(crate) certificates: Certificates,
    /// Service ports that lead to this gateway: a Gateway names those, the proxy listens on their targets.
    pub(crate) ports: Vec<Instance>,
}

/// One outbound listener address. `bind` is an IP address or a Unix path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotKey {
    pub(crate) set: SetKey,
    pub(crate) bind: Arc<str>,
    pub(crate) port: u16,
}

/// A virtual host of a route table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VirtualHostKey {
    pub(crate) table: TableKey,
    pub(crate) subject: Subject,
}

/// A route configuration: `rds` is its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableKey {
    pub(crate) set: SetKey,
    pub(crate) rds: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Service {
        service: ServiceKey,
        port: u16,
    },
    /// A VirtualService's host that no service has.
    Host {
        host: Hostname,
        rules: ObjectKey,
    },
    /// A base virtual host that this scope must not see.
    Mask(Arc<str>),
}
