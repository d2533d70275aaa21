//! `proxy`: everything that runs beside Envoy, started in Istio's order and owned by one set of tasks; and Envoy's life.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use ca::clock::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bootstrap::{Sockets, bootstrap};
use crate::certificate::files::Files;
use crate::certificate::{Workload, issue};
use crate::discovery::{self, Names};
use crate::dns::{self, ResolvConf, Table};
use crate::drain::{Action, Event, Machine};
use crate::environment::{CertificateSource, Environment, Envoy, Role, Server};
use crate::envoy::{self, Launcher, Process};
use crate::health::{Check, Health};
use crate::metrics::Metrics;
use crate::secret::{self, Claim};
use crate::status::{self, Order, Phase};
use crate::upstream::Upstream;

/// Where and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// What relative paths are relative to; Envoy's directory, too.
    pub directory: PathBuf,
    /// How Envoy is started.
    pub launcher: Launcher,
    /// The wall clock.
    pub clock: Clock,
}

const SECRETS: &str = "var/run/secrets/workload-spiffe-uds";
const SECRETS_SOCKET: &str = "socket";
const DISCOVERY_SOCKET: &str = "etc/istio/proxy/XDS";
const BOOTSTRAP: &str = "envoy-rev.json";
const RESOLV_CONF: &str = "/etc/resolv.conf";

type Tasks = JoinSet<Result<()>>;

/// Runs until Envoy ends or is ended; the exit code.
///
/// # Errors
/// What kept the agent from starting or going on.
pub async fn run(environment: Environment, options: Options) -> Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut agent = Agent::new(environment, options)?;
    let secrets = agent.start_secrets().await?;
    agent.start_discovery()?;
    agent.start_health()?;
    agent.start_dns().await?;
    agent.start_status().await?;
    let mut envoy = agent.start_envoy(&secrets)?;
    let code = loop {
        let event = tokio::select! {
            _ = terminate.recv() => Event::Terminate,
            _ = interrupt.recv() => Event::Terminate,
            Some(order) = agent.orders.recv() => match order {
                Order::Drain => Event::Drain,
                Order::Quit => Event::Quit,
            },
            () = time(agent.drain.wake_at().map(|at| agent.started + at)) => Event::Time,
            status = wait(&mut envoy) => {
                let status = status.context("waiting for Envoy")?;
                tracing::error!(%status, "Envoy has ended");
                agent.phase.send_replace(Phase::Terminating);
                return Ok(exit_code(status));
            }
            ended = agent.tasks.join_next() => {
                let why = ended.map_or_else(|| Err(anyhow!("no task is left")), |ended| ended?);
                break Err(why.err().unwrap_or_else(|| anyhow!("a task of the agent ended")));
            }
        };
        if agent.handle(event).await == Some(Action::End) {
            break Ok(0);
        }
    };
    agent.phase.send_replace(Phase::Terminating);
    if let Some(envoy) = envoy {
        envoy.stop().await;
    }
    code
}

async fn wait(envoy: &mut Option<Process>) -> std::io::Result<std::process::ExitStatus> {
    match envoy {
        Some(envoy) => envoy.wait().await,
        None => pending().await,
    }
}

