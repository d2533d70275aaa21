//! The loop against events as values: no sockets, no API server.

use super::core::{Core, Event, IdentityCheck, Registers};
use super::door::Guarded;
use super::http::{Debug, Pages};
use super::metrics::Metrics;
use super::process::decide;
use super::query::Query;
use super::registration::Health;
use axum::extract::ConnectInfo;
use ca::authenticate::{Authenticator, Caller, Credential, PodRef, TokenReviewer};
use ca::authority::Authority;
use ca::bundle::Bundle;
use ca::clock::Clock;
use ca::key::KeyKind;
use ca::spiffe::TrustDomains;
use crds::networking::{ProxyConfig, Resolution, ServiceEntry, ServiceEntryAddress, WorkloadEntry, WorkloadGroup};
use crds::{Kind, Meta, Object, ObjectKey, Spec, kube};
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tower::ServiceExt;
use tower_service::Service;
use xds::envoy::core::Node;
use xds::envoy::{Struct, Value, value};
use xds::server::{AdsService, Event as Stream, Limits, Peer};
use xds::{ConnectionId, Hub, TypeUrl};

fn core() -> (Core, Arc<Hub>, Arc<Metrics>) {
    let (hub, metrics) = (Arc::new(Hub::default()), Arc::new(Metrics::default()));
    (Core::new(hub.clone(), metrics.clone(), IdentityCheck::Enforced), hub, metrics)
}

fn pod(name: &str, namespace: &str, account: &str) -> (ObjectKey, Option<Object>) {
    let key = ObjectKey::new(Kind::Pod, namespace, name);
    let meta = Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() };
    let mut pod = kube::Pod::default();
    pod.spec.service_account_name = account.into();
    pod.status.ips[0] = Some([10, 0, 0, 7].into());
    (key.clone(), Some(Object { key, meta, spec: Spec::Pod(pod) }))
}

fn changed(changes: Vec<(ObjectKey, Option<Object>)>) -> Event {
    Event::Source(source::kube::Event::Changed { changes, problems: vec![] })
}

fn connected(id: u64, pod: &str, namespace: &str, account: &str) -> Event {
    let mut peer = Peer::default();
    peer.extensions.insert(Caller {
        identity: format!("spiffe://cluster.local/ns/{namespace}/sa/{account}").parse().unwrap(),
        pod: Some(PodRef { name: pod.into(), uid: "u".into() }),
        credential: Credential::Token,
    });
    let node = Node { id: format!("sidecar~10.0.0.7~{pod}.shop~shop.svc.cluster.local"), ..Node::default() };
    Event::Xds(Stream::Connected { connection: ConnectionId(id), node: Box::new(node), peer: Box::new(peer) })
}

fn is_served(hub: &Hub, id: u64) -> bool {
    hub.snapshot(ConnectionId(id)).is_some()
}

#[test]
fn f9_nothing_is_ready_before_every_kind_has_been_read() {
    let (mut core, hub, _) = core();
    core.handle([changed(vec![pod("cart", "shop", "cart")])]);
    assert!(!hub.ready());
    core.handle([Event::Source(source::kube::Event::Synced)]);
    assert!(hub.ready());
}

#[tokio::test(start_paused = true)]
async fn f9_a_proxy_waits_for_its_pod_and_is_told_to_come_again_when_it_stays_away() {
    let (mut core, hub, metrics) = core();
    core.handle([connected(1, "cart", "shop", "cart"), connected(2, "ghost", "shop", "cart")]);
    assert!(!is_served(&hub, 1), "its pod has not been seen");
    core.handle([changed(vec![pod("cart", "shop", "cart")])]);
    assert!(is_served(&hub, 1));
    tokio::time::advance(Duration::from_secs(6)).await;
    core.handle([Event::Tick]);
    assert_eq!(metrics.streams_refused(tonic::Code::Unavailable), 1);
    assert_eq!(metrics.streams_refused(tonic::Code::PermissionDenied), 0);
}

#[test]
fn addresses_are_wanted_until_the_status_has_them() {
    let (mut core, ..) = core();
    let mut wanted = core.addresses();
    let key = ObjectKey::new(Kind::ServiceEntry, "shop", "db");
    let entry = |addresses: Vec<ServiceEntryAddress>| {
        let mut entry = ServiceEntry { hosts: vec!["db.example.com".into()], ..ServiceEntry::default() };
        entry.resolution = Resolution::Dns;
        entry.status.addresses = addresses;
        let meta = Meta { name: "db".into(), namespace: "shop".into(), ..Meta::default() };
        (key.clone(), Some(Object { key: key.clone(), meta, spec: Spec::ServiceEntry(entry) }))
    };
    core.handle([changed(vec![entry(vec![])])]);
    let addresses = wanted.borrow_and_update()[&key].clone();
    assert_eq!(addresses.iter().map(|it| it.host.as_str()).collect::<Vec<_>>(), ["db.example.com"; 2]);
    core.handle([changed(vec![pod("web", "shop", "web")])]);
    assert!(!wanted.has_changed().unwrap(), "nobody is woken for what is known");
    core.handle([changed(vec![entry(addresses)])]);
    assert!(wanted.borrow_and_update().is_empty());
}

