//! X50–X74: the incremental protocol.

use crate::rig::{Said, Wire, delta, error, strings};
use std::collections::HashMap;
use xds::{Observed, TypeUrl, envoy};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::Endpoint;
const RDS: TypeUrl = TypeUrl::Route;
const SDS: TypeUrl = TypeUrl::Secret;

fn two() -> Wire {
    Wire::delta(&[(CDS, "a", "1"), (CDS, "b", "1")])
}

/// What is still pushed if everything changes.
fn subscribed(wire: &mut Wire) -> Vec<String> {
    wire.settle();
    wire.change(|world| ["a", "b"].iter().for_each(|name| world.put(CDS, name, "changed")));
    wire.settle().into_iter().flat_map(|said| said.names).collect()
}

fn versions(known: &[(&str, &str)]) -> HashMap<String, String> {
    known.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
}

fn version_of(said: &Said, name: &str) -> String {
    said.versions[said.names.iter().position(|n| n == name).unwrap()].clone()
}

#[test]
fn x50_acks_and_nacks_go_by_nonce_and_error() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    let said = wire.one();
    assert!(matches!(wire.ack(&said), Some(Observed::Ack { .. })));
    wire.put(CDS, "a", "2");
    let said = wire.one();
    let nack = wire.nack(&said, "bad").unwrap();
    let expected = Observed::Nack {
        kind: CDS,
        version: said.version,
        nonce: said.nonce,
        reason: "bad".into(),
        names: vec!["a".into()],
    };
    assert_eq!(nack, expected);
    wire.silent();
}

#[test]
fn x51_no_names_at_first_or_a_star_is_everything() {
    for names in [&[][..], &["*"]] {
        let mut wire = two();
        wire.sub(CDS, names);
        assert_eq!(wire.one().names, ["a", "b"]);
    }
}

#[test]
fn x52_everything_can_be_given_back() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    wire.sub(CDS, &["a"]);
    wire.unsub(CDS, &["*"]);
    wire.unsub(CDS, &["a"]);
    assert!(subscribed(&mut wire).is_empty());

    let mut wire = two();
    wire.sub(CDS, &[]);
    wire.sub(CDS, &["a"]);
    wire.unsub(CDS, &["*"]);
    assert_eq!(subscribed(&mut wire), ["a"]);
}

#[test]
fn x53_everything_and_not_everything_is_nothing() {
    let mut wire = two();
    wire.send(envoy::DeltaDiscoveryRequest {
        resource_names_subscribe: strings(&["*"]),
        resource_names_unsubscribe: strings(&["*"]),
        ..delta(CDS)
    });
    wire.silent();
    assert!(subscribed(&mut wire).is_empty());
    wire.sub(CDS, &["b"]);
    assert_eq!(wire.one().names, ["b"]);
}

#[test]
fn x54_a_name_given_back_that_is_still_covered_is_told_of() {
    let mut wire = two();
    wire.sub(CDS, &["*", "a", "missing"]);
    wire.settle();
    wire.unsub(CDS, &["a", "missing"]);
    let said = wire.one();
    assert_eq!((said.names, said.removed), (strings(&["a"]), strings(&["missing"])));
}

#[test]
fn x55_only_what_changed_is_sent() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    wire.settle();
    wire.put(CDS, "b", "2");
    assert_eq!(wire.one().names, ["b"]);
}

#[test]
fn x55_what_changes_back_before_it_is_sent_is_not_sent() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    let said = wire.one();
    wire.put(CDS, "b", "2");
    wire.put(CDS, "c", "1");
    wire.put(CDS, "b", "1");
    wire.remove(CDS, "c");
    wire.ack(&said);
    wire.silent();
}

#[test]
fn x56_a_deletion_is_told() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    wire.settle();
    wire.remove(CDS, "a");
    let said = wire.one();
    assert_eq!((said.names, said.removed), (vec![], strings(&["a"])));
}

#[test]
fn x57_a_name_that_does_not_exist_is_told_of_at_once() {
    for kind in [CDS, EDS, RDS, SDS, TypeUrl::Extension, TypeUrl::Listener] {
        let mut wire = Wire::delta(&[]);
        wire.sub(kind, &["a"]);
        assert_eq!(wire.one().removed, ["a"], "{kind}");
    }
}

