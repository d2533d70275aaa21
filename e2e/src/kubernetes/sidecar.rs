//! What a proxy does for the pod it is in: draining, probes, metrics, names, and which connections it takes.

use super::bench::{Bench, LIMIT, Pod, output, until};
use super::traffic::get;
use crate::cluster::Cluster;
use anyhow::{Context, Result, bail, ensure};
use deploy::image::{Layer, app};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An application that answers, and has curl in it for what it asks others.
const IMAGE: &str = "navarch-test/client:1";

/// On every pod of a step, so that it can be found and removed.
const LABEL: &str = "sidecar-test";

/// Mutual TLS only, for the pods of a step.
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: sidecar-test, namespace: default}
spec: {selector: {matchLabels: {sidecar-test: 'true'}}, mtls: {mode: STRICT}}
";

/// Name and value.
type Annotation = (&'static str, &'static str);

/// Who is called last, who is between, who is called first: Deployment, container, and in which form each has its proxy.
const ROLLED: [(&str, &str, &[Annotation]); 3] = [
    ("details-v1", "details", &[]),
    ("reviews-v1", "reviews", &[NOT_NATIVE]),
    (
        "productpage-v1",
        "productpage",
        &[NOT_NATIVE, (CONFIG, "proxyMetadata: {EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true'}")],
    ),
];

/// Then the proxy is told to end when the application is, and not after it.
const NOT_NATIVE: Annotation = ("sidecar.istio.io/nativeSidecar", "false");
const CONFIG: &str = "proxy.istio.io/config";

/// Rolls what the page is made of, while it is asked for. An application that ends on SIGTERM at once is gone before
/// anybody can hear of it, in Istio too; so these stay for as long as the news takes, as Kubernetes advises.
pub(super) fn drain(bench: &Bench) -> Result<String> {
    patch(bench, true)?;
    let outcome = roll(bench);
    patch(bench, false)?;
    outcome
}

fn patch(bench: &Bench, on: bool) -> Result<()> {
    for (name, container, form) in ROLLED {
        let sleep = json!({"preStop": {"sleep": {"seconds": 5}}});
        let annotations: Map<String, Value> =
            form.iter().map(|(name, value)| ((*name).to_owned(), on.then_some(*value).into())).collect();
        let patch = json!({"spec": {"template": {
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": container, "lifecycle": on.then_some(sleep)}]},
        }}});
        bench.kubectl(&["patch", "deployment", name, "--namespace=default", "--patch", &patch.to_string()])?;
    }
    ROLLED.iter().try_for_each(|(name, ..)| settled(bench, name))
}

fn roll(bench: &Bench) -> Result<String> {
    let pages = bench.load()?;
    // The page may hide that there are no details; this does not.
    let details = Asking::start(bench, &format!("http://{}/api/v1/products/0", bench.ingress()?));
    let rolled = ROLLED.iter().try_for_each(|(name, ..)| {
        pages.phase(100, LIMIT)?;
        bench.kubectl(&["rollout", "restart", &format!("deployment/{name}"), "--namespace=default"])?;
        settled(bench, name)
    });
    let after = rolled.and_then(|()| pages.phase(100, LIMIT));
    let (details, pages) = (details.stop(), pages.stop());
    after?;
    Ok(format!(
        "{} deployments rolled, with a native sidecar and without; pages: {}; details: {}",
        ROLLED.len(),
        pages?,
        details?
    ))
}

/// Rolled out, and the last of the old pods is gone: they drain until then.
fn settled(bench: &Bench, deployment: &str) -> Result<()> {
    bench.rolled_out("default", deployment)?;
    until("the end of old pods", LIMIT, || {
        let all = bench.json(&["get", "pods", "--namespace=default", "--selector=app"])?;
        let ends = |it: &&Value| !it["metadata"]["deletionTimestamp"].is_null();
        let ending = all["items"].as_array().into_iter().flatten().filter(ends).count();
        ensure!(ending == 0, "{ending} are ending");
        Ok(())
    })
}

