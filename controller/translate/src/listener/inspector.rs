//! Listener filters: what Envoy finds out about a connection before it picks a filter chain.

use crate::message;
use crds::mesh_config::InterceptionMode;
use envoy_types::pb::envoy::config::listener::v3::{
    ListenerFilter, ListenerFilterChainMatchPredicate,
    listener_filter::ConfigType,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use envoy_types::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, original_src::v3::OriginalSrc,
    tls_inspector::v3::TlsInspector,
};
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use prost::{Message, Name};
use std::collections::BTreeSet;

/// Tells TLS, and reads SNI and ALPN; `except` are ports where the server may speak first, or where nobody asks. Istio's buffer size: a ClientHello rarely needs Envoy's default of 64 KiB.
pub(super) fn tls(except: &BTreeSet<u16>) -> ListenerFilter {
    let config = TlsInspector { initial_read_buffer_size: message::uint32(512), ..Default::default() };
    let filter = listener_filter("envoy.filters.listener.tls_inspector", &config);
    ListenerFilter { filter_disabled: any_port(except), ..filter }
}

/// Tells HTTP from anything else; `except` are ports where the server may speak first, or where nobody asks.
pub(super) fn http(except: &BTreeSet<u16>) -> ListenerFilter {
    let filter = listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default());
    ListenerFilter { filter_disabled: any_port(except), ..filter }
}

/// The address that the client meant, before iptables redirected it; with TPROXY also the client's own.
pub(super) fn original(interception: InterceptionMode) -> Vec<ListenerFilter> {
    let mut filters = vec![listener_filter("envoy.filters.listener.original_dst", &OriginalDst {})];
    if interception == InterceptionMode::Tproxy {
        // The mark by which Istio's iptables rules know the proxy's own connections.
        let config = OriginalSrc { mark: 1337, ..Default::default() };
        filters.push(listener_filter("envoy.filters.listener.original_src", &config));
    }
    filters
}

fn any_port(ports: &BTreeSet<u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let range = |port: &u16| ListenerFilterChainMatchPredicate {
        rule: Some(Rule::DestinationPortRange(Int32Range { start: i32::from(*port), end: i32::from(*port) + 1 })),
    };
    let mut rules: Vec<_> = ports.iter().map(range).collect();
    match rules.len() {
        0 | 1 => rules.pop(), // Envoy wants at least two rules in a set.
        _ => Some(ListenerFilterChainMatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) }),
    }
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(message::any(config))),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_not_sniffed_are_excluded() {
        let range = |port: i32| Rule::DestinationPortRange(Int32Range { start: port, end: port + 1 });
        let rule = |ports: &[u16]| http(&ports.iter().copied().collect()).filter_disabled.and_then(|it| it.rule);
        assert_eq!(rule(&[]), None);
        assert_eq!(rule(&[80]), Some(range(80)));
        let Some(Rule::OrMatch(set)) = rule(&[81, 80]) else { panic!("no set") };
        let rules: Vec<_> = set.rules.into_iter().filter_map(|it| it.rule).collect();
        assert_eq!(rules, [range(80), range(81)]);
    }

    #[test]
    fn tproxy_keeps_the_clients_address() {
        let names = |mode| -> Vec<String> { original(mode).into_iter().map(|it| it.name).collect() };
        assert_eq!(names(InterceptionMode::Redirect), ["envoy.filters.listener.original_dst"]);
        assert_eq!(names(InterceptionMode::Tproxy).len(), 2);
    }
}
