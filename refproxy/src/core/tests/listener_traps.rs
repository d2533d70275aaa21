use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilterChainMatchPredicate,
};
use envoy_types::pb::envoy::extensions::filters::network::sni_cluster::v3::SniCluster;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use super::*;

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn cidr(text: &str) -> CidrRange {
    let (address, length) = text.split_once('/').unwrap();
    CidrRange { address_prefix: address.into(), prefix_len: number(length.parse().unwrap()) }
}

fn at(chains: Vec<FilterChain>) -> Config {
    config(vec![listener("0.0.0.0:80", chains)])
}

fn table(config: &Config, cases: &[(Call, &str)]) {
    for (call, wanted) in cases {
        let decision = decide(config, call);
        assert_eq!(reached(&decision), *wanted, "{call:?}\n{}", decision.explain());
    }
}

#[test]
fn use_original_dst_hands_over_to_exact_address_then_to_wildcard_of_the_port() {
    let unbound = |at: &str, name: &str| Listener {
        bind_to_port: no(),
        ..listener(at, vec![chain(name, FilterChainMatch::default())])
    };
    let capture = Listener {
        use_original_dst: yes(),
        ..listener("0.0.0.0:15001", vec![chain("PassthroughCluster", FilterChainMatch::default())])
    };
    let config = config(vec![capture, unbound("10.96.0.7:9080", "a"), unbound("0.0.0.0:9080", "b")]);
    table(
        &config,
        &[
            (Call::outbound("10.96.0.7:9080"), "a"),
            (Call::outbound("10.96.0.8:9080"), "b"),
            (Call::outbound("10.96.0.7:9999"), "PassthroughCluster"),
            // A listener that binds no port is not reachable from outside.
            (Call::direct("10.96.0.7:9080"), "no listener"),
        ],
    );
}

#[test]
fn without_use_original_dst_nothing_is_handed_over() {
    let capture = listener("0.0.0.0:15001", vec![chain("a", FilterChainMatch::default())]);
    let other = listener("0.0.0.0:9080", vec![chain("b", FilterChainMatch::default())]);
    table(&config(vec![capture, other]), &[(Call::outbound("10.96.0.7:9080"), "a")]);
}

#[test]
fn virtual_inbound_matches_chains_by_the_original_port() {
    let port = |port: u32| FilterChainMatch { destination_port: number(port), ..FilterChainMatch::default() };
    let inbound = Listener {
        use_original_dst: yes(),
        ..listener(
            "0.0.0.0:15006",
            vec![chain("a", port(8080)), chain("b", port(15006)), chain("c", FilterChainMatch::default())],
        )
    };
    table(
        &config(vec![inbound]),
        &[
            (Call::inbound("10.0.0.5:8080"), "a"),
            (Call::inbound("10.0.0.5:15006"), "b"),
            (Call::direct("10.0.0.5:15006"), "b"),
            (Call::inbound("10.0.0.5:9090"), "c"),
        ],
    );
}

#[test]
fn duplicate_addresses_are_rejected() {
    let twin = || listener("0.0.0.0:80", vec![chain("a", FilterChainMatch::default())]);
    assert!(is_rejected(&decide(&config(vec![twin(), twin()]), &Call::direct("10.0.0.1:80"))));
}

#[test]
fn sieve_does_not_backtrack() {
    // Port 80 wins the first level; that its SNI then fails does not bring the port-less chain back.
    let by_port = FilterChainMatch {
        destination_port: number(80),
        server_names: strings(&["one.example.com"]),
        ..FilterChainMatch::default()
    };
    let chains = vec![chain("a", by_port), chain("b", FilterChainMatch::default())];
    let mut listener = listener("0.0.0.0:80", chains);
    let call = Call::direct("10.0.0.1:80").tls("two.example.com", &[]);
    table(&config(vec![listener.clone()]), &[(call.clone(), "no filter chain")]);
    listener.default_filter_chain = Some(chain("default", FilterChainMatch::default()));
    table(&config(vec![listener]), &[(call, "default")]);
}

