//! One value into one type, with the path of whatever is wrong in it.

use crate::object::ObjectKey;
use crate::{Problem, Reason};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What to do with a field that the type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Report,
    Ignore,
}

pub(super) struct Read<T> {
    pub(super) value: Option<T>,
    pub(super) problems: Vec<Problem>,
}

/// Reads `value`, which stands at `path` of its object. An absent value reads as an empty object.
pub(super) fn read<T: DeserializeOwned>(mut value: Value, path: &str, unknown: Unknown, key: &ObjectKey) -> Read<T> {
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    without_nulls(&mut value, "");
    let mut problems = Vec::new();
    let mut on_unknown = |ignored: serde_ignored::Path<'_>| {
        if unknown == Unknown::Report {
            let field = join(path, &field_path(&ignored));
            problems.push(Problem::new(key, field, Reason::UnknownField));
        }
    };
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let value = match T::deserialize(serde_ignored::Deserializer::new(tracked, &mut on_unknown)) {
        Ok(value) => Some(value),
        Err(error) => {
            let at = track.path();
            let at = at.iter().fold(String::new(), |at, segment| match segment {
                serde_path_to_error::Segment::Seq { index } => format!("{at}[{index}]"),
                serde_path_to_error::Segment::Map { key } => join(&at, key),
                serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => at,
            });
            problems.push(Problem::new(key, join(path, &at), reason(&error)));
            None
        }
    };
    Read { value, problems }
}

/// Joins two field paths. `[0]` needs no dot before it.
pub(super) fn join(path: &str, field: &str) -> String {
    match (path, field) {
        ("", only) | (only, "") => only.to_owned(),
        (path, field) if field.starts_with('[') => format!("{path}{field}"),
        (path, field) => format!("{path}.{field}"),
    }
}

/// serde says the allowed values in the message of an unknown variant; the kind of error is only in its text.
fn reason(error: &serde_json::Error) -> Reason {
    let text = error.to_string();
    match text.strip_prefix("unknown variant ") {
        Some(rest) => Reason::UnknownEnumValue(format!("unknown value {}", rest.replace('`', "\""))),
        None => Reason::Malformed(text.replace('`', "")),
    }
}

fn field_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map { parent, key } => join(&field_path(parent), key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => field_path(parent),
    }
}

/// A field set to null is a field that is not set, as in the API server and protobuf's JSON. In a map of the user's
/// own keys a null stays, and is refused by the type: leaving `app:` out of a selector would widen it.
fn without_nulls(value: &mut Value, name: &str) {
    match value {
        Value::Object(map) => {
            if !USER_MAPS.contains(&name) {
                map.retain(|_, value| !value.is_null());
            }
            for (name, value) in map {
                without_nulls(value, name);
            }
        }
        Value::Array(items) => {
            for item in items {
                without_nulls(item, "");
            }
        }
        _ => {}
    }
}

/// Fields whose keys are the user's.
const USER_MAPS: &[&str] = &[
    "add",
    "annotations",
    "data",
    "headers",
    "labels",
    "matchLabels",
    "portLevelMtls",
    "ports",
    "proxyMetadata",
    "queryParams",
    "selector",
    "set",
    "sourceLabels",
    "to",
    "withoutHeaders",
];