/// The kubelet has no certificate; its probes go through the agent.
pub(super) fn probes(bench: &Bench) -> Result<String> {
    let good = "
    ports: [{name: web, containerPort: 9080}]
    startupProbe: {httpGet: {path: /health, port: 9080}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /health, port: web}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 9080}, periodSeconds: 1}";
    let wrong = "
    readinessProbe: {httpGet: {path: /nothing-is-here, port: 9080}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 9999}, periodSeconds: 1, failureThreshold: 2}";
    // Of Bookinfo's roles only: an echo has an answer to every path.
    let part = |name: &str, probes: &str| manifest(name, "", &["service", "--image=bookinfo-details"], probes);
    with(bench, &[STRICT, &part("probes-good", good), &part("probes-wrong", wrong)], |bench| {
        let pod = ready(bench, "probes-good")?;
        let container = &pod.object["spec"]["containers"];
        let container = container.as_array().into_iter().flatten().find(|it| it["name"] == "app");
        let container = container.context("no container app")?;
        for (probe, path) in [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")] {
            let asked = &container[probe]["httpGet"];
            let path = format!("/app-health/app/{path}");
            ensure!(asked["path"] == path.as_str() && asked["port"] == 15020, "the {probe} is {}", container[probe]);
        }
        until("STRICT", LIMIT, || {
            let outside = get(bench, &format!("http://{}:9080/health", pod.ip));
            ensure!(outside.is_err(), "plain text is answered under STRICT: {outside:?}");
            Ok(())
        })?;
        let wrong = until("a restart by the liveness probe", LIMIT, || {
            let pod = named(bench, "probes-wrong")?;
            ensure!(pod.restarts > 0, "no restart");
            Ok(pod)
        })?;
        ensure!(!wrong.ready, "a pod whose readiness probe fails is ready");
        let pod = named(bench, "probes-good")?;
        ensure!(pod.ready && pod.restarts == 0, "after that: ready {}, {} restarts", pod.ready, pod.restarts);
        let field = "--field-selector=reason=Unhealthy,involvedObject.name=probes-wrong";
        let events = bench.kubectl(&["get", "events", "--namespace=default", field, "--output=name"])?;
        ensure!(!events.trim().is_empty(), "no event of a probe that failed");
        Ok("httpGet by number and by name, tcpSocket: pass under STRICT with 0 restarts; a wrong path is not ready, a closed port restarts the container".to_owned())
    })
}

pub(super) fn metrics(bench: &Bench) -> Result<String> {
    let scraped = |port: u16| {
        format!("prometheus.io/scrape: 'true', prometheus.io/port: '{port}', prometheus.io/path: /own-metrics")
    };
    let part = |name: &str, port| manifest(name, &scraped(port), &["service"], "");
    with(bench, &[STRICT, &part("metrics-good", 9080), &part("metrics-none", 9999)], |bench| {
        let page = |name: &str| -> Result<String> {
            let pod = ready(bench, name)?;
            let at = |name: &str| pod.object["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
            let url = format!("http://{}:{}{}", pod.ip, at("prometheus.io/port"), at("prometheus.io/path"));
            ensure!(url.ends_with(":15020/stats/prometheus"), "the annotations lead to {url}");
            let (status, body) = get(bench, &url)?;
            ensure!(status == 200, "{url} answers {status}");
            for part in ["istio_agent_", "envoy_cluster_", "envoy_server_live"] {
                ensure!(body.lines().any(|line| line.starts_with(part)), "{name}: nothing begins with {part}");
            }
            Ok(body)
        };
        let good = page("metrics-good")?;
        // An echo of the question is no metric, but it is what the application says.
        ensure!(good.contains("\"path\":\"/own-metrics\""), "the application's page is not among the metrics");
        let failures = |page: &str| {
            let line =
                page.lines().find(|it| it.starts_with("istio_agent_scrape_failures_total{type=\"application\"}"));
            line.and_then(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default()
        };
        page("metrics-none")?;
        let counted = failures(&page("metrics-none")?);
        ensure!(counted >= 1.0, "the application that cannot be scraped is not counted");
        ensure!(failures(&good) == 0.0, "a failure is counted where there was none");
        Ok(format!(
            "{} lines of agent, Envoy and application; a scrape that fails is counted ({counted})",
            good.lines().count()
        ))
    })
}

pub(super) fn dns(bench: &Bench) -> Result<String> {
    let (echo, client) = (outside("echo-a"), manifest("dns-client", "", &["service"], ""));
    with(bench, &[&echo, &client], |bench| {
        let (echo, client) = (ready(bench, "echo-a")?, ready(bench, "dns-client")?);
        let entry = format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: sidecar-test, namespace: default}}
spec:
  hosts: [made-up.example]
  addresses: [240.0.0.9]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
  endpoints: [{{address: {}}}]
",
            echo.ip
        );
        bench.apply(&entry)?;
        let address = until("the made-up name", LIMIT, || {
            let text = curl(bench, &client, &["--write-out", "\n%{remote_ip}", "http://made-up.example/asked"])?;
            let (body, address) = text.rsplit_once('\n').context("curl says an address")?;
            let body: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
            ensure!(body["path"] == "/asked" && body["pod"] == "echo-a", "it answers {body}");
            Ok(address.to_owned())
        })?;
        ensure!(address == "240.0.0.9", "made-up.example is {address}");
        let unknown = agent(bench, &client, &["wait", "--url=http://nobody.example/", "--timeoutSeconds=0"]);
        let unknown = format!("{:#}", unknown.err().context("nobody.example is somebody")?);
        // What getaddrinfo makes of NXDOMAIN; SERVFAIL would be a temporary failure.
        ensure!(unknown.contains("Name or service not known"), "nobody.example: {unknown}");
        for name in ["details", "details.default", "details.default.svc.cluster.local"] {
            let body = curl(bench, &client, &[&format!("http://{name}:9080/details/0")])?;
            ensure!(body.contains("paperback"), "{name} answers {body}");
        }
        Ok("made-up.example is 240.0.0.9 and its endpoint answers; nobody.example: no such name; details by three names".to_owned())
    })
}

