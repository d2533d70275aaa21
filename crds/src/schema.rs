//! The schemas of custom resource definitions, from the types: structural, as the API server wants them
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>).
//!
//! A type says its fields, their types and their enum values. What a type does not say (limits, required fields,
//! rules) is in [`limit`], in the schema's own words, and is merged into it.

mod limit;

use crate::field;
use serde_json::{Map, Value, json};

/// Kinds that have a type, and whose limits are not in [`limit`] yet.
const WITHOUT_LIMITS: [&str; 2] = ["TrafficExtension", "WasmPlugin"];

/// The schema of the `spec` of a kind; none where navarch has no type of it.
///
/// ```
/// let schema = crds::schema::spec("DestinationRule").unwrap();
/// assert_eq!(schema["properties"]["host"]["type"], "string");
/// assert_eq!(schema["required"], serde_json::json!(["host"]));
/// ```
pub fn spec(kind: &str) -> Option<Value> {
    if WITHOUT_LIMITS.contains(&kind) {
        return None;
    }
    let (_, mut root) = field::schemas().into_iter().find(|(name, _)| *name == kind)?;
    for (message, limits) in limit::of_messages() {
        if root["title"] == message {
            merge(&mut root, limits);
        } else if let Some(definition) = root.pointer_mut(&format!("/$defs/{message}")) {
            merge(definition, limits);
        }
    }
    let mut schema = structural(&root, &root);
    for (path, limits) in limit::of_places() {
        if let Some(place) = path.strip_prefix(kind).and_then(|path| at(&mut schema, path)) {
            merge(place, limits);
        }
    }
    Some(schema)
}

/// The place that a path such as `.servers[].port` leads to.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let steps = path.replace("[]", ".[]").replace("{}", ".{}");
    steps.split('.').filter(|step| !step.is_empty()).try_fold(schema, |schema, step| match step {
        "[]" => schema.get_mut("items"),
        "{}" => schema.get_mut("additionalProperties"),
        name => schema.get_mut("properties")?.get_mut(name),
    })
}

/// Objects are merged, everything else is replaced; null takes away.
fn merge(schema: &mut Value, limits: Value) {
    let (Value::Object(schema), Value::Object(limits)) = (&mut *schema, &limits) else {
        *schema = limits;
        return;
    };
    for (key, limit) in limits {
        match limit {
            // What is not here may be in the type that this one refers to.
            Value::Null if schema.remove(key).is_none() => _ = schema.insert(key.clone(), Value::Null),
            Value::Null => {}
            limit => merge(schema.entry(key.clone()).or_insert(Value::Null), limit.clone()),
        }
    }
}

/// Schemas of the API server have no references, no alternatives of types and no null, and say integers' bounds
/// instead of their size.
fn structural(root: &Value, schema: &Value) -> Value {
    let mut own = schema.as_object().cloned().unwrap_or_default();
    if let Some(alternatives) = own.get("anyOf").and_then(Value::as_array)
        && alternatives.iter().any(|it| it["type"] == "null")
    {
        let value = alternatives.iter().find(|it| it["type"] != "null").cloned().unwrap_or_default();
        own.remove("anyOf");
        return over(structural(root, &value), own);
    }
    if let Some(reference) = own.remove("$ref") {
        let target = reference.as_str().and_then(|it| root.pointer(it.strip_prefix('#')?));
        return over(structural(root, target.unwrap_or(&Value::Null)), own);
    }
    let mut made = Map::new();
    for (keyword, value) in own {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "default" => {}
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                let fields = fields.map(|(name, field)| (name.clone(), structural(root, field)));
                made.insert(keyword, fields.collect());
            }
            "items" | "additionalProperties" => _ = made.insert(keyword, structural(root, &value)),
            "description" => _ = made.insert(keyword, description(&value)),
            "type" => {
                let some = value.as_array().and_then(|types| types.iter().find(|it| *it != "null"));
                made.insert(keyword, some.unwrap_or(&value).clone());
            }
            "format" => format(&mut made, &value),
            // Enum values, of which some have comments.
            "oneOf" if value[0]["type"] == "string" => {
                let values = value.as_array().into_iter().flatten();
                let values =
                    values.flat_map(|it| it["enum"].as_array().cloned().unwrap_or_else(|| vec![it["const"].clone()]));
                made.insert("enum".to_owned(), values.collect());
                made.insert("type".to_owned(), json!("string"));
            }
            _ => _ = made.insert(keyword, value),
        }
    }
    if !made.contains_key("type") {
        // Any value, which is a message of Envoy's in all places.
        made.insert("type".to_owned(), json!("object"));
        made.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
    Value::Object(made)
}

/// What a field says beside the type it refers to.
fn over(mut schema: Value, mut own: Map<String, Value>) -> Value {
    own.remove("default");
    if let Some(text) = own.get_mut("description") {
        *text = description(text);
    }
    merge(&mut schema, Value::Object(own));
    schema
}

fn format(schema: &mut Map<String, Value>, format: &Value) {
    match format.as_str() {
        Some("uint32") => _ = schema.entry("maximum").or_insert(json!(u32::MAX)),
        Some("uint64") => {}
        _ => _ = schema.insert("format".to_owned(), format.clone()),
    }
}

/// Of one line.
fn description(text: &Value) -> Value {
    json!(text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}
