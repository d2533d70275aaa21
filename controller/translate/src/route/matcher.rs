//! Which requests a route takes (`TranslateRouteMatch`).

use super::everything;
use super::note::{Flaw, header_text, regex};
use crate::message;
use crds::StringMatch;
use crds::networking::HttpMatchRequest;
use std::collections::BTreeMap;
use xds::envoy::route::header_matcher::HeaderMatchSpecifier;
use xds::envoy::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds::envoy::route::route_match::PathSpecifier;
use xds::envoy::{HeaderMatcher, QueryParameterMatcher, Route, RouteMatch, StringMatcher, matcher as envoy};

/// The filter that leaves the claims of a verified token behind, and under which key.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
const JWT_PAYLOAD: &str = "payload";
/// `@request.auth.claims.group.id` and `@request.auth.claims[group][id]` look like headers and mean claims.
const CLAIMS: &str = "@request.auth.claims";

/// `field`: where `from` is written.
pub(super) fn route_match(from: &HttpMatchRequest, field: &str) -> Result<RouteMatch, Flaw> {
    let mut made = everything();
    for (values, without) in [(&from.headers, false), (&from.without_headers, true)] {
        add_headers(&mut made, values, without, field)?;
    }
    made.headers.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(uri) = &from.uri {
        made.path_specifier = path(uri, &format!("{field}.uri"))?.or(made.path_specifier);
    }
    made.case_sensitive = message::boolean(!from.ignore_uri_case);
    for (name, key, value) in [
        (":method", "method", &from.method),
        (":authority", "authority", &from.authority),
        (":scheme", "scheme", &from.scheme),
    ] {
        if let Some(value) = value {
            made.headers.push(header(name, value, &format!("{field}.{key}"))?);
        }
    }
    for (name, value) in &from.query_params {
        made.query_parameters.push(query_parameter(name, value, &format!("{field}.queryParams.{name}"))?);
    }
    Ok(made)
}

fn add_headers(
    made: &mut RouteMatch,
    values: &BTreeMap<String, StringMatch>,
    without: bool,
    field: &str,
) -> Result<(), Flaw> {
    let key = if without { "withoutHeaders" } else { "headers" };
    for (name, value) in values {
        let field = format!("{field}.{key}.{name}");
        if let Some(claims) = claims(name) {
            let invert = without;
            made.dynamic_metadata.push(envoy::MetadataMatcher { invert, ..claim(&claims, value, &field)? });
            continue;
        }
        let matcher = header(name, value, &field)?;
        made.headers.push(HeaderMatcher {
            invert_match: without,
            // "Not that value" is true of a request without the header.
            treat_missing_header_as_empty: without && !means_present(value),
            ..matcher
        });
    }
    Ok(())
}

/// `None`: any path.
fn path(uri: &StringMatch, field: &str) -> Result<Option<PathSpecifier>, Flaw> {
    Ok(Some(match uri {
        StringMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        StringMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
        StringMatch::Regex(pattern) => {
            regex(pattern, field)?;
            PathSpecifier::SafeRegex(message::regex(pattern))
        }
        StringMatch::Present => return Ok(None),
    }))
}

/// An empty match, and the regex `*`, which is none: <https://github.com/istio/istio/pull/20629>.
fn means_present(value: &StringMatch) -> bool {
    match value {
        StringMatch::Present => true,
        StringMatch::Regex(pattern) => pattern == "*",
        StringMatch::Exact(_) | StringMatch::Prefix(_) => false,
    }
}

fn header(name: &str, value: &StringMatch, field: &str) -> Result<HeaderMatcher, Flaw> {
    if name.is_empty() {
        return Err(Flaw::invalid(field, "a header has no name"));
    }
    let specifier = match text(value, field)? {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
    };
    Ok(HeaderMatcher {
        name: header_text(name, field)?.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    })
}

fn query_parameter(name: &str, value: &StringMatch, field: &str) -> Result<QueryParameterMatcher, Flaw> {
    /// Envoy's own limit (`route_components.proto`).
    const NAME_BYTES_MAX: usize = 1024;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Flaw::invalid(field, format!("a query parameter's name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    let specifier = match text(value, field)? {
        None => QueryParameterMatchSpecifier::PresentMatch(true),
        Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
    };
    Ok(QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) })
}

/// `None`: present with any value.
fn text(value: &StringMatch, field: &str) -> Result<Option<StringMatcher>, Flaw> {
    match value {
        _ if means_present(value) => return Ok(None),
        StringMatch::Regex(pattern) => regex(pattern, field)?,
        // Envoy wants a prefix not to be empty.
        StringMatch::Prefix(prefix) if prefix.is_empty() => return Err(Flaw::invalid(field, "the prefix is empty")),
        _ => {}
    }
    Ok(message::string_matcher(value))
}

/// The path to a claim, if the name means one; a name that only begins so is a header's.
fn claims(name: &str) -> Option<Vec<String>> {
    let start = name.get(..CLAIMS.len()).filter(|it| it.eq_ignore_ascii_case(CLAIMS))?;
    let rest = &name[start.len()..];
    let parts = |text: &str, separator| text.split(separator).map(str::to_owned).collect();
    match rest.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        Some(inner) if !inner.is_empty() => Some(parts(inner, "][")),
        _ => rest.strip_prefix('.').filter(|it| !it.is_empty()).map(|it| parts(it, ".")),
    }
}

/// A claim that is the value, or a list that has it.
fn claim(claims: &[String], value: &StringMatch, field: &str) -> Result<envoy::MetadataMatcher, Flaw> {
    use envoy::metadata_matcher::{PathSegment, path_segment::Segment};
    use envoy::value_matcher::MatchPattern;
    if claims.iter().any(String::is_empty) {
        return Err(Flaw::invalid(field, "a claim has no name"));
    }
    let wrap = |pattern| envoy::ValueMatcher { match_pattern: Some(pattern) };
    let value = match text(value, field)? {
        None => wrap(MatchPattern::PresentMatch(true)),
        Some(matcher) => {
            let text = wrap(MatchPattern::StringMatch(matcher));
            let item = envoy::list_matcher::MatchPattern::OneOf(Box::new(text.clone()));
            let list = MatchPattern::ListMatch(Box::new(envoy::ListMatcher { match_pattern: Some(item) }));
            wrap(MatchPattern::OrMatch(envoy::OrMatcher { value_matchers: vec![wrap(list), text] }))
        }
    };
    let keys = std::iter::once(JWT_PAYLOAD).chain(claims.iter().map(String::as_str));
    Ok(envoy::MetadataMatcher {
        filter: JWT_FILTER.into(),
        path: keys.map(|key| PathSegment { segment: Some(Segment::Key(key.to_owned())) }).collect(),
        value: Some(value),
        invert: false,
    })
}

/// Whether no request passes the route by (`IsCatchAllRoute`).
pub(super) fn is_catch_all(route: &Route) -> bool {
    let Some(from) = &route.r#match else { return false };
    let any_path = match &from.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(pattern)) => pattern.regex == ".*",
        _ => false,
    };
    any_path && from.headers.is_empty() && from.query_parameters.is_empty() && from.dynamic_metadata.is_empty()
}
