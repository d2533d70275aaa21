mod compat;
mod folder;
mod history;
mod store;

use super::{Effect, FileContent, Outcome, Store};
use crds::ObjectKey;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A VirtualService whose version shows in its first host.
fn virtual_service(name: &str, version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {name}\nspec:\n  hosts: [{version}]\n  http:\n  - route:\n    - destination:\n        host: {version}\n"
    )
}

fn texts(files: &[(&str, &str)]) -> BTreeMap<PathBuf, FileContent> {
    files.iter().map(|(path, text)| (PathBuf::from(path), FileContent::Text((*text).to_owned()))).collect()
}

/// Names and versions of what is in force: `a=v1 b=v2`.
fn in_force(store: &Store) -> String {
    let version = |object: &crds::Object| match &object.spec {
        crds::Spec::VirtualService(service) => format!("{}={}", object.key.name, service.hosts[0]),
        _ => object.key.name.to_string(),
    };
    store.objects().map(version).collect::<Vec<_>>().join(" ")
}

fn changed(outcome: &Outcome) -> String {
    let name = |(key, object): &(ObjectKey, Option<crds::Object>)| match object {
        Some(_) => format!("+{}", key.name),
        None => format!("-{}", key.name),
    };
    outcome.changes.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn problems(outcome: &Outcome) -> Vec<String> {
    outcome.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_effect_is_said_with_the_problem() {
    let mut store = Store::new("dir");
    let bad = virtual_service("a", "v1").replace("destination", "destinatoin");
    let outcome = store.apply(texts(&[("a.yaml", &bad)]));
    assert_eq!(
        problems(&outcome),
        [
            "a.yaml:9: VirtualService default/a: spec.http[0].route[0].destination.host: destination host is required (not in force)",
            "a.yaml:9: VirtualService default/a: spec.http[0].route[0].destinatoin: unknown field, ignored",
        ]
    );
    assert_eq!(outcome.problems[0].effect, Effect::Absent);
}
