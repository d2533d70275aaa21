//! The backend without Docker: every component a process of this machine, in the cluster's own namespaces.

use super::config::{AUDIT_LOG, Settings};
use super::lock::Lock;
use super::plan::{Addresses, Name};
use super::process::{RECORDED, Record, wait_until};
use super::program::{self, LINES_SHOWN, Programs};
use super::{Cluster, Progress, State, Status, certificate, kernel};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// All clusters of the machine; a folder each.
const ROOT: &str = "/var/lib/navarch";

/// Not below a temporary folder: sockets' paths are short here, and images do not fill memory.
#[derive(Clone, Debug)]
pub struct Local {
    name: Name,
    root: PathBuf,
}

/// What runs, in the order of starting.
const COMPONENTS: &[&str] =
    &["etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

const READY_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(15);

impl Local {
    /// # Errors
    /// Never yet.
    pub fn new(name: Name) -> Result<Self> {
        Ok(Self::below(Path::new(ROOT), name))
    }

    /// With another folder for all clusters.
    #[must_use]
    pub fn below(root: &Path, name: Name) -> Self {
        Self { name, root: root.to_owned() }
    }

    /// Of everything that this cluster has on disk.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join(self.name.as_str())
    }

    fn node(&self) -> String {
        format!("{}-node", self.name)
    }

    fn cgroup(&self) -> String {
        format!("navarch-{}", self.name)
    }

    fn record_file(&self, component: &str) -> PathBuf {
        self.folder().join("pids").join(component)
    }

    fn record(&self, component: &str) -> Option<Record> {
        Record::read(&self.record_file(component)).filter(Record::is_alive)
    }

    /// The process that is 1 inside.
    fn first(&self) -> Result<Record> {
        let holder = self.record(HOLDER).with_context(|| format!("cluster {} is not up", self.name))?;
        kernel::first_inside(&holder).with_context(|| format!("cluster {} is not up", self.name))
    }

    fn addresses(&self) -> Option<Addresses> {
        Addresses::of_index(std::fs::read_to_string(self.folder().join(INDEX)).ok()?.trim().parse().ok()?)
    }

    /// Waits for others that bring the same cluster up or down.
    fn lock(&self) -> Result<Lock> {
        std::fs::create_dir_all(&self.root).with_context(|| self.root.display().to_string())?;
        Lock::take(&self.root.join(format!(".{}.lock", self.name)))
    }

    /// Takes addresses that no other cluster of this machine has; the folder's existence is the claim.
    fn claim(&self) -> Result<Addresses> {
        let _lock = Lock::take(&self.root.join(".lock"))?;
        let names = std::fs::read_dir(&self.root)?.filter_map(|it| it.ok()?.file_name().into_string().ok());
        let others = names.filter_map(|name| Name::parse(&name).ok()).map(|name| Self::below(&self.root, name));
        let taken: BTreeSet<u8> = others.filter_map(|it| it.addresses()).map(Addresses::index).collect();
        let addresses = Addresses::first_free(&taken)?;
        std::fs::create_dir(self.folder()).with_context(|| self.folder().display().to_string())?;
        std::fs::write(self.folder().join(INDEX), addresses.index().to_string())?;
        Ok(addresses)
    }

    fn prepare(&self, programs: &Programs) -> Result<Settings> {
        let settings = Settings {
            addresses: self.claim()?,
            folder: self.folder(),
            node: self.node(),
            cgroup: self.cgroup(),
            runc: programs.runc.clone(),
            cni: programs.cni.clone(),
        };
        for folder in ["pids", "logs", "certificates", "cni", "tunables", "kubelet", "var-log", "opt"] {
            std::fs::create_dir(self.folder().join(folder))?;
        }
        for (name, text) in settings.files() {
            std::fs::write(self.folder().join(&name), text).with_context(|| name.clone())?;
        }
        certificate::write(&self.folder().join("certificates"), settings.addresses, &settings.node)?;
        std::fs::write(self.folder().join(KUBECTL), programs.kubernetes.join("kubectl").display().to_string())?;
        std::fs::write(self.folder().join(CTR), programs.containerd.join("ctr").display().to_string())?;
        kernel::make_cgroups(&settings.cgroup)?;
        Ok(settings)
    }

    fn hold(&self, settings: &Settings, programs: &Programs) -> Result<()> {
        let script = self.folder().join("namespace.sh");
        let mut arguments: Vec<String> = kernel::UNSHARE.iter().map(|it| (*it).to_owned()).collect();
        arguments.extend(["sh".to_owned(), script.display().to_string(), self.folder().display().to_string()]);
        arguments.extend([settings.node.clone(), settings.addresses.node().to_string()]);
        arguments.push(programs.pause.display().to_string());
        self.spawn(HOLDER, Path::new("unshare"), &arguments, &[])?;
        let ready = self.folder().join("namespace.ready");
        self.until("its namespaces are made", &[HOLDER], || ready.exists())
    }

    /// Starts a component inside. It outlives us.
    fn start(&self, component: &str, program: &Path, arguments: &[String], path: &[&Path]) -> Result<()> {
        let inside = self.first()?;
        let mut all = vec![format!("--target={}", inside.pid)];
        all.extend(kernel::ENTER.iter().map(|it| (*it).to_owned()));
        all.extend(["--".to_owned(), program.display().to_string()]);
        all.extend_from_slice(arguments);
        self.spawn(component, Path::new("nsenter"), &all, path)
    }

    fn spawn(&self, component: &str, program: &Path, arguments: &[String], path: &[&Path]) -> Result<()> {
        let log = self.folder().join("logs").join(format!("{component}.log"));
        let log = File::options().create(true).append(true).open(log)?;
        let record = self.record_file(component);
        std::fs::remove_file(&record).ok();
        let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new);
        let path = std::env::join_paths(path.iter().chain(&system))?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(RECORDED).arg(&record).arg(program).args(arguments);
        command.env_clear().env("PATH", path).env("HOME", self.folder()).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {component}"))?;
        // Or it would stay a zombie as long as we run.
        std::thread::spawn(move || child.wait());
        if !wait_until(STOP_MAX, || Record::read(&record).is_some()) {
            bail!("{component} did not start:\n{}", self.last_lines(component));
        }
        Ok(())
    }

    fn start_all(&self, settings: &Settings, programs: &Programs, progress: Progress<'_>) -> Result<()> {
        let kubernetes = |name: &str| programs.kubernetes.join(name);
        progress("etcd, kube-apiserver, containerd");
        self.start("etcd", &programs.etcd, &settings.etcd(), &[])?;
        self.start_kube_apiserver(settings)?;
        let runc = programs.runc.parent().unwrap_or_else(|| Path::new("/usr/sbin"));
        let path = [programs.containerd.as_path(), runc];
        self.start("containerd", &programs.containerd.join("containerd"), &settings.containerd(), &path)?;
        for image in &programs.images {
            self.until_imported(image)?;
        }
        self.until_apiserver_is_ready()?;
        progress("kube-controller-manager, kube-scheduler, kubelet, kube-proxy");
        let name = "kube-controller-manager";
        self.start(name, &kubernetes(name), &settings.controller_manager(), &[])?;
        self.start("kube-scheduler", &kubernetes("kube-scheduler"), &settings.scheduler(), &[])?;
        self.start("kubelet", &kubernetes("kubelet"), &settings.kubelet(), &[])?;
        self.start("kube-proxy", &kubernetes("kube-proxy"), &settings.kube_proxy(), &[])?;
        let mut apply = self.kubectl()?;
        apply.args(["apply", "--filename"]).arg(self.folder().join("coredns.yaml"));
        program::run(apply)?;
        progress("waiting for the node and its DNS");
        let get = |arguments: &[&str]| self.kubectl_says(arguments);
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        self.until("the node is ready", COMPONENTS, || get(&["get", "node", &self.node(), "-o", ready]) == "True")?;
        let dns = ["get", "deployment", "coredns", "-n", "kube-system", "-o", "jsonpath={.status.readyReplicas}"];
        self.until("CoreDNS is ready", COMPONENTS, || get(&dns) == "1")
    }

    fn start_kube_apiserver(&self, settings: &Settings) -> Result<()> {
        let kubectl = std::fs::read_to_string(self.folder().join(KUBECTL))?;
        let program = Path::new(&kubectl).with_file_name("kube-apiserver");
        self.start("kube-apiserver", &program, &settings.apiserver(), &[])
    }

    fn until_apiserver_is_ready(&self) -> Result<()> {
        let is_ready = || self.kubectl_says(&["get", "--raw", "/readyz"]) == "ok";
        self.until("the API server is ready", &["etcd", "kube-apiserver"], is_ready)
    }

    fn until_imported(&self, image: &Path) -> Result<()> {
        let socket = self.folder().join("containerd.sock");
        self.until("containerd answers", &["containerd"], || {
            socket.exists() && self.ctr(&["version"]).is_ok_and(|it| program::run(it).is_ok())
        })?;
        self.load_image(image)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Command> {
        let ctr = std::fs::read_to_string(self.folder().join(CTR));
        let mut command = Command::new(ctr.with_context(|| format!("cluster {} is not up", self.name))?);
        command.arg("--address").arg(self.folder().join("containerd.sock")).args(["--namespace", "k8s.io"]);
        command.args(arguments);
        Ok(command)
    }

    fn kubectl_says(&self, arguments: &[&str]) -> String {
        let output = self.kubectl().ok().and_then(|mut it| it.args(arguments).stdin(Stdio::null()).output().ok());
        output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// Waits while these components live.
    fn until(&self, what: &str, components: &[&str], mut is_so: impl FnMut() -> bool) -> Result<()> {
        let mut dead = None;
        let happened = wait_until(READY_MAX, || {
            if is_so() {
                return true;
            }
            dead = components.iter().find(|it| self.record(it).is_none());
            dead.is_some()
        });
        match dead {
            Some(dead) => bail!("{dead} ended before {what}:\n{}", self.last_lines(dead)),
            None if happened => Ok(()),
            None => {
                let last = components.last().copied().unwrap_or_default();
                bail!("not within {READY_MAX:?}: {what}; {last} said last:\n{}", self.last_lines(last))
            }
        }
    }

    fn last_lines(&self, component: &str) -> String {
        let path = self.folder().join("logs").join(format!("{component}.log"));
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// Whatever a run left, whole or in the middle of something.
    fn clean(&self) -> Result<()> {
        // One that is alive by its record, be it or not that its first process came to be.
        if let Some(holder) = self.record(HOLDER) {
            kernel::end(&holder)?;
        }
        for component in COMPONENTS {
            // They end with what they started; one that had not entered the namespaces yet is told.
            let Some(record) = self.record(component) else { continue };
            if !record.wait(Duration::from_secs(2)) {
                record.signal(Signal::KILL)?;
            }
            if !record.wait(STOP_MAX) {
                bail!("{component} (process {}) does not end", record.pid);
            }
        }
        kernel::remove_cgroups(&self.cgroup())?;
        let gone = || std::fs::remove_dir_all(self.folder()).is_ok() || !self.folder().exists();
        // The kernel takes mounts away a moment after the last process.
        if !wait_until(STOP_MAX, gone) {
            bail!("{} cannot be removed", self.folder().display());
        }
        Ok(())
    }
}

const HOLDER: &str = "namespaces";
const INDEX: &str = "index";
const KUBECTL: &str = "kubectl.path";
const CTR: &str = "ctr.path";

impl Cluster for Local {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn up(&self, progress: Progress<'_>) -> Result<()> {
        kernel::check()?;
        let programs = program::install(progress)?;
        let _lock = self.lock()?;
        match self.status()?.state {
            State::Running => {
                progress("is up already");
                return Ok(());
            }
            State::Broken => progress("cleaning up what a run before left"),
            State::Absent => {}
        }
        self.clean()?;
        progress("namespaces, certificates, configuration");
        let settings = self.prepare(&programs)?;
        self.hold(&settings, &programs)?;
        self.start_all(&settings, &programs, progress)?;
        Ok(std::fs::write(self.folder().join("up"), "")?)
    }

    fn down(&self) -> Result<()> {
        if !self.folder().exists() {
            return Ok(());
        }
        kernel::check()?;
        {
            let _lock = self.lock()?;
            self.clean()?;
        }
        // Stays when there are others.
        std::fs::remove_dir(&self.root).ok();
        Ok(())
    }

    fn status(&self) -> Result<Status> {
        let components: BTreeMap<String, bool> =
            COMPONENTS.iter().map(|it| ((*it).to_owned(), self.record(it).is_some())).collect();
        let is_up = self.folder().join("up").exists() && self.first().is_ok();
        let state = match (self.folder().exists(), is_up && components.values().all(|it| *it)) {
            (false, _) => State::Absent,
            (true, true) => State::Running,
            (true, false) => State::Broken,
        };
        Ok(Status { state, components })
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        let path = self.folder().join("admin.kubeconfig");
        if !path.is_file() {
            bail!("cluster {} is not up", self.name);
        }
        Ok(path)
    }

    fn load_image(&self, tar: &Path) -> Result<()> {
        let mut import = self.ctr(&["images", "import"])?;
        import.arg(tar);
        program::run(import).with_context(|| format!("loading {}", tar.display()))
    }

    fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.first()?.pid)).arg("--").arg(program);
        command.env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    fn kubectl(&self) -> Result<Command> {
        let kubectl = std::fs::read_to_string(self.folder().join(KUBECTL));
        self.command(Path::new(&kubectl.with_context(|| format!("cluster {} is not up", self.name))?))
    }

    fn inside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        kernel::inside(File::open(format!("/proc/{}/ns/net", self.first()?.pid))?, work)
    }

    fn logs(&self, into: &Path) -> Result<()> {
        std::fs::create_dir_all(into)?;
        for entry in std::fs::read_dir(self.folder().join("logs"))?.filter_map(Result::ok) {
            std::fs::copy(entry.path(), into.join(entry.file_name()))?;
        }
        // NAMESPACE_POD_UID/CONTAINER/RESTARTS.log
        copy_folder(&self.folder().join("var-log/pods"), &into.join("pods"))?;
        for (file, arguments) in [
            ("pods.txt", &["get", "pods", "--all-namespaces", "--output=wide"][..]),
            ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
            ("nodes.yaml", &["get", "nodes", "--output=yaml"]),
        ] {
            std::fs::write(into.join(file), self.kubectl_says(arguments))?;
        }
        Ok(())
    }

    fn stop_apiserver(&self) -> Result<()> {
        let outer = self.record("kube-apiserver").context("kube-apiserver does not run")?;
        // The recorded process waits for its child, which is the program.
        for program in outer.children() {
            program.signal(Signal::TERM)?;
            if !program.wait(STOP_MAX) {
                program.signal(Signal::KILL)?;
            }
        }
        if !outer.wait(STOP_MAX) {
            bail!("kube-apiserver (process {}) does not end", outer.pid);
        }
        Ok(())
    }

    fn start_apiserver(&self) -> Result<()> {
        let settings = Settings {
            addresses: self.addresses().with_context(|| format!("cluster {} is not up", self.name))?,
            folder: self.folder(),
            node: self.node(),
            cgroup: self.cgroup(),
            runc: PathBuf::new(),
            cni: PathBuf::new(),
        };
        if self.record("kube-apiserver").is_none() {
            self.start_kube_apiserver(&settings)?;
        }
        self.until_apiserver_is_ready()
    }

    fn nodes(&self) -> Result<Vec<String>> {
        self.kubeconfig().map(|_| vec![self.node()])
    }

    fn audit_log(&self) -> PathBuf {
        self.folder().join(AUDIT_LOG)
    }

    fn dns(&self) -> Ipv4Addr {
        self.addresses().map_or(Ipv4Addr::UNSPECIFIED, Addresses::dns)
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).into_iter().flatten().filter_map(Result::ok) {
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_folder(&entry.path(), &target)?,
            kind if kind.is_file() => _ = std::fs::copy(entry.path(), target)?,
            _ => {}
        }
    }
    Ok(())
}
