//! Texts.

use super::{ANY, Result, Row, int, list_of, made, string, text_of, texts_of};
use crate::exec::Spent;
use crate::format;
use crate::value::Val;
use regex::Regex;

pub(super) const TABLE: &[Row] = &[
    ("quote", 0, ANY, |spent, a| quote(spent, a, |_, text| format::quoted(text))),
    ("squote", 0, ANY, |spent, a| quote(spent, a, |_, text| format!("'{text}'"))),
    ("upper", 1, 1, |spent, a| made(spent, string(a, 0)?.to_uppercase())),
    ("lower", 1, 1, |spent, a| made(spent, string(a, 0)?.to_lowercase())),
    ("title", 1, 1, |spent, a| made(spent, title(string(a, 0)?))),
    ("untitle", 1, 1, |spent, a| made(spent, untitle(string(a, 0)?))),
    ("trim", 1, 1, |spent, a| made(spent, string(a, 0)?.trim().to_owned())),
    ("trimAll", 2, 2, |spent, a| made(spent, string(a, 1)?.trim_matches(among(string(a, 0)?)).to_owned())),
    ("trimall", 2, 2, |spent, a| made(spent, string(a, 1)?.trim_matches(among(string(a, 0)?)).to_owned())),
    ("trimPrefix", 2, 2, |spent, a| {
        let text = string(a, 1)?;
        made(spent, text.strip_prefix(string(a, 0)?).unwrap_or(text).to_owned())
    }),
    ("trimSuffix", 2, 2, |spent, a| {
        let text = string(a, 1)?;
        made(spent, text.strip_suffix(string(a, 0)?).unwrap_or(text).to_owned())
    }),
    ("trunc", 2, 2, |spent, a| trunc(spent, int(a, 0)?, string(a, 1)?)),
    ("substr", 3, 3, |spent, a| substr(spent, int(a, 0)?, int(a, 1)?, string(a, 2)?)),
    ("nospace", 1, 1, |spent, a| made(spent, string(a, 0)?.chars().filter(|c| !c.is_whitespace()).collect())),
    ("contains", 2, 2, |_, a| Ok(Val::Bool(string(a, 1)?.contains(string(a, 0)?)))),
    ("hasPrefix", 2, 2, |_, a| Ok(Val::Bool(string(a, 1)?.starts_with(string(a, 0)?)))),
    ("hasSuffix", 2, 2, |_, a| Ok(Val::Bool(string(a, 1)?.ends_with(string(a, 0)?)))),
    ("replace", 3, 3, |spent, a| replace(spent, string(a, 2)?, string(a, 0)?, string(a, 1)?)),
    ("repeat", 2, 2, |spent, a| {
        let count = usize::try_from(int(a, 0)?).map_err(|_| "negative Repeat count".to_owned())?;
        spent.charge_text(string(a, 1)?.len().saturating_mul(count))?;
        Ok(Val::str(string(a, 1)?.repeat(count)))
    }),
    ("cat", 0, ANY, |spent, a| {
        let texts = a.iter().filter(|value| !value.is_nil()).map(|value| text_of(spent, value));
        made(spent, texts.collect::<Result<Vec<_>>>()?.join(" "))
    }),
    ("indent", 2, 2, |spent, a| indent(spent, "", int(a, 0)?, string(a, 1)?)),
    ("nindent", 2, 2, |spent, a| indent(spent, "\n", int(a, 0)?, string(a, 1)?)),
    ("split", 2, 2, |spent, a| {
        let parts = parts(spent, string(a, 0)?, string(a, 1)?)?;
        Ok(Val::map(parts.into_iter().enumerate().map(|(i, part)| (format!("_{i}").into(), Val::str(part)))))
    }),
    ("splitn", 3, 3, |spent, a| {
        let (separator, text) = (string(a, 0)?, string(a, 2)?);
        let count = usize::try_from(int(a, 1)?).unwrap_or(ANY);
        spent.charge(text.len())?;
        let parts = text.splitn(count, separator).enumerate();
        Ok(Val::map(parts.map(|(i, part)| (format!("_{i}").into(), Val::str(part)))))
    }),
    ("splitList", 2, 2, |spent, a| Ok(list_of(parts(spent, string(a, 0)?, string(a, 1)?)?))),
    ("join", 2, 2, |spent, a| {
        let (separator, texts) = (string(a, 0)?, texts_of(spent, &a[1])?);
        let size = texts.iter().map(String::len).sum::<usize>() + separator.len() * texts.len();
        spent.charge_text(size)?;
        Ok(Val::str(texts.join(separator)))
    }),
    ("sortAlpha", 1, 1, |spent, a| {
        let mut texts = texts_of(spent, &a[0])?;
        texts.sort();
        Ok(list_of(texts))
    }),
    ("toString", 1, 1, |spent, a| made(spent, text_of(spent, &a[0])?)),
    ("toStrings", 1, 1, |spent, a| Ok(list_of(texts_of(spent, &a[0])?))),
    ("regexMatch", 2, 2, |spent, a| Ok(Val::Bool(regex(spent, a).is_ok_and(|(regex, text)| regex.is_match(text))))),
    ("mustRegexMatch", 2, 2, |spent, a| regex(spent, a).map(|(regex, text)| Val::Bool(regex.is_match(text)))),
    ("regexFind", 2, 2, |spent, a| {
        let (regex, text) = regex(spent, a)?;
        made(spent, regex.find(text).map_or_else(String::new, |found| found.as_str().to_owned()))
    }),
    ("regexFindAll", 3, 3, |spent, a| {
        let (regex, text) = regex(spent, a)?;
        let count = usize::try_from(int(a, 2)?).unwrap_or(ANY);
        paid(spent, regex.find_iter(text).take(count).map(|found| found.as_str()))
    }),
    ("regexReplaceAll", 3, 3, |spent, a| regex_replace(spent, a, Replacement::Expanded)),
    ("regexReplaceAllLiteral", 3, 3, |spent, a| regex_replace(spent, a, Replacement::Literal)),
    ("regexSplit", 3, 3, |spent, a| {
        let (regex, text) = regex(spent, a)?;
        Ok(match int(a, 2)? {
            0 => Val::list(Vec::new()),
            count if count > 0 => paid(spent, regex.splitn(text, count as usize))?,
            _ => paid(spent, regex.split(text))?,
        })
    }),
    ("regexQuoteMeta", 1, 1, |spent, a| {
        let text = string(a, 0)?;
        let special = |c: char| "\\.+*?()|[]{}^$".contains(c);
        let quoted = text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c]));
        made(spent, quoted.collect())
    }),
];

