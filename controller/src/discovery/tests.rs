//! The loop against events as values: no sockets, no API server.

use super::core::{Core, Event, IdentityCheck};
use super::metrics::Metrics;
use super::query::Query;
use ca::authenticate::{Caller, Credential, PodRef};
use crds::{Kind, Meta, Object, ObjectKey, Spec, kube};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use xds::envoy::core::Node;
use xds::server::{Event as Stream, Peer};
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
    pod.status.pod_ip = "10.0.0.7".into();
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
