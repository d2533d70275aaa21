//! What a cluster's connections are secured with, for clients that have certificates.
//!
//! Without a word in a DestinationRule each endpoint gets what it takes (auto mTLS): those that say `tlsMode: istio`
//! mutual TLS, the others plain text. A DestinationRule's word counts for all endpoints.

use super::{ClusterInput, Discovery};
use crate::{message, name, tls};
use crds::networking::{ClientTls, ClientTlsMode};
use model::traffic_policy::Policy;
use model::{Location, Peers};
use xds::envoy::Cluster;
use xds::envoy::cluster::cluster::TransportSocketMatch;
use xds::envoy::core::TransportSocket;

pub(super) fn apply(cluster: &mut Cluster, input: &ClusterInput<'_>, discovery: Discovery, policy: &Policy<'_>) {
    let Some(peers) = input.peers else { return };
    match policy.tls.map(|it| (it.mode, it)) {
        Some((ClientTlsMode::IstioMutual, written)) => {
            cluster.transport_socket = Some(mutual(input, peers, Some(written)));
        }
        // The latter two are not translated, which validation says.
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
