//! Messages as proto-JSON, for people: golden files, dumps, patches written by hand.
//!
//! Keys are in alphabetical order, so that equal messages print equally.

use crate::{canonical, descriptor};
use prost::{Message, Name};
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is no type of Envoy's")]
    UnknownType(String),
    #[error("not a {message}: {source}")]
    Bytes { message: String, source: prost::DecodeError },
    /// From bytes: an `Any` inside of a type that is not known, or whose bytes are not of its type.
    #[error("not a {message}: {source}")]
    Json { message: String, source: serde_json::Error },
}

/// The JSON form of an encoded message.
///
/// ```
/// use xds::{TypeUrl, canonical, envoy, json};
/// let cluster = envoy::Cluster { name: "a".into(), alt_stat_name: "b".into(), ..Default::default() };
/// let value = json::to_json(TypeUrl::Cluster.url(), &canonical::encode(&cluster)).unwrap();
/// assert_eq!(value.to_string(), r#"{"altStatName":"b","name":"a"}"#);
/// ```
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<Value, Error> {
    let descriptor = find(type_url)?;
    let name = descriptor.full_name().to_owned();
    let message =
        DynamicMessage::decode(descriptor, bytes).map_err(|source| Error::Bytes { message: name.clone(), source })?;
    let value = serde_json::to_value(&message).map_err(|source| Error::Json { message: name, source })?;
    Ok(sorted(value))
}

/// The canonical bytes of a message given as JSON. A field that the message does not have is an error.
pub fn from_json(type_url: &str, value: &Value) -> Result<Vec<u8>, Error> {
    let descriptor = find(type_url)?;
    let name = descriptor.full_name().to_owned();
    let message = DynamicMessage::deserialize(descriptor, value)
        .map_err(|source| Error::Json { message: name.clone(), source })?;
    let mut bytes = message.encode_to_vec();
    canonical::in_place(&name, &mut bytes);
    Ok(bytes)
}

/// [`from_json`], passing over fields that the message does not have: they may be a newer Envoy's. The error is what a
/// strict reader says of them.
pub fn from_json_of_any_version(type_url: &str, value: &Value) -> Result<(Vec<u8>, Option<Error>), Error> {
    let strictly = match from_json(type_url, value) {
        Ok(bytes) => return Ok((bytes, None)),
        Err(error) => error,
    };
    let descriptor = find(type_url)?;
    let name = descriptor.full_name().to_owned();
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor, value, &options)
        .map_err(|source| Error::Json { message: name.clone(), source })?;
    let mut bytes = message.encode_to_vec();
    canonical::in_place(&name, &mut bytes);
    Ok((bytes, Some(strictly)))
}

/// [`to_json`] of a message that is not encoded yet.
pub fn of<M: Message + Name>(message: &M) -> Result<Value, Error> {
    to_json(&M::full_name(), &message.encode_to_vec())
}

/// [`from_json`] to a message.
///
/// ```
/// use xds::{envoy, json};
/// let cluster: envoy::Cluster = json::parse(&serde_json::json!({"name": "a", "connect_timeout": "1s"})).unwrap();
/// assert_eq!(cluster.connect_timeout.unwrap().seconds, 1);
/// ```
pub fn parse<M: Message + Name + Default>(value: &Value) -> Result<M, Error> {
    let bytes = from_json(&M::full_name(), value)?;
    M::decode(&*bytes).map_err(|source| Error::Bytes { message: M::full_name(), source })
}

fn find(type_url: &str) -> Result<MessageDescriptor, Error> {
    descriptor::message(type_url).ok_or_else(|| Error::UnknownType(type_url.to_owned()))
}

/// Objects with their keys in order. The map type keeps insertion order, other crates want it so.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().map(|(name, field)| (name, sorted(field))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy;

    #[test]
    fn there_and_back_with_an_any_inside() {
        let options = envoy::HttpProtocolOptions::default();
        let cluster = envoy::Cluster {
            name: "a".into(),
            typed_extension_protocol_options: [("http".into(), canonical::any(&options))].into(),
            ..Default::default()
        };
        let bytes = canonical::encode(&cluster);
        let json = to_json("envoy.config.cluster.v3.Cluster", &bytes).unwrap();
        let options = &json["typedExtensionProtocolOptions"]["http"];
        assert_eq!(options["@type"], "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
        assert_eq!(from_json("envoy.config.cluster.v3.Cluster", &json).unwrap(), bytes);
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert!(matches!(to_json("no.Such", b""), Err(Error::UnknownType(_))));
        let unknown = serde_json::json!({"name": "a", "nam": "b"});
        assert!(from_json("envoy.config.cluster.v3.Cluster", &unknown).unwrap_err().to_string().contains("nam"));
        assert!(matches!(to_json("envoy.config.cluster.v3.Cluster", b"\xff"), Err(Error::Bytes { .. })));
        let (bytes, remark) = from_json_of_any_version("envoy.config.cluster.v3.Cluster", &unknown).unwrap();
        assert_eq!(bytes, canonical::encode(&envoy::Cluster { name: "a".into(), ..Default::default() }));
        assert!(remark.unwrap().to_string().contains("nam"));
        let wrong = serde_json::json!({"name": 1});
        assert!(from_json_of_any_version("envoy.config.cluster.v3.Cluster", &wrong).is_err());
    }
}
