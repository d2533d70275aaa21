//! What the HTTP connection manager does with a request before routing, and the order of the routing steps.
//!
//! Envoy: `configuration/http/http_conn_man/headers`, `ConnectionManagerUtility::mutateRequestHeaders`,
//! `maybeNormalizePath`, `maybeNormalizeHost`.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::scheme_header_transformation::Transformation;
use envoy_types::pb::envoy::config::route::v3::{
    FilterConfig, Route, RouteAction, RouteConfiguration, VirtualHost, route,
};
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::{
    FilterConfig as ForwardProxy, filter_config::ImplementationSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, PathWithEscapedSlashesAction, RouteSpecifier, StripPortMode,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};

use super::call::{Protocol, Request};
use super::network::{Transport, gate};
use super::outcome::{Outcome, Stop, rejected, unsupported};
use super::path::{self, EscapedSlashes};
use super::{Walk, action, decode, message_name, route as routes, virtual_host};

/// Istio's filters of Envoy's contrib build: telemetry, and the ALPN of upstream connections.
const ISTIO_FILTERS: [&str; 3] = [
    "io.istio.http.peer_metadata.Config",
    "stats.PluginConfig",
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
];

/// A request as routing sees it.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) request: Request,
    /// `:scheme`.
    pub(super) scheme: String,
    /// `x-forwarded-proto`: what `require_tls` judges by.
    pub(super) forwarded_proto: String,
    pub(super) peer_presented: bool,
}

impl Arrived {
    /// A header by name, pseudo-headers included.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let present = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        match name.to_ascii_lowercase().as_str() {
            // Envoy keeps one field for both names.
            ":authority" | "host" => present(&self.request.authority),
            ":method" => present(&self.request.method),
            ":path" => present(&self.request.path),
            ":scheme" => present(&self.scheme),
            other => self.request.header(other),
        }
    }

    pub(super) fn is_connect(&self) -> bool {
        self.request.method == "CONNECT"
    }

    /// The protocol a request asks to switch to; CONNECT counts as an upgrade of that name.
    fn upgrade(&self) -> Option<String> {
        if self.is_connect() {
            return Some("CONNECT".into());
        }
        let connection = self.request.header("connection")?;
        let asks = connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
        // An upgrade to h2c is ignored by the codec.
        self.request.header("upgrade").filter(|kind| asks && !kind.eq_ignore_ascii_case("h2c"))
    }
}

pub(super) fn serve(
    walk: &mut Walk<'_>,
    manager: &HttpConnectionManager,
    transport: Transport,
    local: SocketAddr,
    path: &str,
) -> Result<Outcome, Stop> {
    let arrived = arrive(walk, manager, transport, local, path)?;
    for filter in manager.http_filters.iter().filter(|filter| !filter.disabled) {
        pass_filter(walk, filter, path)?;
    }
    let configuration = route_configuration(walk, manager, path)?;
    walk.at.route_configuration = Some(configuration.name.clone());
    let found = virtual_host::find(walk, &configuration, &arrived).and_then(|host| {
        walk.at.virtual_host = Some(host.name.clone());
        routes::find(walk, &configuration, host, &arrived).map(|route| (host, route))
    });
    check_upgrade(walk, manager, &arrived, found.as_ref().ok().and_then(|(_, route)| route_action(route)), path)?;
    let (host, route) = found?;
    for filter in enabled_by_route(manager, &configuration, host, route) {
        pass_filter(walk, filter, path)?;
    }
    let outcome = action::take(walk, &configuration, host, route, &arrived)?;
    check_local_reply(manager, &outcome, path)?;
    Ok(outcome)
}

fn route_action(route: &Route) -> Option<&RouteAction> {
    match &route.action {
        Some(route::Action::Route(action)) => Some(action),
        _ => None,
    }
}

