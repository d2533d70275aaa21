//! The control plane's one loop: every event from the API server and from proxies comes here, one at a time, and what
//! follows from it is decided here. It owns the world and what is known of each connected proxy; it does no I/O.

use super::addresses::Wanted;
use super::identity::{self, Claim};
use super::metrics::Metrics;
use super::query::{ProxyRow, Query};
use super::registration::{self, Health, Registration};
use crate::guard::Guarded;
use crate::node::proxy_of;
use ca::authenticate::Caller;
use crds::mesh_config::MeshConfig;
use crds::{Kind, ObjectKey, Problem};
use model::Proxy;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use webhook::inject::ProxyConfigs;
use world::Batch;
use xds::{ConnectionId, Hub, TypeUrl};

/// How long a proxy waits for its own Pod to be seen. Without it it would be served a guess, without inbound
/// listeners perhaps (F9); after this it is told to come again.
const POD_PATIENCE: Duration = Duration::from_secs(5);

/// The type of requests by which an agent says how its application is: no resource, and nothing is an answer.
const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";

/// Everything that can happen.
#[derive(Debug)]
pub(crate) enum Event {
    Source(source::kube::Event),
    Xds(xds::server::Event),
    /// The CA's, as PEM.
    Roots(String),
    Ask(Query),
    Tick,
}

/// How strict the door is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdentityCheck {
    Enforced,
    Off,
}

/// Whether workloads outside of Kubernetes may register themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registers {
    Yes,
    No,
}

pub(crate) struct Core {
    world: Guarded,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    identity_check: IdentityCheck,
    synced: bool,
    /// Everything wrong with single objects, as the API server has them.
    written: BTreeMap<ObjectKey, Vec<Problem>>,
    /// What is wrong when objects meet.
    found: Vec<Problem>,
    waiting: BTreeMap<ConnectionId, Waiting>,
    proxies: BTreeMap<ConnectionId, Connected>,
    mesh: watch::Sender<Arc<MeshConfig>>,
    addresses: watch::Sender<Wanted>,
    registered: BTreeMap<ConnectionId, (ObjectKey, Registration)>,
    entries: watch::Sender<registration::Wanted>,
    registers: Registers,
    /// For injection; `None` until every kind has been read.
    proxy_configs: watch::Sender<Option<Arc<ProxyConfigs>>>,
}

/// A proxy whose Pod has not been seen yet.
struct Waiting {
    joining: Joining,
    since: Instant,
}

/// A stream that has said who it is.
struct Joining {
    proxy: Proxy,
    caller: Option<Caller>,
    node: xds::Node,
}

struct Connected {
    pod: ObjectKey,
    node: String,
    version: String,
    since: Instant,
    acked: BTreeMap<TypeUrl, String>,
    refused: BTreeMap<TypeUrl, String>,
}

impl Core {
    pub(crate) fn new(hub: Arc<Hub>, metrics: Arc<Metrics>, identity_check: IdentityCheck) -> Self {
        Self {
            world: Guarded::default(),
            hub,
            metrics,
            identity_check,
            synced: false,
            written: BTreeMap::new(),
            found: vec![],
            waiting: BTreeMap::new(),
            proxies: BTreeMap::new(),
            mesh: watch::Sender::new(Arc::new(MeshConfig::default())),
            addresses: watch::Sender::new(Wanted::default()),
            registered: BTreeMap::new(),
            entries: watch::Sender::default(),
            registers: Registers::Yes,
            proxy_configs: watch::Sender::default(),
        }
    }

    /// The MeshConfig in force.
    pub(crate) fn mesh(&self) -> watch::Receiver<Arc<MeshConfig>> {
        self.mesh.subscribe()
    }

    /// What should stand in the status of ServiceEntries.
    pub(crate) fn addresses(&self) -> watch::Receiver<Wanted> {
        self.addresses.subscribe()
    }

    pub(crate) fn with_registration(self, registers: Registers) -> Self {
        Self { registers, ..self }
    }

    /// WorkloadEntries of those that are connected here and registered themselves.
    pub(crate) fn entries(&self) -> watch::Receiver<registration::Wanted> {
        self.entries.subscribe()
    }

