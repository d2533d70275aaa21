//! JSON written as YAML that every reader takes for the same JSON: fields in their order, one way to write each value.

use serde_json::{Map, Value};

/// One document, without `---`.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => map(fields, 0, &mut out),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut out),
        _ => {
            scalar(value, &mut out);
            out.push('\n');
        }
    }
    out
}

fn map(fields: &Map<String, Value>, indent: usize, out: &mut String) {
    for (i, (name, value)) in fields.iter().enumerate() {
        if i > 0 {
            out.push_str(&" ".repeat(indent));
        }
        string(name, out);
        out.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
                map(fields, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                list(items, indent, out);
            }
            _ => {
                out.push(' ');
                scalar(value, out);
                out.push('\n');
            }
        }
    }
}

fn list(items: &[Value], indent: usize, out: &mut String) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => map(fields, indent + 2, out),
            Value::Array(items) if !items.is_empty() => list(items, indent + 2, out),
            _ => {
                scalar(item, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => string(text, out),
        // JSON is YAML, and these are the same in both.
        other => out.push_str(&other.to_string()),
    }
}

fn string(text: &str, out: &mut String) {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_./-$()@+=:,".contains(it);
    let starts = text.starts_with(|it: char| it.is_ascii_alphanumeric() || "_./-$(".contains(it));
    let colon = text.ends_with(':');
    // Whether `on` or `1e3` is text is for the one reader of YAML to say.
    let reads_back = || crds::yaml::value(text).is_ok_and(|it| it == text);
    if starts && !colon && text.chars().all(plain) && reads_back() {
        out.push_str(text);
    } else if text.chars().all(|it| (' '..='~').contains(&it)) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        // A JSON string is a double-quoted YAML scalar, but for two line breaks that only YAML 1.1 knows, and DEL.
        let json = Value::String(text.to_owned()).to_string();
        let escaped = json.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        out.push_str(&escaped.replace('\u{7f}', "\\u007f").replace('\u{feff}', "\\ufeff"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn yaml_is_written_for_people() {
        let value = json!({"a": {"b": [1, "x", {"c": "1", "d": ["on"]}], "e": {}, "f": []}, "g": "a: b", "h": "x\n", "i": null});
        let want = "a:\n  b:\n  - 1\n  - x\n  - c: '1'\n    d:\n    - 'on'\n  e: {}\n  f: []\ng: 'a: b'\nh: \"x\\n\"\ni: null\n";
        assert_eq!(text(&value), want);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(texts in prop::collection::vec("\\PC{0,12}|[a-z0-9:. -]{0,8}|(yes|0x1f|1_0|~|<<|1e3|\\.5)", 1..5)) {
            let mut value = json!({"list": texts, "nested": [[1, [2]], [{"k": texts[0]}]]});
            for name in &texts {
                value[name] = name.as_str().into();
            }
            let text = text(&value);
            prop_assert_eq!(crds::yaml::value(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?, value);
        }
    }
}