/// Its application has one try only. Of two pods that are alike but for the annotation, one must fail.
pub(super) fn hold(bench: &Bench) -> Result<String> {
    let plain = "sidecar.istio.io/nativeSidecar: 'false'";
    let holding = format!("{plain}, proxy.istio.io/config: 'holdApplicationUntilProxyStarts: true'");
    let objects = [manifest("hold", &holding, &ONE_TRY, ""), manifest("hold-not", plain, &ONE_TRY, "")];
    with(bench, &objects.each_ref().map(String::as_str), |bench| {
        let (pod, ended) = ended(bench, "hold")?;
        ensure!(
            pod.containers("containers") == ["istio-proxy", "app"],
            "containers: {:?}",
            pod.containers("containers")
        );
        let log = bench.kubectl(&["logs", "hold", "--namespace=default", "--container=app"])?;
        ensure!(ended["exitCode"] == 0, "the application's first request failed: {log}");
        let proxy = status(&pod, "istio-proxy")["state"]["running"]["startedAt"].clone();
        let (proxy, app) = (proxy.as_str().unwrap_or_default(), ended["startedAt"].as_str().unwrap_or_default());
        // Whole seconds; both are of the same form, so that text compares as time.
        ensure!(!proxy.is_empty() && proxy <= app, "the proxy started at {proxy}, the application at {app}");
        let (_, other) = self::ended(bench, "hold-not")?;
        ensure!(other["exitCode"] != 0, "the pod that holds nothing was answered, too: this shows nothing");
        Ok(format!(
            "the proxy started at {proxy}, the application at {app}; its first and only request was answered, that of a pod without holdApplicationUntilProxyStarts was not"
        ))
    })
}

/// A pod whose application has ended, and how.
fn ended(bench: &Bench, name: &str) -> Result<(Pod, Value)> {
    until(&format!("the end of {name}'s request"), LIMIT, || {
        let pod = named(bench, name)?;
        let ended = status(&pod, "app")["state"]["terminated"].clone();
        ensure!(!ended.is_null(), "{}", pod.object["status"]);
        Ok((pod, ended))
    })
}

pub(super) fn job(bench: &Bench) -> Result<String> {
    let pod = manifest("NAME", "", &ONE_TRY, "");
    let spec: String = pod.lines().skip_while(|it| !it.starts_with("spec:")).map(|it| format!("    {it}\n")).collect();
    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: sidecar-test, namespace: default}}\nspec:\n  backoffLimit: 0\n  template:\n    metadata: {{labels: {{job: sidecar-test}}}}\n{spec}"
    );
    let started = Instant::now();
    with(bench, &[&job], |bench| {
        let pod = until("the Job's end", LIMIT, || {
            let job = bench.json(&["get", "job", "sidecar-test", "--namespace=default"])?;
            ensure!(job["status"]["failed"].as_u64().is_none_or(|it| it == 0), "it failed: {}", job["status"]);
            ensure!(job["status"]["succeeded"] == 1, "{}", job["status"]);
            bench.pod("default", "job=sidecar-test")
        })?;
        let took = started.elapsed();
        ensure!(pod.containers("initContainers").contains(&"istio-proxy".to_owned()), "it has no native sidecar");
        let phase = pod.object["status"]["phase"].as_str().unwrap_or_default();
        ensure!(phase == "Succeeded", "its pod is {phase}");
        Ok(format!("complete {:.1} s after apply, its pod has Succeeded", took.as_secs_f32()))
    })
}

