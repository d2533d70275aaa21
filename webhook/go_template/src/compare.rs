//! Go's comparison functions: values of different kinds are an error, not unequal.

use crate::value::Val;
use std::cmp::Ordering;

#[derive(PartialEq, Eq)]
enum Kind {
    Nil,
    Bool,
    Int,
    Float,
    Str,
    Other,
}

fn kind(value: &Val) -> Kind {
    match value {
        Val::Missing | Val::Nil => Kind::Nil,
        Val::Bool(_) => Kind::Bool,
        Val::Int(_) | Val::Int64(_) => Kind::Int,
        Val::Float(_) => Kind::Float,
        Val::Str(_) => Kind::Str,
        Val::List(_) | Val::Map(_) => Kind::Other,
    }
}

/// Whether the first equals any of the others.
pub(crate) fn eq(values: &[Val]) -> Result<bool, String> {
    let Some((first, others)) = values.split_first() else { return Err("missing argument for comparison".into()) };
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        let is_equal = match (kind(first), kind(other)) {
            (Kind::Nil, Kind::Nil) => true,
            (Kind::Nil, _) | (_, Kind::Nil) => false,
            (Kind::Other, Kind::Other) => return Err("non-comparable types".into()),
            (one, two) if one != two => return Err("incompatible types for comparison".into()),
            _ => order(first, other) == Some(Ordering::Equal),
        };
        if is_equal {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn less(one: &Val, two: &Val) -> Result<bool, String> {
    let (first, second) = (kind(one), kind(two));
    let bad = |kind: &Kind| matches!(kind, Kind::Nil | Kind::Other);
    if bad(&first) || bad(&second) {
        return Err("invalid type for comparison".into());
    }
    if first != second {
        return Err("incompatible types for comparison".into());
    }
    if first == Kind::Bool {
        return Err("invalid type for comparison".into());
    }
    Ok(order(one, two) == Some(Ordering::Less))
}

fn order(one: &Val, two: &Val) -> Option<Ordering> {
    match (one, two) {
        (Val::Bool(one), Val::Bool(two)) => Some(one.cmp(two)),
        (Val::Float(one), Val::Float(two)) => one.partial_cmp(two),
        (Val::Str(one), Val::Str(two)) => Some(one.as_bytes().cmp(two.as_bytes())),
        _ => Some(one.integer()?.cmp(&two.integer()?)),
    }
}