fn arrive(
    walk: &mut Walk<'_>,
    manager: &HttpConnectionManager,
    transport: Transport,
    local: SocketAddr,
    path: &str,
) -> Result<Arrived, Stop> {
    let Some(mut request) = walk.call.request.clone() else {
        return Err(Outcome::Closed("the HTTP codec gets something else than HTTP".into()).into());
    };
    let codec = CodecType::try_from(manager.codec_type).map_err(|_| unsupported(format!("{path}.codec_type")))?;
    match (codec, walk.call.protocol) {
        (CodecType::Auto, _) | (CodecType::Http1, Protocol::Http11) | (CodecType::Http2, Protocol::H2c) => {}
        (CodecType::Http3, _) => return Err(unsupported(format!("{path}.codec_type: HTTP3"))),
        (codec, protocol) => return Err(Outcome::Closed(format!("{protocol:?} to codec {codec:?}")).into()),
    }
    if !manager.early_header_mutation_extensions.is_empty() {
        return Err(unsupported(format!("{path}.early_header_mutation_extensions")));
    }
    if manager.forward_proto_config.is_some() {
        return Err(unsupported(format!("{path}.forward_proto_config")));
    }
    normalize_host(manager, &mut request, local);
    if !request.path.is_empty() {
        normalize_path(manager, &mut request, path)?;
    }
    let before = walk.call.request.as_ref();
    if before.is_some_and(|before| before.path != request.path || before.authority != request.authority) {
        walk.trace.note(format!("normalized to {} {}", request.authority, request.path));
    }
    let of_connection = if transport == Transport::TerminatesTls { "https" } else { "http" };
    let believes = !manager.use_remote_address.is_some_and(|edge| edge.value) || manager.xff_num_trusted_hops > 0;
    let forwarded_proto = request
        .first("x-forwarded-proto")
        .filter(|claim| believes && matches!(claim.to_ascii_lowercase().as_str(), "http" | "https"))
        .unwrap_or(of_connection)
        .to_ascii_lowercase();
    request.set("x-forwarded-proto", &forwarded_proto);
    let overwrite = manager.scheme_header_transformation.as_ref().and_then(|wanted| wanted.transformation.clone());
    let scheme = match overwrite {
        Some(Transformation::SchemeToOverwrite(scheme)) => scheme,
        None => forwarded_proto.clone(),
    };
    let peer_presented =
        transport == Transport::TerminatesTls && walk.call.tls.as_ref().is_some_and(|tls| tls.peer.is_some());
    Ok(Arrived { request, scheme, forwarded_proto, peer_presented })
}

fn normalize_host(manager: &HttpConnectionManager, request: &mut Request, local: SocketAddr) {
    if manager.strip_trailing_host_dot {
        let (host, port) = split_port(&request.authority);
        if let Some(host) = host.strip_suffix('.') {
            request.authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        }
    }
    let (host, port) = split_port(&request.authority);
    let Some(port) = port.and_then(|port| port.parse::<u32>().ok()) else { return };
    let any = matches!(manager.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)));
    if any || (manager.strip_matching_host_port && port == u32::from(local.port())) {
        request.authority = host.to_owned();
    }
}

/// Host and port of an authority, an IPv6 address in its brackets.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':') {
        Some(at) if authority.rfind(']').is_none_or(|bracket| bracket < at) => {
            (&authority[..at], Some(&authority[at + 1..]))
        }
        _ => (authority, None),
    }
}

/// In Envoy's order: fragment, escaped slashes, dot segments, doubled slashes.
fn normalize_path(manager: &HttpConnectionManager, request: &mut Request, path: &str) -> Result<(), Stop> {
    if request.path.contains('#') {
        // envoy.reloadable_features.http_reject_path_with_fragment, on by default
        return Err(Outcome::DirectResponse { status: 400, body: String::new() }.into());
    }
    if manager.path_normalization_options.is_some() {
        return Err(unsupported(format!("{path}.path_normalization_options")));
    }
    let action = PathWithEscapedSlashesAction::try_from(manager.path_with_escaped_slashes_action).unwrap_or_default();
    let action = match action {
        PathWithEscapedSlashesAction::ImplementationSpecificDefault | PathWithEscapedSlashesAction::KeepUnchanged => {
            EscapedSlashes::Keep
        }
        PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
        PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::Redirect,
        PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::Forward,
    };
    request.path = path::escaped_slashes(&request.path, action)?;
    if manager.normalize_path.is_some_and(|wanted| wanted.value) {
        request.path = path::normalized(&request.path)?;
    }
    if manager.merge_slashes {
        request.path = path::merged_slashes(&request.path);
    }
    Ok(())
}

fn route_configuration(
    walk: &mut Walk<'_>,
    manager: &HttpConnectionManager,
    path: &str,
) -> Result<RouteConfiguration, Stop> {
    match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(inline)) => {
            walk.trace.note(format!("inline route configuration {}", inline.name));
            Ok(inline.clone())
        }
        Some(RouteSpecifier::Rds(rds)) => {
            let name = &rds.route_config_name;
            let found = walk.config.routes.get(name).cloned();
            walk.trace.note(format!("route configuration {name} by RDS"));
            found.ok_or_else(|| Outcome::NoRouteConfiguration(name.clone()).into())
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(unsupported(format!("{path}.scoped_routes"))),
        None => Err(rejected(format!("{path}.route_specifier"), "is required")),
    }
}

