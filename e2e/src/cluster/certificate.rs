//! A cluster's certificates: one root, and one certificate for each who speaks.

use super::plan::Addresses;
use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::path::Path;

/// Who has a certificate: file name, common name, organization.
pub(super) const CLIENTS: &[(&str, &str, &str)] = &[
    ("admin", "kubernetes-admin", "system:masters"),
    ("apiserver-kubelet", "kube-apiserver", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
];

/// Writes `ca.crt`, `ca.key`, `NAME.crt` and `NAME.key`, and the service accounts' `sa.key` and `sa.pub`.
pub(super) fn write(folder: &Path, addresses: Addresses, node: &str) -> Result<()> {
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "kubernetes");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    std::fs::write(folder.join("ca.crt"), root.pem())?;
    write_key(&folder.join("ca.key"), root.key())?;
    let sign = |file: &str, common_name: &str, organization: &str, names: &[SanType]| -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        if !organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.subject_alt_names = names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate()?;
        std::fs::write(folder.join(format!("{file}.crt")), params.signed_by(&key, &root)?.pem())?;
        write_key(&folder.join(format!("{file}.key")), &key)
    };
    for (file, common_name, organization) in CLIENTS {
        sign(file, common_name, organization, &[])?;
    }
    let ip = |it: std::net::Ipv4Addr| SanType::IpAddress(it.into());
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let mut apiserver = vec![ip(addresses.node()), ip(addresses.apiserver()), ip(std::net::Ipv4Addr::LOCALHOST)];
    for name in names.iter().chain(&["localhost"]) {
        apiserver.push(SanType::DnsName((*name).try_into()?));
    }
    sign("apiserver", "kube-apiserver", "", &apiserver)?;
    let kubelet = [ip(addresses.node()), SanType::DnsName(node.try_into()?)];
    sign("kubelet", &format!("system:node:{node}"), "system:nodes", &kubelet)?;
    let accounts = KeyPair::generate()?;
    write_key(&folder.join("sa.key"), &accounts)?;
    Ok(std::fs::write(folder.join("sa.pub"), accounts.public_key_pem())?)
}

fn write_key(path: &Path, key: &KeyPair) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(key.serialize_pem().as_bytes())?)
}
