//! The definitions: the generated file is the table's, and holds everything that Istio's does.

use deploy::{crd, yaml};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[test]
fn the_generated_file_is_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/base/files/crd-all.gen.yaml");
    let text = yaml::documents(&crd::custom_resource_definitions());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("the chart's folder can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{} is stale: UPDATE=1 cargo test -p deploy --test crd", path.display());
}

#[test]
fn every_definition_of_istios_is_here_with_its_versions_short_names_and_columns() {
    let Some(path) = compat("istio/crd-all.gen.yaml") else { return };
    let theirs = parse(&std::fs::read_to_string(path).expect("it can be read"));
    let ours = crd::custom_resource_definitions();
    assert_eq!(theirs.len(), ours.len());
    for theirs in &theirs {
        let name = &theirs["metadata"]["name"];
        let ours = ours.iter().find(|ours| ours["metadata"]["name"] == *name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(facts(ours), facts(theirs), "{name}");
    }
}

/// What clients see of a definition.
fn facts(definition: &Value) -> Value {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().expect("versions").iter().map(|version| {
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
        let columns: Vec<_> =
            columns.map(|column| serde_json::json!([column["name"], column["jsonPath"], column["type"]])).collect();
        let stored = (&version["name"], &version["served"], &version["storage"]);
        serde_json::json!([stored, version["subresources"], columns])
    });
    let keep = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
    serde_json::json!([spec["group"], spec["names"], spec["scope"], keep, versions.collect::<Vec<_>>()])
}

fn parse(text: &str) -> Vec<Value> {
    crds::yaml::documents(text).into_iter().map(|document| document.content.expect("YAML").value).collect()
}

/// A file of the compatibility data, where there is such a folder.
fn compat(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("NAVARCH_COMPAT_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = root.join(file);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}
