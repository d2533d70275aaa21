//! Hosts that Envoy resolves itself, by the name in each request or handshake (dynamic forward proxy): ServiceEntries of
//! resolution DYNAMIC_DNS, and unknown hosts where MeshConfig says `ALLOW_ANY_DYNAMIC_DNS`.
//!
//! A filter on the way resolves the name and the cluster finds it in the cache of the same name; Envoy refuses two
//! caches of one name that differ.

use crate::message;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{CustomClusterType, DnsLookupFamily};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config::ClusterImplementationSpecifier,
};
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::{
    FilterConfig, filter_config::ImplementationSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::{
    FilterConfig as SniFilterConfig, filter_config::PortSpecifier,
};
use model::{Hostname, Resolution, Service};

/// Whose names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DnsCache {
    /// Of a wildcard host.
    Host(Hostname),
    /// Of hosts that the mesh does not know.
    Unknown,
}

impl DnsCache {
    /// Of services whose names are resolved by Envoy.
    pub fn of(service: &Service) -> Option<Self> {
        (service.resolution == Resolution::DynamicDns).then(|| Self::Host(service.key.host.clone()))
    }

    /// Without TLS there is no name to check, and Envoy wants to be told that it need not.
    pub(crate) fn cluster_type(&self) -> CustomClusterType {
        let config = ClusterConfig {
            allow_insecure_cluster_options: true,
            cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(self.config())),
            ..Default::default()
        };
        CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
            typed_config: Some(message::any(&config)),
        }
    }

    /// Resolves the host of a request that is routed to such a cluster.
    pub(crate) fn http_filter(&self) -> FilterConfig {
        let implementation_specifier = Some(ImplementationSpecifier::DnsCacheConfig(self.config()));
        FilterConfig { implementation_specifier, ..Default::default() }
    }

    /// Resolves the server name of a TLS handshake.
    pub(crate) fn sni_filter(&self, port: u16) -> SniFilterConfig {
        SniFilterConfig {
            dns_cache_config: Some(self.config()),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        }
    }

    fn config(&self) -> DnsCacheConfig {
        let (name, max_hosts) = match self {
            Self::Host(host) => (format!("{host}_dfp_dns_cache"), None),
            Self::Unknown => ("allow_any_dfp_dns_cache".to_owned(), message::uint32(UNKNOWN_HOSTS_MAX)),
        };
        // As for other names: proxies of both families share it.
        DnsCacheConfig { name, max_hosts, dns_lookup_family: DnsLookupFamily::V4Preferred.into(), ..Default::default() }
    }
}

pub(crate) const HTTP_FILTER: &str = "envoy.filters.http.dynamic_forward_proxy";
pub(crate) const SNI_FILTER: &str = "envoy.filters.network.sni_dynamic_forward_proxy";

/// Istio's `PILOT_ALLOW_ANY_DYNAMIC_DNS_MAX_HOSTS`.
const UNKNOWN_HOSTS_MAX: u32 = 1024;
