//! Filter chains for connections that are carried as bytes: by a VirtualService's `tcp` and `tls` rules, else to the
//! service itself.

use super::{Member, Slot, origin, slot::is_single};
use crate::forward_proxy::{self, DnsCache};
use crate::listener::chain::{Chain, Content, Origin, destinations};
use crate::listener::{network_filter, sni, tcp};
use crate::message;
use crds::networking::{L4MatchAttributes, TcpRoute, TlsMatchAttributes};
use crds::{Problem, Reason};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use ipnet::IpNet;
use model::{RouteRules, ServicePort, label};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(super) fn chains<'a>(slot: &Slot<'a>, member: &Member<'a>, problems: &mut Vec<Problem>) -> Vec<Chain<'a>> {
    let opaque = Opaque { slot, member, networks: networks(slot, member) };
    match member.port.protocol.is_tls() {
        true => opaque.tls(problems),
        false => opaque.tcp(problems),
    }
}

struct Opaque<'s, 'a> {
    slot: &'s Slot<'a>,
    member: &'s Member<'a>,
    /// Of the service; they tell it from others on the wildcard address.
    networks: Vec<IpNet>,
}

fn networks(slot: &Slot<'_>, member: &Member<'_>) -> Vec<IpNet> {
    match slot.bind.is_wildcard() && !slot.bind_to_port {
        true => destinations(member.service.addresses.iter().filter(|it| !is_single(it)).copied()),
        false => vec![],
    }
}

