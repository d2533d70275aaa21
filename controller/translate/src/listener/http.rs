//! The HTTP connection manager and its filters (`istio.md` 2.5), for stock Envoy: without Istio's own extensions.

use super::{access_log, network_filter};
use crate::forward_proxy::{self, DnsCache};
use crate::message;
use crds::mesh_config::{MeshConfig, Normalization};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, Http1ProtocolOptions, Http2ProtocolOptions, data_source::Specifier,
};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use envoy_types::pb::envoy::extensions::filters::http::{
    cors::v3::Cors,
    fault::v3::HttpFault,
    grpc_stats::v3::{FilterConfig as GrpcStats, filter_config::PerMethodStatSpecifier},
    grpc_web::v3::GrpcWeb,
    router::v3::Router,
    set_filter_state::v3::Config as SetFilterState,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, RequestIdExtension,
    http_connection_manager::{
        CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
        UpgradeConfig,
    },
    http_filter::ConfigType,
};
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use model::Protocol;
use prost::{Message, Name};

/// What one connection manager is for.
pub(super) struct Manager<'a> {
    pub(super) stat_prefix: String,
    pub(super) routes: Routes,
    pub(super) role: Role,
    pub(super) protocol: Protocol,
    pub(super) mesh: &'a MeshConfig,
    /// What upstream connections of the mesh say that they carry; `None`: what their cluster says.
    pub(super) upstream_alpn: Option<&'static str>,
    /// Hosts that are resolved when they are asked for.
    pub(super) resolved: Vec<DnsCache>,
}

pub(super) enum Routes {
    /// The name of a route table.
    Discovered(String),
    Inline(Box<RouteConfiguration>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A sidecar's, for its workload's requests.
    Outbound,
    /// The same, where the workload asks for other hosts as a client of a proxy does.
    Proxy,
    /// A sidecar's, for requests to its workload.
    Inbound,
    /// A router's.
    Gateway,
}

pub(super) fn filter(manager: &Manager<'_>) -> Filter {
    network_filter("envoy.filters.network.http_connection_manager", &http_connection_manager(manager))
}

fn http_connection_manager(manager: &Manager<'_>) -> HttpConnectionManager {
    let Manager { role, mesh, .. } = manager;
    let (normalize_path, merge_slashes, escaped_slashes) = path_normalization(mesh);
    HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: manager.stat_prefix.clone(),
        http_filters: http_filters(manager),
        http_protocol_options: http_protocol_options(*role),
        http2_protocol_options: http2_protocol_options(*role, manager.protocol),
        // On the way out Istio leaves it at Envoy's default, which is "envoy".
        server_name: match role {
            Role::Outbound | Role::Proxy => String::new(),
            Role::Inbound | Role::Gateway => "istio-envoy".into(),
        },
        // Streams live as long as their ends want; routes have the timeouts.
        stream_idle_timeout: message::duration(crds::Duration::ZERO),
        access_log: access_log::file(mesh),
        // Only at the mesh's edge is the peer's address the client's.
        use_remote_address: message::boolean(*role == Role::Gateway),
        xff_num_trusted_hops: match role {
            Role::Gateway => mesh.default_config.gateway_topology.num_trusted_proxies,
            _ => 0,
        },
        forward_client_cert_details: forward_client_cert_details(*role).into(),
        set_current_client_cert_details: set_current_client_cert_details(*role),
        proxy_100_continue: true,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() }],
        normalize_path: message::boolean(normalize_path),
        merge_slashes,
        path_with_escaped_slashes_action: escaped_slashes.into(),
        request_id_extension: Some(RequestIdExtension {
            typed_config: Some(message::any(&UuidRequestIdConfig {
                use_request_id_for_trace_sampling: message::boolean(true),
                ..Default::default()
            })),
        }),
        route_specifier: Some(match &manager.routes {
            Routes::Inline(table) => RouteSpecifier::RouteConfig((**table).clone()),
            Routes::Discovered(table) => {
                RouteSpecifier::Rds(Rds { config_source: Some(message::ads()), route_config_name: table.clone() })
            }
        }),
        ..Default::default()
    }
}

/// `pathNormalization`: whether to normalize, to merge slashes, and what `%2F` becomes.
fn path_normalization(mesh: &MeshConfig) -> (bool, bool, PathWithEscapedSlashesAction) {
    use PathWithEscapedSlashesAction::{KeepUnchanged, UnescapeAndForward};
    match mesh.path_normalization.normalization {
        Normalization::None => (false, false, KeepUnchanged),
        Normalization::Default | Normalization::Base => (true, false, KeepUnchanged),
        Normalization::MergeSlashes => (true, true, KeepUnchanged),
        Normalization::DecodeAndMergeSlashes => (true, true, UnescapeAndForward),
    }
}

