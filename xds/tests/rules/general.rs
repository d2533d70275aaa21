//! X1–X11, X70–X89: streams, nodes, types that are not served; both protocols.

use crate::rig::{Wire, World, delta, node, strings};
use xds::{
    ConnectionId, Hub, Layer, NodeError, Observed, Protocol, ProtocolError, Request, Stream, TypeUrl, Update, View,
    envoy,
};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::Endpoint;

#[test]
fn x01_a_first_request_without_a_node_id_ends_the_stream() {
    for node in [None, Some(envoy::core::Node::default())] {
        let request = envoy::DeltaDiscoveryRequest { node, ..delta(CDS) };
        let mut stream = Stream::new(Protocol::Delta);
        assert_eq!(stream.request(Request::Delta(request)), Err(ProtocolError::Node(NodeError::NoId)));
        assert!(stream.node().is_none());
    }
}

#[test]
fn x02_later_requests_need_no_node() {
    let mut wire = Wire::delta(&[]);
    wire.sub(CDS, &[]);
    for node in [None, Some(envoy::core::Node::default())] {
        wire.send(envoy::DeltaDiscoveryRequest { node, ..delta(EDS) });
        assert_eq!(wire.stream.node().unwrap().id, "proxy~1");
    }
}

#[test]
fn x03_a_later_node_id_that_differs_ends_the_stream() {
    let mut wire = Wire::delta(&[]);
    wire.sub(CDS, &[]);
    let other = Some(envoy::core::Node { id: "proxy~2".into(), ..Default::default() });
    let request = Request::Delta(envoy::DeltaDiscoveryRequest { node: other, ..delta(CDS) });
    assert!(matches!(wire.stream.request(request), Err(ProtocolError::NodeChanged { .. })));
    assert_eq!(wire.stream.node().unwrap().id, "proxy~1");
}

#[test]
fn x04_types_do_not_touch_each_other() {
    let mut wire = Wire::delta(&[(CDS, "a", "1"), (EDS, "e", "1")]);
    wire.sub(CDS, &[]);
    wire.sub(EDS, &["e"]);
    let [clusters, endpoints] = wire.said().try_into().unwrap();
    assert_ne!(clusters.nonce, endpoints.nonce);
    // The nonce of one type on a request of the other settles nothing.
    let confused = envoy::DeltaDiscoveryRequest { response_nonce: clusters.nonce, ..delta(EDS) };
    assert_eq!(wire.send(confused), None);
    wire.put(EDS, "e", "2");
    wire.silent();
    assert!(matches!(wire.ack(&endpoints), Some(Observed::Ack { kind: EDS, .. })));
    assert_eq!(wire.one().names, ["e"]);
}

#[test]
fn x05_two_streams_of_one_node_are_two_connections() {
    let hub = Hub::default();
    let world = World::of(&[(CDS, "a", "1")]);
    let view = |set: &str| Some(View { layers: [(CDS, vec![set.into()])].into() }.into());
    let layer: Layer = world.snapshot().layers(CDS).iter().map(|r| (r.name.clone(), Some(r.clone()))).collect();
    let nodes = vec![(ConnectionId(1), view("all")), (ConnectionId(2), view("none"))];
    hub.publish(Update { sets: vec![("all".into(), Some(layer))], nodes });
    assert!(hub.snapshot(ConnectionId(1)).unwrap().get(CDS, "a").is_some());
    assert!(hub.snapshot(ConnectionId(2)).unwrap().get(CDS, "a").is_none());
    hub.publish(Update { nodes: vec![(ConnectionId(1), None)], ..Update::default() });
    assert!(hub.snapshot(ConnectionId(1)).is_none());
    assert!(hub.snapshot(ConnectionId(2)).is_some());
}

#[test]
fn x09_a_type_that_is_not_served_is_answered_with_nothing() {
    let mut wire = Wire::delta(&[(CDS, "a", "1")]);
    let request = envoy::DeltaDiscoveryRequest {
        node: node(),
        type_url: "type.googleapis.com/no.Such".into(),
        resource_names_subscribe: strings(&["x", "*", "y"]),
        ..Default::default()
    };
    let unknown = Some(Observed::UnknownType { type_url: "type.googleapis.com/no.Such".into(), error: None });
    assert_eq!(wire.send(request), unknown);
    let said = wire.one();
    assert_eq!(
        (said.url.as_str(), said.names, said.removed),
        ("type.googleapis.com/no.Such", vec![], strings(&["x", "y"]))
    );
    wire.sub(CDS, &[]);
    assert_eq!(wire.one().names, ["a"]);

    let mut wire = Wire::sotw(&[(CDS, "a", "1")]);
    let request = envoy::DiscoveryRequest {
        node: node(),
        type_url: "type.googleapis.com/no.Such".into(),
        resource_names: strings(&["x"]),
        ..Default::default()
    };
    assert_eq!(wire.stream.request(Request::Sotw(request)), Ok(unknown));
    wire.silent();
    wire.list(CDS, &[], "");
    assert_eq!(wire.one().names, ["a"]);
}

