//! The mesh's mutual TLS, on both ends: transport sockets whose certificates the agent beside Envoy keeps fresh.
//!
//! Istio's shapes (`istio.md` 2.1, 2.6, 2.7), less its cipher suites without forward secrecy, and without the protocol by
//! which Istio's Envoys tell each other metadata (`istio-peer-exchange`): stock Envoy does not speak it, so it must not
//! agree to.

mod credential;
mod origination;
mod termination;

pub(crate) use origination::Origination;
pub(crate) use termination::{ALPN_HTTP as ALPN_OF_HTTP_SERVERS, Termination};

use crate::message;
use crds::Duration;
use crds::mesh_config::{MeshConfig, TlsVersion};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use model::{Certificates, Protocol};
use std::collections::BTreeSet;
use std::sync::Arc;
use tls::subject_alt_name_matcher::SanType;
use tls::tls_parameters::TlsProtocol;

/// The key by which endpoints say that they take mutual TLS, and its value.
pub(crate) const MODE: &str = "tlsMode";
pub(crate) const MODE_ISTIO: &str = "istio";

/// ALPN of the mesh's connections, by which a server that also takes other TLS knows them.
pub(crate) const ALPN_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// The first is what Envoys with Istio's extensions offer.
pub(crate) const ALPN_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];

/// What requests on connections of unknown protocol are sent with: the server's sniffing port then takes them for HTTP.
/// One value for all versions, none of which the server can agree to: it looks at the first bytes instead, whatever the
/// version that routes and rules have chosen.
pub(crate) const ALPN_OF_REQUESTS: &str = "istio-http/1.1,istio";

/// What the other end's certificate must be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) service_accounts: &'a BTreeSet<Arc<str>>,
    /// As written in a DestinationRule or ServiceEntry, in place of the service accounts.
    pub(crate) names: &'a [String],
}

/// The client's side.
pub(crate) fn upstream(
    server: &Server<'_>,
    sni: String,
    protocol: Protocol,
    mesh: &MeshConfig,
) -> core::TransportSocket {
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common(TlsVersion::V1_2, alpn(protocol), server.matchers(mesh))),
        sni,
        ..Default::default()
    };
    socket(&context)
}

/// The server's side: nobody without a certificate of the mesh.
pub(crate) fn downstream(mesh: &MeshConfig) -> core::TransportSocket {
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(common(
            mesh.mesh_mtls.min_protocol_version,
            ["h2", "http/1.1"].map(String::from).to_vec(),
            trust_domains(mesh).map(|it| uri(MatchPattern::Prefix(format!("spiffe://{it}/")))).collect(),
        )),
        require_client_certificate: message::boolean(true),
        ..Default::default()
    };
    socket(&context)
}

pub(crate) fn plain() -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(message::any(&RawBuffer {}))),
    }
}

fn socket<M: prost::Message + prost::Name>(context: &M) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(message::any(context))),
    }
}

/// Where the port's protocol is known the connection says so; where not, requests do ([`ALPN_OF_REQUESTS`]).
fn alpn(protocol: Protocol) -> Vec<String> {
    let names: &[&str] = match protocol {
        it if it.is_http2() => &["istio-h2", "istio", "h2"],
        it if it.is_http() => &["istio-http/1.1", "istio"],
        _ => &["istio"],
    };
    names.iter().map(|it| (*it).to_owned()).collect()
}

fn common(
    oldest: TlsVersion,
    alpn_protocols: Vec<String>,
    names: Vec<tls::SubjectAltNameMatcher>,
) -> tls::CommonTlsContext {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let oldest = match oldest {
        TlsVersion::Auto | TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    };
    let context = CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: oldest.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            cipher_suites: CIPHERS.map(String::from).to_vec(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(context)),
        alpn_protocols,
        ..Default::default()
    }
}

/// Of TLS 1.2. Those of Istio that encrypt with the server's own key are left out: who gets hold of it later could read
/// what was recorded.
const CIPHERS: [&str; 4] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
];

/// A secret that the agent serves, by the cluster of its socket in the bootstrap.
fn secret(name: &str) -> tls::SdsSecretConfig {
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
    let agent = EnvoyGrpc { cluster_name: "sds-grpc".to_owned(), ..Default::default() };
    let grpc = core::GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(agent)), ..Default::default() };
    let source = core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::Grpc.into(),
        transport_api_version: core::ApiVersion::V3.into(),
        grpc_services: vec![grpc],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(core::ConfigSource {
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::ApiConfigSource(source)),
            resource_api_version: core::ApiVersion::V3.into(),
            // As long as it takes: without its certificate there is nothing to serve.
            initial_fetch_timeout: message::duration(Duration::ZERO),
            ..Default::default()
        }),
    }
}

impl Server<'_> {
    /// Never none: an end of which nothing is known must at least be of the mesh.
    fn matchers(&self, mesh: &MeshConfig) -> Vec<tls::SubjectAltNameMatcher> {
        if !self.names.is_empty() {
            return self.names.iter().map(|it| name(it)).collect();
        }
        let accounts =
            || trust_domains(mesh).flat_map(|domain| self.service_accounts.iter().map(move |it| (domain, it)));
        let exact = accounts().map(|(domain, account)| {
            uri(MatchPattern::Exact(format!("spiffe://{domain}/ns/{}/sa/{account}", self.namespace)))
        });
        let exact: Vec<_> = exact.collect();
        match exact.is_empty() {
            true => trust_domains(mesh).map(|it| uri(MatchPattern::Prefix(format!("spiffe://{it}/")))).collect(),
            false => exact,
        }
    }
}

