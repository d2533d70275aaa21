//! The kinds of resource that a stream carries.

use std::{fmt, str::FromStr};

/// A kind of xDS resource.
///
/// ```
/// use xds::TypeUrl;
/// assert_eq!(TypeUrl::Endpoint.url(), "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
/// assert_eq!("lds".parse(), Ok(TypeUrl::Listener));
/// assert_eq!(TypeUrl::from_url(TypeUrl::Route.url()), Some(TypeUrl::Route));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrl {
    /// CDS
    Cluster,
    /// EDS: `ClusterLoadAssignment`
    Endpoint,
    /// LDS
    Listener,
    /// RDS: `RouteConfiguration`
    Route,
    /// VHDS
    VirtualHost,
    /// SDS
    Secret,
    /// ECDS: `TypedExtensionConfig`
    Extension,
    /// NDS: the host names that an agent answers for, to the agent and not to Envoy.
    NameTable,
    /// PCDS: what an agent is to change of its own settings.
    ProxyConfig,
}

impl TypeUrl {
    /// In make-before-break order: what refers to something comes after it
    /// (<https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>).
    /// Virtual hosts follow their route table at once: Envoy drops a virtual host whose table it does not know.
    pub const ALL: [Self; 9] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::VirtualHost,
        Self::Secret,
        Self::Extension,
        Self::NameTable,
        Self::ProxyConfig,
    ];

    /// The message's full name, as in a protobuf descriptor.
    pub const fn message(self) -> &'static str {
        self.url().split_at(PREFIX.len()).1
    }

    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::NameTable => "type.googleapis.com/istio.networking.nds.v1.NameTable",
            Self::ProxyConfig => "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig",
        }
    }

    /// The name of the discovery service: `cds`, `eds`, `lds`, …
    pub const fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::VirtualHost => "vhds",
            Self::Secret => "sds",
            Self::Extension => "ecds",
            Self::NameTable => "nds",
            Self::ProxyConfig => "pcds",
        }
    }

    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }
}

const PREFIX: &str = "type.googleapis.com/";

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl FromStr for TypeUrl {
    type Err = UnknownType;

    /// Accepts the full URL or the short name.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let known = |kind: &Self| kind.short() == text || kind.url() == text;
        Self::ALL.into_iter().find(known).ok_or_else(|| UnknownType(text.to_owned()))
    }
}

/// The name of no resource type served here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of xDS resource")]
pub struct UnknownType(pub String);
