//! Which HTTP version a cluster speaks, and the options that hang on it (`HttpProtocolOptions`).

use crate::message;
use crds::mesh_config::MeshConfig;
use crds::networking::{ConnectionPool, H2UpgradePolicy, HttpSettings};
use model::{Protocol, ProxyKind};
use xds::envoy::core::UpstreamHttpProtocolOptions;
use xds::envoy::pb::envoy::extensions::upstreams::http::v3::{HttpProtocolOptions, http_protocol_options as options};
use xds::envoy::{Cluster, CommonHttpProtocolOptions, Http1ProtocolOptions, Http2ProtocolOptions};

/// Options under construction. Nothing is sent while nothing is set: Envoy then speaks HTTP/1.1.
#[derive(Default)]
pub(super) struct HttpProtocol {
    version: Version,
    common: Option<CommonHttpProtocolOptions>,
    outlier_detection: Option<options::OutlierDetection>,
    upstream: Option<UpstreamHttpProtocolOptions>,
}

#[derive(Default)]
enum Version {
    #[default]
    Unset,
    Http2(Box<Http2ProtocolOptions>),
    /// What the client spoke.
    Downstream,
}

impl HttpProtocol {
    /// A sniffed port is answered in the client's version. Not so on gateways: their clients negotiate HTTP/2 by
    /// ALPN, which says nothing about the service.
    pub(super) fn of_port(protocol: Protocol, kind: ProxyKind) -> Self {
        let version = match (protocol, kind) {
            _ if protocol.is_http2() => Version::Http2(Box::default()),
            (Protocol::Auto, ProxyKind::Sidecar) => Version::Downstream,
            _ => Version::Unset,
        };
        Self { version, ..Self::default() }
    }

    pub(super) fn downstream() -> Self {
        Self { version: Version::Downstream, ..Self::default() }
    }

    pub(super) fn common_mut(&mut self) -> &mut CommonHttpProtocolOptions {
        self.common.get_or_insert_default()
    }

    pub(super) fn http2_mut(&mut self) -> Option<&mut Http2ProtocolOptions> {
        match &mut self.version {
            Version::Http2(options) => Some(options),
            _ => None,
        }
    }

    pub(super) fn use_downstream(&mut self) {
        self.version = Version::Downstream;
    }

    pub(super) fn set_outlier_detection(&mut self, detection: options::OutlierDetection) {
        self.outlier_detection = Some(detection);
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.version, Version::Http2(_))
    }

    /// The server is asked by the name that the request is for, and its certificate must be for that.
    pub(super) fn set_names_of_requests(&mut self, options: UpstreamHttpProtocolOptions) {
        self.upstream = Some(options);
    }

    /// `h2UpgradePolicy`: the rule's own word counts on any port, the mesh's only where the port is declared HTTP.
    pub(super) fn upgrade(&mut self, protocol: Protocol, pool: Option<&ConnectionPool>, mesh: &MeshConfig) {
        let http = pool.and_then(|it| it.http.as_ref());
        let upgrade = match http.map(|it| (it.use_client_protocol, it.h2_upgrade_policy)) {
            Some((true, _)) => false,
            Some((false, Some(H2UpgradePolicy::Upgrade))) => true,
            Some((false, Some(H2UpgradePolicy::DoNotUpgrade))) => false,
            _ => protocol.is_http() && mesh.h2_upgrade_policy == H2UpgradePolicy::Upgrade,
        };
        if upgrade && matches!(self.version, Version::Unset) {
            self.version = Version::Http2(Box::default());
        }
    }

    /// Envoy requires a version as soon as there are options.
    pub(super) fn finish(self, cluster: &mut Cluster) {
        let Self { version, common, outlier_detection, upstream } = self;
        let nothing = common.is_none() && outlier_detection.is_none() && upstream.is_none();
        if matches!(version, Version::Unset) && nothing {
            return;
        }
        let explicit = |config| {
            let config = options::ExplicitHttpConfig { protocol_config: Some(config) };
            options::UpstreamProtocolOptions::ExplicitHttpConfig(config)
        };
        let version = match version {
            Version::Unset => explicit(options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(
                Http1ProtocolOptions::default(),
            )),
            Version::Http2(http2) => {
                explicit(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(*http2))
            }
            Version::Downstream => {
                options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(options::UseDownstreamHttpConfig {
                    http_protocol_options: Some(Http1ProtocolOptions::default()),
                    http2_protocol_options: Some(Http2ProtocolOptions::default()),
                    http3_protocol_options: None,
                })
            }
        };
        let options = HttpProtocolOptions {
            common_http_protocol_options: common,
            outlier_detection,
            upstream_http_protocol_options: upstream,
            upstream_protocol_options: Some(version),
            ..HttpProtocolOptions::default()
        };
        cluster.typed_extension_protocol_options = [(KEY.to_owned(), message::any(&options))].into();
    }
}

/// Whether any setting needs `common_http_protocol_options`; Istio then sends them even if they stay empty.
pub(super) fn wants_common(http: Option<&HttpSettings>) -> bool {
    http.is_some_and(|it| {
        it.idle_timeout.is_some()
            || it.max_requests_per_connection > 0
            || it.max_concurrent_streams > 0
            || it.http2_keep_alive.is_some()
    })
}

pub(super) const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
