use super::*;
use crate::listener::{http, tcp};
use crds::mesh_config::InterceptionMode;
use crds::networking::{
    Destination, L4MatchAttributes, OutboundTrafficPolicyMode, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
};
use crds::{Kind, Meta, ObjectKey, Reason};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use model::service::{Age, ServiceKey};
use model::{Hostname, Location, ProxyKind, Registry, Visibility};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(in crate::listener) fn mesh() -> MeshConfig {
    MeshConfig::default()
}

/// A Kubernetes Service in namespace `n`; `address` may be empty, an address or a network.
pub(in crate::listener) fn service(name: &str, address: &str, ports: &[(u16, Protocol)]) -> Service {
    let ip = address.parse::<IpAddr>().map(ipnet::IpNet::from).ok();
    let port = |(number, protocol): &(u16, Protocol)| ServicePort {
        number: *number,
        name: format!("p{number}").into(),
        protocol: *protocol,
        target_port: None,
    };
    Service {
        key: ServiceKey { host: Hostname::kube_service(name, "n"), namespace: "n".into() },
        object: ObjectKey::new(Kind::Service, "n", name),
        age: Age::new(&Meta { name: name.into(), ..Meta::default() }),
        registry: Registry::Kubernetes,
        location: Location::Mesh,
        resolution: Resolution::Endpoints,
        addresses: ip.or_else(|| address.parse().ok()).into_iter().collect(),
        allocated: vec![],
        ports: ports.iter().map(port).collect(),
        visibility: Visibility::Public,
        selector: BTreeMap::new(),
        headless: false,
        publish_not_ready: false,
        node_local: false,
        traffic_distribution: None,
        aliases: vec![],
        subject_alt_names: vec![],
    }
}

/// A VirtualService `n/HOST` for the Service of that name.
pub(in crate::listener) fn rules(host: &str, tcp: &[TcpRoute]) -> RouteRules {
    RouteRules {
        object: ObjectKey::new(Kind::VirtualService, "n", host),
        namespace: "n".into(),
        age: Age::new(&Meta::default()),
        visibility: Visibility::Public,
        hosts: vec![Hostname::resolve(host, "n")],
        gateways: vec!["mesh".into()],
        http: vec![],
        tls: vec![],
        tcp: tcp.to_vec(),
        problems: vec![],
    }
}

pub(in crate::listener) fn to(host: &str) -> Vec<RouteDestination> {
    let destination = Destination { host: host.into(), ..Default::default() };
    vec![RouteDestination { destination, weight: 0 }]
}

struct Made {
    listener: Option<Listener>,
    problems: Vec<Problem>,
}

/// The listener of the slot of the first port of each service.
fn made(bind: &str, services: &[Service], rules: Option<&RouteRules>, bind_to_port: bool) -> Made {
    let (labels, mesh) = ([("app".to_owned(), "me".to_owned())].into(), mesh());
    let client = Client { gateway: "mesh", namespace: "n", labels: &labels, kind: ProxyKind::Sidecar };
    let destinations: Destinations<'_> = services
        .iter()
        .map(|it| (it.key.host.clone(), model::DestinationView { service: Some(it), rule: None }))
        .collect();
    let member = |service| Member { service, port: &service.ports[0], rules, destinations: &destinations, rule: None };
    let policy = OutboundTrafficPolicy { mode: OutboundTrafficPolicyMode::AllowAny, egress_proxy: None };
    let slot = Slot {
        bind: Bind::parse(bind).unwrap(),
        port: services[0].ports[0].number,
        bind_to_port,
        members: services.iter().map(member).collect(),
        policy: &policy,
        mesh: &mesh,
        client: &client,
        certificates: Certificates::None,
    };
    let Translated { resource: listener, problems } = listener(&slot);
    Made { listener, problems }
}

/// A chain as text: `http ROUTES` or `tcp CLUSTER`, then what it matches.
fn row(chain: &FilterChain) -> String {
    let filter = &chain.filters[0];
    let target = match filter.name.ends_with("tcp_proxy") {
        true => match tcp::tests::proxy(filter).cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => format!("tcp {cluster}"),
            _ => "tcp weighted".to_owned(),
        },
        false => format!("http {}", http::tests::route_name(&http::tests::manager(filter)).unwrap()),
    };
    let target = target.replace(".n.svc.cluster.local", "");
    let matched = chain.filter_chain_match.clone().unwrap_or_default();
    let mut parts = vec![target];
    parts.extend((!matched.application_protocols.is_empty()).then(|| "sniffed".to_owned()));
    parts.extend(matched.server_names.iter().map(|it| format!("sni={}", it.replace(".n.svc.cluster.local", ""))));
    let range = |it: &envoy_types::pb::envoy::config::core::v3::CidrRange| {
        format!("to={}/{}", it.address_prefix, it.prefix_len.as_ref().map_or(0, |len| len.value))
    };
    parts.extend(matched.prefix_ranges.iter().map(range));
    parts.join(" ")
}

