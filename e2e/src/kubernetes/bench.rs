//! The cluster under test, and the few words that all steps are written in.

use super::load::Load;
use crate::cluster::{Backend, Cluster, open};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Options {
    pub backend: Backend,
    /// Of the cluster; it is made for the run.
    pub name: String,
    /// Leave the cluster as it is at the end.
    pub keep: bool,
    /// Only steps whose names contain this, after those that everything stands on.
    pub only: Option<String>,
    /// How long the API server is away.
    pub outage: Duration,
    /// Instead of the steps: how istiod's memory grows with so many pods.
    pub pods: Option<usize>,
    /// The program, as cargo built it.
    pub navarch: PathBuf,
    /// Where logs go when something failed.
    pub logs: PathBuf,
}

pub struct Bench {
    pub options: Options,
    pub(super) cluster: Arc<dyn Cluster>,
    /// navarch without debug information, as it is in images.
    pub(super) program: PathBuf,
    pub(super) scratch: tempfile::TempDir,
}

/// For anything that a cluster does by itself.
pub(super) const LIMIT: Duration = Duration::from_secs(180);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

impl Bench {
    pub(super) fn new(options: Options) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let cluster = open(options.backend, &options.name)?.into();
        Ok(Self { cluster, program: scratch.path().join("navarch"), options, scratch })
    }

    /// `kubectl ARGUMENTS`: what it prints, or what it says is wrong.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.cluster.kubectl()?.args(arguments), None)
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[arguments, &["--output=json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    pub(super) fn apply(&self, yaml: &str) -> Result<String> {
        output(
            self.cluster.kubectl()?.args(["apply", "--server-side", "--force-conflicts", "--filename=-"]),
            Some(yaml),
        )
    }

    /// navarch, as a user calls it.
    pub(super) fn navarch(&self, arguments: &[&str]) -> Result<String> {
        output(self.cluster.command(&self.program)?.args(arguments), None)
    }

    /// The names of the pods that a selector finds and that are not being deleted.
    pub(super) fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
        let found = self.json(&["get", "pods", "--namespace", namespace, "--selector", selector])?;
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let stays = |it: &&Value| it["metadata"]["deletionTimestamp"].is_null();
        Ok(items.iter().filter(stays).map(Pod::of).collect())
    }

    pub(super) fn pod(&self, namespace: &str, selector: &str) -> Result<Pod> {
        let mut pods = self.pods(namespace, selector)?;
        pods.pop().with_context(|| format!("no pod {selector} in {namespace}"))
    }

    /// The address of the ingress gateway's pod, with the port of the example's Gateway.
    pub(super) fn ingress(&self) -> Result<String> {
        Ok(format!("{}:8080", self.pod("istio-system", "istio=ingressgateway")?.ip))
    }

    pub(super) fn load(&self) -> Result<Load> {
        Load::start(self.cluster.clone(), &format!("http://{}/productpage", self.ingress()?))
    }

    /// Until a Deployment is rolled out.
    pub(super) fn rolled_out(&self, namespace: &str, deployment: &str) -> Result<String> {
        let timeout = format!("--timeout={}s", LIMIT.as_secs());
        let name = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "status", &name, "--namespace", namespace, &timeout])
    }

    pub(super) fn end(&self, failed: usize) {
        if failed > 0 {
            match self.cluster.logs(&self.options.logs) {
                Ok(()) => eprintln!("kubernetes: logs are in {}", self.options.logs.display()),
                Err(why) => eprintln!("kubernetes: no logs: {why:#}"),
            }
        }
        if self.options.keep {
            eprintln!("kubernetes: the cluster {} stays; cargo xtask cluster down ends it", self.options.name);
        } else if let Err(why) = self.cluster.down() {
            eprintln!("kubernetes: {why:#}");
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) ip: String,
    pub(super) ready: bool,
    pub(super) restarts: u64,
    pub(super) object: Value,
}

impl Pod {
    fn of(object: &Value) -> Self {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let statuses = statuses.iter().filter_map(|it| object["status"][it].as_array()).flatten();
        Self {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            ip: text("/status/podIP"),
            ready: conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"),
            restarts: statuses.filter_map(|it| it["restartCount"].as_u64()).sum(),
            object: object.clone(),
        }
    }

    /// Names of containers and init containers.
    pub(super) fn containers(&self, list: &str) -> Vec<String> {
        let all = self.object["spec"][list].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
    }
}

/// Looks again and again until there is something, or the limit is over: then the last reason is the error.
pub(super) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let ends = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() >= ends => return Err(why.context(format!("{what}: not within {limit:?}"))),
            Err(_) => pause(LOOK),
        }
    }
}

/// Between two looks at something that tells nobody when it changes.
#[expect(clippy::disallowed_methods, reason = "the only place where the suite waits without an event")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// What a program printed.
pub(super) fn output(command: &mut Command, input: Option<&str>) -> Result<String> {
    let shown = format!("{command:?}");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| shown.clone())?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // Small enough for a pipe and its reader; a program that does not read says so itself.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let arguments = shown.chars().rev().take(200).collect::<String>().chars().rev().collect::<String>();
        bail!("…{arguments}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
