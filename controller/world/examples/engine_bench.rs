//! What a commit costs with real translation: `cargo xtask bench engine [SERVICES [ENDPOINTS [NAMESPACES [SIDECARS]]]]`.
//!
//! CPU time is what the kernel charged to all threads of the process, so work handed to other threads counts.

use cpu_time::ProcessTime;
use crds::mesh_config::InterceptionMode;
use crds::{Kind, Meta, Object, ObjectKey, Spec, kube, networking as n};
use model::{Certificates, DnsCapture, Locality, LowPorts, Proxy, ProxyKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::{Batch, Changes, World};
use xds::ConnectionId;

#[derive(Clone, Copy)]
struct Size {
    services: usize,
    endpoints: usize,
    namespaces: usize,
    sidecars: usize,
}

fn main() {
    let mut args = std::env::args().skip(1).map(|it| it.parse::<usize>().expect("sizes are numbers"));
    let mut next = |default| args.next().unwrap_or(default);
    let size = Size { services: next(10_000), endpoints: next(20), namespaces: next(500), sidecars: next(5_000) };
    println!(
        "{} services x {} endpoints, {} namespaces, {} sidecars; {} cores",
        size.services,
        size.endpoints,
        size.namespaces,
        size.sidecars,
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let mut everything = batch((0..size.services).flat_map(|at| objects(size, at)).collect());
    everything.proxies = (0..size.sidecars).map(|at| (ConnectionId(at as u64), Some(proxy(size, at)))).collect();
    let mut world = World::new();
    let before = rss();
    let first = measure(&mut world, "first commit", 1, |_| std::mem::take(&mut everything));
    println!("{:>34} {:.0} MiB before, {:.0} MiB after", "memory (RSS)", before, rss());
    println!("{:>34} {} sets, {} nodes", "published", first.update.sets.len(), first.update.nodes.len());
    run(&mut world, size);
}

fn run(world: &mut World, size: Size) {
    let many = 1_000;
    measure(world, "settle", 1, |_| Batch::default());
    let same = |_| batch(vec![slice(size, 7, size.endpoints)]);
    let none = measure(world, "no-op update", many, same);
    assert!(none.is_empty(), "an update without a change publishes nothing");
    let one = measure(world, "one endpoint changed", many, |at| {
        batch(vec![slice(size, at * 7 % size.services, size.endpoints - 1)])
    });
    println!("{:>34} {} sets", "published by the last", one.update.sets.len());
    measure(world, "VirtualService weight changed", 50, |at| batch(vec![routes(size, 3, at as i32 % 50)]));
    measure(world, "private DestinationRule changed", 50, |at| batch(vec![rule(size, 5, ".", at as i32 + 1)]));
    measure(world, "public DestinationRule changed", 20, |at| batch(vec![rule(size, 5, "*", at as i32 + 1)]));
    measure(world, "new service", 20, |at| batch(objects(size, size.services + at)));
    measure(world, "proxy connects", 100, |at| Batch {
        proxies: vec![(ConnectionId((size.sidecars + at) as u64), Some(proxy(size, at)))],
        ..Batch::default()
    });
    println!("{:>34} {:.0} MiB", "memory (RSS)", rss());
}

fn batch(objects: Vec<Object>) -> Batch {
    Batch { objects: objects.into_iter().map(|it| (it.key.clone(), Some(it))).collect(), ..Batch::default() }
}

/// Runs commits and prints time for each: CPU of all threads and wall clock, mean; wall clock, median and maximum.
fn measure(world: &mut World, name: &str, count: usize, mut change: impl FnMut(usize) -> Batch) -> Changes {
    let mut walls = vec![];
    let (mut cpu, mut last) = (Duration::ZERO, Changes::default());
    for at in 0..count {
        let batch = change(at);
        let (start, used) = (Instant::now(), ProcessTime::now());
        last = world.commit(batch);
        cpu += used.elapsed();
        walls.push(start.elapsed());
    }
    walls.sort();
    let mean = cpu / count as u32;
    println!(
        "{name:>34} CPU {:>10.1?}   wall p50 {:>10.1?} max {:>10.1?}   (n={count})",
        mean,
        walls[count / 2],
        walls[count - 1]
    );
    last
}

/// MiB.
fn rss() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is listed");
    line.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).expect("a number of kB") / 1024.0
}

