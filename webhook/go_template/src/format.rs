//! Go's `fmt`: how values print, and `printf`.

use crate::exec::Spent;
use crate::value::Val;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// The exponent from which on numbers print with one.
const LARGEST: i32 = 6;

/// What an action prints: `%v`.
pub(crate) fn plain(spent: &Spent<'_>, value: &Val) -> Result<String, String> {
    let mut out = String::new();
    verb(spent, value, &Spec::of('v'), &mut out)?;
    Ok(out)
}

/// `%q` of a text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        escape(c, '"', &mut out);
    }
    out.push('"');
    out
}

fn escape(c: char, quote: char, out: &mut String) {
    match c {
        c if c == quote || c == '\\' => out.extend(['\\', c]),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if c < ' ' || c == '\u{7f}' => drop(write!(out, "\\x{:02x}", u32::from(c))),
        c if is_printable(c) => out.push(c),
        c if u32::from(c) <= 0xffff => drop(write!(out, "\\u{:04x}", u32::from(c))),
        c => drop(write!(out, "\\U{:08x}", u32::from(c))),
    }
}

fn is_printable(c: char) -> bool {
    let code = u32::from(c);
    let is_format =
        matches!(code, 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb);
    let is_private = matches!(code, 0xe000..=0xf8ff | 0xf0000..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || is_format || is_private || code & 0xfffe == 0xfffe)
}

/// A number with the fewest digits that say it: digits and the place of the point.
fn shortest(value: f64) -> (String, i32) {
    let text = format!("{:e}", value.abs());
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (digits.replace('.', ""), exponent.parse().unwrap_or_default())
}

fn special(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// `%g` with the shortest digits: an exponent from 6 on, or below -4. `fmt` has it so for `%v` too.
pub(crate) fn float(value: f64) -> String {
    general(value, LARGEST)
}

/// As `encoding/json` does.
pub(crate) fn json_float(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if (1e-6..1e21).contains(&size) => format!("{value}"),
        _ => exponential(value).replace("e-0", "e-"),
    }
}

fn general(value: f64, largest: i32) -> String {
    if let Some(text) = special(value) {
        return text.into();
    }
    let (_, exponent) = shortest(value);
    match value != 0.0 && (exponent < -4 || exponent >= largest) {
        true => exponential(value),
        false => format!("{value}"),
    }
}

fn exponential(value: f64) -> String {
    let (digits, exponent) = shortest(value);
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let way = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{way}{:02}", exponent.abs())
}

/// One `%…` of a format.
#[derive(Clone, Debug, Default)]
struct Spec {
    verb: char,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Spec {
    fn of(verb: char) -> Self {
        Self { verb, ..Self::default() }
    }
}

/// The format and the arguments that are left.
struct Scanner<'a> {
    chars: Peekable<Chars<'a>>,
    arguments: &'a [Val],
    next: usize,
}

pub(crate) fn printf(spent: &Spent<'_>, format: &str, arguments: &[Val]) -> Result<String, String> {
    let mut out = String::new();
    let mut scanner = Scanner { chars: format.chars().peekable(), arguments, next: 0 };
    while let Some(c) = scanner.chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let spec = scanner.spec(&mut out);
        spent.charge_text(spec.width.unwrap_or_default().max(spec.precision.unwrap_or_default()))?;
        match (spec.verb, scanner.arguments.get(scanner.next)) {
            ('\0', _) => out.push_str("%!(NOVERB)"),
            ('%', _) => out.push('%'),
            (_, Some(value)) => verb(spent, value, &spec, &mut out)?,
            (verb, None) => drop(write!(out, "%!{verb}(MISSING)")),
        }
        scanner.next += usize::from(!matches!(spec.verb, '%' | '\0'));
    }
    extra(spent, arguments.get(scanner.next..).unwrap_or_default(), &mut out)?;
    spent.charge_text(out.len())?;
    Ok(out)
}

