//! The control plane's one loop: everything that happens is an [`Event`], and everything that follows is decided here,
//! one event at a time. It owns the folder's objects, the world, and what is known of each proxy.

use super::ground::{Block, check_ingress};
use super::laptop::{self, Network, Objects, Plan, PodKey, Readiness, Seats, Setup};
use super::locate;
use super::process::Launcher;
use super::status::{self, Status, Window};
use super::supervisor::{Ground, Report, State, Supervisor};
use super::view::{Notice, View};
use crate::client::Client;
use crate::envoy::admin::{self, Requests};
use crate::envoy::find::Envoy;
use crate::guard::Guarded;
use crate::node::proxy_of;
use anyhow::Result;
use crds::Problem;
use source::files::{Folder, Located, Outcome};
use source::mesh_config::MeshConfigFile;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use world::Batch;
use xds::server::{AdsService, Limits};
use xds::{ConnectionId, Hub, Snapshot, TypeUrl};

/// Events that wait for the loop. When it is full the streams that send them wait.
const EVENTS_MAX: usize = 1024;

/// How often Envoys' counters are read, and the screen is drawn at least.
const TICK: Duration = Duration::from_secs(1);

/// After this an answer no longer comes; what is shown must not wait for ever.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Open streams get so long to end; the processes behind them are gone by then.
const SHUTDOWN: Duration = Duration::from_secs(1);

pub struct Options {
    pub folder: PathBuf,
    /// Instead of the ConfigMap named `istio`.
    pub mesh_config: Option<PathBuf>,
    /// Of the ingress gateway; an address of the run's own block if `None`.
    pub ingress: Option<Ipv4Addr>,
    pub envoy: Envoy,
    pub launcher: Launcher,
    pub run_dir: PathBuf,
}

/// Everything that can happen.
enum Event {
    Files(Outcome),
    Xds(xds::server::Event),
    Workload(Report),
    Counters(BTreeMap<PodKey, Requests>),
    Tick,
    Stop,
}

/// A mesh that can be run: the folder is read, the addresses are claimed.
pub struct Mesh {
    core: Core,
    folder: Folder,
    xds: TcpListener,
    workloads: mpsc::Receiver<Report>,
}

/// The loop's state.
struct Core {
    dir: PathBuf,
    mesh_config: Option<MeshConfigFile>,
    objects: Objects,
    written: Vec<Located>,
    found: Vec<Problem>,
    setup: Setup,
    seats: Seats,
    ready: BTreeSet<PodKey>,
    plan: Plan,
    world: Guarded,
    hub: Arc<Hub>,
    proxies: BTreeMap<ConnectionId, Connected>,
    /// Answers that are awaited, and since when.
    awaited: BTreeMap<(ConnectionId, TypeUrl), Instant>,
    supervisor: Supervisor,
    /// Whose counters are read.
    admins: watch::Sender<BTreeMap<PodKey, SocketAddr>>,
    window: Window,
    status: Status,
    watchers: watch::Sender<Status>,
    view: View,
}

/// A stream that has said who it is.
struct Connected {
    pod: PodKey,
    snapshot: Snapshot,
}

