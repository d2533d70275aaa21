//! Whether a patch's match finds a resource, or a part of one.

use super::{Context, Patch, Patches};
use crds::networking::{ApplyTo, ClusterMatch, ListenerMatch, RouteConfigurationMatch, RouteMatchAction};
use xds::envoy::listener::FilterChain;
use xds::envoy::pb::envoy::config::core::v3::{address, socket_address::PortSpecifier};
use xds::envoy::pb::google::protobuf::value::Kind;
use xds::envoy::route::route::Action;
use xds::envoy::{Cluster, Listener, Route, VirtualHost};

const VIRTUAL_INBOUND: &str = "virtualInbound";
const VIRTUAL_OUTBOUND: &str = "virtualOutbound";

/// `DIRECTION|PORT|SUBSET|HOST`
struct SubsetKey<'a> {
    direction: &'a str,
    port: u32,
    subset: &'a str,
    host: &'a str,
}

impl<'a> SubsetKey<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let parts: Vec<&str> = name.splitn(4, '|').collect();
        let [direction, port, subset, host] = parts[..] else { return None };
        Some(Self { direction, port: port.parse().ok()?, subset, host })
    }
}

/// By the name alone; an inbound cluster's hosts are not in it.
pub(super) fn may_be_cluster(patch: &Patch, name: &str) -> bool {
    let Some(of) = &patch.matcher.cluster else { return true };
    is_cluster(of, name, |_| true)
}

pub(super) fn cluster(patch: &Patch, cluster: &Cluster) -> bool {
    let Some(of) = &patch.matcher.cluster else { return true };
    is_cluster(of, &cluster.name, |host| hosts(cluster).any(|it| it == host))
}

fn is_cluster(of: &ClusterMatch, name: &str, is_inbound_host: impl Fn(&str) -> bool) -> bool {
    if !of.name.is_empty() {
        return of.name == name;
    }
    if of.service.is_empty() && of.subset.is_empty() && of.port_number == 0 {
        return true;
    }
    let Some(key) = SubsetKey::parse(name) else { return false };
    let is_host = match (of.service.as_str(), key.direction) {
        ("", _) => true,
        (host, "inbound") => is_inbound_host(host),
        (host, _) => host == key.host,
    };
    is_host && (of.subset.is_empty() || of.subset == key.subset) && (of.port_number == 0 || of.port_number == key.port)
}

/// The services of an inbound cluster, from its metadata.
fn hosts(cluster: &Cluster) -> impl Iterator<Item = &str> {
    let istio = cluster.metadata.as_ref().and_then(|it| it.filter_metadata.get("istio"));
    let services = match istio.and_then(|it| it.fields.get("services")?.kind.as_ref()) {
        Some(Kind::ListValue(list)) => list.values.as_slice(),
        _ => &[],
    };
    services.iter().filter_map(|service| match service.kind.as_ref()? {
        Kind::StructValue(fields) => match fields.fields.get("host")?.kind.as_ref()? {
            Kind::StringValue(host) => Some(host.as_str()),
            _ => None,
        },
        _ => None,
    })
}

/// In the listeners of captured traffic, ports are those of filter chains.
fn is_virtual(listener: &Listener) -> bool {
    [VIRTUAL_INBOUND, VIRTUAL_OUTBOUND].contains(&listener.name.as_str())
}

pub(super) fn listener(patch: &Patch, listener: &Listener) -> bool {
    let Some(of) = &patch.matcher.listener else { return true };
    if !of.name.is_empty() && of.name != listener.name {
        return false;
    }
    if patch.apply_to != ApplyTo::Listener && is_virtual(listener) {
        return true;
    }
    of.port_number == 0 || port(listener) == Some(of.port_number)
}