impl Scanner<'_> {
    /// After `%`. The verb is 0 at the end of the format.
    fn spec(&mut self, out: &mut String) -> Spec {
        let mut spec = Spec::default();
        while let Some(flag) = self.chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => (spec.minus, spec.zero) = (true, false),
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                '0' => spec.zero = !spec.minus,
                _ => spec.space = true,
            }
        }
        spec.width = self.number("WIDTH", out);
        if self.chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(self.number("PREC", out).unwrap_or_default());
        }
        spec.verb = self.chars.next().unwrap_or('\0');
        // `%+v` is about the fields of structs.
        spec.plus &= spec.verb != 'v';
        spec
    }

    fn number(&mut self, what: &str, out: &mut String) -> Option<usize> {
        if self.chars.next_if_eq(&'*').is_none() {
            let mut digits = String::new();
            while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            // A number that is none is too large to be paid for.
            return (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX));
        }
        let value = self.arguments.get(self.next).and_then(Val::integer).and_then(|value| usize::try_from(value).ok());
        self.next += 1;
        if value.is_none() {
            out.push_str(&format!("%!(BAD{what})"));
        }
        value
    }
}

/// Arguments that no verb asked for.
fn extra(spent: &Spent<'_>, arguments: &[Val], out: &mut String) -> Result<(), String> {
    let mut before = "%!(EXTRA ";
    for value in arguments {
        out.push_str(before);
        before = ", ";
        if !value.is_nil() {
            let _ = write!(out, "{}=", value.type_name());
        }
        verb(spent, value, &Spec::of('v'), out)?;
    }
    if !arguments.is_empty() {
        out.push(')');
    }
    Ok(())
}

/// One value by one verb.
fn verb(spent: &Spent<'_>, value: &Val, spec: &Spec, out: &mut String) -> Result<(), String> {
    spent.charge(1)?;
    if out.len() > spent.engine.limits.output {
        return Err(format!("makes a text of more than {} bytes", spent.engine.limits.output));
    }
    if spec.verb == 'T' {
        pad(value.type_name(), spec, out);
        return Ok(());
    }
    match value {
        Val::Missing | Val::Nil if spec.verb == 'v' => pad("<nil>", spec, out),
        Val::Missing | Val::Nil => drop(write!(out, "%!{}(<nil>)", spec.verb)),
        Val::Bool(value) if matches!(spec.verb, 't' | 'v') => pad(if *value { "true" } else { "false" }, spec, out),
        Val::Int(number) | Val::Int64(number) => integer(spent, value, *number, spec, out)?,
        Val::Float(number) => floating(spent, value, *number, spec, out)?,
        Val::Str(text) => string(spent, value, text, spec, out)?,
        Val::List(list) => {
            out.push('[');
            spent.deeper(|| {
                list.items().iter().enumerate().try_for_each(|(i, item)| {
                    out.push_str(if i > 0 { " " } else { "" });
                    verb(spent, item, spec, out)
                })
            })?;
            out.push(']');
        }
        Val::Map(map) => {
            out.push_str("map[");
            spent.deeper(|| {
                map.entries().into_iter().enumerate().try_for_each(|(i, (key, item))| {
                    out.push_str(if i > 0 { " " } else { "" });
                    verb(spent, &Val::Str(key), spec, out)?;
                    out.push(':');
                    verb(spent, &item, spec, out)
                })
            })?;
            out.push(']');
        }
        Val::Bool(_) => bad(spent, value, spec, out)?,
    }
    Ok(())
}

fn bad(spent: &Spent<'_>, value: &Val, spec: &Spec, out: &mut String) -> Result<(), String> {
    let _ = write!(out, "%!{}({}=", spec.verb, value.type_name());
    verb(spent, value, &Spec { verb: 'v', ..spec.clone() }, out)?;
    out.push(')');
    Ok(())
}

