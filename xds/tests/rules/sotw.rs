//! X12–X37: the state-of-the-world protocol.

use crate::rig::{Said, Wire, error};
use xds::{Observed, TypeUrl};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::Endpoint;
const LDS: TypeUrl = TypeUrl::Listener;
const RDS: TypeUrl = TypeUrl::Route;

/// Two routes, of which `a` is asked for, sent and accepted.
fn routes() -> (Wire, Said) {
    let mut wire = Wire::sotw(&[(RDS, "a", "1"), (RDS, "b", "1"), (RDS, "c", "1")]);
    wire.list(RDS, &["a"], "");
    let said = wire.one();
    wire.ack(&said);
    wire.silent();
    (wire, said)
}

#[test]
fn x12_nonces_are_unique() {
    let (mut wire, first) = routes();
    wire.put(RDS, "a", "2");
    let second = wire.one();
    assert_ne!(first.nonce, second.nonce);
    assert_eq!(first.url, RDS.url());
}

#[test]
fn x13_equal_versions_mean_equal_content() {
    let (mut wire, first) = routes();
    wire.put(RDS, "a", "2");
    let second = wire.one();
    wire.ack(&second);
    wire.put(RDS, "a", "1");
    let third = wire.one();
    assert_eq!((&first.version, &first.bodies), (&third.version, &third.bodies));
    assert_ne!(first.version, second.version);
}

#[test]
fn x14_versions_are_the_same_on_every_stream() {
    assert_eq!(routes().1.version, routes().1.version);
}

#[test]
fn x15_an_ack_is_not_answered() {
    let mut wire = Wire::sotw(&[(RDS, "a", "1")]);
    wire.list(RDS, &["a"], "");
    let said = wire.one();
    let ack = wire.ack(&said).unwrap();
    assert_eq!(ack, Observed::Ack { kind: RDS, version: said.version, nonce: said.nonce });
    wire.silent();
}