/// What an application asked for that is not to go through Envoy has none of Envoy's headers.
pub(super) fn capture(bench: &Bench) -> Result<String> {
    with(bench, &[&outside("echo-a"), &outside("echo-b"), SERVICE], |bench| {
        let (a, b) = (ready(bench, "echo-a")?, ready(bench, "echo-b")?);
        let mut lines = vec![];
        for (name, metadata) in
            [("capture-iptables", ""), ("capture-nft", "proxyMetadata: {NATIVE_NFTABLES: \"true\"}")]
        {
            let annotations = format!(
                "traffic.sidecar.istio.io/excludeOutboundPorts: '8081', traffic.sidecar.istio.io/excludeOutboundIPRanges: {}/32, proxy.istio.io/config: '{metadata}'",
                a.ip
            );
            bench.apply(&manifest(name, &annotations, &["service"], ""))?;
            let client = ready(bench, name)?;
            let through = |url: String| -> Result<bool> {
                let body = curl(bench, &client, &[&url])?;
                let body: Value = serde_json::from_str(&body).with_context(|| format!("{url}: {body}"))?;
                Ok(!body["headers"]["x-request-id"].is_null())
            };
            let seen = [
                ("a port that is not excluded", true, format!("http://{}:8080/", b.ip)),
                ("a Service", true, "http://sidecar-test.outside:8080/".to_owned()),
                ("an excluded port", false, format!("http://{}:8081/", b.ip)),
                ("an excluded range", false, format!("http://{}:8080/", a.ip)),
            ];
            for (what, expected, url) in seen {
                // The Service is in force soon, but not at once.
                until(what, Duration::from_secs(20), || {
                    let envoy = through(url.clone())?;
                    ensure!(envoy == expected, "{name}: {what}: through Envoy is {envoy}");
                    Ok(())
                })?;
            }
            let log = bench.kubectl(&["logs", name, "--namespace=default", "--container=istio-init"])?;
            let expected = if metadata.is_empty() { "by iptables" } else { "by nft" };
            ensure!(log.contains(expected), "{name}: istio-init does not say {expected}: {log}");
            lines.push(format!("{expected}: a pod and a Service through Envoy, an excluded port and range not"));
        }
        Ok(lines.join("\n"))
    })
}

const ONE_TRY: [&str; 5] =
    ["agent", "wait", "--url=http://details:9080/details/0", "--timeoutSeconds=0", "--requestTimeoutMillis=3000"];

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: sidecar-test, namespace: outside}
spec:
  selector: {sidecar-test: 'true'}
  ports: [{name: http-a, port: 8080}, {name: http-b, port: 8081}]
";

/// A pod of the mesh; annotations as YAML's flow style has them, and more of its container.
fn manifest(name: &str, annotations: &str, arguments: &[&str], more: &str) -> String {
    let arguments: Vec<String> = arguments.iter().map(|it| format!("'{it}'")).collect();
    let restart = if more.is_empty() { "Never" } else { "Always" };
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default, labels: {{{LABEL}: 'true'}}, annotations: {{{annotations}}}}}
spec:
  restartPolicy: {restart}
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: {IMAGE}
    args: [{}]{more}
",
        arguments.join(", ")
    )
}

/// An echo outside of the mesh.
fn outside(name: &str) -> String {
    let arguments = ["service", "--http=0.0.0.0:8080", "--http=0.0.0.0:8081"];
    manifest(name, "", &arguments, "").replace("namespace: default", "namespace: outside")
}

