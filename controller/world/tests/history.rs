//! Whatever the order of edits: what proxies have at the end is what a world that starts from the final objects
//! gives them.

use crds::mesh_config::InterceptionMode;
use crds::{Kind, Meta, Object, ObjectKey, Spec, StringMatch, extensions as x, kube, networking as n};
use model::{Certificates, DnsCapture, Locality, LowPorts, Proxy, ProxyKind};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use world::{Batch, World};
use xds::{ConnectionId, TypeUrl};

const NAMESPACES: [&str; 3] = ["istio-system", "a", "b"];
const TYPES: [TypeUrl; 5] =
    [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Listener, TypeUrl::Route, TypeUrl::NameTable];

/// xorshift: the same histories on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    fn often(&mut self) -> bool {
        self.roll(3) > 0
    }
}

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().filter(|it| !it.is_empty()).map(|it| it.to_string()).collect()
}

fn labels(app: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), app.to_owned())].into()
}

fn service(dice: &mut Dice) -> Spec {
    let ports = [("http", 80), ("grpc", 81), ("tcp", 82), ("web", 80), ("tls", 443)];
    let count = 1 + dice.roll(2);
    let ports = (0..count).map(|at| {
        let (name, port) = ports[(dice.roll(ports.len() - 1) + at) % ports.len()];
        kube::ServicePort { name: format!("{name}-{at}"), port: port + at as u16, ..Default::default() }
    });
    Spec::Service(kube::Service {
        ports: ports.collect(),
        cluster_ip: match dice.roll(4) {
            0 => Some("None".into()),
            1 => None,
            _ => Some(format!("10.0.0.{}", 1 + dice.roll(5))),
        },
        selector: labels(dice.pick(&["x", "y", "z"])),
        ..Default::default()
    })
}

fn slice(dice: &mut Dice) -> Spec {
    let endpoint = |dice: &mut Dice| kube::SliceEndpoint {
        addresses: vec![format!("172.16.0.{}", 1 + dice.roll(9))],
        zone: Some(dice.pick(&["p", "q"]).into()),
        conditions: kube::Conditions { ready: Some(dice.often()), ..Default::default() },
        ..Default::default()
    };
    Spec::EndpointSlice(kube::EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: (0..dice.roll(4)).map(|_| endpoint(dice)).collect(),
        ports: ["http-0", "tcp-0", "web-0"]
            .map(|name| kube::SlicePort { name: Some(name.into()), port: Some(8080), ..Default::default() })
            .into(),
    })
}

fn entry(dice: &mut Dice) -> Spec {
    let dynamic = dice.roll(4) == 0;
    let host = dice.pick(&["x.example.com", "y.example.com", "x.a.svc.cluster.local"]);
    Spec::ServiceEntry(n::ServiceEntry {
        hosts: strings(&[if dynamic { "*.example.com" } else { host }]),
        addresses: strings(&[dice.pick(&["", "240.0.0.1", "240.0.0.2"])]),
        ports: vec![n::Port {
            number: 80,
            name: "http".into(),
            protocol: dice.pick(&["HTTP", "TCP"]).into(),
            target_port: None,
        }],
        resolution: match dynamic {
            true => n::Resolution::DynamicDns,
            false => [n::Resolution::None, n::Resolution::Static, n::Resolution::Dns][dice.roll(3)],
        },
        export_to: strings(&[dice.pick(&["", "*", ".", "b"])]),
        ..Default::default()
    })
}

fn rule(dice: &mut Dice) -> Spec {
    let subset = |name: &str| n::Subset { name: name.into(), labels: labels(name), traffic_policy: None };
    Spec::DestinationRule(Box::new(n::DestinationRule {
        host: dice.pick(&["x", "y", "*.example.com", "x.a.svc.cluster.local", "*.local"]).into(),
        subsets: ["v1", "v2"].iter().filter(|_| dice.often()).map(|it| subset(it)).collect(),
        traffic_policy: Some(n::TrafficPolicy {
            outlier_detection: (dice.roll(4) == 0).then(n::OutlierDetection::default),
            connection_pool: Some(n::ConnectionPool {
                tcp: Some(n::TcpSettings { max_connections: dice.roll(3) as i32, ..Default::default() }),
                http: None,
            }),
            ..Default::default()
        }),
        export_to: strings(&[dice.pick(&["", "*", ".", "b"])]),
        workload_selector: (dice.roll(3) == 0)
            .then(|| n::MatchLabels { match_labels: labels(dice.pick(&["x", "y", "gate"])) }),
    }))
}

