//! What istiod's memory grows by for each pod: the figure that decides how large a cluster may be.

use super::bench::{Bench, LIMIT, pause, until};
use super::traffic::get;
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The bar, for each pod.
const BYTES_MAX: f64 = 1024.0;

/// Pods that differ in their names and addresses only, as those of a Deployment do.
const ALIKE: usize = 10;
/// Pods of a namespace.
const TOGETHER: usize = 1000;
/// Requests under way at a time.
const REQUESTS: usize = 32;

/// Of a new istiod without the pods and of a new one with them, once it has read them all; and of one that was there
/// when they came.
pub(super) fn memory(bench: &Bench) -> Result<String> {
    let pods = bench.options.pods.context("how many pods?")?;
    let none = restarted(bench)?;
    let started = Instant::now();
    create(bench, pods)?;
    let created = started.elapsed();
    let grown = until("every pod in istiod", LIMIT, || settled(bench, pods))?;
    let many = restarted(bench).and_then(|_| until("every pod in a new istiod", LIMIT, || settled(bench, pods)))?;
    let each = |with: &Process| (with.anonymous - none.anonymous) / pods as f64;
    let told = |it: &Process| format!("{:.1} MB ({:.1} MB with the program)", it.anonymous / 1e6, it.resident / 1e6);
    let text = format!(
        "{pods} pods made in {:.0} s\nistiod without them: {}\nonce they had come: {}, {:.0} B a pod\na new istiod with them: {}, {:.0} B a pod, {:.1} s of CPU",
        created.as_secs_f64(),
        told(&none),
        told(&grown),
        each(&grown),
        told(&many),
        each(&many),
        many.cpu,
    );
    let most = each(&grown).max(each(&many));
    ensure!(most <= BYTES_MAX, "{most:.0} B a pod are more than {BYTES_MAX}\n{text}");
    Ok(text)
}

/// What istiod says of its process.
struct Process {
    /// Bytes, with those of the program's own file.
    resident: f64,
    /// Bytes without them.
    anonymous: f64,
    /// Seconds.
    cpu: f64,
    objects: f64,
}

const ISTIOD: &str = "app=istiod";

/// A new istiod, when it has come to rest.
fn restarted(bench: &Bench) -> Result<Process> {
    let old = bench.pod("istio-system", ISTIOD)?;
    bench.kubectl(&["delete", "pod", &old.name, "--namespace=istio-system"])?;
    bench.rolled_out("istio-system", "istiod")?;
    until("istiod at rest", LIMIT, || settled(bench, 0))
}

/// It has read so many objects, and its memory does not change any more.
fn settled(bench: &Bench, objects: usize) -> Result<Process> {
    let before = process(bench)?;
    ensure!(before.objects >= objects as f64, "it has read {} objects", before.objects);
    pause(REST);
    let after = process(bench)?;
    let moved = (after.anonymous - before.anonymous).abs();
    ensure!(moved <= before.anonymous / 100.0, "its memory moves: {moved} B");
    Ok(after)
}

const REST: Duration = Duration::from_secs(12);

fn process(bench: &Bench) -> Result<Process> {
    let pod = bench.pod("istio-system", ISTIOD)?;
    let (status, page) = get(bench, &format!("http://{}:15014/metrics", pod.ip))?;
    ensure!(status == 200, "its metrics: {status}");
    let value = |name: &str| -> Result<f64> {
        let line = page.lines().find(|it| it.starts_with(name)).with_context(|| format!("no {name}"))?;
        Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
    };
    Ok(Process {
        resident: value("process_resident_memory_bytes ")?,
        anonymous: value("navarch_anonymous_memory_bytes ")?,
        cpu: value("process_cpu_seconds_total ")?,
        objects: value("pilot_inbound_updates{type=\"config\"} ")?,
    })
}