impl Made {
    /// The chains, and after `|` the default one.
    fn rows(&self) -> Vec<String> {
        let Some(listener) = &self.listener else { return vec![] };
        let default = listener.default_filter_chain.iter().map(|it| format!("| {}", row(it)));
        listener.filter_chains.iter().map(row).chain(default).collect()
    }

    fn problems(&self) -> Vec<String> {
        self.problems.iter().map(|it| format!("{} {}", it.object.name, it.field)).collect()
    }

    fn inspectors(&self) -> Vec<&str> {
        let filters = self.listener.iter().flat_map(|it| &it.listener_filters);
        filters.map(|it| it.name.rsplit('.').next().unwrap()).collect()
    }
}

const PASS: &str = "| tcp PassthroughCluster";

#[test]
fn hosts_that_envoy_resolves_are_resolved_by_a_filter() {
    let of = |name: &str, protocol| Service {
        resolution: Resolution::DynamicDns,
        addresses: vec![],
        ..service(name, "", &[(80, protocol)])
    };
    let services = [of("b", Protocol::Http), service("c", "", &[(80, Protocol::Http)]), of("a", Protocol::Grpc)];
    let made = made("0.0.0.0", &services, None, false);
    let listener = made.listener.unwrap();
    let manager = crate::listener::http::tests::manager(&listener.filter_chains[0].filters[0]);
    let names: Vec<_> = manager.http_filters.iter().map(|it| it.name.as_str()).collect();
    let resolving: Vec<_> = names.iter().filter(|it| it.ends_with("dynamic_forward_proxy")).collect();
    assert_eq!((resolving.len(), names.last()), (2, Some(&"envoy.filters.http.router")), "{names:?}");
    let made = self::made("0.0.0.0", &[of("a", Protocol::Tls)], None, false);
    let filters: Vec<_> = made.listener.iter().flat_map(|it| &it.filter_chains[0].filters).collect();
    let names: Vec<_> = filters.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["envoy.filters.network.sni_dynamic_forward_proxy", "envoy.filters.network.tcp_proxy"]);
    assert_eq!(made.inspectors(), ["tls_inspector"], "the name is read from the handshake");
}

#[test]
fn allocated_addresses_are_for_those_that_know_them() {
    use KnownAddresses::{All, None, V4};
    let both = ["240.240.0.1".parse().unwrap(), "2001:2::1".parse().unwrap()];
    for (protocol, allocated, known, expected) in [
        (Protocol::Tcp, &both[..], None, &["0.0.0.0"][..]),
        (Protocol::Tcp, &both, V4, &["240.240.0.1"]),
        (Protocol::Tcp, &both, All, &["2001:2::1", "240.240.0.1"]),
        (Protocol::Tcp, &both[1..], V4, &["0.0.0.0"]),
        (Protocol::Tcp, &[], All, &["0.0.0.0"]),
        (Protocol::Http, &both, None, &["0.0.0.0"]),
        (Protocol::Http, &both, All, &["0.0.0.0"]),
    ] {
        let service = Service { allocated: allocated.to_vec(), ..service("a", "", &[(80, protocol)]) };
        let port = &service.ports[0];
        let binds = slots(&service, port, InterceptionMode::Redirect, Option::None).into_iter().map(|(bind, _)| bind);
        let mut binds: Vec<_> = binds.filter(|it| is_for(&service, port, it, known)).map(|it| it.to_string()).collect();
        binds.sort();
        assert_eq!(binds, expected, "{protocol:?} {allocated:?} {known:?}");
    }
}