fn routes(dice: &mut Dice) -> Spec {
    let to = |dice: &mut Dice, weight| n::HttpRouteDestination {
        destination: n::Destination {
            host: dice.pick(&["x", "y", "x.example.com", "nowhere"]).into(),
            subset: dice.pick(&["", "v1", "v9"]).into(),
            port: None,
        },
        weight,
        ..Default::default()
    };
    let matches = n::HttpMatchRequest {
        uri: Some(StringMatch::Prefix("/api".into())),
        source_labels: if dice.roll(4) == 0 { labels("x") } else { BTreeMap::new() },
        source_namespace: dice.pick(&["", "", "", "b"]).into(),
        ..Default::default()
    };
    let http = n::HttpRoute {
        r#match: if dice.often() { vec![] } else { vec![matches] },
        route: vec![to(dice, 40), to(dice, 60)],
        ..Default::default()
    };
    let delegate = n::Delegate { name: dice.pick(&["x", "y"]).into(), namespace: dice.pick(&["", "a", "b"]).into() };
    let delegating = n::HttpRoute { delegate: Some(delegate), ..n::HttpRoute::default() };
    let is_delegate = dice.roll(4) == 0;
    let has_delegate = !is_delegate && dice.roll(3) == 0;
    let host = dice.pick(&["x", "y", "x.example.com", "*.example.com", "loose.example.org"]);
    let gateway = dice.pick(&["", "mesh", "gate", "a/gate"]);
    Spec::VirtualService(n::VirtualService {
        hosts: if is_delegate { vec![] } else { strings(&[host]) },
        gateways: if is_delegate { vec![] } else { strings(&[gateway]) },
        http: has_delegate.then_some(delegating).into_iter().chain([http]).collect(),
        export_to: strings(&[dice.pick(&["", "", "*", ".", "b"])]),
        ..Default::default()
    })
}

fn gateway(dice: &mut Dice) -> Spec {
    Spec::Gateway(n::Gateway {
        selector: labels("gate"),
        servers: vec![n::Server {
            port: n::Port {
                number: 80 + dice.roll(2) as u32,
                name: "http".into(),
                protocol: "HTTP".into(),
                target_port: None,
            },
            hosts: strings(&[dice.pick(&["*", "x.example.com", "a/*"])]),
            ..Default::default()
        }],
    })
}

fn sidecar(dice: &mut Dice) -> Spec {
    Spec::Sidecar(Box::new(n::Sidecar {
        workload_selector: dice.often().then(|| n::WorkloadSelector { labels: labels(dice.pick(&["x", "y"])) }),
        egress: vec![n::EgressListener {
            hosts: strings(&[dice.pick(&["*/*", "./*", "a/*", "*/*.example.com"])]),
            ..Default::default()
        }],
        ..Default::default()
    }))
}