/// On a thread in the cluster's network.
fn create(bench: &Bench, pods: usize) -> Result<()> {
    let (sender, outcome) = mpsc::channel();
    let kubeconfig = bench.cluster.kubeconfig()?;
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let made = runtime.context("a runtime").and_then(|it| it.block_on(create_all(&kubeconfig, pods)));
        // Whoever asked waits for it.
        sender.send(made).ok();
    };
    bench.cluster.inside(Box::new(work))?;
    outcome.recv().context("the pods' thread has died")?
}

async fn create_all(kubeconfig: &Path, pods: usize) -> Result<()> {
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &Default::default()).await?;
    let client = kube::Client::try_from(config)?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for at in 0..pods.div_ceil(TOGETHER) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": namespace(at * TOGETHER)}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
    }
    futures::stream::iter(0..pods)
        .map(|at| make(client.clone(), at))
        .buffer_unordered(REQUESTS)
        .try_collect::<()>()
        .await
}

fn namespace(pod: usize) -> String {
    format!("scale-{}", pod / TOGETHER)
}

/// A pod as it is with a proxy in it. Nobody schedules it, so no kubelet runs it: its status is written here.
async fn make(client: kube::Client, at: usize) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client, &namespace(at));
    let (name, pod) = pod(at);
    let create = async {
        // The account's controller may be slower than we are.
        for _ in 0..ATTEMPTS {
            match api.create(&PostParams::default(), &serde_json::from_value(pod.clone())?).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 403 => tokio::time::sleep(PAUSE).await,
                Err(why) => return Err(anyhow::Error::from(why)),
            }
        }
        anyhow::bail!("{name}: still refused after {ATTEMPTS} attempts")
    };
    create.await?;
    let status = json!({"status": status(at)});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

const ATTEMPTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(250);

fn status(at: usize) -> Value {
    let ip = format!("10.{}.{}.{}", 200 + at / 65536, at / 256 % 256, at % 256);
    let ready = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(ready);
    let running = |name: &str| {
        json!({"name": name, "ready": true, "started": true, "restartCount": 0, "image": format!("registry.example/{name}:1"),
            "imageID": format!("registry.example/{name}@sha256:{:064x}", at), "containerID": format!("containerd://{:064x}", at),
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
    };
    json!({
        "phase": "Running", "hostIP": "10.0.0.1", "podIP": ip, "podIPs": [{"ip": ip}], "qosClass": "Burstable",
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": conditions,
        "containerStatuses": [running("app"), running("istio-proxy")],
    })
}

fn pod(at: usize) -> (String, Value) {
    let app = format!("application-{}", at / ALIKE);
    let hash = format!("{:010x}", 0x5d8f_7c9b + at / ALIKE);
    let name = format!("{app}-{hash}-{:05x}", at);
    let proxied = json!({"initContainers": ["istio-init", "istio-proxy"], "containers": null,
        "volumes": ["workload-socket", "credential-socket", "workload-certs", "istio-envoy", "istio-data", "istio-podinfo", "istio-token", "istiod-ca-cert"],
        "imagePullSecrets": null, "revision": "default"});
    let environment: Vec<Value> =
        (0..20).map(|it| json!({"name": format!("SETTING_{it}"), "value": format!("of {app}")})).collect();
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": format!("registry.example/{name}:1"), "env": environment,
            "ports": [{"name": format!("http-{port}"), "containerPort": port}],
            "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": port}},
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app": app, "version": "v1", "pod-template-hash": hash, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop",
                "security.istio.io/tlsMode": "istio", "service.istio.io/canonical-name": app,
                "service.istio.io/canonical-revision": "v1",
            },
            "annotations": {
                "istio.io/rev": "default", "kubectl.kubernetes.io/default-container": "app",
                "kubectl.kubernetes.io/default-logs-container": "app", "prometheus.io/path": "/stats/prometheus",
                "prometheus.io/port": "15020", "prometheus.io/scrape": "true", "sidecar.istio.io/status": proxied.to_string(),
            },
        },
        "spec": {
            "schedulerName": "nobody", "terminationGracePeriodSeconds": 0,
            "containers": [container("app", 8080), container("istio-proxy", 15090)],
        },
    });
    (name, pod)
}
