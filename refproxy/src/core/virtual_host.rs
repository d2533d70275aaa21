//! The domain search of a route configuration: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`.
//!
//! `config.route.v3.VirtualHost.domains`; `RouteMatcher::findVirtualHost`. Order of virtual hosts does not matter.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use super::Walk;
use super::http::{Arrived, split_port};
use super::outcome::{Outcome, Stop, rejected, unsupported};

pub(super) fn find<'a>(
    walk: &mut Walk<'_>,
    configuration: &'a RouteConfiguration,
    arrived: &Arrived,
) -> Result<&'a VirtualHost, Stop> {
    let path = format!("route_configuration[{}]", configuration.name);
    if !configuration.vhost_header.is_empty() {
        return Err(unsupported(format!("{path}.vhost_header")));
    }
    if !configuration.route_specifiers.is_empty() {
        return Err(unsupported(format!("{path}.route_specifiers")));
    }
    let hosts = hosts_by_domain(configuration, &path)?;
    let authority = &arrived.request.authority;
    let host = if configuration.ignore_port_in_host_matching { split_port(authority).0 } else { authority };
    let host = host.to_ascii_lowercase();
    let Some((domain, found)) = search(&hosts, &host) else {
        let vhds = if configuration.vhds.is_some() { " (VHDS might still deliver one)" } else { "" };
        walk.trace.note(format!("no domain for {host}{vhds}"));
        return Err(Outcome::NoVirtualHost.into());
    };
    walk.trace.note(format!("virtual host {} by domain {domain} for {host}", found.name));
    Ok(found)
}

/// Domains are unique, folded to lower case; a duplicate loses the whole route configuration.
fn hosts_by_domain<'a>(
    configuration: &'a RouteConfiguration,
    path: &str,
) -> Result<BTreeMap<String, &'a VirtualHost>, Stop> {
    let mut hosts = BTreeMap::new();
    for host in &configuration.virtual_hosts {
        for domain in &host.domains {
            if hosts.insert(domain.to_ascii_lowercase(), host).is_some() {
                let reason =
                    format!("only unique values for domains are permitted, duplicate entry of domain {domain}");
                return Err(rejected(format!("{path}.virtual_hosts[{}].domains", host.name), reason));
            }
        }
    }
    Ok(hosts)
}

fn search<'a>(hosts: &BTreeMap<String, &'a VirtualHost>, host: &str) -> Option<(String, &'a VirtualHost)> {
    if !host.starts_with('*')
        && !host.ends_with('*')
        && let Some(found) = hosts.get(host)
    {
        return Some((host.to_owned(), found));
    }
    // A wildcard stands for at least one character.
    let cuts = || host.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    let suffixes = cuts().map(|at| format!("*{}", &host[at..]));
    let prefixes = cuts().rev().map(|at| format!("{}*", &host[..at]));
    suffixes.chain(prefixes).chain(["*".to_owned()]).find_map(|domain| hosts.get(&domain).map(|found| (domain, *found)))
}
