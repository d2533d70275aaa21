//! X39–X49: what comes before what.

use crate::rig::{Wire, kinds};
use xds::{Protocol, TypeUrl};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::Endpoint;
const LDS: TypeUrl = TypeUrl::Listener;
const RDS: TypeUrl = TypeUrl::Route;
const ECDS: TypeUrl = TypeUrl::Extension;

const BOTH: [Protocol; 2] = [Protocol::Sotw, Protocol::Delta];

/// A proxy that has a listener, a route table, and a cluster with endpoints.
fn settled(protocol: Protocol) -> Wire {
    let mut wire = Wire::new(protocol, &[(CDS, "eds", "1"), (EDS, "eds", "1"), (LDS, "l", "1"), (RDS, "r", "1")]);
    wire.ask(CDS, &[]);
    wire.ask(EDS, &["eds"]);
    wire.ask(LDS, &[]);
    wire.ask(RDS, &["r"]);
    wire.settle();
    wire
}

#[test]
fn x39_types_come_in_order() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.change(|world| {
            for (kind, name) in [(RDS, "r"), (LDS, "l"), (EDS, "eds"), (CDS, "eds")] {
                world.put(kind, name, "2");
            }
        });
        assert_eq!(kinds(&wire.settle()), [CDS, EDS, LDS, RDS]);
    }
}

#[test]
fn x40_a_route_waits_until_its_cluster_works() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.change(|world| {
            world.put(CDS, "eds2", "1");
            world.put(EDS, "eds2", "1");
            world.put(RDS, "r", "to eds2");
        });
        let clusters = wire.one();
        assert_eq!(clusters.kind, Some(CDS));
        wire.ack(&clusters);
        // Envoy asks for the endpoints right after the ACK; between the two nothing may go out.
        wire.silent();
        assert!(wire.stream.is_waiting());
        match protocol {
            Protocol::Delta => wire.sub(EDS, &["eds2"]),
            Protocol::Sotw => drop(wire.list(EDS, &["eds", "eds2"], "")),
        }
        let endpoints = wire.one();
        assert_eq!(endpoints.names, ["eds2"]);
        wire.silent();
        wire.ack(&endpoints);
        assert_eq!(wire.one().kind, Some(RDS));
    }
}

#[test]
fn x40_but_not_for_ever() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.change(|world| {
            world.put(CDS, "eds2", "1");
            world.put(RDS, "r", "to eds2");
        });
        let clusters = wire.one();
        wire.silent();
        wire.stream.stop_waiting();
        assert_eq!(wire.one().kind, Some(RDS));
        wire.ack(&clusters);
        wire.silent();
    }
}

#[test]
fn x41_a_cluster_goes_when_the_routes_without_it_are_accepted() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.put(CDS, "old", "1");
        wire.settle();
        wire.change(|world| {
            world.remove(CDS, "old");
            world.put(RDS, "r", "without old");
        });
        let routes = wire.one();
        assert_eq!(routes.kind, Some(RDS));
        wire.silent();
        wire.ack(&routes);
        let clusters = wire.one();
        assert_eq!(clusters.kind, Some(CDS));
        assert!(!clusters.names.contains(&"old".to_owned()));
        assert_eq!(clusters.removed.len(), usize::from(protocol == Protocol::Delta));
    }
}

#[test]
fn x41_a_cluster_that_leaves_stays_in_the_world_meanwhile() {
    let mut wire = settled(Protocol::Sotw);
    wire.put(CDS, "old", "1");
    wire.settle();
    wire.change(|world| {
        world.remove(CDS, "old");
        world.put(CDS, "new", "1");
        world.put(RDS, "r", "to new");
    });
    let clusters = wire.one();
    assert_eq!(clusters.names, ["eds", "new", "old"]);
    wire.ack(&clusters);
    let routes = wire.one();
    assert_eq!(routes.kind, Some(RDS));
    wire.ack(&routes);
    assert_eq!(wire.one().names, ["eds", "new"]);
}

