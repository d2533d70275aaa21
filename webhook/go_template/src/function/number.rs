//! Arithmetic, as sprig does it: on int64, and what is no number is 0.

use super::{ANY, Result, Row, int};
use crate::exec::Spent;
use crate::value::Val;

pub(super) const TABLE: &[Row] = &[
    ("add", 0, ANY, |_, a| Ok(Val::Int64(a.iter().map(to_i64).fold(0, i64::wrapping_add)))),
    ("add1", 1, 1, |_, a| Ok(Val::Int64(to_i64(&a[0]).wrapping_add(1)))),
    ("sub", 2, 2, |_, a| Ok(Val::Int64(to_i64(&a[0]).wrapping_sub(to_i64(&a[1]))))),
    ("mul", 1, ANY, |_, a| Ok(Val::Int64(a.iter().map(to_i64).fold(1, i64::wrapping_mul)))),
    ("div", 2, 2, |_, a| divide(a, i64::wrapping_div)),
    ("mod", 2, 2, |_, a| divide(a, i64::wrapping_rem)),
    ("max", 1, ANY, |_, a| Ok(Val::Int64(a.iter().map(to_i64).max().unwrap_or_default()))),
    ("biggest", 1, ANY, |_, a| Ok(Val::Int64(a.iter().map(to_i64).max().unwrap_or_default()))),
    ("min", 1, ANY, |_, a| Ok(Val::Int64(a.iter().map(to_i64).min().unwrap_or_default()))),
    ("floor", 1, 1, |_, a| Ok(Val::Float(to_f64(&a[0]).floor()))),
    ("ceil", 1, 1, |_, a| Ok(Val::Float(to_f64(&a[0]).ceil()))),
    ("round", 2, 3, |_, a| {
        let factor = 10_f64.powi(int(a, 1)?.clamp(-300, 300) as i32);
        let value = to_f64(&a[0]) * factor;
        let part = value.fract();
        let up = a.get(2).map_or(0.5, to_f64);
        Ok(Val::Float(if part >= up { value.ceil() } else { value.floor() } / factor))
    }),
    ("int", 1, 1, |_, a| Ok(Val::Int(to_i64(&a[0])))),
    ("int64", 1, 1, |_, a| Ok(Val::Int64(to_i64(&a[0])))),
    ("float64", 1, 1, |_, a| Ok(Val::Float(to_f64(&a[0])))),
    ("atoi", 1, 1, |_, a| match &a[0] {
        Val::Str(text) => Ok(Val::Int(text.parse().unwrap_or_default())),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }),
    ("until", 1, 1, |spent, a| {
        let end = int(a, 0)?;
        steps(spent, 0, end, if end < 0 { -1 } else { 1 })
    }),
    ("untilStep", 3, 3, |spent, a| steps(spent, int(a, 0)?, int(a, 1)?, int(a, 2)?)),
];

fn divide(a: &[Val], by: fn(i64, i64) -> i64) -> Result {
    match to_i64(&a[1]) {
        0 => Err("integer divide by zero".into()),
        divisor => Ok(Val::Int64(by(to_i64(&a[0]), divisor))),
    }
}

fn steps(spent: &Spent<'_>, start: i64, end: i64, step: i64) -> Result {
    let is_over = |at: i64| if end < start { step >= 0 || at <= end } else { step <= 0 || at >= end };
    let mut all = Vec::new();
    let mut at = start;
    while !is_over(at) {
        spent.charge(8)?;
        all.push(Val::Int(at));
        at = at.saturating_add(step);
        if at == i64::MAX || at == i64::MIN {
            break;
        }
    }
    Ok(Val::list(all))
}

fn to_i64(value: &Val) -> i64 {
    match value {
        Val::Int(value) | Val::Int64(value) => *value,
        // What does not fit is what amd64 makes of it.
        Val::Float(value) if value.abs() >= 9.3e18 => i64::MIN,
        Val::Float(value) => *value as i64,
        Val::Bool(value) => i64::from(*value),
        Val::Str(text) => integer(text).unwrap_or_default(),
        _ => 0,
    }
}

/// `strconv.ParseInt` with base 0, after a fraction of zeros is cut off.
fn integer(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, fraction)) if !whole.is_empty() && !fraction.is_empty() && fraction.bytes().all(|c| c == b'0') => {
            whole
        }
        _ => text,
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

fn to_f64(value: &Val) -> f64 {
    match value {
        Val::Int(value) | Val::Int64(value) => *value as f64,
        Val::Float(value) => *value,
        Val::Bool(value) => f64::from(u8::from(*value)),
        Val::Str(text) => text.parse().unwrap_or_default(),
        _ => 0.0,
    }
}
