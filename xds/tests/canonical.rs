//! Equal messages encode to equal bytes, however their maps came to be.

use std::collections::HashMap;
use xds::{Resource, TypeUrl, canonical, envoy, json};

fn text(value: &str) -> envoy::Value {
    envoy::Value { kind: Some(envoy::value::Kind::StringValue(value.into())) }
}

/// A new map with the same entries: every `HashMap` has its own hash keys, so each goes in an order of its own.
fn shuffled<V>(count: usize, value: impl Fn(usize) -> V) -> HashMap<String, V> {
    (0..count).map(|n| (format!("key-{n}"), value(n))).collect()
}

fn fields(count: usize) -> envoy::Struct {
    envoy::Struct { fields: shuffled(count, |n| text(&n.to_string())) }
}

/// Maps in maps, in messages, in repeated messages, in an `Any` in a map, in an `Any` in an `Any`.
fn cluster() -> envoy::Cluster {
    let nested = envoy::Struct {
        fields: shuffled(10, |n| match n % 3 {
            0 => envoy::Value { kind: Some(envoy::value::Kind::StructValue(fields(n))) },
            1 => envoy::Value {
                kind: Some(envoy::value::Kind::ListValue(envoy::ListValue {
                    values: vec![envoy::Value { kind: Some(envoy::value::Kind::StructValue(fields(5))) }],
                })),
            },
            _ => text("x"),
        }),
    };
    let typed = envoy::TypedStruct { type_url: "a/b".into(), value: Some(nested.clone()) };
    let metadata = envoy::Metadata {
        filter_metadata: shuffled(12, |_| nested.clone()),
        typed_filter_metadata: shuffled(7, |_| canonical::any(&typed)),
    };
    let extension = envoy::TypedExtensionConfig { name: "e".into(), typed_config: Some(canonical::any(&typed)) };
    envoy::Cluster {
        name: "outbound|80||a".into(),
        metadata: Some(metadata),
        typed_extension_protocol_options: shuffled(9, |_| canonical::any(&extension)),
        filters: vec![envoy::cluster::Filter {
            name: "f".into(),
            typed_config: Some(canonical::any(&typed)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn equal_messages_have_equal_bytes_and_versions() {
    let expected = canonical::encode(&cluster());
    let resource = Resource::whole("a", &cluster());
    let mut plain = std::collections::HashSet::new();
    for _ in 0..40 {
        assert_eq!(canonical::encode(&cluster()), expected);
        assert_eq!(Resource::whole("a", &cluster()), resource);
        plain.insert(prost::Message::encode_to_vec(&cluster()));
    }
    assert!(plain.len() > 1, "prost alone gives several encodings, or this test shows nothing");
}

#[test]
fn nothing_but_the_order_changes() {
    let message = cluster();
    assert_eq!(<envoy::Cluster as prost::Message>::decode(&*canonical::encode(&message)).unwrap(), message);
}

#[test]
fn keys_are_sorted_whatever_their_type() {
    let shape = |bytes: &[u8]| json::to_json("google.protobuf.Struct", bytes).unwrap();
    let bytes = canonical::encode(&fields(30));
    let places: Vec<usize> = shape(&bytes)
        .as_object()
        .unwrap()
        .keys()
        .map(|key| {
            let entry = [&[0x0a, key.len() as u8], key.as_bytes()].concat();
            bytes.windows(entry.len()).position(|window| window == entry).unwrap()
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn bytes_that_are_no_message_are_left_alone_or_at_least_not_lost() {
    let whole = canonical::encode(&cluster());
    for cut in (0..whole.len()).step_by(11) {
        let mut bytes = whole[..cut].to_vec();
        canonical::in_place(TypeUrl::Cluster.url(), &mut bytes);
        assert_eq!(bytes.len(), cut);
    }
    let mut garbage = vec![0xff; 64];
    canonical::in_place(TypeUrl::Cluster.url(), &mut garbage);
    assert_eq!(garbage, vec![0xff; 64]);
}

#[test]
fn json_and_back_is_the_same_message() {
    let message = envoy::RouteConfiguration {
        name: "80".into(),
        metadata: Some(envoy::Metadata { filter_metadata: shuffled(20, |n| fields(n % 5)), ..Default::default() }),
        ..Default::default()
    };
    let value = json::of(&message).unwrap();
    assert_eq!(json::parse::<envoy::RouteConfiguration>(&value).unwrap(), message);
    let bytes = json::from_json(TypeUrl::Route.url(), &value).unwrap();
    for _ in 0..50 {
        assert_eq!(json::from_json(TypeUrl::Route.url(), &value).unwrap(), bytes);
    }
}