impl Mesh {
    /// Reads the folder and makes everything ready to run; what is wrong with the surroundings shows here.
    pub async fn prepare(options: Options, view: View) -> Result<(Self, watch::Receiver<Status>)> {
        let dir = options.folder.canonicalize().unwrap_or(options.folder);
        let load = {
            let dir = dir.clone();
            move || Folder::load(dir)
        };
        let (folder, outcome) = tokio::task::spawn_blocking(load).await??;
        let block = Block::claim().await?;
        let (sender, workloads) = mpsc::channel(EVENTS_MAX);
        let ground = Ground {
            envoy: options.envoy,
            launcher: options.launcher,
            xds: block.xds.local_addr()?,
            low_ports: block.low_ports,
            run_dir: options.run_dir,
            folder: dir.clone(),
        };
        let (watchers, status) = watch::channel(Status::default());
        let mut core = Core {
            dir,
            mesh_config: options.mesh_config.map(MeshConfigFile::open).transpose()?,
            objects: Objects::new(),
            written: vec![],
            found: vec![],
            setup: Setup {
                network: Network::Loopback { block: block.number, ingress: options.ingress },
                low_ports: block.low_ports,
                readiness: Readiness::Of(BTreeSet::new()),
            },
            seats: Seats::default(),
            ready: BTreeSet::new(),
            plan: Plan::default(),
            world: Guarded::default(),
            hub: Arc::new(Hub::default()),
            proxies: BTreeMap::new(),
            awaited: BTreeMap::new(),
            supervisor: Supervisor::new(ground, sender),
            admins: watch::Sender::new(BTreeMap::new()),
            window: Window::default(),
            status: Status::default(),
            watchers,
            view,
        };
        core.take_files(outcome);
        core.commit();
        check_ingress(&core.plan.ingress).await?;
        core.hub.set_ready();
        Ok((Self { core, folder, xds: block.xds, workloads }, status))
    }

    /// Runs until `stop`; afterwards no process of it is left.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { mut core, folder, xds, mut workloads } = self;
        let (xds_sender, mut streams) = mpsc::channel(EVENTS_MAX);
        let (files_sender, mut files) = mpsc::channel(1);
        let (counters_sender, mut counters) = mpsc::channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let service = AdsService::new(core.hub.clone(), xds_sender, Limits::default());
        // Owned here: all of them end with the loop, however it ends.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let shutdown = async { drop(ended.await) };
            if let Err(why) = xds::server::serve(xds, service, shutdown).await {
                tracing::error!("the xDS server ended: {why}");
            }
        });
        tasks.spawn(count(core.admins.subscribe(), counters_sender));
        let watching = tokio::spawn(folder.watch(files_sender));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        core.reconcile();
        loop {
            let event = tokio::select! {
                () = &mut stop => Event::Stop,
                Some(event) = streams.recv() => Event::Xds(event),
                Some(outcome) = files.recv() => Event::Files(outcome),
                Some(report) = workloads.recv() => Event::Workload(report),
                Some(counters) = counters.recv() => Event::Counters(counters),
                _ = ticks.tick() => Event::Tick,
            };
            if let Event::Stop = event {
                break;
            }
            core.handle(event);
        }
        watching.abort();
        core.view.say(&Notice::Stopping);
        // Nobody listens to reports any more: their senders must not wait.
        drop(workloads);
        core.supervisor.stop().await;
        drop(end);
        drop(streams);
        tokio::time::timeout(SHUTDOWN, tasks.join_next()).await.ok();
        Ok(())
    }
}