#[test]
fn a_listener_on_the_wildcard_address_merges_as_istios_table_says() {
    use Protocol::{Auto, Http, Mongo, Tcp};
    let (http, tcp, auto) = ("http 80 sniffed", "| tcp outbound|80||a", "| tcp outbound|80||b");
    let none: &[&str] = &[];
    for (first, second, expected, problems) in [
        (Http, None, &[http, PASS][..], none),
        (Tcp, None, &["tcp outbound|80||a"], none),
        (Auto, None, &[http, tcp], none),
        (Http, Some(Http), &[http, PASS], none),
        (Tcp, Some(Http), &[http, tcp], none),
        (Auto, Some(Http), &[http, tcp], none),
        (Http, Some(Tcp), &[http, auto], none),
        (Tcp, Some(Tcp), &["tcp outbound|80||a"], &["b spec.ports[0]"]),
        (Auto, Some(Tcp), &[http, tcp], &["b spec.ports[0]"]),
        (Http, Some(Auto), &[http, auto], none),
        (Tcp, Some(Auto), &[http, tcp], &["b spec.ports[0]"]),
        (Auto, Some(Auto), &[http, tcp], &["b spec.ports[0]"]),
        (Mongo, Some(Http), &["tcp outbound|80||a"], &["b spec.ports[0]"]),
        (Http, Some(Mongo), &[http, PASS], &["b spec.ports[0]"]),
        (Mongo, Some(Tcp), &["tcp outbound|80||a"], &["b spec.ports[0]"]),
    ] {
        let mut services = vec![service("a", "", &[(80, first)])];
        services.extend(second.map(|it| service("b", "", &[(80, it)])));
        let made = made("0.0.0.0", &services, None, false);
        assert_eq!(made.rows(), expected, "{first:?} then {second:?}");
        assert_eq!(made.problems(), problems, "{first:?} then {second:?}");
    }
}

#[test]
fn a_bound_listener_sniffs_only_for_ports_that_ask_for_it() {
    use Protocol::{Auto, Http, Tcp};
    let none: &[&str] = &[];
    for (first, second, expected, problems) in [
        (Http, None, &["http 80"][..], none),
        (Http, Some(Http), &["http 80"], none),
        (Http, Some(Tcp), &["http 80"], &["b spec.ports[0]"]),
        (Tcp, Some(Http), &["tcp outbound|80||a"], &["b spec.ports[0]"]),
        (Auto, None, &["http a:80 sniffed", "| tcp outbound|80||a"], none),
        // Istio: the sniffing listener replaces the HTTP one.
        (Http, Some(Auto), &["http b:80 sniffed", "| tcp outbound|80||b"], &["a spec.ports[0]"]),
        (Auto, Some(Http), &["http a:80 sniffed", "| tcp outbound|80||a"], &["b spec.ports[0]"]),
    ] {
        let mut services = vec![service("a", "10.0.0.1", &[(80, first)])];
        services.extend(second.map(|it| service("b", "10.0.0.2", &[(80, it)])));
        let made = made("127.0.0.1", &services, None, true);
        assert_eq!(made.rows(), expected, "{first:?} then {second:?}");
        assert_eq!(made.problems(), problems, "{first:?} then {second:?}");
    }
}

#[test]
fn conflicts_name_the_address_and_the_older_service() {
    let services = ["a", "b"].map(|name| service(name, "", &[(9000, Protocol::Tcp)]));
    let made = made("0.0.0.0", &services, None, false);
    let (address, with) = ("0.0.0.0_9000".to_owned(), "a.n.svc.cluster.local".to_owned());
    assert_eq!(made.problems[0].reason, Reason::PortConflict { address, with });
}

#[test]
fn networks_and_server_names_tell_services_on_the_wildcard_address_apart() {
    let services =
        |protocol| [service("a", "10.1.0.0/16", &[(443, protocol)]), service("b", "10.2.0.0/16", &[(443, protocol)])];
    let tcp = made("0.0.0.0", &services(Protocol::Tcp), None, false);
    assert_eq!(tcp.rows(), ["tcp outbound|443||a to=10.1.0.0/16", "tcp outbound|443||b to=10.2.0.0/16", PASS]);
    assert_eq!((tcp.problems(), tcp.inspectors()), (vec![], vec![]));
    let tls = made("0.0.0.0", &services(Protocol::Tls), None, false);
    assert_eq!(tls.rows()[0], "tcp outbound|443||a sni=a to=10.1.0.0/16");
    assert_eq!(tls.inspectors(), ["tls_inspector"]);
    let unaddressed = ["a", "b"].map(|name| service(name, "", &[(443, Protocol::Https)]));
    let unaddressed = made("0.0.0.0", &unaddressed, None, false);
    assert_eq!(unaddressed.rows(), ["tcp outbound|443||a sni=a", "tcp outbound|443||b sni=b", PASS]);
    let own = made("10.0.0.1", &[service("a", "10.0.0.1", &[(443, Protocol::Https)])], None, false);
    assert_eq!(own.rows(), ["tcp outbound|443||a"], "the address says it all");
}

