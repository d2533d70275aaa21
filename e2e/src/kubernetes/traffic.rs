//! What requests come to: routing, mutual TLS, and certificates that change under them.

use super::bench::{Bench, LIMIT, output, pause, until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// A new connection for each request, so that each shows a certificate.
const NO_REUSE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: no-reuse, namespace: istio-system}
spec:
  host: '*.default.svc.cluster.local'
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}
";

/// Shares of v1 and v2, in percent.
const SPLITS: [(u64, u64); 3] = [(100, 0), (90, 10), (50, 50)];

/// Requests of a phase: so many that 3 points are more than 4 standard deviations of a correct 90/10 (and 3 of 50/50).
const ANSWERS: u64 = 2500;

/// Requests of one look at whether a change is in force.
const LOOK_ANSWERS: u64 = 100;

/// How far a share may be off, in points.
const TOLERANCE: f64 = 3.0;

pub(super) fn page(bench: &Bench) -> Result<String> {
    let address = bench.ingress()?;
    let body = until("the page", LIMIT, || {
        let (status, body) = get(bench, &format!("http://{address}/productpage"))?;
        ensure!(status == 200, "status {status}: {body}");
        ensure!(body.contains("data-reviews=\"reviews-v1"), "no reviews on the page");
        ensure!(body.contains("data-details=\"ok\""), "no details on the page");
        Ok(body)
    })?;
    Ok(format!("{} bytes from {address}", body.len()))
}

const WITHOUT_ADDRESSES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: allocated, namespace: default}
spec:
  hosts: [allocated.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 443, name: tls, protocol: TLS}]
";

/// The leader writes them into the status.
pub(super) fn allocated(bench: &Bench) -> Result<String> {
    bench.apply(WITHOUT_ADDRESSES)?;
    let addresses = until("addresses in the status", LIMIT, || {
        let entry = bench.json(&["get", "serviceentry", "allocated", "--namespace=default"])?;
        let all = entry["status"]["addresses"].as_array().cloned().unwrap_or_default();
        ensure!(!all.is_empty(), "there are none");
        Ok(all.iter().filter_map(|it| it["value"].as_str().map(str::to_owned)).collect::<Vec<_>>())
    })?;
    let has = |prefix: &str| addresses.iter().any(|it| it.starts_with(prefix));
    ensure!(has("240.240.") && has("2001:2:"), "{addresses:?}");
    bench.kubectl(&["delete", "serviceentry", "allocated", "--namespace=default"])?;
    Ok(addresses.join(", "))
}

/// The first patch would make Envoy refuse the listener.
const PATCHES: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: patched, namespace: istio-system}
spec:
  workloadSelector: {labels: {istio: ingressgateway}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY}
    patch: {operation: ADD, value: {name: after.the.router}}
  - applyTo: HTTP_FILTER
    match:
      context: GATEWAY
      listener:
        filterChain:
          filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: example.lua
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_request(handle)
                if handle:headers():get(':path') == '/by-filter' then handle:respond({[':status'] = '418'}, 'lua') end
              end
";

pub(super) fn patched(bench: &Bench) -> Result<String> {
    let address = bench.ingress()?;
    bench.apply(PATCHES)?;
    until("the filter's answer", LIMIT, || {
        let (status, _) = get(bench, &format!("http://{address}/by-filter"))?;
        ensure!(status == 418, "status {status}");
        Ok(())
    })?;
    page(bench)?;
    bench.kubectl(&["delete", "envoyfilter", "patched", "--namespace=istio-system"])?;
    until("the filter's end", LIMIT, || {
        let (status, _) = get(bench, &format!("http://{address}/by-filter"))?;
        ensure!(status == 404, "status {status}");
        Ok(())
    })?;
    Ok("418 while it was there, 404 before and after; the page was served meanwhile".to_owned())
}

