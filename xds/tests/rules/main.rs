//! The rules of xDS, X1 to X93, one test each; what they say stands in `docs/ads.md`.
#![allow(clippy::unwrap_used)]

mod delta;
mod general;
mod grpc;
mod order;
mod random;
mod rig;
mod sotw;

use std::collections::BTreeSet;

/// Rules that are kept elsewhere, and why they cannot be shown here.
const ELSEWHERE: [(u32, &str); 5] = [
    (45, "the bytes of a ConfigSource are the translation's: a test of crate translate"),
    (76, "which resources exist is the world's decision, and what happens to them on its errors: crate world"),
    (77, "which filters a gRPC client is given is the translation's: crate translate"),
    (78, "a time under load: the benchmarks in e2e"),
    (80, "several versions of Envoy, grpc-go and refproxy against one control plane: e2e"),
];

#[test]
fn every_rule_has_a_test_or_a_reason() {
    let sources = [
        include_str!("general.rs"),
        include_str!("sotw.rs"),
        include_str!("delta.rs"),
        include_str!("order.rs"),
        include_str!("random.rs"),
        include_str!("grpc.rs"),
    ];
    let names =
        sources.iter().flat_map(|source| source.split("fn x").skip(1)).filter_map(|rest| rest.split('(').next());
    let numbers = names.flat_map(|name| name.split("_x").chain(name.split('_')).filter_map(number).collect::<Vec<_>>());
    let tested: BTreeSet<u32> = numbers.collect();
    let reasons: BTreeSet<u32> = ELSEWHERE.iter().map(|(rule, _)| *rule).collect();
    assert!(tested.is_disjoint(&reasons), "both a test and a reason: {:?}", tested.intersection(&reasons));
    let missing: Vec<u32> = (1..=93).filter(|rule| !tested.contains(rule) && !reasons.contains(rule)).collect();
    assert!(missing.is_empty(), "neither a test nor a reason: {missing:?}");
}

#[test]
fn every_rule_is_in_the_documentation() {
    let page = include_str!("../../docs/ads.md");
    let rows: BTreeSet<u32> =
        page.lines().filter_map(|line| line.strip_prefix("| X")?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(rows, (1..=93).collect());
}

/// `64` of `64_x66_a_reconnect…`, `66` of `x66` and of `66`.
fn number(part: &str) -> Option<u32> {
    let digits: String = part.trim_start_matches('x').chars().take_while(char::is_ascii_digit).collect();
    (digits.len() == 2).then(|| digits.parse().ok()).flatten()
}
