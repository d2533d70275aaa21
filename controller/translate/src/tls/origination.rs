//! TLS that a user configures with certificates of his own: a DestinationRule's SIMPLE and MUTUAL.

use super::credential::{Identity, Roots, file};
use super::{Certificates, name, socket};
use crds::networking::{ClientTls, ClientTlsMode};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use tls::common_tls_context::ValidationContextType;
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
            self.identity().add_to(&mut common, self.certificates);
        }
        socket(&tls::UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: written.sni.clone(),
            ..Default::default()
        })
    }

    /// Who the client is.
    fn identity(&self) -> Identity<'_> {
        let ClientTls { client_certificate, private_key, credential_name, .. } = self.written;
        match credential_name.as_str() {
            "" => Identity::Files { certificate: client_certificate, private_key },
            name => Identity::Credential(name),
        }
    }

    /// Who the server must be.
    fn validation(&self) -> ValidationContextType {
        let ClientTls { ca_certificates, ca_crl, credential_name, .. } = self.written;
        if self.written.insecure_skip_verify == Some(true) {
            return ValidationContextType::ValidationContext(tls::CertificateValidationContext::default());
        }
        let context = tls::CertificateValidationContext {
            match_typed_subject_alt_names: self.names.iter().map(|it| name(it)).collect(),
            crl: Some(file(ca_crl)).filter(|_| !ca_crl.is_empty()),
            ..Default::default()
        };
        let roots = match (credential_name.as_str(), ca_certificates.as_str()) {
            ("", "") => Roots::System,
            ("", path) => Roots::File(path),
            (credential, _) => Roots::OfCredential(credential),
        };
        roots.validation(context, self.certificates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::credential::SYSTEM_ROOTS;
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
