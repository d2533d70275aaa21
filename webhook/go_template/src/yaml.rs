//! YAML as `sigs.k8s.io/yaml` prints it, byte for byte: what charts' output is compared with.
//!
//! That is libyaml's emitter with two spaces, lists at the indentation of their key, keys in an order that knows
//! numbers, and lines that are folded at the first space after column 80.

use crate::exec::Spent;
use crate::format;
use crate::value::Val;
use regex::Regex;
use serde_json::Value;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::LazyLock;

/// A line is folded at the first space after this column.
const WIDTH: usize = 80;

/// A longer key needs a `?`.
const KEY_MAX: usize = 128;

pub(crate) fn print(spent: &Spent<'_>, value: &Val) -> Result<String, String> {
    let mut printer = Printer { spent, out: String::new(), column: 0 };
    printer.node(value, -2, Context::Root)?;
    if !printer.out.ends_with('\n') {
        printer.out.push('\n');
    }
    Ok(printer.out)
}

struct Printer<'a> {
    spent: &'a Spent<'a>,
    out: String,
    column: usize,
}

/// Where a value stands: what comes before its first line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    /// After `key:`
    Key,
    /// After `-`
    Item,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    /// A new line, unless the text before ended with one.
    fn line(&mut self, indent: usize) {
        if !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        self.out.push_str(&" ".repeat(indent));
        self.column = indent;
    }

    /// `indent` is that of the block around the value; -2 around everything.
    fn node(&mut self, value: &Val, indent: isize, context: Context) -> Result<(), String> {
        self.spent.charge(1)?;
        if self.out.len() > self.spent.engine.limits.output {
            return Err(format!("makes a text of more than {} bytes", self.spent.engine.limits.output));
        }
        let deeper = usize::try_from(indent + 2).unwrap_or_default();
        if context == Context::Key && !is_block(value) {
            self.put(" ");
        }
        match value {
            Val::Missing | Val::Nil => self.put("null"),
            Val::Bool(value) => self.put(if *value { "true" } else { "false" }),
            Val::Int(value) | Val::Int64(value) => self.put(&value.to_string()),
            Val::Float(value) => self.put(&float(*value)),
            Val::Str(text) => self.scalar(text, deeper.max(2))?,
            Val::List(list) if list.items().is_empty() => self.put("[]"),
            Val::Map(map) if map.len() == 0 => self.put("{}"),
            Val::List(list) => {
                let at = if context == Context::Key { deeper.saturating_sub(2) } else { deeper };
                for (i, item) in list.items().iter().enumerate() {
                    if i > 0 || context == Context::Key {
                        self.line(at);
                    }
                    self.put("- ");
                    self.spent.deeper(|| self.node(item, at as isize, Context::Item))?;
                }
            }
            Val::Map(map) => {
                let mut entries = map.entries();
                self.spent.charge(entries.len())?;
                entries = sorted(entries);
                for (i, (key, value)) in entries.into_iter().enumerate() {
                    if i > 0 || context == Context::Key {
                        self.line(deeper);
                    }
                    self.entry(&key, &value, deeper)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, key: &str, value: &Val, indent: usize) -> Result<(), String> {
        let style = style(key);
        let is_simple = key.len() <= KEY_MAX && !key.contains(is_break);
        if is_simple {
            self.quoted(key, if style == Style::Literal { Style::Double } else { style }, None);
            self.put(":");
            return self.spent.deeper(|| self.node(value, indent as isize, Context::Key));
        }
        self.put("? ");
        self.scalar(key, indent + 2)?;
        self.line(indent);
        self.put(": ");
        self.spent.deeper(|| self.node(value, indent as isize, Context::Item))
    }

    fn scalar(&mut self, text: &str, indent: usize) -> Result<(), String> {
        self.spent.charge_text(text.len())?;
        match style(text) {
            Style::Literal => self.literal(text, indent),
            style => self.quoted(text, style, Some(indent)),
        }
        Ok(())
    }

    fn literal(&mut self, text: &str, indent: usize) {
        let hint = if text.starts_with([' ', '\n']) { "2" } else { "" };
        let chomp = match (text.ends_with('\n'), text == "\n" || text.ends_with("\n\n")) {
            (false, _) => "-",
            (true, true) => "+",
            (true, false) => "",
        };
        self.put(&format!("|{hint}{chomp}"));
        self.out.push('\n');
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.out.push_str(&" ".repeat(indent));
            }
            self.out.push_str(line);
        }
    }

    /// On one line, or with `fold`, folded at spaces and continued at that indentation.
    fn quoted(&mut self, text: &str, style: Style, fold: Option<usize>) {
        let quote = match style {
            Style::Plain | Style::Literal => "",
            Style::Single => "'",
            Style::Double => "\"",
        };
        self.put(quote);
        let mut after_space = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((i, c)) = chars.next() {
            if c != ' ' {
                after_space = false;
                self.char(c, style);
                continue;
            }
            let next = chars.peek().map(|(_, next)| *next);
            let may_fold = match style {
                Style::Double => i > 0 && next.is_some(),
                Style::Single => i > 0 && next.is_some_and(|next| next != ' '),
                _ => next != Some(' '),
            };
            match fold.filter(|_| may_fold && !after_space && self.column > WIDTH) {
                Some(indent) => {
                    self.line(indent);
                    if style == Style::Double && next == Some(' ') {
                        self.put("\\");
                    }
                }
                None => self.put(" "),
            }
            after_space = true;
        }
        self.put(quote);
    }

    fn char(&mut self, c: char, style: Style) {
        match (c, style) {
            ('\'', Style::Single) => self.put("''"),
            (_, Style::Double) => self.put(&escaped(c)),
            _ => self.put(c.encode_utf8(&mut [0; 4])),
        }
    }
}

