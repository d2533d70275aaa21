//! Go's own functions, and those of sprig and Helm that decide.

use super::{ANY, Result, Row, int, made, string, text_of};
use crate::exec::Spent;
use crate::value::Val;
use crate::{compare, format};

pub(super) const TABLE: &[Row] = &[
    ("not", 1, 1, |_, a| Ok(Val::Bool(!a[0].is_true()))),
    ("eq", 1, ANY, |_, a| compare::eq(a).map(Val::Bool)),
    ("ne", 2, 2, |_, a| Ok(Val::Bool(!compare::eq(a)?))),
    ("lt", 2, 2, |_, a| compare::less(&a[0], &a[1]).map(Val::Bool)),
    ("le", 2, 2, |_, a| Ok(Val::Bool(compare::less(&a[0], &a[1])? || compare::eq(a)?))),
    ("gt", 2, 2, |_, a| Ok(Val::Bool(!compare::less(&a[0], &a[1])? && !compare::eq(a)?))),
    ("ge", 2, 2, |_, a| Ok(Val::Bool(!compare::less(&a[0], &a[1])?))),
    ("len", 1, 1, |_, a| len(&a[0])),
    ("index", 1, ANY, |_, a| index(a)),
    ("slice", 1, 4, |_, a| slice(a)),
    ("print", 0, ANY, |spent, a| print(spent, a)),
    ("println", 0, ANY, |spent, a| {
        let texts = a.iter().map(|value| text_of(spent, value)).collect::<Result<Vec<_>>>()?;
        made(spent, format!("{}\n", texts.join(" ")))
    }),
    ("printf", 1, ANY, |spent, a| Ok(Val::str(format::printf(spent, string(a, 0)?, &a[1..])?))),
    ("html", 0, ANY, |spent, a| escape(spent, a, html)),
    ("js", 0, ANY, |spent, a| escape(spent, a, js)),
    ("urlquery", 0, ANY, |spent, a| escape(spent, a, urlquery)),
    ("default", 1, 2, |_, a| Ok(a.get(1).filter(|value| value.is_true()).unwrap_or(&a[0]).clone())),
    ("empty", 1, 1, |_, a| Ok(Val::Bool(!a[0].is_true()))),
    ("coalesce", 0, ANY, |_, a| Ok(a.iter().find(|value| value.is_true()).cloned().unwrap_or(Val::Nil))),
    ("all", 0, ANY, |_, a| Ok(Val::Bool(a.iter().all(Val::is_true)))),
    ("any", 0, ANY, |_, a| Ok(Val::Bool(a.iter().any(Val::is_true)))),
    ("ternary", 3, 3, |_, a| match &a[2] {
        Val::Bool(test) => Ok(a[usize::from(!test)].clone()),
        other => Err(format!("wrong type for value; expected bool; got {}", other.type_name())),
    }),
    ("fail", 1, 1, |_, a| Err(string(a, 0)?.to_owned())),
    ("required", 2, 2, |_, a| match &a[1] {
        Val::Missing | Val::Nil => Err(string(a, 0)?.to_owned()),
        Val::Str(text) if text.is_empty() => Err(string(a, 0)?.to_owned()),
        value => Ok(value.clone()),
    }),
    ("lookup", 4, 4, |_, _| Ok(Val::map([]))),
    ("kindOf", 1, 1, |_, a| Ok(Val::str(a[0].kind_name()))),
    ("kindIs", 2, 2, |_, a| Ok(Val::Bool(string(a, 0)? == a[1].kind_name()))),
    ("typeOf", 1, 1, |_, a| Ok(Val::str(a[0].type_name()))),
    ("typeIs", 2, 2, |_, a| Ok(Val::Bool(string(a, 0)? == a[1].type_name()))),
    ("typeIsLike", 2, 2, |_, a| Ok(Val::Bool(string(a, 0)?.trim_start_matches('*') == a[1].type_name()))),
];

fn len(value: &Val) -> Result {
    let length = match value {
        Val::Str(text) => text.len(),
        Val::List(list) => list.items().len(),
        Val::Map(map) => map.len(),
        Val::Missing | Val::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Val::Int(length as i64))
}

fn index(arguments: &[Val]) -> Result {
    let mut value = arguments[0].clone();
    if arguments.len() > 1 && value.is_nil() {
        return Err("index of untyped nil".into());
    }
    for i in 1..arguments.len() {
        value = match &value {
            Val::List(list) => {
                let at = int(arguments, i).map_err(|_| "cannot index slice/array with that type".to_owned())?;
                let item = usize::try_from(at).ok().and_then(|at| list.items().get(at));
                item.cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            Val::Str(text) => {
                let at = int(arguments, i)?;
                let byte = usize::try_from(at).ok().and_then(|at| text.as_bytes().get(at));
                Val::Int(i64::from(*byte.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            Val::Map(map) => map.get(string(arguments, i)?).unwrap_or(Val::Nil),
            Val::Missing | Val::Nil => return Err("index of nil pointer".into()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Val]) -> Result {
    let length = match &arguments[0] {
        Val::Str(_) if arguments.len() == 4 => return Err("cannot 3-index slice a string".into()),
        Val::Str(text) => text.len(),
        Val::List(list) => list.items().len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let at = |i: usize, default: usize| match arguments.get(i) {
        None => Ok(default),
        Some(_) => {
            let at = int(arguments, i)?;
            let at = usize::try_from(at).ok().filter(|at| *at <= length);
            at.ok_or_else(|| "index out of range".to_owned())
        }
    };
    let (from, to, end) = (at(1, 0)?, at(2, length)?, at(3, length)?);
    if from > to || to > end {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &arguments[0] {
        Val::List(list) => Val::list(list.items()[from..to].to_vec()),
        Val::Str(text) => Val::str(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        _ => Val::Nil,
    })
}

/// A space stands between two that are both no text.
fn print(spent: &Spent<'_>, arguments: &[Val]) -> Result {
    let mut out = String::new();
    let mut before: Option<&Val> = None;
    for value in arguments {
        if before.is_some_and(|before| !matches!((before, value), (Val::Str(_), _) | (_, Val::Str(_)))) {
            out.push(' ');
        }
        out.push_str(&text_of(spent, value)?);
        before = Some(value);
    }
    made(spent, out)
}

fn escape(spent: &Spent<'_>, arguments: &[Val], escaped: fn(char) -> String) -> Result {
    let Val::Str(text) = print(spent, arguments)? else { return Ok(Val::Nil) };
    made(spent, text.chars().map(escaped).collect())
}

fn html(c: char) -> String {
    match c {
        '"' => "&#34;".into(),
        '\'' => "&#39;".into(),
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '\0' => '\u{fffd}'.into(),
        c => c.into(),
    }
}

fn js(c: char) -> String {
    match c {
        '\\' | '\'' | '"' => format!("\\{c}"),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if c < ' ' => format!("\\u{:04X}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.into(),
    }
}

fn urlquery(c: char) -> String {
    match c {
        ' ' => "+".into(),
        c if c.is_ascii_alphanumeric() || "-_.~".contains(c) => c.into(),
        c => c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect(),
    }
}