/// Regexes are small programs too.
const REGEX_SIZE_MAX: usize = 1 << 20;
const REGEX_STEPS: usize = 1000;

/// An item of a list takes some 60 bytes beside its text.
const ITEM_STEPS: usize = 8;

fn quote(spent: &Spent<'_>, values: &[Val], quoted: fn(&Spent<'_>, &str) -> String) -> Result {
    let texts = values.iter().filter(|value| !value.is_nil());
    let texts = texts.map(|value| Ok(quoted(spent, &text_of(spent, value)?))).collect::<Result<Vec<_>>>()?;
    made(spent, texts.join(" "))
}

fn among(characters: &str) -> impl Fn(char) -> bool {
    move |c| characters.contains(c)
}

fn title(text: &str) -> String {
    let mut before = ' ';
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut upper = |c: char| {
        let is_first = !is_word(before) && (before.is_ascii() || before.is_whitespace());
        before = c;
        if is_first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(&mut upper).collect()
}

fn untitle(text: &str) -> String {
    let mut before = ' ';
    let mut lower = |c: char| {
        let is_first = before.is_whitespace();
        before = c;
        if is_first { c.to_lowercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(&mut lower).collect()
}

/// Go cuts bytes; half a character is left out here.
fn trunc(spent: &Spent<'_>, length: i64, text: &str) -> Result {
    let size = usize::try_from(length.unsigned_abs()).unwrap_or(ANY);
    if size >= text.len() {
        return made(spent, text.to_owned());
    }
    let bytes = if length < 0 { &text.as_bytes()[text.len() - size..] } else { &text.as_bytes()[..size] };
    made(spent, String::from_utf8_lossy(bytes).trim_matches(char::REPLACEMENT_CHARACTER).to_owned())
}

fn substr(spent: &Spent<'_>, start: i64, end: i64, text: &str) -> Result {
    let at = |at: i64| usize::try_from(at).ok().filter(|at| *at <= text.len());
    let (from, to) = match (at(start), at(end)) {
        (None, to) if start < 0 => (0, to.unwrap_or(text.len())),
        (from, to) => (from.ok_or("slice bounds out of range")?, to.unwrap_or(text.len())),
    };
    let bytes = text.as_bytes().get(from..to).ok_or("slice bounds out of range")?;
    made(spent, String::from_utf8_lossy(bytes).into_owned())
}

fn replace(spent: &Spent<'_>, text: &str, old: &str, new: &str) -> Result {
    spent.charge(text.len())?;
    let count = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    spent.charge_text(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Val::str(text.replace(old, new)))
}

fn indent(spent: &Spent<'_>, before: &str, spaces: i64, text: &str) -> Result {
    let spaces = usize::try_from(spaces).map_err(|_| "negative Repeat count".to_owned())?;
    let lines = text.matches('\n').count() + 1;
    spent.charge_text(lines.saturating_mul(spaces).saturating_add(text.len()))?;
    let pad = " ".repeat(spaces);
    Ok(Val::str(format!("{before}{pad}{}", text.replace('\n', &format!("\n{pad}")))))
}

/// A list costs more than the text it is made from.
fn paid<'a>(spent: &Spent<'_>, parts: impl Iterator<Item = &'a str>) -> Result {
    let parts = parts.map(|part| {
        spent.charge(ITEM_STEPS)?;
        Ok(part.to_owned())
    });
    Ok(list_of(parts.collect::<Result<Vec<_>>>()?))
}

fn parts(spent: &Spent<'_>, separator: &str, text: &str) -> Result<Vec<String>> {
    spent.charge(text.len())?;
    let count = if separator.is_empty() { text.len() } else { text.matches(separator).count() };
    spent.charge(count.saturating_mul(ITEM_STEPS))?;
    Ok(match separator {
        "" => text.chars().map(String::from).collect(),
        separator => text.split(separator).map(str::to_owned).collect(),
    })
}

fn regex<'a>(spent: &Spent<'_>, arguments: &'a [Val]) -> Result<(Regex, &'a str)> {
    let (pattern, text) = (string(arguments, 0)?, string(arguments, 1)?);
    spent.charge(REGEX_STEPS + text.len())?;
    let regex = regex::RegexBuilder::new(pattern).size_limit(REGEX_SIZE_MAX).build();
    Ok((regex.map_err(|error| format!("error parsing regexp: {error}"))?, text))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replacement {
    Expanded,
    Literal,
}

fn regex_replace(spent: &Spent<'_>, arguments: &[Val], replacement: Replacement) -> Result {
    let (regex, text) = regex(spent, arguments)?;
    let new = string(arguments, 2)?;
    let mut out = String::new();
    let mut end = 0;
    for found in regex.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        let before = out.len();
        let copies = if replacement == Replacement::Expanded { new.matches('$').count() } else { 0 };
        let size = before.saturating_add(new.len()).saturating_add(copies.saturating_mul(text.len()));
        if size > spent.engine.limits.output {
            return Err(format!("makes a text of more than {} bytes", spent.engine.limits.output));
        }
        out.push_str(&text[end..whole.start()]);
        match replacement {
            Replacement::Literal => out.push_str(new),
            Replacement::Expanded => found.expand(new, &mut out),
        }
        end = whole.end();
        spent.charge(1 + (out.len() - before) / 8)?;
    }
    out.push_str(&text[end..]);
    made(spent, out)
}
