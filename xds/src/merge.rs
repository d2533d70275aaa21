//! Merging one message into another as Istio does where a user patches what it made: as protobuf merges, except that
//! durations, wrapped scalars and `Any`s are values (`istio.md` 1.9): half of one duration and half of another is none.

use crate::{canonical, descriptor, json::Error};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// What becomes of repeated fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    Append,
    Replace,
}

/// Merges encoded messages of one type: fields that `patch` sets win, maps are joined.
///
/// ```
/// use xds::merge::{Lists, merge};
/// use xds::{canonical, envoy::Cluster};
/// use prost::Message;
/// let base = Cluster { name: "a".into(), alt_stat_name: "b".into(), ..Default::default() };
/// let patch = Cluster { alt_stat_name: "c".into(), ..Default::default() };
/// let merged = merge("envoy.config.cluster.v3.Cluster", &canonical::encode(&base), &canonical::encode(&patch), Lists::Append);
/// let merged = Cluster::decode(&*merged.unwrap()).unwrap();
/// assert_eq!((&*merged.name, &*merged.alt_stat_name), ("a", "c"));
/// ```
pub fn merge(type_url: &str, base: &[u8], patch: &[u8], lists: Lists) -> Result<Vec<u8>, Error> {
    let descriptor = descriptor::message(type_url).ok_or_else(|| Error::UnknownType(type_url.to_owned()))?;
    let name = descriptor.full_name().to_owned();
    let decode = |bytes| {
        DynamicMessage::decode(descriptor.clone(), bytes)
            .map_err(|source| Error::Bytes { message: name.clone(), source })
    };
    let mut merged = decode(base)?;
    into(&mut merged, &decode(patch)?, lists);
    let mut bytes = merged.encode_to_vec();
    canonical::in_place(&name, &mut bytes);
    Ok(bytes)
}

/// [`merge`] of a message that is decoded already, with an encoded one.
pub fn merge_into<M: Message + Name + Default>(base: &mut M, patch: &[u8], lists: Lists) -> Result<(), Error> {
    let merged = merge(&M::full_name(), &canonical::encode(base), patch, lists)?;
    *base = M::decode(&*merged).map_err(|source| Error::Bytes { message: M::full_name(), source })?;
    Ok(())
}

fn into(base: &mut DynamicMessage, patch: &DynamicMessage, lists: Lists) {
    for (field, value) in patch.fields() {
        let is_set = base.has_field(&field);
        match (value, is_set.then(|| base.get_field_mut(&field))) {
            (Value::List(patch), Some(Value::List(base))) if lists == Lists::Append => {
                base.extend(patch.iter().cloned())
            }
            (Value::Map(patch), Some(Value::Map(base))) => {
                base.extend(patch.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            (Value::Message(patch), Some(Value::Message(base))) if !is_value(patch) => into(base, patch, lists),
            (value, _) => base.set_field(&field, value.clone()),
        }
    }
}

/// Messages that stand for one value.
fn is_value(message: &DynamicMessage) -> bool {
    let descriptor = message.descriptor();
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else { return false };
    matches!(name, "Any" | "Duration" | "Timestamp") || name.ends_with("Value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use serde_json::{Value as Json, json};

    fn merged(kind: &str, base: Json, patch: Json, lists: Lists) -> Json {
        let encoded = |value| json::from_json(kind, &value).unwrap();
        json::to_json(kind, &merge(kind, &encoded(base), &encoded(patch), lists).unwrap()).unwrap()
    }

    #[test]
    fn fields_merge_as_istio_merges_them() {
        let header = |key: &str| json!({"header": {"key": key, "value": "x"}});
        let any = |seconds: &str| json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "connectTimeout": seconds});
        let cluster = "envoy.config.cluster.v3.Cluster";
        let host = "envoy.config.route.v3.VirtualHost";
        for (kind, base, patch, expected) in [
            // A duration is one value: 1.5 s and 2 s is 2 s, not 2.5 s.
            (
                cluster,
                json!({"connectTimeout": "1.5s"}),
                json!({"connectTimeout": "2s"}),
                json!({"connectTimeout": "2s"}),
            ),
            // A wrapped zero is a value.
            (
                cluster,
                json!({"perConnectionBufferLimitBytes": 7}),
                json!({"perConnectionBufferLimitBytes": 0}),
                json!({"perConnectionBufferLimitBytes": 0}),
            ),
            // Messages merge field by field.
            (
                cluster,
                json!({"commonLbConfig": {"closeConnectionsOnHostSetChange": true}}),
                json!({"commonLbConfig": {"updateMergeWindow": "1s"}}),
                json!({"commonLbConfig": {"closeConnectionsOnHostSetChange": true, "updateMergeWindow": "1s"}}),
            ),
            // Lists are joined, maps too.
            (
                host,
                json!({"requestHeadersToAdd": [header("a")], "typedPerFilterConfig": {"a": any("1s"), "b": any("1s")}}),
                json!({"requestHeadersToAdd": [header("b")], "typedPerFilterConfig": {"b": any("2s")}}),
                json!({"requestHeadersToAdd": [header("a"), header("b")], "typedPerFilterConfig": {"a": any("1s"), "b": any("2s")}}),
            ),
            // The other member of a oneof goes.
            (
                "envoy.config.route.v3.RouteMatch",
                json!({"prefix": "/", "caseSensitive": true}),
                json!({"path": "/a"}),
                json!({"path": "/a", "caseSensitive": true}),
            ),
        ] {
            assert_eq!(merged(kind, base, patch, Lists::Append), expected);
        }
        let replaced = merged(host, json!({"domains": ["a", "b"]}), json!({"domains": ["c"]}), Lists::Replace);
        assert_eq!(replaced, json!({"domains": ["c"]}));
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error() {
        let merge = |kind, patch| merge(kind, b"", patch, Lists::Append);
        assert!(matches!(merge("no.Such", b""), Err(Error::UnknownType(_))));
        assert!(matches!(merge("envoy.config.cluster.v3.Cluster", b"\xff"), Err(Error::Bytes { .. })));
    }
}
