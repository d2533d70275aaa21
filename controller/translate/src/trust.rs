//! What agents take for roots of the mesh besides the one that came with their own certificate (PCDS). The message is
//! Istio's `istio.mesh.v1alpha1.ProxyConfig`, of which only this field comes this way.

use crds::mesh_config::MeshConfig;
use std::collections::BTreeSet;

#[derive(Clone, PartialEq, prost::Message)]
pub struct TrustConfig {
    #[prost(string, repeated, tag = "34")]
    pub ca_certificates_pem: Vec<String>,
}

impl prost::Name for TrustConfig {
    const NAME: &'static str = "ProxyConfig";
    const PACKAGE: &'static str = "istio.mesh.v1alpha1";
}

/// The roots of the CA and those of `meshConfig.caCertificates`, each once, in an order that does not depend on theirs.
pub fn trust_config(roots: &str, mesh: &MeshConfig) -> TrustConfig {
    let more = mesh.ca_certificates.iter().flat_map(|it| certificates(&it.pem));
    let all: BTreeSet<String> = certificates(roots).chain(more).collect();
    TrustConfig { ca_certificates_pem: all.into_iter().collect() }
}

/// The certificates of a PEM text, one each, without what stands between them.
fn certificates(pem: &str) -> impl Iterator<Item = String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    pem.split(BEGIN).skip(1).filter_map(|it| Some(format!("{BEGIN}{}{END}\n", it.split_once(END)?.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::mesh_config::CertificateData;

    #[test]
    fn every_root_is_there_once() {
        let pem = |it: &str| format!("-----BEGIN CERTIFICATE-----\n{it}\n-----END CERTIFICATE-----\n");
        let given = format!("# the old one\n{}{}{}", pem("b"), pem("a").trim_end(), pem("cut").replace("END", "EN"));
        let more = vec![CertificateData { pem: pem("a") + &pem("c") }, CertificateData::default()];
        let mesh = MeshConfig { ca_certificates: more, ..MeshConfig::default() };
        assert_eq!(trust_config(&given, &mesh).ca_certificates_pem, ["a", "b", "c"].map(pem));
    }
}
