//! Who is behind a service changes less often than where it is: endpoints come and go without a new cluster, until a
//! service account comes that was not there.

use crds::mesh_config::InterceptionMode;
use crds::{Kind, Meta, Object, ObjectKey, Spec, kube};
use model::{Certificates, DnsCapture, Labels, Locality, LowPorts, Proxy, ProxyKind};
use std::sync::Arc;
use world::{Batch, Changes, World};
use xds::ConnectionId;

type Change = (ObjectKey, Option<Object>);

fn object(kind: Kind, name: &str, labels: &[(&str, &str)], spec: Spec) -> Change {
    let labels = Arc::new(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    let meta = Meta { name: name.into(), namespace: "n".into(), labels, ..Meta::default() };
    let key = ObjectKey::new(kind, "n", name);
    (key.clone(), Some(Object { key, meta, spec }))
}

fn pod(name: &str, service_account: &str) -> Change {
    let spec = kube::PodSpec { service_account_name: service_account.into(), ..Default::default() };
    let labels = [("app", "web"), ("security.istio.io/tlsMode", "istio")];
    object(Kind::Pod, name, &labels, Spec::Pod(kube::Pod { spec, ..Default::default() }))
}

fn slice(pods: &[&str]) -> Change {
    let endpoint = |(at, name): (usize, &&str)| kube::SliceEndpoint {
        addresses: vec![format!("10.1.0.{at}")],
        target_ref: Some(kube::TargetRef { kind: "Pod".into(), name: (*name).into(), namespace: None }),
        ..Default::default()
    };
    let spec = kube::EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: pods.iter().enumerate().map(endpoint).collect(),
        ports: vec![kube::SlicePort { name: Some("http".into()), port: Some(8080), ..Default::default() }],
    };
    object(Kind::EndpointSlice, "web-1", &[("kubernetes.io/service-name", "web")], Spec::EndpointSlice(spec))
}

fn service() -> Change {
    let spec = kube::Service {
        cluster_ip: Some("10.0.0.1".into()),
        ports: vec![kube::ServicePort { name: "http".into(), port: 80, ..Default::default() }],
        ..Default::default()
    };
    object(Kind::Service, "web", &[], Spec::Service(spec))
}

fn proxy(certificates: Certificates) -> Proxy {
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
        certificates,
        dns_capture: DnsCapture::Off,
        version: None,
        metadata: Arc::default(),
    }
}

fn sets(changes: &Changes) -> Vec<&str> {
    changes.update.sets.iter().map(|(name, _)| &**name).collect()
}

#[test]
fn a_changed_endpoint_is_a_new_load_assignment_and_no_new_cluster() {
    let mut world = World::new();
    world.commit(Batch {
        objects: vec![service(), pod("web-0", "web"), pod("web-1", "web"), pod("web-2", "other"), slice(&["web-0"])],
        proxies: vec![(ConnectionId(1), Some(proxy(Certificates::Workload)))],
        roots: None,
    });
    let mut change = |pods: &[&str]| world.commit(Batch { objects: vec![slice(pods)], ..Batch::default() });
    assert_eq!(sets(&change(&["web-0", "web-1"])), ["eds of base"]);
    assert_eq!(sets(&change(&["web-1"])), ["eds of base"]);
    assert_eq!(sets(&change(&["web-1", "web-2"])), ["cds over mutual TLS of base", "eds of base"]);
}

#[test]
fn what_nobody_can_use_is_not_made() {
    let mut world = World::new();
    let objects = vec![service(), pod("web-0", "web"), slice(&["web-0"])];
    let plain = vec![(ConnectionId(1), Some(proxy(Certificates::None)))];
    let made = world.commit(Batch { objects, proxies: plain, roots: None });
    assert!(!sets(&made).iter().any(|it| it.contains("mutual TLS")), "{:?}", sets(&made));
    let secure = vec![(ConnectionId(2), Some(proxy(Certificates::Workload)))];
    let made = world.commit(Batch { proxies: secure, ..Batch::default() });
    assert!(sets(&made).contains(&"cds over mutual TLS of base"), "{:?}", sets(&made));
    // The last of a kind that leaves takes along what was made for it.
    let gone = world.commit(Batch { proxies: vec![(ConnectionId(2), None)], ..Batch::default() });
    assert!(gone.update.sets.iter().any(|(name, set)| &**name == "cds over mutual TLS of base" && set.is_none()));
}

#[test]
fn s15_labels_come_from_the_pod_and_follow_it() {
    let labelled = |app: &str| object(Kind::Pod, "client", &[("app", app)], Spec::Pod(kube::Pod::default()));
    let claims = |app: &str| Proxy {
        namespace: "n".into(),
        labels: Arc::new([("app".to_owned(), app.to_owned())].into()),
        ports: Default::default(),
        ..proxy(Certificates::None)
    };
    let ports = |world: &World| {
        let clusters = world.resources(ConnectionId(1), xds::TypeUrl::Cluster);
        clusters.iter().filter(|it| it.name.starts_with("inbound|")).map(|it| it.name.to_string()).collect::<Vec<_>>()
    };
    let selecting = {
        let (key, mut made) = service();
        if let Some(Object { spec: Spec::Service(spec), .. }) = &mut made {
            spec.selector = [("app".to_owned(), "web".to_owned())].into();
        }
        (key, made)
    };
    let mut world = World::new();
    let proxies = vec![(ConnectionId(1), Some(claims("web")))];
    world.commit(Batch { objects: vec![selecting], proxies, roots: None });
    assert_eq!(ports(&world), ["inbound|80||"], "without a Pod its word is all there is");
    world.commit(Batch { objects: vec![labelled("mallory")], ..Batch::default() });
    assert_eq!(ports(&world), [""; 0]);
    world.commit(Batch { objects: vec![labelled("web")], ..Batch::default() });
    assert_eq!(ports(&world), ["inbound|80||"]);
}