#[test]
fn x10_a_request_without_a_type_ends_the_stream() {
    let mut stream = Stream::new(Protocol::Delta);
    let request = envoy::DeltaDiscoveryRequest { node: node(), ..Default::default() };
    assert_eq!(stream.request(Request::Delta(request)), Err(ProtocolError::NoType));
}

#[test]
fn x38_an_endpoint_change_touches_endpoints_only() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let all = [(CDS, "eds", "1"), (EDS, "eds", "1"), (TypeUrl::Listener, "l", "1"), (TypeUrl::Route, "r", "1")];
        let mut wire = Wire::new(protocol, &all);
        wire.ask(CDS, &[]);
        wire.ask(EDS, &["eds"]);
        wire.ask(TypeUrl::Listener, &[]);
        wire.ask(TypeUrl::Route, &["r"]);
        wire.settle();
        wire.put(EDS, "eds", "2");
        assert_eq!(wire.one().kind, Some(EDS));
    }
}

#[test]
fn x36_no_change_no_response() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut wire = Wire::new(protocol, &[(CDS, "eds", "1"), (EDS, "eds", "1")]);
        wire.ask(CDS, &[]);
        wire.ask(EDS, &["eds"]);
        wire.settle();
        for _ in 0..10 {
            // The same content under other pointers, and a change of what nobody asked for.
            wire.change(|world| {
                world.put(CDS, "eds", "1");
                world.put(TypeUrl::Route, "r", "1");
            });
            wire.silent();
        }
    }
}

#[test]
fn x49_a_burst_of_changes_is_sent_as_its_last() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut wire = Wire::new(protocol, &[(CDS, "a", "0")]);
        wire.ask(CDS, &[]);
        let first = wire.one();
        (1..50).for_each(|n| wire.put(CDS, "a", &n.to_string()));
        wire.silent();
        wire.ack(&first);
        let last = wire.one();
        assert_eq!(
            last.bodies,
            [xds::canonical::encode(&envoy::Cluster {
                name: "a".into(),
                alt_stat_name: "49".into(),
                ..Default::default()
            })]
        );
        wire.ack(&last);
        wire.silent();
    }
}

#[test]
fn x70_x71_x72_no_ttl_no_wrapper_no_resource_errors() {
    // The rig checks every response that any test here reads; this one makes sure that there is one of each kind.
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut wire = Wire::new(protocol, &[(CDS, "a", "0")]);
        wire.ask(CDS, &["a", "missing"]);
        assert_eq!(wire.one().names, ["a"]);
    }
}

#[test]
fn x74_xdstp_names_are_names() {
    let mut wire = Wire::delta(&[]);
    wire.sub(
        EDS,
        &["xdstp://authority/envoy.config.endpoint.v3.ClusterLoadAssignment/a?b=c#d", "xdstp://", "::/\u{0}"],
    );
    assert_eq!(wire.one().removed.len(), 3);
}

#[test]
fn x88_versions_and_nonces_tell_nothing_of_other_nodes() {
    let open = |secret: &str| {
        let mut wire = Wire::delta(&[(CDS, "a", "1"), (TypeUrl::Secret, secret, "")]);
        wire.sub(CDS, &[]);
        wire.one()
    };
    // Same content, same words, whatever else the other node may see.
    assert_eq!(open("one"), open("other"));
}

#[test]
fn x89_debug_types_are_types_that_are_not_served() {
    let mut wire = Wire::delta(&[(CDS, "a", "1")]);
    let request = envoy::DeltaDiscoveryRequest {
        node: node(),
        type_url: "istio.io/debug/config_dump".into(),
        resource_names_subscribe: strings(&["proxy~2"]),
        ..Default::default()
    };
    wire.send(request);
    let said = wire.one();
    assert_eq!((said.names, said.removed), (vec![], strings(&["proxy~2"])));
}

#[test]
fn x92_agents_get_their_names_and_settings_without_asking_for_any_by_name() {
    let (nds, pcds) = (TypeUrl::NameTable, TypeUrl::ProxyConfig);
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut wire = Wire::new(protocol, &[(nds, "names", "1")]);
        wire.ask(nds, &[]);
        let said = wire.one();
        assert_eq!(
            (said.kind, said.names.as_slice(), &*said.bodies[0]),
            (Some(nds), &["names".to_owned()][..], &b"1"[..])
        );
        wire.ack(&said);
        // There are no settings; that is an answer too, and agents wait for one.
        wire.ask(pcds, &[]);
        let said = wire.one();
        assert_eq!((said.kind, said.names.len()), (Some(pcds), 0));
        wire.ack(&said);
        wire.put(nds, "names", "2");
        assert_eq!(wire.one().names, ["names"]);
        wire.silent();
    }
}
