//! What is in which image.

use super::{Entry, Image, ImageError, Layer};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Before the slash in the names of navarch's own images.
pub const HUB: &str = "navarch";

/// Where the programs are that go into images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    pub navarch: PathBuf,
    pub envoy: PathBuf,
    /// `nft`, of the machine's package manager.
    pub nft: PathBuf,
    /// `xtables-nft-multi`: iptables that writes nftables' rules.
    pub xtables: PathBuf,
}

impl Programs {
    /// nft and iptables as found on `PATH` or where package managers put them.
    ///
    /// # Errors
    /// When one is missing.
    pub fn find(navarch: &Path, envoy: &Path) -> Result<Self, ImageError> {
        let find = |name: &str, package| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
            let mut places = folders.map(|folder| folder.join(name));
            places.find(|it| it.is_file()).ok_or_else(|| ImageError::Missing(name.to_owned(), package))
        };
        Ok(Self {
            navarch: navarch.to_owned(),
            envoy: envoy.to_owned(),
            nft: find("nft", "it comes with the package nftables")?,
            xtables: find("xtables-nft-multi", "it comes with the package iptables")?,
        })
    }
}

/// `navarch/pilot:0.1.0`
#[must_use]
pub fn reference(name: &str, tag: &str) -> String {
    format!("{HUB}/{name}:{tag}")
}

/// The control plane.
///
/// # Errors
/// When a program's libraries cannot be told.
pub fn pilot(programs: &Programs, tag: &str) -> Result<Image, ImageError> {
    let base = base(&programs.navarch)?;
    let own = Layer::default().program(NAVARCH, &programs.navarch).link("/usr/local/bin/pilot-discovery", "navarch");
    Ok(Image {
        references: vec![reference("pilot", tag)],
        entrypoint: vec!["/usr/local/bin/pilot-discovery".to_owned()],
        layers: vec![base, own],
        ..defaults("pilot", tag)
    })
}

/// What runs beside an application, before it (traffic capture), and as a gateway.
///
/// # Errors
/// When a program's libraries cannot be told.
pub fn proxy(programs: &Programs, tag: &str) -> Result<Image, ImageError> {
    let base = base(&programs.navarch)?;
    let mut tools = Layer::default().program("/usr/local/bin/envoy", &programs.envoy).libraries_of(&programs.envoy)?;
    tools = tools.program("/usr/sbin/nft", &programs.nft).libraries_of(&programs.nft)?;
    tools = tools.program("/usr/sbin/xtables-nft-multi", &programs.xtables).libraries_of(&programs.xtables)?;
    for name in XTABLES_NAMES {
        tools = tools.link(&format!("/usr/sbin/{name}"), "xtables-nft-multi");
    }
    let xtables = super::libraries(&programs.xtables)?;
    let modules = xtables.iter().find(|it| it.path.to_string_lossy().contains("/libxtables.so"));
    for module in modules.map(|it| extensions(&it.path)).unwrap_or_default() {
        tools = tools.with(&module, Entry::File { source: module.clone(), mode: 0o755 });
    }
    let own = Layer::default().program(NAVARCH, &programs.navarch).link("/usr/local/bin/pilot-agent", "navarch");
    let tools = tools.without(&base);
    Ok(Image {
        references: vec![reference("proxyv2", tag)],
        entrypoint: vec!["/usr/local/bin/pilot-agent".to_owned()],
        layers: vec![base, tools, own],
        ..defaults("proxyv2", tag)
    })
}

/// An application that is navarch itself, started with these arguments, under somebody's image name:
/// `app("docker.io/istio/examples-bookinfo-reviews-v1:1.20.3", navarch, &["service", "reviews"])`.
///
/// # Errors
/// When the program's libraries cannot be told.
pub fn app(reference: &str, navarch: &Path, arguments: &[&str]) -> Result<Image, ImageError> {
    Ok(Image {
        references: vec![reference.to_owned()],
        entrypoint: vec![NAVARCH.to_owned()],
        command: arguments.iter().map(|it| (*it).to_owned()).collect(),
        layers: vec![base(navarch)?, Layer::default().program(NAVARCH, navarch)],
        // Not the proxy's: what comes from that user is never captured, and would leave the pod in plain text.
        user: "1000:1000".to_owned(),
        ..defaults("app", "1")
    })
}

