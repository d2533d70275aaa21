//! Envoy's regular expressions (RE2) by means of Rust's, where the two differ.
//!
//! RE2's `\d \w \s \b` are ASCII, and inside `[…]` it knows neither nested classes nor set operations; Rust's crate is
//! Unicode and has both. So patterns are rewritten before they are compiled. Envoy matches the **whole** string.

use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use regex::{Captures, Regex};

use super::outcome::{Stop, rejected, unsupported};

/// A pattern for full matches.
pub(super) fn full(matcher: &RegexMatcher, path: &str) -> Result<Regex, Stop> {
    compile(matcher, path, |pattern| format!(r"\A(?:{pattern})\z"))
}

/// `regex_rewrite` and its kin: every match replaced, `\1` standing for the first group.
pub(super) fn replace_all(rewrite: &RegexMatchAndSubstitute, text: &str, path: &str) -> Result<String, Stop> {
    let matcher = rewrite.pattern.as_ref().ok_or_else(|| rejected(format!("{path}.pattern"), "is required"))?;
    let regex = compile(matcher, &format!("{path}.pattern"), str::to_owned)?;
    let parts = substitution(&rewrite.substitution)
        .filter(|parts| parts.iter().all(|part| !matches!(part, Part::Group(group) if *group >= regex.captures_len())))
        .ok_or_else(|| rejected(format!("{path}.substitution"), "invalid substitution"))?;
    let replaced = regex.replace_all(text, |captures: &Captures<'_>| {
        let pieces = parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Group(group) => captures.get(*group).map_or("", |group| group.as_str()),
        });
        pieces.collect::<String>()
    });
    Ok(replaced.into_owned())
}

fn compile(matcher: &RegexMatcher, path: &str, wrap: impl Fn(&str) -> String) -> Result<Regex, Stop> {
    if matcher.regex.is_empty() {
        return Err(rejected(format!("{path}.regex"), "must not be empty"));
    }
    // Not told apart: what RE2 refuses as well, and what only RE2 understands (\C, \Q…\E).
    Regex::new(&wrap(&translate(&matcher.regex))).map_err(|_| unsupported(format!("{path}.regex: {}", matcher.regex)))
}

/// RE2's pattern as one that means the same to the regex crate.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut class = Class::Outside;
    while let Some(char) = chars.next() {
        class = match (char, class) {
            ('\\', _) => {
                out.push_str(&escape(chars.next()));
                if class == Class::Outside { class } else { Class::Inside }
            }
            ('[', Class::Outside) => {
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                Class::Start
            }
            ('[', _) if chars.peek() == Some(&':') => {
                // A POSIX class, [[:alpha:]]: both know it; copied up to its end.
                out.push('[');
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
                Class::Inside
            }
            (']', Class::Start) => {
                out.push_str(r"\]");
                Class::Inside
            }
            (']', Class::Inside) => {
                out.push(']');
                Class::Outside
            }
            ('[' | '&' | '~', Class::Start | Class::Inside) => {
                out.push('\\');
                out.push(char);
                Class::Inside
            }
            (_, Class::Outside) => {
                out.push(char);
                Class::Outside
            }
            (_, Class::Start | Class::Inside) => {
                out.push(char);
                Class::Inside
            }
        };
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Outside,
    /// Right after `[` or `[^`, where `]` is a character.
    Start,
    Inside,
}

fn escape(escaped: Option<char>) -> String {
    match escaped {
        Some('d') => "[0-9]".into(),
        Some('D') => "[^0-9]".into(),
        Some('w') => "[0-9A-Za-z_]".into(),
        Some('W') => "[^0-9A-Za-z_]".into(),
        Some('s') => r"[\t\n\f\r ]".into(),
        Some('S') => r"[^\t\n\f\r ]".into(),
        Some('b') => r"(?-u:\b)".into(),
        Some('B') => r"(?-u:\B)".into(),
        Some(other) => format!("\\{other}"),
        None => "\\".into(),
    }
}

enum Part {
    Text(String),
    Group(usize),
}

/// RE2's rewrite syntax: `\0`–`\9` and `\\`; any other escape is an error.
fn substitution(template: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = template.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next()? {
            '\\' => text.push('\\'),
            digit => {
                let group = digit.to_digit(10)?;
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Group(group as usize));
            }
        }
    }
    parts.push(Part::Text(text));
    Some(parts)
}
