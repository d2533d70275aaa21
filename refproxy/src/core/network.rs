//! One filter chain at work: its transport socket against what the client speaks, then its network filters in order.

use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfigType;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::{
    FilterConfig as SniForwardProxy, filter_config::PortSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use super::listener::Connection;
use super::outcome::{Forward, HostFromEndpoint, Outcome, Stop, rejected, unsupported};
use super::{Walk, cluster, decode, http, message_name, weighted_index};

/// The filter state key by which other filters can choose `tcp_proxy`'s cluster.
const TCP_PROXY_CLUSTER: &[u8] = b"envoy.tcp_proxy.cluster";

/// How a filter chain treats the bytes it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Raw,
    TerminatesTls,
}

pub(super) fn serve(
    walk: &mut Walk<'_>,
    listener: &Listener,
    chain: &FilterChain,
    connection: &Connection,
) -> Result<Outcome, Stop> {
    let path =
        format!("listener[{}].filter_chain[{}]", listener.name, walk.at.filter_chain.as_deref().unwrap_or_default());
    let transport = handshake(walk, chain, &path)?;
    let mut cluster_from_sni = None;
    for filter in &chain.filters {
        let filter_path = format!("{path}.filters[{}]", filter.name);
        // Whatever is discovered is somebody's own: it is taken to let the call pass.
        if let Some(ConfigType::ConfigDiscovery(_)) = &filter.config_type {
            gate(walk, &filter.name);
            continue;
        }
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { return Err(unsupported(filter_path)) };
        let name = message_name(any);
        let kind = name.strip_prefix("envoy.extensions.filters.network.").unwrap_or(name);
        match kind {
            "http_connection_manager.v3.HttpConnectionManager" => {
                let manager: HttpConnectionManager = decode(any, &filter_path)?;
                if transport == Transport::Raw && walk.call.tls.is_some() {
                    return Err(closed(walk, "the HTTP codec gets a TLS ClientHello"));
                }
                return http::serve(walk, &manager, transport, connection.local, &filter_path);
            }
            "tcp_proxy.v3.TcpProxy" => {
                let proxy: TcpProxy = decode(any, &filter_path)?;
                return tcp_proxy(walk, &proxy, cluster_from_sni, &filter_path);
            }
            "sni_dynamic_forward_proxy.v3.FilterConfig" => {
                let config: SniForwardProxy = decode(any, &filter_path)?;
                let port = match config.port_specifier {
                    Some(PortSpecifier::PortValue(port)) => port,
                    None => connection.local.port().into(),
                };
                if let (Some(cache), Some(sni)) = (config.dns_cache_config, &connection.sni) {
                    walk.resolved.insert(cache.name, format!("{sni}:{port}"));
                }
            }
            "sni_cluster.v3.SniCluster" => cluster_from_sni.clone_from(&connection.sni),
            "rbac.v3.RBAC"
            | "ext_authz.v3.ExtAuthz"
            | "local_ratelimit.v3.LocalRateLimit"
            | "ratelimit.v3.RateLimit"
            | "connection_limit.v3.ConnectionLimit" => gate(walk, &filter.name),
            "set_filter_state.v3.Config" if !contains(&any.value, TCP_PROXY_CLUSTER) => {}
            // They only watch the bytes that go by.
            "mongo_proxy.v3.MongoProxy"
            | "geoip.v3.Geoip"
            | "envoy.tcp.metadataexchange.config.MetadataExchange"
            | "stats.PluginConfig" => {}
            _ => return Err(unsupported(filter_path)),
        }
    }
    Err(closed(walk, "the filter chain has no terminal filter"))
}

fn closed(walk: &mut Walk<'_>, reason: &str) -> Stop {
    walk.trace.note(format!("the connection is closed: {reason}"));
    Outcome::Closed(reason.into()).into()
}

pub(super) fn gate(walk: &mut Walk<'_>, name: &str) {
    walk.trace.note(format!("filter {name} may refuse or answer; taken to let the call pass"));
    walk.at.gates.push(name.to_owned());
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Whether client and transport socket can talk at all.
fn handshake(walk: &mut Walk<'_>, chain: &FilterChain, path: &str) -> Result<Transport, Stop> {
    let Some(socket) = &chain.transport_socket else { return Ok(Transport::Raw) };
    let path = format!("{path}.transport_socket");
    let Some(SocketConfigType::TypedConfig(any)) = &socket.config_type else { return Err(unsupported(path)) };
    match message_name(any) {
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => return Ok(Transport::Raw),
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => {}
        _ => return Err(unsupported(path)),
    }
    let context: DownstreamTlsContext = decode(any, &path)?;
    let Some(tls) = &walk.call.tls else { return Err(closed(walk, "plaintext to a TLS filter chain")) };
    if context.require_sni.is_some_and(|required| required.value) && tls.sni.is_none() {
        return Err(closed(walk, "the TLS handshake lacks an SNI"));
    }
    if context.require_client_certificate.is_some_and(|required| required.value) && tls.peer.is_none() {
        return Err(closed(walk, "the TLS handshake lacks a client certificate"));
    }
    Ok(Transport::TerminatesTls)
}

fn tcp_proxy(
    walk: &mut Walk<'_>,
    proxy: &TcpProxy,
    cluster_from_sni: Option<String>,
    path: &str,
) -> Result<Outcome, Stop> {
    let name = match (cluster_from_sni, &proxy.cluster_specifier) {
        (Some(sni), _) => {
            walk.trace.note(format!("sni_cluster: cluster {sni}"));
            sni
        }
        (None, Some(ClusterSpecifier::Cluster(name))) => name.clone(),
        (None, Some(ClusterSpecifier::WeightedClusters(weighted))) => {
            let weights: Vec<u32> = weighted.clusters.iter().map(|cluster| cluster.weight).collect();
            let index = weighted_index(&weights, walk.call.roll)
                .ok_or_else(|| rejected(format!("{path}.weighted_clusters"), "no weight above 0"))?;
            let name = weighted.clusters[index].name.clone();
            walk.trace.note(format!("weighted clusters, roll {}: {name}", walk.call.roll));
            name
        }
        (None, None) => return Err(rejected(format!("{path}.cluster_specifier"), "is required")),
    };
    let found = cluster::find(walk, &name, None)?;
    if proxy.metadata_match.is_some() && found.subsets {
        return Err(unsupported(format!("{path}.metadata_match with cluster[{name}].lb_subset_config")));
    }
    walk.trace.note(format!("tcp_proxy to cluster {name}"));
    Ok(Outcome::Cluster(Box::new(Forward {
        listener: walk.at.listener.clone().unwrap_or_default(),
        filter_chain: walk.at.filter_chain.clone().unwrap_or_default(),
        virtual_host: None,
        route: None,
        cluster: name,
        discovery: found.discovery,
        endpoints: found.endpoints,
        path: String::new(),
        host: String::new(),
        host_from_endpoint: HostFromEndpoint::No,
        timeout: None,
        retries: None,
        mirrors: Vec::new(),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    })))
}
