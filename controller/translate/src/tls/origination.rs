//! TLS that a user configures with certificates of his own: a DestinationRule's SIMPLE and MUTUAL.
//!
//! Istio's names (`istio.md` 2.7): files are secrets that the agent serves, `file-cert:CERT~KEY`, `file-root:PATH` and
//! `file-root:system`; credentials are asked of the control plane, `kubernetes://NAME` and `kubernetes://NAME-cacert`.
//! A proxy without an agent (`navarch up`) reads the files itself.

use super::{Certificates, name, secret, socket};

use crds::networking::{ClientTls, ClientTlsMode};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use tls::tls_parameters::TlsProtocol;

/// What a client speaks with certificates that are not the mesh's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origination<'a> {
    pub(crate) written: &'a ClientTls,
    /// What the server's certificate must be for, if more than the name it is asked by.
    pub(crate) names: &'a [String],
    /// An agent is beside those that have certificates.
    pub(crate) certificates: Certificates,
    /// Envoy offers what it is about to speak where nothing is listed here.
    pub(crate) alpn: &'a [&'a str],
}

impl Origination<'_> {
    pub(crate) fn socket(&self) -> core::TransportSocket {
        let Self { written, alpn, .. } = *self;
        let mut common = tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            alpn_protocols: alpn.iter().map(|it| (*it).to_owned()).collect(),
            validation_context_type: Some(self.validation()),
            ..Default::default()
        };
        if written.mode == ClientTlsMode::Mutual {
            self.identify(&mut common);
        }
        socket(&tls::UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: written.sni.clone(),
            ..Default::default()
        })
    }

    /// Who the client is.
    fn identify(&self, common: &mut tls::CommonTlsContext) {
        let ClientTls { client_certificate, private_key, credential_name, .. } = self.written;
        match (credential_name.as_str(), self.certificates) {
            ("", Certificates::Workload) => {
                let name = format!("file-cert:{client_certificate}~{private_key}");
                common.tls_certificate_sds_secret_configs = vec![secret(&name)];
            }
            ("", Certificates::None) => {
                common.tls_certificates = vec![tls::TlsCertificate {
                    certificate_chain: Some(file(client_certificate)),
                    private_key: Some(file(private_key)),
                    ..Default::default()
                }];
            }
            (credential, _) => common.tls_certificate_sds_secret_configs = vec![self::credential(credential, "")],
        }
    }

    /// Who the server must be.
    fn validation(&self) -> ValidationContextType {
        let ClientTls { ca_certificates, ca_crl, credential_name, .. } = self.written;
        if self.written.insecure_skip_verify == Some(true) {
            return ValidationContextType::ValidationContext(tls::CertificateValidationContext::default());
        }
        let mut context = tls::CertificateValidationContext {
            match_typed_subject_alt_names: self.names.iter().map(|it| name(it)).collect(),
            crl: Some(file(ca_crl)).filter(|_| !ca_crl.is_empty()),
            ..Default::default()
        };
        let roots = match (credential_name.as_str(), ca_certificates.as_str(), self.certificates) {
            ("", "", Certificates::Workload) => secret("file-root:system"),
            ("", path, Certificates::Workload) => secret(&format!("file-root:{path}")),
            ("", path, Certificates::None) => {
                context.trusted_ca = Some(file(if path.is_empty() { SYSTEM_ROOTS } else { path }));
                return ValidationContextType::ValidationContext(context);
            }
            (credential, ..) => self::credential(credential, "-cacert"),
        };
        ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            validation_context_sds_secret_config: Some(roots),
            ..Default::default()
        })
    }
}

/// Where the agent, too, looks for them.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

fn file(path: &str) -> core::DataSource {
    let specifier = core::data_source::Specifier::Filename(path.to_owned());
    core::DataSource { specifier: Some(specifier), ..Default::default() }
}

/// A secret of the control plane. Envoy does not wait for it for ever, as it does for its own certificate: one that is
/// not there costs its cluster, and not all the others.
fn credential(name: &str, suffix: &str) -> tls::SdsSecretConfig {
    let scheme = if name.contains("://") { "" } else { "kubernetes://" };
    tls::SdsSecretConfig {
        name: format!("{scheme}{name}{suffix}"),
        sds_config: Some(core::ConfigSource {
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
                core::AggregatedConfigSource::default(),
            )),
            resource_api_version: core::ApiVersion::V3.into(),
            ..Default::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn common(written: Value, certificates: Certificates) -> Value {
        let written: ClientTls = serde_json::from_value(written).unwrap();
        let names = &written.subject_alt_names;
        let socket = Origination { written: &written, names, certificates, alpn: &["h2"] }.socket();
        xds::json::of(&socket).unwrap()["typedConfig"]["commonTlsContext"].take()
    }

    fn names(common: &Value) -> [&Value; 2] {
        let validation = &common["combinedValidationContext"]["validationContextSdsSecretConfig"];
        [&common["tlsCertificateSdsSecretConfigs"][0]["name"], &validation["name"]]
    }

    #[test]
    fn secrets_have_istios_names() {
        let mutual = |more: Value| {
            let mut all = json!({"mode": "MUTUAL"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            common(all, Certificates::Workload)
        };
        let files = mutual(json!({"clientCertificate": "/c.pem", "privateKey": "/k.pem", "caCertificates": "/r.pem"}));
        assert_eq!(names(&files), ["file-cert:/c.pem~/k.pem", "file-root:/r.pem"]);
        let credential = mutual(json!({"credentialName": "shop"}));
        assert_eq!(names(&credential), ["kubernetes://shop", "kubernetes://shop-cacert"]);
        let source = &credential["tlsCertificateSdsSecretConfigs"][0]["sdsConfig"];
        assert_eq!(*source, json!({"ads": {}, "resourceApiVersion": "V3"}));
        let simple = common(json!({"mode": "SIMPLE", "clientCertificate": "/ignored"}), Certificates::Workload);
        assert_eq!(names(&simple), [&Value::Null, &json!("file-root:system")]);
        assert_eq!(simple["alpnProtocols"], json!(["h2"]));
    }

    #[test]
    fn without_an_agent_envoy_reads_the_files() {
        let written =
            json!({"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "subjectAltNames": ["a.b", "::1"]});
        let common = common(written, Certificates::None);
        assert_eq!(common["tlsCertificates"][0]["privateKey"], json!({"filename": "/k"}));
        assert_eq!(common["validationContext"]["trustedCa"], json!({"filename": SYSTEM_ROOTS}));
        let names = &common["validationContext"]["matchTypedSubjectAltNames"];
        assert_eq!((&names[0]["sanType"], &names[1]["sanType"]), (&json!("DNS"), &json!("IP_ADDRESS")));
    }

    #[test]
    fn nothing_is_verified_only_where_that_is_written() {
        for certificates in [Certificates::None, Certificates::Workload] {
            let skipped = common(json!({"mode": "SIMPLE", "insecureSkipVerify": true}), certificates);
            assert_eq!(skipped["validationContext"], json!({}));
            let own = common(json!({"mode": "SIMPLE", "caCrl": "/crl", "subjectAltNames": ["a"]}), certificates);
            let own = match certificates {
                Certificates::None => &own["validationContext"],
                Certificates::Workload => &own["combinedValidationContext"]["defaultValidationContext"],
            };
            assert_eq!(
                (&own["crl"]["filename"], &own["matchTypedSubjectAltNames"][0]["matcher"]["exact"]),
                (&json!("/crl"), &json!("a"))
            );
        }
    }
}