fn http_protocol_options(role: Role) -> Option<Http1ProtocolOptions> {
    match role {
        Role::Proxy => Some(Http1ProtocolOptions { allow_absolute_url: message::boolean(true), ..Default::default() }),
        Role::Gateway => Some(Http1ProtocolOptions::default()),
        Role::Outbound | Role::Inbound => None,
    }
}

fn http2_protocol_options(role: Role, protocol: Protocol) -> Option<Http2ProtocolOptions> {
    (role == Role::Inbound && protocol.is_http2()).then(Http2ProtocolOptions::default)
}

/// Gateways believe no client about certificates; sidecars add to what gateways and sidecars said.
fn forward_client_cert_details(role: Role) -> ForwardClientCertDetails {
    match role {
        Role::Outbound | Role::Proxy => ForwardClientCertDetails::Sanitize,
        Role::Inbound => ForwardClientCertDetails::AppendForward,
        Role::Gateway => ForwardClientCertDetails::SanitizeSet,
    }
}

fn set_current_client_cert_details(role: Role) -> Option<SetCurrentClientCertDetails> {
    let subject = message::boolean(true);
    let details = SetCurrentClientCertDetails { subject, dns: true, uri: true, ..Default::default() };
    match role {
        Role::Outbound | Role::Proxy => None,
        Role::Inbound => Some(details),
        Role::Gateway => Some(SetCurrentClientCertDetails { cert: true, ..details }),
    }
}

/// In Istio's order, less what stock Envoy does not have.
fn http_filters(manager: &Manager<'_>) -> Vec<HttpFilter> {
    let grpc_stats = GrpcStats {
        emit_filter_state: true,
        per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(
            envoy_types::pb::google::protobuf::BoolValue { value: false },
        )),
        ..Default::default()
    };
    let grpc_web =
        (manager.protocol == Protocol::GrpcWeb).then(|| http_filter("envoy.filters.http.grpc_web", &GrpcWeb {}));
    let filters = [
        http_filter("envoy.filters.http.grpc_stats", &grpc_stats),
        // Routes configure these two (`typed_per_filter_config`).
        http_filter("envoy.filters.http.fault", &HttpFault::default()),
        http_filter("envoy.filters.http.cors", &Cors {}),
    ];
    let alpn =
        manager.upstream_alpn.map(|it| http_filter("envoy.filters.http.set_filter_state", &application_protocols(it)));
    let resolved = manager.resolved.iter().map(|it| http_filter(forward_proxy::HTTP_FILTER, &it.http_filter()));
    let router = http_filter("envoy.filters.http.router", &Router::default());
    grpc_web.into_iter().chain(filters).chain(alpn).chain(resolved).chain([router]).collect()
}

/// In the place of the ALPN of whichever cluster the request goes to, where that speaks TLS: what Istio's own ALPN
/// filter does (`istio.md` 3.4).
fn application_protocols(alpn: &str) -> SetFilterState {
    use envoy_types::pb::envoy::config::core::v3::{SubstitutionFormatString, substitution_format_string::Format};
    use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{
        Key, SharedWithUpstream, Value,
    };
    let text = DataSource { specifier: Some(Specifier::InlineString(alpn.to_owned())), ..Default::default() };
    let format = SubstitutionFormatString { format: Some(Format::TextFormatSource(text)), ..Default::default() };
    let value = FilterStateValue {
        key: Some(Key::ObjectKey("envoy.network.application_protocols".to_owned())),
        value: Some(Value::FormatString(format)),
        shared_with_upstream: SharedWithUpstream::Once.into(),
        ..Default::default()
    };
    SetFilterState { on_request_headers: vec![value], ..Default::default() }
}

fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(message::any(config))),
        ..Default::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crds::mesh_config::PathNormalization;
    use envoy_types::pb::envoy::config::listener::v3::filter;

    pub(in crate::listener) fn manager(from: &Filter) -> HttpConnectionManager {
        assert_eq!(from.name, "envoy.filters.network.http_connection_manager");
        let Some(filter::ConfigType::TypedConfig(any)) = &from.config_type else { panic!("no config") };
        HttpConnectionManager::decode(any.value.as_slice()).unwrap()
    }

    pub(in crate::listener) fn route_name(manager: &HttpConnectionManager) -> Option<String> {
        match &manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name.clone()),
            _ => None,
        }
    }

    fn made(role: Role, protocol: Protocol, mesh: &MeshConfig) -> HttpConnectionManager {
        let routes = Routes::Discovered("80".into());
        manager(&filter(&Manager {
            stat_prefix: "x;".into(),
            routes,
            role,
            protocol,
            mesh,
            upstream_alpn: None,
            resolved: vec![],
        }))
    }

    #[test]
    fn every_manager_has_what_istio_sets() {
        let made = made(Role::Outbound, Protocol::Http, &MeshConfig::default());
        assert_eq!((made.server_name.as_str(), made.stat_prefix.as_str()), ("", "x;"));
        let inbound = self::made(Role::Inbound, Protocol::Http, &MeshConfig::default());
        assert_eq!(inbound.server_name, "istio-envoy");
        assert_eq!(made.stream_idle_timeout, message::duration(crds::Duration::ZERO));
        assert_eq!(made.upgrade_configs[0].upgrade_type, "websocket");
        assert!(made.proxy_100_continue && made.request_id_extension.is_some());
        let Some(RouteSpecifier::Rds(rds)) = made.route_specifier else { panic!("no RDS") };
        assert_eq!(rds.config_source, Some(message::ads()));
    }

    #[test]
    fn the_router_is_last_and_grpc_web_only_on_its_ports() {
        let names = |protocol| -> Vec<String> {
            let made = made(Role::Outbound, protocol, &MeshConfig::default());
            made.http_filters.into_iter().map(|it| it.name.replace("envoy.filters.http.", "")).collect()
        };
        assert_eq!(names(Protocol::Http), ["grpc_stats", "fault", "cors", "router"]);
        assert_eq!(names(Protocol::GrpcWeb), ["grpc_web", "grpc_stats", "fault", "cors", "router"]);
    }

    #[test]
    fn trust_in_addresses_and_certificates_depends_on_the_role() {
        let mut mesh = MeshConfig::default();
        mesh.default_config.gateway_topology.num_trusted_proxies = 2;
        use ForwardClientCertDetails::{AppendForward, Sanitize, SanitizeSet};
        for (role, remote, hops, forward) in [
            (Role::Outbound, false, 0, Sanitize),
            (Role::Proxy, false, 0, Sanitize),
            (Role::Inbound, false, 0, AppendForward),
            (Role::Gateway, true, 2, SanitizeSet),
        ] {
            let made = made(role, Protocol::Http, &mesh);
            assert_eq!(made.use_remote_address, message::boolean(remote));
            assert_eq!((made.xff_num_trusted_hops, made.forward_client_cert_details), (hops, forward as i32));
            let details = made.set_current_client_cert_details;
            assert_eq!(details.map(|it| it.cert), (forward != Sanitize).then_some(forward == SanitizeSet));
        }
    }

    #[test]
    fn http2_ports_of_the_workload_have_http2_options() {
        for (role, protocol, expected) in [
            (Role::Inbound, Protocol::Grpc, true),
            (Role::Inbound, Protocol::Http, false),
            (Role::Outbound, Protocol::Grpc, false),
        ] {
            assert_eq!(made(role, protocol, &MeshConfig::default()).http2_protocol_options.is_some(), expected);
        }
    }

    #[test]
    fn paths_are_normalized_as_the_mesh_says() {
        for (normalization, normalize, merge, escaped) in [
            (Normalization::Default, true, false, PathWithEscapedSlashesAction::KeepUnchanged),
            (Normalization::None, false, false, PathWithEscapedSlashesAction::KeepUnchanged),
            (Normalization::Base, true, false, PathWithEscapedSlashesAction::KeepUnchanged),
            (Normalization::MergeSlashes, true, true, PathWithEscapedSlashesAction::KeepUnchanged),
            (Normalization::DecodeAndMergeSlashes, true, true, PathWithEscapedSlashesAction::UnescapeAndForward),
        ] {
            let mesh = MeshConfig { path_normalization: PathNormalization { normalization }, ..Default::default() };
            let made = made(Role::Outbound, Protocol::Http, &mesh);
            assert_eq!(made.normalize_path, message::boolean(normalize), "{normalization:?}");
            assert_eq!((made.merge_slashes, made.path_with_escaped_slashes_action), (merge, escaped as i32));
        }
    }
}
