//! From an empty cluster to a mesh with Bookinfo in it, and back.

use super::bench::{Bench, LIMIT, Pod, until};
use anyhow::{Context, Result, ensure};
use controller::envoy::find::{Search, find};
use deploy::image::{Programs, app, pilot, proxy, stripped};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The names that Bookinfo's YAML has for its programs; ours play their parts.
const BOOKINFO: [&str; 6] = ["productpage-v1", "details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3"];
const BOOKINFO_TAG: &str = "1.20.3";

/// One without a sidecar, outside of the mesh.
const OUTSIDER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: outside}
";

pub(super) fn cluster(bench: &Bench) -> Result<String> {
    let started = Instant::now();
    let name = bench.options.name.clone();
    let tell = |text: &str| eprintln!("cluster {name}: {:5.1} s  {text}", started.elapsed().as_secs_f32());
    // Whatever a run that was ended has left.
    bench.cluster.down()?;
    bench.cluster.up(&tell)?;
    let up = started.elapsed();
    let started = Instant::now();
    stripped(&bench.options.navarch, &bench.program)?;
    let envoy = find(&Search::from_environment(None))?;
    let programs = Programs::find(&bench.program, &envoy.path)?;
    let tag = env!("CARGO_PKG_VERSION");
    let mut tars = vec![];
    let scratch = bench.scratch.path().to_owned();
    let mut write = |image: deploy::image::Image, name: &str| -> Result<()> {
        let path = scratch.join(format!("{name}.tar"));
        image.write(&path)?;
        tars.push(path);
        Ok(())
    };
    write(pilot(&programs, tag)?, "pilot")?;
    write(proxy(&programs, tag)?, "proxyv2")?;
    for role in BOOKINFO {
        let reference = format!("docker.io/istio/examples-bookinfo-{role}:{BOOKINFO_TAG}");
        write(app(&reference, &bench.program, &["service", "--image", &reference])?, role)?;
    }
    let bytes: u64 = tars.iter().filter_map(|it| std::fs::metadata(it).ok()).map(|it| it.len()).sum();
    for tar in &tars {
        bench.cluster.load_image(tar).with_context(|| tar.display().to_string())?;
        std::fs::remove_file(tar)?;
    }
    Ok(format!(
        "up in {:.1} s; {} images of {} MB in all made and loaded in {:.1} s",
        up.as_secs_f32(),
        tars.len(),
        bytes >> 20,
        started.elapsed().as_secs_f32()
    ))
}

/// As a user does it; short-lived certificates, so that their rotation shows.
pub(super) fn navarch(bench: &Bench) -> Result<String> {
    let started = Instant::now();
    let text = bench.navarch(&[
        "install",
        "--skip-confirmation",
        "--set",
        "values.meshConfig.defaultConfig.proxyMetadata.SECRET_TTL=2m",
        "--set-string",
        "values.meshConfig.defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE=true",
    ])?;
    let last = text.lines().rev().find(|it| !it.trim().is_empty()).unwrap_or_default();
    let istiod = bench.pod("istio-system", "app=istiod")?;
    ensure!(istiod.ready, "istiod's pod is not ready though install has ended");
    Ok(format!("{:.1} s; {last}", started.elapsed().as_secs_f32()))
}

pub(super) fn bookinfo(bench: &Bench) -> Result<String> {
    bench.kubectl(&["label", "namespace", "default", "istio-injection=enabled", "--overwrite"])?;
    bench.apply(OUTSIDER)?;
    let started = Instant::now();
    for file in ["details", "productpage", "ratings", "reviews", "gateway", "reviews-routing"] {
        bench.apply(&std::fs::read_to_string(examples().join(format!("{file}.yaml")))?)?;
    }
    let pods = until("Bookinfo's pods", LIMIT, || {
        let pods = bench.pods("default", "app")?;
        ensure!(pods.len() >= BOOKINFO.len(), "{} pods of {}", pods.len(), BOOKINFO.len());
        let waits: Vec<&str> = pods.iter().filter(|it| !it.ready).map(|it| it.name.as_str()).collect();
        ensure!(waits.is_empty(), "not ready: {}", waits.join(", "));
        Ok(pods)
    })?;
    let injected = pods.iter().filter(|it| has_proxy(it)).count();
    ensure!(injected == pods.len(), "{injected} of {} pods have a proxy", pods.len());
    let restarts: u64 = pods.iter().map(|it| it.restarts).sum();
    ensure!(restarts == 0, "{restarts} restarts of containers");
    Ok(format!("{} pods ready with their proxies {:.1} s after apply", pods.len(), started.elapsed().as_secs_f32()))
}