fn is_block(value: &Val) -> bool {
    match value {
        Val::List(list) => !list.items().is_empty(),
        Val::Map(map) => map.len() > 0,
        _ => false,
    }
}

/// JSON's number, read again: a whole one is an integer.
fn float(value: f64) -> String {
    let text = format::json_float(value);
    match text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
        true => text,
        false => format::float(value),
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn escaped(c: char) -> String {
    let code = u32::from(c);
    let letter = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if is_printable(c) => return c.to_string(),
        _ if code <= 0xff => return format!("\\x{code:02X}"),
        _ if code <= 0xffff => return format!("\\u{code:04X}"),
        _ => return format!("\\U{code:08X}"),
    };
    format!("\\{letter}")
}

/// What libyaml allows, of what the text's type asks for.
fn style(text: &str) -> Style {
    if text.is_empty() || (!text.contains('\n') && resolves(text)) {
        return Style::Double;
    }
    let is_special = text.chars().any(|c| !is_printable(c) || matches!(c, '\u{2028}' | '\u{2029}'));
    let after = |first: char, second: char| text.contains([first, second].iter().collect::<String>().as_str());
    if is_special || after(' ', '\n') {
        return Style::Double;
    }
    if text.contains('\n') {
        return if text.ends_with(' ') { Style::Double } else { Style::Literal };
    }
    if text.starts_with(' ') || text.ends_with(' ') || has_indicator(text) { Style::Single } else { Style::Plain }
}

/// Whether YAML would read something else into the text if it stood there without quotes.
fn has_indicator(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next().unwrap_or_default();
    let is_alone = chars.next().is_none_or(|c| matches!(c, ' ' | '\t'));
    text.starts_with("---")
        || text.starts_with("...")
        || "#,[]{}&*!|>'\"%@`".contains(first)
        || ("?:-".contains(first) && is_alone)
        || text.contains(": ")
        || text.ends_with(':')
        || text.contains(" #")
}

/// Whether the text without quotes would be something else than a text (YAML 1.1).
fn resolves(text: &str) -> bool {
    static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let float = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?";
        let integer = r"[-+]?(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|-?[0-9]+)";
        let base60 = r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?";
        let date = r"[0-9]{4}-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])([Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})?)?";
        Regex::new(&format!("^(?:{float}|{integer}|{base60}|{date})$")).ok()
    });
    const WORDS: &[&str] = &[
        "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N", "no", "No", "NO", "false",
        "False", "FALSE", "off", "Off", "OFF", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN", ".inf", ".Inf",
        ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
    ];
    let is_number = |text: &str| NUMBER.as_ref().is_some_and(|number| number.is_match(text));
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    WORDS.contains(&text) || (starts && (is_number(text) || is_number(&text.replace('_', ""))))
}

/// A merge sort, because the order is not one for some strange keys: the library's may panic then.
fn sorted(mut entries: Vec<(Rc<str>, Val)>) -> Vec<(Rc<str>, Val)> {
    if entries.len() < 2 {
        return entries;
    }
    let (mut right, left) = (sorted(entries.split_off(entries.len() / 2)).into_iter().peekable(), sorted(entries));
    let mut all = Vec::new();
    for entry in left {
        while let Some(before) = right.next_if(|(key, _)| natural(key, &entry.0) == Ordering::Less) {
            all.push(before);
        }
        all.push(entry);
    }
    all.extend(right);
    all
}

/// The order of keys: letters after everything else, numbers by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            continue;
        }
        match (a[i].is_alphabetic(), b[i].is_alphabetic()) {
            (true, true) => return a[i].cmp(&b[i]),
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        // Zeros inside of a number are part of it, before it they are not.
        let in_number =
            (a[i] == '0' || b[i] == '0') && a[..i].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
        let number = |text: &[char]| {
            let digits = text[i..].iter().take_while(|c| c.is_ascii_digit());
            let start = i64::from(in_number);
            digits.fold((start, i), |(value, end), c| {
                (value.wrapping_mul(10).wrapping_add(i64::from(c.to_digit(10).unwrap_or_default())), end + 1)
            })
        };
        let ((a_number, a_end), (b_number, b_end)) = (number(&a), number(&b));
        return a_number.cmp(&b_number).then(a_end.cmp(&b_end)).then(a[i].cmp(&b[i]));
    }
    a.len().cmp(&b.len())
}

/// YAML 1.1 as `sigs.k8s.io/yaml` reads it: the first document, the last of two equal keys.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple_with_options(text, options);
    documents.map(|documents| documents.into_iter().next().unwrap_or_default()).map_err(|error| {
        let text = error.to_string();
        format!("error converting YAML to JSON: yaml: {}", text.lines().next().unwrap_or_default())
    })
}