pub(super) fn strict(bench: &Bench) -> Result<String> {
    let before = plaintext(bench)?;
    ensure!(before == Seen::Status(200), "PERMISSIVE should serve plain text, but it came to {before:?}");
    let load = bench.load()?;
    bench.apply(STRICT)?;
    let after = until("a refusal of plain text", LIMIT, || match plaintext(bench)? {
        Seen::Closed => Ok(Seen::Closed),
        Seen::Status(status) => bail!("plain text from outside is answered with {status}"),
    })?;
    load.phase(200, LIMIT)?;
    let load = load.stop()?;
    Ok(format!("plain text from outside: {before:?}, then {after:?}; in the mesh meanwhile {load}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Status(u16),
    /// No HTTP at all.
    Closed,
}

/// A client without a certificate, from outside of the mesh, to a pod's own address.
fn plaintext(bench: &Bench) -> Result<Seen> {
    let pod = bench.pod("default", "app=details")?;
    Ok(match get(bench, &format!("http://{}:9080/details/0", pod.ip)) {
        Ok((status, _)) => Seen::Status(status),
        Err(_) => Seen::Closed,
    })
}

pub(super) fn shift(bench: &Bench) -> Result<String> {
    let load = bench.load()?;
    let mut lines = vec![];
    let mut before = None;
    for (v1, v2) in SPLITS {
        bench.apply(&routing(v1, v2))?;
        let applied = Instant::now();
        // In force, and not what was in force before it: only then is it measured.
        let near = before.map_or(f64::MAX, |before: u64| before.abs_diff(v2) as f64 / 2.0);
        until("the new split", LIMIT, || {
            let seen = load.phase(LOOK_ANSWERS, LIMIT)?;
            let share = share(&seen, "v2");
            ensure!((share - v2 as f64).abs() < near, "v2 has {share:.1} %");
            Ok(())
        })?;
        before = Some(v2);
        let settled = applied.elapsed();
        let seen = load.phase(ANSWERS, LIMIT)?;
        let (one, two) = (share(&seen, "v1"), share(&seen, "v2"));
        ensure!(
            (one - v1 as f64).abs() <= TOLERANCE && (two - v2 as f64).abs() <= TOLERANCE,
            "{v1}/{v2} came out as {one:.1}/{two:.1}"
        );
        let requests: u64 = seen.values().sum();
        lines.push(format!("{v1}/{v2}: {one:.1}/{two:.1} of {requests} (seen after {:.1} s)", settled.as_secs_f32()));
    }
    lines.push(load.stop()?);
    Ok(lines.join("\n"))
}

pub(super) fn share(answers: &BTreeMap<String, u64>, version: &str) -> f64 {
    let all: u64 = answers.values().sum();
    100.0 * answers.get(version).copied().unwrap_or_default() as f64 / all.max(1) as f64
}

/// A user's own YAML: weights, and the subsets that they are of.
pub(super) fn routing(v1: u64, v2: u64) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews]
  http:
  - route:
    - {{destination: {{host: reviews, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: reviews, subset: v2}}, weight: {v2}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: default}}
spec:
  host: reviews
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
"
    )
}

/// Certificates live for two minutes; each proxy must have shown three different ones.
pub(super) fn rotation(bench: &Bench) -> Result<String> {
    bench.apply(NO_REUSE)?;
    let load = bench.load()?;
    let started = Instant::now();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let rotated = until("three certificates of each proxy", Duration::from_secs(300), || {
        for pod in bench.pods("default", "app")? {
            seen.entry(pod.name.clone()).or_default().insert(serial(bench, &pod.name)?);
        }
        let waits: Vec<&str> = seen.iter().filter(|(_, it)| it.len() < 3).map(|(name, _)| name.as_str()).collect();
        if !waits.is_empty() {
            pause(Duration::from_secs(5));
            bail!("waits for {}", waits.join(", "));
        }
        Ok(seen.values().map(BTreeSet::len).sum::<usize>())
    });
    let took = started.elapsed();
    let load = load.stop();
    bench.kubectl(&["delete", "destinationrule", "no-reuse", "--namespace", "istio-system"])?;
    let rotated = rotated?;
    Ok(format!(
        "{rotated} certificates seen in {:.0} s, TTL 2 min, new connections for each request: {}",
        took.as_secs_f32(),
        load?
    ))
}

/// Of the certificate that a proxy shows now, as Envoy itself says it.
fn serial(bench: &Bench, pod: &str) -> Result<String> {
    let text = bench.kubectl(&[
        "exec",
        pod,
        "--container=istio-proxy",
        "--",
        "/usr/local/bin/pilot-agent",
        "request",
        "--debug-port=15000",
        "GET",
        "certs",
    ])?;
    let certs: Value = serde_json::from_str(&text).with_context(|| format!("certs of {pod}"))?;
    let chains = certs["certificates"].as_array().cloned().unwrap_or_default();
    let mut leaves = chains.iter().filter_map(|it| it.pointer("/cert_chain/0/serial_number")?.as_str());
    leaves.next().map(str::to_owned).with_context(|| format!("{pod} has no certificate"))
}

/// A request from the node's network by another program, `curl`-like: its status and body.
pub(super) fn get(bench: &Bench, url: &str) -> Result<(u16, String)> {
    let mut command: Command = bench.cluster.command(Path::new("curl"))?;
    let text = output(
        command.args(["--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}", url]),
        None,
    )?;
    let (body, status) = text.rsplit_once('\n').context("curl prints a status")?;
    Ok((status.parse()?, body.to_owned()))
}