/// What the API server was given back by the webhook.
pub(super) fn injected(bench: &Bench) -> Result<String> {
    let pod = bench.pod("default", "app=reviews,version=v1")?;
    let text = |at: &str| pod.object.pointer(at).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let init = pod.containers("initContainers");
    ensure!(init.contains(&"istio-init".to_owned()), "init containers are {init:?}");
    ensure!(init.contains(&"istio-proxy".to_owned()), "not a native sidecar, though kubelets allow it: {init:?}");
    ensure!(text("/metadata/labels/security.istio.io~1tlsMode") == "istio", "no label security.istio.io/tlsMode");
    ensure!(
        !text("/metadata/annotations/sidecar.istio.io~1status").is_empty(),
        "no annotation sidecar.istio.io/status"
    );
    let audience = pod.object["spec"]["volumes"].to_string();
    ensure!(audience.contains("\"audience\":\"istio-ca\""), "no token for istio-ca among the volumes");
    let gateway = bench.pod("istio-system", "istio=ingressgateway")?;
    ensure!(gateway.containers("containers") == ["istio-proxy"], "the gateway's pod has other containers");
    // The same pod by kube-inject, without a cluster's help.
    let plain = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: outside}\nspec: {containers: [{name: a, image: b}]}\n";
    let path = bench.scratch.path().join("pod.yaml");
    std::fs::write(&path, plain)?;
    let offline = bench.navarch(&["kube-inject", "--filename", &path.to_string_lossy()])?;
    ensure!(offline.contains("name: istio-proxy"), "kube-inject adds no proxy: {offline}");
    Ok(format!("init containers {}", init.join(", ")))
}

/// A pod that would be created now, as the API server would store it.
pub(super) fn configured(bench: &Bench) -> Result<String> {
    let config = "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {name: suite, namespace: default}\nspec:\n  selector: {matchLabels: {suite: proxy-config}}\n  concurrency: 3\n  environmentVariables: {FROM_PROXY_CONFIG: here}\n";
    bench.apply(config)?;
    let plain = "apiVersion: v1\nkind: Pod\nmetadata: {name: configured, namespace: default, labels: {suite: proxy-config}}\nspec: {containers: [{name: a, image: b}]}\n";
    let path = bench.scratch.path().join("configured.yaml");
    std::fs::write(&path, plain)?;
    let path = path.to_string_lossy().into_owned();
    let started = Instant::now();
    until("a pod's ProxyConfig", LIMIT, || {
        let pod = bench.kubectl(&["create", "--dry-run=server", "--output=yaml", "--filename", &path])?;
        ensure!(pod.contains("FROM_PROXY_CONFIG"), "its variable is not in the proxy");
        ensure!(pod.contains("\"concurrency\":3"), "its concurrency is not in PROXY_CONFIG");
        Ok(())
    })?;
    bench.kubectl(&["delete", "proxyconfig", "suite", "--namespace", "default"])?;
    Ok(format!("injected {:.1} s after it was written", started.elapsed().as_secs_f32()))
}

pub(super) fn uninstalled(bench: &Bench) -> Result<String> {
    bench.navarch(&["uninstall", "--skip-confirmation"])?;
    let kinds = "deployments,services,serviceaccounts,configmaps,poddisruptionbudgets,roles,rolebindings";
    let left = bench.kubectl(&["get", kinds, "--namespace", "istio-system", "--output=name", "--ignore-not-found"])?;
    let ours =
        |it: &&str| !it.contains("kube-root-ca.crt") && !it.contains("/default") && !it.contains("istio-ca-root-cert");
    let left: Vec<&str> = left.lines().filter(ours).collect();
    ensure!(left.is_empty(), "left in istio-system: {}", left.join(", "));
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings";
    let left = bench.kubectl(&["get", kinds, "--output=name"])?;
    let left: Vec<&str> = left.lines().filter(|it| it.contains("istio")).collect();
    ensure!(left.is_empty(), "left in the cluster: {}", left.join(", "));
    let kinds = bench.kubectl(&["get", "customresourcedefinitions", "--output=name"])?;
    let kinds = kinds.lines().filter(|it| it.contains("istio.io")).count();
    ensure!(kinds > 0, "Istio's kinds are gone, and all configuration with them");
    Ok(format!("{kinds} kinds stay"))
}

fn has_proxy(pod: &Pod) -> bool {
    ["containers", "initContainers"].iter().any(|list| pod.containers(list).contains(&"istio-proxy".to_owned()))
}

/// `examples/bookinfo` of this checkout.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo")
}