fn filter(dice: &mut Dice) -> Spec {
    use n::{ApplyTo, Operation, PatchContext};
    let timeout = json!({"name": "mine", "connectTimeout": format!("{}s", 1 + dice.roll(3))});
    let lua = json!({"name": "lua", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}});
    let merge = json!({"perConnectionBufferLimitBytes": dice.roll(3)});
    let count = json!({"includeRequestAttemptCount": dice.often()});
    let patches = [
        (ApplyTo::Cluster, Operation::Merge, merge.clone()),
        (ApplyTo::Cluster, Operation::Add, timeout),
        (ApplyTo::Cluster, Operation::Remove, json!({})),
        (ApplyTo::Listener, Operation::Merge, merge),
        (ApplyTo::HttpFilter, Operation::InsertFirst, lua.clone()),
        // Envoy would refuse it: after the router.
        (ApplyTo::HttpFilter, Operation::Add, lua),
        (ApplyTo::VirtualHost, Operation::Merge, count),
    ];
    let contexts =
        [PatchContext::Any, PatchContext::SidecarInbound, PatchContext::SidecarOutbound, PatchContext::Gateway];
    let patch = |dice: &mut Dice| {
        let (apply_to, operation, value) = patches[dice.roll(patches.len())].clone();
        let cluster = (apply_to == ApplyTo::Cluster && operation != Operation::Add).then(|| n::ClusterMatch {
            service: format!("{}.{}.svc.cluster.local", dice.pick(&["x", "y"]), dice.pick(&NAMESPACES)),
            ..Default::default()
        });
        n::ConfigPatch {
            apply_to,
            r#match: n::ObjectMatch { context: contexts[dice.roll(4)], cluster, ..Default::default() },
            patch: Some(n::Patch { operation, value: Some(value), ..Default::default() }),
        }
    };
    Spec::EnvoyFilter(Box::new(n::EnvoyFilter {
        workload_selector: dice.often().then(|| n::WorkloadSelector { labels: labels(dice.pick(&["x", "y", "gate"])) }),
        config_patches: (0..1 + dice.roll(2)).map(|_| patch(dice)).collect(),
        priority: dice.roll(2) as i32,
        ..Default::default()
    }))
}

fn extension(dice: &mut Dice) -> x::TrafficExtension {
    let modes = [x::WorkloadMode::Undefined, x::WorkloadMode::Client, x::WorkloadMode::Server];
    let ports = if dice.often() { vec![] } else { vec![n::PortSelector { number: 80 }] };
    x::TrafficExtension {
        selector: dice.often().then(|| n::MatchLabels { match_labels: labels(dice.pick(&["x", "y", "gate"])) }),
        phase: [x::Phase::Authn, x::Phase::Unspecified][dice.roll(2)],
        priority: dice.often().then(|| dice.roll(2) as i32),
        r#match: vec![x::TrafficSelector { mode: modes[dice.roll(3)], ports }],
        lua: Some(x::Lua { inline_code: "function envoy_on_request(it) end".into() }),
        ..Default::default()
    }
}

