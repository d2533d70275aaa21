//! A control plane in this process, over TLS on loopback, and an Envoy that says what it is told.

use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::Any;
use futures::Stream;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::own::{HEALTH_TYPE, TRUST_TYPE, TrustConfig};
use super::*;
use crate::certificate::Workload;
use crate::certificate::tests::{authority, workload};
use crate::environment::{ControlPlaneAuth, Roots, Server};
use crate::testing::{channel, soon};

const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LDS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const NAME: &str = "istiod.istio-system.svc";

/// One stream that came: who said so, and both directions.
struct Arrived {
    token: Option<String>,
    certificate: bool,
    requests: Streaming<DiscoveryRequest>,
    answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
}

/// Refuses tokens but the good one, and hands streams to the test.
struct Istiod {
    arrived: mpsc::Sender<Arrived>,
    good_token: Arc<Mutex<String>>,
    refused: watch::Sender<u32>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Istiod {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let certificate = ca::tls::peer(request.extensions()).is_some();
        if !certificate && token.as_deref() != Some(&format!("Bearer {}", self.good_token.lock().unwrap())) {
            self.refused.send_modify(|count| *count += 1);
            return Err(Status::unauthenticated("a bad token"));
        }
        let (answers, queue) = mpsc::channel(8);
        let arrived = Arrived { token, certificate, requests: request.into_inner(), answers };
        self.arrived.send(arrived).await.map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        // Says back what it heard, as an answer of the same type.
        let answers = request.into_inner().map(|asked| {
            let asked = asked?;
            Ok(DeltaDiscoveryResponse {
                type_url: asked.type_url,
                nonce: asked.response_nonce,
                removed_resources: asked.resource_names_subscribe,
                ..DeltaDiscoveryResponse::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Stage {
    directory: tempfile::TempDir,
    arrived: mpsc::Receiver<Arrived>,
    good_token: Arc<Mutex<String>>,
    refused: watch::Receiver<u32>,
    workload: watch::Sender<Option<Arc<Workload>>>,
    authority: Arc<ca::authority::Authority>,
    names: watch::Receiver<Arc<Table>>,
    trust: watch::Receiver<Arc<Vec<String>>>,
    health: watch::Sender<Option<Health>>,
    envoy: AggregatedDiscoveryServiceClient<tonic::transport::Channel>,
    _tasks: JoinSet<()>,
}

async fn stage() -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let authority = Arc::new(authority(SystemTime::now()));
    let (arrive, arrived) = mpsc::channel(4);
    let good_token = Arc::new(Mutex::new("good".to_owned()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = ca::tls::ServingCertificate::new(
        watch::Sender::new(Arc::clone(&authority)).subscribe(),
        ca::tls::ServingOptions::new(vec![NAME.to_owned()]),
        ca::clock::Clock::system(),
    );
    let incoming = ca::tls::incoming(listener, serving.unwrap(), ca::tls::ClientCerts::Optional);
    let (refusals, refused) = watch::channel(0);
    let istiod = Istiod { arrived: arrive, good_token: Arc::clone(&good_token), refused: refusals };
    let istiod = AggregatedDiscoveryServiceServer::new(istiod);
    let mut tasks = JoinSet::new();
    let server = tonic::transport::Server::builder().add_service(istiod).serve_with_incoming(incoming);
    tasks.spawn(async move { server.await.unwrap() });
    std::fs::write(directory.path().join("root"), &**authority.roots_pem()).unwrap();
    std::fs::write(directory.path().join("token"), "good\n").unwrap();
    let (workload, trust, table) = (watch::Sender::new(None), watch::Sender::default(), watch::Sender::default());
    let upstream = Upstream {
        server: Server {
            address: address.to_string(),
            name: NAME.to_owned(),
            roots: Roots::File("root".into()),
            auth: ControlPlaneAuth::MutualTls,
        },
        directory: directory.path().to_owned(),
        token: "token".into(),
        workload: workload.subscribe(),
        clock: ca::clock::Clock::system(),
    };
    let (names, trusted) = (table.subscribe(), trust.subscribe());
    let health = watch::Sender::new(None);
    let options = Arc::new(Options {
        upstream,
        cluster_id: "Kubernetes".to_owned(),
        metrics: Arc::default(),
        names: Some(Names { place: Place::default(), table }),
        trust,
        health: health.clone(),
    });
    let path = directory.path().join("XDS");
    let socket = crate::secret::bind(&path).unwrap();
    tasks.spawn(async move { serve(socket, options).await.unwrap() });
    let envoy = AggregatedDiscoveryServiceClient::new(channel(&path));
    let trust = trusted;
    Stage { directory, arrived, good_token, refused, workload, authority, names, trust, health, envoy, _tasks: tasks }
}

fn asked(type_url: &str, nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest { type_url: type_url.to_owned(), response_nonce: nonce.to_owned(), ..Default::default() }
}

fn answer(type_url: &str, nonce: &str, resource: Vec<u8>) -> DiscoveryResponse {
    DiscoveryResponse {
        type_url: type_url.to_owned(),
        version_info: "v".to_owned(),
        nonce: nonce.to_owned(),
        resources: vec![Any { type_url: type_url.to_owned(), value: resource }],
        ..Default::default()
    }
}

struct Talk {
    ask: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stage {
    async fn talk(&mut self, first: DiscoveryRequest) -> Talk {
        let (ask, queue) = mpsc::channel(8);
        ask.send(first).await.unwrap();
        let answers = soon(self.envoy.stream_aggregated_resources(ReceiverStream::new(queue))).await.unwrap();
        Talk { ask, answers: answers.into_inner() }
    }

    async fn arrived(&mut self) -> Arrived {
        soon(self.arrived.recv()).await.unwrap()
    }
}

impl Arrived {
    async fn request(&mut self) -> DiscoveryRequest {
        soon(self.requests.message()).await.unwrap().unwrap()
    }

    async fn answer(&self, answer: DiscoveryResponse) {
        soon(self.answers.send(Ok(answer))).await.unwrap();
    }
}

#[tokio::test]
async fn frames_pass_unchanged_and_the_agents_own_stay_here() {
    let mut stage = stage().await;
    let mut first = asked(CDS, "");
    first.resource_names = vec!["a".to_owned(), "b".to_owned()];
    let mut envoy = stage.talk(first.clone()).await;
    let mut istiod = stage.arrived().await;
    assert_eq!(istiod.token.as_deref(), Some("Bearer good"));
    assert_eq!(istiod.request().await, first);
    envoy.ask.send(asked(LDS, "")).await.unwrap();
    assert_eq!(istiod.request().await, asked(LDS, ""));
    assert_eq!(istiod.request().await, asked(crate::dns::wire::TYPE_URL, ""));
    assert_eq!(istiod.request().await, asked(TRUST_TYPE, ""));

    let mut table = crate::dns::wire::NameTable::default();
    let info = crate::dns::wire::NameInfo { ips: vec!["10.0.0.9".to_owned()], ..Default::default() };
    table.table.insert("a.example".to_owned(), info);
    istiod.answer(answer(crate::dns::wire::TYPE_URL, "n1", table.encode_to_vec())).await;
    let trust = TrustConfig { ca_certificates_pem: vec!["PEM".to_owned()] };
    istiod.answer(answer(TRUST_TYPE, "n2", trust.encode_to_vec())).await;
    let clusters = answer(CDS, "n3", vec![1, 2, 3]);
    istiod.answer(clusters.clone()).await;
    assert_eq!(soon(envoy.answers.message()).await.unwrap().unwrap(), clusters, "the first that Envoy sees");
    for (type_url, nonce) in [(crate::dns::wire::TYPE_URL, "n1"), (TRUST_TYPE, "n2")] {
        let mut acknowledgement = asked(type_url, nonce);
        acknowledgement.version_info = "v".to_owned();
        assert_eq!(istiod.request().await, acknowledgement);
    }
    assert!(stage.names.borrow().lookup("a.example.").is_some());
    assert_eq!(**stage.trust.borrow(), ["PEM"]);

    istiod.answer(answer(crate::dns::wire::TYPE_URL, "n4", vec![0xff])).await;
    let refusal = istiod.request().await;
    assert_eq!((refusal.response_nonce.as_str(), refusal.error_detail.is_some()), ("n4", true));
    assert!(stage.names.borrow().lookup("a.example.").is_some(), "what was good stays");
}

#[tokio::test]
async fn the_application_s_health_is_told_when_it_changes_and_to_every_control_plane() {
    let mut stage = stage().await;
    let envoy = stage.talk(asked(LDS, "")).await;
    let mut istiod = stage.arrived().await;
    for type_url in [LDS, crate::dns::wire::TYPE_URL, TRUST_TYPE] {
        assert_eq!(istiod.request().await, asked(type_url, ""));
    }
    stage.health.send_replace(Some(Health::Healthy));
    assert_eq!(istiod.request().await, asked(HEALTH_TYPE, ""));
    stage.health.send_replace(Some(Health::Unhealthy("refused".to_owned())));
    let ill = istiod.request().await;
    assert_eq!((ill.type_url.as_str(), ill.error_detail.unwrap().message.as_str()), (HEALTH_TYPE, "refused"));
    drop((istiod, envoy));
    let _envoy = stage.talk(asked(LDS, "")).await;
    let mut istiod = stage.arrived().await;
    for type_url in [LDS, crate::dns::wire::TYPE_URL, TRUST_TYPE] {
        assert_eq!(istiod.request().await, asked(type_url, ""));
    }
    assert_eq!(istiod.request().await.error_detail.unwrap().message, "refused");
}

#[tokio::test]
async fn envoys_stream_ends_with_the_control_planes_and_may_come_again() {
    let mut stage = stage().await;
    let mut envoy = stage.talk(asked(CDS, "")).await;
    let istiod = stage.arrived().await;
    drop(istiod);
    let status = soon(envoy.answers.message()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let again = asked(CDS, "with its versions");
    let _envoy = stage.talk(again.clone()).await;
    assert_eq!(stage.arrived().await.request().await, again);
}

#[tokio::test]
async fn the_control_plane_hears_when_envoy_goes() {
    let mut stage = stage().await;
    let envoy = stage.talk(asked(CDS, "")).await;
    let mut istiod = stage.arrived().await;
    istiod.request().await;
    drop(envoy);
    assert!(!matches!(soon(istiod.requests.message()).await, Ok(Some(_))));
}

#[tokio::test]
async fn f33_the_token_is_read_anew_for_each_try_and_envoy_keeps_waiting() {
    let mut stage = stage().await;
    *stage.good_token.lock().unwrap() = "renewed".to_owned();
    let _envoy = stage.talk(asked(CDS, "")).await;
    // Refused at least once with the old one; then kubelet writes the new one.
    soon(stage.refused.wait_for(|count| *count > 0)).await.unwrap();
    std::fs::write(stage.directory.path().join("token"), "renewed").unwrap();
    assert_eq!(stage.arrived().await.token.as_deref(), Some("Bearer renewed"));
}

#[tokio::test]
async fn f1_s7_a_certificate_vouches_alone_once_there_is_one() {
    let mut stage = stage().await;
    let made = workload(&stage.authority, Duration::from_secs(3600), SystemTime::now());
    stage.workload.send_replace(Some(Arc::new(made)));
    let _envoy = stage.talk(asked(CDS, "")).await;
    let istiod = stage.arrived().await;
    assert!(istiod.certificate);
    assert_eq!(istiod.token, None);
}

#[tokio::test]
async fn an_expired_certificate_is_not_shown() {
    let mut stage = stage().await;
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let old = authority(long_ago);
    stage.workload.send_replace(Some(Arc::new(workload(&old, Duration::from_secs(60), long_ago))));
    let _envoy = stage.talk(asked(CDS, "")).await;
    let istiod = stage.arrived().await;
    assert_eq!((istiod.certificate, istiod.token.as_deref()), (false, Some("Bearer good")));
}

#[tokio::test]
async fn the_delta_protocol_passes_too() {
    let mut stage = stage().await;
    let (ask, queue) = mpsc::channel(8);
    let names = vec!["x".to_owned()];
    let first = DeltaDiscoveryRequest {
        type_url: CDS.to_owned(),
        resource_names_subscribe: names.clone(),
        ..Default::default()
    };
    ask.send(first).await.unwrap();
    // The control plane of this test asks nobody for a token here.
    let mut answers =
        soon(stage.envoy.delta_aggregated_resources(ReceiverStream::new(queue))).await.unwrap().into_inner();
    let heard = soon(answers.message()).await.unwrap().unwrap();
    assert_eq!((heard.type_url.as_str(), heard.removed_resources), (CDS, names));
}
