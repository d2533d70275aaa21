//! A cluster's endpoints, as the snapshot tells them. Which one is picked is load balancing and not decided here.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, LbConfig, TransportSocketMatch,
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Metadata, TransportSocket, address, socket_address, transport_socket,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};

use super::{Walk, decode, message_name};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig as ForwardProxy, cluster_config::ClusterImplementationSpecifier,
};
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;

use prost::Name;

use super::call::Request;
use super::outcome::{Discovery, Endpoint, Outcome, Stop, unsupported};

/// What `use_http_header` reads unless another name is set.
const ORIGINAL_DST_HEADER: &str = "x-envoy-original-dst-host";

pub(super) struct Found {
    pub(super) discovery: Discovery,
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether `metadata_match` narrows the endpoints.
    pub(super) subsets: bool,
}

pub(super) fn find(walk: &mut Walk<'_>, name: &str, request: Option<&Request>) -> Result<Found, Stop> {
    let Some(cluster) = walk.config.clusters.get(name) else {
        walk.trace.note(format!("cluster {name:?} does not exist"));
        return Err(Outcome::NoCluster(name.to_owned()).into());
    };
    let subsets = cluster.lb_subset_config.as_ref().is_some_and(|subsets| !subsets.subset_selectors.is_empty());
    let kind = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            let discovery = Discovery::Custom(custom.name.clone());
            let endpoints = named(walk, cluster, custom)?;
            return Ok(Found { discovery, endpoints, subsets });
        }
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(*kind).map_err(|_| unsupported(format!("cluster[{name}].type")))?
        }
        None => DiscoveryType::Static,
    };
    let (discovery, assignment) = match kind {
        DiscoveryType::Static => (Discovery::Static, cluster.load_assignment.as_ref()),
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => (Discovery::Dns, cluster.load_assignment.as_ref()),
        DiscoveryType::Eds => {
            let assignment = walk.config.endpoints.get(eds_name(cluster));
            (if assignment.is_some() { Discovery::Eds } else { Discovery::EdsMissing }, assignment)
        }
        DiscoveryType::OriginalDst => {
            let address = original_destination(cluster, request, walk.restored)?;
            // Envoy made it up: it has no metadata.
            let tls = tls(cluster, None)?;
            let made_up = |address: SocketAddr| Endpoint { tls, ..Endpoint::made_up(address.to_string()) };
            let endpoints = address.map(made_up).into_iter().collect();
            return Ok(Found { discovery: Discovery::OriginalDestination, endpoints, subsets });
        }
    };
    let endpoints = assignment.map(|it| endpoints(cluster, it)).transpose()?.unwrap_or_default();
    Ok(Found { discovery, endpoints, subsets })
}

/// A dynamic forward proxy has what a filter on the way has put into its DNS cache.
fn named(walk: &Walk<'_>, cluster: &Cluster, custom: &CustomClusterType) -> Result<Vec<Endpoint>, Stop> {
    let config = custom.typed_config.as_ref();
    let Some(any) = config.filter(|it| message_name(it) == ForwardProxy::full_name()) else { return Ok(vec![]) };
    let path = format!("cluster[{}].cluster_type", cluster.name);
    let Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)) =
        decode::<ForwardProxy>(any, &path)?.cluster_implementation_specifier
    else {
        return Err(unsupported(path));
    };
    let Some(host) = walk.resolved.get(&cache.name) else { return Ok(vec![]) };
    let tls = tls(cluster, None)?;
    let port = if tls.is_some() { 443 } else { 80 };
    // The last colon of an address without a port is within its brackets.
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.clone() } else { format!("{host}:{port}") };
    Ok(vec![Endpoint { tls, ..Endpoint::made_up(address) }])
}

fn eds_name(cluster: &Cluster) -> &str {
    match &cluster.eds_cluster_config {
        Some(eds) if !eds.service_name.is_empty() => &eds.service_name,
        _ => &cluster.name,
    }
}

