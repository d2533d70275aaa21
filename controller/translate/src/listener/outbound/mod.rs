//! A sidecar's listeners for the services that its workload may call: one for each address and port, shared by all
//! services that have it (`istio.md` 2.3).

mod opaque;
mod slot;
#[cfg(test)]
pub(super) mod tests;

pub use slot::{KnownAddresses, by_endpoint, headless_slots, is_for, rds_name, slots};

use super::chain::{self, Chain, Content, Origin};
use super::{Bind, ONE_CONNECTION_PER_EVENT, http, inspector, unknown_destination};
use crate::forward_proxy::DnsCache;
use crate::route::Client;
use crate::{Translated, message, name, tls};
use crds::mesh_config::MeshConfig;
use crds::networking::OutboundTrafficPolicy;
use crds::{Duration, Problem};
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use model::{Certificates, Destinations, MergedRule, Protocol, Resolution, RouteRules, Service, ServicePort, port};
use std::collections::BTreeSet;

/// An address and port, and who wants to be reached there.
#[derive(Clone, Debug)]
pub struct Slot<'a> {
    pub bind: Bind,
    /// 0 for Unix sockets.
    pub port: u16,
    /// Without interception. Else connections come from `virtualOutbound`, by their original destination.
    pub bind_to_port: bool,
    /// Oldest first: of two that cannot share the listener the first has it.
    pub members: Vec<Member<'a>>,
    pub policy: &'a OutboundTrafficPolicy,
    pub mesh: &'a MeshConfig,
    pub client: &'a Client<'a>,
    pub certificates: Certificates,
}

/// A service port.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub service: &'a Service,
    /// Of a Sidecar's egress listener with a port of its own: that port's number and protocol.
    pub port: &'a ServicePort,
    pub rules: Option<&'a RouteRules>,
    pub destinations: &'a Destinations<'a>,
    /// The service's DestinationRule.
    pub rule: Option<&'a MergedRule>,
}

/// The listener of one slot. `None`: nobody in it needs one, or the proxy itself has the port.
pub fn listener(slot: &Slot<'_>) -> Translated<Option<Listener>> {
    let mut problems = vec![];
    if slot.bind_to_port && port::RESERVED.contains(&slot.port) {
        let taken = |it: &Member<'_>| origin(it).conflict(&slot.name(), "the proxy itself");
        return Translated { resource: None, problems: slot.members.iter().map(taken).collect() };
    }
    let mut entry: Option<Entry<'_>> = None;
    for member in &slot.members {
        add(&mut entry, slot, member, &mut problems);
    }
    let resource = entry.filter(|it| !it.chains.is_empty()).map(|entry| finish(slot, entry));
    Translated { resource, problems }
}

impl Slot<'_> {
    fn name(&self) -> String {
        name::Listener { bind: &self.bind.to_string(), port: self.port }.to_string()
    }
}

/// The listener so far.
struct Entry<'a> {
    /// `Auto` once HTTP and other connections share it.
    protocol: Protocol,
    chains: Vec<Chain<'a>>,
    /// Members whose virtual hosts are in the port's route table.
    http: Vec<&'a Member<'a>>,
}

/// How a port's connections are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Http,
    Tcp,
    Auto,
}

fn class(protocol: Protocol) -> Option<Class> {
    match protocol {
        Protocol::Udp => None,
        Protocol::Auto => Some(Class::Auto),
        it if it.is_http() => Some(Class::Http),
        _ => Some(Class::Tcp),
    }
}

/// Istio's merge table (`buildSidecarOutboundListener`), row by row.
fn add<'a>(entry: &mut Option<Entry<'a>>, slot: &'a Slot<'a>, member: &'a Member<'a>, problems: &mut Vec<Problem>) {
    let Some(incoming) = class(member.port.protocol) else { return };
    if matches!(member.service.resolution, Resolution::Alias(_)) {
        return;
    }
    let Some(current) = entry else {
        *entry = Some(first(slot, member, incoming, problems));
        return;
    };
    let existing = class(current.protocol).unwrap_or(Class::Tcp);
    if incoming == Class::Http && existing != Class::Tcp {
        return share_routes(current, slot, member, problems);
    }
    // A sniffing listener waits for the client's first bytes, a server that speaks first waits as well.
    if (server_first(member.port.protocol) || server_first(current.protocol))
        && member.port.protocol != current.protocol
    {
        let with = current.chains.first().map_or_else(String::new, |it| it.origin.name.clone());
        problems.push(origin(member).conflict(&slot.name(), &with));
        return;
    }
    match (incoming, existing) {
        (Class::Auto, Class::Http) => {
            let (with, address) = (member.service.key.host.to_string(), slot.name());
            problems.extend(current.http.iter().map(|it| origin(it).conflict(&address, &with)));
            *entry = Some(first(slot, member, incoming, problems));
        }
        (Class::Tcp, Class::Tcp) | (Class::Tcp | Class::Auto, Class::Auto) => {
            merge(current, slot, opaque::chains(slot, member, problems), problems);
        }
        _ => {
            let before = current.chains.len();
            let chains = chains(slot, member, incoming, problems);
            merge(current, slot, chains, problems);
            current.protocol = Protocol::Auto;
            current.http.extend((incoming == Class::Http && current.chains.len() > before).then_some(member));
        }
    }
}

fn first<'a>(slot: &'a Slot<'a>, member: &'a Member<'a>, class: Class, problems: &mut Vec<Problem>) -> Entry<'a> {
    let protocol = match class {
        // On the wildcard address other connections may come by as well, to addresses that are nobody's.
        Class::Http if sniffs(slot, member, class) => Protocol::Auto,
        _ => member.port.protocol,
    };
    let mut entry =
        Entry { protocol, chains: vec![], http: (class == Class::Http).then_some(member).into_iter().collect() };
    merge(&mut entry, slot, chains(slot, member, class, problems), problems);
    entry
}

