//! Each kind of bad input has a defined result: a message that names object, field and reason; what can be in force is
//! in force; nothing else is touched; and the real Envoy accepts what is left.
//!
//! Every test goes the product's whole pure way, from a file's text to encoded resources.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use e2e::golden::{Produced, produce_last, proxy};
use e2e::{call, validate};
use source::files::{FileContent, Folder, LoadError, Store};
use std::path::PathBuf;

/// Two services, of which `other` must never notice what happens to `reviews`.
const MESH: &str = include_str!("bad_input/mesh.yaml");

const PROXY: &str = "id: sidecar~10.1.0.10~client.default~default.svc.cluster.local
metadata: {NAMESPACE: default, LABELS: {app: client}}
";

const REVIEWS: &str = "outbound 10.96.0.7:9080 GET http://reviews:9080/";
const OTHER: &str = "outbound 10.96.0.8:9080 GET http://other:9080/";

const GOOD: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {name: good, route: [{destination: {host: reviews, subset: v1}}]}
";

/// The mesh with each of these documents added in turn, in the same place.
fn after(documents: &[&str]) -> Produced {
    let versions: Vec<String> = documents.iter().map(|document| format!("{MESH}---{document}")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let produced = produce_last(&versions, &proxy(PROXY).unwrap()).unwrap();
    validate::validate(&validate::envoy().unwrap(), &produced).unwrap();
    assert_reaches(&produced, OTHER, "-> cluster outbound|9080||other.default.svc.cluster.local (10.1.0.3:9080)");
    produced
}

#[track_caller]
fn assert_reaches(produced: &Produced, call: &str, expected: &str) {
    let answer = call::answered(call, &produced.config).unwrap();
    assert!(answer.contains(expected), "no {expected:?} in:\n{answer}");
}

#[track_caller]
fn assert_problem(produced: &Produced, parts: &[&str]) {
    produced.has_problem(parts).unwrap();
}

/// A document that is refused: named, absent when it was never good, and its last good version in force when it was.
#[track_caller]
fn assert_refused(bad: &str, parts: &[&str]) {
    let never_good = after(&[bad]);
    assert_problem(&never_good, parts);
    assert_reaches(&never_good, REVIEWS, "/ default\n  -> cluster outbound|9080||reviews.default.svc.cluster.local");
    let once_good = after(&[GOOD, bad]);
    assert_problem(&once_good, parts);
    assert_reaches(&once_good, REVIEWS, "/ good\n  -> cluster outbound|9080|v1|reviews.default.svc.cluster.local");
}

#[test]
fn an_unknown_kind_is_named_and_the_rest_is_in_force() {
    let produced = after(&["
apiVersion: networking.istio.io/v1
kind: VirtualServise
metadata: {name: reviews}
spec: {hosts: [reviews]}
"]);
    assert_problem(&produced, &["error", "reviews", "kind", "VirtualServise"]);
    assert_reaches(&produced, REVIEWS, "-> cluster outbound|9080||reviews.default.svc.cluster.local");
}

#[test]
fn an_unknown_field_is_named_and_the_object_is_in_force_without_it() {
    let produced = after(&["
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {name: mine, timout: 3s, route: [{destination: {host: reviews, subset: v1}}]}
"]);
    assert_problem(&produced, &["warning", "VirtualService default/reviews", "spec.http[0].timout", "unknown field"]);
    assert_reaches(&produced, REVIEWS, "/ mine\n  -> cluster outbound|9080|v1|");
}

#[test]
fn an_unknown_enum_value_is_named_and_the_last_good_object_stays() {
    let rule = |simple: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: other}}
spec:
  host: other
  trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}
"
        )
    };
    let produced = after(&[&rule("RANDOM"), &rule("RANDOMLY")]);
    let field = "spec.trafficPolicy.loadBalancer.simple";
    assert_problem(&produced, &["error", "DestinationRule default/other", field, "RANDOMLY"]);
    let cluster = &produced.config.clusters["outbound|9080||other.default.svc.cluster.local"];
    assert_eq!(cluster.lb_policy(), xds::envoy::cluster::cluster::LbPolicy::Random);
}

/// Istio's result: the route stays, its cluster does not exist, and Envoy answers 503 for it alone.
#[test]
fn a_subset_that_does_not_exist_is_named_and_fails_alone() {
    let produced = after(&["
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /new}}]
    route: [{destination: {host: reviews, subset: v9}}]
  - {name: rest, route: [{destination: {host: reviews, subset: v1}}]}
"]);
    let field = "spec.http[0].route[0].destination";
    assert_problem(&produced, &["warning", "VirtualService default/reviews", field, "subset v9"]);
    assert_reaches(&produced, "outbound 10.96.0.7:9080 GET http://reviews/new", "no cluster \"outbound|9080|v9|");
    assert_reaches(&produced, REVIEWS, "/ rest\n  -> cluster outbound|9080|v1|");
}

