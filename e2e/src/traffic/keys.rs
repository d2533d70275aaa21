//! Certificates that are not the mesh's: a root, a server's and a client's that it has signed, and a list of what it has
//! revoked.

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::collections::BTreeMap;
use std::path::Path;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Whom the server's certificate is for.
const NAMES: [&str; 3] = ["tls.outside.test", "named.outside.test", "*.secure.test"];
/// Of two clients' certificates. The second is revoked.
const CLIENTS: [&str; 2] = ["client.outside.test", "revoked.outside.test"];

pub(super) struct Keys {
    root: Certificate,
    server: Pair,
    clients: [Pair; 2],
    revoked: String,
}

struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    fn der(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        (self.certificate.der().clone(), PrivateKeyDer::Pkcs8(key))
    }
}

impl Keys {
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        // Equal names would make the server's certificate look as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, "outside root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let signed = |names: &[&str], serial: u64| -> Result<Pair> {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())?;
            params.serial_number = Some(SerialNumber::from(serial));
            Ok(Pair { certificate: params.signed_by(&key, &issuer)?, key })
        };
        let revoked = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(3),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(Self {
            root,
            server: signed(&NAMES, 1)?,
            clients: [signed(&CLIENTS[..1], 2)?, signed(&CLIENTS[1..], 3)?],
            revoked: revoked.signed_by(&issuer)?.pem()?,
        })
    }

    /// Writes the files; what stands for which of them, and for what a client's certificate is pinned by.
    pub(super) fn write(&self, folder: &Path) -> Result<BTreeMap<&'static str, String>> {
        let mut values = BTreeMap::new();
        for (name, file, text) in [
            ("OUTSIDE_ROOT", "outside.pem", self.root.pem()),
            ("OUTSIDE_CERTIFICATE", "outside-server.pem", self.server.certificate.pem()),
            ("OUTSIDE_KEY", "outside-server-key.pem", self.server.key.serialize_pem()),
            ("OUTSIDE_REVOKED", "outside-revoked.pem", self.revoked.clone()),
        ] {
            let path = folder.join(file);
            std::fs::write(&path, text)?;
            values.insert(name, path.to_string_lossy().into_owned());
        }
        let client = &self.clients[0];
        let hash = digest(&SHA256, client.certificate.der());
        values.insert("OUTSIDE_CLIENT_HASH", hash.as_ref().iter().map(|it| format!("{it:02x}")).collect());
        let spki = digest(&SHA256, &client.key.subject_public_key_info());
        values.insert("OUTSIDE_CLIENT_SPKI", STANDARD.encode(spki));
        Ok(values)
    }

    pub(super) fn server(&self) -> Result<ServerConfig> {
        let (certificate, key) = self.server.der();
        let config = ServerConfig::builder().with_no_client_auth();
        config.with_single_cert(vec![certificate], key).context("the server's certificate")
    }

    /// Of who trusts the root alone, and shows the certificate of that name, if any.
    pub(super) fn client(
        &self,
        shows: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone())?;
        let config = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        let Some(name) = shows else { return Ok(config.with_no_client_auth()) };
        let at = CLIENTS.iter().position(|it| *it == name).with_context(|| format!("no certificate for {name}"))?;
        let (certificate, key) = self.clients[at].der();
        Ok(config.with_client_auth_cert(vec![certificate], key)?)
    }
}
