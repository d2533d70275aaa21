//! Istio's own agent in navarch's mesh: it speaks to the control plane as it would to Istio's, in both forms of xDS.

use super::bench::{Bench, LIMIT, Pod, output, until};
use super::traffic::get;
use crate::pilot_agent::{IMAGE, VERSION, image, install};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ca::certificate::{Certificate, PublicKeyKind};
use controller::envoy::find::{Search, find};
use deploy::image::Programs;
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

/// What a pod is called by, and whether its agent asks for deltas (which it does unless told otherwise).
const FORMS: [(&str, bool); 2] = [("istio-agent-delta", true), ("istio-agent-sotw", false)];

const REQUESTS: usize = 200;

/// Both ways: what serves here takes mutual TLS only, and so does whom it calls.
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: istio-agent, namespace: default}
spec: {mtls: {mode: STRICT}}
";

pub(super) fn connects(bench: &Bench) -> Result<String> {
    load(bench)?;
    bench.apply(STRICT)?;
    let mut lines = vec![format!("pilot-agent {VERSION}")];
    let outcome = FORMS.into_iter().try_for_each(|(name, delta)| {
        lines.push(form(bench, name, delta).with_context(|| name.to_owned())?);
        Ok(())
    });
    for (name, _) in FORMS {
        let kinds = ["deployment", "service", "serviceaccount", "virtualservice"];
        let objects = kinds.map(|kind| format!("{kind}/{name}"));
        let objects = objects.each_ref().map(String::as_str);
        // Its logs are wanted when it failed.
        if outcome.is_ok() {
            let delete = ["delete", "--namespace=default", "--ignore-not-found", "--wait=false"];
            bench.kubectl(&[&delete[..], &objects[..]].concat())?;
        }
    }
    bench.kubectl(&["delete", "peerauthentication", "istio-agent", "--namespace=default", "--ignore-not-found"])?;
    outcome.map(|()| lines.join("\n"))
}

fn load(bench: &Bench) -> Result<()> {
    let agent = install(&|text| eprintln!("kubernetes: {text}"))?;
    let envoy = find(&Search::from_environment(None))?;
    let path = bench.scratch.path().join("istio-agent.tar");
    image(&agent, &Programs::find(&bench.program, &envoy.path)?)?.write(&path)?;
    bench.cluster.load_image(&path)?;
    Ok(std::fs::remove_file(path)?)
}

fn form(bench: &Bench, name: &str, delta: bool) -> Result<String> {
    let started = Instant::now();
    bench.apply(&manifest(name, delta))?;
    let pod = until("its pod", LIMIT, || {
        let pod = bench.pod("default", &format!("agent={name}"))?;
        ensure!(pod.ready && pod.restarts == 0, "not ready, {} restarts", pod.restarts);
        Ok(pod)
    })?;
    let ready = started.elapsed();
    let images = pod.object["spec"].to_string().matches(IMAGE).count();
    ensure!(images >= 2, "istio-init and istio-proxy should have the image {IMAGE}");
    let outside = get(bench, &format!("http://{}:9080/productpage", pod.ip));
    ensure!(outside.is_err(), "plain text from outside is answered: {outside:?}");
    let page = until("a page through it", LIMIT, || pages(bench, name, 1))?;
    // Whom it called: both answer to mutual TLS alone.
    ensure!(page.contains("paperback"), "no details on the page: {page}");
    ensure!(page.contains("data-reviews=\"reviews-"), "no reviews on the page: {page}");
    ensure!(page.contains(&pod.name), "the page is another pod's: {page}");
    let requests = Instant::now();
    pages(bench, name, REQUESTS)?;
    let requests = requests.elapsed();
    let key = certificate(bench, &pod, name)?;
    quiet(bench, &pod, delta)?;
    Ok(format!(
        "{name}: ready {:.1} s after apply; {REQUESTS} pages in {:.1} s, 0 failed; certificate {key}; nothing refused",
        ready.as_secs_f32(),
        requests.as_secs_f32()
    ))
}

/// The page, so many times through the ingress gateway; their text. An error if one of them failed.
fn pages(bench: &Bench, name: &str, count: usize) -> Result<String> {
    let url = format!("http://{}/productpage?request=[1-{count}]", bench.ingress()?);
    let host = format!("Host: {name}.test");
    let mut command = bench.cluster.command(Path::new("curl"))?;
    command.args(["--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}\n", "--header"]);
    let text = output(command.arg(host).arg(url), None)?;
    let status = |line: &&str| line.len() == 3 && line.bytes().all(|it| it.is_ascii_digit());
    let answers: Vec<&str> = text.lines().filter(status).collect();
    let good = answers.iter().filter(|it| **it == "200").count();
    ensure!(good == count && answers.len() == count, "{good} of {count} requests were served: {answers:?}");
    Ok(text.lines().filter(|line| !status(line)).collect::<Vec<_>>().join("\n"))
}

