//! Bootstraps as files, to be read in review: `UPDATE=1 cargo test -p agent bootstrap` writes them.

use std::path::Path;

use super::*;
use crate::environment::Role;
use crate::environment::tests::environment;

const SOCKETS: Sockets<'_> =
    Sockets { secrets: "./var/run/secrets/workload-spiffe-uds/socket", discovery: "./etc/istio/proxy/XDS" };

#[test]
fn bootstraps_are_what_the_files_say() {
    let labels = [("./etc/istio/pod/labels", "app=\"reviews\"\nversion=\"v1\"\n")];
    let settings = [
        ("INSTANCE_IP", "fd00::5"),
        ("ISTIO_META_INSTANCE_IPS", "fd00::5,10.0.0.5"),
        ("ISTIO_DELTA_XDS", "false"),
        (
            "PROXY_CONFIG",
            "{\"runtimeValues\":{\"a.b\":\"5\",\"c\":\"text\",\"envoy.reloadable_features.http_reject_path_with_fragment\":\"\",\"overload.global_downstream_max_connections\":\"100\"},\"extraStatTags\":[\"mine\",\"(\"],\"proxyStatsMatcher\":{\"inclusionPrefixes\":[\"upstream\"]}}",
        ),
    ];
    for (name, environment) in
        [("sidecar", environment(Role::Sidecar, &[], &labels)), ("router", environment(Role::Router, &settings, &[]))]
    {
        let bootstrap = bootstrap(&environment.unwrap(), SOCKETS);
        let text = format!("{}\n", serde_json::to_string_pretty(&bootstrap).unwrap());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/bootstrap/testdata/{name}.json"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE=1 writes {}", path.display());
    }
}
