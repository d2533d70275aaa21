//! The gRPC server on the socket, both protocols. A stream is one loop over what Envoy asks and what changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as DeltaResource,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use futures::{Stream, stream};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Resource, Source, TYPE_URL, resources};
use crate::certificate::files;

/// What became of the socket.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Ours(UnixListener),
    /// Somebody (SPIRE) serves there already.
    Foreign,
}

/// Names one stream may ask for.
const NAMES_MAX: usize = 100;

/// Takes the socket unless somebody answers there.
///
/// # Errors
/// When it can neither be used nor made.
pub async fn claim(path: &Path) -> io::Result<Claim> {
    if UnixStream::connect(path).await.is_ok() {
        return Ok(Claim::Foreign);
    }
    Ok(Claim::Ours(bind(path)?))
}

/// A new socket in place of what an earlier agent left; for this user alone.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the listener fails; dropping it ends all streams.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: UnixListener, source: Source) -> Result<(), tonic::transport::Error> {
    let service = SecretDiscoveryServiceServer::new(Service(source));
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
}

struct Service(Source);

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type DeltaSecretsStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;
    type StreamSecretsStream = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Ok(Response::new(Box::pin(run::<Delta>(request.into_inner(), self.0.clone()))))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Ok(Response::new(Box::pin(run::<Whole>(request.into_inner(), self.0.clone()))))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets are streamed"))
    }
}

/// One of the two protocols: what a stream remembers.
trait Protocol: Default + Send + 'static {
    type Asked: Send + 'static;
    type Answer: Send + 'static;
    fn names(&self) -> &BTreeSet<String>;
    /// Takes a request in; whether something may have to be sent.
    fn ask(&mut self, asked: Self::Asked) -> Result<bool, Status>;
    /// What is to be sent, if what there is differs from what was sent.
    fn answer(&mut self, available: BTreeMap<String, Resource>) -> Option<Self::Answer>;
}

struct Conversation<P: Protocol> {
    asked: Streaming<P::Asked>,
    source: Source,
    protocol: P,
    ticks: tokio::time::Interval,
}

fn run<P: Protocol>(
    asked: Streaming<P::Asked>,
    source: Source,
) -> impl Stream<Item = Result<P::Answer, Status>> + Send {
    let ticks = tokio::time::interval(files::INTERVAL.max(Duration::from_millis(1)));
    let first = Conversation { asked, source, protocol: P::default(), ticks };
    stream::unfold(Some(first), |conversation| async move {
        let mut conversation = conversation?;
        match conversation.next().await {
            Ok(Some(answer)) => Some((Ok(answer), Some(conversation))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
}

impl<P: Protocol> Conversation<P> {
    /// The next answer; `None` when Envoy has nothing more to ask or the agent ends.
    async fn next(&mut self) -> Result<Option<P::Answer>, Status> {
        loop {
            let look = tokio::select! {
                asked = self.asked.message() => match asked? {
                    Some(asked) => self.protocol.ask(asked)?,
                    None => return Ok(None),
                },
                changed = self.source.workload.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return Ok(None),
                },
                changed = self.source.trust.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return Ok(None),
                },
                // Files change without a word.
                _ = self.ticks.tick() => self.protocol.names().iter().any(|name| name != "default"),
            };
            if look && let Some(answer) = self.protocol.answer(resources(&self.source, self.protocol.names())) {
                return Ok(Some(answer));
            }
        }
    }
}

fn too_many() -> Status {
    Status::invalid_argument(format!("more than {NAMES_MAX} secrets on one stream"))
}

fn refused(detail: Option<&str>) {
    if let Some(message) = detail {
        tracing::error!(message, "Envoy refused a secret");
    }
}

/// State of the world.
#[derive(Default)]
struct Whole {
    names: BTreeSet<String>,
    sent: BTreeMap<String, u64>,
    count: u64,
}

impl Protocol for Whole {
    type Asked = DiscoveryRequest;
    type Answer = DiscoveryResponse;

    fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    fn ask(&mut self, asked: DiscoveryRequest) -> Result<bool, Status> {
        refused(asked.error_detail.as_ref().map(|status| status.message.as_str()));
        // An answer to something older than what was sent last.
        if !asked.response_nonce.is_empty() && asked.response_nonce != self.count.to_string() {
            return Ok(false);
        }
        if asked.resource_names.len() > NAMES_MAX {
            return Err(too_many());
        }
        let names: BTreeSet<String> = asked.resource_names.into_iter().collect();
        if names == self.names && !asked.response_nonce.is_empty() {
            return Ok(false);
        }
        self.names = names;
        self.sent.clear();
        Ok(true)
    }

    fn answer(&mut self, available: BTreeMap<String, Resource>) -> Option<DiscoveryResponse> {
        let versions: BTreeMap<String, u64> = available.iter().map(|(name, it)| (name.clone(), it.version)).collect();
        // A certificate that went away is kept by Envoy, rather than taken from it.
        if available.is_empty() || versions == self.sent {
            return None;
        }
        self.sent = versions;
        self.count += 1;
        Some(DiscoveryResponse {
            version_info: self.count.to_string(),
            resources: available.into_values().map(|resource| resource.body).collect(),
            type_url: TYPE_URL.to_owned(),
            nonce: self.count.to_string(),
            ..DiscoveryResponse::default()
        })
    }
}

/// Only what changed.
#[derive(Default)]
struct Delta {
    names: BTreeSet<String>,
    sent: BTreeMap<String, u64>,
    count: u64,
}

impl Protocol for Delta {
    type Asked = DeltaDiscoveryRequest;
    type Answer = DeltaDiscoveryResponse;

    fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    fn ask(&mut self, asked: DeltaDiscoveryRequest) -> Result<bool, Status> {
        refused(asked.error_detail.as_ref().map(|status| status.message.as_str()));
        for name in &asked.resource_names_unsubscribe {
            self.names.remove(name);
            self.sent.remove(name);
        }
        let look = !asked.resource_names_subscribe.is_empty();
        for name in asked.resource_names_subscribe {
            // Asked again means that it is wanted again.
            self.sent.remove(&name);
            self.names.insert(name);
        }
        if self.names.len() > NAMES_MAX {
            return Err(too_many());
        }
        Ok(look)
    }

    fn answer(&mut self, available: BTreeMap<String, Resource>) -> Option<DeltaDiscoveryResponse> {
        let changed: Vec<(String, Resource)> =
            available.into_iter().filter(|(name, it)| self.sent.get(name) != Some(&it.version)).collect();
        if changed.is_empty() {
            return None;
        }
        self.count += 1;
        self.sent.extend(changed.iter().map(|(name, it)| (name.clone(), it.version)));
        let resource = |(name, it): (String, Resource)| DeltaResource {
            name,
            version: format!("{:016x}", it.version),
            resource: Some(it.body),
            ..DeltaResource::default()
        };
        Some(DeltaDiscoveryResponse {
            system_version_info: self.count.to_string(),
            resources: changed.into_iter().map(resource).collect(),
            type_url: TYPE_URL.to_owned(),
            nonce: self.count.to_string(),
            ..DeltaDiscoveryResponse::default()
        })
    }
}