/// An HTTP filter on the way. The route is chosen before the first filter runs, so a filter matters to routing only if it
/// makes Envoy choose again (`clear_route_cache`) or answers itself.
fn pass_filter(walk: &mut Walk<'_>, filter: &HttpFilter, path: &str) -> Result<(), Stop> {
    let path = format!("{path}.http_filters[{}]", filter.name);
    // Whatever is discovered is somebody's own: it is taken to let the call pass.
    if let Some(http_filter::ConfigType::ConfigDiscovery(_)) = &filter.config_type {
        gate(walk, &filter.name);
        return Ok(());
    }
    let Some(http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return Err(unsupported(path)) };
    let name = message_name(any);
    if ISTIO_FILTERS.contains(&name) {
        return Ok(());
    }
    let kind = name.strip_prefix("envoy.extensions.filters.http.").unwrap_or_default();
    match kind.split('.').next().unwrap_or_default() {
        // They look, measure or encode, and leave the route alone.
        "router"
        | "grpc_stats"
        | "grpc_web"
        | "grpc_http1_bridge"
        | "compressor"
        | "decompressor"
        | "gzip"
        | "buffer"
        | "tap"
        | "set_metadata"
        | "stateful_session"
        | "original_src"
        | "alternate_protocols_cache"
        | "on_demand"
        | "bandwidth_limit"
        | "credential_injector"
        | "upstream_codec"
        | "geoip"
        | "connect_grpc_bridge"
        | "set_filter_state" => {}
        // Of requests that are routed to a cluster with the same cache.
        "dynamic_forward_proxy" => {
            let config: ForwardProxy = decode(any, &path)?;
            let Some(ImplementationSpecifier::DnsCacheConfig(cache)) = config.implementation_specifier else {
                return Err(unsupported(path));
            };
            let authority = walk.call.request.as_ref().map(|it| it.authority.clone()).unwrap_or_default();
            walk.resolved.insert(cache.name, authority);
        }
        "ext_authz" => {
            if decode::<ExtAuthz>(any, &path)?.clear_route_cache {
                return Err(unsupported(format!("{path}.clear_route_cache")));
            }
            gate(walk, &filter.name);
        }
        "rbac"
        | "jwt_authn"
        | "fault"
        | "cors"
        | "csrf"
        | "local_ratelimit"
        | "ratelimit"
        | "rate_limit_quota"
        | "health_check"
        | "oauth2"
        | "basic_auth"
        | "api_key_auth"
        | "adaptive_concurrency"
        | "admission_control"
        | "kill_request"
        | "custom_response"
        | "cache" => gate(walk, &filter.name),
        _ => return Err(unsupported(path)),
    }
    Ok(())
}

/// Filters that are `disabled` in the chain, but configured (hence enabled) for this route.
fn enabled_by_route<'a>(
    manager: &'a HttpConnectionManager,
    configuration: &'a RouteConfiguration,
    host: &'a VirtualHost,
    route: &'a Route,
) -> impl Iterator<Item = &'a HttpFilter> {
    manager.http_filters.iter().filter(move |filter| {
        let scopes =
            [&route.typed_per_filter_config, &host.typed_per_filter_config, &configuration.typed_per_filter_config];
        let most_specific = scopes.into_iter().find_map(|scope| scope.get(&filter.name));
        filter.disabled && most_specific.is_some_and(|any| !disables(any))
    })
}

fn disables(any: &envoy_types::pb::google::protobuf::Any) -> bool {
    message_name(any) == "envoy.config.route.v3.FilterConfig"
        && decode::<FilterConfig>(any, "typed_per_filter_config").is_ok_and(|config| config.disabled)
}

/// Upgrades must be switched on, by the connection manager or by the route, whose word counts; else 403.
fn check_upgrade(
    walk: &mut Walk<'_>,
    manager: &HttpConnectionManager,
    arrived: &Arrived,
    action: Option<&RouteAction>,
    path: &str,
) -> Result<(), Stop> {
    let Some(kind) = arrived.upgrade() else { return Ok(()) };
    let enabled = |enabled: Option<envoy_types::pb::google::protobuf::BoolValue>| enabled.is_none_or(|on| on.value);
    let of_route = action
        .into_iter()
        .flat_map(|action| &action.upgrade_configs)
        .find(|config| config.upgrade_type.eq_ignore_ascii_case(&kind))
        .map(|config| enabled(config.enabled));
    let of_manager = manager.upgrade_configs.iter().find(|config| config.upgrade_type.eq_ignore_ascii_case(&kind));
    if of_manager.is_some_and(|config| !config.filters.is_empty()) {
        return Err(unsupported(format!("{path}.upgrade_configs[{kind}].filters")));
    }
    if of_route.unwrap_or_else(|| of_manager.is_some_and(|config| enabled(config.enabled))) {
        return Ok(());
    }
    walk.trace.note(format!("upgrade {kind} is not enabled"));
    Err(Outcome::DirectResponse { status: 403, body: String::new() }.into())
}

fn check_local_reply(manager: &HttpConnectionManager, outcome: &Outcome, path: &str) -> Result<(), Stop> {
    let Some(replies) = &manager.local_reply_config else { return Ok(()) };
    let own_reply = matches!(outcome, Outcome::DirectResponse { .. } | Outcome::Redirect { .. });
    if own_reply && (!replies.mappers.is_empty() || replies.body_format.is_some()) {
        return Err(unsupported(format!("{path}.local_reply_config")));
    }
    Ok(())
}
