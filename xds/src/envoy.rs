//! Envoy's v3 messages, flat, under Envoy's own names.
//!
//! Names that occur in several packages (`Filter`, `Status`, `Rule`, …) are reached through the package's
//! module: `envoy::listener::Filter`, `envoy::rbac::Policy`. Everything else: `envoy::pb`.

pub use crate::typed_struct::{TypedStruct, UdpaTypedStruct};
pub use envoy_types::pb;

pub use pb::envoy::{
    config::{
        accesslog::v3 as accesslog,
        accesslog::v3::AccessLog,
        bootstrap::v3 as bootstrap,
        cluster::v3 as cluster,
        cluster::v3::{CircuitBreakers, Cluster, OutlierDetection},
        core::v3 as core,
        core::v3::{
            Address, AggregatedConfigSource, ApiConfigSource, AsyncDataSource, BindConfig, ConfigSource, DataSource,
            GrpcService, HeaderValue, HeaderValueOption, HealthCheck, HealthStatus, Http1ProtocolOptions,
            Http2ProtocolOptions, HttpProtocolOptions as CommonHttpProtocolOptions, HttpUri, KeepaliveSettings,
            Locality, Metadata, Pipe, ProxyProtocolConfig, RoutingPriority, RuntimeFeatureFlag,
            RuntimeFractionalPercent, RuntimeUInt32, SocketAddress, SocketOption, SubstitutionFormatString,
            TcpKeepalive, TrafficDirection, TransportSocket, TypedExtensionConfig,
        },
        endpoint::v3 as endpoint,
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints},
        listener::v3 as listener,
        listener::v3::{FilterChain, FilterChainMatch, Listener, ListenerFilter},
        metrics::v3 as metrics,
        rbac::v3 as rbac,
        rbac::v3::{Permission, Policy, Principal, Rbac},
        route::v3 as route,
        route::v3::{
            CorsPolicy, Decorator, DirectResponseAction, HeaderMatcher, HedgePolicy, QueryParameterMatcher, RateLimit,
            RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, ScopedRouteConfiguration,
            Tracing, VirtualCluster, VirtualHost, WeightedCluster,
        },
        trace::v3 as trace,
    },
    data::accesslog::v3 as data_accesslog,
    extensions::{
        access_loggers::{
            file::v3 as file_access_log, filters::cel::v3 as cel_access_log_filter, grpc::v3 as grpc_access_log,
            open_telemetry::v3 as open_telemetry_access_log, stream::v3 as stream_access_log,
        },
        clusters::{
            aggregate::v3 as aggregate_cluster, dns::v3 as dns_cluster,
            dynamic_forward_proxy::v3 as dynamic_forward_proxy_cluster, original_dst::v3 as original_dst_cluster,
        },
        common::{
            dynamic_forward_proxy::v3 as dynamic_forward_proxy_common, matching::v3 as matching,
            ratelimit::v3 as ratelimit_common,
        },
        compression::{brotli::compressor::v3 as brotli, gzip::compressor::v3 as gzip, zstd::compressor::v3 as zstd},
        filters::{
            common::fault::v3 as fault_common,
            http::{
                buffer::v3 as buffer, compressor::v3 as compressor, cors::v3 as cors,
                dynamic_forward_proxy::v3 as http_dynamic_forward_proxy, ext_authz::v3 as ext_authz,
                ext_proc::v3 as ext_proc, fault::v3 as fault, grpc_http1_bridge::v3 as grpc_http1_bridge,
                grpc_json_transcoder::v3 as grpc_json_transcoder, grpc_stats::v3 as grpc_stats,
                grpc_web::v3 as grpc_web, header_mutation::v3 as header_mutation,
                header_to_metadata::v3 as header_to_metadata, health_check::v3 as http_health_check,
                jwt_authn::v3 as jwt_authn, local_ratelimit::v3 as http_local_ratelimit, lua::v3 as lua,
                oauth2::v3 as oauth2, on_demand::v3 as on_demand, ratelimit::v3 as http_ratelimit,
                rbac::v3 as http_rbac, router::v3 as router, set_filter_state::v3 as http_set_filter_state,
                set_metadata::v3 as set_metadata, stateful_session::v3 as stateful_session, wasm::v3 as http_wasm,
            },
            listener::{
                http_inspector::v3 as http_inspector, original_dst::v3 as original_dst,
                proxy_protocol::v3 as proxy_protocol, tls_inspector::v3 as tls_inspector,
            },
            network::{
                connection_limit::v3 as connection_limit,
                direct_response::v3 as direct_response,
                ext_authz::v3 as network_ext_authz,
                http_connection_manager::v3 as hcm,
                http_connection_manager::v3::{HttpConnectionManager, HttpFilter, Rds, ScopedRoutes},
                local_ratelimit::v3 as network_local_ratelimit,
                mongo_proxy::v3 as mongo_proxy,
                ratelimit::v3 as network_ratelimit,
                rbac::v3 as network_rbac,
                redis_proxy::v3 as redis_proxy,
                set_filter_state::v3 as network_set_filter_state,
                sni_cluster::v3 as sni_cluster,
                tcp_proxy::v3 as tcp_proxy,
                tcp_proxy::v3::TcpProxy,
                wasm::v3 as network_wasm,
            },
            udp::udp_proxy::v3 as udp_proxy,
        },
        formatter::{metadata::v3 as metadata_formatter, req_without_query::v3 as req_without_query_formatter},
        http::{
            header_formatters::preserve_case::v3 as preserve_case,
            original_ip_detection::xff::v3 as xff,
            stateful_session::{cookie::v3 as cookie_session, header::v3 as header_session},
        },
        load_balancing_policies as lb_policy,
        network::dns_resolver,
        path::{r#match::uri_template::v3 as uri_template_match, rewrite::uri_template::v3 as uri_template_rewrite},
        retry::host::previous_hosts::v3 as previous_hosts,
        stat_sinks as stat_sink,
        transport_sockets::{
            http_11_proxy::v3 as http_11_proxy,
            internal_upstream::v3 as internal_upstream,
            proxy_protocol::v3 as proxy_protocol_transport,
            quic::v3 as quic,
            raw_buffer::v3 as raw_buffer,
            starttls::v3 as starttls,
            tls::v3 as tls,
            tls::v3::{CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, Secret, UpstreamTlsContext},
        },
        upstreams::http::v3 as http,
        upstreams::http::v3::HttpProtocolOptions,
        wasm::v3 as wasm,
    },
    service::discovery::v3 as discovery,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
    r#type::matcher::v3 as matcher,
    r#type::matcher::v3::{RegexMatcher, StringMatcher},
    r#type::tracing::v3 as tracing,
    r#type::v3 as r#type,
    r#type::v3::{FractionalPercent, Int64Range, Percent},
};
pub use pb::google::{
    protobuf,
    protobuf::{
        Any, BoolValue, BytesValue, DoubleValue, Duration, Empty, FloatValue, Int32Value, Int64Value, ListValue,
        StringValue, Struct, Timestamp, UInt32Value, UInt64Value, Value, value,
    },
    rpc,
};
pub use pb::xds::{core::v3 as xds_core, r#type::matcher::v3 as xds_matcher, r#type::v3 as xds_type};
