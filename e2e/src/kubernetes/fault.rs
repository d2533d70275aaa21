//! What goes on while parts are away.

use super::bench::{Bench, LIMIT, output, pause, until};
use super::traffic::{routing, share};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// What must be served before and after a fault, in answers.
const ANSWERS: u64 = 300;

const ISTIOD: &str = "app=istiod";

pub(super) fn killed(bench: &Bench) -> Result<String> {
    let load = bench.load()?;
    load.phase(ANSWERS, LIMIT)?;
    let old = bench.pod("istio-system", ISTIOD)?;
    let killed = Instant::now();
    bench.kubectl(&["delete", "pod", &old.name, "--namespace=istio-system", "--force", "--grace-period=0"])?;
    until("another istiod", LIMIT, || {
        let pods = bench.pods("istio-system", ISTIOD)?;
        ensure!(pods.iter().any(|it| it.ready && it.name != old.name), "it is not ready");
        Ok(())
    })?;
    let back = killed.elapsed();
    reconnected(bench)?;
    let again = killed.elapsed();
    load.phase(ANSWERS, LIMIT)?;
    Ok(format!(
        "another one is ready after {:.1} s, every proxy is connected after {:.1} s; {}",
        back.as_secs_f32(),
        again.as_secs_f32(),
        load.stop()?
    ))
}

pub(super) fn rolled(bench: &Bench) -> Result<String> {
    let load = bench.load()?;
    load.phase(ANSWERS, LIMIT)?;
    bench.kubectl(&["rollout", "restart", "deployment/istiod", "--namespace=istio-system"])?;
    bench.rolled_out("istio-system", "istiod")?;
    reconnected(bench)?;
    load.phase(ANSWERS, LIMIT)?;
    load.stop()
}

/// Every proxy of the mesh has a stream to one of the istiods, and has refused nothing.
fn reconnected(bench: &Bench) -> Result<()> {
    until("every proxy's stream", LIMIT, || {
        let mut nodes = BTreeSet::new();
        for istiod in bench.pods("istio-system", ISTIOD)? {
            let text = bench.kubectl(&[
                "exec",
                &istiod.name,
                "--namespace=istio-system",
                "--",
                "/usr/local/bin/pilot-discovery",
                "request",
                "GET",
                "/debug/syncz",
            ])?;
            let rows: serde_json::Value = serde_json::from_str(&text)?;
            for row in rows.as_array().into_iter().flatten() {
                ensure!(row["refused"].as_object().is_none_or(serde_json::Map::is_empty), "refused: {row}");
                nodes.extend(row["node"].as_str().map(str::to_owned));
            }
        }
        let mut pods = bench.pods("default", "app")?;
        pods.extend(bench.pods("istio-system", "istio=ingressgateway")?);
        for pod in pods {
            let name = format!("~{}.{}~", pod.name, pod.namespace);
            ensure!(nodes.iter().any(|it| it.contains(&name)), "{} has no stream", pod.name);
        }
        Ok(())
    })
}

/// Its absence is longer than half of a certificate's life: those that rotate meanwhile do it with the certificates
/// that they have, since no token can be reviewed.
pub(super) fn apiserver(bench: &Bench) -> Result<String> {
    let load = bench.load()?;
    load.phase(ANSWERS, LIMIT)?;
    let restarts = restarts(bench)?;
    let service = bench.json(&["get", "service", "kubernetes", "--namespace=default"])?;
    let service = service["spec"]["clusterIP"].as_str().context("the API server's Service has no address")?.to_owned();
    bench.cluster.stop_apiserver()?;
    let away = Instant::now();
    let mut answers = 0;
    while away.elapsed() < bench.options.outage {
        answers += load.phase(ANSWERS, LIMIT).map(|it| it.values().sum::<u64>())?;
        pause(Duration::from_secs(1));
    }
    bench.cluster.start_apiserver()?;
    let back = Instant::now();
    // Changes go on arriving: the watches have come back.
    bench.apply(&routing(0, 100))?;
    let applied = back.elapsed();
    // Pods reach it by its Service only, which kube-proxy has to find again by itself.
    until("the API server's Service", LIMIT, || {
        let mut curl = bench.cluster.command(Path::new("curl"))?;
        let url = format!("https://{service}/livez");
        output(curl.args(["--silent", "--show-error", "--insecure", "--max-time", "2", &url]), None)
    })?;
    let reachable = back.elapsed();
    until("a change after the outage", LIMIT, || {
        let share = share(&load.phase(ANSWERS, LIMIT)?, "v2");
        ensure!(share == 100.0, "v2 has {share:.0} %");
        Ok(())
    })?;
    let arrived = back.elapsed();
    load.phase(ANSWERS, LIMIT)?;
    let after = self::restarts(bench)?;
    ensure!(after == restarts, "containers restarted {} times", after - restarts);
    Ok(format!(
        "away for {:.0} s, {answers} whole pages meanwhile; after its return a change was taken at {:.1} s, pods could reach it at {:.1} s, the change was in force at {:.1} s; no restarts; {}",
        bench.options.outage.as_secs_f32(),
        applied.as_secs_f32(),
        reachable.as_secs_f32(),
        arrived.as_secs_f32(),
        load.stop()?
    ))
}

