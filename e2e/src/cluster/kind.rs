//! The backend for machines with Docker: `kind` and `docker` do the work.

use super::plan::Name;
use super::process::wait_until;
use super::program::{find, run};
use super::{Cluster, Progress, State, Status, Unsupported};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Kind {
    name: Name,
    /// kubeconfig, audit policy and log; mounted into the node.
    folder: PathBuf,
}

const READY_MAX: Duration = Duration::from_secs(120);
const AUDIT_POLICY: &str = include_str!("../../cluster/template/audit-policy.yaml");

/// Where the node sees the cluster's folder.
const FOLDER_IN_NODE: &str = "/navarch";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const MANIFEST_AWAY: &str = "/etc/kubernetes/kube-apiserver.yaml.stopped";

impl Kind {
    /// # Errors
    /// When there is no folder for what belongs to it.
    pub fn new(name: Name) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|it| it.join(".local/state")));
        let state = state.context("neither XDG_STATE_HOME nor HOME is set")?;
        Ok(Self { folder: state.join("navarch").join(format!("kind-{name}")), name })
    }

    /// With the one node's programs and the API server's audit log where a test can read it.
    #[must_use]
    pub fn config(&self) -> String {
        let folder = self.folder.display();
        format!(
            "kind: Cluster\n\
             apiVersion: kind.x-k8s.io/v1alpha4\n\
             networking: {{podSubnet: 10.244.0.0/16, serviceSubnet: {SERVICES}, kubeProxyMode: nftables}}\n\
             nodes:\n\
             - role: control-plane\n\
             \x20 extraMounts: [{{hostPath: {folder:?}, containerPath: {FOLDER_IN_NODE}}}]\n\
             \x20 kubeadmConfigPatches:\n\
             \x20 - |\n\
             \x20   kind: ClusterConfiguration\n\
             \x20   apiServer:\n\
             \x20     extraArgs:\n\
             \x20     - {{name: audit-policy-file, value: {FOLDER_IN_NODE}/audit-policy.yaml}}\n\
             \x20     - {{name: audit-log-path, value: {FOLDER_IN_NODE}/audit.log}}\n\
             \x20     - {{name: audit-log-maxsize, value: \"4096\"}}\n\
             \x20     extraVolumes:\n\
             \x20     - {{name: navarch, hostPath: {FOLDER_IN_NODE}, mountPath: {FOLDER_IN_NODE}}}\n"
        )
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("kind.yaml")
    }

    fn node(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    #[must_use]
    pub fn create_arguments(&self) -> Vec<String> {
        let (config, kubeconfig) = (self.config_file(), self.folder.join("kubeconfig.host"));
        let [config, kubeconfig] = [config, kubeconfig].map(|it| it.display().to_string());
        words(&["create", "cluster", "--name", self.name.as_str(), "--config", &config, "--kubeconfig", &kubeconfig])
            .into_iter()
            .chain(words(&["--wait", "120s"]))
            .collect()
    }

    #[must_use]
    pub fn delete_arguments(&self) -> Vec<String> {
        let kubeconfig = self.folder.join("kubeconfig.host").display().to_string();
        words(&["delete", "cluster", "--name", self.name.as_str(), "--kubeconfig", &kubeconfig])
    }

    #[must_use]
    pub fn load_arguments(&self, tar: &Path) -> Vec<String> {
        words(&["load", "image-archive", &tar.display().to_string(), "--name", self.name.as_str()])
    }

    #[must_use]
    pub fn logs_arguments(&self, into: &Path) -> Vec<String> {
        words(&["export", "logs", &into.display().to_string(), "--name", self.name.as_str()])
    }

    /// The API server is a static pod: without its manifest the kubelet ends it.
    #[must_use]
    pub fn apiserver_arguments(&self, from: &str, to: &str) -> Vec<String> {
        words(&["exec", &self.node(), "mv", from, to])
    }

    /// The id of the node's first process: the network namespace in which tests' clients run.
    #[must_use]
    pub fn pid_arguments(&self) -> Vec<String> {
        words(&["inspect", "--format", "{{.State.Pid}}", &self.node()])
    }

    /// `kind` and a Docker that answers.
    fn check() -> Result<()> {
        for program in ["kind", "docker"] {
            if find(program).is_none() {
                bail!(Unsupported(format!("the kind backend needs the program {program}; try --backend local")));
            }
        }
        let output = Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]).output()?;
        explain_docker(output.status.success(), &String::from_utf8_lossy(&output.stderr))
    }

    fn kind(&self, arguments: &[String]) -> Result<()> {
        let mut command = Command::new("kind");
        command.args(arguments);
        run(command).with_context(|| format!("cluster {}", self.name))
    }

    fn docker(&self, arguments: &[String]) -> Result<()> {
        let mut command = Command::new("docker");
        command.args(arguments);
        run(command).with_context(|| format!("cluster {}", self.name))
    }

    fn pid(&self) -> Result<u32> {
        let output = Command::new("docker").args(self.pid_arguments()).output().context("docker inspect")?;
        parse_pid(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("cluster {} is not up", self.name))
    }

    fn exists(&self) -> Result<bool> {
        let output = Command::new("kind").args(["get", "clusters"]).output().context("kind get clusters")?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().any(|it| it.trim() == self.name.as_str()))
    }

    fn is_ready(&self) -> bool {
        let kubectl = self.kubectl().map(|mut it| {
            it.args(["get", "--raw", "/readyz"]).stdin(Stdio::null()).stderr(Stdio::null());
            it
        });
        kubectl.ok().and_then(|mut it| it.output().ok()).is_some_and(|it| it.stdout == b"ok")
    }

    fn until_ready(&self) -> Result<()> {
        if !wait_until(READY_MAX, || self.is_ready()) {
            bail!("the API server of cluster {} is not ready within {READY_MAX:?}", self.name);
        }
        Ok(())
    }
}

