//! Golden pairs: what a mesh in YAML comes to for one proxy, where its calls go, and what the real Envoy says to it.
//!
//! `UPDATE=1 cargo test -p e2e --test golden` writes outputs and answers anew. Read the diff: that is the review.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use controller::envoy::find::{Envoy, OLDEST};
use e2e::golden::{
    CALLS, FILES, INPUT, NAMES, PROBLEMS, PROXY, Produced, difference, folders, produce_folder, produce_last, proxy,
};
use e2e::{call, validate};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong with one folder, in words.
type Check = fn(&Path, &Produced) -> Vec<String>;

#[test]
fn outputs_are_as_written() {
    each(|folder, produced| {
        let mut wrong: Vec<String> =
            FILES.iter().filter_map(|(kind, name)| compare(folder, name, &produced.yaml(*kind))).collect();
        let problems: String = produced.problems.iter().map(|problem| format!("{problem}\n")).collect();
        wrong.extend(compare(folder, PROBLEMS, &problems));
        wrong.extend(compare(folder, NAMES, &produced.names_yaml()));
        wrong
    });
}

#[test]
fn calls_reach_what_their_tables_say() {
    each(|folder, produced| {
        let table = std::fs::read_to_string(folder.join(CALLS)).unwrap_or_default();
        match call::answered(&table, &produced.config) {
            Err(why) => vec![format!("{CALLS}: {why}")],
            Ok(_) if call::count(&table) == 0 => vec![format!("{CALLS}: there is no call in it")],
            Ok(answered) => {
                let mut wrong = Vec::from_iter(compare(folder, CALLS, &answered));
                // The oracle's word for what Envoy would refuse, or for what it does not know: never a golden answer.
                let odd = answered.lines().filter(|it| it.contains("-> rejected:") || it.contains("-> unsupported:"));
                wrong.extend(odd.map(str::to_owned));
                wrong
            }
        }
    });
}

#[test]
fn envoy_accepts_every_output() {
    accepts_every_output(&validate::envoy().unwrap(), &folders());
}

/// Of fields that the oldest Envoy does not know. In a bootstrap, which is how it is asked here, it refuses them; over
/// ADS it passes over them.
const NEWER: [&str; 1] = ["destination-rule/retry-budget"];

/// The last release of the oldest minor version that is supported.
#[test]
fn the_oldest_envoy_accepts_every_output() {
    let envoy = validate::oldest_envoy().unwrap();
    assert_eq!((envoy.version.major, envoy.version.minor), (OLDEST.major, OLDEST.minor));
    let known = |it: &PathBuf| !NEWER.iter().any(|newer| it.ends_with(newer));
    accepts_every_output(&envoy, &folders().into_iter().filter(known).collect::<Vec<_>>());
}

fn accepts_every_output(envoy: &Envoy, folders: &[PathBuf]) {
    let next = AtomicUsize::new(0);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut wrong = vec![];
            while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(why) = produce_folder(folder).and_then(|it| validate::validate(envoy, &it)) {
                    wrong.push(format!("{}: {why:#}", folder.display()));
                }
            }
            wrong
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Neither the order of documents nor the way to a state decides anything: reversed, and one document more at a time,
/// then one less, it comes to the same.
#[test]
fn outputs_depend_on_the_documents_alone() {
    each(|folder, produced| {
        let input = std::fs::read_to_string(folder.join(INPUT)).unwrap();
        let proxy = proxy(&std::fs::read_to_string(folder.join(PROXY)).unwrap()).unwrap();
        let mut documents: Vec<&str> = input.split("\n---\n").collect();
        let grown: Vec<String> = (1..=documents.len()).map(|many| documents[..many].join("\n---\n")).collect();
        documents.reverse();
        let reversed = documents.join("\n---\n");
        let shrunk = grown.iter().rev().skip(1);
        let forth: Vec<&str> = grown.iter().map(String::as_str).collect();
        let back: Vec<&str> = shrunk.map(String::as_str).chain([input.as_str()]).collect();
        let ways = [("reversed", vec![&*reversed]), ("grown", forth.clone()), ("shrunk", [forth, back].concat())];
        let other = |(way, versions): &(&str, Vec<&str>)| {
            let again = produce_last(versions, &proxy).unwrap();
            let names = difference(NAMES, &produced.names_yaml(), &again.names_yaml());
            let differs = FILES.iter().filter(|(kind, _)| again.of(*kind) != produced.of(*kind));
            differs
                .map(|(kind, name)| difference(name, &produced.yaml(*kind), &again.yaml(*kind)).unwrap_or_default())
                .chain(names)
                .map(|it| format!("{way}: {it}"))
                .collect::<Vec<_>>()
        };
        ways.iter().flat_map(other).collect()
    });
}

/// The judge is awake: a route table that Envoy must refuse is refused, though no listener of the folder may name it.
#[test]
fn envoy_refuses_what_is_wrong() {
    let envoy = validate::envoy().unwrap();
    let folder = folders().into_iter().next().unwrap();
    for (kind, resource, reason) in [
        (xds::TypeUrl::Route, serde_json::json!({ "name": "x", "virtualHosts": [ { "name": "x" } ] }), "Domains"),
        (xds::TypeUrl::Cluster, serde_json::json!({ "name": "x", "connectTimeout": "0s" }), "ConnectTimeout"),
        (xds::TypeUrl::Listener, serde_json::json!({ "name": "x" }), "address"),
    ] {
        let mut produced = produce_folder(&folder).unwrap();
        produced.resources.get_mut(&kind).unwrap().push(resource);
        let why = validate::validate(&envoy, &produced).unwrap_err().to_string();
        assert!(why.contains(reason), "{kind}: {why}");
    }
}

fn each(check: Check) {
    let mut wrong = vec![];
    for folder in folders() {
        let found = match produce_folder(&folder) {
            Ok(produced) => check(&folder, &produced),
            Err(why) => vec![format!("{why:#}")],
        };
        wrong.extend(found.into_iter().map(|it| format!("{}: {it}", folder.display())));
    }
    assert!(wrong.is_empty(), "\n{}\nUPDATE=1 writes it anew.", wrong.join("\n"));
}

/// A file that would be empty and is optional (problems) is not there.
fn compare(folder: &Path, name: &str, produced: &str) -> Option<String> {
    let path = folder.join(name);
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("UPDATE").is_some() && golden != produced {
        match produced.is_empty() {
            true => std::fs::remove_file(&path).unwrap(),
            false => std::fs::write(&path, produced).unwrap(),
        }
        return None;
    }
    difference(name, &golden, produced)
}
