//! Encodings: JSON, YAML, base64, SHA-256, versions.

use super::{Result, Row, made, semver, string};
use crate::exec::Spent;
use crate::json::{self, Html, Style};
use crate::value::Val;
use crate::yaml;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(super) const TABLE: &[Row] = &[
    ("toJson", 1, 1, |spent, a| json::print(spent, &a[0], Style::Compact, Html::Escaped).map(Val::str)),
    ("mustToJson", 1, 1, |spent, a| json::print(spent, &a[0], Style::Compact, Html::Escaped).map(Val::str)),
    ("toRawJson", 1, 1, |spent, a| json::print(spent, &a[0], Style::Compact, Html::Raw).map(Val::str)),
    ("toPrettyJson", 1, 1, |spent, a| json::print(spent, &a[0], Style::Pretty, Html::Escaped).map(Val::str)),
    ("fromJson", 1, 1, |spent, a| map_or_error(spent, read_json(spent, string(a, 0)?))),
    ("fromJsonArray", 1, 1, |spent, a| list_or_error(spent, read_json(spent, string(a, 0)?))),
    ("toYaml", 1, 1, |spent, a| {
        let text = yaml::print(spent, &a[0])?;
        made(spent, text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }),
    ("fromYaml", 1, 1, |spent, a| map_or_error(spent, read_yaml(spent, string(a, 0)?))),
    ("fromYamlArray", 1, 1, |spent, a| list_or_error(spent, read_yaml(spent, string(a, 0)?))),
    ("b64enc", 1, 1, |spent, a| made(spent, STANDARD.encode(string(a, 0)?))),
    ("b64dec", 1, 1, |spent, a| {
        let text: String = string(a, 0)?.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        let bytes = STANDARD.decode(text);
        made(spent, bytes.map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }),
    ("sha256sum", 1, 1, |spent, a| {
        let text = string(a, 0)?;
        spent.charge(text.len())?;
        let sum = Sha256::digest(text.as_bytes());
        made(spent, sum.iter().map(|byte| format!("{byte:02x}")).collect())
    }),
    ("semverCompare", 2, 2, |_, a| semver::compare(string(a, 0)?, string(a, 1)?).map(Val::Bool)),
];

/// A byte of text can be a value of 60 bytes.
const READ_STEPS: usize = 4;

fn read_json(spent: &Spent<'_>, text: &str) -> Result<Value> {
    spent.charge(text.len().saturating_mul(READ_STEPS))?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn read_yaml(spent: &Spent<'_>, text: &str) -> Result<Value> {
    spent.charge(text.len().saturating_mul(READ_STEPS))?;
    match text.trim().is_empty() {
        true => Ok(Value::Null),
        false => yaml::parse(text),
    }
}

/// Helm's functions do not fail: the map has the error. Numbers become float64, as Go reads them.
fn map_or_error(spent: &Spent<'_>, value: Result<Value>) -> Result {
    let error = |message: String| Val::map([("Error".into(), Val::str(message))]);
    Ok(match value {
        Ok(value @ Value::Object(_)) => read(spent, &value)?,
        Ok(Value::Null) => Val::map([]),
        Ok(_) => error("json: cannot unmarshal into Go value of type map[string]interface {}".into()),
        Err(message) => error(message),
    })
}

fn list_or_error(spent: &Spent<'_>, value: Result<Value>) -> Result {
    let error = |message: String| Val::list(vec![Val::str(message)]);
    Ok(match value {
        Ok(value @ Value::Array(_)) => read(spent, &value)?,
        Ok(Value::Null) => Val::list(Vec::new()),
        Ok(_) => error("json: cannot unmarshal into Go value of type []interface {}".into()),
        Err(message) => error(message),
    })
}

fn read(spent: &Spent<'_>, value: &Value) -> Result {
    json::charge(spent, value)?;
    Ok(Val::of(value, spent.engine.numbers))
}
