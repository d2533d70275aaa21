//! The types against Istio's own CRD schemas: every field and every enum value that the schemas have is read.
//!
//! The schemas lie outside the repository; without them the test says so.

use crds::{Reason, decode, yaml};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn schemas() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/istio/crd-all.gen.yaml");
    let file = std::env::var_os("NAVARCH_CRDS").map_or(beside, PathBuf::from);
    file.is_file().then_some(file)
}

/// One value for each leaf below `schema`, holding that leaf alone: fields that exclude each other are never together.
fn examples(schema: &Value) -> Vec<Value> {
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values.clone();
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        // Quantities of Istio's wrappers: written as a number.
        return vec![json!(1)];
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema.get("properties").and_then(Value::as_object);
            let named = fields.into_iter().flatten().flat_map(|(name, field)| {
                let of = |value| Value::Object(Map::from_iter([(name.clone(), value)]));
                examples(field).into_iter().map(of)
            });
            let any = schema
                .get("additionalProperties")
                .into_iter()
                .flat_map(|field| examples(field).into_iter().map(|value| json!({"key": value})));
            let all: Vec<_> = named.chain(any).collect();
            if all.is_empty() { vec![json!({})] } else { all }
        }
        Some("array") => examples(&schema["items"]).into_iter().map(|value| json!([value])).collect(),
        Some("integer" | "number") => vec![json!(1)],
        Some("boolean") => vec![json!(true)],
        // Text that is a duration too.
        _ => vec![json!("1s")],
    }
}

#[test]
fn every_field_and_enum_value_of_the_schemas_is_read() {
    let Some(file) = schemas() else {
        eprintln!("skipped: no schemas; set NAVARCH_CRDS to Istio's customresourcedefinitions.gen.yaml");
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in yaml::documents(&text) {
        let crd = document.content.unwrap().value;
        let (group, kind) = (&crd["spec"]["group"], &crd["spec"]["names"]["kind"]);
        for version in crd["spec"]["versions"].as_array().unwrap().iter().filter(|version| version["served"] == true) {
            let api = format!("{}/{}", group.as_str().unwrap(), version["name"].as_str().unwrap());
            for spec in examples(&version["schema"]["openAPIV3Schema"]["properties"]["spec"]) {
                let object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
                let decoded = decode::object(object);
                let of_type =
                    |problem: &&crds::Problem| !matches!(problem.reason, Reason::NotTranslated | Reason::Invalid(_));
                wrong.extend(decoded.problems.iter().filter(of_type).map(|problem| format!("{problem} ({api})")));
                count += 1;
            }
        }
    }
    assert!(count > 1000, "{count} examples");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
