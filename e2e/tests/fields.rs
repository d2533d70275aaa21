//! Every field that users may set, and where it is shown to do what it says: a golden case, or a live one.
//!
//! `UPDATE=1 cargo test -p e2e --test fields` writes the page anew.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use crds::field;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Fields that no case sets yet, or that this version does not translate (a warning says so): it must get shorter.
const WAITING: &str = include_str!("fields/waiting.txt");

const PAGE: &str = "controller/docs/fields.md";
/// Cases that are named for one field.
const CASES_MAX: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// YAML files with objects, each with the name of its test.
fn files() -> Vec<(String, PathBuf)> {
    let mut found = vec![];
    for (kind, folder) in [("golden", "controller/world/testdata"), ("live", "e2e/traffic")] {
        for feature in listed(&root().join(folder)).into_iter().filter(|it| it.is_dir()) {
            for case in listed(&feature) {
                let file = if case.is_dir() { case.join("input.yaml") } else { case.clone() };
                let name = format!("{}/{}", name(&feature), name(&case).trim_end_matches(".yaml"));
                found.push((format!("{kind} {name}"), file));
            }
        }
    }
    for case in listed(&root().join("webhook/testdata")) {
        let file = case.join("proxy-config.yaml");
        if file.exists() {
            found.push((format!("injection {}", name(&case)), file));
        }
    }
    found
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// By kind and field, the cases that set it.
fn shown() -> BTreeMap<(&'static str, String), BTreeSet<String>> {
    let all = field::all();
    let mut shown: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (kind, fields) in &all {
        shown.extend(fields.iter().map(|field| ((*kind, field.clone()), BTreeSet::new())));
    }
    for (case, file) in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in crds::yaml::documents(&text).into_iter().filter_map(|it| it.content.ok()) {
            let object = document.value;
            let Some((kind, fields)) = all.iter().find(|(kind, _)| object["kind"] == *kind) else { continue };
            for field in field::set_in(fields, &object["spec"]) {
                shown.get_mut(&(*kind, field)).unwrap().insert(case.clone());
            }
        }
    }
    shown
}

fn page(shown: &BTreeMap<(&'static str, String), BTreeSet<String>>) -> String {
    let mut page = String::from(
        "# Every field, and where it is shown\n\nMade by `UPDATE=1 cargo test -p e2e --test fields` out of the Rust types and the cases: *golden* is a folder of\n`controller/world/testdata` (what Envoy is sent, where calls go, accepted by Envoy 1.36 and 1.40), *live* a file of\n`e2e/traffic` ([more](../../e2e/docs/traffic.md)), *injection* a folder of `webhook/testdata`.\nWhat is marked **waiting** is not shown yet, or not translated: then a warning says so ([which](translate.md#covered)).\n",
    );
    let mut last = "";
    for ((kind, field), cases) in shown {
        if *kind != last {
            write!(page, "\n## {kind}\n\n| field | shown by |\n|---|---|\n").unwrap();
            last = kind;
        }
        // Live cases first: they show more.
        let mut names: Vec<&str> = cases.iter().map(String::as_str).collect();
        names.sort_by_key(|it| (!it.starts_with("live"), *it));
        let names = match names.is_empty() {
            true => "**waiting**".to_owned(),
            false => names.iter().take(CASES_MAX).copied().collect::<Vec<_>>().join(", "),
        };
        writeln!(page, "| `{field}` | {names} |").unwrap();
    }
    page
}

#[test]
fn every_field_is_shown_or_waits() {
    let shown = shown();
    let found: BTreeSet<String> = shown
        .iter()
        .filter(|(_, cases)| cases.is_empty())
        .map(|((kind, field), _)| format!("{kind} {field}"))
        .collect();
    let waiting: BTreeSet<String> = WAITING.lines().map(str::to_owned).collect();
    let new: Vec<_> = found.difference(&waiting).collect();
    assert!(new.is_empty(), "no case sets these fields: write one\n{new:#?}");
    let gone: Vec<_> = waiting.difference(&found).collect();
    assert!(gone.is_empty(), "these do not wait any more, take them out of e2e/tests/fields/waiting.txt\n{gone:#?}");
    assert!(shown.len() > 250, "{} fields are too few", shown.len());
}

#[test]
fn the_page_is_what_the_types_and_cases_say() {
    let page = page(&shown());
    let path = root().join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{PAGE} is stale: UPDATE=1 cargo test -p e2e --test fields writes it anew");
}
