//! Where a redirect leads: `config.route.v3.RedirectAction`, `Http::Utility::newUri`.

use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{RedirectAction, Route};

use super::action::{prefix_rewritten, regex_rewritten};
use super::http::Arrived;
use super::outcome::{Outcome, Stop, unsupported};

pub(super) fn outcome(
    route: &Route,
    redirect: &RedirectAction,
    arrived: &Arrived,
    path: &str,
) -> Result<Outcome, Stop> {
    let scheme = match &redirect.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => scheme,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https",
        _ => &arrived.scheme,
    };
    let port = if redirect.port_redirect == 0 { String::new() } else { format!(":{}", redirect.port_redirect) };
    let host =
        if redirect.host_redirect.is_empty() { own_host(arrived, scheme, &port) } else { &redirect.host_redirect };
    let target = target(route, redirect, arrived, path)?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    let code = match RedirectResponseCode::try_from(redirect.response_code).unwrap_or_default() {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    };
    Ok(Outcome::Redirect { code, location: format!("{scheme}://{host}{port}{slash}{target}") })
}

/// The request's host. Its port goes if another is set, or if it is the default of a scheme that is left.
fn own_host<'a>(arrived: &'a Arrived, scheme: &str, new_port: &str) -> &'a str {
    let authority = arrived.request.authority.as_str();
    // As Envoy splits it here: an IPv6 address only by `]:`.
    let at = if authority.starts_with('[') { authority.rfind("]:").map(|at| at + 1) } else { authority.rfind(':') };
    let Some(at) = at else { return authority };
    let old = arrived.forwarded_proto.as_str();
    let default_of_old = matches!((old, &authority[at..]), ("https", ":443") | ("http", ":80"));
    if !new_port.is_empty() || (scheme != old && default_of_old) { &authority[..at] } else { authority }
}

fn target(route: &Route, redirect: &RedirectAction, arrived: &Arrived, path: &str) -> Result<String, Stop> {
    let own = arrived.request.path.as_str();
    let (target, own_query_kept) = match &redirect.path_rewrite_specifier {
        // Its query, if it has one, replaces the request's and survives strip_query.
        Some(PathRewriteSpecifier::PathRedirect(fixed)) if fixed.contains('?') => return Ok(fixed.clone()),
        Some(PathRewriteSpecifier::PathRedirect(fixed)) if !fixed.is_empty() => {
            let query = own.find('?').map_or("", |at| &own[at..]);
            (fixed.clone(), query.to_owned())
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if !prefix.is_empty() => {
            (prefix_rewritten(route, own, prefix), String::new())
        }
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            (regex_rewritten(rewrite, own, &format!("{path}.redirect.regex_rewrite"))?, String::new())
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(unsupported(format!("{path}.redirect.path_rewrite"))),
        _ => (own.to_owned(), String::new()),
    };
    let full = target + &own_query_kept;
    let stripped = if redirect.strip_query { full.split('?').next().unwrap_or_default().to_owned() } else { full };
    Ok(stripped)
}