#[test]
fn aliases_are_server_names_too() {
    let mut a = service("a", "", &[(443, Protocol::Tls)]);
    a.aliases = vec![Hostname::kube_service("alias", "m")];
    let rows = made("0.0.0.0", &[a], None, false).rows();
    assert_eq!(rows[0], "tcp outbound|443||a sni=a sni=alias.m sni=alias.m.svc sni=alias.m.svc.cluster.local");
}

#[test]
fn tcp_rules_apply_until_one_takes_everything() {
    let matched = |edit: &dyn Fn(&mut L4MatchAttributes)| {
        let mut matched = L4MatchAttributes::default();
        edit(&mut matched);
        matched
    };
    let subnet = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(|it| it.to_string()).collect();
        matched(&move |it| it.destination_subnets.clone_from(&list))
    };
    let route = |matches: Vec<L4MatchAttributes>, host: &str| TcpRoute { r#match: matches, route: to(host) };
    let none: &[&str] = &[];
    for (routes, expected, problems) in [
        (vec![route(vec![], "b")], &["tcp outbound|80||b"][..], none),
        (vec![route(vec![], "b"), route(vec![], "a")], &["tcp outbound|80||b"], none),
        (vec![route(vec![matched(&|it| it.port = Some(80))], "b")], &["tcp outbound|80||b"], none),
        (vec![route(vec![matched(&|it| it.port = Some(81))], "b")], &["tcp outbound|80||a"], none),
        (vec![route(vec![matched(&|it| it.source_namespace = "n".into())], "b")], &["tcp outbound|80||b"], none),
        (vec![route(vec![matched(&|it| it.source_namespace = "m".into())], "b")], &["tcp outbound|80||a"], none),
        (
            vec![route(vec![matched(&|it| it.source_labels = [("app".into(), "me".into())].into())], "b")],
            &["tcp outbound|80||b"],
            none,
        ),
        (vec![route(vec![matched(&|it| it.gateways = vec!["mesh".into()])], "b")], &["tcp outbound|80||b"], none),
        (vec![route(vec![matched(&|it| it.gateways = vec!["gw".into()])], "b")], &["tcp outbound|80||a"], none),
        (
            vec![route(vec![subnet(&["10.1.2.3/8", "10.0.0.9"])], "b")],
            &["tcp outbound|80||b to=10.0.0.0/8 to=10.0.0.9/32", "| tcp outbound|80||a"],
            none,
        ),
        (vec![route(vec![subnet(&["10.0.0.0/8"]), matched(&|_| {})], "b")], &["tcp outbound|80||b"], none),
        (
            vec![route(vec![subnet(&["nonsense"])], "b")],
            &["tcp outbound|80||a"],
            &["a spec.tcp[0].match[0].destinationSubnets[0]"],
        ),
        (
            vec![route(vec![subnet(&["nonsense", "10.0.0.0/8"])], "b")],
            &["tcp outbound|80||b to=10.0.0.0/8", "| tcp outbound|80||a"],
            &["a spec.tcp[0].match[0].destinationSubnets[0]"],
        ),
        (vec![TcpRoute::default()], &["tcp outbound|80||a"], none),
        (vec![route(vec![], "no.such")], &["tcp outbound|80||no.such"], &["a spec.tcp[0].route[0].destination.host"]),
    ] {
        let rules = rules("a", &routes);
        let a = service("a", "10.0.0.1", &[(80, Protocol::Tcp)]);
        let b = Service { ports: vec![], ..service("b", "", &[]) };
        let b = Service { ports: a.ports.clone(), resolution: Resolution::Endpoints, ..b };
        // `b` is known, and no member: it has a slot of its own.
        let made = made_for(&a, &b, &rules);
        assert_eq!(made.rows(), expected, "{routes:?}");
        assert_eq!(made.problems(), problems, "{routes:?}");
    }
}

