//! Filter chains of one listener. Envoy refuses a listener in which two chains match the same connections, so that
//! what an older chain already has is taken out of a newer one.

use super::HANDSHAKE_TIMEOUT;
use crate::message;
use crds::{ObjectKey, Problem, Reason};
use envoy_types::pb::envoy::config::core::v3::{Metadata, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use ipnet::IpNet;

/// What the HTTP inspector calls plain-text HTTP.
pub(super) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];
/// What Envoy calls a connection that is not TLS, or of which nobody asked.
pub(super) const RAW_BUFFER: &str = "raw_buffer";

#[derive(Clone, Debug)]
pub(super) struct Chain<'a> {
    /// Empty: any, or none.
    pub(super) server_names: Vec<String>,
    /// Destinations. Empty: any.
    pub(super) cidrs: Vec<IpNet>,
    pub(super) content: Content,
    pub(super) filters: Vec<Filter>,
    /// Where TLS ends here.
    pub(super) transport_socket: Option<TransportSocket>,
    /// Of the VirtualService that made it.
    pub(super) metadata: Option<Metadata>,
    pub(super) origin: Origin<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Any,
    /// Only what the HTTP inspector takes for plain-text HTTP.
    SniffedHttp,
}

/// Which part of which object asks for a chain.
#[derive(Clone, Debug)]
pub(super) struct Origin<'a> {
    pub(super) object: &'a ObjectKey,
    pub(super) field: String,
    /// Named in the problems of those who come later.
    pub(super) name: String,
}

impl Origin<'_> {
    pub(super) fn conflict(&self, address: &str, with: &str) -> Problem {
        let reason = Reason::PortConflict { address: address.to_owned(), with: with.to_owned() };
        Problem::new(self.object, &self.field, reason)
    }
}

impl Chain<'_> {
    pub(super) fn matches_all(&self) -> bool {
        self.server_names.is_empty() && self.cidrs.is_empty() && self.content == Content::Any
    }

    fn matches_same(&self, content: Content, cidr: Option<&IpNet>, server_name: Option<&String>) -> bool {
        let cidr_taken = match cidr {
            Some(cidr) => self.cidrs.contains(cidr),
            None => self.cidrs.is_empty(),
        };
        let name_taken = match server_name {
            Some(name) => self.server_names.contains(name),
            None => self.server_names.is_empty(),
        };
        self.content == content && cidr_taken && name_taken
    }

    pub(super) fn filter_chain(self) -> FilterChain {
        let filter_chain_match = (!self.matches_all()).then(|| FilterChainMatch {
            prefix_ranges: self.cidrs.iter().map(|it| message::cidr_range(it.addr(), it.prefix_len())).collect(),
            application_protocols: match self.content {
                Content::Any => vec![],
                Content::SniffedHttp => PLAIN_HTTP.map(String::from).to_vec(),
            },
            transport_protocol: match self.content {
                Content::Any => String::new(),
                Content::SniffedHttp => RAW_BUFFER.into(),
            },
            server_names: self.server_names,
            ..Default::default()
        });
        FilterChain {
            filter_chain_match,
            filters: self.filters,
            transport_socket: self.transport_socket,
            metadata: self.metadata,
            transport_socket_connect_timeout: message::duration(HANDSHAKE_TIMEOUT),
            ..Default::default()
        }
    }
}