#[test]
fn injection_has_proxy_configs_once_every_kind_has_been_read() {
    let (mut core, ..) = core();
    let mut configs = core.proxy_configs();
    let key = ObjectKey::new(Kind::ProxyConfig, "shop", "all");
    let config = |concurrency| {
        let config = ProxyConfig { concurrency: Some(concurrency), ..ProxyConfig::default() };
        let meta = Meta { name: "all".into(), namespace: "shop".into(), ..Meta::default() };
        changed(vec![(key.clone(), Some(Object { key: key.clone(), meta, spec: Spec::ProxyConfig(config) }))])
    };
    let mut seen = || {
        let current = configs.borrow_and_update().clone()?;
        Some(current.of("istio-system", "shop", &BTreeMap::new()).map(|it| it.concurrency).collect::<Vec<_>>())
    };
    core.handle([config(1)]);
    assert_eq!(seen(), None);
    core.handle([Event::Source(source::kube::Event::Synced)]);
    assert_eq!(seen(), Some(vec![Some(1)]));
    core.handle([config(2)]);
    assert_eq!(seen(), Some(vec![Some(2)]));
    core.handle([changed(vec![(key.clone(), None)])]);
    assert_eq!(seen(), Some(vec![]));
    core.handle([changed(vec![pod("web", "shop", "web")])]);
    assert!(!configs.has_changed().unwrap(), "nobody is woken for what is known");
}

#[test]
fn agents_are_told_the_roots_whenever_they_change() {
    let (mut core, hub, _) = core();
    core.handle([changed(vec![pod("cart", "shop", "cart")]), connected(1, "cart", "shop", "cart")]);
    let told = || {
        let snapshot = hub.snapshot(ConnectionId(1)).unwrap();
        snapshot.layers(TypeUrl::ProxyConfig).iter().map(|it| it.bytes()).collect::<Vec<_>>()
    };
    assert!(told().is_empty());
    let roots = |it: &str| Event::Roots(format!("-----BEGIN CERTIFICATE-----\n{it}\n-----END CERTIFICATE-----\n"));
    core.handle([roots("one")]);
    let one = told();
    assert_eq!(one.len(), 1);
    core.handle([roots("two")]);
    assert_ne!(told(), one);
}

fn group(namespace: &str, account: &str) -> Event {
    let key = ObjectKey::new(Kind::WorkloadGroup, namespace, "vm");
    let template = WorkloadEntry {
        labels: [("app".to_owned(), "vm".to_owned())].into(),
        service_account: account.into(),
        ..WorkloadEntry::default()
    };
    let spec = WorkloadGroup { template: Some(template), ..WorkloadGroup::default() };
    let meta = Meta { name: "vm".into(), namespace: namespace.into(), ..Meta::default() };
    changed(vec![(key.clone(), Some(Object { key, meta, spec: Spec::WorkloadGroup(Box::new(spec)) }))])
}

/// The node is in the namespace `shop`.
fn registering(id: u64, namespace: &str, account: &str) -> Event {
    let mut event = connected(id, "vm-1", namespace, account);
    let Event::Xds(Stream::Connected { node, peer, .. }) = &mut event else { unreachable!() };
    peer.extensions.get_mut::<Caller>().unwrap().pod = None;
    let kind = value::Kind::StringValue("vm".into());
    let fields = [("AUTO_REGISTER_GROUP".to_owned(), Value { kind: Some(kind) })];
    node.metadata = Some(Struct { fields: fields.into() });
    event
}

