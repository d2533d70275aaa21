//! `cargo xtask e2e kubernetes`: navarch in a real Kubernetes, from an empty cluster to one that is empty again. Real
//! injection by the API server, real pods, real certificates, traffic through the ingress gateway's pod.
//!
//! The steps run in the order in which [`STEPS`] lists them, each on what the ones before it have left. A step that
//! fails does not hide the others; those that need what it should have made say that they were not run, and count as
//! failed.

mod bench;
mod fault;
mod identity;
mod install;
mod load;
mod pilot_agent;
mod report;
mod rights;
mod scale;
mod sidecar;
mod traffic;

pub use bench::{Bench, Options};
pub use report::Report;

use crate::cluster::Unsupported;
use anyhow::Result;
use std::time::Instant;

/// A step: what it shows, and the work. The text it returns has its figures.
type Step = (&'static str, fn(&Bench) -> Result<String>);

/// What later steps cannot do without.
const FOUNDATIONS: usize = 4;

const STEPS: &[Step] = &[
    ("a cluster comes up, and takes the images", install::cluster),
    ("navarch installs itself, and is ready", install::navarch),
    ("Bookinfo is injected by the API server, and every pod is ready", install::bookinfo),
    ("the page is served through the ingress gateway's pod", traffic::page),
    ("pods are injected as Istio injects them", install::injected),
    ("a ProxyConfig reaches the pods that come after it", install::configured),
    ("STRICT: the mesh goes on, a plain-text client outside of it is refused", traffic::strict),
    ("kubectl apply of a VirtualService and a DestinationRule shifts traffic 100/0, 90/10, 50/50", traffic::shift),
    ("a ServiceEntry without addresses gets one of each family", traffic::allocated),
    ("an EnvoyFilter changes the gateway, and a wrong patch beside it nothing", traffic::patched),
    ("certificates rotate under load with no failed request", traffic::rotation),
    ("Istio's own pilot-agent joins the mesh, by delta and by state of the world", pilot_agent::connects),
    ("istiod is killed under load with no failed request", fault::killed),
    ("istiod is rolled under load with no failed request", fault::rolled),
    ("a sidecar drains: pods are rolled under load with no failed request", sidecar::drain),
    ("a sidecar answers the kubelet's probes under STRICT", sidecar::probes),
    ("a sidecar shows its own, Envoy's and the application's metrics", sidecar::metrics),
    ("a sidecar resolves made-up names, and no others", sidecar::dns),
    ("a sidecar that is no native one holds the application until it is ready", sidecar::hold),
    ("a sidecar ends with its Job", sidecar::job),
    ("a sidecar leaves excluded ports and ranges alone, by iptables and by nft", sidecar::capture),
    ("s03: tokens of another audience, of nobody, and of a deleted pod are refused", identity::tokens),
    (
        "s11 s12: a CSR for another identity, a weak key, garbage: refused, or issued for the caller alone",
        identity::requests,
    ),
    ("s15: a pod whose node lies about its labels gets what its own labels say", identity::liar),
    ("f01: the API server is away under load: no failed request, certificates go on", fault::apiserver),
    ("f30: two replicas make one root", fault::replicas),
    ("f36: with the webhook down pods of the mesh wait, istiod comes back by itself", fault::webhook),
    ("f37: a wrong VirtualService is refused by object, field and reason", rights::validated),
    ("s29: the root's ConfigMap is put right where it is edited or deleted", identity::roots),
    ("s46: istiod and the gateway pass the restricted Pod Security level", rights::restricted),
    ("s45: nothing was forbidden to navarch, and what it may do is what it does", rights::exact),
    ("uninstall leaves nothing of navarch but Istio's kinds", install::uninstalled),
];

/// A measurement of its own, in a cluster with nothing else in it.
const MEMORY: &[Step] = &[STEPS[0], STEPS[1], ("istiod's memory per pod", scale::memory)];

/// How many steps there are.
pub fn steps() -> usize {
    STEPS.len()
}

/// Runs everything, tells each step as it ends, and leaves no cluster unless it is asked to.
pub fn run(options: Options) -> Result<Report> {
    let bench = Bench::new(options)?;
    let mut report = Report::default();
    let only = bench.options.only.clone();
    let steps = if bench.options.pods.is_some() { MEMORY } else { STEPS };
    for (at, (name, step)) in steps.iter().enumerate() {
        let wanted = at < FOUNDATIONS || only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        if !wanted {
            report.left_out(name);
            continue;
        }
        if report.foundation_failed(FOUNDATIONS.min(at)) {
            report.not_run(name);
            continue;
        }
        let started = Instant::now();
        let outcome = step(&bench);
        // Where no cluster can be had nothing can be shown, which is no failure of what would be shown.
        if outcome.as_ref().is_err_and(|why| at == 0 && why.is::<Unsupported>()) {
            return outcome.map(|_| report);
        }
        report.step(name, started.elapsed(), outcome);
    }
    bench.end(report.failed());
    Ok(report)
}
