//! Which listeners a service port is part of, and which route table serves it there.

use crate::listener::Bind;
use crate::name::SidecarRoute;
use crds::mesh_config::InterceptionMode;
use ipnet::IpNet;
use model::{Protocol, Registry, Resolution, Service, ServicePort};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The addresses and ports of a service port: HTTP shares the wildcard address with all HTTP services of the port;
/// others have each of their own addresses, or the wildcard when they have none or only networks. Those with allocated
/// addresses have both: which of the two a proxy gets, [`is_for`] says.
///
/// `sidecar_bind` is the bind of a Sidecar's egress listener. Without interception the default is 127.0.0.1.
/// Empty for services that [`headless_slots`] places, for ports that need no listener, and when the bind is no address.
pub fn slots(
    service: &Service,
    port: &ServicePort,
    interception: InterceptionMode,
    sidecar_bind: Option<&str>,
) -> Vec<(Bind, u16)> {
    if port.protocol == Protocol::Udp || matches!(service.resolution, Resolution::Alias(_)) {
        return vec![];
    }
    let explicit = sidecar_bind.filter(|it| !it.is_empty());
    let binds = match (explicit, interception) {
        (Some(bind), _) => Bind::parse(bind).into_iter().collect(),
        (None, InterceptionMode::None) => [Bind::LOCALHOST].into(),
        (None, _) if by_endpoint(service, port) && needs_endpoints(service) => BTreeSet::new(),
        (None, _) => captured(service, port),
    };
    binds.into_iter().map(|bind| (bind, port.number)).collect()
}

/// Whether, where traffic is captured, the port's listeners are those of its endpoints' addresses.
pub fn by_endpoint(service: &Service, port: &ServicePort) -> bool {
    let opaque = !port.protocol.is_http() && port.protocol != Protocol::Udp;
    service.resolution == Resolution::Passthrough && service.addresses.is_empty() && opaque
}

/// The slots of a port that is [`by_endpoint`], where traffic is captured: each endpoint's address but the proxy's own.
/// A ServiceEntry that can have no endpoints takes the wildcard address.
pub fn headless_slots(
    service: &Service,
    port: &ServicePort,
    endpoints: impl IntoIterator<Item = IpAddr>,
    own: Option<IpAddr>,
) -> Vec<(Bind, u16)> {
    let ips: BTreeSet<IpAddr> = endpoints.into_iter().collect();
    match ips.is_empty() && !needs_endpoints(service) {
        true => vec![(Bind::ANY, port.number)],
        false => ips.into_iter().filter(|ip| Some(*ip) != own).map(|ip| (Bind::Ip(ip), port.number)).collect(),
    }
}

/// Without endpoints there is nothing to reach: a wildcard listener would only be in others' way.
fn needs_endpoints(service: &Service) -> bool {
    service.registry == Registry::Kubernetes || !service.selector.is_empty()
}

/// Which allocated addresses a client knows, from the agent that answers its DNS queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KnownAddresses {
    /// There is no such agent: the wildcard address stands for them.
    None,
    /// The client has no IPv6 address, and its kernel perhaps no IPv6.
    V4,
    All,
}

impl KnownAddresses {
    pub fn has(self, ip: &IpAddr) -> bool {
        match self {
            Self::None => false,
            Self::V4 => ip.is_ipv4(),
            Self::All => true,
        }
    }
}

/// Whether a member belongs to a listener there.
pub fn is_for(service: &Service, port: &ServicePort, bind: &Bind, known: KnownAddresses) -> bool {
    let allocated = service.addresses.is_empty() && !service.allocated.is_empty() && !port.protocol.is_http();
    match bind {
        _ if !allocated => true,
        Bind::Ip(ip) if service.allocated.contains(ip) => known.has(ip),
        bind => *bind != Bind::ANY || !service.allocated.iter().any(|ip| known.has(ip)),
    }
}

fn captured(service: &Service, port: &ServicePort) -> BTreeSet<Bind> {
    if port.protocol.is_http() {
        return [Bind::ANY].into();
    }
    if service.addresses.is_empty() {
        return service.allocated.iter().copied().map(Bind::Ip).chain([Bind::ANY]).collect();
    }
    service.addresses.iter().map(|net| if is_single(net) { Bind::Ip(net.addr()) } else { Bind::ANY }).collect()
}

pub(super) fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// The route table for HTTP to the service there: the port's, or for a sniffed port on an address of its own the
/// service's.
pub fn rds_name(bind: &Bind, port: u16, service: &Service, protocol: Protocol) -> SidecarRoute {
    match bind {
        Bind::Unix(path) if port == 0 => SidecarRoute::Unix(path.to_string()),
        bind if protocol == Protocol::Auto && !bind.is_wildcard() => {
            SidecarRoute::Service(service.key.host.clone(), port)
        }
        _ => SidecarRoute::Port(port),
    }
}
