//! The routes of one virtual host, in order: the first whose matchers all hold.
//!
//! `config.route.v3.RouteMatch`; `VirtualHostImpl::getRouteFromEntries`.

use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, RouteMatch, VirtualHost};

use super::http::Arrived;
use super::outcome::{Outcome, Stop, rejected, unsupported};
use super::path::without_query;
use super::{Walk, matcher, name_or_index, regex};

pub(super) fn find<'a>(
    walk: &mut Walk<'_>,
    configuration: &RouteConfiguration,
    host: &'a VirtualHost,
    arrived: &Arrived,
) -> Result<&'a Route, Stop> {
    let path = format!("route_configuration[{}].virtual_hosts[{}]", configuration.name, host.name);
    require_tls(walk, host, arrived, &path)?;
    if host.matcher.is_some() {
        return Err(unsupported(format!("{path}.matcher")));
    }
    if !host.route_specifiers.is_empty() {
        return Err(unsupported(format!("{path}.route_specifiers")));
    }
    let target = match arrived.request.path.find(';') {
        Some(at) if configuration.ignore_path_parameters_in_path_matching => &arrived.request.path[..at],
        _ => &arrived.request.path,
    };
    for (index, route) in host.routes.iter().enumerate() {
        let name = name_or_index(&route.name, index);
        let matches =
            route.r#match.as_ref().ok_or_else(|| rejected(format!("{path}.routes[{name}].match"), "is required"))?;
        match why_not(matches, arrived, without_query(target), walk.call.roll, &format!("{path}.routes[{name}].match"))?
        {
            None => {
                walk.trace.note(format!("route {name} matches"));
                walk.at.route = Some(name);
                return Ok(route);
            }
            Some(reason) => walk.trace.note(format!("route {name}: {reason}")),
        }
    }
    Err(Outcome::NoRoute.into())
}

/// `require_tls` answers before any route is looked at, by `x-forwarded-proto` and not by the connection.
fn require_tls(walk: &mut Walk<'_>, host: &VirtualHost, arrived: &Arrived, path: &str) -> Result<(), Stop> {
    let required = TlsRequirementType::try_from(host.require_tls).unwrap_or_default();
    match required {
        _ if arrived.forwarded_proto == "https" => Ok(()),
        TlsRequirementType::None => Ok(()),
        // Depends on whether the client's address counts as internal.
        TlsRequirementType::ExternalOnly => Err(unsupported(format!("{path}.require_tls: EXTERNAL_ONLY"))),
        TlsRequirementType::All => {
            walk.trace.note("require_tls: redirect to https");
            let location = format!("https://{}{}", arrived.request.authority, arrived.request.path);
            Err(Outcome::Redirect { code: 301, location }.into())
        }
    }
}

/// The first matcher that fails. All of them must hold, so one that is not modelled matters only if the others do.
fn why_not(
    matches: &RouteMatch,
    arrived: &Arrived,
    request_path: &str,
    roll: f64,
    path: &str,
) -> Result<Option<String>, Stop> {
    let mut checks = vec![(describe(matches), path_specifier(matches, arrived, request_path, path))];
    if let Some(fraction) = &matches.runtime_fraction {
        checks.push(("runtime_fraction".into(), Ok(matcher::fraction(fraction, roll))));
    }
    if matches.grpc.is_some() {
        checks.push(("grpc".into(), Ok(is_grpc(arrived))));
    }
    for header in &matches.headers {
        checks.push((format!("header {}", header.name), matcher::header(header, arrived, path)));
    }
    for parameter in &matches.query_parameters {
        let verdict = matcher::query_parameter(parameter, &arrived.request.path, path);
        checks.push((format!("query parameter {}", parameter.name), verdict));
    }
    if let Some(context) = &matches.tls_context {
        let presented = context.presented.is_none_or(|wanted| wanted.value == arrived.peer_presented);
        checks.push(("tls_context.presented".into(), Ok(presented)));
        if context.validated.is_some() {
            checks.push(("tls_context".into(), Err(unsupported(format!("{path}.tls_context.validated")))));
        }
    }
    let unmodelled = [
        ("cookies", matches.cookies.is_empty()),
        ("dynamic_metadata", matches.dynamic_metadata.is_empty()),
        ("filter_state", matches.filter_state.is_empty()),
    ];
    for (field, empty) in unmodelled {
        if !empty {
            checks.push((field.into(), Err(unsupported(format!("{path}.{field}")))));
        }
    }
    let mut unknown = None;
    for (what, verdict) in checks {
        match verdict {
            Ok(true) => {}
            Ok(false) => return Ok(Some(format!("{what} does not match"))),
            Err(stop) if matches!(*stop, Outcome::Unsupported { .. }) => unknown = unknown.or(Some(stop)),
            Err(stop) => return Err(stop),
        }
    }
    unknown.map_or(Ok(None), Err)
}

fn describe(matches: &RouteMatch) -> String {
    match &matches.path_specifier {
        Some(PathSpecifier::Prefix(wanted)) => format!("prefix {wanted}"),
        Some(PathSpecifier::Path(wanted)) => format!("path {wanted}"),
        Some(PathSpecifier::SafeRegex(wanted)) => format!("safe_regex {}", wanted.regex),
        Some(PathSpecifier::PathSeparatedPrefix(wanted)) => format!("path_separated_prefix {wanted}"),
        Some(PathSpecifier::ConnectMatcher(_)) => "connect_matcher".into(),
        Some(PathSpecifier::PathMatchPolicy(_)) => "path_match_policy".into(),
        None => "path_specifier".into(),
    }
}

fn path_specifier(matches: &RouteMatch, arrived: &Arrived, request_path: &str, path: &str) -> Result<bool, Stop> {
    let sensitive = matches.case_sensitive.is_none_or(|sensitive| sensitive.value);
    let starts = |wanted: &str| {
        let head = request_path.as_bytes().get(..wanted.len());
        head.is_some_and(|head| {
            if sensitive { head == wanted.as_bytes() } else { head.eq_ignore_ascii_case(wanted.as_bytes()) }
        })
    };
    // A CONNECT request without a path fits none but connect_matcher.
    let pathless = arrived.request.path.is_empty();
    match &matches.path_specifier {
        Some(PathSpecifier::ConnectMatcher(_)) => Ok(arrived.is_connect()),
        Some(_) if pathless => Ok(false),
        Some(PathSpecifier::Prefix(wanted)) => Ok(starts(wanted)),
        Some(PathSpecifier::Path(wanted)) => Ok(starts(wanted) && request_path.len() == wanted.len()),
        Some(PathSpecifier::PathSeparatedPrefix(wanted)) => {
            let next = request_path.as_bytes().get(wanted.len());
            Ok(starts(wanted) && next.is_none_or(|next| *next == b'/'))
        }
        // The whole path, without the query, and case_sensitive has no say.
        Some(PathSpecifier::SafeRegex(wanted)) => {
            Ok(regex::full(wanted, &format!("{path}.safe_regex"))?.is_match(request_path))
        }
        Some(PathSpecifier::PathMatchPolicy(_)) => Err(unsupported(format!("{path}.path_match_policy"))),
        None => Err(rejected(format!("{path}.path_specifier"), "is required")),
    }
}

pub(super) fn is_grpc(arrived: &Arrived) -> bool {
    let kind = arrived.request.first("content-type").unwrap_or_default();
    kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}
