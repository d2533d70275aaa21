//! The filter chain sieve: `FilterChainMatch`, criterion by criterion in Envoy's fixed order.
//!
//! At every level the most specific value that the connection fits is chosen, and only the chains that name it go on.
//! There is no backtracking: a chain that lost at one level does not come back when a later level finds nothing; then the
//! default filter chain takes the connection. (`config.listener.v3.FilterChainMatch`.)

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::listener::Connection;
use super::outcome::{Outcome, Stop, rejected, unsupported};
use super::{Walk, name_or_index};

struct Candidate<'a> {
    name: String,
    chain: &'a FilterChain,
    matches: FilterChainMatch,
}

/// The chain that serves a connection, and its name.
pub(super) fn find<'a>(
    walk: &mut Walk<'_>,
    listener: &'a Listener,
    connection: &Connection,
) -> Result<(String, &'a FilterChain), Stop> {
    let path = format!("listener[{}].filter_chains", listener.name);
    let mut candidates = Vec::new();
    for (index, chain) in listener.filter_chains.iter().enumerate() {
        let name = name_or_index(&chain.name, index);
        let matches = chain.filter_chain_match.clone().unwrap_or_default();
        check(&matches, &format!("{path}[{name}].filter_chain_match"))?;
        candidates.push(Candidate { name, chain, matches });
    }
    for level in LEVELS {
        candidates = sift(walk, level, candidates, connection, &path)?;
        if candidates.is_empty() {
            break;
        }
    }
    let mut left = candidates.into_iter();
    match (left.next(), left.next(), &listener.default_filter_chain) {
        (Some(only), None, _) => {
            walk.trace.note(format!("filter chain {} matches", only.name));
            Ok((only.name, only.chain))
        }
        (Some(first), Some(second), _) => {
            Err(rejected(path, format!("chains {} and {} have overlapping matching rules", first.name, second.name)))
        }
        (None, _, Some(chain)) => {
            walk.trace.note("no filter chain matches: default_filter_chain");
            let name = if chain.name.is_empty() { "default" } else { &chain.name };
            Ok((name.to_owned(), chain))
        }
        (None, _, None) => Err(Outcome::NoFilterChain.into()),
    }
}

#[allow(deprecated)] // fields that Envoy knows only to refuse them
fn check(matches: &FilterChainMatch, path: &str) -> Result<(), Stop> {
    if !matches.address_suffix.is_empty() || matches.suffix_len.is_some() {
        return Err(rejected(path, "contains unimplemented fields"));
    }
    match matches.server_names.iter().find(|name| name.strip_prefix("*.").unwrap_or(name).contains('*')) {
        Some(name) => Err(rejected(path, format!("partial wildcard in server_names: {name}"))),
        None => Ok(()),
    }
}

#[derive(Clone, Copy, Debug)]
enum Level {
    DestinationPort,
    DestinationIp,
    ServerName,
    TransportProtocol,
    ApplicationProtocol,
    DirectSourceIp,
    SourceType,
    SourceIp,
    SourcePort,
}

const LEVELS: [Level; 9] = [
    Level::DestinationPort,
    Level::DestinationIp,
    Level::ServerName,
    Level::TransportProtocol,
    Level::ApplicationProtocol,
    Level::DirectSourceIp,
    Level::SourceType,
    Level::SourceIp,
    Level::SourcePort,
];

fn sift<'a>(
    walk: &mut Walk<'_>,
    level: Level,
    candidates: Vec<Candidate<'a>>,
    connection: &Connection,
    path: &str,
) -> Result<Vec<Candidate<'a>>, Stop> {
    let matches: Vec<&FilterChainMatch> = candidates.iter().map(|candidate| &candidate.matches).collect();
    let kept = match level {
        Level::DestinationPort => destination_port(&matches, connection.local.port()),
        Level::DestinationIp => by_ip(&matches, |of| &of.prefix_ranges, connection.local.ip(), path)?,
        Level::ServerName => server_name(&matches, connection.sni.as_deref().unwrap_or_default()),
        Level::TransportProtocol => transport_protocol(&matches, connection.transport_protocol),
        Level::ApplicationProtocol => application_protocol(&matches, &connection.application_protocols),
        Level::DirectSourceIp => by_ip(&matches, |of| &of.direct_source_prefix_ranges, walk.call.source, path)?,
        Level::SourceType => source_type(&matches, connection.local.ip(), walk.call.source),
        Level::SourceIp => by_ip(&matches, |of| &of.source_prefix_ranges, walk.call.source, path)?,
        Level::SourcePort => source_port(&matches, walk.call.source_port, path)?,
    };
    let (stay, go): (Vec<_>, Vec<_>) = candidates.into_iter().zip(kept).partition(|(_, keep)| *keep);
    if !go.is_empty() {
        let names: Vec<String> = go.into_iter().map(|(candidate, _)| candidate.name).collect();
        walk.trace.note(format!("filter chain match, {level:?}: out {}", names.join(", ")));
    }
    Ok(stay.into_iter().map(|(candidate, _)| candidate).collect())
}