#[tokio::test(start_paused = true)]
async fn a_workload_outside_of_kubernetes_registers_itself_by_its_group() {
    let (mut core, hub, metrics) = core();
    let mut entries = core.entries();
    core.handle([registering(1, "shop", "vm")]);
    assert!(!is_served(&hub, 1), "its group has not been seen");
    core.handle([group("shop", "vm")]);
    assert!(is_served(&hub, 1));
    let wanted = entries.borrow_and_update().clone();
    let (key, registration) = wanted.first_key_value().unwrap();
    assert_eq!(key.to_string(), "WorkloadEntry shop/vm-10.0.0.7");
    assert_eq!((registration.labels["app"].as_str(), &registration.health), ("vm", &None));
    let health = |error: Option<&str>| {
        let type_url = "type.googleapis.com/istio.v1.HealthInformation".into();
        let error = error.map(str::to_owned);
        Event::Xds(Stream::UnknownType { connection: ConnectionId(1), type_url, error })
    };
    let mut told = |event: Event| {
        core.handle([event]);
        entries.borrow_and_update().values().next().map(|it| it.health.clone())
    };
    assert_eq!(told(health(None)), Some(Some(Health::Healthy)));
    assert_eq!(told(health(Some("refused"))), Some(Some(Health::Unhealthy("refused".into()))));
    assert_eq!(told(Event::Xds(Stream::Disconnected { connection: ConnectionId(1) })), None);
    // A token that is bound to a Pod is for that Pod.
    let mut of_pod = registering(9, "shop", "vm");
    let Event::Xds(Stream::Connected { peer, .. }) = &mut of_pod else { unreachable!() };
    peer.extensions.get_mut::<Caller>().unwrap().pod = Some(PodRef { name: "vm-1".into(), uid: "u".into() });
    core.handle([of_pod]);
    assert!(!is_served(&hub, 9));
    core.handle([Event::Xds(Stream::Disconnected { connection: ConnectionId(9) })]);
    // Another account of the namespace, another namespace, and no group at all.
    core.handle([registering(2, "shop", "other"), registering(3, "bank", "vm")]);
    assert_eq!(metrics.streams_refused(tonic::Code::PermissionDenied), 2);
    core.handle([changed(vec![(ObjectKey::new(Kind::WorkloadGroup, "shop", "vm"), None)])]);
    core.handle([registering(4, "shop", "vm")]);
    tokio::time::advance(Duration::from_secs(6)).await;
    core.handle([Event::Tick]);
    assert_eq!(metrics.streams_refused(tonic::Code::Unavailable), 1);
    assert!(entries.borrow_and_update().is_empty());
    // Where nobody registers, such a node waits for its Pod as any other.
    let (core, hub, _) = self::core();
    let mut core = core.with_registration(Registers::No);
    core.handle([group("shop", "vm"), registering(5, "shop", "vm")]);
    assert!(!is_served(&hub, 5));
}

#[test]
fn s14_a_node_in_somebody_else_s_namespace_is_refused() {
    let (mut core, hub, metrics) = core();
    core.handle([changed(vec![pod("cart", "shop", "cart")]), connected(1, "cart", "bank", "teller")]);
    assert!(!is_served(&hub, 1));
    assert_eq!(metrics.streams_refused(tonic::Code::PermissionDenied), 1);
}

#[tokio::test]
async fn the_debug_pages_see_what_was_accepted_and_refused() {
    let (mut core, hub, _) = core();
    core.handle([changed(vec![pod("cart", "shop", "cart")]), connected(1, "cart", "shop", "cart")]);
    assert!(is_served(&hub, 1));
    let ack = |version: &str| Stream::Ack {
        connection: ConnectionId(1),
        kind: TypeUrl::Cluster,
        version: version.into(),
        nonce: "n".into(),
    };
    let nack = Stream::Nack {
        connection: ConnectionId(1),
        kind: TypeUrl::Listener,
        version: "v2".into(),
        nonce: "n".into(),
        reason: "no".into(),
        names: vec![],
    };
    let (sender, answer) = oneshot::channel();
    core.handle([Event::Xds(ack("v1")), Event::Xds(nack), Event::Ask(Query::Proxies(sender))]);
    let rows = answer.await.unwrap();
    assert_eq!((rows.len(), rows[0].acked["cds"].as_str(), rows[0].refused["lds"].as_str()), (1, "v1", "no"));

    let (sender, answer) = oneshot::channel();
    core.handle([Event::Ask(Query::Resources { proxy: "cart.shop".into(), answer: sender })]);
    let (namespace, kinds) = answer.await.unwrap().unwrap();
    assert_eq!(namespace, "shop");
    assert!(kinds.iter().any(|(kind, all)| *kind == TypeUrl::Listener && !all.is_empty()));

    core.handle([Event::Xds(Stream::Disconnected { connection: ConnectionId(1) })]);
    assert!(!is_served(&hub, 1));
}

