//! What a cluster's connections are secured with, for clients that have certificates.
//!
//! Without a word in a DestinationRule each endpoint gets what it takes (auto mTLS): those that say `tlsMode: istio`
//! mutual TLS, the others plain text. A DestinationRule's word counts for all endpoints, and SIMPLE and MUTUAL for
//! clients without certificates of the mesh too.

use super::http_protocol::HttpProtocol;
use super::{ClusterInput, Discovery};
use crate::{message, name, tls};
use crds::networking::{ClientTls, ClientTlsMode};
use model::traffic_policy::Policy;
use model::{Certificates, Location, Peers, ProxyKind};
use xds::envoy::Cluster;
use xds::envoy::cluster::cluster::TransportSocketMatch;
use xds::envoy::core::{TransportSocket, UpstreamHttpProtocolOptions};

pub(super) fn apply(
    cluster: &mut Cluster,
    protocol: &mut HttpProtocol,
    input: &ClusterInput<'_>,
    discovery: Discovery,
    policy: &Policy<'_>,
) {
    if let Some(written) = policy.tls.filter(|it| matches!(it.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual)) {
        return originate(cluster, protocol, input, discovery, written);
    }
    let Some(peers) = input.peers else { return };
    match policy.tls.map(|it| (it.mode, it)) {
        Some((ClientTlsMode::IstioMutual, written)) => {
            cluster.transport_socket = Some(mutual(input, peers, Some(written)));
        }
        Some((ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual, _)) => {}
        None if discovery == Discovery::Dynamic => {}
        None if !input.mesh.enable_auto_mtls || input.service.location == Location::External => {}
        // Envoy makes the endpoints up, and they have no metadata: all of them take it, or it is not spoken.
        None if discovery == Discovery::OriginalDst => {
            let all = peers.mutual_ports.contains(&input.port.name);
            cluster.transport_socket = all.then(|| mutual(input, peers, None));
        }
        None => {
            let istio = message::structure([(tls::MODE, message::string_value(tls::MODE_ISTIO))]);
            cluster.transport_socket_matches = vec![
                TransportSocketMatch {
                    name: "tlsMode-istio".to_owned(),
                    r#match: Some(istio),
                    transport_socket: Some(mutual(input, peers, None)),
                },
                TransportSocketMatch {
                    name: "tlsMode-disabled".to_owned(),
                    r#match: Some(message::structure([])),
                    transport_socket: Some(tls::plain()),
                },
            ];
        }
    }
}

/// With certificates of the user's own, proxies without those of the mesh too.
fn originate(
    cluster: &mut Cluster,
    protocol: &mut HttpProtocol,
    input: &ClusterInput<'_>,
    discovery: Discovery,
    written: &ClientTls,
) {
    // As in Istio: all sidecars would ask for a secret that few of them may have.
    if !written.credential_name.is_empty() && input.kind == ProxyKind::Sidecar {
        return;
    }
    let of_service = || &input.service.subject_alt_names[..];
    let names = Some(&written.subject_alt_names[..]).filter(|it| !it.is_empty()).unwrap_or_else(of_service);
    let verified = written.insecure_skip_verify != Some(true);
    // A dynamic forward proxy does it by itself.
    if written.sni.is_empty() && discovery != Discovery::Dynamic {
        protocol.set_names_of_requests(UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: names.is_empty() && verified,
            ..Default::default()
        });
    }
    let certificates = if input.peers.is_some() { Certificates::Workload } else { Certificates::None };
    let alpn: &[&str] = if protocol.is_http2() { &["h2"] } else { &[] };
    cluster.transport_socket = Some(tls::Origination { written, names, certificates, alpn }.socket());
}

fn mutual(input: &ClusterInput<'_>, peers: &Peers, written: Option<&ClientTls>) -> TransportSocket {
    let ClusterInput { service, port, subset, mesh, .. } = *input;
    let names = written.map(|it| it.subject_alt_names.as_slice()).filter(|it| !it.is_empty());
    let server = tls::Server {
        namespace: &service.key.namespace,
        service_accounts: &peers.service_accounts,
        names: names.unwrap_or(&service.subject_alt_names),
    };
    let default = name::OutboundCluster { port: port.number, subset, host: &service.key.host };
    let sni = match written.map(|it| it.sni.as_str()) {
        None | Some("") => name::OutboundSni(default).to_string(),
        Some(sni) => sni.to_owned(),
    };
    tls::upstream(&server, sni, port.protocol, mesh)
}