    /// What injection lays over the mesh's `defaultConfig`.
    pub(crate) fn proxy_configs(&self) -> watch::Receiver<Option<Arc<ProxyConfigs>>> {
        self.proxy_configs.subscribe()
    }

    /// Takes everything that has happened since the last time, in order, with one commit for all of it.
    pub(crate) fn handle(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut batch = Batch::default();
        for event in events {
            match event {
                Event::Source(event) => self.take_source(event, &mut batch),
                Event::Xds(event) => self.take_stream(event, &mut batch),
                Event::Roots(roots) => batch.roots = Some(roots),
                // What is asked sees what has happened before.
                Event::Ask(query) => {
                    self.settle(&mut batch);
                    self.answer(query);
                }
                Event::Tick => self.give_up_waiting(),
            }
        }
        self.settle(&mut batch);
    }

    /// Applies what has come, then lets in whoever waited for it.
    fn settle(&mut self, batch: &mut Batch) {
        self.commit(batch);
        self.admit_those_that_waited(batch);
        self.commit(batch);
    }

    fn take_source(&mut self, event: source::kube::Event, batch: &mut Batch) {
        match event {
            source::kube::Event::Changed { changes, problems } => {
                self.metrics.config_events(changes.len());
                for (key, _) in &changes {
                    self.written.remove(key);
                }
                for problem in problems {
                    tracing::warn!("{problem}");
                    self.written.entry(problem.object.clone()).or_default().push(problem);
                }
                batch.objects.extend(changes);
            }
            source::kube::Event::Synced => {
                self.commit(batch);
                // Tables keep what their last commit changed until the next one; this one changed everything.
                self.world.commit(Batch::default());
                self.synced = true;
                self.send_proxy_configs();
                self.hub.set_ready();
                tracing::info!("every kind has been read; proxies are served from now on");
            }
        }
    }

    /// The one door to the world, and from it to the proxies.
    fn commit(&mut self, batch: &mut Batch) {
        let batch = std::mem::take(batch);
        if batch.objects.is_empty() && batch.proxies.is_empty() && batch.roots.is_none() {
            return;
        }
        let proxy_configs = batch.objects.iter().any(|(key, _)| key.kind == Kind::ProxyConfig);
        let started = Instant::now();
        let changes = self.world.commit(batch);
        self.metrics.commit(started.elapsed());
        if let Some(problems) = changes.problems {
            for problem in problems.iter().filter(|it| !self.found.contains(it)) {
                tracing::warn!("{problem}");
            }
            self.found = problems;
        }
        self.hub.publish(changes.update);
        if proxy_configs && self.synced {
            self.send_proxy_configs();
        }
        let addresses = self.world.world().unwritten_addresses();
        self.addresses.send_if_modified(|current| {
            let differs = **current != *addresses;
            if differs {
                *current = Arc::new(addresses.clone());
            }
            differs
        });
        let mesh = self.world.world().mesh_config();
        self.mesh.send_if_modified(|current| {
            let differs = **current != *mesh;
            if differs {
                *current = Arc::new(mesh.clone());
            }
            differs
        });
    }

    fn send_proxy_configs(&self) {
        let all = self.world.world().proxy_configs().map(|it| (it.meta.clone(), it.spec.clone()));
        self.proxy_configs.send_replace(Some(Arc::new(ProxyConfigs::new(all))));
    }

