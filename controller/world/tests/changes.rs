//! What a change touches: those that it is about, and nobody else.

use crds::mesh_config::InterceptionMode;
use crds::networking as n;
use crds::{Kind, Meta, Object, ObjectKey, Spec, StringMatch, kube};
use model::{Certificates, DnsCapture, Labels, Locality, LowPorts, Proxy, ProxyKind};
use std::sync::Arc;
use world::{Batch, Changes, World};
use xds::{ConnectionId, TypeUrl};

type Change = (ObjectKey, Option<Object>);

fn object(kind: Kind, name: &str, spec: Spec) -> Change {
    let meta = Meta { name: name.into(), namespace: "n".into(), ..Meta::default() };
    let key = ObjectKey::new(kind, "n", name);
    (key.clone(), Some(Object { key, meta, spec }))
}

fn service(name: &str, last: u8) -> Change {
    let ports = vec![kube::ServicePort { name: "http".into(), port: 80, ..Default::default() }];
    let cluster_ip = Some(format!("10.0.0.{last}"));
    object(Kind::Service, name, Spec::Service(kube::Service { cluster_ip, ports, ..Default::default() }))
}

fn route(to: &str) -> n::HttpRoute {
    let destination = n::Destination { host: to.into(), ..Default::default() };
    n::HttpRoute { route: vec![n::HttpRouteDestination { destination, ..Default::default() }], ..Default::default() }
}

/// A root for the host of its name.
fn root(name: &str, delegate: &str) -> Change {
    let delegate = Some(n::Delegate { name: delegate.into(), namespace: String::new() });
    let http = vec![n::HttpRoute { delegate, ..Default::default() }];
    let spec = n::VirtualService { hosts: vec![name.into()], http, ..Default::default() };
    object(Kind::VirtualService, name, Spec::VirtualService(spec))
}

fn delegate(name: &str, path: &str) -> Change {
    let matches = n::HttpMatchRequest { uri: Some(StringMatch::Prefix(path.into())), ..Default::default() };
    let http = vec![n::HttpRoute { r#match: vec![matches], ..route("a") }];
    object(Kind::VirtualService, name, Spec::VirtualService(n::VirtualService { http, ..Default::default() }))
}

fn entry(name: &str) -> Change {
    let spec = n::ServiceEntry {
        hosts: vec![format!("{name}.example.com")],
        ports: vec![n::Port { number: 3306, name: "tcp".into(), protocol: "TCP".into(), target_port: None }],
        resolution: n::Resolution::Dns,
        ..Default::default()
    };
    object(Kind::ServiceEntry, name, Spec::ServiceEntry(spec))
}

fn proxy(dns_capture: DnsCapture) -> Proxy {
    Proxy {
        kind: ProxyKind::Sidecar,
        name: "client".into(),
        namespace: "other".into(),
        ips: vec![std::net::Ipv4Addr::new(10, 1, 0, 99).into()],
        labels: Labels::default(),
        ports: Default::default(),
        interception: InterceptionMode::Redirect,
        http_proxy_port: None,
        low_ports: LowPorts::Bound,
        locality: Arc::new(Locality::default()),
        node: None,
        service_account: None,
        certificates: Certificates::None,
        dns_capture,
        version: None,
        metadata: Arc::default(),
    }
}

fn sets(changes: &Changes) -> Vec<&str> {
    changes.update.sets.iter().map(|(name, _)| &**name).collect()
}

#[test]
fn a_changed_delegate_changes_its_root_alone() {
    let mut world = World::new();
    let services = ["a", "b", "c"].iter().zip(1..).map(|(name, last)| service(name, last));
    let rules = [root("a", "x"), root("b", "y"), delegate("x", "/x"), delegate("y", "/y")];
    let proxies = vec![(ConnectionId(1), Some(proxy(DnsCapture::Off)))];
    world.commit(Batch { objects: services.chain(rules).collect(), proxies, roots: None });
    let made = world.commit(Batch { objects: vec![delegate("x", "/z")], ..Batch::default() });
    assert_eq!(sets(&made), ["rds of base"]);
    let hosts = |made: &Changes| made.update.sets[0].1.as_ref().unwrap().len();
    assert_eq!(hosts(&made), 1, "one route table");
    // One that goes is a problem of its root's, and its requests are the service's.
    let (key, _) = delegate("x", "");
    let gone = world.commit(Batch { objects: vec![(key, None)], ..Batch::default() });
    assert_eq!(sets(&gone), ["rds of base"]);
    assert_eq!(gone.problems.unwrap().len(), 1);
    // And back again, it is as before.
    let back = world.commit(Batch { objects: vec![delegate("x", "/z")], ..Batch::default() });
    assert_eq!(back.problems.unwrap(), []);
}

#[test]
fn allocated_addresses_are_listeners_of_those_who_know_them_and_stay_when_others_come() {
    let mut world = World::new();
    let proxies = [DnsCapture::Off, DnsCapture::On].into_iter().zip(1..);
    let proxies = proxies.map(|(dns, id)| (ConnectionId(id), Some(proxy(dns)))).collect();
    world.commit(Batch { objects: vec![entry("a")], proxies, roots: None });
    let of = |world: &World, id| {
        let all = world.resources(ConnectionId(id), TypeUrl::Listener);
        all.iter().map(|it| it.name.to_string()).filter(|it| it.ends_with("_3306")).collect::<Vec<_>>()
    };
    assert_eq!(of(&world, 1), ["0.0.0.0_3306"]);
    let before = of(&world, 2);
    assert!(before.len() == 1 && before[0].starts_with("240.240."), "{before:?}");
    assert_eq!(world.unwritten_addresses().len(), 1);
    let objects = (0..50).map(|at| entry(&format!("b{at}"))).collect();
    world.commit(Batch { objects, ..Batch::default() });
    assert!(of(&world, 2).contains(&before[0]) && of(&world, 2).len() == 51);
    let (key, _) = entry("b0");
    world.commit(Batch { objects: vec![(key, None)], ..Batch::default() });
    assert!(of(&world, 2).contains(&before[0]) && of(&world, 2).len() == 50);
    assert_eq!(world.unwritten_addresses().len(), 50);
}
