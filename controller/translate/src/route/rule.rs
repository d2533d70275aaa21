//! The HTTP rules of one VirtualService as routes (`BuildHTTPRoutesForVirtualService`).

use super::destination::Rules;
use super::matcher::{is_catch_all, route_match};
use super::note::{Flaw, Notes};
use super::{action, cors, everything, fault, header, operation, redirect};
use crate::message;
use crds::networking::{HttpMatchRequest, HttpRoute};
use model::{HttpRule, RouteRules};
use xds::envoy::Route;
use xds::envoy::route::route::Action;

/// The routes that apply to the client and port, each match its own. A rule that takes every request ends them.
pub(super) fn routes<'a>(context: &Rules<'a>, notes: &mut Notes<'a>) -> Vec<Route> {
    let mut routes = vec![];
    for HttpRule { object, at, route: rule } in &context.rules.http {
        notes.about(object);
        let field = format!("spec.http[{at}]");
        if rule.r#match.is_empty() {
            routes.extend(noted(route(context, rule, None, &field, notes), notes));
            return routes;
        }
        for (at, from) in rule.r#match.iter().enumerate().filter(|(_, from)| applies(context, from)) {
            let from = Some((from, format!("{field}.match[{at}]")));
            let made = noted(route(context, rule, from, &field, notes), notes);
            let last = made.as_ref().is_some_and(is_catch_all);
            routes.extend(made);
            if last {
                return routes;
            }
        }
    }
    routes
}

/// A route that Envoy would refuse is left out alone.
fn noted(made: Result<Route, Flaw>, notes: &mut Notes<'_>) -> Option<Route> {
    made.map_err(|flaw| notes.add(flaw.field, flaw.reason)).ok()
}

/// What of a match is decided here and not by Envoy. `gateways` replaces the questions about the source.
fn applies(context: &Rules<'_>, from: &HttpMatchRequest) -> bool {
    if from.port.is_some_and(|port| port != 0 && port != u32::from(context.port)) {
        return false;
    }
    if !from.gateways.is_empty() {
        let namespace = &context.rules.namespace;
        return from.gateways.iter().any(|it| RouteRules::gateway(it, namespace) == context.client.gateway);
    }
    let namespace = &from.source_namespace;
    model::label::selects(&from.source_labels, context.client.labels)
        && (namespace.is_empty() || namespace == context.client.namespace)
}

fn route(
    context: &Rules<'_>,
    rule: &HttpRoute,
    from: Option<(&HttpMatchRequest, String)>,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<Route, Flaw> {
    let r#match = match &from {
        Some((from, field)) => route_match(from, field)?,
        None => everything(),
    };
    let from = from.map(|(from, _)| from);
    let headers = header::operations(&rule.headers, &format!("{field}.headers"))?;
    let mut route = Route {
        name: name(rule, from),
        metadata: Some(message::config_metadata(&context.rules.object)),
        stat_prefix: from.map(|it| it.stat_prefix.clone()).unwrap_or_default(),
        request_headers_to_add: headers.request_add,
        request_headers_to_remove: headers.request_remove,
        response_headers_to_add: headers.response_add,
        response_headers_to_remove: headers.response_remove,
        ..Route::default()
    };
    let mut only = None;
    let action = if let Some(from) = &rule.redirect {
        let field = format!("{field}.redirect");
        Action::Redirect(redirect::redirect_action(from, context.port, context.scheme, &field)?)
    } else if let Some(from) = &rule.direct_response {
        Action::DirectResponse(redirect::direct_response(from, &format!("{field}.directResponse"))?)
    } else {
        let (made, target) = action::apply(context, &mut route, rule, headers.authority, field, notes)?;
        only = target;
        Action::Route(made)
    };
    route.action = Some(action);
    route.decorator = Some(operation::decorator(context, &r#match, only.as_ref()));
    route.r#match = Some(r#match);
    add_filters(&mut route, rule, field, notes);
    Ok(route)
}

/// `RULE` or `RULE.MATCH`.
fn name(rule: &HttpRoute, from: Option<&HttpMatchRequest>) -> String {
    match from.filter(|it| !it.name.is_empty()) {
        Some(from) => format!("{}.{}", rule.name, from.name),
        None => rule.name.clone(),
    }
}

/// What the HTTP filters do differently for this route.
fn add_filters(route: &mut Route, rule: &HttpRoute, field: &str, notes: &mut Notes<'_>) {
    let fault = rule.fault.as_ref().and_then(|it| fault::http_fault(it, &format!("{field}.fault"), notes));
    if let Some(fault) = fault {
        route.typed_per_filter_config.insert(fault::FILTER.into(), message::any(&fault));
    }
    if let Some(from) = &rule.cors_policy {
        let policy = cors::cors_policy(from, &format!("{field}.corsPolicy"), notes);
        route.typed_per_filter_config.insert(cors::FILTER.into(), message::any(&policy));
    }
}
