//! Istio's own pilot-agent, built out of its Go module, in an image beside stock Envoy: a second agent to test with that
//! nobody here has written. Nothing of it is in this repository but its version and its sums.

use crate::cluster::Progress;
use crate::cluster::program::{cache, go, once, run};
use anyhow::{Context, Result, ensure};
use deploy::image::{Entry, Image, Layer, Programs, proxy};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the image, for the annotation `sidecar.istio.io/proxyImage`.
pub const IMAGE: &str = "navarch-test/proxyv2-go:1";

/// What it says of itself: the release that its branch is becoming, and the commit that `e2e/pilot_agent/go.mod` pins.
pub const VERSION: &str = "1.31-alpha.eed52ebb66ad";

const MODULE: &str = "istio.io/istio";
const PACKAGE: &str = "istio.io/istio/pilot/cmd/pilot-agent";

/// As Istio builds its agent (`AGENT_TAGS` in its Makefile.core.mk).
const TAGS: &str = "agent,disable_pgv,grpcnotrace,retrynotrace";

/// What Istio's image has besides Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PilotAgent {
    pub program: PathBuf,
    /// What it makes Envoy's bootstrap of.
    pub template: PathBuf,
}

/// Finds it in the cache, or builds it there; the first time takes minutes.
///
/// # Errors
/// [`crate::cluster::Unsupported`] without Go and Python; else what failed.
pub fn install(progress: Progress<'_>) -> Result<PilotAgent> {
    let cache = cache()?;
    let folder = once(&cache, &format!("pilot-agent-{VERSION}"), |folder| {
        let go = go(&cache, progress)?;
        progress(&format!("building pilot-agent {VERSION} (once; minutes)"));
        run(build(&go, folder))?;
        let template = source(&go)?.join("tools/packaging/common/envoy_bootstrap.json");
        std::fs::copy(&template, folder.join(TEMPLATE)).with_context(|| template.display().to_string())?;
        Ok(())
    })?;
    Ok(PilotAgent { program: folder.join("pilot-agent"), template: folder.join(TEMPLATE) })
}

const TEMPLATE: &str = "envoy_bootstrap_tmpl.json";

/// navarch's own proxy image with the agent exchanged: the layers below are the same ones.
///
/// # Errors
/// When a program's libraries cannot be told.
pub fn image(agent: &PilotAgent, programs: &Programs) -> Result<Image> {
    let mut image = proxy(programs, "1")?;
    image.layers.pop().context("a proxy's image has layers")?;
    // Istio's Dockerfile.proxyv2 has them at the same places.
    let own = Layer::default().program("/usr/local/bin/pilot-agent", &agent.program).with(
        Path::new("/var/lib/istio/envoy").join(TEMPLATE),
        Entry::File { source: agent.template.clone(), mode: 0o644 },
    );
    image.layers.push(own);
    image.references = vec![IMAGE.to_owned()];
    Ok(image)
}

fn build(go: &Path, into: &Path) -> Command {
    let mut command = in_module(go);
    let flags = format!("-s -w -X {MODULE}/pkg/version.buildVersion={VERSION}");
    command.args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", TAGS, "-ldflags", &flags, "-o"]);
    command.arg(format!("{}/", into.display())).arg(PACKAGE);
    command
}

/// Where Go keeps the module's files.
fn source(go: &Path) -> Result<PathBuf> {
    let output = in_module(go).args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", MODULE]).output()?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !folder.is_empty(), "go list {MODULE}: {}", complaint.trim());
    Ok(folder.into())
}

fn in_module(go: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("pilot_agent"));
    command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "auto").env_remove("GOFLAGS");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_it_says_is_the_one_that_is_pinned() {
        let pins = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pilot_agent/go.mod")).unwrap();
        let pin = pins.lines().find(|line| line.trim_start().starts_with("istio.io/istio v")).unwrap();
        let commit = VERSION.rsplit('.').next().unwrap();
        assert!(pin.split_whitespace().nth(1).unwrap().ends_with(commit), "{pin}");
    }

    #[test]
    fn the_image_is_the_proxys_with_the_agent_exchanged() {
        // A static stand-in is not needed: what is in a layer is only read when it is written.
        let program = std::env::current_exe().unwrap();
        let it = || program.clone();
        let programs = Programs { navarch: it(), envoy: it(), nft: it(), xtables: it() };
        let agent = PilotAgent { program: it(), template: it() };
        let image = image(&agent, &programs).unwrap();
        let stock = proxy(&programs, "1").unwrap();
        assert_eq!(image.layers[..2], stock.layers[..2]);
        assert_eq!((image.entrypoint, image.user), (stock.entrypoint, stock.user));
        let own: Vec<_> = image.layers[2].entries().keys().map(|it| it.display().to_string()).collect();
        assert!(own.contains(&"usr/local/bin/pilot-agent".to_owned()), "{own:?}");
        assert!(own.contains(&"var/lib/istio/envoy/envoy_bootstrap_tmpl.json".to_owned()), "{own:?}");
        assert!(!own.contains(&"usr/local/bin/navarch".to_owned()), "{own:?}");
    }
}
