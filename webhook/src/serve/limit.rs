//! What a request may cost (S49, F39), and JSON read without mercy.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// An object is at most 1.5 MiB in etcd, and a review of an update carries two.
pub(super) const BODY_BYTES_MAX: usize = 3 << 20;

/// A review is a few milliseconds of work and a few times its size in memory; more than this wait.
pub(super) const REQUESTS_AT_ONCE_MAX: usize = 32;

/// For the whole body, from the first byte of it. The API server itself gives up after ten seconds.
pub(super) const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// For a place among those at work.
pub(super) const PLACE_WAIT_MAX: Duration = Duration::from_secs(5);

/// JSON with nothing behind it, no name twice in one object, and at most 128 levels (serde_json's own limit).
pub(super) fn json(bytes: &[u8]) -> Result<Value, String> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut parser).map_err(|error| error.to_string())?;
    parser.end().map_err(|error| error.to_string())?;
    Ok(value)
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format_args!("{name:?} is there twice")));
            }
            fields.insert(name, from.next_value_seed(Self)?);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f39_json_is_read_strictly() {
        assert_eq!(json(br#"{"a":[1,-2,0.5,"x",true,null]}"#).unwrap()["a"][1], -2);
        for (text, why) in [
            ("{\"a\":1,\"a\":2}", "there twice"),
            ("{} {}", "trailing"),
            ("{\"a\"", "EOF"),
            ("\u{0}", "expected value"),
        ] {
            let error = json(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(json(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(json(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }
}