/// Istio's result for sidecars: the older rules alone; equally old ones go by name.
#[test]
fn of_two_virtual_services_for_one_host_the_older_rules() {
    let produced = after(&["
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-newer, creationTimestamp: '2026-02-02T00:00:00Z'}
spec:
  hosts: [reviews]
  http:
  - {name: newer, route: [{destination: {host: reviews, subset: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b-older, creationTimestamp: '2026-01-01T00:00:00Z'}
spec:
  hosts: [reviews]
  http:
  - {name: older, route: [{destination: {host: reviews, subset: v1}}]}
"]);
    assert_problem(&produced, &["warning", "VirtualService default/a-newer", "reviews", "default/b-older"]);
    assert_reaches(&produced, REVIEWS, "/ older\n  -> cluster outbound|9080|v1|");
}

/// Envoy refuses a whole route table for one domain twice; the first virtual host keeps it.
#[test]
fn a_domain_that_two_services_claim_belongs_to_one() {
    let produced = after(&["
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: squatter}
spec:
  hosts: [reviews.default]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.2.0.1}]
"]);
    assert_problem(&produced, &["warning", "reviews.default", "already belongs to"]);
    let domains = produced.config.routes["9080"].virtual_hosts.iter().flat_map(|it| &it.domains);
    assert_eq!(domains.filter(|it| *it == "reviews.default").count(), 1);
    assert_reaches(&produced, REVIEWS, "-> cluster outbound|9080||reviews.default.svc.cluster.local");
}

/// Two services without addresses want one TCP port: the first has it, as in Istio.
#[test]
fn of_two_services_on_one_port_the_first_has_it_and_the_other_is_told() {
    let entry = |name: &str, time: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, creationTimestamp: '{time}'}}
spec:
  hosts: [{name}.example.com]
  addresses: [240.0.0.1]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 5432, name: tcp, protocol: TCP}}]
  endpoints: [{{address: 10.2.0.1}}]
"
        )
    };
    let both = format!("{}---{}", entry("later", "2026-02-02T00:00:00Z"), entry("first", "2026-01-01T00:00:00Z"));
    let produced = after(&[&both]);
    assert_problem(&produced, &["ServiceEntry default/later", "5432", "already taken by", "first.example.com"]);
    assert_reaches(&produced, "outbound 240.0.0.1:5432", "-> cluster outbound|5432||first.example.com");
}

#[test]
fn a_regex_that_re2_refuses_is_named() {
    // The first is no RE2, the second is fine in Rust and beyond what RE2 repeats.
    for regex in ["/(?=ahead)", "/a{1001}"] {
        let bad = format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
  - match: [{{uri: {{regex: '{regex}'}}}}]
    route: [{{destination: {{host: reviews, subset: v2}}}}]
"
        );
        assert_refused(&bad, &["error", "VirtualService default/reviews", "spec.http[0].match[0].uri.regex", "RE2"]);
    }
}

#[test]
fn weights_that_sum_to_zero_are_refused() {
    let bad = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 0}
    - {destination: {host: reviews, subset: v2}, weight: 0}
";
    assert_refused(bad, &["error", "VirtualService default/reviews", "spec.http[0].route", "weight"]);
}

#[test]
fn a_host_of_300_characters_is_refused() {
    let host = format!("{}.example.com", "a".repeat(288));
    assert_eq!(host.len(), 300);
    let bad = format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [{host}]
  http:
  - route: [{{destination: {{host: reviews, subset: v2}}}}]
"
    );
    assert_refused(&bad, &["error", "VirtualService default/reviews", "spec.hosts[0]"]);
}

#[test]
fn a_document_that_is_not_yaml_is_reported_and_the_last_good_objects_stay() {
    assert_refused_line("\nkind: [VirtualService\nmetadata: {name: reviews}\n");
    assert_refused_line("\napiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {hosts: [reviews]}\n");
}

fn assert_refused_line(bad: &str) {
    let produced = after(&[GOOD, bad]);
    let first_line = MESH.lines().count();
    let line = |problem: &str| problem.split(':').next().and_then(|it| it.parse::<usize>().ok());
    let found = produced.problems.iter().any(|it| it.contains("error") && line(it).is_some_and(|it| it > first_line));
    assert!(found, "no problem after line {first_line}: {:?}", produced.problems);
    assert_reaches(&produced, REVIEWS, "/ good\n  -> cluster outbound|9080|v1|");
}

/// To start from an empty folder is a mistake; a folder that becomes empty is an accident, and nothing is withdrawn.
#[test]
fn an_empty_folder_is_refused_at_the_start_and_withdraws_nothing_later() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Folder::load(folder.path()), Err(LoadError::NoFiles(_))));
    std::fs::write(folder.path().join("empty.yaml"), "# nothing\n").unwrap();
    assert!(matches!(Folder::load(folder.path()), Err(LoadError::NoObjects(_))));
    let produced = produce_last(&[MESH, "# nothing\n"], &proxy(PROXY).unwrap()).unwrap();
    assert_problem(&produced, &["folder", "has no objects any more; all that were in force stay"]);
    assert_reaches(&produced, REVIEWS, "-> cluster outbound|9080||reviews.default.svc.cluster.local");
    assert_reaches(&produced, OTHER, "-> cluster outbound|9080||other.default.svc.cluster.local");
}

#[test]
fn a_folder_that_is_not_there_is_refused_at_the_start_and_withdraws_nothing_later() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Folder::load(folder.path().join("gone")), Err(LoadError::Missing(_))));
    let file = PathBuf::from("mesh.yaml");
    let mut store = Store::new("folder");
    let before = store.apply([(file.clone(), FileContent::Text(MESH.to_owned()))].into());
    assert!(before.changes.len() > 4 && before.problems.is_empty(), "{:?}", before.problems);
    let after = store.apply([(file, FileContent::Missing)].into());
    assert_eq!(after.changes, vec![]);
    assert_eq!(after.problems.len(), 1);
}
