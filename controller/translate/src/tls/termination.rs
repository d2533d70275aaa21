//! TLS that ends at a gateway's server, or at a Sidecar's ingress listener, with certificates of the user's own or, for
//! ISTIO_MUTUAL, the mesh's.

use super::credential::{Identity, Roots, file};
use super::{CIPHERS, Certificates, name, secret, socket};
use crate::message;
use crds::networking::{ServerTls, ServerTlsMode, TlsProtocol};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use tls::certificate_validation_context::TrustChainVerification;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use tls::tls_parameters::TlsProtocol as Version;

/// What is agreed on where HTTP follows.
pub(crate) const ALPN_HTTP: &[&str] = &["h2", "http/1.1"];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Termination<'a> {
    pub(crate) written: &'a ServerTls,
    /// Of the server itself.
    pub(crate) certificates: Certificates,
    /// Empty: none is agreed on.
    pub(crate) alpn: &'a [&'a str],
}

impl Termination<'_> {
    /// `None`: the mesh's certificates are asked for, and the proxy has none.
    pub(crate) fn socket(&self) -> Option<core::TransportSocket> {
        let Self { written, certificates, alpn } = *self;
        let mut common = tls::CommonTlsContext {
            tls_params: Some(parameters(written)),
            alpn_protocols: alpn.iter().map(|it| (*it).to_owned()).collect(),
            validation_context_type: self.validation(),
            ..Default::default()
        };
        match written.mode {
            ServerTlsMode::IstioMutual if certificates == Certificates::None => return None,
            ServerTlsMode::IstioMutual => common.tls_certificate_sds_secret_configs = vec![secret("default")],
            _ => identities(written).into_iter().for_each(|it| it.add_to(&mut common, certificates)),
        }
        let required = matches!(written.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
        Some(socket(&tls::DownstreamTlsContext {
            common_tls_context: Some(common),
            require_client_certificate: message::boolean(required),
            ..Default::default()
        }))
    }

    /// Who the client must be, or whom it may be.
    fn validation(&self) -> Option<ValidationContextType> {
        let written = self.written;
        let unverified = written.insecure_skip_verify == Some(true);
        let context = tls::CertificateValidationContext {
            match_typed_subject_alt_names: written.subject_alt_names.iter().map(|it| name(it)).collect(),
            verify_certificate_spki: written.verify_certificate_spki.clone(),
            verify_certificate_hash: written.verify_certificate_hash.clone(),
            crl: Some(file(&written.ca_crl)).filter(|_| !written.ca_crl.is_empty()),
            trust_chain_verification: match unverified {
                true => TrustChainVerification::AcceptUntrusted.into(),
                false => TrustChainVerification::VerifyTrustChain.into(),
            },
            ..Default::default()
        };
        match written.mode {
            ServerTlsMode::IstioMutual => {
                let context = CombinedCertificateValidationContext {
                    default_validation_context: Some(context),
                    validation_context_sds_secret_config: Some(secret("ROOTCA")),
                    ..Default::default()
                };
                Some(ValidationContextType::CombinedValidationContext(context))
            }
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
                let credential = written.credential_names.first().unwrap_or(&written.credential_name);
                let of_files = written.tls_certificates.iter().map(|it| it.ca_certificates.as_str());
                let path = std::iter::once(written.ca_certificates.as_str()).chain(of_files).find(|it| !it.is_empty());
                let roots = match (written.ca_cert_credential_name.as_str(), credential.as_str(), path) {
                    ("", "", Some(path)) => Roots::File(path),
                    ("", "", None) => Roots::System,
                    ("", credential, _) => Roots::OfCredential(credential),
                    (own, ..) => Roots::Credential(own),
                };
                Some(roots.validation(context, self.certificates))
            }
            // No certificate is asked for, unless one of these is.
            _ if context.verify_certificate_hash.is_empty() && context.verify_certificate_spki.is_empty() => None,
            _ => Some(ValidationContextType::ValidationContext(context)),
        }
    }
}

fn identities(written: &ServerTls) -> Vec<Identity<'_>> {
    let named = std::iter::once(&written.credential_name).chain(&written.credential_names);
    let named: Vec<_> = named.filter(|it| !it.is_empty()).map(|it| Identity::Credential(it)).collect();
    if !named.is_empty() {
        return named;
    }
    let listed = written.tls_certificates.iter().map(|it| (&it.server_certificate, &it.private_key));
    let alone = std::iter::once((&written.server_certificate, &written.private_key));
    let pairs = alone.filter(|(certificate, _)| !certificate.is_empty()).chain(listed);
    pairs.map(|(certificate, private_key)| Identity::Files { certificate, private_key }).collect()
}