fn restarts(bench: &Bench) -> Result<u64> {
    let mut pods = bench.pods("default", "app")?;
    pods.extend(bench.pods("istio-system", ISTIOD)?);
    Ok(pods.iter().map(|it| it.restarts).sum())
}

/// Both start with no Secret, at the same time.
pub(super) fn replicas(bench: &Bench) -> Result<String> {
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        bench.kubectl(&["scale", "deployment/istiod", "--namespace=istio-system", &replicas])
    };
    scale("0")?;
    until("no istiod", LIMIT, || {
        let pods = bench.pods("istio-system", ISTIOD)?;
        ensure!(pods.is_empty(), "{} are left", pods.len());
        Ok(())
    })?;
    bench.kubectl(&["delete", "secret", "istio-ca-secret", "--namespace=istio-system"])?;
    scale("2")?;
    bench.rolled_out("istio-system", "istiod")?;
    let secret = bench.json(&["get", "secret", "istio-ca-secret", "--namespace=istio-system"])?;
    let root = secret["data"]["ca-cert.pem"].as_str().unwrap_or_default().to_owned();
    let mut ready = vec![];
    for istiod in bench.pods("istio-system", ISTIOD)? {
        let logs = bench.kubectl(&["logs", &istiod.name, "--namespace=istio-system"])?;
        ready.push(logs.lines().filter(|it| it.contains("the CA is ready")).count());
    }
    ensure!(ready == [1, 1], "each of the two replicas should have one root: {ready:?}");
    // The pods' proxies must get certificates of the new root: they are made anew, as after any loss of a root.
    bench.kubectl(&["rollout", "restart", "deployment", "--namespace=default"])?;
    bench.kubectl(&["rollout", "restart", "deployment/istio-ingressgateway", "--namespace=istio-system"])?;
    bench.rolled_out("istio-system", "istio-ingressgateway")?;
    for name in bench.kubectl(&["get", "deployments", "--namespace=default", "--output=name"])?.lines() {
        bench.rolled_out("default", name.trim_start_matches("deployment.apps/"))?;
    }
    scale("1")?;
    bench.rolled_out("istio-system", "istiod")?;
    let map = bench.json(&["get", "configmap", "istio-ca-root-cert", "--namespace=default"])?;
    let distributed = map["data"]["root-cert.pem"].as_str().unwrap_or_default();
    ensure!(!root.is_empty() && distributed.contains("BEGIN CERTIFICATE"), "the root is not in namespace default");
    let load = bench.load()?;
    load.phase(ANSWERS, LIMIT)?;
    Ok(format!("two replicas, one root; then {}", load.stop()?))
}

pub(super) fn webhook(bench: &Bench) -> Result<String> {
    bench.kubectl(&["scale", "deployment/istiod", "--namespace=istio-system", "--replicas=0"])?;
    until("no istiod", LIMIT, || {
        ensure!(bench.pods("istio-system", ISTIOD)?.is_empty(), "it is still there");
        Ok(())
    })?;
    let pod = |name: &str, namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{containers: [{{name: a, image: 'local/pause:1'}}]}}\n"
        )
    };
    // Without its proxy a pod of the mesh would be outside of it, so it is not created at all.
    let refused = match bench.apply(&pod("too-early", "default")) {
        Err(why) => format!("{why:#}"),
        Ok(_) => bail!("a pod without a proxy was let into the mesh"),
    };
    ensure!(refused.contains("sidecar-injector"), "the refusal does not name the webhook: {refused}");
    bench.apply(&pod("not-ours", "outside"))?;
    bench.apply(&pod("system", "kube-system"))?;
    bench.kubectl(&["scale", "deployment/istiod", "--namespace=istio-system", "--replicas=1"])?;
    bench.rolled_out("istio-system", "istiod")?;
    until("a pod of the mesh", LIMIT, || bench.apply(&pod("in-time", "default")).map(drop))?;
    for (name, namespace) in [("not-ours", "outside"), ("system", "kube-system"), ("in-time", "default")] {
        bench.kubectl(&["delete", "pod", name, "--namespace", namespace, "--grace-period=1"])?;
    }
    Ok("the mesh's pod was refused by name of the webhook, others started, istiod came back unaided".to_owned())
}
