//! One entry of `VirtualService.http` (`validateHTTPRoute`).

use super::report::Report;
use super::virtual_service::{destination, gateway_names, weights};
use super::{header, rule};
use crate::StringMatch;
use crate::networking::{
    CorsPolicy, HttpDirectResponse, HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRewrite, HttpRoute, Percent,
};
use std::collections::BTreeMap;

pub(super) fn validate(route: &HttpRoute, is_delegate: bool, at: &str, report: &mut Report<'_>) {
    conflicts(route, is_delegate, at, report);
    for (i, m) in route.r#match.iter().enumerate() {
        match_request(m, &format!("{at}.match[{i}]"), report);
    }
    header::operations(&route.headers, &format!("{at}.headers"), report);
    for (i, destination) in route.route.iter().enumerate() {
        let at = format!("{at}.route[{i}]");
        header::operations(&destination.headers, &format!("{at}.headers"), report);
        super::virtual_service::destination(&destination.destination, &format!("{at}.destination"), report);
    }
    weights(route.route.iter().map(|route| route.weight), at, report);
    if let Some(cors) = &route.cors_policy {
        cors_policy(cors, &format!("{at}.corsPolicy"), report);
    }
    if let Some(fault) = &route.fault {
        fault_injection(fault, &format!("{at}.fault"), report);
    }
    mirrors(route, at, report);
    if let Some(redirect) = &route.redirect {
        self::redirect(redirect, &route.r#match, &format!("{at}.redirect"), report);
    }
    if let Some(response) = &route.direct_response {
        direct_response(response, &format!("{at}.directResponse"), report);
    }
    if let Some(retry) = &route.retries {
        for (field, why) in rule::http_retry(retry) {
            report.error(format!("{at}.retries.{field}"), why);
        }
    }
    if let Some(rewrite) = &route.rewrite {
        self::rewrite(rewrite, &format!("{at}.rewrite"), report);
    }
    authority(route, at, report);
    report.check(format!("{at}.timeout"), rule::optional_duration(route.timeout));
}

/// A route does one thing.
fn conflicts(route: &HttpRoute, is_delegate: bool, at: &str, report: &mut Report<'_>) {
    if route.delegate.is_some() && is_delegate {
        report.error(format!("{at}.delegate"), "delegate HTTP route cannot contain delegate");
    } else if route.delegate.is_some() {
        if route.redirect.is_some() {
            report.error(format!("{at}.redirect"), "root HTTP route must not specify redirect");
        }
        if !route.route.is_empty() {
            report.error(format!("{at}.route"), "root HTTP route must not specify route");
        }
        return;
    }
    let action = match (&route.redirect, &route.direct_response) {
        (Some(_), _) => "redirect",
        (None, Some(_)) => "directResponse",
        (None, None) => {
            if route.route.is_empty() {
                report.error(at, "HTTP route, redirect or direct_response is required");
            }
            ""
        }
    };
    let others = [
        ("route", !route.route.is_empty()),
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
        ("directResponse", route.direct_response.is_some() && action == "redirect"),
    ];
    for (field, _) in others.into_iter().filter(|(_, is_set)| *is_set && !action.is_empty()) {
        report.error(format!("{at}.{field}"), format!("HTTP route cannot contain both {field} and {action}"));
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        report.error(format!("{at}.mirrors"), "HTTP route cannot contain both mirror and mirrors");
    }
}

fn match_request(m: &HttpMatchRequest, at: &str, report: &mut Report<'_>) {
    // An empty prefix is every path; Envoy allows it for paths alone.
    if let Some(StringMatch::Regex(pattern)) = &m.uri {
        regex(pattern, &format!("{at}.uri.regex"), report);
    }
    for (field, value) in [("scheme", &m.scheme), ("method", &m.method), ("authority", &m.authority)] {
        if let Some(value) = value {
            string_match(value, &format!("{at}.{field}"), report);
        }
    }
    string_matches(&m.query_params, &format!("{at}.queryParams"), report);
    for name in m.headers.keys() {
        report.check(format!("{at}.headers.{name}"), header::matched_name(name));
    }
    string_matches(&m.headers, &format!("{at}.headers"), report);
    for (name, value) in &m.without_headers {
        let at = format!("{at}.withoutHeaders.{name}");
        report.check(at.as_str(), header::matched_name(name));
        // `*` is no regex, it stands for "present".
        if *value != StringMatch::Regex("*".into()) {
            string_match(value, &at, report);
        }
    }
    if let Some(port) = m.port.filter(|port| *port != 0) {
        report.check(format!("{at}.port"), rule::port(port));
    }
    report.check(format!("{at}.sourceLabels"), rule::labels(&m.source_labels));
    gateway_names(&m.gateways, &format!("{at}.gateways"), report);
    if !m.source_namespace.is_empty() && !rule::is_label(&m.source_namespace) {
        let why = format!("sourceNamespace match {} is invalid", m.source_namespace);
        report.error(format!("{at}.sourceNamespace"), why);
    }
}