/// One static program and nothing else.
#[must_use]
pub fn static_program(reference: &str, program: &Path, arguments: &[&str]) -> Image {
    Image {
        references: vec![reference.to_owned()],
        entrypoint: vec!["/program".to_owned()],
        command: arguments.iter().map(|it| (*it).to_owned()).collect(),
        layers: vec![files().program("/program", program)],
        user: String::new(),
        ..defaults("program", "1")
    }
}

/// What holds a pod's namespaces, as `local/pause:1`.
#[must_use]
pub fn pause(program: &Path) -> Image {
    Image { user: "65535:65535".to_owned(), ..static_program("local/pause:1", program, &[]) }
}

/// The cluster's DNS, as `local/coredns:1`.
#[must_use]
pub fn coredns(program: &Path) -> Image {
    static_program("local/coredns:1", program, &[])
}

/// A copy without debug information; a plain copy where there is no `strip`.
///
/// # Errors
/// When it cannot be written.
pub fn stripped(program: &Path, to: &Path) -> Result<(), ImageError> {
    let stripped = Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(program).output();
    if stripped.is_ok_and(|it| it.status.success()) {
        return Ok(());
    }
    let copied = std::fs::copy(program, to);
    copied.map(|_| ()).map_err(|source| ImageError::File { path: program.to_owned(), source })
}

const NAVARCH: &str = "/usr/local/bin/navarch";

/// The names under which xtables-nft-multi is somebody else.
const XTABLES_NAMES: &[&str] = &[
    "iptables",
    "iptables-nft",
    "iptables-restore",
    "iptables-nft-restore",
    "iptables-save",
    "iptables-nft-save",
    "ip6tables",
    "ip6tables-nft",
    "ip6tables-restore",
    "ip6tables-nft-restore",
    "ip6tables-save",
    "ip6tables-nft-save",
];

/// Files that programs expect in any image.
fn files() -> Layer {
    Layer::default()
        .text(
            "/etc/passwd",
            "root:x:0:0:root:/:/bin/false\nistio-proxy:x:1337:1337::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
        )
        .text("/etc/group", "root:x:0:\nistio-proxy:x:1337:\nnogroup:x:65534:\n")
        .text("/etc/nsswitch.conf", "hosts: files dns\n")
        .with("/tmp", Entry::Folder { mode: 0o1777 })
}

/// Those, and what navarch needs to run; the same for all images, and so kept once by a node.
fn base(navarch: &Path) -> Result<Layer, ImageError> {
    let layer = files().libraries_of(navarch)?;
    let roots = CERTIFICATES.iter().map(Path::new).find(|it| it.is_file());
    Ok(match roots {
        Some(roots) => {
            let entry = Entry::File { source: roots.to_owned(), mode: 0o644 };
            layer.with("/etc/ssl/certs/ca-certificates.crt", entry)
        }
        None => layer,
    })
}

/// Where distributions keep the roots they trust.
const CERTIFICATES: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// iptables' matches and targets are libraries that it opens by name, from a folder compiled into libxtables.
fn extensions(libxtables: &Path) -> Vec<PathBuf> {
    let inside_usr = Path::new("/usr").join(libxtables.strip_prefix("/").unwrap_or(libxtables));
    let mut folders = [&inside_usr, libxtables].map(|it| it.with_file_name("xtables")).into_iter();
    let folder = folders.find_map(|it| std::fs::read_dir(it).ok());
    let mut found: Vec<PathBuf> = folder.into_iter().flatten().filter_map(|it| Some(it.ok()?.path())).collect();
    found.retain(|it| it.extension().is_some_and(|it| it == "so"));
    found.sort();
    found
}

fn defaults(title: &str, tag: &str) -> Image {
    Image {
        user: "1337:1337".to_owned(),
        labels: [("org.opencontainers.image.title", title), ("org.opencontainers.image.version", tag)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        environment: [("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned())]
            .into(),
        ..Image::default()
    }
}
