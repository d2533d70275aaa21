//! X6–X11, X81–X90: over real gRPC on loopback.

use crate::rig::{World, delta, node};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::{Code, transport::Channel};
use xds::{
    ConnectionId, Hub, Layer, Protocol, Request, SetName, TypeUrl, Update, View,
    client::Client,
    envoy,
    server::{AdsService, Event, Limits, serve},
};

const CDS: TypeUrl = TypeUrl::Cluster;
const BOTH: [Protocol; 2] = [Protocol::Sotw, Protocol::Delta];

/// A server, and the owner of its world in the test.
struct Server {
    hub: Arc<Hub>,
    service: AdsService,
    events: mpsc::Receiver<Event>,
    url: String,
    shutdown: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let hub = Arc::new(Hub::default());
        hub.set_ready();
        let (sender, events) = mpsc::channel(100);
        let service = AdsService::new(hub.clone(), sender, limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (shutdown, ended) = oneshot::channel();
        let ended = async { drop(ended.await) };
        let serving = service.clone();
        let serving = tokio::spawn(async move { serve(listener, serving, ended).await.unwrap() });
        Self { hub, service, events, url, shutdown: Some(shutdown), serving }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    async fn client(&self, protocol: Protocol) -> Client {
        soon(Client::open(self.channel().await, protocol, node().unwrap())).await.unwrap()
    }

    /// The next event that is no ACK.
    async fn event(&mut self) -> Event {
        loop {
            match soon(self.events.recv()).await.unwrap() {
                Event::Ack { .. } => {}
                event => return event,
            }
        }
    }

    /// Gives the next proxy that connects everything.
    async fn welcome(&mut self) -> ConnectionId {
        let Event::Connected { connection, node, peer } = self.event().await else { panic!("a proxy connects") };
        assert_eq!(node.id, "proxy~1");
        assert!(peer.address.unwrap().ip().is_loopback());
        let layers = TypeUrl::ALL.map(|kind| (kind, vec![SetName::from(kind.short())]));
        let view = View { layers: layers.into() };
        self.hub.publish(Update { nodes: vec![(connection, Some(view.into()))], ..Update::default() });
        connection
    }

    fn publish(&self, world: &World) {
        let set = |kind: TypeUrl| -> (SetName, Option<Layer>) {
            let resources = world.snapshot();
            let layer = resources.layers(kind).iter().map(|r| (r.name.clone(), Some(r.clone()))).collect();
            (kind.short().into(), Some(layer))
        };
        self.hub.publish(Update { sets: TypeUrl::ALL.map(set).into(), nodes: Vec::new() });
    }

    async fn stop(mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        soon(self.serving).await.unwrap();
    }
}

/// What takes longer does not come any more.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

async fn names(client: &mut Client) -> Vec<String> {
    let received = soon(client.next()).await.unwrap().unwrap();
    received.resources.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn a_client_follows_what_it_is_sent() {
    for protocol in BOTH {
        let mut server = Server::start(Limits::default()).await;
        server.publish(&World::of(&[(CDS, "eds", "1"), (TypeUrl::Endpoint, "eds", "1")]));
        let mut client = server.client(protocol).await;
        client.subscribe_all(CDS).await.unwrap();
        server.welcome().await;
        assert_eq!(names(&mut client).await, ["eds"]);
        assert_eq!(names(&mut client).await, ["eds"]);
        let cluster: envoy::Cluster = client.session().get(CDS, "eds").unwrap();
        assert_eq!(cluster.alt_stat_name, "1");
        assert_eq!(client.session().known(TypeUrl::Endpoint).count(), 1);
        server.stop().await;
    }
}

#[tokio::test]
async fn x06_a_stream_that_ends_leaves_nothing() {
    let mut server =
        Server::start(Limits { streams_per_second: 10_000, streams_burst: 1000, ..Limits::default() }).await;
    server.publish(&World::of(&[(CDS, "a", "1")]));
    let channel = server.channel().await;
    for _ in 0..100 {
        let mut client = Client::open(channel.clone(), Protocol::Delta, node().unwrap()).await.unwrap();
        client.subscribe_all(CDS).await.unwrap();
        let connection = server.welcome().await;
        assert_eq!(names(&mut client).await, ["a"]);
        drop(client);
        let Event::Disconnected { connection: gone } = server.event().await else { panic!("it is gone") };
        assert_eq!(gone, connection);
        assert_eq!(server.service.streams(), 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn x07_x85_an_old_stream_is_closed_well_after_it_was_served() {
    for protocol in BOTH {
        let mut server = Server::start(Limits { stream_age_max: Duration::ZERO, ..Limits::default() }).await;
        server.publish(&World::of(&[(CDS, "a", "1")]));
        let mut client = server.client(protocol).await;
        client.subscribe_all(CDS).await.unwrap();
        server.welcome().await;
        assert_eq!(names(&mut client).await, ["a"]);
        assert_eq!(soon(client.next()).await.unwrap(), None);
        // What it had stays, and is what it comes back with.
        let session = client.into_session();
        assert_eq!(session.known(CDS).count(), 1);
        let mut again = Client::resume(server.channel().await, session).await.unwrap();
        assert!(matches!(server.event().await, Event::Disconnected { .. }));
        server.welcome().await;
        server.publish(&World::of(&[(CDS, "a", "2")]));
        assert_eq!(names(&mut again).await, ["a"]);
        server.stop().await;
    }
}

#[tokio::test]
async fn x07_a_shutdown_ends_streams_well() {
    let mut server = Server::start(Limits::default()).await;
    server.publish(&World::of(&[(CDS, "a", "1")]));
    let mut client = server.client(Protocol::Delta).await;
    client.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut client).await, ["a"]);
    let (stopped, ended) = tokio::join!(server.stop(), soon(client.next()));
    assert_eq!(((), None), (stopped, ended.unwrap()));
}

#[tokio::test]
async fn x08_until_ready_every_stream_is_refused() {
    let (events, _keep) = mpsc::channel(1);
    let hub = Arc::new(Hub::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (shutdown, ended) = oneshot::channel::<()>();
    let service = AdsService::new(hub.clone(), events, Limits::default());
    let serving = tokio::spawn(serve(listener, service, async { drop(ended.await) }));
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    for protocol in BOTH {
        let refused = soon(Client::open(channel.clone(), protocol, node().unwrap())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
    }
    hub.set_ready();
    soon(Client::open(channel, Protocol::Delta, node().unwrap())).await.unwrap();
    shutdown.send(()).unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn x11_too_large_a_request_ends_its_stream_alone() {
    let mut server = Server::start(Limits::default()).await;
    server.publish(&World::of(&[(CDS, "a", "1")]));
    let channel = server.channel().await;
    let mut other = Client::open(channel.clone(), Protocol::Delta, node().unwrap()).await.unwrap();
    other.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut other).await, ["a"]);

    let reconnect = |count: usize| {
        let name = |n| (format!("outbound|8080|v1|a-service-{n}.a-namespace.svc.cluster.local"), format!("{:032x}", n));
        let initial_resource_versions = (0..count).map(name).collect();
        Request::Delta(envoy::DeltaDiscoveryRequest { initial_resource_versions, ..delta(CDS) })
    };
    let mut client = Client::open(channel.clone(), Protocol::Delta, node().unwrap()).await.unwrap();
    client.send(reconnect(10_000)).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut client).await, ["a"]);
    let largest = server.service.largest_request();
    assert!((900_000..2_000_000).contains(&largest), "{largest}");

    client.send(reconnect(100_000)).await.unwrap();
    assert_eq!(soon(client.next()).await.unwrap_err().code(), Code::ResourceExhausted);
    server.publish(&World::of(&[(CDS, "a", "2")]));
    assert_eq!(names(&mut other).await, ["a"]);
    server.stop().await;
}

#[tokio::test]
async fn x81_malformed_requests_end_their_stream_alone() {
    use http_body_util::{BodyExt, Full};
    use tower_service::Service;
    let mut server = Server::start(Limits::default()).await;
    server.publish(&World::of(&[(CDS, "a", "1")]));
    let mut other = server.client(Protocol::Delta).await;
    other.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut other).await, ["a"]);