fn namespace(size: Size, at: usize) -> String {
    format!("ns-{}", at % size.namespaces)
}

fn object(kind: Kind, namespace: &str, name: &str, labels: &[(&str, &str)], spec: Spec) -> Object {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let meta = Meta { name: name.into(), namespace: namespace.into(), labels: labels.into(), ..Meta::default() };
    Object { key: ObjectKey::new(kind, namespace, name), meta, spec }
}

fn objects(size: Size, at: usize) -> Vec<Object> {
    vec![service(size, at), slice(size, at, size.endpoints)]
}

/// Nine in ten are HTTP, the tenth is TCP on its own address.
fn service(size: Size, at: usize) -> Object {
    let name = format!("service-{at}");
    let (port_name, port) = if at % 10 == 9 { ("tcp", 5432) } else { ("http", 8080) };
    let spec = kube::Service {
        cluster_ip: Some(format!("10.{}.{}.{}", 1 + at / 62_500, at / 250 % 250, 1 + at % 250)),
        ports: vec![kube::ServicePort { name: port_name.into(), port, ..Default::default() }],
        selector: [("app".to_owned(), name.clone())].into(),
        ..Default::default()
    };
    object(Kind::Service, &namespace(size, at), &name, &[], Spec::Service(spec))
}

fn slice(size: Size, at: usize, endpoints: usize) -> Object {
    let name = format!("service-{at}");
    let port_name = if at % 10 == 9 { "tcp" } else { "http" };
    let endpoint = |index: usize| kube::SliceEndpoint {
        addresses: vec![format!("172.{}.{}.{}", 16 + at / 2_500, at / 10 % 250, at % 10 * 25 + index % 25)],
        zone: Some(["a", "b", "c"][index % 3].into()),
        ..Default::default()
    };
    let spec = kube::EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        ports: vec![kube::SlicePort { name: Some(port_name.into()), port: Some(8080), ..Default::default() }],
    };
    let label = [("kubernetes.io/service-name", name.as_str())];
    object(Kind::EndpointSlice, &namespace(size, at), &name, &label, Spec::EndpointSlice(spec))
}

fn proxy(size: Size, at: usize) -> Proxy {
    let app = format!("service-{}", at % size.services);
    Proxy {
        kind: ProxyKind::Sidecar,
        name: format!("pod-{at}").as_str().into(),
        namespace: namespace(size, at).as_str().into(),
        ips: vec![std::net::Ipv4Addr::from(0xac20_0000 + at as u32).into()],
        labels: Arc::new(BTreeMap::from([("app".to_owned(), app)])),
        ports: Default::default(),
        interception: InterceptionMode::Redirect,
        http_proxy_port: None,
        low_ports: LowPorts::Bound,
        locality: Arc::new(Locality::default()),
        node: None,
        service_account: None,
        certificates: Certificates::None,
        dns_capture: DnsCapture::Off,
        version: None,
        metadata: Arc::default(),
    }
}

fn routes(size: Size, at: usize, weight: i32) -> Object {
    let name = format!("service-{at}");
    let to = |subset: &str, weight| n::HttpRouteDestination {
        destination: n::Destination { host: name.clone(), subset: subset.into(), port: None },
        weight,
        ..Default::default()
    };
    let spec = n::VirtualService {
        hosts: vec![name.clone()],
        http: vec![n::HttpRoute { route: vec![to("v1", 100 - weight), to("v2", weight)], ..Default::default() }],
        ..Default::default()
    };
    object(Kind::VirtualService, &namespace(size, at), &name, &[], Spec::VirtualService(spec))
}

fn rule(size: Size, at: usize, export_to: &str, connections: i32) -> Object {
    let tcp = n::TcpSettings { max_connections: connections, ..Default::default() };
    let spec = n::DestinationRule {
        host: format!("service-{at}"),
        traffic_policy: Some(n::TrafficPolicy {
            connection_pool: Some(n::ConnectionPool { tcp: Some(tcp), http: None }),
            ..Default::default()
        }),
        export_to: vec![export_to.into()],
        ..Default::default()
    };
    object(
        Kind::DestinationRule,
        &namespace(size, at),
        &format!("rule-{at}"),
        &[],
        Spec::DestinationRule(Box::new(spec)),
    )
}