#[test]
fn x41_x46_and_stays_if_they_are_refused() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.put(CDS, "old", "1");
        wire.settle();
        wire.change(|world| {
            world.remove(CDS, "old");
            world.put(RDS, "r", "bad");
        });
        let routes = wire.one();
        wire.nack(&routes, "bad");
        wire.silent();
        // Other types go on.
        wire.put(LDS, "l", "2");
        let listeners = wire.one();
        assert_eq!(listeners.kind, Some(LDS));
        wire.ack(&listeners);
        wire.put(RDS, "r", "good");
        let routes = wire.one();
        wire.ack(&routes);
        let clusters = wire.one();
        assert_eq!(clusters.kind, Some(CDS));
        assert!(!clusters.names.contains(&"old".to_owned()));
    }
}

#[test]
fn x42_endpoints_follow_a_cluster_that_changed() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.put(CDS, "eds", "2");
        let said = wire.said();
        assert_eq!(kinds(&said), [CDS, EDS]);
        assert_eq!(said[1].names, ["eds"]);
    }
}

#[test]
fn x43_endpoints_follow_clusters_whatever_was_asked_first() {
    for protocol in BOTH {
        let mut wire = Wire::new(protocol, &[(CDS, "eds", "1"), (EDS, "eds", "1")]);
        wire.ask(EDS, &["eds"]);
        let early = wire.one();
        wire.ask(CDS, &[]);
        assert_eq!(wire.one().kind, Some(CDS));
        wire.ack(&early);
        let again = wire.one();
        assert_eq!((again.kind, again.names), (Some(EDS), vec!["eds".to_owned()]));
    }
}

#[test]
fn x44_asking_again_while_warming_is_not_an_ack() {
    let mut wire = settled(Protocol::Sotw);
    wire.put(RDS, "r", "2");
    let routes = wire.one();
    wire.ack(&routes);
    wire.ack(&routes);
    wire.silent();
    wire.put(LDS, "l", "2");
    wire.settle();
    wire.list(RDS, &["r"], &routes.nonce);
    assert_eq!(wire.one().names, ["r"]);
}

#[test]
fn x46_a_nack_of_clusters_holds_nothing_up() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.change(|world| {
            world.put(CDS, "eds2", "bad");
            world.put(RDS, "r", "2");
        });
        let clusters = wire.one();
        wire.nack(&clusters, "bad");
        assert_eq!(wire.one().kind, Some(RDS));
    }
}

#[test]
fn x47_one_response_in_flight_a_type() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.put(RDS, "r", "2");
        let first = wire.one();
        (3..20).for_each(|n| wire.put(RDS, "r", &n.to_string()));
        wire.silent();
        wire.ack(&first);
        let second = wire.one();
        wire.ack(&second);
        wire.silent();
    }
}

#[test]
fn x48_after_a_nack_old_content_is_a_new_version() {
    for protocol in BOTH {
        let mut wire = settled(protocol);
        wire.put(LDS, "m", "1");
        let accepted = wire.one();
        wire.ack(&accepted);
        wire.put(LDS, "m", "bad");
        let refused = wire.one();
        wire.nack(&refused, "bad");
        wire.put(LDS, "m", "1");
        let recovery = wire.one();
        assert_eq!((&recovery.names, &recovery.bodies), (&accepted.names, &accepted.bodies));
        assert_ne!(recovery.version, accepted.version);
        assert_ne!(recovery.version, refused.version);
    }
}

#[test]
fn x93_a_refused_filter_takes_no_other_along() {
    for protocol in BOTH {
        let mut wire = Wire::new(protocol, &[(ECDS, "a", "1"), (ECDS, "b", "1"), (ECDS, "c", "1")]);
        wire.ask(ECDS, &["a", "b", "c"]);
        for name in ["a", "b", "c"] {
            let said = wire.one();
            assert_eq!(said.names, [name]);
            if name == "b" {
                wire.nack(&said, "bad")
            } else {
                wire.ack(&said)
            };
        }
        wire.silent();
        wire.put(ECDS, "a", "2");
        let said = wire.one();
        assert_eq!(said.names, ["a"]);
        wire.ack(&said);
        wire.silent();
        wire.put(ECDS, "b", "2");
        assert_eq!(wire.one().names, ["b"]);
    }
}
