//! `navarch up --check`: does it really work on this machine? A copy of the folder is run, loaded through the ingress
//! Envoy, and edited under that load; what was observed is the verdict.

use super::laptop::PodKey;
use super::mesh::{Mesh, Options};
use super::status::Status;
use super::view::View;
use crate::load::{Load, Phase, Tally};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

/// Observed shares may differ from the weights by so many points.
const TOLERANCE: f64 = 3.0;

/// Weights of v1 and v2, and how many requests are counted. A share observed over n requests has a standard deviation
/// of √(p(1−p)/n); the tolerance of 3 points is to be four of them (a false alarm in 16,000 runs), so
/// n = p(1−p)/0.0075²: 1,600 at 10 %, 4,445 at 50 %. At 0 % one request elsewhere would be too many.
const PHASES: [(Weights, u64); 3] = [(Weights(100, 0), 500), (Weights(90, 10), 1_600), (Weights(50, 50), 4_450)];

/// More edits, for the distribution of times from the file's write to the last Envoy's ACK.
const FLIPS: usize = 20;

const START_MAX: Duration = Duration::from_secs(120);
const PHASE_MAX: Duration = Duration::from_secs(180);
const CONVERGENCE_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weights(u32, u32);

/// The last line of `--check --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub ok: bool,
    pub requests: u64,
    pub failed: u64,
    pub splits: Vec<Observed>,
    pub convergence_ms: Convergence,
    pub envoy: String,
    pub proxies: usize,
    pub nacks: u64,
    /// Why it is not ok.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Observed {
    pub wanted: BTreeMap<String, f64>,
    pub observed: BTreeMap<String, f64>,
    pub requests: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Convergence {
    pub p50: f64,
    pub max: f64,
    pub samples: usize,
}

/// What is wrong with the folder, as opposed to what is wrong with the mesh.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

/// Runs the check; `progress` is told each step.
pub async fn check(options: Options, stop: impl Future<Output = ()>, progress: impl Fn(&str)) -> Result<Verdict> {
    let copy = tempfile::Builder::new().prefix("navarch-check-").tempdir()?;
    copy_folder(&options.folder, copy.path())?;
    let rule = Rule::find(copy.path())?;
    rule.write(PHASES[0].0)?;
    let version = options.envoy.version.to_string();
    let mesh_options = Options { folder: copy.path().to_owned(), ..options };
    let (mesh, status) = Mesh::prepare(mesh_options, View::Silent).await?;
    let (end, ended) = oneshot::channel::<()>();
    let running = tokio::spawn(mesh.run(async { drop(ended.await) }));
    let measured = tokio::select! {
        measured = measure(&rule, status, &progress) => measured,
        () = stop => Err(anyhow::anyhow!("interrupted")),
    };
    drop(end);
    running.await??;
    Ok(measured?.verdict(version))
}

struct Measured {
    tally: Tally,
    phases: Vec<(Weights, Phase)>,
    times: Vec<Duration>,
    proxies: usize,
    nacks: u64,
    reasons: Vec<String>,
}

async fn measure(rule: &Rule, mut status: watch::Receiver<Status>, progress: &impl Fn(&str)) -> Result<Measured> {
    let started = Instant::now();
    let ready = async { status.wait_for(|it| it.ready && it.in_sync.is_some()).await.map(|it| it.clone()) };
    let Ok(ready) = timeout(START_MAX, ready).await else {
        bail!("the mesh is not ready after {} s: {}", START_MAX.as_secs(), unready(&status.borrow()))
    };
    let ready = ready.context("the mesh ended")?;
    progress(&format!("{} proxies are ready after {:.1} s", ready.workloads.len(), started.elapsed().as_secs_f32()));
    let ingress = ready.ingress.first().ok_or_else(|| Unfit("the folder has no Gateway to send requests to".into()))?;
    let load = Load::start(&format!("http://{ingress}/productpage"));
    let (mut phases, mut times, mut reasons) = (vec![], vec![], vec![]);
    for (index, (weights, count)) in PHASES.into_iter().enumerate() {
        if index > 0 {
            times.extend(edit(rule, weights, &mut status, &mut reasons).await?);
        }
        let Some(phase) = load.phase(count, PHASE_MAX).await else {
            let tally = load.tally();
            bail!(
                "{count} answers did not come within {} s: {} failed, {:?}",
                PHASE_MAX.as_secs(),
                tally.failed,
                tally.failures
            );
        };
        progress(&format!("weights {}/{}: {:?}", weights.0, weights.1, phase.answers));
        phases.push((weights, phase));
    }
    for flip in 0..FLIPS {
        let weights = if flip % 2 == 0 { Weights(60, 40) } else { Weights(50, 50) };
        times.extend(edit(rule, weights, &mut status, &mut reasons).await?);
    }
    let tally = load.stop().await;
    let nacks = status.borrow().nacks;
    Ok(Measured { tally, phases, times, proxies: ready.workloads.len(), nacks, reasons })
}