impl<'a> Opaque<'_, 'a> {
    fn tls(&self, problems: &mut Vec<Problem>) -> Vec<Chain<'a>> {
        let mut chains = vec![];
        // Matches that differ only in what is decided here: the first wins.
        let mut seen = BTreeSet::new();
        for (rules, at, route) in
            self.member.rules.iter().flat_map(|it| it.tls.iter().enumerate().map(move |(at, route)| (*it, at, route)))
        {
            let field = format!("spec.tls[{at}]");
            let fits = |it: &TlsMatchAttributes| self.applies(rules, it.into());
            if !route.r#match.iter().any(fits) {
                continue;
            }
            let Some(filter) = self.context(rules).filter(&route.route, &field, problems) else { continue };
            for (index, matched) in route.r#match.iter().enumerate().filter(|(_, it)| fits(it)) {
                let field = format!("{field}.match[{index}]");
                if seen.insert((&matched.sni_hosts, &matched.destination_subnets)) {
                    chains.extend(self.tls_chain(rules, matched, filter.clone(), field, problems));
                }
            }
        }
        match chains.is_empty() {
            true => vec![self.to_service(self.own_server_names())],
            false => chains,
        }
    }

    fn tls_chain(
        &self,
        rules: &'a RouteRules,
        matched: &TlsMatchAttributes,
        filter: Filter,
        field: String,
        problems: &mut Vec<Problem>,
    ) -> Option<Chain<'a>> {
        let (names, wrong) = sni::server_names(&matched.sni_hosts);
        problems.extend(
            wrong.into_iter().map(|(at, why)| Problem::new(&rules.object, format!("{field}.sniHosts[{at}]"), why)),
        );
        let server_names = match names {
            Some(names) if names.is_empty() => return None,
            names => names.unwrap_or_default(),
        };
        let subnets = self.subnets(rules, &matched.destination_subnets, &field, problems);
        let cidrs = match subnets {
            Some(subnets) if subnets.is_empty() => return None,
            subnets => subnets.unwrap_or_else(|| self.networks.clone()),
        };
        Some(self.chain(rules, server_names, cidrs, filter, field))
    }

    /// The service's own host as SNI, where the listener's address does not already say which service is meant.
    fn own_server_names(&self) -> Vec<String> {
        let service = self.member.service;
        let shared = self.slot.bind.is_wildcard() && (!self.networks.is_empty() || service.addresses.is_empty());
        let hosts = if shared { sni::of_service(service, self.slot.client.namespace) } else { vec![] };
        sni::server_names(&hosts).0.unwrap_or_default()
    }

    fn tcp(&self, problems: &mut Vec<Problem>) -> Vec<Chain<'a>> {
        let mut chains = vec![];
        if let Some(rules) = self.member.rules {
            for (at, route) in rules.tcp.iter().enumerate() {
                let field = format!("spec.tcp[{at}]");
                let Some(cidrs) = self.tcp_networks(rules, route, &field, problems) else { continue };
                let Some(filter) = self.context(rules).filter(&route.route, &field, problems) else { continue };
                let terminal = cidrs == self.networks;
                chains.push(self.chain(rules, vec![], cidrs, filter, field));
                if terminal {
                    return chains;
                }
            }
        }
        chains.push(self.to_service(vec![]));
        chains
    }

    /// Where the route applies: the service's own networks, unless each match that fits names some.
    fn tcp_networks(
        &self,
        rules: &RouteRules,
        route: &TcpRoute,
        field: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<IpNet>> {
        if route.r#match.is_empty() {
            return Some(self.networks.clone());
        }
        let mut all = vec![];
        for (at, matched) in route.r#match.iter().enumerate().filter(|(_, it)| self.applies(rules, (*it).into())) {
            let field = format!("{field}.match[{at}]");
            match self.subnets(rules, &matched.destination_subnets, &field, problems) {
                None => return Some(self.networks.clone()),
                Some(subnets) => all.extend(subnets),
            }
        }
        Some(destinations(all)).filter(|it| !it.is_empty())
    }

    /// `None`: any destination. Wrong subnets are left out, never read as "any".
    fn subnets(
        &self,
        rules: &RouteRules,
        list: &[String],
        field: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<IpNet>> {
        // Connections to a Unix socket have no destination address.
        if list.is_empty() || self.slot.port == 0 {
            return None;
        }
        let mut nets = vec![];
        for (at, text) in list.iter().enumerate() {
            match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => nets.push(net),
                Err(_) => {
                    let reason = Reason::Invalid(format!("{text:?} is no address or network"));
                    problems.push(Problem::new(&rules.object, format!("{field}.destinationSubnets[{at}]"), reason));
                }
            }
        }
        let anywhere = nets.iter().any(|it: &IpNet| it.prefix_len() == 0);
        (!anywhere).then(|| destinations(nets))
    }

    fn context(&self, rules: &'a RouteRules) -> tcp::Context<'a> {
        tcp::Context { rules, destinations: self.member.destinations, port: self.slot.port, mesh: self.slot.mesh }
    }

    fn chain(
        &self,
        rules: &'a RouteRules,
        server_names: Vec<String>,
        cidrs: Vec<IpNet>,
        filter: Filter,
        field: String,
    ) -> Chain<'a> {
        Chain {
            server_names,
            cidrs,
            content: Content::Any,
            filters: vec![filter],
            transport_socket: None,
            metadata: Some(message::config_metadata(&rules.object)),
            origin: Origin { object: &rules.object, field, name: rules.object.to_string() },
        }
    }

    /// A service with a single port has it, even behind a Sidecar's listener of another number.
    fn to_service(&self, server_names: Vec<String>) -> Chain<'a> {
        let Member { service, rule, .. } = *self.member;
        let port: &ServicePort = match service.ports.as_slice() {
            [only] => only,
            _ => self.member.port,
        };
        let by_name = DnsCache::of(service);
        let by_name = by_name.map(|it| network_filter(forward_proxy::SNI_FILTER, &it.sni_filter(port.number)));
        Chain {
            server_names,
            cidrs: self.networks.clone(),
            content: Content::Any,
            filters: by_name.into_iter().chain([tcp::to_service(service, port, rule, self.slot.mesh)]).collect(),
            transport_socket: None,
            metadata: None,
            origin: origin(self.member),
        }
    }

    /// What can be decided here: which proxy and port the match is for.
    fn applies(&self, rules: &RouteRules, matched: Static<'_>) -> bool {
        let client = self.slot.client;
        let gateway = |it: &String| RouteRules::gateway(it, &rules.namespace) == client.gateway;
        (matched.gateways.is_empty() || matched.gateways.iter().any(gateway))
            && label::selects(matched.source_labels, client.labels)
            && matched.port.is_none_or(|it| it == 0 || it == u32::from(self.slot.port))
            && (matched.source_namespace.is_empty() || matched.source_namespace == client.namespace)
    }
}

/// The static part of a match.
struct Static<'m> {
    gateways: &'m [String],
    port: Option<u32>,
    source_labels: &'m BTreeMap<String, String>,
    source_namespace: &'m str,
}

impl<'m> From<&'m TlsMatchAttributes> for Static<'m> {
    fn from(it: &'m TlsMatchAttributes) -> Self {
        Self {
            gateways: &it.gateways,
            port: it.port,
            source_labels: &it.source_labels,
            source_namespace: &it.source_namespace,
        }
    }
}

impl<'m> From<&'m L4MatchAttributes> for Static<'m> {
    fn from(it: &'m L4MatchAttributes) -> Self {
        Self {
            gateways: &it.gateways,
            port: it.port,
            source_labels: &it.source_labels,
            source_namespace: &it.source_namespace,
        }
    }
}