/// The clock stands still while there is something to do: a loop that left events until its tick would be found out.
#[tokio::test(start_paused = true)]
async fn what_happens_is_taken_in_at_once_and_not_at_the_next_tick() {
    let (core, hub, _) = core();
    let (events, receiver) = mpsc::channel(8);
    let decided = tokio::spawn(decide(core, receiver));
    for id in 1..4 {
        let began = tokio::time::Instant::now();
        events.send(changed(vec![pod(&format!("cart{id}"), "shop", "cart")])).await.unwrap();
        events.send(connected(id, &format!("cart{id}"), "shop", "cart")).await.unwrap();
        let (sender, answer) = oneshot::channel();
        events.send(Event::Ask(Query::Proxies(sender))).await.unwrap();
        assert_eq!(answer.await.unwrap().len(), id as usize);
        assert!(is_served(&hub, id));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
    drop(events);
    decided.await.unwrap();
}

/// Asks nobody: every token is unknown.
struct NoTokens;

impl TokenReviewer for NoTokens {
    fn review<'a>(
        &'a self,
        token: &'a str,
        _: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ca::authenticate::ReviewOutage>> {
        let user = |namespace: &str| UserInfo {
            username: Some(format!("system:serviceaccount:{namespace}:default")),
            groups: Some(vec!["system:serviceaccounts".to_owned()]),
            ..UserInfo::default()
        };
        let known = ["istio-system", "shop"].contains(&token);
        let status = TokenReviewStatus {
            authenticated: Some(known),
            audiences: known.then(|| vec!["istio-ca".to_owned()]),
            user: known.then(|| user(token)),
            error: None,
        };
        Box::pin(async move { Ok(status) })
    }
}

fn authenticator() -> Authenticator {
    let bundle = Bundle::self_signed(KeyKind::P256, Duration::from_secs(3600), "cluster.local", SystemTime::now());
    let authority = Authority::new(bundle.unwrap(), ca::authority::Options::default());
    let options = ca::authenticate::Options::new(TrustDomains::new("cluster.local"));
    Authenticator::new(options, Arc::new(NoTokens), watch::channel(Arc::new(authority)).1, Clock::system())
}

#[tokio::test]
async fn s01_s10_a_stream_without_a_credential_is_refused_before_anything_of_it_is_read() {
    let hub = Arc::new(Hub::default());
    hub.set_ready();
    let (events, mut streams) = mpsc::channel(1);
    let metrics = Arc::new(Metrics::default());
    let service = AdsService::new(hub, events, Limits::default());
    let mut door = Guarded { service, authenticator: authenticator(), metrics };
    for token in [None, Some("garbage")] {
        let uri = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
        let mut request = http::Request::post(uri).body(tonic::body::Body::empty()).unwrap();
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        // S6: what a proxy in between would say of the client is not believed.
        let claim = "By=spiffe://cluster.local/ns/a/sa/b;URI=spiffe://cluster.local/ns/shop/sa/default";
        request.headers_mut().insert("x-forwarded-client-cert", claim.parse().unwrap());
        let response = door.call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], (tonic::Code::Unauthenticated as i32).to_string());
    }
    assert!(streams.try_recv().is_err(), "the loop must not hear of it");
}

#[tokio::test]
async fn s22_debug_pages_are_for_loopback_and_for_credentials() {
    let (mut core, hub, metrics) = core();
    core.handle([
        changed(vec![pod("cart", "shop", "cart")]),
        Event::Source(source::kube::Event::Synced),
        connected(1, "cart", "shop", "cart"),
    ]);
    let (events, receiver) = mpsc::channel(8);
    let mesh = core.mesh();
    let looping = tokio::spawn(async move {
        let mut receiver = receiver;
        while let Some(event) = receiver.recv().await {
            core.handle([event]);
        }
    });
    let pages = Pages {
        hub,
        events,
        metrics,
        more_metrics: Arc::new(|_| {}),
        mesh,
        authenticator: authenticator(),
        system_namespace: "istio-system".into(),
        ending: watch::channel(false).1,
    };
    let own = SocketAddr::from(([127, 0, 0, 1], 1));
    let other = SocketAddr::from(([10, 0, 0, 9], 1));
    let dump = "/debug/config_dump?proxyID=cart.shop";
    for (from, token, path, expected) in [
        (own, None, "/debug/syncz", 200),
        (other, None, "/debug/syncz", 401),
        (other, Some("garbage"), "/debug/syncz", 401),
        (other, Some("istio-system"), dump, 200),
        (other, Some("shop"), dump, 200),
        (other, Some("shop"), "/debug/mesh", 403),
        (own, None, "/debug/config_dump?proxyID=nobody.shop", 404),
        (own, None, "/ready", 200),
        (other, None, "/ready", 200),
    ] {
        let mut request = http::Request::get(path).extension(ConnectInfo(from));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let router = super::http::main(pages.clone(), Debug::Served);
        let response = router.oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected, "{path} from {from} with {token:?}");
    }
    let off = super::http::main(pages, Debug::Off);
    let request = http::Request::get("/debug/syncz").extension(ConnectInfo(own));
    let response = off.oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 404);
    looping.abort();
}