/// Keeps the chains of the first rule that any chain fits; rules come most specific first.
fn first_that_fits(matches: &[&FilterChainMatch], rules: &[&dyn Fn(&FilterChainMatch) -> bool]) -> Vec<bool> {
    rules
        .iter()
        .map(|rule| matches.iter().map(|of| rule(of)).collect::<Vec<bool>>())
        .find(|kept| kept.contains(&true))
        .unwrap_or_else(|| vec![false; matches.len()])
}

fn destination_port(matches: &[&FilterChainMatch], port: u16) -> Vec<bool> {
    let own = |of: &FilterChainMatch| of.destination_port.is_some_and(|wanted| wanted.value == u32::from(port));
    first_that_fits(matches, &[&own, &|of| of.destination_port.is_none()])
}

/// Exact, then ever shorter `*.` suffixes, then chains without server names.
fn server_name(matches: &[&FilterChainMatch], sni: &str) -> Vec<bool> {
    let mut names = vec![sni.to_owned()];
    names.extend(sni.match_indices('.').filter(|(at, _)| *at > 0).map(|(at, _)| format!("*{}", &sni[at..])));
    for name in names.iter().filter(|name| !name.is_empty()) {
        let kept: Vec<bool> = matches.iter().map(|of| of.server_names.contains(name)).collect();
        if kept.contains(&true) {
            return kept;
        }
    }
    matches.iter().map(|of| of.server_names.is_empty()).collect()
}

fn transport_protocol(matches: &[&FilterChainMatch], detected: &str) -> Vec<bool> {
    first_that_fits(matches, &[&|of| of.transport_protocol == detected, &|of| of.transport_protocol.is_empty()])
}

/// In the client's order of preference.
fn application_protocol(matches: &[&FilterChainMatch], offered: &[String]) -> Vec<bool> {
    for protocol in offered {
        let kept: Vec<bool> = matches.iter().map(|of| of.application_protocols.contains(protocol)).collect();
        if kept.contains(&true) {
            return kept;
        }
    }
    matches.iter().map(|of| of.application_protocols.is_empty()).collect()
}

/// Local if the source is a loopback address or the very address it calls; a chain for the other sort never fits.
fn source_type(matches: &[&FilterChainMatch], local: IpAddr, source: IpAddr) -> Vec<bool> {
    let near = source.is_loopback() || source == local;
    let own = if near { ConnectionSourceType::SameIpOrLoopback } else { ConnectionSourceType::External };
    let is = |kind: ConnectionSourceType| move |of: &FilterChainMatch| of.source_type == kind as i32;
    first_that_fits(matches, &[&is(own), &is(ConnectionSourceType::Any)])
}

fn source_port(matches: &[&FilterChainMatch], port: Option<u16>, path: &str) -> Result<Vec<bool>, Stop> {
    if port.is_none() && matches.iter().any(|of| !of.source_ports.is_empty()) {
        return Err(unsupported(format!("{path}[].filter_chain_match.source_ports: the call has no source port")));
    }
    let own = |of: &FilterChainMatch| port.is_some_and(|port| of.source_ports.contains(&u32::from(port)));
    Ok(first_that_fits(matches, &[&own, &|of| of.source_ports.is_empty()]))
}

/// The longest prefix that holds the address. No ranges at all is a prefix of length 0 of either family.
fn by_ip(
    matches: &[&FilterChainMatch],
    ranges: impl Fn(&FilterChainMatch) -> &Vec<CidrRange>,
    ip: IpAddr,
    path: &str,
) -> Result<Vec<bool>, Stop> {
    let mut lengths = Vec::with_capacity(matches.len());
    for of in matches {
        let mut own: Vec<u32> = if ranges(of).is_empty() { vec![0] } else { Vec::new() };
        for range in ranges(of) {
            own.extend(prefix_length_if_within(range, ip, path)?);
        }
        lengths.push(own);
    }
    let longest = lengths.iter().flatten().max().copied();
    if longest == Some(0) {
        let empty = matches.iter().any(|of| ranges(of).is_empty());
        let spelled_out = matches.iter().zip(&lengths).any(|(of, own)| !ranges(of).is_empty() && own.contains(&0));
        if empty && spelled_out {
            // Two trie entries of one prefix: which one Envoy answers with is not documented.
            return Err(unsupported(format!("{path}[].filter_chain_match: /0 beside a chain without ranges")));
        }
    }
    Ok(lengths.iter().map(|own| longest.is_some_and(|longest| own.contains(&longest))).collect())
}

fn prefix_length_if_within(range: &CidrRange, ip: IpAddr, path: &str) -> Result<Option<u32>, Stop> {
    let length = range.prefix_len.map_or(0, |length| length.value);
    let bad = || rejected(path, format!("invalid CIDR {}/{length}", range.address_prefix));
    let network: IpAddr = range.address_prefix.parse().map_err(|_| bad())?;
    let within = match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let length = length.min(32);
            let shift = 32 - length;
            (network.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)).then_some(length)
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let length = length.min(128);
            let shift = 128 - length;
            (network.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)).then_some(length)
        }
        _ => None,
    };
    Ok(within)
}
