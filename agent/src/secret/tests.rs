//! A small client on a real socket.

use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::*;
use crate::certificate::tests::{authority, workload};
use crate::testing::{channel, soon};

struct Stage {
    directory: tempfile::TempDir,
    workload: watch::Sender<Option<Arc<Workload>>>,
    trust: watch::Sender<Arc<Vec<String>>>,
    client: SecretDiscoveryServiceClient<Channel>,
    _server: tokio::task::JoinSet<()>,
}

async fn stage() -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let (workload, trust) = (watch::Sender::new(None), watch::Sender::new(Arc::default()));
    let source =
        Source { workload: workload.subscribe(), trust: trust.subscribe(), directory: directory.path().to_owned() };
    let path = directory.path().join("run/socket");
    let Claim::Ours(listener) = claim(&path).await.unwrap() else { panic!("the socket is new") };
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { serve(listener, source).await.unwrap() });
    let client = SecretDiscoveryServiceClient::new(channel(&path));
    Stage { directory, workload, trust, client, _server: server }
}

struct Conversation {
    ask: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stage {
    async fn talk(&mut self, names: &[&str]) -> Conversation {
        let (ask, asked) = mpsc::channel(8);
        ask.send(request(names, "")).await.unwrap();
        let answers = soon(self.client.stream_secrets(ReceiverStream::new(asked))).await.unwrap().into_inner();
        Conversation { ask, answers }
    }

    fn publish(&self, workload: &Workload) {
        self.workload.send_replace(Some(Arc::new(workload.clone())));
    }
}

impl Conversation {
    async fn next(&mut self) -> (Vec<Secret>, String) {
        let answer = soon(self.answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.type_url, TYPE_URL);
        let secrets = answer.resources.iter().map(|any| Secret::decode(&*any.value).unwrap()).collect();
        (secrets, answer.nonce)
    }
}

fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// A secret's certificates.
fn content(secret: &Secret) -> String {
    let source = match secret.r#type.as_ref().unwrap() {
        secret::Type::TlsCertificate(certificate) => certificate.certificate_chain.as_ref(),
        secret::Type::ValidationContext(context) => context.trusted_ca.as_ref(),
        other => panic!("{other:?}"),
    };
    let Some(Specifier::InlineBytes(bytes)) = source.and_then(|it| it.specifier.clone()) else { panic!("no bytes") };
    String::from_utf8(bytes).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn secrets_come_when_they_are_there_and_again_when_they_are_renewed() {
    let mut stage = stage().await;
    let authority = authority(SystemTime::now());
    let (one, two) = (workload(&authority, HOUR, SystemTime::now()), workload(&authority, HOUR, SystemTime::now()));
    let mut conversation = stage.talk(&["default", "unheard-of"]).await;
    stage.publish(&one);
    let (secrets, nonce) = conversation.next().await;
    assert_eq!(secrets.len(), 1, "an unknown name holds up nothing");
    assert_eq!((secrets[0].name.as_str(), content(&secrets[0])), ("default", one.chain.clone()));
    conversation.ask.send(request(&["default", "unheard-of"], &nonce)).await.unwrap();
    stage.publish(&one);
    stage.publish(&two);
    assert_eq!(content(&conversation.next().await.0[0]), two.chain, "what is equal is not sent again");
}

#[tokio::test]
async fn further_roots_of_the_mesh_are_trusted_too() {
    let mut stage = stage().await;
    let now = SystemTime::now();
    let (one, other) = (workload(&authority(now), HOUR, now), workload(&authority(now), HOUR, now));
    stage.publish(&one);
    let mut conversation = stage.talk(&["ROOTCA"]).await;
    let (secrets, nonce) = conversation.next().await;
    assert_eq!(content(&secrets[0]), one.roots);
    conversation.ask.send(request(&["ROOTCA"], &nonce)).await.unwrap();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    stage.trust.send_replace(Arc::new(vec![other.roots.clone(), one.roots.clone(), garbage]));
    let all = content(&conversation.next().await.0[0]);
    assert_eq!(all.matches("BEGIN").count(), 2, "each once, garbage never");
    assert!(all.contains(other.roots.trim()));
}

#[tokio::test]
async fn files_are_served_by_name_and_followed_and_only_certificates_leave_them() {
    let mut stage = stage().await;
    let now = SystemTime::now();
    let (one, two) = (workload(&authority(now), HOUR, now), workload(&authority(now), HOUR, now));
    let write = |name: &str, text: &str| std::fs::write(stage.directory.path().join(name), text).unwrap();
    write("chain", &one.chain);
    write("key", one.key.expose());
    write("roots", &one.roots);
    write("secret.txt", "password");
    let names = ["file-cert:chain~key", "file-root:roots", "file-root:secret.txt", "file-cert:chain~secret.txt"];
    let mut conversation = stage.talk(&names).await;
    let (secrets, nonce) = conversation.next().await;
    let served: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(served, ["file-cert:chain~key", "file-root:roots"]);
    conversation.ask.send(request(&names, &nonce)).await.unwrap();
    std::fs::write(stage.directory.path().join("roots"), &two.roots).unwrap();
    assert_eq!(content(&conversation.next().await.0[1]), two.roots);
}

#[tokio::test]
async fn the_delta_protocol_sends_what_changed() {
    let mut stage = stage().await;
    let now = SystemTime::now();
    let authority = authority(now);
    stage.publish(&workload(&authority, HOUR, now));
    let (ask, asked) = mpsc::channel(8);
    let names = vec!["default".to_owned(), "ROOTCA".to_owned(), "other".to_owned()];
    ask.send(DeltaDiscoveryRequest { resource_names_subscribe: names, ..Default::default() }).await.unwrap();
    let mut answers = soon(stage.client.delta_secrets(ReceiverStream::new(asked))).await.unwrap().into_inner();
    let first = soon(answers.message()).await.unwrap().unwrap();
    assert_eq!(first.resources.len(), 2);
    stage.publish(&workload(&authority, HOUR, now));
    let second = soon(answers.message()).await.unwrap().unwrap();
    assert_eq!(second.resources.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["default"]);
}

#[tokio::test]
async fn a_socket_that_answers_is_left_alone_and_a_stale_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let Claim::Ours(listener) = claim(&path).await.unwrap() else { panic!("the socket is new") };
    assert!(matches!(claim(&path).await.unwrap(), Claim::Foreign));
    drop(listener);
    assert!(matches!(claim(&path).await.unwrap(), Claim::Ours(_)));
}
