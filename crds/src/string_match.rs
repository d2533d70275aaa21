//! Istio's `StringMatch`: exactly one of exact, prefix and regex; none of them means "present".

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;

/// How a string is compared. `Present` is an empty `{}`, which Istio reads as "the header exists".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// RE2 syntax, matched against the whole value.
    Regex(String),
    Present,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Fields {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

impl JsonSchema for StringMatch {
    fn schema_name() -> Cow<'static, str> {
        "StringMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Fields::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        match (fields.exact, fields.prefix, fields.regex) {
            (Some(value), None, None) => Ok(Self::Exact(value)),
            (None, Some(value), None) => Ok(Self::Prefix(value)),
            (None, None, Some(value)) => Ok(Self::Regex(value)),
            (None, None, None) => Ok(Self::Present),
            _ => Err(de::Error::custom("only one of exact, prefix and regex may be set")),
        }
    }
}
