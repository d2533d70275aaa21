//! Values: laid over each other, set from the command line, and compared with the names that the charts know.

use serde_json::{Map, Value};

/// Why values cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValueError {
    #[error("--set {0:?}: expected NAME=VALUE, for example global.proxy.logLevel=debug")]
    NoEquals(String),
    #[error("--set {argument:?}: {name:?} is not a name; write a dot that is part of a name as \\.")]
    Name { argument: String, name: String },
    #[error("--set {argument:?}: list index {index} is above {LIST_INDEX_MAX}")]
    Index { argument: String, index: usize },
    #[error("{file}: {message}")]
    File { file: String, message: String },
    #[error("{file}: values are a map of names to values, this is {found}")]
    NotAMap { file: String, found: &'static str },
    #[error("profile {0:?} does not exist; profiles: default, minimal, demo")]
    Profile(String),
}

/// Lays `over` on `under`: maps are merged, everything else is replaced, and null removes the name (as in Helm).
///
/// ```
/// use serde_json::json;
/// let mut values = json!({"a": {"b": 1, "c": 2}, "d": [1]});
/// deploy::value::merge(&mut values, &json!({"a": {"b": 3, "c": null}, "d": []}));
/// assert_eq!(values, json!({"a": {"b": 3}, "d": []}));
/// ```
pub fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                match (under.get_mut(name), value) {
                    (_, Value::Null) => {
                        under.shift_remove(name);
                    }
                    (Some(present), value) => merge(present, value),
                    (None, value) => {
                        under.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// The values of a file.
pub fn parse(file: &str, text: &str) -> Result<Value, ValueError> {
    let value =
        crds::yaml::value(text).map_err(|error| ValueError::File { file: file.into(), message: error.to_string() })?;
    match value {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(_) => Ok(value),
        other => Err(ValueError::NotAMap { file: file.into(), found: type_name(&other) }),
    }
}

/// Applies one argument of `--set`: `a.b=1`, `a.list[0].b=x`, `a={x,y}`, several separated by commas. Values are typed
/// as YAML is: numbers, true, false and null are not text.
pub fn set(values: &mut Value, argument: &str) -> Result<(), ValueError> {
    set_typed(values, argument, typed)
}

/// As [`set`], but every value is text (`--set-string`).
pub fn set_text(values: &mut Value, argument: &str) -> Result<(), ValueError> {
    set_typed(values, argument, |text| Value::from(unescape(text)))
}

fn set_typed(values: &mut Value, argument: &str, typed: fn(&str) -> Value) -> Result<(), ValueError> {
    for assignment in split(argument, ',') {
        let (name, text) = assignment.split_once('=').ok_or_else(|| ValueError::NoEquals(assignment.to_owned()))?;
        let path = path(assignment, name)?;
        let value = match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("") => Value::Array(Vec::new()),
            Some(items) => split(items, ',').into_iter().map(|item| typed(item.trim())).collect(),
            None => typed(text),
        };
        place(values, &path, value);
    }
    Ok(())
}

/// A step into a value.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

fn path(argument: &str, text: &str) -> Result<Vec<Step>, ValueError> {
    let wrong = |name: &str| ValueError::Name { argument: argument.into(), name: name.into() };
    let mut steps = Vec::new();
    for part in split(text, '.') {
        let (name, indexes) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        if name.is_empty() {
            return Err(wrong(part));
        }
        steps.push(Step::Name(unescape(name)));
        for index in indexes.split_inclusive(']') {
            let index = index.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let index: usize = index.and_then(|digits| digits.parse().ok()).ok_or_else(|| wrong(part))?;
            if index > LIST_INDEX_MAX {
                return Err(ValueError::Index { argument: argument.into(), index });
            }
            steps.push(Step::Index(index));
        }
    }
    Ok(steps)
}

fn place(mut at: &mut Value, path: &[Step], value: Value) {
    for step in path {
        at = match step {
            Step::Name(name) => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                &mut at[name.as_str()]
            }
            Step::Index(index) => {
                let mut list = match at.take() {
                    Value::Array(list) => list,
                    _ => Vec::new(),
                };
                if list.len() <= *index {
                    list.resize(index + 1, Value::Null);
                }
                *at = Value::Array(list);
                &mut at[*index]
            }
        };
    }
    *at = value;
}