/// The restored destination, or what a header or the port override say instead. A connection that was not redirected
/// has none, and Envoy no host for it (`OriginalDstCluster::LoadBalancer::chooseHost`).
fn original_destination(
    cluster: &Cluster,
    request: Option<&Request>,
    restored: Option<SocketAddr>,
) -> Result<Option<SocketAddr>, Stop> {
    let Some(LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config else { return Ok(restored) };
    if config.metadata_key.is_some() {
        return Err(unsupported(format!("cluster[{}].original_dst_lb_config.metadata_key", cluster.name)));
    }
    let header = match config.http_header_name.as_str() {
        "" => ORIGINAL_DST_HEADER,
        name => name,
    };
    let named = request
        .filter(|_| config.use_http_header)
        .and_then(|request| request.first(header))
        // An unusable header counts for nothing.
        .and_then(|value| value.parse().ok());
    let Some(mut address) = named.or(restored) else { return Ok(None) };
    if let Some(port) = &config.upstream_port_override
        && let Ok(port) = u16::try_from(port.value)
    {
        address.set_port(port);
    }
    Ok(Some(address))
}

fn endpoints(cluster: &Cluster, assignment: &ClusterLoadAssignment) -> Result<Vec<Endpoint>, Stop> {
    let mut found = Vec::new();
    for locality in &assignment.endpoints {
        if locality.lb_config.is_some() {
            return Err(unsupported(format!("endpoints[{}].lb_config", assignment.cluster_name)));
        }
        found.extend(locality.lb_endpoints.iter().map(|endpoint| (locality, endpoint)));
    }
    let made = |(locality, endpoint): (&LocalityLbEndpoints, &LbEndpoint)| {
        let tls = tls(cluster, endpoint.metadata.as_ref())?;
        Ok(Endpoint { tls, ..one(assignment, locality, endpoint)? })
    };
    found.into_iter().map(made).collect()
}

fn one(
    assignment: &ClusterLoadAssignment,
    locality: &LocalityLbEndpoints,
    endpoint: &LbEndpoint,
) -> Result<Endpoint, Stop> {
    let target = match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(target)) => target,
        Some(HostIdentifier::EndpointName(name)) => assignment
            .named_endpoints
            .get(name)
            .ok_or_else(|| unsupported(format!("endpoints[{}].named_endpoints[{name}]", assignment.cluster_name)))?,
        None => return Err(unsupported(format!("endpoints[{}]: no host", assignment.cluster_name))),
    };
    let place = locality.locality.as_ref().map(|place| format!("{}/{}/{}", place.region, place.zone, place.sub_zone));
    Ok(Endpoint {
        address: target.address.as_ref().map(address).unwrap_or_default(),
        hostname: target.hostname.clone(),
        weight: endpoint.load_balancing_weight.map_or(1, |weight| weight.value),
        priority: locality.priority,
        health: HealthStatus::try_from(endpoint.health_status).unwrap_or_default(),
        locality: place.filter(|place| place != "//").unwrap_or_default(),
        locality_weight: locality.load_balancing_weight.map(|weight| weight.value),
        tls: None,
    })
}

/// The SNI, if the transport socket for an endpoint of this metadata speaks TLS. The first match whose fields the
/// endpoint all has wins; if none does, the cluster's own socket.
fn tls(cluster: &Cluster, metadata: Option<&Metadata>) -> Result<Option<String>, Stop> {
    let own = metadata.and_then(|it| it.filter_metadata.get("envoy.transport_socket_match"));
    let fits = |wanted: &TransportSocketMatch| {
        let mut fields = wanted.r#match.iter().flat_map(|it| &it.fields);
        fields.all(|(key, value)| own.is_some_and(|own| own.fields.get(key) == Some(value)))
    };
    let found = cluster.transport_socket_matches.iter().find(|it| fits(it)).and_then(|it| it.transport_socket.as_ref());
    found.or(cluster.transport_socket.as_ref()).map_or(Ok(None), |it| sni(it, &cluster.name))
}

fn sni(socket: &TransportSocket, cluster: &str) -> Result<Option<String>, Stop> {
    let path = || format!("cluster[{cluster}].transport_socket[{}]", socket.name);
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        return Err(unsupported(path()));
    };
    let name = message_name(any);
    match name.strip_prefix("envoy.extensions.transport_sockets.").unwrap_or(name) {
        "raw_buffer.v3.RawBuffer" => Ok(None),
        "tls.v3.UpstreamTlsContext" => Ok(Some(decode::<UpstreamTlsContext>(any, &path())?.sni)),
        "proxy_protocol.v3.ProxyProtocolUpstreamTransport" => {
            let around: ProxyProtocolUpstreamTransport = decode(any, &path())?;
            around.transport_socket.map_or(Ok(None), |inner| sni(&inner, cluster))
        }
        _ => Err(unsupported(path())),
    }
}

fn address(address: &Address) -> String {
    match &address.address {
        Some(address::Address::SocketAddress(socket)) => {
            let port = match &socket.port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => port.to_string(),
                Some(socket_address::PortSpecifier::NamedPort(name)) => name.clone(),
                None => String::new(),
            };
            // As SocketAddr writes it.
            if socket.address.contains(':') {
                format!("[{}]:{port}", socket.address)
            } else {
                format!("{}:{port}", socket.address)
            }
        }
        Some(address::Address::Pipe(pipe)) => pipe.path.clone(),
        Some(address::Address::EnvoyInternalAddress(internal)) => match &internal.address_name_specifier {
            Some(envoy_types::pb::envoy::config::core::v3::envoy_internal_address::AddressNameSpecifier::ServerListenerName(
                name,
            )) => format!("internal:{name}"),
            None => String::new(),
        },
        None => String::new(),
    }
}