#[test]
fn sieve_prefers_sni_over_transport_protocol_and_alpn() {
    let of = |names: &[&str], transport: &str, alpn: &[&str]| FilterChainMatch {
        server_names: strings(names),
        transport_protocol: transport.into(),
        application_protocols: strings(alpn),
        ..FilterChainMatch::default()
    };
    let config = at(vec![
        chain("a", of(&["www.example.com"], "", &[])),
        chain("b", of(&["*.example.com"], "tls", &["h2"])),
        chain("c", of(&[], "tls", &[])),
        chain("d", of(&[], "", &["h2c", "http/1.1"])),
    ]);
    let call = || Call::direct("10.0.0.1:80");
    table(
        &config,
        &[
            (call().tls("www.example.com", &["h2"]), "a"),
            (call().tls("x.y.example.com", &["http/1.1", "h2"]), "b"),
            // *.example.com is chosen before ALPN is looked at.
            (call().tls("x.example.com", &["http/1.1"]), "no filter chain"),
            (call().tls("example.com", &[]), "c"),
            (call().tls("", &[]), "c"),
            (call().get("h", "/"), "d"),
            (call().h2(), "d"),
            (call(), "no filter chain"),
        ],
    );
}

#[test]
fn alpn_follows_the_clients_preference() {
    let of = |alpn: &str| FilterChainMatch { application_protocols: strings(&[alpn]), ..FilterChainMatch::default() };
    let config = at(vec![chain("a", of("h2")), chain("b", of("istio"))]);
    let call = |alpn: &[&str]| Call::direct("10.0.0.1:80").tls("", alpn);
    table(&config, &[(call(&["istio", "h2"]), "b"), (call(&["h2", "istio"]), "a")]);
}

#[test]
fn without_inspectors_tls_is_raw_buffer() {
    let of = |transport: &str| FilterChainMatch { transport_protocol: transport.into(), ..FilterChainMatch::default() };
    let mut blind = listener("0.0.0.0:80", vec![chain("a", of("tls")), chain("b", of("raw_buffer"))]);
    let call = Call::direct("10.0.0.1:80").tls("h", &["h2"]);
    table(&config(vec![blind.clone()]), &[(call.clone(), "a")]);
    let predicate =
        ListenerFilterChainMatchPredicate { rule: Some(Rule::DestinationPortRange(Int32Range { start: 80, end: 81 })) };
    blind.listener_filters[0].filter_disabled = Some(predicate);
    table(&config(vec![blind.clone()]), &[(call.clone(), "b")]);
    blind.listener_filters.clear();
    table(&config(vec![blind]), &[(call, "b")]);
}

#[test]
fn longest_prefix_wins_and_addresses_come_before_sni() {
    let to = |range: &str, names: &[&str]| FilterChainMatch {
        prefix_ranges: vec![cidr(range)],
        server_names: strings(names),
        ..FilterChainMatch::default()
    };
    let config = at(vec![
        chain("a", to("10.0.0.0/8", &["h"])),
        chain("b", to("10.1.0.0/16", &[])),
        chain("c", FilterChainMatch::default()),
    ]);
    table(
        &config,
        &[
            (Call::direct("10.1.0.1:80").tls("h", &[]), "b"),
            (Call::direct("10.2.0.1:80").tls("h", &[]), "a"),
            (Call::direct("10.2.0.1:80"), "no filter chain"),
            (Call::direct("192.168.0.1:80"), "c"),
        ],
    );
    let zero = at(vec![chain("a", to("0.0.0.0/0", &[])), chain("b", FilterChainMatch::default())]);
    assert!(is_unsupported(&decide(&zero, &Call::direct("10.1.0.1:80"))));
}

