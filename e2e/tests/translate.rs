//! `navarch translate`: what an Envoy would get, offline, on the command line.

// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use e2e::navarch::program;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn translate(arguments: &[&str]) -> Output {
    let bookinfo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    Command::new(program()).arg("translate").arg(bookinfo).args(arguments).output().unwrap()
}

#[track_caller]
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_sidecar_is_shown_its_routes_in_both_notations() {
    let yaml = text(&translate(&["--proxy", "productpage-v1", "--type", "rds"]));
    assert!(yaml.contains("reviews.default.svc.cluster.local:9080"), "{yaml}");
    let json = text(&translate(&["--proxy", "productpage-v1", "--type", "rds", "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json.to_string().contains("outbound|9080|v1|reviews.default.svc.cluster.local"), "{json}");
    assert_eq!(crds::yaml::value(&yaml).unwrap(), json);
}

#[test]
fn every_type_is_shown_when_none_is_named_and_twice_the_same() {
    let [first, second] = [(), ()].map(|()| text(&translate(&["--proxy", "productpage-v1"])));
    for part in ["virtualOutbound", "BlackHoleCluster", "outbound|9080|v2|reviews", "clusterName"] {
        assert!(first.contains(part), "no {part} in {first}");
    }
    assert_eq!(first, second);
}

#[test]
fn a_proxy_that_is_not_there_is_an_error_that_names_it() {
    let output = translate(&["--proxy", "nobody"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nobody"), "{said}");
}

#[test]
fn the_tables_say_what_a_row_was_made_of() {
    let list = text(&translate(&["--proxy", "productpage-v1", "--tables"]));
    assert!(list.contains(" base_members\n") && list.contains(" virtual_hosts\n"), "{list}");
    let row = text(&translate(&["--proxy", "productpage-v1", "--tables", "base_members", "--row", "reviews"]));
    assert!(row.contains("  reads rules[") && row.contains("  read by virtual_hosts["), "{row}");
}

#[test]
fn mesh_config_comes_from_a_file_and_a_bad_field_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mesh.yaml");
    std::fs::write(&file, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\nconnectTimeout: soon\n").unwrap();
    let output = translate(&["--proxy", "productpage-v1", "--type", "rds", "--mesh-config", file.to_str().unwrap()]);
    let routes = text(&output);
    assert!(routes.contains("block_all") && !routes.contains("allow_any"), "{routes}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("connectTimeout") && said.contains("soon"), "{said}");
    let missing = translate(&["--proxy", "productpage-v1", "--mesh-config", "/nowhere/mesh.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/mesh.yaml"));
}