fn merge<'a>(entry: &mut Entry<'a>, slot: &Slot<'_>, chains: Vec<Chain<'a>>, problems: &mut Vec<Problem>) {
    for incoming in chains {
        chain::add(&mut entry.chains, incoming, &slot.name(), problems);
    }
}

/// An HTTP port joins the route table that the listener has; where that is another service's own, it loses.
fn share_routes<'a>(entry: &mut Entry<'a>, slot: &Slot<'_>, member: &'a Member<'a>, problems: &mut Vec<Problem>) {
    match entry.protocol == Protocol::Auto && !slot.bind.is_wildcard() && entry.http.is_empty() {
        true => {
            let with = entry.chains.first().map_or_else(String::new, |it| it.origin.name.clone());
            problems.push(origin(member).conflict(&slot.name(), &with));
        }
        false => entry.http.push(member),
    }
}

fn chains<'a>(slot: &'a Slot<'a>, member: &'a Member<'a>, class: Class, problems: &mut Vec<Problem>) -> Vec<Chain<'a>> {
    let mut chains = match class {
        Class::Http => vec![],
        Class::Tcp | Class::Auto => opaque::chains(slot, member, problems),
    };
    if class != Class::Tcp {
        chains.push(http_chain(slot, member, class));
    }
    chains
}

fn http_chain<'a>(slot: &'a Slot<'a>, member: &'a Member<'a>, class: Class) -> Chain<'a> {
    let routes = rds_name(&slot.bind, slot.port, member.service, member.port.protocol);
    let manager = http::Manager {
        stat_prefix: name::StatName(&format!("outbound_{}", slot.name())).to_string(),
        routes: http::Routes::Discovered(routes.to_string()),
        role: http::Role::Outbound,
        protocol: member.port.protocol,
        mesh: slot.mesh,
        upstream_alpn: (class == Class::Auto && slot.certificates == Certificates::Workload)
            .then_some(tls::ALPN_OF_REQUESTS),
        resolved: resolved(slot),
    };
    Chain {
        server_names: vec![],
        cidrs: vec![],
        content: if sniffs(slot, member, class) { Content::SniffedHttp } else { Content::Any },
        filters: vec![http::filter(&manager)],
        transport_socket: None,
        metadata: None,
        origin: origin(member),
    }
}

/// Of all services that share the route table, and of unknown hosts.
fn resolved(slot: &Slot<'_>) -> Vec<DnsCache> {
    let known = slot.members.iter().filter(|it| it.port.protocol.is_http()).filter_map(|it| DnsCache::of(it.service));
    known.chain(super::resolved(slot.policy)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether the HTTP chain only takes what looks like HTTP. An explicit HTTP proxy takes everything.
fn sniffs(slot: &Slot<'_>, member: &Member<'_>, class: Class) -> bool {
    class == Class::Auto || (slot.bind.is_wildcard() && member.port.protocol != Protocol::HttpProxy)
}

fn server_first(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Mongo | Protocol::Mysql)
}

fn origin<'a>(member: &Member<'a>) -> Origin<'a> {
    let service = member.service;
    let field = match service.ports.iter().position(|it| it.number == member.port.number) {
        Some(at) => format!("spec.ports[{at}]"),
        None => "spec.ports".to_owned(),
    };
    Origin { object: &service.object, field, name: service.key.host.to_string() }
}

fn finish(slot: &Slot<'_>, entry: Entry<'_>) -> Listener {
    let has_sni = entry.chains.iter().any(|it| !it.server_names.is_empty());
    let sniffs = entry.chains.iter().any(|it| it.content == Content::SniffedHttp);
    let mut listener_filters = vec![];
    listener_filters.extend(has_sni.then(|| inspector::tls(&BTreeSet::new())));
    listener_filters.extend(sniffs.then(|| inspector::http(&BTreeSet::new())));
    let (filter_chains, default_filter_chain) = filter_chains(slot, entry.chains);
    Listener {
        name: slot.name(),
        address: Some(slot.bind.address(slot.port)),
        filter_chains,
        default_filter_chain,
        listener_filters,
        listener_filters_timeout: message::duration(match sniffs {
            true => slot.mesh.protocol_detection_timeout,
            false => Duration::ZERO,
        }),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Outbound.into(),
        bind_to_port: if slot.bind_to_port { None } else { message::boolean(false) },
        max_connections_to_accept_per_socket_event: match slot.bind_to_port {
            true => ONE_CONNECTION_PER_EVENT,
            false => None,
        },
        ..Default::default()
    }
}

/// A chain that matches everything is the default one, since Envoy does not come back to it once another chain's
/// first criterion matched (<https://github.com/istio/istio/issues/26079>); without it, what matches no chain is
/// traffic that the mesh does not know.
fn filter_chains(slot: &Slot<'_>, chains: Vec<Chain<'_>>) -> (Vec<FilterChain>, Option<FilterChain>) {
    let (mut all, others): (Vec<_>, Vec<_>) = chains.into_iter().partition(Chain::matches_all);
    let all = all.pop().map(Chain::filter_chain);
    let others: Vec<_> = others.into_iter().map(Chain::filter_chain).collect();
    let unknown = || FilterChain {
        name: name::PASSTHROUGH_FILTER_CHAIN.to_owned(),
        filter_chain_match: Some(FilterChainMatch::default()),
        filters: vec![unknown_destination(slot.policy, slot.mesh)],
        ..Default::default()
    };
    match (others.is_empty(), all) {
        (true, Some(all)) => (vec![all], None),
        (_, all) => (others, Some(all.unwrap_or_else(unknown))),
    }
}