async fn time(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// A program ended by a signal counts as shells count it.
fn exit_code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

struct Agent {
    environment: Environment,
    options: Options,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    workload: watch::Sender<Option<Arc<Workload>>>,
    trust: watch::Sender<Arc<Vec<String>>>,
    health: watch::Sender<Option<Health>>,
    names: Option<watch::Sender<Arc<Table>>>,
    phase: watch::Sender<Phase>,
    order: mpsc::Sender<Order>,
    orders: mpsc::Receiver<Order>,
    drain: Machine,
    started: Instant,
    resolv_conf: ResolvConf,
    dns_metrics: Arc<dns::Metrics>,
}

impl Agent {
    fn new(environment: Environment, options: Options) -> Result<Self> {
        let resolv_conf = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        let (order, orders) = mpsc::channel(status::ORDERS_MAX);
        Ok(Self {
            drain: Machine::new(environment.drain),
            names: environment.dns.is_some().then(|| watch::Sender::new(Arc::default())),
            environment,
            options,
            tasks: JoinSet::new(),
            metrics: Arc::default(),
            workload: watch::Sender::new(None),
            trust: watch::Sender::new(Arc::default()),
            health: watch::Sender::new(None),
            phase: watch::Sender::new(Phase::Serving),
            order,
            orders,
            started: Instant::now(),
            resolv_conf: ResolvConf::parse(&resolv_conf),
            dns_metrics: Arc::default(),
        })
    }

    fn upstream(&self, server: &Server) -> Upstream {
        Upstream {
            server: server.clone(),
            directory: self.options.directory.clone(),
            token: self.environment.discovery.token.clone(),
            workload: self.workload.subscribe(),
            clock: self.options.clock.clone(),
        }
    }

    /// Certificates and their socket; the socket's path.
    async fn start_secrets(&mut self) -> Result<PathBuf> {
        let directory = self.options.directory.join(SECRETS);
        if let Some(name) = self.environment.foreign_socket.as_deref().filter(|name| *name != SECRETS_SOCKET) {
            let path = directory.join(name);
            let found = tokio::net::UnixStream::connect(&path).await;
            found.with_context(|| format!("WORKLOAD_IDENTITY_SOCKET_FILE {}", path.display()))?;
            return Ok(path);
        }
        let path = directory.join(SECRETS_SOCKET);
        let claim = secret::claim(&path).await.with_context(|| format!("the socket {}", path.display()))?;
        let Claim::Ours(listener) = claim else {
            tracing::info!(path = %path.display(), "certificates come from the socket that is there already");
            return Ok(path);
        };
        self.start_certificates();
        let source = secret::Source {
            workload: self.workload.subscribe(),
            trust: self.trust.subscribe(),
            directory: self.options.directory.clone(),
        };
        self.tasks.spawn(async move { secret::serve(listener, source).await.context("serving certificates") });
        Ok(path)
    }

    fn start_certificates(&mut self) {
        let publish = self.workload.clone();
        let driver = Files::of_driver(&self.options.directory);
        let mounted = self.environment.certificate.source == CertificateSource::Files;
        if mounted || driver.exist() {
            let files = if mounted { Files::mounted(&self.options.directory) } else { driver };
            self.tasks.spawn(async move {
                files.keep(&publish).await;
                Ok(())
            });
            return;
        }
        let upstream = self.upstream(&self.environment.certificate.server);
        let settings = self.environment.certificate.clone();
        let cluster_id = self.environment.pod.cluster_id.clone();
        let (clock, metrics) = (self.options.clock.clone(), Arc::clone(&self.metrics));
        self.tasks.spawn(async move {
            let issue = |attempt| issue::request(&settings, &upstream, &cluster_id, attempt);
            issue::keep(&settings, &clock, &metrics, &publish, issue).await;
            Ok(())
        });
    }

    fn start_discovery(&mut self) -> Result<()> {
        let path = self.options.directory.join(DISCOVERY_SOCKET);
        let listener = secret::bind(&path).with_context(|| format!("the socket {}", path.display()))?;
        let place = dns::Place {
            namespace: self.environment.pod.namespace.clone(),
            domain: crate::node::domain(&self.environment),
            search: self.resolv_conf.search.clone(),
        };
        let options = Arc::new(discovery::Options {
            upstream: self.upstream(&self.environment.discovery.server),
            cluster_id: self.environment.pod.cluster_id.clone(),
            metrics: Arc::clone(&self.metrics),
            names: self.names.clone().map(|table| Names { place, table }),
            trust: self.trust.clone(),
            health: self.health.clone(),
        });
        self.tasks.spawn(async move { discovery::serve(listener, options).await.context("serving Envoy's streams") });
        Ok(())
    }

    /// Where nobody else asks the application: outside of Kubernetes.
    fn start_health(&mut self) -> Result<()> {
        let Some(probe) = self.environment.proxy_config.json.get("readinessProbe").filter(|it| it.is_object()) else {
            return Ok(());
        };
        let check = Check::parse(probe).map_err(anyhow::Error::msg).context("readinessProbe")?;
        let (own, told) = (self.environment.pod.ip(), self.health.clone());
        self.tasks.spawn(async move {
            check.keep(own, told).await;
            Ok(())
        });
        Ok(())
    }

    async fn start_dns(&mut self) -> Result<()> {
        let (Some(address), Some(names)) = (&self.environment.dns, &self.names) else { return Ok(()) };
        let mut options = dns::Options::new(address.as_deref(), &self.resolv_conf)?;
        options.metrics = Arc::clone(&self.dns_metrics);
        let (addresses, serving) = dns::serve(names.subscribe(), options).await.context("the DNS proxy")?;
        tracing::info!(?addresses, "the DNS proxy answers");
        self.tasks.spawn(async move {
            serving.await;
            Ok(())
        });
        Ok(())
    }

    async fn start_status(&mut self) -> Result<()> {
        let of = &self.environment;
        let role = match of.flags.role {
            Role::Sidecar => status::Role::Sidecar,
            Role::Router => status::Role::Router,
        };
        let port = of.proxy_config.status_port;
        let variable = |name: &str| of.variables.get(name).cloned();
        let options = status::Options::from_environment(role, port, of.proxy_config.admin_port, &variable)?;
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.with_context(|| format!("port {port}"))?,
        };
        let (metrics, workload, clock) =
            (Arc::clone(&self.metrics), self.workload.subscribe(), self.options.clock.clone());
        let dns = self.names.as_ref().map(|_| Arc::clone(&self.dns_metrics));
        let state = status::State {
            phase: self.phase.subscribe(),
            orders: self.order.clone(),
            metrics: Arc::new(move || {
                let expiry = workload.borrow().as_ref().map(|workload| workload.not_after);
                let mut text = metrics.text(expiry, clock.now());
                text.push_str(&dns.as_ref().map(|dns| dns.text()).unwrap_or_default());
                text
            }),
            names: self.names.as_ref().map(watch::Sender::subscribe),
        };
        self.tasks.spawn(async move { status::serve(listener, options, state).await.context("the status server") });
        Ok(())
    }

    fn start_envoy(&self, secrets: &Path) -> Result<Option<Process>> {
        let of = &self.environment;
        if of.envoy == Envoy::Disabled {
            return Ok(None);
        }
        let directory = &self.options.directory;
        let discovery = directory.join(DISCOVERY_SOCKET);
        let sockets = Sockets { secrets: &secrets.to_string_lossy(), discovery: &discovery.to_string_lossy() };
        let read = |path: &Path| {
            std::fs::read_to_string(directory.join(path)).with_context(|| format!("reading {}", path.display()))
        };
        let content = match of.flags.template_file.as_str() {
            "" => bootstrap(of, sockets).to_string(),
            own => read(Path::new(own))?,
        };
        let folder = directory.join(&of.proxy_config.config_path);
        let path = folder.join(BOOTSTRAP);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, content))
            .with_context(|| format!("writing {}", path.display()))?;
        let overlay = of.bootstrap_override.as_deref().map(read).transpose()?;
        let arguments = envoy::arguments(of, &path, overlay.as_deref());
        let program = Path::new(&of.proxy_config.binary_path);
        let process = self.options.launcher.start(program, &arguments, directory);
        Ok(Some(process.with_context(|| format!("starting {}", program.display()))?))
    }

    /// One event, and what follows from it at once.
    async fn handle(&mut self, mut event: Event) -> Option<Action> {
        loop {
            let action = self.drain.step(event, self.started.elapsed())?;
            match action {
                Action::DrainListeners => {
                    self.drain_listeners(event).await;
                    return None;
                }
                Action::AskConnections => {
                    let own = [self.environment.envoy_status_port, self.environment.envoy_prometheus_port];
                    event = Event::Connections(envoy::connections(self.admin(), &own).await);
                }
                Action::End => return Some(Action::End),
            }
        }
    }

    async fn drain_listeners(&self, event: Event) {
        self.phase.send_replace(Phase::Draining);
        if self.environment.envoy == Envoy::Disabled {
            return;
        }
        let inbound = match self.environment.flags.role {
            Role::Sidecar => "inboundonly&",
            Role::Router => "",
        };
        // A native sidecar is drained before its time has come; Envoy must not take that for its end.
        let skip_exit = if event == Event::Drain { "&skip_exit" } else { "" };
        let path = format!("/drain_listeners?{inbound}graceful{skip_exit}");
        match envoy::post(self.admin(), &path).await {
            Ok(()) => tracing::info!(after = ?self.environment.drain, "Envoy drains its listeners"),
            Err(error) => tracing::warn!(%error, "Envoy could not be told to drain"),
        }
    }

    fn admin(&self) -> SocketAddr {
        let localhost: IpAddr = match self.environment.pod.ip() {
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        };
        SocketAddr::new(localhost, self.environment.proxy_config.admin_port)
    }
}

/// Reading a file of the pod, relative to `directory`.
pub fn read_file(directory: &Path, path: &Path) -> Option<String> {
    std::fs::read_to_string(directory.join(path)).ok()
}