/// Writes the weights; returns how long it took until every Envoy had accepted them.
async fn edit(
    rule: &Rule,
    weights: Weights,
    status: &mut watch::Receiver<Status>,
    reasons: &mut Vec<String>,
) -> Result<Option<Duration>> {
    let before = status.borrow().folder_commits;
    let begun = Instant::now();
    rule.write(weights)?;
    let accepted = |it: &Status| it.folder_commits > before && it.in_sync.is_some_and(|at| at >= begun);
    match timeout(CONVERGENCE_MAX, status.wait_for(accepted)).await {
        Ok(status) => {
            let at = status.context("the mesh ended")?.in_sync.unwrap_or(begun);
            Ok(Some(at.duration_since(begun)))
        }
        Err(_) => {
            let Weights(v1, v2) = weights;
            reasons.push(format!("not every Envoy accepted {v1}/{v2} within {} s", CONVERGENCE_MAX.as_secs()));
            Ok(None)
        }
    }
}

fn unready(status: &Status) -> String {
    let state = |(key, it): (&PodKey, &super::status::Workload)| format!("{key} {:?} {:?}", it.state, it.nack);
    let all: Vec<String> = status.workloads.iter().map(state).collect();
    all.join("; ")
}

impl Measured {
    fn verdict(self, envoy: String) -> Verdict {
        let mut reasons = self.reasons;
        let mut splits = vec![];
        for (Weights(v1, v2), phase) in self.phases {
            let total: u64 = phase.answers.values().sum();
            // Pods are named after Deployments, and those after versions.
            let of = |subset: &str| {
                let of = phase.answers.iter().filter(|(pod, _)| pod.starts_with(&format!("reviews-{subset}-")));
                of.map(|(_, count)| count).sum::<u64>() as f64 * 100.0 / total.max(1) as f64
            };
            let wanted = BTreeMap::from([("v1".to_owned(), f64::from(v1)), ("v2".to_owned(), f64::from(v2))]);
            let observed: BTreeMap<String, f64> = wanted.keys().map(|it| (it.clone(), of(it))).collect();
            for (subset, wanted) in &wanted {
                if (observed[subset] - wanted).abs() > TOLERANCE {
                    reasons
                        .push(format!("{subset} had {:.1} % of {total} requests, wanted {wanted} %", observed[subset]));
                }
            }
            splits.push(Observed { wanted, observed, requests: total });
        }
        if self.tally.failed > 0 {
            reasons.push(format!("{} requests failed: {}", self.tally.failed, self.tally.failures.join("; ")));
        }
        if self.nacks > 0 {
            reasons.push(format!("{} NACKs", self.nacks));
        }
        Verdict {
            ok: reasons.is_empty(),
            requests: self.tally.requests,
            failed: self.tally.failed,
            splits,
            convergence_ms: convergence(self.times),
            envoy,
            proxies: self.proxies,
            nacks: self.nacks,
            reasons,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Convergence { p50, max, samples } = &self.convergence_ms;
        writeln!(f, "{} requests, {} failed, {} NACKs", self.requests, self.failed, self.nacks)?;
        for split in &self.splits {
            writeln!(f, "weights {:?}: observed {:.1?} of {} requests", split.wanted, split.observed, split.requests)?;
        }
        writeln!(f, "from saved file to last ACK: {p50} ms median, {max} ms at most, {samples} edits")?;
        write!(f, "{} proxies, Envoy {}: {}", self.proxies, self.envoy, if self.ok { "ok" } else { "NOT ok" })
    }
}

fn convergence(mut times: Vec<Duration>) -> Convergence {
    times.sort();
    let ms = |it: Option<&Duration>| it.map_or(0.0, |it| (it.as_secs_f64() * 10_000.0).round() / 10.0);
    Convergence { p50: ms(times.get(times.len() / 2)), max: ms(times.last()), samples: times.len() }
}

/// The file that rules the weights, and the lines of it that say them.
#[derive(Debug)]
struct Rule {
    file: PathBuf,
    lines: Vec<String>,
    v1: usize,
    v2: usize,
}

impl Rule {
    /// Edited as text, as a person would: comments and order stay.
    fn find(folder: &Path) -> Result<Self> {
        for entry in std::fs::read_dir(folder)? {
            let file = entry?.path();
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            if let Some(rule) = Self::read(file, &text) {
                return Ok(rule);
            }
        }
        let why = "--check edits the weights of subsets v1 and v2 in VirtualService reviews, as examples/bookinfo has it; \
                   the folder has no such lines";
        Err(Unfit(why.to_owned()).into())
    }