/// TLS 1.2 and newer, with forward secrecy, unless something else is written.
fn parameters(written: &ServerTls) -> tls::TlsParameters {
    let ciphers = written.ciphers();
    tls::TlsParameters {
        tls_minimum_protocol_version: version(written.min_protocol_version).unwrap_or(Version::TlSv12).into(),
        tls_maximum_protocol_version: version(written.max_protocol_version).unwrap_or(Version::TlSv13).into(),
        cipher_suites: match ciphers.is_empty() {
            true => CIPHERS.map(String::from).to_vec(),
            false => ciphers.into_iter().map(str::to_owned).collect(),
        },
        ecdh_curves: written.ecdh_curves.clone(),
        ..Default::default()
    }
}

fn version(written: TlsProtocol) -> Option<Version> {
    match written {
        TlsProtocol::Auto => None,
        TlsProtocol::V1_0 => Some(Version::TlSv10),
        TlsProtocol::V1_1 => Some(Version::TlSv11),
        TlsProtocol::V1_2 => Some(Version::TlSv12),
        TlsProtocol::V1_3 => Some(Version::TlSv13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn context(written: Value, certificates: Certificates) -> Value {
        let written: ServerTls = serde_json::from_value(written).unwrap();
        let socket = Termination { written: &written, certificates, alpn: ALPN_HTTP }.socket().unwrap();
        xds::json::of(&socket).unwrap()["typedConfig"].take()
    }

    #[test]
    fn files_and_credentials_have_istios_names() {
        let names = |written: Value| {
            let common = context(written, Certificates::Workload)["commonTlsContext"].take();
            let shown = common["tlsCertificateSdsSecretConfigs"].as_array().unwrap().iter();
            let shown: Vec<String> = shown.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
            let roots = common["combinedValidationContext"]["validationContextSdsSecretConfig"]["name"].clone();
            (shown, roots.as_str().map(str::to_owned))
        };
        let files = json!({"mode": "MUTUAL", "serverCertificate": "/c", "privateKey": "/k", "caCertificates": "/r"});
        let pairs = json!({"mode": "SIMPLE", "tlsCertificates": [
            {"serverCertificate": "/a", "privateKey": "/b"}, {"serverCertificate": "/c", "privateKey": "/d"},
        ]});
        for (written, shown, roots) in [
            (files, &["file-cert:/c~/k"][..], Some("file-root:/r")),
            (pairs, &["file-cert:/a~/b", "file-cert:/c~/d"], None),
            (json!({"mode": "SIMPLE", "credentialName": "a"}), &["kubernetes://a"], None),
            (json!({"mode": "MUTUAL", "credentialName": "a"}), &["kubernetes://a"], Some("kubernetes://a-cacert")),
            (
                json!({"mode": "OPTIONAL_MUTUAL", "credentialNames": ["a", "b"], "caCertCredentialName": "c"}),
                &["kubernetes://a", "kubernetes://b"],
                Some("kubernetes://c"),
            ),
            (json!({"mode": "ISTIO_MUTUAL"}), &["default"], Some("ROOTCA")),
        ] {
            let found = names(written.clone());
            assert_eq!(
                (found.0, found.1.as_deref()),
                (shown.iter().map(|it| it.to_string()).collect(), roots),
                "{written}"
            );
        }
    }

    #[test]
    fn only_mutual_modes_insist_on_a_clients_certificate() {
        for (mode, required) in
            [("SIMPLE", false), ("OPTIONAL_MUTUAL", false), ("MUTUAL", true), ("ISTIO_MUTUAL", true)]
        {
            let made = context(json!({"mode": mode, "credentialName": "a"}), Certificates::Workload);
            assert_eq!(made["requireClientCertificate"], json!(required), "{mode}");
        }
    }

    #[test]
    fn s33_tls_1_2_with_forward_secrecy_unless_something_else_is_written() {
        let parameters = |written: Value| context(written, Certificates::None)["commonTlsContext"]["tlsParams"].take();
        let made = parameters(json!({"mode": "SIMPLE"}));
        assert_eq!(made["tlsMinimumProtocolVersion"], "TLSv1_2");
        assert!(made["cipherSuites"].as_array().unwrap().iter().all(|it| it.as_str().unwrap().starts_with("ECDHE-")));
        let made = parameters(json!({
            "mode": "SIMPLE", "minProtocolVersion": "TLSV1_1", "maxProtocolVersion": "TLSV1_2", "ecdhCurves": ["P-256"],
            "cipherSuites": ["AES128-SHA", "nonsense", "AES128-SHA"],
        }));
        let expected = json!({
            "tlsMinimumProtocolVersion": "TLSv1_1", "tlsMaximumProtocolVersion": "TLSv1_2", "ecdhCurves": ["P-256"],
            "cipherSuites": ["AES128-SHA"],
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn without_certificates_of_the_mesh_it_does_not_show_any() {
        let written: ServerTls = serde_json::from_value(json!({"mode": "ISTIO_MUTUAL"})).unwrap();
        let made = Termination { written: &written, certificates: Certificates::None, alpn: &[] };
        assert_eq!(made.socket(), None);
    }
}
