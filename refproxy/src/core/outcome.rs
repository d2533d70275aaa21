//! What a call comes to.

use std::fmt;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3::RetryPolicy;

use super::trace::Step;

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub outcome: Outcome,
    /// How far the call came, whatever its outcome.
    pub at: At,
    /// In order, why.
    pub trace: Vec<Step>,
}

/// The places that a call passed. Names as configured; a filter chain or route without a name is written `#index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    pub listener: Option<String>,
    pub filter_chain: Option<String>,
    pub route_configuration: Option<String>,
    pub virtual_host: Option<String>,
    pub route: Option<String>,
    /// Filters on the way whose verdict is not modelled and that may still refuse or answer the call (RBAC, JWT, fault…).
    pub gates: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Cluster(Box<Forward>),
    Redirect {
        code: u16,
        location: String,
    },
    DirectResponse {
        status: u16,
        body: String,
    },
    /// Nothing listens where the connection arrives.
    NoListener,
    /// No filter chain matches and there is no default: Envoy closes the connection.
    NoFilterChain,
    /// The filter chain names an RDS resource that the snapshot lacks (404 in Envoy, after its fetch timed out).
    NoRouteConfiguration(String),
    /// No domain matches: 404.
    NoVirtualHost,
    /// No route of the virtual host matches: 404.
    NoRoute,
    /// The route names a cluster that does not exist (503 NC, unless `cluster_not_found_response_code` differs).
    NoCluster(String),
    /// The connection is closed before any route is looked at.
    Closed(String),
    /// Envoy would have refused (NACKed) this configuration.
    Rejected {
        path: String,
        reason: String,
    },
    /// The configuration has something that changes the decision and is not modelled: no guess is made.
    Unsupported {
        path: String,
    },
}

/// A call that goes on to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    pub listener: String,
    pub filter_chain: String,
    /// `None` for TCP, as `route`.
    pub virtual_host: Option<String>,
    pub route: Option<String>,
    pub cluster: String,
    pub discovery: Discovery,
    /// Every endpoint of the cluster, whatever its health; empty is a 503 UH.
    pub endpoints: Vec<Endpoint>,
    /// The path as it goes upstream, with its query. Empty for TCP, as `host`.
    pub path: String,
    /// The authority as it goes upstream; `auto_host_rewrite` leaves it to the chosen endpoint's `hostname`.
    pub host: String,
    pub host_from_endpoint: HostFromEndpoint,
    /// The route's timeout: 15 s unless set; `None` is no timeout (set to 0, or TCP).
    pub timeout: Option<Duration>,
    pub retries: Option<RetryPolicy>,
    pub mirrors: Vec<Mirror>,
    /// In the order in which Envoy applies them.
    pub request_headers: Vec<HeaderMutation>,
    pub response_headers: Vec<HeaderMutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFromEndpoint {
    No,
    AutoHostRewrite,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    Static,
    Dns,
    Eds,
    /// An EDS cluster whose ClusterLoadAssignment the snapshot lacks: the cluster would not finish warming.
    EdsMissing,
    OriginalDestination,
    /// A cluster extension (dynamic forward proxy, aggregate…): which endpoints it has is not modelled.
    Custom(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `ip:port`, a pipe's path, or `internal:NAME`.
    pub address: String,
    pub hostname: String,
    pub weight: u32,
    pub priority: u32,
    pub health: HealthStatus,
    /// `region/zone/sub_zone`, empty if there is none.
    pub locality: String,
    pub locality_weight: Option<u32>,
    /// The SNI of the TLS that Envoy speaks to it; `None`: no TLS.
    pub tls: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub cluster: String,
    /// Out of a million.
    pub parts_per_million: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMutation {
    Remove(String),
    /// The value is the template as configured: `%…%` is not expanded.
    Add {
        name: String,
        value: String,
        action: HeaderAppendAction,
    },
}

impl Decision {
    /// The name of the cluster that the call reaches.
    pub fn cluster(&self) -> Option<&str> {
        self.forward().map(|forward| forward.cluster.as_str())
    }

    pub fn forward(&self) -> Option<&Forward> {
        match &self.outcome {
            Outcome::Cluster(forward) => Some(forward),
            _ => None,
        }
    }

    /// The trace as text, one step a line.
    pub fn explain(&self) -> String {
        self.trace.iter().map(|step| format!("{step}\n")).collect()
    }
}

impl fmt::Display for Decision {
    /// One line for call tables: `listener / chain / route configuration / virtual host / route -> outcome`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.at;
        let places = [&at.listener, &at.filter_chain, &at.route_configuration, &at.virtual_host, &at.route];
        let passed: Vec<&str> = places.into_iter().flatten().map(String::as_str).collect();
        write!(f, "{} -> {}", passed.join(" / "), self.outcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(forward) => write!(f, "cluster {}", forward.cluster),
            Self::Redirect { code, location } => write!(f, "redirect {code} {location}"),
            Self::DirectResponse { status, body } => write!(f, "direct response {status} {body:?}"),
            Self::NoListener => f.write_str("no listener"),
            Self::NoFilterChain => f.write_str("no filter chain"),
            Self::NoRouteConfiguration(name) => write!(f, "no route configuration {name}"),
            Self::NoVirtualHost => f.write_str("no virtual host"),
            Self::NoRoute => f.write_str("no route"),
            Self::NoCluster(name) => write!(f, "no cluster {name:?}"),
            Self::Closed(reason) => write!(f, "closed: {reason}"),
            Self::Rejected { path, reason } => write!(f, "rejected: {path}: {reason}"),
            Self::Unsupported { path } => write!(f, "unsupported: {path}"),
        }
    }
}

/// Ends the walk early. Boxed: an outcome is large and travels up every function of the core.
pub(super) type Stop = Box<Outcome>;

pub(super) fn unsupported(path: impl Into<String>) -> Stop {
    Stop::new(Outcome::Unsupported { path: path.into() })
}

pub(super) fn rejected(path: impl Into<String>, reason: impl Into<String>) -> Stop {
    Stop::new(Outcome::Rejected { path: path.into(), reason: reason.into() })
}

impl Endpoint {
    /// The endpoint that a cluster without a list makes up for a connection or a request.
    pub(super) fn made_up(address: String) -> Self {
        Self {
            address,
            hostname: String::new(),
            weight: 1,
            priority: 0,
            health: HealthStatus::Unknown,
            locality: String::new(),
            locality_weight: None,
            tls: None,
        }
    }
}
