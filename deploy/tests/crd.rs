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

/// Kinds without a type. The list may only get shorter.
const UNTYPED: [&str; 5] =
    ["TrafficExtension", "WasmPlugin", "AuthorizationPolicy", "RequestAuthentication", "Telemetry"];

#[test]
fn every_other_kind_has_a_schema_of_its_type() {
    let untyped: Vec<_> =
        crd::DEFINITIONS.iter().map(|it| it.kind).filter(|kind| crds::schema::spec(kind).is_none()).collect();
    eprintln!("{} kinds accept any spec: {}", untyped.len(), untyped.join(", "));
    assert_eq!(untyped, UNTYPED);
}

/// Fields, types, enum values, limits, required fields and rules.
#[test]
fn schemas_say_what_istios_say() {
    let Some(path) = compat("istio/crd-all.gen.yaml") else { return };
    let theirs = parse(&std::fs::read_to_string(path).expect("it can be read"));
    let (mut compared, mut differences) = (0, Vec::new());
    for ours in crd::custom_resource_definitions() {
        let kind = ours["spec"]["names"]["kind"].as_str().expect("a kind");
        if UNTYPED.contains(&kind) {
            continue;
        }
        let theirs = theirs.iter().find(|it| it["metadata"]["name"] == ours["metadata"]["name"]).expect("the kind");
        let versions = |of: &Value| of["spec"]["versions"].as_array().expect("versions").clone();
        for (ours, theirs) in versions(&ours).iter().zip(&versions(theirs)) {
            let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
            let (ours, theirs) = (schema(ours), schema(theirs));
            assert_eq!(ours["required"], theirs["required"], "{kind}");
            let spec = |of: &Value| of["properties"]["spec"].clone();
            compare(kind, &spec(&ours), &spec(&theirs), &mut differences);
            compared += 1;
        }
    }
    assert!(compared >= 22, "{compared} versions compared");
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

fn compare(path: &str, ours: &Value, theirs: &Value, differences: &mut Vec<String>) {
    let sorted = |value: &Value| {
        let mut texts: Vec<_> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
        texts.sort();
        texts
    };
    if path.ends_with(".enum") && sorted(ours) == sorted(theirs) {
        return;
    }
    let (Some(left), Some(right)) = (ours.as_object(), theirs.as_object()) else {
        if ours.as_f64().is_none_or(|number| Some(number) != theirs.as_f64()) && ours != theirs {
            differences.push(format!("{path}: {ours}, Istio's: {theirs}"));
        }
        return;
    };
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    for name in names {
        // Of a schema; a field may have this name, too.
        if name == "description" && !path.ends_with(".properties") {
            continue;
        }
        let of = |map: &serde_json::Map<_, _>| map.get(name).cloned().unwrap_or_default();
        compare(&format!("{path}.{name}"), &of(left), &of(right), differences);
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
