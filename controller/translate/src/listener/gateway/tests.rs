use super::*;
use crate::listener::outbound::tests::{mesh, rules, service, to};
use crate::listener::{http, tcp};
use crate::message;
use crds::networking::{Gateway, L4MatchAttributes, Port, Server, ServerTls, TcpRoute, TlsMatchAttributes, TlsRoute};
use crds::{Kind, Meta, ObjectKey};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use model::service::Age;
use model::{DestinationView, Protocol, ProxyKind};

fn server(protocol: &str, hosts: &[&str], mode: Option<ServerTlsMode>) -> Server {
    Server {
        port: Port {
            number: 443,
            name: format!("{protocol}-{}", hosts.join("-")),
            protocol: protocol.into(),
            target_port: None,
        },
        hosts: hosts.iter().map(|it| it.to_string()).collect(),
        tls: mode.map(|mode| ServerTls { mode, ..Default::default() }),
        ..Default::default()
    }
}

/// The listener of Gateway `n/gw` with these servers, whose Service maps 443 to 8443.
fn made(servers: Vec<Server>, rules: &[&RouteRules]) -> (Option<Listener>, Vec<String>) {
    let key = ObjectKey::new(Kind::Gateway, "n", "gw");
    let spec = Gateway { servers, ..Default::default() };
    let (merged, problems) = model::gateway::merge(&[(&key, Age::new(&Meta::default()), &spec)], |_| Some(8443));
    assert_eq!(problems, []);
    let ((bind, port), server) = merged.listeners.iter().next().unwrap();
    let (labels, mesh) = (Default::default(), mesh());
    let client = Client { gateway: "n/gw", namespace: "n", labels: &labels, kind: ProxyKind::Router };
    let (a, b) = (service("a", "", &[(80, Protocol::Tcp)]), service("b", "", &[(80, Protocol::Tcp)]));
    let view = |service| DestinationView { service: Some(service), rule: None };
    let destinations = [(a.key.host.clone(), view(&a)), (b.key.host.clone(), view(&b))].into();
    let rules: Vec<_> = rules.iter().map(|it| ("n/gw", *it)).collect();
    let input = GatewayListenerInput {
        bind,
        port: *port,
        server,
        rules: &rules,
        destinations: &destinations,
        mesh: &mesh,
        client: &client,
        certificates: Certificates::None,
    };
    let made = listener(&input);
    let problems = made.problems.iter().map(|it| format!("{} {}", it.object.name, it.field)).collect();
    (made.resource, problems)
}

/// `CLUSTER SNI…` of each chain.
fn rows(listener: &Listener) -> Vec<String> {
    let row = |chain: &FilterChain| {
        let Some(ClusterSpecifier::Cluster(cluster)) = tcp::tests::proxy(&chain.filters[0]).cluster_specifier else {
            panic!("no single cluster")
        };
        let names = chain.filter_chain_match.clone().unwrap_or_default().server_names;
        [vec![cluster.replace(".n.svc.cluster.local", "")], names].concat().join(" ")
    };
    listener.filter_chains.iter().map(row).collect()
}