fn string_matches(matches: &BTreeMap<String, StringMatch>, at: &str, report: &mut Report<'_>) {
    for (name, value) in matches {
        string_match(value, &format!("{at}.{name}"), report);
    }
}

fn string_match(value: &StringMatch, at: &str, report: &mut Report<'_>) {
    match value {
        StringMatch::Prefix(prefix) if prefix.is_empty() => {
            report.error(format!("{at}.prefix"), "prefix string match should not be empty");
        }
        StringMatch::Regex(pattern) => regex(pattern, &format!("{at}.regex"), report),
        StringMatch::Prefix(_) | StringMatch::Exact(_) | StringMatch::Present => {}
    }
}

fn regex(pattern: &str, at: &str, report: &mut Report<'_>) {
    match pattern {
        "" => report.error(at, "regex string match should not be empty"),
        _ => report.regex(at, pattern),
    }
}

fn redirect(redirect: &HttpRedirect, matches: &[HttpMatchRequest], at: &str, report: &mut Report<'_>) {
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        report.error(at, "redirect may only specify one of uri or prefix_rewrite");
    }
    let is_other_match =
        |m: &HttpMatchRequest| m.uri.as_ref().is_some_and(|uri| !matches!(uri, StringMatch::Prefix(_)));
    if !redirect.prefix_rewrite.is_empty() && matches.iter().any(is_other_match) {
        let why = "redirect prefix_rewrite requires all URI matches to use prefix match type";
        report.error(format!("{at}.prefixRewrite"), why);
    }
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        report.error(format!("{at}.derivePort"), "only one of port and derivePort may be set");
    }
    let texts = [&redirect.uri, &redirect.prefix_rewrite, &redirect.authority, &redirect.scheme];
    if texts.iter().all(|text| text.is_empty()) && redirect.port.is_none() && redirect.derive_port.is_none() {
        report.error(at, "redirect must specify URI, authority, scheme, or port");
    }
    match redirect.redirect_code {
        0 | 301 | 302 | 303 | 307 | 308 => {}
        code @ 300..=399 => {
            // Istio accepts these and makes a route without an action, which Envoy refuses.
            let why = format!("Envoy cannot redirect with {code}, use 301, 302, 303, 307 or 308");
            report.error(format!("{at}.redirectCode"), why);
        }
        code => {
            report.error(format!("{at}.redirectCode"), format!("{code} is not a valid redirect code, must be 3xx"));
        }
    }
    if !["", "http", "https"].contains(&redirect.scheme.as_str()) {
        report.error(format!("{at}.scheme"), "invalid redirect scheme, must be \"http\" or \"https\"");
    }
    if let Some(port) = redirect.port.filter(|port| *port != 0) {
        report.check(format!("{at}.port"), rule::port(port));
    }
}

fn direct_response(response: &HttpDirectResponse, at: &str, report: &mut Report<'_>) {
    const KIB: usize = 1024;
    report.check(format!("{at}.status"), rule::http_status(response.status));
    let Some(body) = &response.body else { return };
    if body.string.is_some() && body.bytes.is_some() {
        report.error(format!("{at}.body"), "only one of string and bytes may be set");
    }
    // Base64 takes four characters for three bytes.
    let size = body.string.as_ref().map_or(0, String::len) + body.bytes.as_ref().map_or(0, |bytes| bytes.len() / 4 * 3);
    let why = "large direct_responses may impact control plane performance";
    match size {
        _ if size > KIB * KIB => report.error(format!("{at}.body"), format!("{why}, must be less than 1MB")),
        _ if size > 100 * KIB => report.warning(format!("{at}.body"), why),
        _ => {}
    }
}

fn rewrite(rewrite: &HttpRewrite, at: &str, report: &mut Report<'_>) {
    if !rewrite.uri.is_empty() && rewrite.uri_regex_rewrite.is_some() {
        report.error(at, "rewrite may only contain one of URI or UriRegexRewrite");
    }
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        report.error(at, "rewrite must specify at least one of URI, UriRegexRewrite, or authority");
    }
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        let at = format!("{at}.uriRegexRewrite");
        match regex.r#match.is_empty() || regex.rewrite.is_empty() {
            true => report.error(at, "UriRegexRewrite requires both Rewrite and Match fields to be specified"),
            false => report.regex(format!("{at}.match"), &regex.r#match),
        }
    }
}

/// The authority is rewritten in one place at most.
fn authority(route: &HttpRoute, at: &str, report: &mut Report<'_>) {
    let request = &route.headers.request;
    let in_headers = request.set.keys().chain(request.add.keys()).filter(|name| header::is_authority(name)).count();
    let in_rewrite = route.rewrite.as_ref().is_some_and(|rewrite| !rewrite.authority.is_empty());
    if in_headers + usize::from(in_rewrite) > 1 {
        report.error(format!("{at}.headers.request"), "authority header cannot be set multiple times");
    }
}

