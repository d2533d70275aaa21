//! Headers that a route sets, adds and removes (`TranslateHeadersOperations`).

use super::command::{self, Arguments};
use super::note::{Flaw, header_text};
use crds::networking::{HeaderOperations, Headers};
use std::collections::BTreeMap;
use xds::envoy::core::header_value_option::HeaderAppendAction;
use xds::envoy::{HeaderValue, HeaderValueOption};

/// What `headers` of a rule or of one of its destinations asks for.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// `:authority` or `host` among the request's headers: Envoy changes those by a host rewrite only.
    pub(super) authority: Option<String>,
}

/// `field`: where `from` is written.
pub(super) fn operations(from: &Headers, field: &str) -> Result<Operations, Flaw> {
    let (request, response) = (format!("{field}.request"), format!("{field}.response"));
    Ok(Operations {
        request_add: options(&from.request, &request)?,
        request_remove: removed(&from.request, &request)?,
        response_add: options(&from.response, &response)?,
        response_remove: removed(&from.response, &response)?,
        authority: authority(&from.request, &request)?,
    })
}

/// Set before added, each in order of their names.
fn options(from: &HeaderOperations, field: &str) -> Result<Vec<HeaderValueOption>, Flaw> {
    let mut options = vec![];
    for (values, key, action) in [
        (&from.set, "set", HeaderAppendAction::OverwriteIfExistsOrAdd),
        (&from.add, "add", HeaderAppendAction::AppendIfExistsOrAdd),
    ] {
        for (name, value) in values.iter().filter(|(name, _)| !is_internal(name)) {
            let field = format!("{field}.{key}.{name}");
            options.push(HeaderValueOption {
                header: Some(header_value(name, value, &field)?),
                append_action: action.into(),
                ..HeaderValueOption::default()
            });
        }
    }
    Ok(options)
}

fn header_value(name: &str, value: &str, field: &str) -> Result<HeaderValue, Flaw> {
    /// Envoy's own limit (`base.proto`).
    const BYTES_MAX: usize = 16_384;
    if name.is_empty() || name.len() > BYTES_MAX || value.len() > BYTES_MAX {
        return Err(Flaw::invalid(field, format!("names and values of headers have 1 and 0 to {BYTES_MAX} bytes")));
    }
    substitutions(value).map_err(|why| Flaw::invalid(field, why))?;
    let (key, value) = (header_text(name, field)?.to_owned(), header_text(value, field)?.to_owned());
    Ok(HeaderValue { key, value, ..HeaderValue::default() })
}

fn removed(from: &HeaderOperations, field: &str) -> Result<Vec<String>, Flaw> {
    let mut names = vec![];
    for (at, name) in from.remove.iter().enumerate().filter(|(_, name)| !is_internal(name)) {
        let field = format!("{field}.remove[{at}]");
        if name.is_empty() {
            return Err(Flaw::invalid(field, "a header has no name"));
        }
        names.push(header_text(name, &field)?.to_owned());
    }
    Ok(names)
}

/// Set beats added.
fn authority(from: &HeaderOperations, field: &str) -> Result<Option<String>, Flaw> {
    let last = |values: &BTreeMap<String, String>| {
        values
            .iter()
            .rev()
            .find(|(name, value)| is_authority(name) && !value.is_empty())
            .map(|(_, value)| value.clone())
    };
    let value = last(&from.set).or_else(|| last(&from.add));
    value.map(|it| header_text(&it, field).map(str::to_owned)).transpose()
}

/// Envoy lets nobody change these.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Whether Envoy can read the `%COMMAND(arguments):length%` parts of a value; `%%` is a percent sign
/// (`source/common/formatter/substitution_format_utility.h`).
fn substitutions(value: &str) -> Result<(), String> {
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        rest = match after.strip_prefix('%') {
            Some(rest) => rest,
            None => command(after).map_err(|why| format!("{value:?}: {why}"))?,
        };
    }
    Ok(())
}

/// What follows the command at the start of a text that stands behind a `%`.
fn command(text: &str) -> Result<&str, String> {
    let open = || "a % is neither doubled nor the start of %COMMAND%, as Envoy's header values need".to_owned();
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).ok_or_else(open)?;
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err(open());
    }
    let mut given = false;
    if let Some(arguments) = rest.strip_prefix('(') {
        given = !arguments.starts_with(')');
        rest = arguments.split_once(')').ok_or_else(open)?.1;
    }
    if let Some(length) = rest.strip_prefix(':') {
        rest = length.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == length.len() {
            return Err(open());
        }
    }
    let rest = rest.strip_prefix('%').ok_or_else(open)?;
    match (command::arguments(name), given) {
        (None, _) => Err(format!("Envoy has no command %{name}%")),
        (Some(Arguments::Needed), false) => Err(format!("Envoy's command %{name}% needs an argument")),
        (Some(Arguments::None), true) => Err(format!("Envoy's command %{name}% takes no argument")),
        _ => Ok(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_the_commands_that_envoy_has_written_as_it_takes_them() {
        for good in ["", "100%%", "%REQ(:path)%", "%START_TIME%", "%START_TIME(%%s)%", "%REQ(x-a):10%-%PROTOCOL%"] {
            assert_eq!(substitutions(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("50%", "neither doubled"),
            ("%lower%", "neither doubled"),
            ("%REQ(a)", "neither doubled"),
            ("%REQ(a):x%", "neither doubled"),
            ("%NONSENSE%", "no command %NONSENSE%"),
            ("%REQ%", "needs an argument"),
            ("%PROTOCOL(a)%", "takes no argument"),
        ] {
            let why = substitutions(bad).unwrap_err();
            assert!(why.contains(part), "{bad}: {why}");
        }
    }
}