const SERVICES: &str = "10.96.0.0/16";

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|it| (*it).to_owned()).collect()
}

fn explain_docker(answers: bool, stderr: &str) -> Result<()> {
    if answers {
        return Ok(());
    }
    let why = stderr.trim().lines().last().unwrap_or("no reason given").to_owned();
    bail!(Unsupported(format!("the kind backend needs a Docker that answers: {why}; try --backend local")))
}

/// Docker says 0 of a container that does not run.
fn parse_pid(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|it| *it > 0)
}

/// The address of `kind get kubeconfig` is one of the machine; inside the node's network the server is on loopback.
fn inside_the_node(kubeconfig: &str) -> String {
    let lines = kubeconfig.lines().map(|line| match line.split_once("server: ") {
        Some((indent, _)) => format!("{indent}server: https://127.0.0.1:6443"),
        None => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

impl Cluster for Kind {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn up(&self, progress: Progress<'_>) -> Result<()> {
        Self::check()?;
        match self.status()?.state {
            State::Running => {
                progress("is up already");
                return Ok(());
            }
            State::Broken => {
                progress("cleaning up what a run before left");
                self.down()?;
            }
            State::Absent => {}
        }
        std::fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        std::fs::write(self.folder.join("audit-policy.yaml"), AUDIT_POLICY)?;
        std::fs::write(self.config_file(), self.config())?;
        progress("kind create cluster");
        self.kind(&self.create_arguments())?;
        let kubeconfig = std::fs::read_to_string(self.folder.join("kubeconfig.host"))?;
        std::fs::write(self.folder.join("kubeconfig"), inside_the_node(&kubeconfig))?;
        self.until_ready()
    }

    fn down(&self) -> Result<()> {
        Self::check()?;
        self.kind(&self.delete_arguments())?;
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        }
        Ok(())
    }

    fn status(&self) -> Result<Status> {
        Self::check()?;
        let (exists, node) = (self.exists()?, self.pid().is_ok());
        let ready = node && self.is_ready();
        let state = match (exists || self.folder.exists(), ready) {
            (false, _) => State::Absent,
            (true, true) => State::Running,
            (true, false) => State::Broken,
        };
        let components = BTreeMap::from([(self.node(), node), ("kube-apiserver".to_owned(), ready)]);
        Ok(Status { state, components })
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        let path = self.folder.join("kubeconfig");
        if !path.is_file() {
            bail!("cluster {} is not up", self.name);
        }
        Ok(path)
    }

    fn load_image(&self, tar: &Path) -> Result<()> {
        self.kind(&self.load_arguments(tar))
    }

    fn command(&self, program: &Path) -> Result<Command> {
        if !rustix::process::geteuid().is_root() {
            bail!(Unsupported("entering the network of kind's node needs root".to_owned()));
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()?)).arg("--").arg(program);
        command.env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    fn kubectl(&self) -> Result<Command> {
        let kubectl = find("kubectl").ok_or_else(|| Unsupported("the program kubectl is missing".to_owned()))?;
        self.command(&kubectl)
    }

    fn inside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        super::kernel::inside(File::open(format!("/proc/{}/ns/net", self.pid()?))?, work)
    }

    fn logs(&self, into: &Path) -> Result<()> {
        std::fs::create_dir_all(into)?;
        self.kind(&self.logs_arguments(into))?;
        if self.audit_log().exists() {
            std::fs::copy(self.audit_log(), into.join("audit.log"))?;
        }
        Ok(())
    }

    fn stop_apiserver(&self) -> Result<()> {
        self.docker(&self.apiserver_arguments(MANIFEST, MANIFEST_AWAY))?;
        if !wait_until(READY_MAX, || !self.is_ready()) {
            bail!("kube-apiserver does not end");
        }
        Ok(())
    }

    fn start_apiserver(&self) -> Result<()> {
        self.docker(&self.apiserver_arguments(MANIFEST_AWAY, MANIFEST))?;
        self.until_ready()
    }

    fn nodes(&self) -> Result<Vec<String>> {
        self.kubeconfig().map(|_| vec![self.node()])
    }

    fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn dns(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, 0, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Kind {
        Kind { name: Name::parse("mesh").unwrap(), folder: "/state/kind-mesh".into() }
    }

    #[test]
    fn what_kind_and_docker_are_asked() {
        let line = |arguments: Vec<String>| arguments.join(" ");
        assert_eq!(
            line(kind().create_arguments()),
            "create cluster --name mesh --config /state/kind-mesh/kind.yaml --kubeconfig \
             /state/kind-mesh/kubeconfig.host --wait 120s"
        );
        assert_eq!(
            line(kind().delete_arguments()),
            "delete cluster --name mesh --kubeconfig /state/kind-mesh/kubeconfig.host"
        );
        assert_eq!(line(kind().load_arguments(Path::new("x.tar"))), "load image-archive x.tar --name mesh");
        assert_eq!(line(kind().logs_arguments(Path::new("out"))), "export logs out --name mesh");
        assert_eq!(line(kind().pid_arguments()), "inspect --format {{.State.Pid}} mesh-control-plane");
        assert_eq!(
            line(kind().apiserver_arguments(MANIFEST, MANIFEST_AWAY)),
            "exec mesh-control-plane mv /etc/kubernetes/manifests/kube-apiserver.yaml \
             /etc/kubernetes/kube-apiserver.yaml.stopped"
        );
    }

    #[test]
    fn the_configuration_is_yaml_with_an_audit_log_in_the_mounted_folder() {
        let text = kind().config();
        assert!(text.contains("\n- role: control-plane\n  extraMounts: [{hostPath: \"/state/kind-mesh\", "), "{text}");
        assert!(text.contains("\n      - {name: audit-log-path, value: /navarch/audit.log}\n"), "{text}");
        assert!(text.contains("serviceSubnet: 10.96.0.0/16, kubeProxyMode: nftables"), "{text}");
    }

    #[test]
    fn a_docker_that_does_not_answer_is_unsupported_with_its_own_words() {
        let error =
            explain_docker(false, "Client: 28\nCannot connect to the Docker daemon. Is it running?\n").unwrap_err();
        let Unsupported(why) = error.downcast_ref().unwrap();
        assert!(why.contains("Is it running?") && why.contains("--backend local"), "{why}");
        assert!(explain_docker(true, "").is_ok());
    }

    #[test]
    fn a_node_that_does_not_run_has_no_process() {
        assert_eq!([parse_pid("4711\n"), parse_pid("0\n"), parse_pid("")], [Some(4711), None, None]);
    }

    #[test]
    fn inside_the_node_the_server_is_on_loopback() {
        let text = "clusters:\n- cluster:\n    server: https://127.0.0.1:35123\n  name: kind-mesh\n";
        assert_eq!(
            inside_the_node(text),
            "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: kind-mesh\n"
        );
    }
}