    fn take_stream(&mut self, event: xds::server::Event, batch: &mut Batch) {
        use xds::server::Event as Stream;
        match event {
            Stream::Connected { connection, node, peer } => {
                let caller = peer.extensions.get::<Caller>().cloned();
                match (proxy_of(&node), xds::Node::parse(&node)) {
                    (Ok(proxy), Ok(node)) => self.connect(connection, Joining { proxy, caller, node }, batch),
                    (Err(why), _) => self.refuse(connection, tonic::Code::InvalidArgument, why),
                    (_, Err(why)) => self.refuse(connection, tonic::Code::InvalidArgument, why.to_string()),
                }
            }
            Stream::Disconnected { connection } => {
                self.waiting.remove(&connection);
                if self.registered.remove(&connection).is_some() {
                    self.send_entries();
                }
                if let Some(proxy) = self.proxies.remove(&connection) {
                    tracing::info!(proxy = proxy.node, "disconnected");
                    batch.proxies.push((connection, None));
                }
                self.metrics.proxies(self.proxies.len());
            }
            Stream::Ack { connection, kind, version, .. } => {
                self.metrics.acked(kind);
                if let Some(proxy) = self.proxies.get_mut(&connection) {
                    proxy.refused.remove(&kind);
                    proxy.acked.insert(kind, version);
                }
            }
            Stream::Nack { connection, kind, reason, names, .. } => {
                self.metrics.refused(kind);
                if let Some(proxy) = self.proxies.get_mut(&connection) {
                    tracing::warn!(proxy = proxy.node, kind = kind.short(), ?names, "refused: {reason}");
                    proxy.refused.insert(kind, reason);
                }
            }
            Stream::UnknownType { connection, type_url, error } if type_url == HEALTH => {
                if let Some((_, registration)) = self.registered.get_mut(&connection) {
                    registration.health = Some(error.map_or(Health::Healthy, Health::unhealthy));
                    self.send_entries();
                }
            }
            Stream::UnknownType { type_url, .. } => {
                tracing::debug!("a proxy asks for {type_url}, which is not served");
            }
        }
    }

    fn connect(&mut self, connection: ConnectionId, joining: Joining, batch: &mut Batch) {
        if self.is_known(&joining) {
            return self.admit(connection, joining, batch);
        }
        // Somebody else's namespace is refused at once, whether the Pod is there or not.
        if let Err(why) = self.check(&joining) {
            return self.refuse(connection, tonic::Code::PermissionDenied, why);
        }
        self.waiting.insert(connection, Waiting { joining, since: Instant::now() });
    }

    fn admit_those_that_waited(&mut self, batch: &mut Batch) {
        let known = |(_, it): &(&ConnectionId, &Waiting)| self.is_known(&it.joining);
        let ready: Vec<ConnectionId> = self.waiting.iter().filter(known).map(|(connection, _)| *connection).collect();
        for connection in ready {
            if let Some(it) = self.waiting.remove(&connection) {
                self.admit(connection, it.joining, batch);
            }
        }
    }