/// Splits at `separator` outside braces and brackets, where no backslash stands before it.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut is_escaped) = (Vec::new(), 0, 0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => {
                is_escaped = false;
                continue;
            }
            '\\' => is_escaped = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            c if c == separator && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut unescaped = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        unescaped.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    unescaped
}

/// Helm's rule: integers without a leading zero, true, false and null have a type; all else is text.
fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        "0" => Value::from(0),
        _ if !text.starts_with(['0', '+']) => {
            text.parse::<i64>().map_or_else(|_| Value::from(unescape(text)), Value::from)
        }
        _ => Value::from(unescape(text)),
    }
}

/// Paths of `values` that `known` (a chart's own values) does not have, with the nearest name that it has.
///
/// Below an empty map, an empty value, a list, or one of `open` anything may stand: users name things there.
pub fn unknown(values: &Value, known: &Value, open: &[&str]) -> Vec<Unknown> {
    let mut found = Vec::new();
    find_unknown(values, known, open, "", &mut found);
    found
}

/// A name that no chart knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub path: String,
    /// The whole path that was probably meant.
    pub nearest: Option<String>,
}

fn find_unknown(values: &Value, known: &Value, open: &[&str], prefix: &str, found: &mut Vec<Unknown>) {
    let (Value::Object(values), Value::Object(known)) = (values, known) else { return };
    if known.is_empty() || open.contains(&prefix) {
        return;
    }
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    for (name, value) in values {
        match known.get(name) {
            Some(inner) => find_unknown(value, inner, open, &join(name), found),
            None => {
                let near = known.keys().map(|key| (crds::decode::distance(name, key), key)).min();
                let nearest = near.filter(|(distance, _)| *distance <= (name.len() / 3).max(1));
                found.push(Unknown { path: join(name), nearest: nearest.map(|(_, key)| join(key)) });
            }
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// No list in any chart's values is near this long; a larger index is a slip that would cost memory.
const LIST_INDEX_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn set_takes_what_helm_takes() {
        for (argument, expected) in [
            ("a=1", json!({"a": 1})),
            ("a.b=x,c=true", json!({"a": {"b": "x"}, "c": true})),
            ("a={x,2}", json!({"a": ["x", 2]})),
            ("a={}", json!({"a": []})),
            (r"a.istio\.io/rev=x", json!({"a": {"istio.io/rev": "x"}})),
            (r"a=x\,y", json!({"a": "x,y"})),
            ("a[1].b=c", json!({"a": [null, {"b": "c"}]})),
            ("a=010", json!({"a": "010"})),
            ("a=1.5", json!({"a": "1.5"})),
            ("a=null", json!({"a": null})),
            ("a=x=y", json!({"a": "x=y"})),
            ("a=", json!({"a": ""})),
        ] {
            let mut values = json!({});
            set(&mut values, argument).unwrap();
            assert_eq!(values, expected, "{argument}");
        }
        let mut values = json!({});
        set_text(&mut values, "a=1,b=true").unwrap();
        assert_eq!(values, json!({"a": "1", "b": "true"}));
    }

    #[test]
    fn wrong_arguments_of_set_say_what_is_wrong() {
        for (argument, expected) in [
            ("a", r#"--set "a": expected NAME=VALUE, for example global.proxy.logLevel=debug"#),
            ("a..b=1", r#"--set "a..b=1": "" is not a name; write a dot that is part of a name as \."#),
            ("a[x]=1", r#"--set "a[x]=1": "a[x]" is not a name; write a dot that is part of a name as \."#),
            ("a[9999999]=1", r#"--set "a[9999999]=1": list index 9999999 is above 1024"#),
        ] {
            assert_eq!(set(&mut json!({}), argument).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn unknown_names_come_with_the_nearest_known_one() {
        let known = json!({"global": {"proxy": {"logLevel": "x"}, "hub": ""}, "env": {}, "labels": {"a": "b"}});
        let values =
            json!({"global": {"proxy": {"loglevel": "y"}, "hubb": 1}, "env": {"X": 1}, "labels": {"c": 1}, "zzz": 1});
        let found: Vec<_> = unknown(&values, &known, &["labels"]).into_iter().map(|u| (u.path, u.nearest)).collect();
        assert_eq!(
            found,
            [
                ("global.proxy.loglevel".to_owned(), Some("global.proxy.logLevel".to_owned())),
                ("global.hubb".to_owned(), Some("global.hub".to_owned())),
                ("zzz".to_owned(), None),
            ]
        );
    }
}