/// What Envoy got from the agent over SDS: of the right identity, and with the key that Istio's agent makes.
fn certificate(bench: &Bench, pod: &Pod, account: &str) -> Result<String> {
    let dump: Value = serde_json::from_str(&request(bench, pod, "config_dump?resource=dynamic_active_secrets")?)?;
    let secrets = dump["configs"].as_array().cloned().unwrap_or_default();
    let secret = secrets.iter().find(|it| it["name"] == "default").context("Envoy has no secret named default")?;
    let chain = secret.pointer("/secret/tls_certificate/certificate_chain/inline_bytes").and_then(Value::as_str);
    let chain = BASE64_STANDARD.decode(chain.context("the secret has no chain")?)?;
    let chain = Certificate::all_from_pem(&chain)?;
    let leaf = &chain.first().context("a chain has a leaf")?.facts;
    let own = format!("spiffe://cluster.local/ns/default/sa/{account}");
    ensure!(leaf.uris == [own], "its certificate is of {:?}", leaf.uris);
    ensure!(leaf.public_key == PublicKeyKind::Rsa { bits: 2048 }, "its key is {:?}", leaf.public_key);
    Ok(format!("of {}, RSA 2048", leaf.uris.join(", ")))
}

/// Nothing was refused by Envoy, and the agent has no complaint.
fn quiet(bench: &Bench, pod: &Pod, delta: bool) -> Result<()> {
    let stats = request(bench, pod, "stats?filter=update_rejected")?;
    let refused: Vec<&str> = stats.lines().filter(|it| it.contains(": ") && !it.ends_with(": 0")).collect();
    ensure!(refused.is_empty(), "Envoy refused configuration: {}", refused.join(", "));
    let log = bench.kubectl(&["logs", &pod.name, "--namespace=default", "--container=istio-proxy"])?;
    let form = if delta { "connected to delta upstream XDS server" } else { "connected to upstream XDS server" };
    ensure!(log.contains(form), "its log does not say: {form}");
    let bad: Vec<&str> = log.lines().filter(|line| is_complaint(line)).collect();
    ensure!(bad.is_empty(), "in its log:\n{}", bad.join("\n"));
    Ok(())
}

/// A line of the agent or of Envoy (`TIME\tLEVEL\t…`) at a level that somebody should read, but for starts that had to
/// be tried again.
fn is_complaint(line: &str) -> bool {
    matches!(line.split('\t').nth(1), Some("error" | "critical" | "fatal")) || line.contains("NACK")
}

/// Envoy's own pages, as Istio's agent hands them out.
fn request(bench: &Bench, pod: &Pod, path: &str) -> Result<String> {
    let agent = ["/usr/local/bin/pilot-agent", "request", "--debug-port=15000", "GET", path];
    let exec = ["exec", &pod.name, "--namespace=default", "--container=istio-proxy", "--"];
    bench.kubectl(&[&exec[..], &agent[..]].concat())
}

/// The page of Bookinfo once more, with another agent, behind a host of its own at the gateway. No label `app`: other
/// steps count pods by it.
fn manifest(name: &str, delta: bool) -> String {
    format!(
        r#"
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: default}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{selector: {{agent: {name}}}, ports: [{{name: http, port: 9080}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: [{name}.test]
  gateways: [bookinfo-gateway]
  http: [{{route: [{{destination: {{host: {name}, port: {{number: 9080}}}}}}]}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: default}}
spec:
  selector: {{matchLabels: {{agent: {name}}}}}
  template:
    metadata:
      labels: {{agent: {name}}}
      annotations:
        sidecar.istio.io/proxyImage: {IMAGE}
        proxy.istio.io/config: '{{"proxyMetadata": {{"ISTIO_DELTA_XDS": "{delta}"}}}}'
    spec:
      serviceAccountName: {name}
      containers:
      - name: productpage
        image: docker.io/istio/examples-bookinfo-productpage-v1:1.20.3
        ports: [{{containerPort: 9080}}]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_from_what_agents_say_all_day() {
        let line = |level| format!("2026-11-23T08:15:31.382887Z\t{level}\tcitadelclient\tfailed to sign CSR");
        assert!(is_complaint(&line("error")) && is_complaint(&line("critical")));
        assert!(!is_complaint(&line("info")) && !is_complaint(&line("warn")));
        // An access log's line.
        assert!(!is_complaint("[2026-11-23T08:17:46.956Z] \"GET /error HTTP/1.1\" 200"));
    }
}