    fn admit(&mut self, connection: ConnectionId, joining: Joining, batch: &mut Batch) {
        if let Err(why) = self.check(&joining) {
            return self.refuse(connection, tonic::Code::PermissionDenied, why);
        }
        let joining = match self.register(connection, joining) {
            Ok(joining) => joining,
            Err(why) => return self.refuse(connection, tonic::Code::PermissionDenied, why),
        };
        let Joining { proxy, node, .. } = joining;
        tracing::info!(proxy = node.id, envoy = node.user_agent_version, "connected");
        let connected = Connected {
            pod: pod_key(&proxy),
            node: node.id,
            version: node.user_agent_version,
            since: Instant::now(),
            acked: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        self.proxies.insert(connection, connected);
        self.metrics.proxies(self.proxies.len());
        batch.proxies.push((connection, Some(proxy)));
    }

    /// A workload that registers itself is known by its WorkloadGroup, as others are by their Pods. A Pod counts more.
    /// So does a token that is bound to one.
    fn group(&self, joining: &Joining) -> Option<ObjectKey> {
        let asked = registration::group_of(&joining.proxy).filter(|_| self.registers == Registers::Yes)?;
        let of_pod = joining.caller.as_ref().is_some_and(|it| it.pod.is_some());
        (!of_pod && self.account(&pod_key(&joining.proxy)).is_none()).then_some(asked)
    }

    fn is_known(&self, joining: &Joining) -> bool {
        let group = self.group(joining).is_some_and(|it| self.world.world().workload_group(&it).is_some());
        group || self.account(&pod_key(&joining.proxy)).is_some()
    }

    /// From here on its labels are those of its WorkloadEntry.
    fn register(&mut self, connection: ConnectionId, mut joining: Joining) -> Result<Joining, String> {
        let Some(group) = self.group(&joining) else { return Ok(joining) };
        let world = self.world.world();
        let spec = world.workload_group(&group).ok_or_else(|| format!("there is no {group}"))?;
        let account = match (self.identity_check, &joining.caller) {
            (IdentityCheck::Off, _) => None,
            (IdentityCheck::Enforced, Some(caller)) => Some(caller.identity.service_account.to_string().into()),
            (IdentityCheck::Enforced, None) => return Err(format!("{group} takes nobody without a credential")),
        };
        let key = registration::entry_of(&joining.proxy, &group)?;
        let of = (connection, &joining.proxy, &joining.node);
        let registration = registration::registration(of, (&group, spec), account)?;
        joining.proxy.labels = registration.labels.clone();
        joining.proxy.ports = registration.ports.clone();
        self.registered.insert(connection, (key, registration));
        self.send_entries();
        Ok(joining)
    }

    /// Of several connections of a workload the newest counts.
    fn send_entries(&self) {
        self.entries.send_replace(Arc::new(self.registered.values().cloned().collect()));
    }

    /// The service account of a Pod that is there.
    fn account(&self, pod: &ObjectKey) -> Option<Arc<str>> {
        self.world.world().pod(pod).map(|it| it.spec.service_account_name.clone())
    }

    fn check(&self, joining: &Joining) -> Result<(), String> {
        let Some(caller) = joining.caller.as_ref().filter(|_| self.identity_check == IdentityCheck::Enforced) else {
            return Ok(());
        };
        let said = |key: &str| joining.node.metadata.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let claim = Claim {
            pod: &joining.proxy.name,
            namespace: &joining.proxy.namespace,
            metadata_namespace: said("NAMESPACE"),
            metadata_service_account: said("SERVICE_ACCOUNT"),
        };
        identity::check(&claim, caller, &self.account(&pod_key(&joining.proxy)))
    }

    /// The client gets a word without details (S9); the log has them.
    fn refuse(&self, connection: ConnectionId, code: tonic::Code, why: String) {
        tracing::warn!(?code, "a proxy is not served: {}", why.escape_debug());
        self.metrics.stream_refused(code);
        let text = match code {
            tonic::Code::PermissionDenied => "the node is not who the credential says".to_owned(),
            _ => why,
        };
        self.hub.refuse(connection, (code, text));
    }

    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        let late = self.waiting.extract_if(.., |_, it| now.duration_since(it.since) >= POD_PATIENCE);
        let late: Vec<(ConnectionId, Waiting)> = late.collect();
        for (connection, it) in late {
            let waited_for = self.group(&it.joining).unwrap_or_else(|| pod_key(&it.joining.proxy));
            let why = format!("its {waited_for} has not been seen yet");
            self.refuse(connection, tonic::Code::Unavailable, why);
        }
    }

    fn answer(&self, query: Query) {
        match query {
            Query::Proxies(answer) => {
                let row = |(_, it): (&ConnectionId, &Connected)| ProxyRow {
                    node: it.node.clone(),
                    namespace: it.pod.namespace.to_string(),
                    version: it.version.clone(),
                    connected_seconds: it.since.elapsed().as_secs(),
                    acked: it.acked.iter().map(|(kind, version)| (kind.short(), version.clone())).collect(),
                    refused: it.refused.iter().map(|(kind, why)| (kind.short(), why.clone())).collect(),
                };
                // Who asked may be gone.
                _ = answer.send(self.proxies.iter().map(row).collect());
            }
            Query::Resources { proxy, answer } => {
                let found = self.proxies.iter().find(|(_, it)| it.is_called(&proxy));
                let all = |connection| TypeUrl::ALL.map(|kind| (kind, self.world.world().resources(connection, kind)));
                _ = answer.send(found.map(|(connection, it)| (it.pod.namespace.to_string(), all(*connection).into())));
            }
            Query::Problems(answer) => {
                let all = self.written.values().flatten().chain(&self.found).map(ToString::to_string);
                _ = answer.send(all.collect());
            }
        }
    }
}

impl Connected {
    /// `POD.NAMESPACE`, as istioctl says it, or the whole node id.
    fn is_called(&self, name: &str) -> bool {
        self.node == name
            || name
                .rsplit_once('.')
                .is_some_and(|(pod, namespace)| *self.pod.name == *pod && *self.pod.namespace == *namespace)
    }
}

fn pod_key(proxy: &Proxy) -> ObjectKey {
    ObjectKey::new(Kind::Pod, proxy.namespace.clone(), proxy.name.clone())
}
