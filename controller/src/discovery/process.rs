//! Starts the control plane and ends it: every task has its owner here.

use super::addresses;
use super::args::Discovery;
use super::core::{Core, Event, IdentityCheck, Registers};
use super::door;
use super::entries::Entries;
use super::environment::{Environment, NativeSidecars};
use super::http::{self, Pages};
use super::injector::Injector;
use super::metrics::Metrics;
use super::registration;
use anyhow::{Context, Result, bail};
use ca::authenticate::{Authenticator, KubeReviewer};
use ca::authority::Authority;
use ca::clock::Clock;
use ca::service::CertificateService;
use ca::spiffe::TrustDomains;
use ca::store::{Keeper, KubeStore};
use ca::tls::{ClientCerts, ServingCertificate, ServingOptions};
use crds::mesh_config::MeshConfig;
use crds::{Kind, ObjectKey};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use kube::Client;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use source::lease::Election;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::transport::Server;
use webhook::inject::{self, ProxyConfigs};
use xds::Hub;
use xds::server::{AdsService, Limits};

/// Events that wait for the loop. When it is full those that send them wait.
const EVENTS_MAX: usize = 4096;

/// How many of them are taken together: one commit for all.
const EVENTS_AT_ONCE: usize = 1024;

/// How often waiting proxies are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Runs until `stop`, then lets streams end.
pub async fn run(args: Discovery, stop: impl Future<Output = ()>) -> Result<()> {
    let (environment, remarks) = Environment::read(std::env::vars());
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    for flag in args.accepted.given() {
        tracing::info!("{flag} is accepted and changes nothing here");
    }
    Process::start(args, environment).await?.run(stop).await
}

/// Becomes ready when this replica is to end; every task that serves waits for it.
type Ending = Shared<BoxFuture<'static, ()>>;

/// All parts, and the tasks that run them.
struct Process {
    args: Discovery,
    environment: Environment,
    client: Client,
    tasks: JoinSet<Result<()>>,
    ending: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    authority: watch::Receiver<Arc<Authority>>,
    ca_metrics: Arc<ca::metrics::Metrics>,
    webhook_metrics: Arc<webhook::serve::metrics::Metrics>,
    authenticator: Authenticator,
    serving: ServingCertificate,
}

