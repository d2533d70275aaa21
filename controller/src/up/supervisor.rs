//! Keeps every workload running: its program (or the built-in service) and its Envoy. One task owns one pod, so a
//! changed workload is stopped before its successor takes its addresses.

use super::laptop::{LowPorts, PodKey, Threads, Workload};
use super::process::{Launcher, Process};
use crate::client::Client;
use crate::envoy::bootstrap::{Bootstrap, Role, bootstrap};
use crate::envoy::{admin, find::Envoy};
use crate::service::{Identity, Service, Speaks};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a removed workload goes on serving: its endpoints are gone from everybody's configuration long before.
const DRAIN: Duration = Duration::from_secs(2);

/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long programs and Envoys have to become ready. A cold start of ten Envoys on two cores takes some five seconds.
const START_MAX: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(50);

/// A workload that dies at once is tried again after 0.5 s, 1 s, 2 s, …, and given up after this many times in a row.
const RESTARTS_MAX: u32 = 8;

/// Having run for so long, a workload counts as started well.
const STABLE: Duration = Duration::from_secs(30);

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub pod: PodKey,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    /// Its Envoy has listeners, its program listens.
    Ready,
    /// It died, or did not start; tried again.
    Down(String),
    /// Given up until its Deployment changes.
    Failed(String),
    Stopped,
}

/// What all workloads have in common.
#[derive(Debug)]
pub struct Ground {
    pub envoy: Envoy,
    pub launcher: Launcher,
    pub xds: SocketAddr,
    pub low_ports: LowPorts,
    /// Bootstraps and logs.
    pub run_dir: PathBuf,
    /// Where commands are run: the folder.
    pub folder: PathBuf,
}

#[derive(Debug)]
pub struct Supervisor {
    ground: Arc<Ground>,
    reports: mpsc::Sender<Report>,
    pods: BTreeMap<PodKey, Pod>,
}

#[derive(Debug)]
struct Pod {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Run(Arc<Workload>),
    /// Endpoints go first, the workload after [`DRAIN`].
    Gone,
    /// The whole mesh ends.
    Now,
}

impl Supervisor {
    pub fn new(ground: Ground, reports: mpsc::Sender<Report>) -> Self {
        Self { ground: Arc::new(ground), reports, pods: BTreeMap::new() }
    }

    /// Starts what is new, stops what is gone, restarts what changed.
    pub fn reconcile(&mut self, workloads: &BTreeMap<PodKey, Workload>) {
        for (key, pod) in &self.pods {
            if !workloads.contains_key(key) {
                pod.wanted.send_if_modified(|it| std::mem::replace(it, Wanted::Gone) != Wanted::Gone);
            }
        }
        for (key, workload) in workloads {
            let wanted = Wanted::Run(Arc::new(workload.clone()));
            let Some(pod) = self.pods.get(key) else {
                let (sender, receiver) = watch::channel(wanted);
                let task = tokio::spawn(keep(key.clone(), receiver, self.ground.clone(), self.reports.clone()));
                self.pods.insert(key.clone(), Pod { wanted: sender, task });
                continue;
            };
            pod.wanted.send_if_modified(|it| {
                let changed = *it != wanted;
                it.clone_from(&wanted);
                changed
            });
        }
    }

    /// Ends all, and waits for it.
    pub async fn stop(mut self) {
        for pod in self.pods.values() {
            pod.wanted.send_replace(Wanted::Now);
        }
        for pod in std::mem::take(&mut self.pods).into_values() {
            pod.task.await.ok();
        }
    }
}

impl Drop for Supervisor {
    /// After an error or a panic: aborted tasks drop their processes, which kills them.
    fn drop(&mut self) {
        for pod in self.pods.values() {
            pod.task.abort();
        }
    }
}

async fn keep(key: PodKey, mut wanted: watch::Receiver<Wanted>, ground: Arc<Ground>, reports: mpsc::Sender<Report>) {
    let report = async |state| reports.send(Report { pod: key.clone(), state }).await.is_ok();
    let mut failures = 0;
    loop {
        let now = wanted.borrow_and_update().clone();
        let workload = match now {
            Wanted::Run(workload) => workload,
            Wanted::Now => return,
            Wanted::Gone => {
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        if !report(State::Starting).await {
            return;
        }
        let begun = Instant::now();
        let Err(why) = run(&workload, &mut wanted, &ground, async || report(State::Ready).await).await else {
            failures = 0;
            if !report(State::Stopped).await {
                return;
            }
            continue;
        };
        failures = if begun.elapsed() > STABLE { 1 } else { failures + 1 };
        let given_up = failures > RESTARTS_MAX;
        let why = format!("{why:#}");
        if !report(if given_up { State::Failed(why) } else { State::Down(why) }).await {
            return;
        }
        let pause = if given_up { Duration::MAX } else { Duration::from_millis(250 << failures) };
        // A change of the Deployment is worth a try at once.
        if let Ok(changed) = timeout(pause, wanted.changed()).await {
            failures = 0;
            if changed.is_err() {
                return;
            }
        }
    }
}

/// Runs one workload until it is no longer wanted as it is (`Ok`), or dies.
async fn run(
    workload: &Workload,
    wanted: &mut watch::Receiver<Wanted>,
    ground: &Ground,
    ready: impl AsyncFnOnce() -> bool,
) -> Result<()> {
    let mut program = Program::start(workload, ground).await?;
    let mut envoy = start_envoy(workload, ground)?;
    let client = Client::direct();
    let mut starting = std::pin::pin!(timeout(START_MAX, until_ready(workload, &client)));
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            status = envoy.wait() => bail!("its Envoy ended ({}): {}", status?, last_line(&log(ground, workload, "envoy"))),
            status = program.ended() => bail!("its program ended ({status}): {}", last_line(&log(ground, workload, "program"))),
            done = &mut starting, if ready.is_some() => {
                done.with_context(|| format!("not ready within {} s", START_MAX.as_secs()))?;
                if let Some(ready) = ready.take() && !ready().await {
                    break;
                }
            }
            changed = wanted.changed() => {
                if changed.is_err() {
                    break;
                }
                if *wanted.borrow() == Wanted::Gone {
                    // Unless the whole mesh ends meanwhile.
                    timeout(DRAIN, wanted.changed()).await.ok();
                }
                break;
            }
        }
    }
    tokio::join!(envoy.stop(PATIENCE), program.stop());
    wanted.mark_changed();
    Ok(())
}

