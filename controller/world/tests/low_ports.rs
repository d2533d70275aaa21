//! A proxy that may not bind ports below 1024 gets no listener there, and everything else.

use crds::mesh_config::InterceptionMode;
use crds::{Kind, Meta, Object, ObjectKey, Spec, kube};
use model::{Certificates, DnsCapture, Labels, Locality, LowPorts, Proxy, ProxyKind};
use std::sync::Arc;
use world::{Batch, World};
use xds::{ConnectionId, TypeUrl};

fn listeners(interception: InterceptionMode, low_ports: LowPorts) -> Vec<String> {
    let port = |name: &str, port| kube::ServicePort { name: name.into(), port, ..Default::default() };
    let spec = kube::Service {
        cluster_ip: Some("10.0.0.1".into()),
        ports: vec![port("http-low", 80), port("http-high", 8080)],
        ..Default::default()
    };
    let key = ObjectKey::new(Kind::Service, "n", "web");
    let meta = Meta { name: "web".into(), namespace: "n".into(), ..Meta::default() };
    let proxy = Proxy {
        kind: ProxyKind::Sidecar,
        name: "p".into(),
        namespace: "n".into(),
        ips: vec![std::net::Ipv4Addr::new(172, 16, 0, 1).into()],
        labels: Labels::default(),
        ports: Default::default(),
        interception,
        http_proxy_port: None,
        low_ports,
        locality: Arc::new(Locality::default()),
        node: None,
        service_account: None,
        certificates: Certificates::None,
        dns_capture: DnsCapture::Off,
        version: None,
        metadata: Arc::default(),
    };
    let mut world = World::new();
    world.commit(Batch {
        objects: vec![(key.clone(), Some(Object { key, meta, spec: Spec::Service(spec) }))],
        proxies: vec![(ConnectionId(1), Some(proxy))],
        roots: None,
    });
    world.resources(ConnectionId(1), TypeUrl::Listener).iter().map(|it| it.name.to_string()).collect()
}

#[test]
fn a_proxy_without_privileges_binds_no_low_port() {
    assert_eq!(listeners(InterceptionMode::None, LowPorts::Skipped), ["127.0.0.1_8080"]);
    assert_eq!(listeners(InterceptionMode::None, LowPorts::Bound), ["127.0.0.1_80", "127.0.0.1_8080"]);
}

#[test]
fn where_traffic_is_captured_nothing_is_bound_and_nothing_left_out() {
    let captured = listeners(InterceptionMode::Redirect, LowPorts::Skipped);
    assert_eq!(captured, ["0.0.0.0_80", "0.0.0.0_8080", "virtualInbound", "virtualOutbound"]);
}
