//! JSON values as block YAML, as a person would write it.

use serde_json::Value;
use std::fmt::Write;

/// A value as a YAML document.
///
/// ```
/// let value = serde_json::json!({"name": "a", "routes": [{"path": "/", "weight": 1}], "no": []});
/// assert_eq!(xds::yaml::to_yaml(&value), "name: a\nroutes:\n- path: /\n  weight: 1\n\"no\": []\n");
/// ```
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if fields.is_empty() => inline(value, 2, &mut out),
        Value::Array(items) if items.is_empty() => inline(value, 2, &mut out),
        _ => block(value, 0, &mut out),
    }
    out
}

/// Writes a non-empty object or list, every line of it at this indentation.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                pad(indent, out);
                entry(name, field, indent, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                pad(indent, out);
                out.push('-');
                list_item(item, indent, out);
            }
        }
        scalar => inline(scalar, indent + 2, out),
    }
}

fn entry(name: &str, field: &Value, indent: usize, out: &mut String) {
    scalar(name, out);
    out.push(':');
    match field {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            block(field, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(field, indent, out);
        }
        _ => {
            out.push(' ');
            inline(field, indent + 2, out);
        }
    }
}

/// The first field of an object stands on the line of its dash.
fn list_item(item: &Value, indent: usize, out: &mut String) {
    match item {
        Value::Object(fields) if !fields.is_empty() => {
            for (place, (name, field)) in fields.iter().enumerate() {
                match place {
                    0 => out.push(' '),
                    _ => pad(indent + 2, out),
                }
                entry(name, field, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(item, indent + 2, out);
        }
        _ => {
            out.push(' ');
            inline(item, indent + 2, out);
        }
    }
}

fn inline(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(text) if is_literal(text) => return literal(text, indent, out),
        Value::String(text) => scalar(text, out),
        // Empty containers and the other scalars are the same in JSON.
        other => write!(out, "{other}").expect("a string takes everything"),
    }
    out.push('\n');
}

/// Text of several lines that a literal block can carry as it is.
fn is_literal(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.trim_end_matches('\n').len() + 1 >= text.len()
        && text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
}

fn literal(text: &str, indent: usize, out: &mut String) {
    out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
    for line in text.lines() {
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// A string bare where that reads back as the same string, else quoted as JSON does, which YAML understands.
fn scalar(text: &str, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        write!(out, "{}", Value::from(text)).expect("a string takes everything");
    }
}

fn is_plain(text: &str) -> bool {
    const SPECIAL: &[char] =
        &['-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', '=', '~'];
    // YAML 1.1 takes all of these for something else.
    const WORDS: &[&str] = &["true", "false", "yes", "no", "on", "off", "y", "n", "null", ".inf", ".nan"];
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))
        && text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '.' | '_' | 'x' | 'o' | '-' | '+' | ':'));
    !text.is_empty()
        && !numeric
        && !text.starts_with(SPECIAL)
        && !text.starts_with(' ')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(char::is_control)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_blocks() {
        let value = json!({
            "a": {"b": [[1, 2], [], "x"], "c": {}},
            "text": "first\n  second\n\nlast\n",
            "list": [{"k": ["v"], "m": {"p": null}}],
        });
        let expected = "\
a:
  b:
  -
    - 1
    - 2
  - []
  - x
  c: {}
text: |
  first
    second

  last
list:
- k:
  - v
  m:
    p: null
";
        assert_eq!(to_yaml(&value), expected);
    }

    #[test]
    fn strings_that_would_be_something_else_are_quoted() {
        for text in
            ["", "no", "Null", "1.5", "0x1f", "- a", "a: b", "a #b", "*", "10:30", " a", "a\tb", "2024-01-01", "a:"]
        {
            assert_eq!(to_yaml(&json!(text)), format!("{}\n", json!(text)), "{text:?}");
        }
        for text in
            ["a", "outbound|80||a.b", "10.0.0.0/8", "type.googleapis.com/x", "1m", "a:b", "%a".trim_start_matches('%')]
        {
            assert_eq!(to_yaml(&json!(text)), format!("{text}\n"), "{text:?}");
        }
    }
}