/// Makes objects, does the work, and removes them all, whatever came out.
fn with(bench: &Bench, objects: &[&str], work: impl FnOnce(&Bench) -> Result<String>) -> Result<String> {
    client_image(bench)?;
    let applied = objects.iter().try_for_each(|it| bench.apply(it).map(drop));
    let outcome = applied.and_then(|()| work(bench));
    let selector = format!("--selector={LABEL}");
    let gone = ["default", "outside"].iter().try_for_each(|namespace| {
        let namespace = format!("--namespace={namespace}");
        bench.kubectl(&["delete", "pods", &selector, &namespace])?;
        let kinds = ["job", "service", "serviceentry", "peerauthentication"].map(|kind| format!("{kind}/sidecar-test"));
        let kinds = kinds.each_ref().map(String::as_str);
        bench.kubectl(&[&["delete", "--ignore-not-found", &namespace][..], &kinds[..]].concat()).map(drop)
    });
    let outcome = outcome?;
    gone.map(|()| outcome)
}

fn client_image(bench: &Bench) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let curl: Option<PathBuf> = std::env::split_paths(&path).map(|it| it.join("curl")).find(|it| it.is_file());
    let curl = curl.context("there is no curl on this machine")?;
    let mut image = app(IMAGE, &bench.program, &["service"])?;
    image.layers.push(Layer::default().program(CURL, &curl).libraries_of(&curl)?);
    let path = bench.scratch.path().join("client.tar");
    image.write(&path)?;
    bench.cluster.load_image(&path)?;
    Ok(std::fs::remove_file(path)?)
}

const CURL: &str = "/usr/local/bin/curl";

fn curl(bench: &Bench, from: &Pod, arguments: &[&str]) -> Result<String> {
    exec(bench, from, &[&[CURL, "--silent", "--show-error", "--max-time", "10"][..], arguments].concat())
}

fn agent(bench: &Bench, from: &Pod, arguments: &[&str]) -> Result<String> {
    exec(bench, from, &[&["/usr/local/bin/navarch", "agent"][..], arguments].concat())
}

fn exec(bench: &Bench, pod: &Pod, command: &[&str]) -> Result<String> {
    let namespace = format!("--namespace={}", pod.namespace);
    bench.kubectl(&[&["exec", &pod.name, &namespace, "--container=app", "--"][..], command].concat())
}

/// A pod of a step.
fn named(bench: &Bench, name: &str) -> Result<Pod> {
    let pods = ["default", "outside"].map(|namespace| bench.pods(namespace, LABEL));
    let found = pods.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().find(|it| it.name == name);
    found.with_context(|| format!("there is no pod {name}"))
}

fn ready(bench: &Bench, name: &str) -> Result<Pod> {
    until(name, LIMIT, || {
        let pod = named(bench, name)?;
        ensure!(pod.ready, "not ready: {}", pod.object["status"]["containerStatuses"]);
        Ok(pod)
    })
}

fn status(pod: &Pod, container: &str) -> Value {
    let all = pod.object["status"]["containerStatuses"].as_array();
    all.into_iter().flatten().find(|it| it["name"] == container).cloned().unwrap_or_default()
}

/// Requests one after the other, by several clients, none repeated.
struct Asking {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Vec<String>>>>,
}

const CLIENTS: usize = 4;
/// Of a client that starts anew: enough to reuse connections, few enough to end soon.
const BATCH: usize = 50;

impl Asking {
    fn start(bench: &Bench, url: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|_| {
            let (cluster, url, stop) = (bench.cluster.clone(), format!("{url}?request=[1-{BATCH}]"), stop.clone());
            std::thread::spawn(move || ask(cluster.as_ref(), &url, &stop))
        });
        Self { clients: clients.collect(), stop }
    }

    /// An error if one failed.
    fn stop(self) -> Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = vec![];
        for client in self.clients {
            all.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        let failed: Vec<&String> = all.iter().filter(|it| !it.starts_with("200 ")).collect();
        if all.is_empty() || !failed.is_empty() {
            bail!("{} of {} requests failed: {:?}", failed.len(), all.len(), failed.iter().take(5).collect::<Vec<_>>());
        }
        Ok(format!("{} requests, 0 failed", all.len()))
    }
}

fn ask(cluster: &dyn Cluster, url: &str, stop: &AtomicBool) -> Result<Vec<String>> {
    let mut all = vec![];
    while !stop.load(Ordering::Relaxed) {
        let mut command = cluster.command(Path::new("curl"))?;
        command.args([
            "--silent",
            "--max-time",
            "10",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{time_total}\n",
        ]);
        // A request that fails is a line, too; the exit code says the same.
        let text = output(command.arg(url), None)?;
        all.extend(text.lines().map(str::to_owned));
    }
    Ok(all)
}
