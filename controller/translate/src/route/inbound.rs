//! The route table of a port of the workload itself, which stands inside the port's listener.

use super::{everything, retry};
use crate::{message, name};
use crds::Duration;
use crds::mesh_config::MeshConfig;
use model::{Protocol, Service, ServicePort};
use xds::envoy::route::route::Action;
use xds::envoy::route::route_action::{ClusterSpecifier, MaxStreamDuration};
use xds::envoy::{Decorator, Route, RouteAction, RouteConfiguration, VirtualHost};

/// Everything goes to the port's cluster, without time limits: those are the callers' business.
///
/// `port`: of the inbound cluster. `service`: of whom the port is, for traces only.
pub fn inbound(
    port: u16,
    service: Option<(&Service, &ServicePort)>,
    protocol: Protocol,
    _mesh: &MeshConfig,
) -> RouteConfiguration {
    let cluster = name::InboundCluster(port).to_string();
    let (host, number) = service.map_or(("", port), |(service, port)| (service.key.host.as_str(), port.number));
    let none = message::duration(Duration::ZERO);
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.clone())),
        timeout: none,
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: none,
            grpc_timeout_header_max: none,
            grpc_timeout_header_offset: None,
        }),
        // Streams of gRPC cannot be sent twice.
        retry_policy: (!matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb)).then(retry::inbound_policy),
        ..RouteAction::default()
    };
    let operation = name::Operation { host, port: number }.to_string();
    let route = Route {
        name: name::DEFAULT_ROUTE.into(),
        r#match: Some(everything()),
        decorator: Some(Decorator { operation, ..Decorator::default() }),
        action: Some(Action::Route(action)),
        ..Route::default()
    };
    let host = VirtualHost {
        name: name::InboundVirtualHost(number).to_string(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..VirtualHost::default()
    };
    RouteConfiguration {
        name: cluster,
        virtual_hosts: vec![host],
        validate_clusters: message::boolean(false),
        ..RouteConfiguration::default()
    }
}