fn tls_rules(name: &str, host: &str, sni: &[&str], port: Option<u32>) -> RouteRules {
    let sni_hosts = sni.iter().map(|it| it.to_string()).collect();
    let matched = TlsMatchAttributes { sni_hosts, port, ..Default::default() };
    let tls = vec![TlsRoute { r#match: vec![matched], route: to(name) }];
    RouteRules { tls, hosts: vec![model::Hostname::new(host)], ..rules(name, &[]) }
}

#[test]
fn http_servers_share_one_route_table_named_after_the_real_port() {
    let (listener, problems) = made(vec![server("HTTP", &["a.com"], None), server("HTTP", &["b.com"], None)], &[]);
    let listener = listener.unwrap();
    assert_eq!((listener.name.as_str(), listener.filter_chains.len(), problems.len()), ("0.0.0.0_8443", 1, 0));
    assert_eq!((listener.bind_to_port, &listener.filter_chains[0].filter_chain_match), (None, &None));
    let manager = http::tests::manager(&listener.filter_chains[0].filters[0]);
    assert_eq!(http::tests::route_name(&manager), Some("http.8443".to_owned()));
    assert_eq!(manager.stat_prefix, "outbound_0.0.0.0_8443;");
    assert_eq!(manager.use_remote_address, message::boolean(true));
    let bound = Server { bind: "10.0.0.1".into(), ..server("HTTP", &["a.com"], None) };
    let listener = made(vec![bound], &[]).0.unwrap();
    assert_eq!(listener.name, "10.0.0.1_8443");
    let manager = http::tests::manager(&listener.filter_chains[0].filters[0]);
    assert_eq!(http::tests::route_name(&manager), Some("http.8443.10.0.0.1".to_owned()));
}

#[test]
fn passed_through_tls_is_routed_by_server_name() {
    let passthrough = || vec![server("TLS", &["*.com"], Some(ServerTlsMode::Passthrough))];
    let (a, b) = (tls_rules("a", "x.com", &["x.com"], None), tls_rules("b", "y.com", &["y.com"], Some(443)));
    let (listener, problems) = made(passthrough(), &[&a, &b]);
    let listener = listener.unwrap();
    assert_eq!(rows(&listener), ["outbound|80||a x.com", "outbound|80||b y.com"]);
    assert_eq!((listener.listener_filters.len(), problems), (1, vec![]));
    // The port is the one that clients know, not the target port; other hosts are not the server's.
    let (other_port, other_host) =
        (tls_rules("b", "y.com", &["y.com"], Some(8443)), tls_rules("b", "y.org", &["y.org"], None));
    let (listener, _) = made(passthrough(), &[&a, &other_port, &other_host]);
    assert_eq!(rows(&listener.unwrap()), ["outbound|80||a x.com"]);
    let same = tls_rules("b", "x.com", &["x.com", "z.com"], None);
    let (listener, problems) = made(passthrough(), &[&a, &same]);
    assert_eq!(rows(&listener.unwrap()), ["outbound|80||a x.com", "outbound|80||b z.com"]);
    assert_eq!(problems, ["b spec.tls[0].match[0]"]);
}

#[test]
fn tcp_servers_take_the_first_route_that_applies() {
    let route = |port: Option<u32>, host: &str| TcpRoute {
        r#match: port.map(|port| L4MatchAttributes { port: Some(port), ..Default::default() }).into_iter().collect(),
        route: to(host),
    };
    for (routes, expected) in [
        (vec![route(None, "b"), route(None, "a")], Some("outbound|80||b")),
        (vec![route(Some(1), "b"), route(Some(443), "a")], Some("outbound|80||a")),
        (vec![TcpRoute::default(), route(None, "a")], Some("outbound|80||a")),
        (vec![route(Some(1), "b")], None),
    ] {
        let rules = rules("a", &routes);
        let (listener, _) = made(vec![server("TCP", &["*"], None)], &[&rules]);
        assert_eq!(listener.map(|it| rows(&it).remove(0)).as_deref(), expected, "{routes:?}");
    }
}

#[test]
fn servers_whose_certificates_are_not_to_be_had_are_left_out_alone_and_named() {
    let a = tls_rules("a", "x.com", &["x.com"], None);
    let credential = ServerTls { mode: ServerTlsMode::Simple, credential_name: "c".into(), ..Default::default() };
    let bare = |mode| ServerTls { mode, ..Default::default() };
    for (tls, said) in [
        (bare(ServerTlsMode::IstioMutual), true),
        (bare(ServerTlsMode::AutoPassthrough), true),
        // Validation has said it.
        (credential, false),
    ] {
        let said = |at: usize| said.then(|| format!("gw spec.servers[{at}].tls.mode"));
        let without = || Server { tls: Some(tls.clone()), ..server("HTTPS", &["y.com"], None) };
        let servers = vec![server("TLS", &["x.com"], Some(ServerTlsMode::Passthrough)), without()];
        let (listener, problems) = made(servers, &[&a]);
        assert_eq!(rows(&listener.unwrap()), ["outbound|80||a x.com"]);
        assert_eq!(problems, said(1).into_iter().collect::<Vec<_>>());
        let (listener, problems) = made(vec![without()], &[&a]);
        assert_eq!((listener, problems), (None, said(0).into_iter().collect()));
    }
}

#[test]
fn a_server_with_a_certificate_has_a_chain_for_its_hosts() {
    let tls = ServerTls {
        mode: ServerTlsMode::Simple,
        server_certificate: "/c".into(),
        private_key: "/k".into(),
        ..Default::default()
    };
    let https = Server { tls: Some(tls), ..server("HTTPS", &["n/y.com"], None) };
    let (listener, problems) = made(vec![https], &[]);
    assert_eq!(problems, Vec::<String>::new());
    let chains = listener.unwrap().filter_chains;
    assert_eq!(chains[0].filter_chain_match.clone().unwrap().server_names, ["y.com"]);
    assert!(chains[0].transport_socket.is_some());
}

#[test]
fn an_address_that_cannot_be_bound_takes_only_its_own_listener() {
    let wrong = Server { bind: "nonsense".into(), ..server("HTTP", &["a.com"], None) };
    assert_eq!(made(vec![wrong], &[]), (None, vec!["gw spec.servers".to_owned()]));
}