enum Program {
    BuiltIn {
        _service: Service,
    },
    Command(Process),
    /// A gateway has none.
    None,
}

impl Program {
    async fn start(workload: &Workload, ground: &Ground) -> Result<Self> {
        if workload.role == Role::Gateway {
            return Ok(Self::None);
        }
        let Some(command) = &workload.command else {
            let identity = Identity {
                pod: workload.key.name.clone(),
                namespace: workload.key.namespace.clone(),
                labels: workload.labels.clone(),
                image: workload.image.clone(),
                environment: workload.environment.clone(),
                proxy: Some(workload.http_proxy()),
            };
            return Ok(Self::BuiltIn { _service: Service::start(identity, &workload.listens()).await? });
        };
        let log = log(ground, workload, "program");
        let arguments = ["-c".into(), OsString::from(command)];
        let process =
            ground.launcher.start(Path::new("/bin/sh"), &arguments, &environment(workload), &ground.folder, &log)?;
        Ok(Self::Command(process))
    }

    /// Never, for what runs inside navarch.
    async fn ended(&mut self) -> String {
        match self {
            Self::Command(process) => match process.wait().await {
                Ok(status) => status.to_string(),
                Err(why) => why.to_string(),
            },
            Self::BuiltIn { .. } | Self::None => std::future::pending().await,
        }
    }

    async fn stop(self) {
        if let Self::Command(process) = self {
            process.stop(PATIENCE).await;
        }
    }
}

/// What a program of the user's finds in its environment; `docs/up.md` lists it.
fn environment(workload: &Workload) -> Vec<(String, String)> {
    let ports: Vec<String> = workload.listen.keys().map(ToString::to_string).collect();
    // Most programs take one port, and mean HTTP.
    let http = workload.listen.iter().find(|(_, speaks)| **speaks == Speaks::Http).map(|(port, _)| port);
    let main = http.or_else(|| workload.listen.keys().next());
    let proxy = format!("http://{}", workload.http_proxy());
    let labels = serde_json::to_string(&workload.labels).unwrap_or_default();
    let address = workload.addresses.app.to_string();
    let pod = workload.addresses.pod.to_string();
    let own = [
        ("NAVARCH_ADDRESS", address.clone()),
        ("NAVARCH_PORTS", ports.join(",")),
        ("NAVARCH_SIDECAR", workload.addresses.sidecar.to_string()),
        ("HOST", address),
        ("PORT", main.map(ToString::to_string).unwrap_or_default()),
        ("HTTP_PROXY", proxy.clone()),
        ("http_proxy", proxy),
        ("POD_NAME", workload.key.name.clone()),
        ("POD_NAMESPACE", workload.key.namespace.clone()),
        ("POD_IP", pod.clone()),
        ("INSTANCE_IP", pod),
        ("SERVICE_ACCOUNT", workload.service_account.clone()),
        ("LABELS", labels),
    ];
    own.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(workload.environment.iter().map(|(name, value)| (name.clone(), value.clone())))
        .collect()
}

fn start_envoy(workload: &Workload, ground: &Ground) -> Result<Process> {
    let bootstrap = bootstrap(&Bootstrap {
        role: workload.role,
        pod: &workload.key.name,
        namespace: &workload.key.namespace,
        workload: &workload.deployment,
        service_account: &workload.service_account,
        labels: &workload.labels,
        more_metadata: &workload.proxy.metadata,
        ip: workload.addresses.pod.into(),
        low_ports: ground.low_ports,
        admin: workload.admin(),
        xds: ground.xds,
    });
    let path = ground.run_dir.join(format!("{}.bootstrap.json", workload.key));
    std::fs::write(&path, bootstrap.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    // Hot restart would share memory between Envoys by base id; nobody restarts these hot.
    let fixed = [
        "--disable-hot-restart",
        "--log-level",
        "warning",
        "--drain-time-s",
        "5",
        "--drain-strategy",
        "immediate",
        "--config-path",
    ];
    let mut arguments: Vec<OsString> = fixed.iter().map(OsString::from).collect();
    arguments.push(path.into());
    let threads = match workload.proxy.threads {
        Threads::One => Some(1),
        Threads::Exactly(threads) => Some(threads),
        Threads::OfMachine => None,
    };
    arguments.extend(threads.into_iter().flat_map(|it| ["--concurrency".into(), it.to_string().into()]));
    ground.launcher.start(&ground.envoy.path, &arguments, &[], &ground.run_dir, &log(ground, workload, "envoy"))
}

/// Programs may start slowly; Envoys wait for their first configuration.
async fn until_ready(workload: &Workload, client: &Client) {
    for (address, _) in workload.listens() {
        while TcpStream::connect(address).await.is_err() {
            sleep(POLL).await;
        }
    }
    while !admin::is_ready(client, workload.admin()).await {
        sleep(POLL).await;
    }
}

fn log(ground: &Ground, workload: &Workload, what: &str) -> PathBuf {
    ground.run_dir.join(format!("{}.{what}.log", workload.key))
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
    text.lines().rev().find(|it| !it.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