fn integer(spent: &Spent<'_>, value: &Val, number: i64, spec: &Spec, out: &mut String) -> Result<(), String> {
    let size = number.unsigned_abs();
    let digits = match spec.verb {
        'd' | 'v' => size.to_string(),
        'x' => format!("{}{size:x}", if spec.sharp { "0x" } else { "" }),
        'X' => format!("{}{size:X}", if spec.sharp { "0X" } else { "" }),
        'o' => format!("{}{size:o}", if spec.sharp { "0" } else { "" }),
        'O' => format!("0o{size:o}"),
        'b' => format!("{}{size:b}", if spec.sharp { "0b" } else { "" }),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match spec.verb {
                'c' => c.to_string(),
                'U' => format!("U+{number:04X}"),
                _ => {
                    let mut text = String::from("'");
                    escape(c, '\'', &mut text);
                    text + "'"
                }
            };
            pad(&text, spec, out);
            return Ok(());
        }
        _ => return bad(spent, value, spec, out),
    };
    let digits = match spec.precision {
        Some(0) if number == 0 => String::new(),
        Some(precision) => format!("{}{digits}", "0".repeat(precision.saturating_sub(digits.len()))),
        None => digits,
    };
    signed(number < 0, &digits, &Spec { zero: spec.zero && spec.precision.is_none(), ..spec.clone() }, out);
    Ok(())
}

fn floating(spent: &Spent<'_>, value: &Val, number: f64, spec: &Spec, out: &mut String) -> Result<(), String> {
    let size = number.abs();
    let digits = match (spec.verb, special(size)) {
        ('v' | 'g' | 'G' | 'e' | 'E' | 'f' | 'F', Some(text)) => text.trim_start_matches('+').to_owned(),
        ('v', None) if spec.precision.is_none() => float(size),
        ('v' | 'g' | 'G', None) => match spec.precision {
            None => general(size, LARGEST),
            Some(precision) => significant(size, precision.clamp(1, 400)),
        },
        ('f' | 'F', None) => format!("{size:.*}", spec.precision.unwrap_or(6).min(1000)),
        ('e' | 'E', None) => {
            let text = format!("{size:.*e}", spec.precision.unwrap_or(6).min(1000));
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or_default();
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => return bad(spent, value, spec, out),
    };
    let digits = if spec.verb.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
    signed(number.is_sign_negative(), &digits, spec, out);
    Ok(())
}

/// `%.3g`
fn significant(value: f64, precision: usize) -> String {
    let text = format!("{value:.*e}", precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let rounded: f64 = format!("{digits}e{exponent}").parse().unwrap_or_default();
    general(rounded, precision.try_into().unwrap_or(i32::MAX))
}

fn string(spent: &Spent<'_>, value: &Val, text: &str, spec: &Spec, out: &mut String) -> Result<(), String> {
    spent.charge_text(text.len())?;
    let cut: String = match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    match spec.verb {
        's' | 'v' if !(spec.verb == 'v' && spec.sharp) => pad(&cut, spec, out),
        'q' if spec.sharp && !text.contains('`') => pad(&format!("`{cut}`"), spec, out),
        'q' | 'v' => pad(&quoted(&cut), spec, out),
        'x' => pad(&cut.bytes().map(|byte| format!("{byte:02x}")).collect::<String>(), spec, out),
        'X' => pad(&cut.bytes().map(|byte| format!("{byte:02X}")).collect::<String>(), spec, out),
        _ => bad(spent, value, spec, out)?,
    }
    Ok(())
}

fn signed(is_negative: bool, digits: &str, spec: &Spec, out: &mut String) {
    let sign = match (is_negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let length = sign.len() + digits.len();
    if let Some(width) = spec.width.filter(|width| spec.zero && *width > length) {
        out.push_str(sign);
        out.push_str(&"0".repeat(width - length));
        out.push_str(digits);
        return;
    }
    pad(&format!("{sign}{digits}"), &Spec { zero: false, ..spec.clone() }, out);
}

fn pad(text: &str, spec: &Spec, out: &mut String) {
    let missing = spec.width.unwrap_or_default().saturating_sub(text.chars().count());
    let fill = if spec.zero { "0" } else { " " }.repeat(missing);
    match spec.minus {
        true => out.extend([text, &fill]),
        false => out.extend([fill.as_str(), text]),
    }
}
