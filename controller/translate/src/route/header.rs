//! Headers that a route sets, adds and removes (`TranslateHeadersOperations`).

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
/// (`source/common/formatter/substitution_format_utility.h`). Which commands exist is Envoy's to know.
fn substitutions(value: &str) -> Result<(), String> {
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        rest = match after.strip_prefix('%') {
            Some(rest) => rest,
            None => command(after).ok_or_else(|| {
                format!("{value:?}: a % is neither doubled nor the start of %COMMAND%, as Envoy's header values need")
            })?,
        };
    }
    Ok(())
}

/// What follows the command at the start of a text that stands behind a `%`.
fn command(text: &str) -> Option<&str> {
    let name = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let mut rest = text.split_at_checked(name).filter(|(name, _)| !name.is_empty())?.1;
    if let Some(arguments) = rest.strip_prefix('(') {
        rest = arguments.split_once(')')?.1;
    }
    if let Some(length) = rest.strip_prefix(':') {
        let digits = length.find(|c: char| !c.is_ascii_digit()).filter(|it| *it > 0)?;
        rest = &length[digits..];
    }
    rest.strip_prefix('%')
}