    fn read(file: PathBuf, text: &str) -> Option<Self> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (mut in_rule, mut subset, mut found) = (false, String::new(), BTreeMap::new());
        for (index, line) in lines.iter().enumerate() {
            let line = line.trim().trim_start_matches("- ");
            if line.starts_with("---") {
                in_rule = false;
            } else if line == "kind: VirtualService" {
                in_rule = true;
            } else if let Some(name) = line.strip_prefix("subset:") {
                subset = name.trim().to_owned();
            } else if in_rule && line.starts_with("weight:") {
                found.entry(subset.clone()).or_insert(index);
            }
        }
        Some(Self { file, v1: *found.get("v1")?, v2: *found.get("v2")?, lines })
    }

    /// In one step, as editors save: never half a file.
    fn write(&self, Weights(v1, v2): Weights) -> Result<()> {
        let mut lines = self.lines.clone();
        for (index, weight) in [(self.v1, v1), (self.v2, v2)] {
            let (before, _) = lines[index].split_once("weight:").context("the line says a weight")?;
            lines[index] = format!("{before}weight: {weight}");
        }
        let folder = self.file.parent().context("the file is in a folder")?;
        let mut fresh = tempfile::Builder::new().prefix(".navarch").suffix(".tmp").tempfile_in(folder)?;
        std::io::Write::write_all(&mut fresh, (lines.join("\n") + "\n").as_bytes())?;
        fresh.persist(&self.file)?;
        Ok(())
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            std::fs::create_dir(&target)?;
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bookinfo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo")
    }

    #[test]
    fn weights_are_edited_in_a_copy_and_nothing_else() {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&bookinfo(), copy.path()).unwrap();
        let rule = Rule::find(copy.path()).unwrap();
        let before = std::fs::read_to_string(&rule.file).unwrap();
        rule.write(Weights(90, 10)).unwrap();
        let after = std::fs::read_to_string(&rule.file).unwrap();
        let changed: Vec<_> =
            before.lines().zip(after.lines()).filter(|(a, b)| a != b).map(|(_, b)| b.trim()).collect();
        assert_eq!(changed, ["weight: 90", "weight: 10"]);
        assert_eq!(before.lines().count(), after.lines().count());
    }

    #[test]
    fn a_folder_without_those_weights_is_unfit() {
        let folder = tempfile::tempdir().unwrap();
        let why = Rule::find(folder.path()).unwrap_err();
        assert!(why.is::<Unfit>() && why.to_string().contains("VirtualService reviews"), "{why}");
    }

    fn measured(v1: u64, v2: u64) -> Measured {
        let answers = BTreeMap::from([("reviews-v1-0".to_owned(), v1), ("reviews-v2-0".to_owned(), v2)]);
        let phase = Phase { answers, ..Phase::default() };
        Measured {
            tally: Tally { requests: v1 + v2, ..Tally::default() },
            phases: vec![(Weights(90, 10), phase)],
            times: [30, 10, 20].map(Duration::from_millis).to_vec(),
            proxies: 7,
            nacks: 0,
            reasons: vec![],
        }
    }

    #[test]
    fn a_split_is_accepted_within_three_points() {
        assert!(measured(928, 72).verdict(String::new()).ok);
        let verdict = measured(931, 69).verdict(String::new());
        assert!(!verdict.ok && verdict.reasons[0].contains("93.1 %"), "{verdict:?}");
    }

    #[test]
    fn one_failed_request_or_one_nack_is_too_many() {
        let mut failed = measured(900, 100);
        failed.tally.failed = 1;
        assert!(!failed.verdict(String::new()).ok);
        let mut refused = measured(900, 100);
        refused.nacks = 1;
        assert!(!refused.verdict(String::new()).ok);
    }

    #[test]
    fn convergence_is_median_and_maximum() {
        let verdict = measured(900, 100).verdict("1.40.0".into());
        assert_eq!((verdict.convergence_ms.p50, verdict.convergence_ms.max), (20.0, 30.0));
        let json = serde_json::to_value(verdict).unwrap();
        for key in ["requests", "failed", "splits", "convergence_ms", "envoy", "proxies", "nacks"] {
            assert!(json.get(key).is_some(), "{key}");
        }
    }
}
