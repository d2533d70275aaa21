//! The agent's bootstraps, before a real Envoy.

use std::path::Path;
use std::process::Command;

use controller::envoy::find::{self, Search};

#[test]
fn a_real_envoy_accepts_the_agents_bootstraps() {
    let envoy = find::find(&Search::from_environment(None)).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/bootstrap/testdata");
    for name in ["sidecar.json", "router.json"] {
        let output = Command::new(&envoy.path)
            .args(["--mode", "validate", "--log-level", "warn", "--config-path"])
            .arg(directory.join(name))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        // Deprecated fields and unknown runtime keys come as warnings.
        assert!(!said.contains("deprecated") && !said.contains("[warning]"), "{name}: {said}");
    }
}