impl Process {
    /// What everything else needs: the API server, the CA and who may come in.
    async fn start(args: Discovery, environment: Environment) -> Result<Self> {
        // Nobody reads the signing key out of this process's memory, by a debugger or a core dump (S24).
        if let Err(why) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!("this process's memory can be dumped: {why}");
        }
        let client = client(&args).await?;
        let mesh = mounted_mesh_config(&args);
        let ca_metrics = Arc::new(ca::metrics::Metrics::default());
        let keeper = ca_keeper(&args, &environment, &mesh, &client, &ca_metrics).await?;
        let authority = keeper.authority();
        let mut trust_domains = TrustDomains::new(mesh.trust_domain.as_str());
        trust_domains.aliases = mesh.trust_domain_aliases.iter().map(|it| it.as_str().into()).collect();
        let options = ca::authenticate::Options {
            trust_domains,
            audiences: environment.token_audiences.clone(),
            cluster_id: args.cluster_id.clone(),
        };
        let reviewer = Arc::new(KubeReviewer::new(client.clone()));
        let authenticator = Authenticator::new(options, reviewer, authority.clone(), Clock::system());
        let names = ca::tls::istiod_names(&args.namespace, &environment.revision, &environment.custom_hosts);
        let serving = ServingCertificate::new(authority.clone(), ServingOptions::new(names), Clock::system())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run().map(Ok));
        Ok(Self {
            args,
            environment,
            client,
            tasks,
            ending: watch::Sender::new(false),
            metrics: Arc::default(),
            authority,
            ca_metrics,
            webhook_metrics: Arc::default(),
            authenticator,
            serving,
        })
    }

    async fn run(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let hub = Arc::new(Hub::default());
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let check = match self.environment.identity_check {
            true => IdentityCheck::Enforced,
            false => IdentityCheck::Off,
        };
        let registers = if self.environment.registration { Registers::Yes } else { Registers::No };
        let core = Core::new(hub.clone(), self.metrics.clone(), check).with_registration(registers);
        self.register(core.entries());
        let (mesh, addresses, proxy_configs) = (core.mesh(), core.addresses(), core.proxy_configs());
        self.watch(&events);
        self.tell_roots(&events);
        let ads = self.serve_xds(&hub, &events).await?;
        self.serve_pages(&hub, &events, mesh).await?;
        self.write(addresses);
        self.serve_webhooks(proxy_configs).await?;
        self.tasks.spawn(decide(core, receiver).map(Ok));
        drop(events);
        let ended = tokio::select! {
            () = stop => None,
            Some(ended) = self.tasks.join_next() => Some(ended),
        };
        self.ending.send_replace(true);
        ads.close();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(self.args.shutdown, all).await.ok();
        match ended {
            None => Ok(()),
            Some(Ok(Ok(()))) => bail!("a part of the control plane has ended by itself"),
            Some(Ok(Err(why))) => Err(why),
            Some(Err(panic)) => Err(panic.into()),
        }
    }

    fn ending(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        async move { _ = ending.wait_for(|it| *it).await }.boxed().shared()
    }

    /// The API server's objects become events.
    fn watch(&mut self, events: &mpsc::Sender<Event>) {
        let mut options = source::kube::Options::new(self.args.namespace.as_str());
        options.mesh_config_map = revisioned("istio", &self.environment.revision);
        let mesh_config_map = options.mesh_config_map.clone();
        let (sender, mut changes) = mpsc::channel(EVENTS_WAITING_MAX);
        let client = self.client.clone();
        let ending = self.ending();
        self.tasks.spawn(async move {
            tokio::select! {
                // It ends only when nobody reads any more.
                _ = source::kube::watch(client, options, sender) => {}
                () = ending => {}
            }
            Ok(())
        });
        let (events, ending) = (events.clone(), self.ending());
        self.tasks.spawn(async move {
            while let Some(mut event) = tokio::select! { event = changes.recv() => event, () = ending.clone() => None }
            {
                call_mesh_config_istio(&mut event, &mesh_config_map);
                if events.send(Event::Source(event)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
    }

    async fn serve_xds(&mut self, hub: &Arc<Hub>, events: &mpsc::Sender<Event>) -> Result<AdsService> {
        let (sender, mut streams) = mpsc::channel(EVENTS_WAITING_MAX);
        let limits = Limits { stream_age_max: self.args.stream_age_max, ..Limits::default() };
        let ads = AdsService::new(hub.clone(), sender, limits);
        let (events, ending) = (events.clone(), self.ending());
        self.tasks.spawn(async move {
            while let Some(event) = tokio::select! { event = streams.recv() => event, () = ending.clone() => None } {
                if events.send(Event::Xds(event)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        if let Some(address) = self.args.secure_grpc {
            let guarded = self.environment.xds_auth.then(|| door::Guarded {
                service: ads.clone(),
                authenticator: self.authenticator.clone(),
                metrics: self.metrics.clone(),
            });
            let open = guarded.is_none().then(|| ads.clone());
            if open.is_some() {
                tracing::warn!("XDS_AUTH=false: xDS is open to anybody who can reach {address}");
            }
            let certificates = self.environment.ca_server.then(|| {
                let (authenticator, authority) = (self.authenticator.clone(), self.authority.clone());
                CertificateService::new(authenticator, authority, Clock::system(), self.ca_metrics.clone())
            });
            let listener = listen(address).await?;
            let connections = ca::tls::incoming(listener, self.serving.clone(), ClientCerts::Optional);
            let server = grpc().add_optional_service(guarded).add_optional_service(open);
            let server = server.add_optional_service(certificates);
            let ending = self.ending();
            self.tasks.spawn(async move { Ok(server.serve_with_incoming_shutdown(connections, ending).await?) });
        }
        if let Some(address) = self.args.grpc {
            tracing::warn!(%address, "plain-text xDS is open to anybody who can reach it");
            let listener = listen(address).await?;
            let (ads, ending) = (ads.clone(), self.ending());
            self.tasks.spawn(async move { Ok(xds::server::serve(listener, ads, ending).await?) });
        }
        Ok(ads)
    }

    async fn serve_pages(
        &mut self,
        hub: &Arc<Hub>,
        events: &mpsc::Sender<Event>,
        mesh: watch::Receiver<Arc<MeshConfig>>,
    ) -> Result<()> {
        let (ca_metrics, webhook_metrics) = (self.ca_metrics.clone(), self.webhook_metrics.clone());
        let pages = Pages {
            hub: hub.clone(),
            events: events.clone(),
            metrics: self.metrics.clone(),
            more_metrics: Arc::new(move |out| {
                ca_metrics.render(out);
                out.push_str(&webhook_metrics.render());
            }),
            mesh,
            authenticator: self.authenticator.clone(),
            system_namespace: self.args.namespace.as_str().into(),
            ending: self.ending.subscribe(),
        };
        let debug = match self.environment.debug_on_http {
            true => http::Debug::Served,
            false => http::Debug::Off,
        };
        let main = (self.args.http, http::main(pages.clone(), debug));
        for (address, router) in [main, (self.args.monitoring, http::monitoring(pages, debug))] {
            let Some(address) = address else { continue };
            let listener = listen(address).await?;
            let ending = self.ending();
            self.tasks.spawn(async move {
                let service = router.into_make_service_with_connect_info::<SocketAddr>();
                Ok(axum::serve(listener, service).with_graceful_shutdown(ending).await?)
            });
        }
        Ok(())
    }

    /// Every replica does so for those that are connected to it.
    fn register(&mut self, wanted: watch::Receiver<registration::Wanted>) {
        let entries = Entries {
            client: self.client.clone(),
            instance: self.environment.pod_name.clone(),
            grace: self.environment.registration_grace,
            stream_age_max: self.args.stream_age_max,
        };
        let ending = self.ending();
        self.tasks.spawn(async move {
            tokio::select! {
                () = entries.keep(wanted) => {}
                () = ending => {}
            }
            Ok(())
        });
    }

    /// What only one replica may do.
    fn write(&mut self, wanted: watch::Receiver<addresses::Wanted>) {
        let namespaces = self.leads(Election::NAMESPACES);
        let (client, authority, ending) = (self.client.clone(), self.authority.clone(), self.ending());
        self.tasks.spawn(async move {
            let writer = Arc::new(ca::roots::KubeRoots::new(client.clone()));
            tokio::select! {
                () = ca::roots::run(ca::roots::watch_cluster(client), writer, authority, namespaces) => {}
                () = ending => {}
            }
            Ok(())
        });
        let leader = self.leads(Election::STATUS);
        let (client, leads, ending) = (self.client.clone(), leader.clone(), self.ending());
        self.tasks.spawn(async move {
            tokio::select! {
                () = addresses::keep(client, wanted, leads) => {}
                () = ending => {}
            }
            Ok(())
        });
        let roots = self.roots();
        let names = webhook::bundle::Names {
            injection: self.environment.injection_webhook.clone(),
            validation: self.environment.validation_webhook.clone(),
            revision: self.environment.revision.clone(),
            namespace: self.args.namespace.clone(),
        };
        let (client, ending) = (self.client.clone(), self.ending());
        self.tasks.spawn(async move {
            tokio::select! {
                () = webhook::bundle::keep(client, names, roots, leader) => {}
                () = ending => {}
            }
            Ok(())
        });
    }

    fn leads(&mut self, lease: &str) -> watch::Receiver<bool> {
        if !self.environment.leader_election {
            return watch::channel(true).1;
        }
        let lease = revisioned(lease, &self.environment.revision);
        let election = Election::new(self.args.namespace.as_str(), lease, self.environment.pod_name.as_str());
        let (leads, task) = election.run(self.client.clone(), self.ending());
        self.tasks.spawn(task.map(Ok));
        leads
    }

    /// The roots of the moment, as PEM.
    fn roots(&mut self) -> watch::Receiver<String> {
        let mut authority = self.authority.clone();
        let (sender, roots) = watch::channel(authority.borrow_and_update().roots_pem().to_string());
        let ending = self.ending();
        self.tasks.spawn(async move {
            while tokio::select! { changed = authority.changed() => changed.is_ok(), () = ending.clone() => false } {
                sender.send_replace(authority.borrow_and_update().roots_pem().to_string());
            }
            Ok(())
        });
        roots
    }

    /// Agents trust what the CA does, whenever it changes.
    fn tell_roots(&mut self, events: &mpsc::Sender<Event>) {
        let (mut roots, events, ending) = (self.roots(), events.clone(), self.ending());
        roots.mark_changed();
        self.tasks.spawn(async move {
            while tokio::select! { changed = roots.changed() => changed.is_ok(), () = ending.clone() => false } {
                let current = roots.borrow_and_update().clone();
                if events.send(Event::Roots(current)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
    }

    async fn serve_webhooks(&mut self, proxy_configs: watch::Receiver<Option<Arc<ProxyConfigs>>>) -> Result<()> {
        let Some(address) = self.args.https else { return Ok(()) };
        let revision = &self.environment.revision;
        let injector = Injector {
            client: self.client.clone(),
            namespace: self.args.namespace.clone(),
            config_map: revisioned("istio-sidecar-injector", revision),
            mesh_config_map: revisioned("istio", revision),
            options: inject::Options {
                revision: revision.clone(),
                native_sidecars: match self.environment.native_sidecars {
                    NativeSidecars::Always => inject::NativeSidecars::Native,
                    NativeSidecars::Auto | NativeSidecars::Never => inject::NativeSidecars::Container,
                },
                ..inject::Options::default()
            },
            native_sidecars: self.environment.native_sidecars,
            proxy_configs,
        };
        let (first, configs) = oneshot::channel();
        let ending = self.ending();
        self.tasks.spawn(async move {
            tokio::select! {
                () = injector.keep(first) => {}
                () = ending => {}
            }
            Ok(())
        });
        let listener = listen(address).await?;
        let connections = ca::tls::incoming_http(listener, self.serving.clone(), ClientCerts::None);
        let (metrics, ending) = (self.webhook_metrics.clone(), self.ending());
        self.tasks.spawn(async move {
            let configs = tokio::select! {
                configs = configs => configs.ok(),
                () = ending.clone() => None,
            };
            let Some(configs) = configs else { return Ok(()) };
            let router = webhook::serve::router(webhook::serve::State::new(configs, metrics));
            ca::tls::serve_http(connections, router, ending).await;
            Ok(())
        });
        Ok(())
    }
}

/// The loop, until nobody has anything to say any more.
pub(super) async fn decide(mut core: Core, mut events: mpsc::Receiver<Event>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut together = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        // A pattern that does not match would turn its branch off, and leave what has come until the next tick.
        let more = tokio::select! {
            count = events.recv_many(&mut together, EVENTS_AT_ONCE) => count > 0,
            _ = ticks.tick() => {
                together.push(Event::Tick);
                true
            }
        };
        if !more {
            return;
        }
        core.handle(together.drain(..));
    }
}

/// Inside a pod its service account, elsewhere a kubeconfig.
async fn client(args: &Discovery) -> Result<Client> {
    // Istio's chart names a file that is mounted only where istiod serves another cluster.
    let config = match args.kubeconfig.as_ref().filter(|it| it.exists()) {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
            kube::Config::from_custom_kubeconfig(file, &Default::default()).await?
        }
        None => kube::Config::infer().await.context("no service account of a pod, and no kubeconfig")?,
    };
    Ok(source::kube::client(config)?)
}

/// What must be known before the API server is asked: above all the trust domain.
fn mounted_mesh_config(args: &Discovery) -> MeshConfig {
    let text = std::fs::read_to_string(&args.mesh_config).unwrap_or_default();
    let key = ObjectKey::new(Kind::ConfigMap, args.namespace.as_str(), "istio");
    let (mesh, problems) = crds::decode::mesh_config_text(&text, &MeshConfig::default(), &key);
    for problem in problems {
        tracing::warn!("{}: {problem}", args.mesh_config.display());
    }
    mesh
}

/// Waits for the API server: without a root nothing can be served, and a restart would not make it come sooner.
async fn ca_keeper(
    args: &Discovery,
    environment: &Environment,
    mesh: &MeshConfig,
    client: &Client,
    metrics: &Arc<ca::metrics::Metrics>,
) -> Result<Keeper> {
    let mut options = ca::store::Options::new(mesh.trust_domain.as_str());
    options.folder = environment.root_ca_dir.as_str().into();
    options.key = environment.root_key;
    options.root_ttl = environment.root_ttl;
    options.grace_percent = environment.root_grace_percentile;
    options.signing.default_ttl = environment.workload_ttl_default;
    options.signing.max_ttl = environment.workload_ttl_max;
    let store = Arc::new(KubeStore::new(client.clone(), &args.namespace));
    loop {
        match Keeper::open(store.clone(), options.clone(), Clock::system(), metrics.clone()).await {
            Err(ca::store::StoreError::Access { place, error }) => {
                tracing::warn!("{place}: {error}; trying again");
                tokio::time::sleep(RETRY).await;
            }
            other => return Ok(other?),
        }
    }
}

/// The world knows the MeshConfig by one name, whatever the revision's ConfigMap is called.
fn call_mesh_config_istio(event: &mut source::kube::Event, config_map: &str) {
    let source::kube::Event::Changed { changes, .. } = event else { return };
    for (key, object) in changes.iter_mut().filter(|(key, _)| key.kind == Kind::ConfigMap && *key.name == *config_map) {
        key.name = "istio".into();
        if let Some(object) = object {
            object.key.name = "istio".into();
        }
    }
}

fn revisioned(name: &str, revision: &str) -> String {
    match revision {
        "" => name.to_owned(),
        revision => format!("{name}-{revision}"),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// As `xds::server::serve` sets it up.
fn grpc() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(STREAMS_MAX)
}

/// Of one connection: an agent has one for xDS and asks for a certificate now and then.
const STREAMS_MAX: u32 = 16;

/// Events on their way to the loop, of one source.
const EVENTS_WAITING_MAX: usize = 1024;

/// Between two attempts to read the root.
const RETRY: Duration = Duration::from_secs(2);
