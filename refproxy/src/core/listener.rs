//! From the socket to one listener: which one accepts, what its listener filters find out, and to whom it hands over.
//!
//! Envoy: `intro/arch_overview/listeners`, `configuration/listeners/listener_filters/original_dst_filter`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::{Address, address, socket_address};
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::config::listener::v3::{Listener, ListenerFilter, ListenerFilterChainMatchPredicate};

use super::outcome::{Outcome, Stop, rejected, unsupported};
use super::{Walk, filter_chain, message_name, network};

/// What is known of a connection once the listener filters are through.
#[derive(Debug)]
pub(super) struct Connection {
    /// What Envoy takes for the connection's own end: the original destination once it is restored.
    pub(super) local: SocketAddr,
    /// `Restored` only by `original_dst`: the condition for handing the connection over.
    restored: Restored,
    /// `tls` if an inspector saw it, else `raw_buffer`.
    pub(super) transport_protocol: &'static str,
    pub(super) sni: Option<String>,
    pub(super) application_protocols: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restored {
    No,
    Yes,
}

pub(super) fn accept(walk: &mut Walk<'_>) -> Result<Outcome, Stop> {
    let arrival = walk.call.connect.unwrap_or(walk.call.destination);
    let Some(mut listener) = listener_at(&walk.config.listeners, arrival, Binds::Port)? else {
        walk.trace.note(format!("nothing is bound to {arrival}"));
        return Ok(Outcome::NoListener);
    };
    walk.trace.note(format!("listener {} accepts at {arrival}", listener.name));
    let mut connection = Connection {
        local: arrival,
        restored: Restored::No,
        transport_protocol: "raw_buffer",
        sni: None,
        application_protocols: Vec::new(),
    };
    run_listener_filters(walk, listener, &mut connection)?;
    if wants_handoff(listener) && connection.restored == Restored::Yes {
        // The handed-over connection does not hand over again, even if the second listener has `use_original_dst`.
        match listener_at(&walk.config.listeners, connection.local, Binds::Anything)? {
            Some(next) if next.name != listener.name => {
                walk.trace.note(format!("use_original_dst: handed to listener {} for {}", next.name, connection.local));
                listener = next;
                run_listener_filters(walk, listener, &mut connection)?;
            }
            _ => walk.trace.note(format!("use_original_dst: no other listener for {}, stays", connection.local)),
        }
    }
    walk.at.listener = Some(listener.name.clone());
    let (name, chain) = filter_chain::find(walk, listener, &connection)?;
    walk.at.filter_chain = Some(name);
    network::serve(walk, listener, chain, &connection)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Binds {
    /// Only listeners with a socket of their own: a connection arrives.
    Port,
    /// Every listener: a connection is handed over.
    Anything,
}

/// The listener for an address: the exact one, else the wildcard of the family on that port.
fn listener_at(listeners: &[Listener], wanted: SocketAddr, binds: Binds) -> Result<Option<&Listener>, Stop> {
    let any = match wanted {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    for address in [wanted, SocketAddr::new(any, wanted.port())] {
        let mut found = listeners
            .iter()
            .filter(|listener| binds == Binds::Anything || binds_port(listener))
            .filter(|listener| addresses(listener).any(|own| own == address));
        if let Some(listener) = found.next() {
            return match found.next() {
                None => Ok(Some(listener)),
                Some(second) => Err(rejected(
                    format!("listener[{}].address", second.name),
                    format!("has duplicate address {address} as existing listener {}", listener.name),
                )),
            };
        }
    }
    Ok(None)
}

/// Every address a listener answers to; an IPv6 wildcard with `ipv4_compat` answers for IPv4 too.
fn addresses(listener: &Listener) -> impl Iterator<Item = SocketAddr> {
    let additional = listener.additional_addresses.iter().filter_map(|additional| additional.address.as_ref());
    listener.address.iter().chain(additional).flat_map(socket_addresses)
}

fn socket_addresses(address: &Address) -> Vec<SocketAddr> {
    let Some(address::Address::SocketAddress(socket)) = &address.address else { return Vec::new() };
    let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else { return Vec::new() };
    let (Ok(ip), Ok(port)) = (socket.address.parse::<IpAddr>(), u16::try_from(port)) else { return Vec::new() };
    let own = SocketAddr::new(ip, port);
    if socket.ipv4_compat && ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        return vec![own, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)];
    }
    vec![own]
}

#[allow(deprecated)] // Envoy still honours deprecated_v1.bind_to_port
fn binds_port(listener: &Listener) -> bool {
    let old = listener.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port);
    listener.bind_to_port.or(old).is_none_or(|bind| bind.value)
}