    // Node metadata so deep that a decoder without a limit would run out of stack.
    let deep = (0..20_000).fold(Vec::new(), |inner: Vec<u8>, _| prefixed(0x32, &prefixed(0x0a, &inner)));
    let node =
        prefixed(0x0a, &prefixed(0x1a, &prefixed(0x0a, &[prefixed(0x0a, b"k"), prefixed(0x12, &deep)].concat())));
    for message in [vec![0xff; 20], node] {
        let body = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
        let body = tonic::body::Body::new(Full::new(bytes::Bytes::from(body)));
        let uri = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
        let request = http::Request::builder().uri(uri).body(body).unwrap();
        let response = server.service.call(request).await.unwrap();
        let trailers = soon(response.into_body().collect()).await.unwrap().trailers().cloned().unwrap();
        assert_eq!(trailers["grpc-status"], (Code::InvalidArgument as i32).to_string().as_str());
    }
    server.publish(&World::of(&[(CDS, "a", "2")]));
    assert_eq!(names(&mut other).await, ["a"]);
    server.stop().await;
}

fn prefixed(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

#[tokio::test]
async fn x82_a_client_that_asks_without_end_is_slowed_down() {
    let limits = Limits { requests_per_second: 1, requests_burst: 10, ..Limits::default() };
    let mut server = Server::start(limits).await;
    server.publish(&World::of(&[(CDS, "a", "1"), (CDS, "b", "1")]));
    let mut flood = server.client(Protocol::Delta).await;
    flood.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut flood).await, ["a", "b"]);
    // Each asks for a response of its own; together they are told about once, and then one a second.
    for _ in 0..30 {
        let again = envoy::DeltaDiscoveryRequest { resource_names_subscribe: vec!["a".into()], ..delta(CDS) };
        flood.send(Request::Delta(again)).await.unwrap();
    }
    // Everybody else is served as ever.
    let mut other = server.client(Protocol::Delta).await;
    other.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut other).await, ["a", "b"]);
    server.publish(&World::of(&[(CDS, "a", "2"), (CDS, "b", "1")]));
    assert_eq!(names(&mut other).await, ["a"]);
    server.stop().await;
}