/// The mesh's own first.
fn trust_domains(mesh: &MeshConfig) -> impl Iterator<Item = &str> {
    let aliases = mesh.trust_domain_aliases.iter().map(String::as_str);
    std::iter::once(mesh.trust_domain.as_str()).chain(aliases.filter(|it| *it != mesh.trust_domain))
}

fn uri(pattern: MatchPattern) -> tls::SubjectAltNameMatcher {
    let matcher = StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    tls::SubjectAltNameMatcher { san_type: SanType::Uri.into(), matcher: Some(matcher), ..Default::default() }
}

/// `spiffe://…`, an IP address or a DNS name.
fn name(text: &str) -> tls::SubjectAltNameMatcher {
    let kind = match text.parse::<std::net::IpAddr>() {
        Ok(_) => SanType::IpAddress,
        Err(_) if text.contains("://") => SanType::Uri,
        Err(_) => SanType::Dns,
    };
    tls::SubjectAltNameMatcher { san_type: kind.into(), matcher: Some(message::exact(text)), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn context(socket: &core::TransportSocket) -> Value {
        xds::json::of(socket).unwrap()["typedConfig"].take()
    }

    fn names(server: &Server<'_>, mesh: &MeshConfig) -> Value {
        let socket = upstream(server, "sni".into(), Protocol::Http, mesh);
        context(&socket)["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"]
            ["matchTypedSubjectAltNames"]
            .take()
    }

    #[test]
    fn s36_the_server_is_always_pinned() {
        let mesh = MeshConfig { trust_domain_aliases: vec!["old".into()], ..MeshConfig::default() };
        let (none, accounts) = (BTreeSet::new(), BTreeSet::from(["a".into(), "b".into()]));
        let of = |service_accounts, names| Server { namespace: "n", service_accounts, names };
        let exact = |uri: &str| json!({"sanType": "URI", "matcher": {"exact": uri}});
        assert_eq!(
            names(&of(&accounts, &[]), &mesh),
            json!([
                exact("spiffe://cluster.local/ns/n/sa/a"),
                exact("spiffe://cluster.local/ns/n/sa/b"),
                exact("spiffe://old/ns/n/sa/a"),
                exact("spiffe://old/ns/n/sa/b"),
            ])
        );
        let prefix = |uri: &str| json!({"sanType": "URI", "matcher": {"prefix": uri}});
        assert_eq!(names(&of(&none, &[]), &mesh), json!([prefix("spiffe://cluster.local/"), prefix("spiffe://old/")]));
        let written = ["db.example.com".to_owned(), "spiffe://x/y".to_owned()];
        assert_eq!(
            names(&of(&accounts, &written), &mesh),
            json!([{"sanType": "DNS", "matcher": {"exact": "db.example.com"}}, exact("spiffe://x/y")])
        );
    }

    #[test]
    fn s33_only_tls_1_2_and_1_3_with_forward_secrecy_and_a_certificate_of_the_mesh() {
        let mut mesh = MeshConfig::default();
        let json = context(&downstream(&mesh));
        assert_eq!(json["requireClientCertificate"], true);
        let common = &json["commonTlsContext"];
        assert_eq!(common["tlsParams"]["tlsMinimumProtocolVersion"], "TLSv1_2");
        assert_eq!(common["tlsParams"]["tlsMaximumProtocolVersion"], "TLSv1_3");
        let ciphers = common["tlsParams"]["cipherSuites"].as_array().unwrap();
        assert!(ciphers.iter().all(|it| it.as_str().unwrap().starts_with("ECDHE-")), "{ciphers:?}");
        assert_eq!(common["alpnProtocols"], json!(["h2", "http/1.1"]));
        assert_eq!(common["tlsCertificateSdsSecretConfigs"][0]["name"], "default");
        let validation = &common["combinedValidationContext"];
        assert_eq!(validation["validationContextSdsSecretConfig"]["name"], "ROOTCA");
        let san = &validation["defaultValidationContext"]["matchTypedSubjectAltNames"];
        assert_eq!(*san, json!([{"sanType": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]));
        mesh.mesh_mtls.min_protocol_version = TlsVersion::V1_3;
        let json = context(&downstream(&mesh));
        assert_eq!(json["commonTlsContext"]["tlsParams"]["tlsMinimumProtocolVersion"], "TLSv1_3");
    }

    #[test]
    fn a_known_protocol_is_said_by_the_connection() {
        for (protocol, expected) in [
            (Protocol::Http, &["istio-http/1.1", "istio"][..]),
            (Protocol::Grpc, &["istio-h2", "istio", "h2"]),
            (Protocol::Tcp, &["istio"]),
            (Protocol::Auto, &["istio"]),
        ] {
            assert_eq!(alpn(protocol), expected, "{protocol:?}");
        }
    }
}