impl Core {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Files(outcome) => {
                self.take_files(outcome);
                self.commit();
                self.reconcile();
                self.status.folder_commits += 1;
            }
            Event::Xds(event) => self.take_stream(event),
            Event::Workload(report) => self.take_report(report),
            Event::Counters(counters) => {
                self.window.push(Instant::now(), counters);
                self.status.splits = self.window.splits();
                self.view.splits(&self.status.splits);
            }
            Event::Tick => {
                if let Some(object) = self.mesh_config.as_mut().and_then(MeshConfigFile::poll) {
                    laptop::put_mesh_config(&mut self.objects, object);
                    self.commit();
                }
                let now = Instant::now();
                self.awaited.retain(|_, since| now.duration_since(*since) < ANSWER_MAX);
                self.view.draw(&self.status);
            }
            Event::Stop => {}
        }
        self.settle();
    }

    fn take_files(&mut self, outcome: Outcome) {
        for (key, object) in outcome.changes {
            match object {
                Some(object) => self.objects.insert(key, object),
                None => self.objects.remove(&key),
            };
        }
        if let Some(file) = &self.mesh_config {
            laptop::put_mesh_config(&mut self.objects, file.object());
        }
        self.written = outcome.problems;
    }

    /// Lays the folder out anew and gives the world what differs.
    fn commit(&mut self) {
        self.setup.readiness = Readiness::Of(self.ready.clone());
        let plan = laptop::plan(&self.objects, &self.setup, &mut self.seats);
        let changed = plan.objects.iter().filter(|(key, object)| self.plan.objects.get(key) != Some(object));
        let gone = self.plan.objects.keys().filter(|key| !plan.objects.contains_key(key));
        let objects = changed
            .map(|(key, object)| (key.clone(), Some(object.clone())))
            .chain(gone.map(|key| (key.clone(), None)))
            .collect();
        self.plan = plan;
        // Without its Pod and Sidecar a proxy would be configured anew, with a cluster's addresses. One that drains
        // keeps what it has: the world forgets it, and its stream is sent nothing more.
        let is_gone = |it: &Connected| !self.plan.workloads.contains_key(&it.pod);
        let gone = self.proxies.iter().filter(|(_, it)| is_gone(it)).map(|(connection, _)| (*connection, None));
        let proxies = gone.collect();
        self.give(Batch { objects, proxies, roots: None });
        self.status.ingress.clone_from(&self.plan.ingress);
        let problems = self.found.iter().cloned().map(|it| self.plan.at_origin(it));
        let problems: Vec<Problem> = problems.chain(self.plan.problems.iter().cloned()).collect();
        let lines = locate::lines(&self.dir, &self.written, &problems);
        if lines != self.status.problems {
            self.view.say(&Notice::Problems { problems: lines.clone() });
            self.status.problems = lines;
        }
    }

    /// The one door to the world, and from it to the proxies.
    fn give(&mut self, batch: Batch) {
        let changes = self.world.commit(batch);
        if let Some(problems) = changes.problems {
            self.found = problems;
        }
        self.hub.publish(changes.update);
        let now = Instant::now();
        for (connection, proxy) in &mut self.proxies {
            let Some(snapshot) = self.hub.snapshot(*connection) else { continue };
            let before = std::mem::replace(&mut proxy.snapshot, snapshot);
            for kind in changed(&before, &proxy.snapshot) {
                self.awaited.insert((*connection, kind), now);
            }
        }
    }

    /// Workloads that are no longer planned are no longer shown.
    fn reconcile(&mut self) {
        self.supervisor.reconcile(&self.plan.workloads);
        self.status.workloads.retain(|key, _| self.plan.workloads.contains_key(key));
        for key in self.plan.workloads.keys() {
            self.status.workloads.entry(key.clone()).or_default();
        }
        let admins = self.plan.workloads.iter().map(|(key, it)| (key.clone(), it.admin())).collect();
        self.admins.send_replace(admins);
    }

    fn take_report(&mut self, report: Report) {
        self.view.say(&Notice::workload(&report));
        let is_ready = report.state == State::Ready;
        if let Some(workload) = self.status.workloads.get_mut(&report.pod) {
            workload.state = Some(report.state);
        }
        let changed = match is_ready {
            true => self.ready.insert(report.pod),
            false => self.ready.remove(&report.pod),
        };
        if changed {
            self.commit();
        }
    }

    fn take_stream(&mut self, event: xds::server::Event) {
        use xds::server::Event as Stream;
        match event {
            Stream::Connected { connection, node, .. } => self.connect(connection, &node),
            Stream::Disconnected { connection } => {
                self.awaited.retain(|(it, _), _| *it != connection);
                if let Some(proxy) = self.proxies.remove(&connection) {
                    self.view.say(&Notice::Disconnected { proxy: proxy.pod.to_string() });
                    if let Some(workload) = self.status.workloads.get_mut(&proxy.pod) {
                        workload.connections = workload.connections.saturating_sub(1);
                    }
                    self.give(Batch { proxies: vec![(connection, None)], ..Batch::default() });
                }
            }
            Stream::Ack { connection, kind, version, .. } => {
                self.awaited.remove(&(connection, kind));
                let Some(proxy) = self.proxies.get(&connection) else { return };
                self.view.say(&Notice::Ack {
                    proxy: proxy.pod.to_string(),
                    kind: kind.short(),
                    version: version.clone(),
                });
                if let Some(workload) = self.status.workloads.get_mut(&proxy.pod) {
                    workload.nack.take_if(|(refused, _)| *refused == kind);
                    workload.acks.insert(kind, (version, Instant::now()));
                }
            }
            Stream::Nack { connection, kind, reason, names, .. } => {
                self.awaited.remove(&(connection, kind));
                self.status.nacks += 1;
                let Some(proxy) = self.proxies.get(&connection) else { return };
                let resources = names.iter().map(ToString::to_string).collect();
                let name = proxy.pod.to_string();
                self.view.say(&Notice::Nack { proxy: name, kind: kind.short(), reason: reason.clone(), resources });
                if let Some(workload) = self.status.workloads.get_mut(&proxy.pod) {
                    workload.nack = Some((kind, reason));
                }
            }
            Stream::UnknownType { type_url, .. } => tracing::warn!("a proxy asks for {type_url}, which is not served"),
        }
    }

    fn connect(&mut self, connection: ConnectionId, node: &xds::envoy::core::Node) {
        let proxy = match proxy_of(node) {
            Ok(proxy) => proxy,
            // It gets no view, and so no configuration.
            Err(why) => return tracing::warn!("a proxy is not served: {why}"),
        };
        let pod = PodKey { namespace: proxy.namespace.to_string(), name: proxy.name.to_string() };
        if !self.plan.workloads.contains_key(&pod) {
            return tracing::warn!("proxy {pod} is not served: it is none of this mesh's workloads");
        }
        self.view.say(&Notice::Connected { proxy: pod.to_string() });
        if let Some(workload) = self.status.workloads.get_mut(&pod) {
            workload.connections += 1;
        }
        self.give(Batch { proxies: vec![(connection, Some(proxy))], ..Batch::default() });
        // Only changes from here on are awaited: the first configuration is what makes an Envoy ready.
        let snapshot = self.hub.snapshot(connection).unwrap_or_default();
        self.proxies.insert(connection, Connected { pod, snapshot });
    }

    /// What follows from any event, and who is told.
    fn settle(&mut self) {
        self.status.in_sync = match (self.awaited.is_empty(), self.status.in_sync) {
            (true, None) => Some(Instant::now()),
            (true, since) => since,
            (false, _) => None,
        };
        // A folder that changed nothing for proxies was in sync before and after.
        let runs = |it: &status::Workload| it.state == Some(State::Ready) && it.connections > 0;
        let ready = self.status.in_sync.is_some() && self.status.workloads.values().all(runs);
        if ready && !self.status.ready {
            self.view
                .say(&Notice::Ready { proxies: self.status.workloads.len(), ingress: self.status.ingress.clone() });
        }
        // In words: once it was ready, waiting for an answer is no reason to say otherwise.
        self.status.ready = ready || (self.status.ready && self.status.workloads.values().all(runs));
        self.watchers.send_replace(self.status.clone());
    }
}

/// The types of which a proxy will be sent something. Endpoints and routes are asked for by name, and those that go
/// are no longer asked for: no answer is certain.
fn changed(before: &Snapshot, after: &Snapshot) -> Vec<TypeUrl> {
    let wildcard = |kind| matches!(kind, TypeUrl::Cluster | TypeUrl::Listener);
    let differs = |kind: &TypeUrl| {
        let mut differs = false;
        before.layers(*kind).diff(after.layers(*kind), |_, _, new| differs |= wildcard(*kind) || new.is_some());
        differs
    };
    TypeUrl::ALL.into_iter().filter(differs).collect()
}

/// Reads the counters of all Envoys again and again.
async fn count(
    admins: watch::Receiver<BTreeMap<PodKey, SocketAddr>>,
    counters: mpsc::Sender<BTreeMap<PodKey, Requests>>,
) {
    let client = Client::direct();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let admins = admins.borrow().clone();
        let mut all = BTreeMap::new();
        for (pod, admin) in admins {
            // An Envoy that starts, or is gone, has none.
            if let Ok(requests) = admin::outbound_requests(&client, admin).await {
                all.insert(pod, requests);
            }
        }
        if counters.send(all).await.is_err() {
            return;
        }
    }
}