#[test]
fn source_type_is_exclusive_and_source_address_comes_after_it() {
    let of = |kind: ConnectionSourceType, ranges: &[&str]| FilterChainMatch {
        source_type: kind as i32,
        source_prefix_ranges: ranges.iter().map(|range| cidr(range)).collect(),
        ..FilterChainMatch::default()
    };
    let config = at(vec![
        chain("a", of(ConnectionSourceType::SameIpOrLoopback, &[])),
        chain("b", of(ConnectionSourceType::External, &["172.16.0.0/12"])),
        chain("c", of(ConnectionSourceType::Any, &[])),
    ]);
    let from = |source: &str| Call::direct("10.0.0.1:80").from(source.parse().unwrap());
    table(
        &config,
        &[
            (from("127.0.0.1"), "a"),
            (from("10.0.0.1"), "a"),
            (from("172.16.0.9"), "b"),
            // External was chosen before its range failed: no way back to ANY.
            (from("8.8.8.8"), "no filter chain"),
        ],
    );
}

#[test]
fn overlapping_chains_and_partial_wildcards_are_rejected() {
    let overlapping = at(vec![chain("a", FilterChainMatch::default()), chain("b", FilterChainMatch::default())]);
    let partial = FilterChainMatch { server_names: strings(&["*foo.com"]), ..FilterChainMatch::default() };
    for config in [overlapping, at(vec![chain("a", partial)])] {
        assert!(is_rejected(&decide(&config, &Call::direct("10.0.0.1:80"))));
    }
}

#[test]
fn source_ports_without_a_source_port_are_not_guessed() {
    let of = FilterChainMatch { source_ports: vec![1234], ..FilterChainMatch::default() };
    let config = at(vec![chain("a", of), chain("b", FilterChainMatch::default())]);
    let call = Call::direct("10.0.0.1:80");
    assert!(is_unsupported(&decide(&config, &call)));
    let from = |port: u16| Call { source_port: Some(port), ..call.clone() };
    table(&config, &[(from(1234), "a"), (from(4321), "b")]);
}

#[test]
fn transport_socket_and_client_must_speak_the_same() {
    let mutual = DownstreamTlsContext { require_client_certificate: yes(), ..DownstreamTlsContext::default() };
    let http = http_chain(&manager(any_host(vec![route_named("a", prefix("/"))])));
    let secured = config(vec![listener("0.0.0.0:80", vec![terminates_tls(http.clone(), &mutual)])]);
    let plain = config(vec![listener("0.0.0.0:80", vec![http])]);
    table(
        &secured,
        &[
            (call("h", "/").tls("h", &[]).peer("spiffe://td/ns/x/sa/y"), "a"),
            (call("h", "/").tls("h", &[]), "closed: the TLS handshake lacks a client certificate"),
            (call("h", "/"), "closed: plaintext to a TLS filter chain"),
        ],
    );
    table(
        &plain,
        &[
            (call("h", "/"), "a"),
            (call("h", "/").tls("h", &[]), "closed: the HTTP codec gets a TLS ClientHello"),
            (Call::direct("10.0.0.1:80"), "closed: the HTTP codec gets something else than HTTP"),
        ],
    );
}

#[test]
fn tcp_proxy_weighted_clusters_and_sni_cluster() {
    let weight = |name: &str, weight: u32| ClusterWeight { name: name.into(), weight, ..ClusterWeight::default() };
    let weighted = tcp_proxy::WeightedCluster { clusters: vec![weight("a", 9), weight("b", 1)] };
    let proxy = TcpProxy {
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)),
        ..TcpProxy::default()
    };
    let mut chain = FilterChain { filters: vec![network_filter(&proxy)], ..FilterChain::default() };
    let roll = |roll: f64| Call::direct("10.0.0.1:80").roll(roll);
    table(&at(vec![chain.clone()]), &[(roll(0.0), "a"), (roll(0.899), "a"), (roll(0.9), "b"), (roll(0.999), "b")]);
    chain.filters.insert(0, network_filter(&SniCluster {}));
    table(&at(vec![chain]), &[(roll(0.0).tls("api.example.com", &[]), "api.example.com"), (roll(0.0), "a")]);
}
