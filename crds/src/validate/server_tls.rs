//! TLS settings of servers: Gateway servers and Sidecar ingress (`validateTLSOptions`).

use super::report::Report;
use crate::networking::{ServerTls, ServerTlsMode, TlsProtocol, is_cipher};
use std::collections::BTreeSet;

pub(super) fn validate(tls: &ServerTls, at: &str, report: &mut Report<'_>) {
    ciphers(tls, at, report);
    match tls.mode {
        ServerTlsMode::IstioMutual => return istio_mutual(tls, at, report),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            if sources(tls) > 0 || !tls.ca_certificates.is_empty() || !tls.ca_crl.is_empty() {
                report.warning(at, "passthrough modes do not use certificates, they will be ignored");
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {}
    }
    let has_files = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    if usize::from(has_files) + remote_sources(tls) + usize::from(!tls.tls_certificates.is_empty()) > 1 {
        let why = "only one of credentialName, credentialNames, serverCertificate/privateKey, tlsCertificates should \
                   be specified";
        report.error(at, why);
    }
    // The CRDs' schema: an RSA and an ECDSA certificate.
    if tls.credential_names.len() > 2 {
        report.error(format!("{at}.credentialNames"), "at most 2 are supported");
    }
    if !tls.ca_crl.is_empty() && !tls.credential_name.is_empty() {
        let why = "CRL is not supported with credentialName. CRL has to be specified in the credential";
        report.error(format!("{at}.caCrl"), why);
    }
    let is_mutual = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    if (is_mutual || tls.mode == ServerTlsMode::Simple) && remote_sources(tls) == 0 {
        certificates(tls, is_mutual, at, report);
    }
}

fn certificates(tls: &ServerTls, is_mutual: bool, at: &str, report: &mut Report<'_>) {
    let what = if is_mutual { "MUTUAL TLS" } else { "SIMPLE TLS" };
    if is_mutual && tls.ca_certificates.is_empty() {
        report.error(format!("{at}.caCertificates"), format!("{what} requires a client CA bundle"));
    }
    if tls.tls_certificates.len() > 2 {
        report.warning(format!("{at}.tlsCertificates"), format!("{what} can support up to 2 server certificates"));
    }
    let pairs: Vec<_> = match tls.tls_certificates.is_empty() {
        true => vec![(at.to_owned(), &tls.server_certificate, &tls.private_key)],
        false => {
            let of = |i| format!("{at}.tlsCertificates[{i}]");
            let pairs = tls.tls_certificates.iter().enumerate();
            pairs.map(|(i, pair)| (of(i), &pair.server_certificate, &pair.private_key)).collect()
        }
    };
    for (at, certificate, key) in pairs {
        if certificate.is_empty() {
            report.error(format!("{at}.serverCertificate"), format!("{what} requires a server certificate"));
        }
        if key.is_empty() {
            report.error(format!("{at}.privateKey"), format!("{what} requires a private key"));
        }
    }
    if !tls.ca_crl.is_empty() && !is_mutual {
        report.error(format!("{at}.caCrl"), "CRL is not supported with SIMPLE TLS");
    }
}

/// The certificates are the workload's own.
fn istio_mutual(tls: &ServerTls, at: &str, report: &mut Report<'_>) {
    for (field, is_set) in [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ] {
        if is_set {
            report.error(format!("{at}.{field}"), format!("ISTIO_MUTUAL TLS cannot have associated {field}"));
        }
    }
}

fn ciphers(tls: &ServerTls, at: &str, report: &mut Report<'_>) {
    let is_old = matches!(tls.min_protocol_version, TlsProtocol::V1_0 | TlsProtocol::V1_1);
    if is_old && tls.cipher_suites.is_empty() {
        let why = "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include \
                   compatible ciphers";
        report.warning(format!("{at}.minProtocolVersion"), why);
    }
    let mut seen = BTreeSet::new();
    for (i, cipher) in tls.cipher_suites.iter().enumerate() {
        let at = format!("{at}.cipherSuites[{i}]");
        if !is_cipher(cipher) {
            report.warning(at, format!("ignoring invalid cipher suite: {cipher}"));
        } else if !seen.insert(cipher) {
            report.warning(at, format!("ignoring duplicate cipher suite: {cipher}"));
        }
    }
}

fn remote_sources(tls: &ServerTls) -> usize {
    usize::from(!tls.credential_name.is_empty()) + usize::from(!tls.credential_names.is_empty())
}

fn sources(tls: &ServerTls) -> usize {
    let files = !tls.server_certificate.is_empty() || !tls.private_key.is_empty() || !tls.tls_certificates.is_empty();
    remote_sources(tls) + usize::from(files)
}
