//! Where certificates come from that are not the mesh's: files, which the agent serves as secrets and a proxy without an
//! agent (`navarch up`) reads itself, or a credential, which is asked of the control plane.
//!
//! Istio's names (`istio.md` 2.7): `file-cert:CERT~KEY`, `file-root:PATH` and `file-root:system`; `kubernetes://NAME` and
//! `kubernetes://NAME-cacert`.

use super::{Certificates, secret};
use crate::message;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};

/// A certificate and its private key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identity<'a> {
    Files { certificate: &'a str, private_key: &'a str },
    Credential(&'a str),
}

impl Identity<'_> {
    /// What this end shows of itself, with an agent beside those that have certificates.
    pub(super) fn add_to(self, common: &mut tls::CommonTlsContext, certificates: Certificates) {
        match (self, certificates) {
            (Self::Files { certificate, private_key }, Certificates::Workload) => {
                let name = format!("file-cert:{certificate}~{private_key}");
                common.tls_certificate_sds_secret_configs.push(secret(&name));
            }
            (Self::Files { certificate, private_key }, Certificates::None) => {
                common.tls_certificates.push(tls::TlsCertificate {
                    certificate_chain: Some(file(certificate)),
                    private_key: Some(file(private_key)),
                    ..Default::default()
                });
            }
            (Self::Credential(name), _) => {
                common.tls_certificate_sds_secret_configs.push(of_control_plane(&resource_name(name)));
            }
        }
    }
}

/// Whose certificates are trusted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Roots<'a> {
    System,
    File(&'a str),
    /// A credential that has nothing else.
    Credential(&'a str),
    /// The roots that come with a credential.
    OfCredential(&'a str),
}

impl Roots<'_> {
    pub(super) fn validation(
        self,
        mut context: tls::CertificateValidationContext,
        certificates: Certificates,
    ) -> ValidationContextType {
        let roots = match (self, certificates) {
            (Self::System, Certificates::Workload) => secret("file-root:system"),
            (Self::File(path), Certificates::Workload) => secret(&format!("file-root:{path}")),
            (Self::System | Self::File(_), Certificates::None) => {
                context.trusted_ca = Some(file(if let Self::File(path) = self { path } else { SYSTEM_ROOTS }));
                return ValidationContextType::ValidationContext(context);
            }
            (Self::Credential(name), _) => of_control_plane(&resource_name(name)),
            (Self::OfCredential(name), _) => of_control_plane(&format!("{}-cacert", resource_name(name))),
        };
        ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            validation_context_sds_secret_config: Some(roots),
            ..Default::default()
        })
    }
}

/// Where the agent, too, looks for them.
pub(super) const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(super) fn file(path: &str) -> core::DataSource {
    let specifier = core::data_source::Specifier::Filename(path.to_owned());
    core::DataSource { specifier: Some(specifier), ..Default::default() }
}

fn resource_name(credential: &str) -> String {
    let scheme = if credential.contains("://") { "" } else { "kubernetes://" };
    format!("{scheme}{credential}")
}

/// Envoy does not wait for it for ever, as it does for its own certificate: one that is not there costs its cluster or
/// its filter chain, and not all the others.
fn of_control_plane(name: &str) -> tls::SdsSecretConfig {
    let source = core::ConfigSource { initial_fetch_timeout: None, ..message::ads() };
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: Some(source) }
}