/// The listener of `a` alone, in a mesh that also has `b`.
fn made_for(a: &Service, b: &Service, rules: &RouteRules) -> Made {
    let (labels, mesh) = ([("app".to_owned(), "me".to_owned())].into(), mesh());
    let client = Client { gateway: "mesh", namespace: "n", labels: &labels, kind: ProxyKind::Sidecar };
    let view = |service| model::DestinationView { service: Some(service), rule: None };
    let destinations = [(a.key.host.clone(), view(a)), (b.key.host.clone(), view(b))].into();
    let member = Member { service: a, port: &a.ports[0], rules: Some(rules), destinations: &destinations, rule: None };
    let policy = OutboundTrafficPolicy { mode: OutboundTrafficPolicyMode::AllowAny, egress_proxy: None };
    let bind = Bind::Ip(a.addresses[0].addr());
    let (port, members) = (a.ports[0].number, vec![member]);
    let slot = Slot {
        bind,
        port,
        bind_to_port: false,
        members,
        policy: &policy,
        mesh: &mesh,
        client: &client,
        certificates: Certificates::None,
    };
    let Translated { resource: listener, problems } = listener(&slot);
    Made { listener, problems }
}

#[test]
fn tls_rules_route_by_server_name() {
    let matched = |hosts: &[&str]| TlsMatchAttributes {
        sni_hosts: hosts.iter().map(|it| it.to_string()).collect(),
        ..Default::default()
    };
    let elsewhere = TlsMatchAttributes { source_namespace: "m".into(), ..matched(&["x.com"]) };
    let route = |matches: Vec<TlsMatchAttributes>, host: &str| TlsRoute { r#match: matches, route: to(host) };
    let none: &[&str] = &[];
    for (routes, expected, problems) in [
        (
            vec![route(vec![matched(&["x.com", "*.y.com"])], "b")],
            &["tcp outbound|443||b sni=*.y.com sni=x.com", PASS][..],
            none,
        ),
        (vec![route(vec![matched(&["*"])], "b")], &["tcp outbound|443||b"], none),
        (
            vec![route(vec![matched(&["x.com"]), matched(&["y.com"])], "b"), route(vec![matched(&["x.com"])], "a")],
            &["tcp outbound|443||b sni=x.com", "tcp outbound|443||b sni=y.com", PASS],
            none,
        ),
        (
            vec![route(vec![matched(&["x.com"])], "b"), route(vec![matched(&["x.com", "z.com"])], "a")],
            &["tcp outbound|443||b sni=x.com", "tcp outbound|443||a sni=z.com", PASS],
            &["a spec.tls[1].match[0]"],
        ),
        (
            vec![route(vec![matched(&["x*.com", "x.com"])], "b")],
            &["tcp outbound|443||b sni=x.com", PASS],
            &["a spec.tls[0].match[0].sniHosts[0]"],
        ),
        (
            vec![route(vec![matched(&["x*.com"])], "b")],
            &["tcp outbound|443||a"],
            &["a spec.tls[0].match[0].sniHosts[0]"],
        ),
        (vec![route(vec![elsewhere], "b")], &["tcp outbound|443||a"], none),
    ] {
        let rules = RouteRules { tls: routes.clone(), ..rules("a", &[]) };
        let a = service("a", "10.0.0.1", &[(443, Protocol::Tls)]);
        let b = service("b", "10.0.0.2", &[(443, Protocol::Tls)]);
        let made = made_for(&a, &b, &rules);
        assert_eq!(made.rows(), expected, "{routes:?}");
        assert_eq!(made.problems(), problems, "{routes:?}");
    }
}

#[test]
fn listeners_say_how_they_listen() {
    let services = [service("a", "10.0.0.1", &[(80, Protocol::Auto)])];
    let captured = made("10.0.0.1", &services, None, false);
    assert_eq!(captured.inspectors(), ["http_inspector"]);
    let listener = captured.listener.unwrap();
    assert_eq!(listener.name, "10.0.0.1_80");
    assert_eq!(listener.bind_to_port, message::boolean(false));
    assert!(listener.continue_on_listener_filters_timeout);
    let bound = made("127.0.0.1", &services, None, true).listener.unwrap();
    assert_eq!((bound.bind_to_port, bound.max_connections_to_accept_per_socket_event), (None, message::uint32(1)));
    assert_eq!(bound.default_filter_chain.unwrap().transport_socket_connect_timeout.unwrap().seconds, 15);
    let manager = http::tests::manager(&listener.filter_chains[0].filters[0]);
    assert_eq!(manager.stat_prefix, "outbound_10.0.0.1_80;");
}

#[test]
fn ports_of_the_proxy_itself_are_never_bound() {
    let services = [service("a", "", &[(15001, Protocol::Http)])];
    let bound = made("127.0.0.1", &services, None, true);
    assert_eq!((bound.listener.is_none(), bound.problems()), (true, vec!["a spec.ports[0]".to_owned()]));
    assert!(made("0.0.0.0", &services, None, false).listener.is_some());
}

#[test]
fn names_without_a_cluster_and_udp_need_no_listener() {
    let alias = Resolution::Alias(Hostname::new("x.com"));
    let alias = Service { resolution: alias, ..service("a", "", &[(80, Protocol::Http)]) };
    let made = made("0.0.0.0", &[alias, service("b", "", &[(80, Protocol::Udp)])], None, false);
    assert_eq!((made.listener.is_none(), made.problems.len()), (true, 0));
}

#[test]
fn a_port_belongs_to_the_slots_of_its_protocol_and_addresses() {
    use InterceptionMode::{None as Bound, Redirect};
    for (protocol, address, mode, bind, expected) in [
        (Protocol::Http, "10.0.0.1", Redirect, None, &["0.0.0.0"][..]),
        (Protocol::Tcp, "10.0.0.1", Redirect, None, &["10.0.0.1"]),
        (Protocol::Auto, "10.0.0.1", Redirect, None, &["10.0.0.1"]),
        (Protocol::Tcp, "fd00::1", Redirect, None, &["fd00::1"]),
        (Protocol::Tcp, "10.0.0.0/8", Redirect, None, &["0.0.0.0"]),
        (Protocol::Tcp, "", Redirect, None, &["0.0.0.0"]),
        (Protocol::Tcp, "10.0.0.1", Bound, None, &["127.0.0.1"]),
        (Protocol::Http, "10.0.0.1", Bound, None, &["127.0.0.1"]),
        (Protocol::Http, "10.0.0.1", Bound, Some("127.1.2.3"), &["127.1.2.3"]),
        (Protocol::Tcp, "10.0.0.1", Redirect, Some("127.1.2.3"), &["127.1.2.3"]),
        (Protocol::Tcp, "10.0.0.1", Redirect, Some("nonsense"), &[]),
        (Protocol::Udp, "10.0.0.1", Redirect, None, &[]),
    ] {
        let service = service("a", address, &[(80, protocol)]);
        let found: Vec<_> =
            slots(&service, &service.ports[0], mode, bind).into_iter().map(|(it, _)| it.to_string()).collect();
        assert_eq!(found, expected, "{protocol:?} {address} {mode:?} {bind:?}");
    }
}

#[test]
fn headless_ports_belong_to_their_endpoints() {
    let headless = |protocol| Service {
        resolution: Resolution::Passthrough,
        headless: true,
        ..service("a", "", &[(80, protocol)])
    };
    let tcp = headless(Protocol::Tcp);
    assert!(by_endpoint(&tcp, &tcp.ports[0]));
    assert_eq!(slots(&tcp, &tcp.ports[0], InterceptionMode::Redirect, None), []);
    let ips = ["10.0.0.2", "10.0.0.1", "10.0.0.3"].map(|it| it.parse().unwrap());
    let found = headless_slots(&tcp, &tcp.ports[0], ips, Some(ips[2]));
    assert_eq!(found, [(Bind::Ip(ips[1]), 80), (Bind::Ip(ips[0]), 80)]);
    assert_eq!(headless_slots(&tcp, &tcp.ports[0], [], None), []);
    let entry = Service { registry: Registry::External, ..tcp };
    assert_eq!(headless_slots(&entry, &entry.ports[0], [], None), [(Bind::ANY, 80)]);
    let http = headless(Protocol::Http);
    assert!(!by_endpoint(&http, &http.ports[0]));
    assert_eq!(slots(&http, &http.ports[0], InterceptionMode::Redirect, None), [(Bind::ANY, 80)]);
}

#[test]
fn route_tables_are_the_ports_or_a_sniffed_services_own() {
    let a = service("a", "", &[]);
    for (bind, port, protocol, expected) in [
        ("0.0.0.0", 80, Protocol::Http, "80"),
        ("0.0.0.0", 80, Protocol::Auto, "80"),
        ("10.0.0.1", 80, Protocol::Auto, "a.n.svc.cluster.local:80"),
        ("127.0.0.1", 80, Protocol::Http, "80"),
        ("unix:///run/x", 0, Protocol::Http, "/run/x"),
    ] {
        assert_eq!(rds_name(&Bind::parse(bind).unwrap(), port, &a, protocol).to_string(), expected, "{bind}");
    }
}