fn mirrors(route: &HttpRoute, at: &str, report: &mut Report<'_>) {
    let percentage = |percentage: &Option<Percent>, at: String, report: &mut Report<'_>| {
        let value = percentage.as_ref().map_or(0.0, |percentage| percentage.value);
        if !(0.0..=100.0).contains(&value) {
            report.error(at, format!("mirror percentage must be from 0 to 100 (it has {value})"));
        }
    };
    if let Some(mirror) = &route.mirror {
        destination(mirror, &format!("{at}.mirror"), report);
    }
    if let Some(percent) = route.mirror_percent {
        let at = format!("{at}.mirrorPercent");
        if percent > 100 {
            report.error(at.as_str(), format!("mirror_percent must have a max value of 100 (it has {percent})"));
        }
        report.warning(at, "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
    }
    percentage(&route.mirror_percentage, format!("{at}.mirrorPercentage.value"), report);
    for (i, mirror) in route.mirrors.iter().enumerate() {
        let at = format!("{at}.mirrors[{i}]");
        destination(&mirror.destination, &format!("{at}.destination"), report);
        percentage(&mirror.percentage, format!("{at}.percentage.value"), report);
    }
}

fn cors_policy(cors: &CorsPolicy, at: &str, report: &mut Report<'_>) {
    const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
    if !cors.allow_origin.is_empty() {
        report.warning(format!("{at}.allowOrigin"), "deprecated, use allowOrigins instead");
    }
    for (i, origin) in cors.allow_origins.iter().enumerate() {
        let at = format!("{at}.allowOrigins[{i}]");
        match origin {
            StringMatch::Regex(pattern) if !pattern.is_empty() => report.regex(format!("{at}.regex"), pattern),
            StringMatch::Exact(text) | StringMatch::Prefix(text) if !text.is_empty() => {}
            _ => report.error(at, "'' is not a valid match type for CORS allow origins"),
        }
    }
    for (i, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            report.error(format!("{at}.allowMethods[{i}]"), format!("{method:?} is not a supported HTTP method"));
        }
    }
    for (field, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (i, name) in names.iter().enumerate().filter(|(_, name)| *name != "*") {
            report.check(format!("{at}.{field}[{i}]"), header::token(name));
        }
    }
    if let Some(age) = cors.max_age {
        report.check(format!("{at}.maxAge"), rule::duration(age));
        if age.0.subsec_nanos() > 0 {
            report.error(format!("{at}.maxAge"), "max_age duration is accurate only to seconds precision");
        }
    }
}

fn fault_injection(fault: &HttpFaultInjection, at: &str, report: &mut Report<'_>) {
    if fault.abort.is_none() && fault.delay.is_none() {
        report.error(at, "HTTP fault injection must have an abort and/or a delay");
    }
    if let Some(abort) = &fault.abort {
        let at = format!("{at}.abort");
        if let Some(percentage) = &abort.percentage {
            report.check(format!("{at}.percentage.value"), rule::fraction(percentage.value));
        }
        let set = [abort.grpc_status.is_some(), abort.http2_error.is_some(), abort.http_status.is_some()];
        match set.iter().filter(|is_set| **is_set).count() {
            0 => report.warning(at.as_str(), "abort configured, but error type not set"),
            1 => {}
            _ => report.error(at.as_str(), "only one of httpStatus, grpcStatus and http2Error may be set"),
        }
        if abort.http2_error.is_some() {
            report.error(format!("{at}.http2Error"), "HTTP/2 abort fault injection not supported yet");
        }
        if let Some(status) = &abort.grpc_status
            && crate::grpc_status::number(status).is_none()
        {
            let why = format!("gRPC status {status:?} is not supported, use a name such as NOT_FOUND");
            report.error(format!("{at}.grpcStatus"), why);
        }
        if let Some(status) = abort.http_status {
            report.check(format!("{at}.httpStatus"), rule::http_status(u32::try_from(status).unwrap_or(0)));
        }
    }
    if let Some(delay) = &fault.delay {
        let at = format!("{at}.delay");
        if let Some(percentage) = &delay.percentage {
            report.check(format!("{at}.percentage.value"), rule::fraction(percentage.value));
        }
        report.check(format!("{at}.percent"), rule::percent(delay.percent.unwrap_or(0)));
        if delay.percent.is_some() {
            report.warning(format!("{at}.percent"), "deprecated, use percentage instead");
        }
        report.check(format!("{at}.fixedDelay"), rule::optional_duration(delay.fixed_delay));
        if delay.exponential_delay.is_some() {
            report.error(format!("{at}.exponentialDelay"), "exponentialDelay not supported yet");
        }
    }
}