#[test]
fn x58_and_sent_when_it_comes_to_be() {
    let mut wire = Wire::delta(&[]);
    wire.sub(EDS, &["a"]);
    wire.settle();
    wire.put(EDS, "a", "1");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x59_a_name_asked_for_again_is_sent_again() {
    let mut wire = Wire::delta(&[(EDS, "a", "1"), (EDS, "b", "1")]);
    wire.sub(EDS, &["a", "b"]);
    wire.settle();
    wire.sub(EDS, &["a"]);
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x60_giving_back_what_one_does_not_have_is_fine() {
    let mut wire = Wire::delta(&[(EDS, "a", "1")]);
    wire.sub(EDS, &["a"]);
    wire.settle();
    wire.unsub(EDS, &["b", "*"]);
    wire.silent();
}

#[test]
fn x61_giving_back_is_not_answered() {
    let mut wire = Wire::delta(&[(EDS, "a", "1"), (EDS, "b", "1")]);
    wire.sub(EDS, &["a", "b"]);
    wire.settle();
    wire.unsub(EDS, &["a"]);
    wire.silent();
    wire.put(EDS, "a", "2");
    wire.silent();
}

#[test]
fn x62_a_stale_nonce_does_not_spoil_what_is_asked() {
    let mut wire = Wire::delta(&[(EDS, "a", "1"), (EDS, "b", "1")]);
    wire.sub(EDS, &["a"]);
    let said = wire.one();
    let stale = envoy::DeltaDiscoveryRequest {
        response_nonce: "stale".into(),
        resource_names_subscribe: strings(&["b"]),
        ..delta(EDS)
    };
    assert_eq!(wire.send(stale), None);
    wire.silent();
    wire.ack(&said);
    assert_eq!(wire.one().names, ["b"]);
}

#[test]
fn x63_a_nack_may_ask_for_more() {
    let mut wire = Wire::delta(&[(EDS, "a", "1"), (EDS, "b", "1")]);
    wire.sub(EDS, &["a"]);
    let said = wire.one();
    wire.send(envoy::DeltaDiscoveryRequest {
        response_nonce: said.nonce,
        error_detail: error("bad"),
        resource_names_subscribe: strings(&["b"]),
        resource_names_unsubscribe: strings(&["a"]),
        ..delta(EDS)
    });
    assert_eq!(wire.one().names, ["b"]);
}

#[test]
fn x64_x66_a_reconnect_brings_only_what_differs() {
    let mut before = two();
    before.put(CDS, "c", "1");
    before.sub(CDS, &[]);
    let said = before.one();
    // Another replica: nothing in common but the content.
    let mut after = Wire::delta(&[(CDS, "a", "1"), (CDS, "b", "2")]);
    let known = ["a", "b", "c"].map(|name| (name, version_of(&said, name)));
    let initial_resource_versions = known.iter().map(|(name, version)| (name.to_string(), version.clone())).collect();
    after.send(envoy::DeltaDiscoveryRequest { initial_resource_versions, ..delta(CDS) });
    let said = after.one();
    assert_eq!((said.names, said.removed), (strings(&["b"]), strings(&["c"])));

    let mut same = two();
    let initial_resource_versions = versions(&[("a", &known[0].1), ("b", &known[1].1)]);
    same.send(envoy::DeltaDiscoveryRequest { initial_resource_versions, ..delta(CDS) });
    same.silent();
}

#[test]
fn x64_versions_of_somebody_else_are_not_believed() {
    let mut wire = two();
    let initial_resource_versions = versions(&[("a", "v1"), ("gone", "v1")]);
    wire.send(envoy::DeltaDiscoveryRequest { initial_resource_versions, ..delta(CDS) });
    let said = wire.one();
    assert_eq!((said.names, said.removed), (strings(&["a", "b"]), strings(&["gone"])));
}

#[test]
fn x64_named_resources_reconnect_likewise() {
    let mut before = Wire::delta(&[(EDS, "a", "1"), (EDS, "b", "1"), (EDS, "c", "1")]);
    before.sub(EDS, &["a", "b", "c"]);
    let said = before.one();
    let mut after = Wire::delta(&[(EDS, "a", "1"), (EDS, "b", "2"), (EDS, "d", "1")]);
    let known = said.names.iter().map(|name| (name.clone(), version_of(&said, name)));
    after.send(envoy::DeltaDiscoveryRequest {
        resource_names_subscribe: strings(&["a", "b", "c"]),
        initial_resource_versions: known.collect(),
        ..delta(EDS)
    });
    let said = after.one();
    assert_eq!((said.names, said.removed), (strings(&["b"]), strings(&["c"])));
}

#[test]
fn x65_endpoints_of_a_cluster_that_is_sent_are_sent_whatever_their_version() {
    let mut before = Wire::delta(&[(EDS, "eds", "1")]);
    before.sub(EDS, &["eds"]);
    let known = before.one();
    for clusters_first in [true, false] {
        let mut after = Wire::delta(&[(CDS, "eds", "1"), (EDS, "eds", "1")]);
        let endpoints = envoy::DeltaDiscoveryRequest {
            resource_names_subscribe: strings(&["eds"]),
            initial_resource_versions: versions(&[("eds", &known.versions[0])]),
            ..delta(EDS)
        };
        if clusters_first {
            after.sub(CDS, &[]);
            assert_eq!(after.one().kind, Some(CDS));
            after.send(endpoints);
        } else {
            after.send(endpoints);
            after.silent();
            after.sub(CDS, &[]);
        }
        let said = after.said();
        assert_eq!(said.last().unwrap().names, ["eds"], "clusters first: {clusters_first}");
        assert_eq!(said.last().unwrap().kind, Some(EDS));
    }
}

#[test]
fn x67_resources_have_names_and_no_aliases() {
    use prost::Message;
    let mut wire = two();
    wire.sub(CDS, &[]);
    let response = wire.stream.responses().remove(0);
    let message = envoy::DeltaDiscoveryResponse::decode(response.bytes()).unwrap();
    let named: Vec<_> = message.resources.iter().map(|r| (r.name.as_str(), r.aliases.len())).collect();
    assert_eq!(named, [("a", 0), ("b", 0)]);
}

#[test]
fn x68_secrets_and_filters_in_use_are_not_taken_away() {
    for kind in [SDS, TypeUrl::Extension] {
        let mut wire = Wire::delta(&[(kind, "a", "1")]);
        wire.sub(kind, &["a"]);
        wire.settle();
        wire.remove(kind, "a");
        wire.silent();
        wire.put(kind, "a", "2");
        assert_eq!(wire.one().names, ["a"]);
    }
}

#[test]
fn x69_the_version_of_a_response_is_for_information() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    let said = wire.one();
    assert!(!said.versions.contains(&said.version));
    // Nothing that a client can say about it is asked for.
    wire.ack(&said);
    wire.silent();
}

#[test]
fn x73_a_virtual_host_costs_one_virtual_host() {
    let vhds = TypeUrl::VirtualHost;
    let mut wire = Wire::delta(&[(RDS, "80", "1"), (vhds, "80/a", "1"), (vhds, "80/b", "1"), (vhds, "90/c", "1")]);
    wire.sub(RDS, &["80"]);
    wire.sub(vhds, &[]);
    wire.settle();
    wire.put(vhds, "80/b", "2");
    let said = wire.one();
    assert_eq!(said.names, ["80/b"]);
    wire.ack(&said);
    wire.sub(vhds, &["80/unknown"]);
    assert_eq!(wire.one().removed, ["80/unknown"]);
}

#[test]
fn x73_virtual_hosts_follow_a_table_unasked() {
    let vhds = TypeUrl::VirtualHost;
    let mut wire = Wire::delta(&[(RDS, "80", "1"), (RDS, "90", "1"), (vhds, "80/a", "1")]);
    wire.sub(RDS, &["80"]);
    wire.sub(vhds, &[]);
    wire.settle();
    // Envoy asked for the table again, so it has forgotten its hosts.
    wire.sub(RDS, &["80"]);
    let said = wire.said();
    assert_eq!([&said[0].names, &said[1].names], [&["80"], &["80/a"]]);
    said.iter().for_each(|said| drop(wire.ack(said)));
    // An answer that names nothing of a table does not end Envoy's wait for it.
    wire.sub(RDS, &["90"]);
    let said = wire.said();
    assert_eq!([&said[0].names, &said[1].removed], [&["90"], &["90/none"]]);
}

#[test]
fn x79_after_a_nack_nothing_is_taken_for_granted() {
    let mut wire = two();
    wire.sub(CDS, &[]);
    let said = wire.one();
    wire.nack(&said, "a is bad");
    wire.silent();
    // `b` was in the refused response; whether Envoy took it is not known.
    wire.put(CDS, "a", "2");
    let said = wire.one();
    assert_eq!(said.names, ["a", "b"]);
    wire.ack(&said);
    wire.put(CDS, "a", "3");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn an_empty_world_is_told_once() {
    let mut wire = Wire::delta(&[]);
    wire.sub(CDS, &[]);
    let said = wire.one();
    assert!(said.names.is_empty() && said.removed.is_empty());
    wire.ack(&said);
    wire.silent();
}