fn wants_handoff(listener: &Listener) -> bool {
    listener.use_original_dst.is_some_and(|wanted| wanted.value)
}

/// Runs the listener filters in Envoy's order: as listed, then the `original_dst` that `use_original_dst` appends.
fn run_listener_filters(walk: &mut Walk<'_>, listener: &Listener, connection: &mut Connection) -> Result<(), Stop> {
    if listener.filter_chain_matcher.is_some() {
        return Err(unsupported(format!("listener[{}].filter_chain_matcher", listener.name)));
    }
    if listener.fcds_config.is_some() {
        return Err(unsupported(format!("listener[{}].fcds_config", listener.name)));
    }
    for filter in &listener.listener_filters {
        if filter.filter_disabled.as_ref().is_some_and(|predicate| holds(predicate, connection.local.port())) {
            walk.trace.note(format!(
                "listener filter {} is disabled for port {}",
                filter.name,
                connection.local.port()
            ));
            continue;
        }
        run_listener_filter(walk, listener, filter, connection)?;
    }
    if wants_handoff(listener) {
        restore(walk, connection);
    }
    Ok(())
}

fn run_listener_filter(
    walk: &mut Walk<'_>,
    listener: &Listener,
    filter: &ListenerFilter,
    connection: &mut Connection,
) -> Result<(), Stop> {
    let path = || format!("listener[{}].listener_filters[{}]", listener.name, filter.name);
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { return Err(unsupported(path())) };
    let kind = message_name(any).strip_prefix("envoy.extensions.filters.listener.").unwrap_or_default();
    match kind {
        "tls_inspector.v3.TlsInspector" => {
            if let Some(tls) = &walk.call.tls {
                connection.transport_protocol = "tls";
                connection.sni.clone_from(&tls.sni);
                connection.application_protocols.clone_from(&tls.alpn);
                let sni = tls.sni.as_deref().unwrap_or("none");
                walk.trace.note(format!("tls_inspector: tls, SNI {sni}, ALPN [{}]", tls.alpn.join(", ")));
            }
        }
        // It only reads plaintext, and only what no inspector recognised as TLS.
        "http_inspector.v3.HttpInspector" => {
            if let (None, Some(protocol)) = (&walk.call.tls, walk.call.protocol.application_protocol()) {
                connection.application_protocols = vec![protocol.into()];
                walk.trace.note(format!("http_inspector: {protocol}"));
            }
        }
        "original_dst.v3.OriginalDst" => restore(walk, connection),
        "original_src.v3.OriginalSrc" => {}
        "local_ratelimit.v3.LocalRateLimit" => walk.at.gates.push(filter.name.clone()),
        _ => return Err(unsupported(path())),
    }
    Ok(())
}

fn restore(walk: &mut Walk<'_>, connection: &mut Connection) {
    if walk.call.connect.is_some() && connection.restored == Restored::No {
        connection.local = walk.call.destination;
        connection.restored = Restored::Yes;
        walk.restored = Some(connection.local);
        walk.trace.note(format!("original_dst: the destination is {}", connection.local));
    }
}

fn holds(predicate: &ListenerFilterChainMatchPredicate, port: u16) -> bool {
    match &predicate.rule {
        Some(Rule::OrMatch(set)) => set.rules.iter().any(|rule| holds(rule, port)),
        Some(Rule::AndMatch(set)) => set.rules.iter().all(|rule| holds(rule, port)),
        Some(Rule::NotMatch(rule)) => !holds(rule, port),
        Some(Rule::AnyMatch(any)) => *any,
        // Half open, as every Envoy range.
        Some(Rule::DestinationPortRange(range)) => (range.start..range.end).contains(&i32::from(port)),
        None => false,
    }
}