#[test]
fn x16_a_refused_version_is_not_sent_again() {
    let mut wire = Wire::sotw(&[(CDS, "a", "1")]);
    wire.list(CDS, &[], "");
    let said = wire.one();
    let Some(Observed::Nack { reason, names, .. }) = wire.nack(&said, "bad") else { panic!("a NACK") };
    assert_eq!((reason.as_str(), names), ("bad", vec!["a".into()]));
    wire.silent();
    wire.put(CDS, "a", "2");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x17_only_an_error_makes_a_nack() {
    let (mut wire, _) = routes();
    wire.put(RDS, "a", "2");
    let said = wire.one();
    // The request does not tell the version at all.
    assert!(matches!(wire.list(RDS, &["a"], &said.nonce), Some(Observed::Ack { .. })));
}

#[test]
fn x18_a_nack_may_change_the_names() {
    let (mut wire, _) = routes();
    wire.put(RDS, "a", "2");
    let said = wire.one();
    wire.list_with(RDS, &["b"], &said.nonce, error("bad"));
    assert_eq!(wire.one().names, ["b"]);
}

#[test]
fn x19_a_stale_nonce_is_ignored_and_rolls_nothing_back() {
    let (mut wire, first) = routes();
    wire.put(RDS, "a", "2");
    let second = wire.one();
    wire.list(RDS, &["a", "b"], &second.nonce);
    let third = wire.one();
    assert_eq!(wire.list(RDS, &["c"], &first.nonce), None);
    wire.silent();
    wire.list(RDS, &["a", "b"], &third.nonce);
    wire.put(RDS, "b", "2");
    assert_eq!(wire.one().names, ["b"]);
}

#[test]
fn x20_a_first_request_with_an_old_nonce_is_answered() {
    let mut wire = Wire::sotw(&[(RDS, "a", "1")]);
    wire.list(RDS, &["a"], "from-another-stream");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x21_a_name_that_is_added_is_sent() {
    let (mut wire, said) = routes();
    wire.list(RDS, &["a", "b"], &said.nonce);
    assert!(wire.one().names.contains(&"b".to_owned()));
}

#[test]
fn x22_a_name_that_comes_back_is_sent_again() {
    let (mut wire, said) = routes();
    wire.list(RDS, &["a", "b"], &said.nonce);
    let said = wire.one();
    wire.list(RDS, &["a"], &said.nonce);
    wire.silent();
    wire.list(RDS, &["a", "b"], &said.nonce);
    assert!(wire.one().names.contains(&"b".to_owned()));
}

#[test]
fn x23_a_name_that_is_dropped_is_not_pushed() {
    let (mut wire, said) = routes();
    wire.list(RDS, &["a", "b"], &said.nonce);
    let said = wire.one();
    wire.list(RDS, &["a"], &said.nonce);
    wire.put(RDS, "b", "2");
    wire.silent();
}

#[test]
fn x24_no_names_after_names_is_nothing() {
    let (mut wire, said) = routes();
    wire.list(RDS, &[], &said.nonce);
    wire.put(RDS, "a", "2");
    wire.silent();
}

#[test]
fn x25_no_names_ever_is_everything() {
    for kind in [CDS, LDS] {
        let mut wire = Wire::sotw(&[(kind, "a", "1"), (kind, "b", "1")]);
        wire.list(kind, &[], "");
        assert_eq!(wire.one().names, ["a", "b"]);
    }
}

#[test]
fn x26_a_star_is_everything() {
    let mut wire = Wire::sotw(&[(CDS, "a", "1"), (CDS, "b", "1")]);
    wire.list(CDS, &["*"], "");
    assert_eq!(wire.one().names, ["a", "b"]);
}

#[test]
fn x27_no_names_after_a_star_is_nothing() {
    let mut wire = Wire::sotw(&[(CDS, "a", "1"), (CDS, "b", "1")]);
    for (names, expected) in [(&[][..], Some(2)), (&["*", "a"], Some(2)), (&["a"], None), (&[], None)] {
        let nonce = wire.stream.responses().last().map(|last| last.nonce.clone()).unwrap_or_default();
        wire.list(CDS, names, &nonce);
        if let Some(count) = expected {
            let said = wire.said();
            assert!(said.iter().all(|said| said.names.len() == count), "{names:?}: {said:?}");
            said.iter().for_each(|said| drop(wire.list(CDS, names, &said.nonce)));
        }
    }
    wire.settle();
    wire.put(CDS, "a", "2");
    wire.put(CDS, "b", "2");
    wire.silent();
}

#[test]
fn x28_each_response_is_the_whole_world() {
    for kind in [CDS, LDS] {
        let mut wire = Wire::sotw(&[(kind, "a", "1"), (kind, "b", "1")]);
        wire.list(kind, &[], "");
        wire.settle();
        wire.put(kind, "b", "2");
        assert_eq!(wire.one().names, ["a", "b"]);
    }
}

#[test]
fn x29_what_is_deleted_is_absent() {
    for kind in [CDS, LDS] {
        let mut wire = Wire::sotw(&[(kind, "a", "1"), (kind, "b", "1")]);
        wire.list(kind, &[], "");
        wire.settle();
        wire.remove(kind, "a");
        let said = wire.one();
        assert_eq!(said.names, ["b"]);
        wire.ack(&said);
        wire.remove(kind, "b");
        let said = wire.one();
        assert!(said.names.is_empty());
        wire.ack(&said);
        wire.silent();
    }
}

#[test]
fn x30_routes_and_endpoints_come_one_by_one() {
    for kind in [EDS, RDS] {
        let mut wire = Wire::sotw(&[(kind, "a", "1"), (kind, "b", "1")]);
        wire.list(kind, &["a", "b"], "");
        wire.settle();
        wire.put(kind, "b", "2");
        let said = wire.one();
        assert_eq!(said.names, ["b"]);
        wire.ack(&said);
        wire.remove(kind, "a");
        wire.silent();
    }
}

#[test]
fn x31_no_name_twice() {
    let mut wire = Wire::sotw(&[(RDS, "a", "1")]);
    wire.list(RDS, &["a", "a", "*", "a"], "");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x32_what_exists_is_sent_without_waiting_for_the_rest() {
    let mut wire = Wire::sotw(&[(EDS, "a", "1")]);
    wire.list(EDS, &["a", "missing"], "");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x33_what_appears_later_is_pushed() {
    let mut wire = Wire::sotw(&[]);
    wire.list(RDS, &["a"], "");
    wire.silent();
    wire.put(RDS, "a", "1");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x34_empty_endpoints_are_sent_like_any() {
    let mut wire = Wire::sotw(&[(CDS, "eds", "1")]);
    wire.change(|world| world.put(EDS, "eds", ""));
    wire.list(CDS, &[], "");
    let said = wire.one();
    wire.ack(&said);
    wire.list(EDS, &["eds"], "");
    assert_eq!(wire.one().names, ["eds"]);
}

#[test]
fn x35_the_routes_of_a_listener_are_answered_at_once() {
    let mut wire = Wire::sotw(&[(LDS, "l", "1"), (RDS, "r", "1")]);
    wire.list(LDS, &[], "");
    let listeners = wire.one();
    // Asked for before the listener is acknowledged.
    wire.list(RDS, &["r"], "");
    assert_eq!(wire.one().names, ["r"]);
    wire.ack(&listeners);
}

#[test]
fn x37_of_a_burst_of_requests_the_last_counts() {
    let mut wire = Wire::sotw(&[(RDS, "a", "1"), (RDS, "b", "1"), (RDS, "c", "1")]);
    for n in 0..100 {
        wire.list(RDS, &[["a", "b", "c"][n % 3]], "");
    }
    assert_eq!(wire.one().names, ["a"]);
    wire.put(RDS, "b", "2");
    wire.silent();
}

#[test]
fn x75_named_clusters_and_listeners_are_exactly_those() {
    for kind in [CDS, LDS] {
        let mut wire = Wire::sotw(&[(kind, "a", "1"), (kind, "b", "1"), (kind, "c", "1")]);
        wire.list(kind, &["a", "c"], "");
        let said = wire.one();
        assert_eq!(said.names, ["a", "c"]);
        wire.ack(&said);
        wire.put(kind, "b", "2");
        wire.silent();
        wire.put(kind, "c", "2");
        assert_eq!(wire.one().names, ["a", "c"]);
    }
}
