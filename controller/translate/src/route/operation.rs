//! A route's name in traces (`GetRouteOperation`).

use super::destination::{Rules, Target};
use crate::name;
use xds::envoy::route::route_match::PathSpecifier;
use xds::envoy::{Decorator, RouteMatch};

/// `HOST:PORT` and the path for a route to one destination; the VirtualService's name stands for several.
pub(super) fn decorator(context: &Rules<'_>, from: &RouteMatch, only: Option<&Target>) -> Decorator {
    let path = match &from.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(pattern)) => pattern.regex.clone(),
        _ => "/*".to_owned(),
    };
    let place = match only {
        Some(target) => name::VirtualHost { host: target.host.as_str(), port: target.port },
        None => name::VirtualHost { host: &context.rules.object.name, port: context.port },
    };
    Decorator { operation: format!("{place}{path}"), ..Decorator::default() }
}