/// `None`: of a Unix socket.
pub(crate) fn port(listener: &Listener) -> Option<u32> {
    match listener.address.as_ref()?.address.as_ref()? {
        address::Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => Some(*port),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

pub(super) fn filter_chain(patch: &Patch, listener: &Listener, chain: &FilterChain) -> bool {
    let Some(of) = &patch.matcher.listener else { return true };
    is_chain(of, is_virtual(listener), chain)
}

fn is_chain(of: &ListenerMatch, is_virtual: bool, chain: &FilterChain) -> bool {
    let own = chain.filter_chain_match.clone().unwrap_or_default();
    let port = own.destination_port.map(|it| it.value);
    if is_virtual && of.port_number != 0 && port != Some(of.port_number) {
        return false;
    }
    let Some(of) = &of.filter_chain else { return true };
    let protocols = of.application_protocols.split(',').filter(|it| !it.is_empty());
    (of.name.is_empty() || of.name == chain.name)
        && (of.sni.is_empty() || own.server_names.contains(&of.sni))
        && (of.transport_protocol.is_empty() || of.transport_protocol == own.transport_protocol)
        && (of.transport_socket.is_empty()
            || chain.transport_socket.as_ref().is_some_and(|it| it.name == of.transport_socket))
        && protocols.into_iter().all(|it| own.application_protocols.iter().any(|own| own == it))
        && (of.destination_port == 0 || port == Some(of.destination_port))
}

/// The name of the network filter that a patch asks for.
pub(super) fn network_filter(patch: &Patch) -> Option<&str> {
    let chain = patch.matcher.listener.as_ref()?.filter_chain.as_ref()?;
    chain.filter.as_ref().map(|it| it.name.as_str())
}

/// The name of the HTTP filter that a patch asks for.
pub(super) fn http_filter(patch: &Patch) -> Option<&str> {
    let chain = patch.matcher.listener.as_ref()?.filter_chain.as_ref()?;
    chain.filter.as_ref()?.sub_filter.as_ref().map(|it| it.name.as_str())
}

pub(super) fn listener_filter(patch: &Patch) -> Option<&str> {
    patch.matcher.listener.as_ref().map(|it| it.listener_filter.as_str()).filter(|it| !it.is_empty())
}

pub(super) fn route_configuration(patch: &Patch, context: Context, patches: &Patches, name: &str) -> bool {
    let Some(of) = &patch.matcher.route_configuration else { return true };
    let named = of.name.is_empty() || of.name == name;
    match context {
        Context::Gateway => named && is_of_gateway(of, patches, name),
        Context::Inbound | Context::Outbound => {
            let port = SubsetKey::parse(name).map(|it| it.port).or_else(|| name.parse().ok()).unwrap_or(0);
            named && (of.port_number == 0 || of.port_number == port)
        }
    }
}

/// Names are `http.PORT` and `https.PORT.PORT_NAME.GATEWAY.NAMESPACE`.
fn is_of_gateway(of: &RouteConfigurationMatch, patches: &Patches, name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let port: u16 = parts.get(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let (port_name, gateway) = match parts[..] {
        ["https", _, port_name, gateway, namespace] => (port_name, format!("{namespace}/{gateway}")),
        _ => ("", String::new()),
    };
    let is_port = match patches.ports.get(&port) {
        Some(ports) => ports.iter().any(|it| u32::from(*it) == of.port_number),
        None => u32::from(port) == of.port_number,
    };
    (of.port_number == 0 || is_port)
        && (of.port_name.is_empty() || of.port_name == port_name)
        && (of.gateway.is_empty() || of.gateway == gateway)
}

pub(super) fn virtual_host(patch: &Patch, host: &VirtualHost) -> bool {
    let of = patch.matcher.route_configuration.as_ref().and_then(|it| it.vhost.as_ref());
    of.is_none_or(|of| {
        (of.name.is_empty() || of.name == host.name)
            && (of.domain_name.is_empty() || host.domains.contains(&of.domain_name))
    })
}

/// Whether a patch asks for certain routes.
pub(super) fn has_route(patch: &Patch) -> bool {
    let of = patch.matcher.route_configuration.as_ref().and_then(|it| it.vhost.as_ref());
    of.is_some_and(|it| it.route.is_some())
}

pub(super) fn route(patch: &Patch, route: &Route) -> bool {
    let of = patch.matcher.route_configuration.as_ref().and_then(|it| it.vhost.as_ref()?.route.as_ref());
    let Some(of) = of else { return true };
    let is_action = match (of.action, &route.action) {
        (RouteMatchAction::Any, _) | (_, None) => true,
        (RouteMatchAction::Route, Some(action)) => matches!(action, Action::Route(_)),
        (RouteMatchAction::Redirect, Some(action)) => matches!(action, Action::Redirect(_)),
        (RouteMatchAction::DirectResponse, Some(action)) => matches!(action, Action::DirectResponse(_)),
    };
    is_action && (of.name.is_empty() || of.name == route.name)
}