/// Adds `incoming` less what the chains already match; reported when that is not all of it.
pub(super) fn add<'a>(
    chains: &mut Vec<Chain<'a>>,
    mut incoming: Chain<'a>,
    address: &str,
    problems: &mut Vec<Problem>,
) {
    let content = incoming.content;
    let owner = |cidr: Option<&IpNet>, name: Option<&String>| {
        chains.iter().find(|it| it.matches_same(content, cidr, name)).map(|it| it.origin.name.clone())
    };
    let cidrs: Vec<Option<&IpNet>> = or_none(&incoming.cidrs);
    let by_name = |name: Option<&String>| cidrs.iter().find_map(|cidr| owner(*cidr, name));
    let Some(with) = or_none(&incoming.server_names).into_iter().find_map(by_name) else {
        return chains.push(incoming);
    };
    problems.push(incoming.origin.conflict(address, &with));
    let free_names: Vec<String> =
        incoming.server_names.iter().filter(|name| by_name(Some(name)).is_none()).cloned().collect();
    let free_cidrs: Vec<IpNet> = match incoming.server_names.is_empty() {
        true => incoming.cidrs.iter().filter(|cidr| owner(Some(cidr), None).is_none()).copied().collect(),
        false => incoming.cidrs.clone(),
    };
    let free = if incoming.server_names.is_empty() { !free_cidrs.is_empty() } else { !free_names.is_empty() };
    if free {
        (incoming.server_names, incoming.cidrs) = (free_names, free_cidrs);
        chains.push(incoming);
    }
}

/// An empty list matches like one nameless element.
fn or_none<T>(list: &[T]) -> Vec<Option<&T>> {
    match list {
        [] => vec![None],
        list => list.iter().map(Some).collect(),
    }
}

/// Destinations as Envoy matches them: networks without host bits; those that mean "anywhere" are left out.
pub(super) fn destinations(nets: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut list: Vec<_> = nets.into_iter().map(|it| it.trunc()).filter(|it| !it.addr().is_unspecified()).collect();
    list.sort();
    list.dedup();
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::tcp;
    use crds::Kind;

    #[test]
    fn what_an_older_chain_matches_is_taken_out_of_the_newer() {
        let key = ObjectKey::new(Kind::Service, "n", "s");
        let chain = |names: &[&str], cidrs: &[&str], content| Chain {
            server_names: names.iter().map(|it| it.to_string()).collect(),
            cidrs: destinations(cidrs.iter().map(|it| it.parse().unwrap())),
            content,
            filters: vec![tcp::plain("x", "x", vec![])],
            transport_socket: None,
            metadata: None,
            origin: Origin { object: &key, field: "f".into(), name: "old".into() },
        };
        use Content::{Any, SniffedHttp};
        let none: &[&str] = &[];
        for (first, second, left) in [
            (chain(none, none, Any), chain(none, none, Any), None),
            (chain(none, none, Any), chain(none, none, SniffedHttp), Some((none, 0))),
            (chain(none, none, SniffedHttp), chain(none, none, SniffedHttp), None),
            (chain(&["a"], none, Any), chain(&["a"], none, Any), None),
            (chain(&["a"], none, Any), chain(&["a", "b"], none, Any), Some((&["b"][..], 0))),
            (chain(&["a"], &["10.0.0.0/8"], Any), chain(&["a"], none, Any), Some((&["a"], 0))),
            (chain(none, &["10.1.0.0/8"], Any), chain(none, &["10.2.0.0/8"], Any), None),
            (chain(none, &["10.0.0.0/8"], Any), chain(none, &["10.0.0.0/8", "11.0.0.0/8"], Any), Some((none, 1))),
            (chain(none, &["10.0.0.0/8"], Any), chain(none, &["10.0.0.0/16"], Any), Some((none, 1))),
            (chain(none, &["0.0.0.0/0"], Any), chain(none, none, Any), None),
        ] {
            let case = format!("{first:?} {second:?}");
            let whole = (second.server_names.len(), second.cidrs.len());
            let (mut chains, mut problems) = (vec![first], vec![]);
            add(&mut chains, second, "0.0.0.0_80", &mut problems);
            let kept = chains.get(1).map(|it| (it.server_names.clone(), it.cidrs.len()));
            let expected =
                left.map(|(names, cidrs)| (names.iter().map(|it| it.to_string()).collect::<Vec<_>>(), cidrs));
            assert_eq!(kept, expected, "{case}");
            let complete = kept.is_some_and(|(names, cidrs)| (names.len(), cidrs) == whole);
            assert_eq!(problems.is_empty(), complete, "{case}");
        }
    }
}