#[tokio::test]
async fn x83_a_client_that_does_not_read_holds_up_nobody() {
    let mut server = Server::start(Limits::default()).await;
    let large = |text: &str| World::of(&[(CDS, "a", &text.repeat(1_000_000))]);
    server.publish(&large("1"));
    let mut stalled = server.client(Protocol::Delta).await;
    stalled.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    let mut other = server.client(Protocol::Delta).await;
    other.subscribe_all(CDS).await.unwrap();
    server.welcome().await;
    assert_eq!(names(&mut other).await, ["a"]);
    for text in ["2", "3", "4", "5"] {
        server.publish(&large(text));
        assert_eq!(names(&mut other).await, ["a"]);
    }
    // When it reads again, it gets what was on its way, and then the newest alone.
    assert_eq!(names(&mut stalled).await, ["a"]);
    assert_eq!(names(&mut stalled).await, ["a"]);
    let cluster: envoy::Cluster = stalled.session().get(CDS, "a").unwrap();
    assert!(cluster.alt_stat_name.starts_with('5'));
    server.stop().await;
}

#[tokio::test]
async fn x84_nothing_but_the_two_streams_is_served() {
    use tower_service::Service;
    let mut server = Server::start(Limits::default()).await;
    for path in [
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/FetchAggregatedResources",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/",
        "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaAggregatedResources",
    ] {
        let request = http::Request::builder().uri(path).body(tonic::body::Body::empty()).unwrap();
        let response = server.service.call(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], (Code::Unimplemented as i32).to_string().as_str(), "{path}");
    }
    let mut service =
        envoy::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient::new(
            server.channel().await,
        );
    let fetched = soon(service.fetch_clusters(envoy::DiscoveryRequest::default())).await;
    assert_eq!(fetched.unwrap_err().code(), Code::Unimplemented);
    server.stop().await;
}

#[tokio::test]
async fn x90_every_nack_is_told_with_node_type_version_and_reason() {
    for protocol in BOTH {
        let mut server = Server::start(Limits::default()).await;
        server.publish(&World::of(&[(CDS, "a", "1")]));
        let mut client = server.client(protocol).await;
        client.subscribe_all(CDS).await.unwrap();
        let connected = server.welcome().await;
        let received = soon(client.next_judged(|_| Err("no such thing".into()))).await.unwrap().unwrap();
        let Event::Nack { connection, kind, version, nonce, reason, names } = server.event().await else {
            panic!("a NACK")
        };
        assert_eq!((connection, kind, reason.as_str()), (connected, CDS, "no such thing"));
        assert_eq!((version, nonce, names), (received.version, received.nonce, vec!["a".into()]));
        assert_eq!(client.session().known(CDS).count(), 0);
        server.stop().await;
    }
}

#[tokio::test]
async fn x91_a_refused_connection_ends_with_the_reason_alone() {
    for protocol in BOTH {
        let mut server = Server::start(Limits::default()).await;
        server.publish(&World::of(&[(CDS, "a", "1")]));
        let mut other = server.client(protocol).await;
        other.subscribe_all(CDS).await.unwrap();
        server.welcome().await;
        assert_eq!(names(&mut other).await, ["a"]);

        let mut client = server.client(protocol).await;
        client.subscribe_all(CDS).await.unwrap();
        let Event::Connected { connection, .. } = server.event().await else { panic!("a proxy connects") };
        server.hub.refuse(connection, (Code::PermissionDenied, "not your name".into()));
        // What is said later does not change it, nor does a view that comes too late.
        server.hub.refuse(connection, (Code::Internal, "again".into()));
        let view = View { layers: [(CDS, vec![SetName::from(CDS.short())])].into() };
        server.hub.publish(Update { nodes: vec![(connection, Some(view.into()))], ..Update::default() });
        let status = soon(client.next()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not your name"));
        let Event::Disconnected { connection: gone } = server.event().await else { panic!("it is gone") };
        assert_eq!(gone, connection);

        server.publish(&World::of(&[(CDS, "a", "2")]));
        assert_eq!(names(&mut other).await, ["a"]);
        server.stop().await;
    }
}
