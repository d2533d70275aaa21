//! Values as YAML that every reader understands alike: block style, keys in order, and text in double quotes wherever
//! YAML 1.1 or 1.2 could take it for something else.

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The documents of `values`, separated by `---`.
///
/// ```
/// let text = deploy::yaml::documents(&[serde_json::json!({"b": [{"c": "on"}], "a": {}})]);
/// assert_eq!(text, "a: {}\nb:\n- c: \"on\"\n");
/// ```
pub fn documents(values: &[Value]) -> String {
    values.iter().map(document).collect::<Vec<_>>().join("---\n")
}

fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut text, map, 0),
        Value::Array(list) if !list.is_empty() => write_list(&mut text, list, 0),
        _ => {
            write_scalar(&mut text, value, 0);
            text.push('\n');
        }
    }
    text
}

/// The lines of a map, without indentation before the first one.
fn write_map(text: &mut String, map: &Map<String, Value>, indent: usize) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    for (position, key) in keys.into_iter().enumerate() {
        if position > 0 {
            push_indent(text, indent);
        }
        write_text(text, key);
        text.push(':');
        match &map[key] {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                push_indent(text, indent + 2);
                write_map(text, inner, indent + 2);
            }
            Value::Array(inner) if !inner.is_empty() => {
                text.push('\n');
                push_indent(text, indent);
                write_list(text, inner, indent);
            }
            scalar => {
                text.push(' ');
                write_scalar(text, scalar, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn write_list(text: &mut String, list: &[Value], indent: usize) {
    for (position, item) in list.iter().enumerate() {
        if position > 0 {
            push_indent(text, indent);
        }
        text.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => write_map(text, inner, indent + 2),
            Value::Array(inner) if !inner.is_empty() => write_list(text, inner, indent + 2),
            scalar => {
                write_scalar(text, scalar, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn write_scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(string) if is_block(string) => write_block(text, string, indent),
        Value::String(string) => write_text(text, string),
        // Empty maps and lists, numbers, booleans, null: as in JSON.
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

/// Whether a text of several lines can be written as it is.
fn is_block(string: &str) -> bool {
    let printable = |c: char| c == '\n' || (!c.is_control() && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}');
    string.trim_end_matches('\n').contains('\n')
        && string.chars().all(printable)
        && !string.starts_with([' ', '\n'])
        && !string.ends_with("\n\n")
        && string.lines().all(|line| !line.ends_with(' '))
}

fn write_block(text: &mut String, string: &str, indent: usize) {
    text.push_str(if string.ends_with('\n') { "|" } else { "|-" });
    for line in string.lines() {
        text.push('\n');
        if !line.is_empty() {
            push_indent(text, indent);
            text.push_str(line);
        }
    }
}

fn write_text(text: &mut String, string: &str) {
    if is_plain(string) {
        text.push_str(string);
    } else {
        // JSON's strings are YAML's double-quoted ones.
        let _ = write!(text, "{}", Value::from(string));
    }
}

/// Plain only what begins with a letter (or is a path), holds nothing of YAML's own, and is no word with a meaning.
fn is_plain(string: &str) -> bool {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && string.chars().all(inner)
        && !WORDS.contains(&string.to_ascii_lowercase().as_str())
}

fn push_indent(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let value = json!({
            "words": ["yes", "No", "on", "null", "~", "y", "", " a", "a ", "a: b", "a #b", "- a", "*", "0x1f", "010", "1e3", "1_000", "12:30:45"],
            "numbers": [0, -1, 1.5, 15012, 1e21],
            "empty": {"map": {}, "list": [], "null": null},
            "nested": [[1, [2, 3]], [{"a": [{"b": "c"}]}]],
            "text": ["a\nb", "a\nb\n", "\na\nb", "a\n\nb\n", "a\nb\n\n", "  a\nb", "a \nb", "tab\there\nb", "-----BEGIN-----\nx\n"],
            "istio.io/rev": "default",
            "\u{1f980}": "\u{7f} \u{2028}",
        });
        let text = documents(&[value.clone(), value.clone()]);
        let read: Vec<Value> = crds::yaml::documents(&text).into_iter().map(|d| d.content.unwrap().value).collect();
        assert_eq!(read, vec![value.clone(), value], "{text}");
    }
}
