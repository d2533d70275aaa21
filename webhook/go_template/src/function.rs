//! The functions: Go's own, sprig's and Helm's, as far as charts use them. One table for each group.

mod basic;
mod collection;
mod data;
mod number;
mod semver;
mod text;

use crate::exec::Spent;
use crate::format;
use crate::value::Val;
use std::collections::HashMap;
use std::sync::LazyLock;

type Result<T = Val> = std::result::Result<T, String>;
type Function = fn(&Spent<'_>, &[Val]) -> Result;

/// Name, fewest and most arguments, and what it does.
type Row = (&'static str, usize, usize, Function);

/// As many arguments as one likes.
const ANY: usize = usize::MAX;

static FUNCTIONS: LazyLock<HashMap<&'static str, &'static Row>> = LazyLock::new(|| {
    let all = [basic::TABLE, text::TABLE, number::TABLE, collection::TABLE, data::TABLE];
    all.into_iter().flatten().map(|row| (row.0, row)).collect()
});

pub(crate) fn exists(name: &str) -> bool {
    FUNCTIONS.contains_key(name) || is_special(name)
}

/// Functions that the executor has to do itself, because they run templates or not all of their arguments.
pub(crate) fn is_special(name: &str) -> bool {
    matches!(name, "and" | "or" | "include" | "tpl")
}

pub(crate) fn call(spent: &Spent<'_>, name: &str, arguments: &[Val]) -> Result {
    let Some((_, fewest, most, function)) = FUNCTIONS.get(name) else { return Err("is not a function".into()) };
    let count = arguments.len();
    if count < *fewest || count > *most {
        let wanted = match (fewest, most) {
            (fewest, most) if fewest == most => fewest.to_string(),
            (fewest, &ANY) => format!("at least {fewest}"),
            (fewest, most) => format!("{fewest} to {most}"),
        };
        return Err(format!("wrong number of args: want {wanted} got {count}"));
    }
    spent.charge(1)?;
    function(spent, arguments)
}

/// The text that an argument must be.
fn string(arguments: &[Val], i: usize) -> Result<&str> {
    match &arguments[i] {
        Val::Str(text) => Ok(text),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

/// The integer that an argument must be.
fn int(arguments: &[Val], i: usize) -> Result<i64> {
    match &arguments[i] {
        Val::Int(value) | Val::Int64(value) => Ok(*value),
        Val::Float(value) if value.fract() == 0.0 => Ok(*value as i64),
        other => Err(format!("wrong type for value; expected int; got {}", other.type_name())),
    }
}

fn items(arguments: &[Val], i: usize) -> Result<&[Val]> {
    match &arguments[i] {
        Val::List(list) => Ok(list.items()),
        other => Err(format!("wrong type for value; expected a list; got {}", other.type_name())),
    }
}

fn map(arguments: &[Val], i: usize) -> Result<&std::rc::Rc<crate::value::Map>> {
    match &arguments[i] {
        Val::Map(map) => Ok(map),
        other => Err(format!("wrong type for value; expected map[string]interface {{}}; got {}", other.type_name())),
    }
}

/// sprig's `strval`: any value as text.
fn text_of(spent: &Spent<'_>, value: &Val) -> Result<String> {
    match value {
        Val::Str(text) => {
            spent.charge_text(text.len())?;
            Ok(text.to_string())
        }
        other => format::plain(spent, other),
    }
}

/// sprig's `strslice`: the texts of a list's items, without nil; any other value alone.
fn texts_of(spent: &Spent<'_>, value: &Val) -> Result<Vec<String>> {
    match value {
        Val::List(list) => list.items().iter().filter(|item| !item.is_nil()).map(|item| text_of(spent, item)).collect(),
        Val::Missing | Val::Nil => Ok(Vec::new()),
        other => Ok(vec![text_of(spent, other)?]),
    }
}

fn list_of(texts: impl IntoIterator<Item = String>) -> Val {
    Val::list(texts.into_iter().map(Val::str).collect())
}

/// A text, paid for.
fn made(spent: &Spent<'_>, text: String) -> Result {
    spent.charge_text(text.len())?;
    Ok(Val::str(text))
}
