//! Values as JSON: for functions of others, and as Go's `encoding/json` prints them.

use crate::exec::Spent;
use crate::format;
use crate::value::Val;
use serde_json::{Map, Number, Value};

pub(crate) fn to_value(spent: &Spent<'_>, value: &Val) -> Result<Value, String> {
    spent.charge(1)?;
    Ok(match value {
        Val::Missing | Val::Nil => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Int(value) | Val::Int64(value) => Value::from(*value),
        // JSON has one kind of number: a whole one is an integer.
        Val::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Value::from(*value as i64),
        Val::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Val::Str(text) => {
            spent.charge(text.len() / 8)?;
            Value::String(text.to_string())
        }
        Val::List(list) => {
            let items = list.items().iter();
            Value::Array(spent.deeper(|| items.map(|item| to_value(spent, item)).collect::<Result<_, String>>())?)
        }
        Val::Map(map) => {
            let entry =
                |(key, value): (std::rc::Rc<str>, Val)| Ok::<_, String>((key.to_string(), to_value(spent, &value)?));
            Value::Object(spent.deeper(|| map.entries().into_iter().map(entry).collect::<Result<Map<_, _>, String>>())?)
        }
    })
}

/// Pays for a value that somebody else made.
pub(crate) fn charge(spent: &Spent<'_>, value: &Value) -> Result<(), String> {
    spent.charge(1)?;
    match value {
        Value::String(text) => spent.charge(text.len() / 8),
        Value::Array(items) => spent.deeper(|| items.iter().try_for_each(|item| charge(spent, item))),
        Value::Object(map) => spent.deeper(|| map.values().try_for_each(|item| charge(spent, item))),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Compact,
    Pretty,
}

/// Whether `<`, `>` and `&` are escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Html {
    Escaped,
    Raw,
}

pub(crate) fn print(spent: &Spent<'_>, value: &Val, style: Style, html: Html) -> Result<String, String> {
    let mut out = String::new();
    write(spent, value, style, html, 0, &mut out)?;
    Ok(out)
}

fn write(
    spent: &Spent<'_>,
    value: &Val,
    style: Style,
    html: Html,
    indent: usize,
    out: &mut String,
) -> Result<(), String> {
    spent.charge(1)?;
    if out.len() > spent.engine.limits.output {
        return Err(format!("makes a text of more than {} bytes", spent.engine.limits.output));
    }
    match value {
        Val::Missing | Val::Nil => out.push_str("null"),
        Val::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Val::Int(value) | Val::Int64(value) => out.push_str(&value.to_string()),
        Val::Float(value) => out.push_str(&format::json_float(*value)),
        Val::Str(text) => quote(spent, text, html, out)?,
        Val::List(list) => {
            let items = list.items().iter().map(|item| (None, item.clone()));
            spent.deeper(|| block(spent, '[', ']', items.collect(), style, html, indent, out))?;
        }
        Val::Map(map) => {
            let items = map.entries().into_iter().map(|(key, value)| (Some(key), value));
            spent.deeper(|| block(spent, '{', '}', items.collect(), style, html, indent, out))?;
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the state of a recursive printer")]
fn block(
    spent: &Spent<'_>,
    open: char,
    close: char,
    items: Vec<(Option<std::rc::Rc<str>>, Val)>,
    style: Style,
    html: Html,
    indent: usize,
    out: &mut String,
) -> Result<(), String> {
    let line = |out: &mut String, indent: usize| {
        if style == Style::Pretty {
            out.push('\n');
            out.push_str(&"  ".repeat(indent));
        }
    };
    let is_empty = items.is_empty();
    out.push(open);
    for (i, (key, value)) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        line(out, indent + 1);
        if let Some(key) = key {
            quote(spent, &key, html, out)?;
            out.push_str(if style == Style::Pretty { ": " } else { ":" });
        }
        write(spent, &value, style, html, indent + 1, out)?;
    }
    if !is_empty {
        line(out, indent);
    }
    out.push(close);
    Ok(())
}

fn quote(spent: &Spent<'_>, text: &str, html: Html, out: &mut String) -> Result<(), String> {
    spent.charge_text(text.len())?;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if html == Html::Escaped => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if c < ' ' || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}