fn plugin(dice: &mut Dice) -> Spec {
    let x::TrafficExtension { selector, phase, priority, r#match, .. } = extension(dice);
    let url = ["file:///a.wasm", "file:///b.wasm"][dice.roll(2)].into();
    let plugin = x::WasmPlugin { selector, phase, priority, r#match, url, ..Default::default() };
    Spec::WasmPlugin(Box::new(plugin))
}

fn object(dice: &mut Dice) -> Object {
    let kinds = [
        Kind::Service,
        Kind::EndpointSlice,
        Kind::ServiceEntry,
        Kind::DestinationRule,
        Kind::VirtualService,
        Kind::Gateway,
        Kind::Sidecar,
        Kind::EnvoyFilter,
        Kind::TrafficExtension,
        Kind::WasmPlugin,
    ];
    // Services and routes matter most.
    let kind = kinds[[0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 5, 6, 7, 8, 9][dice.roll(16)]];
    let namespace = dice.pick(&NAMESPACES);
    let name = if kind == Kind::Gateway { "gate" } else { dice.pick(&["x", "y"]) };
    let spec = match kind {
        Kind::Service => service(dice),
        Kind::EndpointSlice => slice(dice),
        Kind::ServiceEntry => entry(dice),
        Kind::DestinationRule => rule(dice),
        Kind::VirtualService => routes(dice),
        Kind::Gateway => gateway(dice),
        Kind::EnvoyFilter => filter(dice),
        Kind::TrafficExtension => Spec::TrafficExtension(Box::new(extension(dice))),
        Kind::WasmPlugin => plugin(dice),
        _ => sidecar(dice),
    };
    let own = Arc::new([("kubernetes.io/service-name".to_owned(), name.to_owned())].into());
    let meta = Meta { name: name.into(), namespace: namespace.into(), labels: own, ..Meta::default() };
    Object { key: ObjectKey::new(kind, namespace, name), meta, spec }
}

fn proxy(dice: &mut Dice) -> Proxy {
    let router = dice.roll(4) == 0;
    Proxy {
        kind: if router { ProxyKind::Router } else { ProxyKind::Sidecar },
        name: "p".into(),
        namespace: dice.pick(&NAMESPACES).into(),
        ips: vec![std::net::Ipv4Addr::new(172, 16, 0, 1).into()],
        labels: Arc::new(labels(if router { "gate" } else { dice.pick(&["x", "y", "z"]) })),
        ports: Default::default(),
        interception: if !router && dice.roll(5) == 0 { InterceptionMode::None } else { InterceptionMode::Redirect },
        http_proxy_port: (dice.roll(6) == 0).then_some(15002),
        low_ports: if dice.often() { LowPorts::Bound } else { LowPorts::Skipped },
        locality: Arc::new(Locality { zone: dice.pick(&["p", "q"]).into(), ..Locality::default() }),
        node: None,
        service_account: None,
        certificates: if dice.often() { Certificates::Workload } else { Certificates::None },
        dns_capture: if dice.often() { DnsCapture::On } else { DnsCapture::Off },
        version: None,
        metadata: Arc::default(),
    }
}

/// What every proxy has, by type and name, with versions; and what is wrong.
fn shown(world: &World, proxies: &BTreeMap<ConnectionId, Proxy>) -> Vec<String> {
    let mut lines = vec![];
    for id in proxies.keys() {
        for kind in TYPES {
            let resources = world.resources(*id, kind);
            lines.extend(resources.iter().map(|it| format!("{id} {kind:?} {} {}", it.name, it.version)));
        }
    }
    lines.extend(world.problems().iter().map(|it| it.to_string()));
    lines
}

/// How many lines were compared.
fn history(seed: u64, steps: usize) -> usize {
    let mut seen = 0;
    let mut dice = Dice(seed);
    let mut world = World::new();
    let (mut objects, mut proxies) = (BTreeMap::new(), BTreeMap::new());
    for step in 0..steps {
        let mut batch = Batch::default();
        for _ in 0..1 + dice.roll(3) {
            let made = object(&mut dice);
            let (key, value) = if dice.roll(4) == 0 { (made.key, None) } else { (made.key.clone(), Some(made)) };
            match &value {
                Some(object) => _ = objects.insert(key.clone(), object.clone()),
                None => _ = objects.remove(&key),
            }
            batch.objects.retain(|(other, _)| *other != key);
            batch.objects.push((key, value));
        }
        if dice.roll(3) == 0 || proxies.is_empty() {
            let (id, made) = (ConnectionId(dice.roll(4) as u64), proxy(&mut dice));
            proxies.insert(id, made.clone());
            batch.proxies.push((id, Some(made)));
        }
        world.commit(batch);
        if step % 4 == 3 {
            let mut scratch = World::new();
            scratch.commit(Batch {
                objects: objects
                    .iter()
                    .map(|(key, it): (&ObjectKey, &Object)| (key.clone(), Some(it.clone())))
                    .collect(),
                proxies: proxies.iter().map(|(id, it)| (*id, Some(it.clone()))).collect(),
                roots: None,
            });
            seen += shown(&scratch, &proxies).len();
            assert_eq!(shown(&world, &proxies), shown(&scratch, &proxies), "seed {seed}, step {step}");
        }
    }
    seen
}

#[test]
fn incremental_equals_from_scratch() {
    let seen: usize = (1..=40).map(|seed| history(seed * 0x9e37_79b9, 40)).sum();
    assert!(seen > 10_000, "the histories say too little: {seen} lines");
}

#[test]
fn the_same_batch_again_changes_nothing() {
    let mut dice = Dice(77);
    let mut world = World::new();
    let objects: BTreeMap<ObjectKey, Object> =
        (0..60).map(|_| object(&mut dice)).map(|it| (it.key.clone(), it)).collect();
    let batch = || Batch {
        objects: objects.iter().map(|(key, it)| (key.clone(), Some(it.clone()))).collect(),
        ..Batch::default()
    };
    let proxies = vec![(ConnectionId(1), Some(proxy(&mut dice)))];
    assert!(!world.commit(Batch { proxies, ..batch() }).is_empty());
    assert!(world.commit(batch()).is_empty());
}
