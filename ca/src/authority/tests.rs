//! What is signed, what is not, and what a certificate holds.
use super::*;
use crate::csr;
use crate::key::{KeyKind, PrivateKey};
use crate::testing::{DAY, Maker, Plugged, authority, files, identity, now};

fn csr_of(kind: KeyKind) -> String {
    csr::request(&identity(), kind).unwrap().1
}

fn leaf(issued: &Issued) -> Certificate {
    Certificate::all_from_pem(issued.chain[0].as_bytes()).unwrap().remove(0)
}

fn refusal(csr: &str) -> SignError {
    authority(now()).sign(csr, &identity(), None, now()).unwrap_err()
}

#[test]
fn s11_a_certificate_holds_the_callers_identity_and_nothing_of_the_request_but_its_key() {
    for (kind, usage) in [(KeyKind::P256, 1), (KeyKind::P384, 1), (KeyKind::Rsa2048, 1 | 4)] {
        let key = PrivateKey::generate(kind).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "evil");
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let issued = authority(now()).sign(&csr, &identity(), None, now()).unwrap();
        let read = leaf(&issued);
        assert_eq!(read.facts.public_key_info, key.public_key_info());
        assert_eq!((read.facts.uris.as_slice(), read.facts.names), (&[identity().to_string()][..], 1));
        assert_eq!(read.facts.authority, crate::certificate::Authority::No);
        assert!(read.facts.server_auth && read.facts.client_auth);
        assert_eq!(read.facts.key_cert_sign, Some(false));
        let (_, x509) = x509_parser::parse_x509_certificate(&read.der).unwrap();
        assert_eq!(x509.key_usage().unwrap().unwrap().value.flags, usage, "{kind:?}");
        let purposes = x509.extended_key_usage().unwrap().unwrap();
        assert!(!purposes.value.code_signing && !purposes.value.any && purposes.value.other.is_empty());
        // The subject is empty, so the name must be critical (RFC 5280 4.1.2.6).
        assert_eq!(x509.subject().iter().count(), 0);
        assert!(x509.subject_alternative_name().unwrap().unwrap().critical);
        assert_eq!(x509.extensions().len(), 5);
    }
}

#[test]
fn s11_a_request_for_another_name_is_refused() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let csr = |names: Vec<rcgen::SanType>, common_name: Option<&str>| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = names;
        if let Some(name) = common_name {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        params.serialize_request(&key).unwrap().pem().unwrap()
    };
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().unwrap());
    let own = identity().to_string();
    assert!(authority(now()).sign(&csr(vec![uri(&own)], None), &identity(), None, now()).is_ok());
    assert!(authority(now()).sign(&csr(Vec::new(), None), &identity(), None, now()).is_ok());
    for foreign in [
        csr(vec![uri("spiffe://cluster.local/ns/default/sa/ratings")], None),
        csr(vec![uri("spiffe://cluster.local/ns/kube-system/sa/reviews")], None),
        csr(vec![uri("spiffe://evil/ns/default/sa/reviews")], None),
        csr(vec![uri(&own), uri("spiffe://cluster.local/ns/default/sa/ratings")], None),
        csr(vec![uri("https://example.com")], None),
        csr(vec![uri(&own), rcgen::SanType::DnsName("istiod.istio-system.svc".try_into().unwrap())], None),
        csr(vec![rcgen::SanType::IpAddress([10, 0, 0, 1].into())], None),
        csr(Vec::new(), Some("istiod.istio-system.svc")),
    ] {
        assert_eq!(refusal(&foreign), SignError::ForeignName);
    }
}

#[test]
fn s30_an_alias_in_the_request_is_accepted_and_not_issued() {
    let mut named = identity();
    named.trust_domain = "old.example".into();
    let csr = csr::request(&named, KeyKind::P256).unwrap().1;
    assert_eq!(refusal(&csr), SignError::ForeignName);
    let options = Options { trust_domain_aliases: vec!["old.example".into()], ..Options::default() };
    let authority = Authority::new(crate::testing::root(now()), options);
    let issued = authority.sign(&csr, &identity(), None, now()).unwrap();
    assert_eq!(leaf(&issued).facts.uris, [identity().to_string()]);
}

#[test]
fn s12_without_proof_of_possession_nothing_is_signed() {
    let pem = csr_of(KeyKind::P256);
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let mut der = block.contents;
    // An octet in the middle of the signature.
    let at = der.len() - 12;
    der[at] ^= 1;
    let csr = crate::certificate::pem("CERTIFICATE REQUEST", &der);
    assert_eq!(refusal(&csr), SignError::Csr(CsrError::Signature));
}

/// A request made by `openssl req -new -newkey rsa:1024` would look so; its signature is not looked at any more.
#[test]
fn s12_weak_and_unknown_keys_are_refused() {
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    for key in [ed25519, p521] {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        assert_eq!(refusal(&csr), SignError::Csr(CsrError::WeakKey));
    }
    for (bits, strong) in [(1024, false), (2047, false), (2048, true), (8192, true), (16_384, false)] {
        assert_eq!(PublicKeyKind::Rsa { bits }.strong(), strong, "{bits}");
    }
}

#[test]
fn s12_garbage_and_large_requests_are_refused() {
    let certificate = authority(now()).roots_pem().to_string();
    for garbage in ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\naGVsbG8=\n-----END CERTIFICATE REQUEST-----\n"] {
        assert_eq!(refusal(garbage), SignError::Csr(CsrError::Malformed), "{garbage}");
    }
    assert_eq!(refusal(&certificate), SignError::Csr(CsrError::Malformed));
    assert_eq!(refusal(&"x".repeat(16 * 1024 + 1)), SignError::Csr(CsrError::Large));
}

/// Istio's pilot-agent writes a subject whose only attribute is an empty organization.
#[test]
fn a_request_of_istios_agent_is_signed() {
    for kind in [KeyKind::Rsa2048, KeyKind::P256] {
        let key = PrivateKey::generate(kind).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "");
        params.subject_alt_names = vec![rcgen::SanType::URI(identity().to_string().try_into().unwrap())];
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        authority(now()).sign(&csr, &identity(), None, now()).unwrap();
    }
}

#[test]
fn a_request_for_a_ca_is_refused() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    assert_eq!(refusal(&csr), SignError::Csr(CsrError::Authority));
}

#[test]
fn s27_lifetimes() {
    let (authority, csr) = (authority(now()), csr_of(KeyKind::P256));
    let sign = |ttl| authority.sign(&csr, &identity(), ttl, now());
    let issued = sign(None).unwrap();
    let facts = leaf(&issued).facts;
    assert_eq!((facts.not_before, facts.not_after), (now() - BACKDATE, now() + DAY));
    assert_eq!(issued.not_after, facts.not_after);
    assert_eq!(leaf(&sign(Some(DAY / 24)).unwrap()).facts.not_after, now() + DAY / 24);
    assert!(sign(Some(DAY * 90)).is_ok());
    assert!(matches!(sign(Some(DAY * 90 + DAY / 24)), Err(SignError::LongTtl { .. })));
    assert!(matches!(sign(Some(Duration::from_secs(u64::MAX))), Err(SignError::LongTtl { .. })));
}

#[test]
fn s27_f31_nothing_outlives_its_issuer_and_an_expired_issuer_signs_nothing() {
    let (authority, csr) = (authority(now()), csr_of(KeyKind::P256));
    let end = authority.bundle().chain_end();
    let issued = authority.sign(&csr, &identity(), None, end - DAY / 24).unwrap();
    assert_eq!(leaf(&issued).facts.not_after, end);
    assert_eq!(authority.sign(&csr, &identity(), None, end), Err(SignError::NotValidNow));
    assert_eq!(authority.sign(&csr, &identity(), None, now() - DAY), Err(SignError::NotValidNow));
}

#[test]
fn s27_serials_are_random_and_positive() {
    let (authority, csr) = (authority(now()), csr_of(KeyKind::P256));
    let serials: std::collections::BTreeSet<_> = (0..64)
        .map(|_| {
            let serial = leaf(&authority.sign(&csr, &identity(), None, now()).unwrap()).facts.serial;
            assert!(serial.len() <= 17 && serial[0] < 0x80, "{serial:?}");
            serial
        })
        .collect();
    assert_eq!(serials.len(), 64);
}

#[test]
fn the_chain_is_leaf_then_intermediates_then_root_and_verifies() {
    let plugged = Plugged::new(now());
    let bundle = Bundle::from_files(&plugged.files()).unwrap().unwrap();
    let authority = Authority::new(bundle, Options::default());
    let issued = authority.sign(&csr_of(KeyKind::Rsa2048), &identity(), None, now()).unwrap();
    assert!(issued.chain.iter().all(|pem| pem.ends_with("-----END CERTIFICATE-----\n")));
    let chain: Vec<_> =
        issued.chain.iter().map(|pem| Certificate::all_from_pem(pem.as_bytes()).unwrap().remove(0)).collect();
    assert_eq!(chain[1..], [plugged.signing, plugged.middle, plugged.root]);
    for pair in chain.windows(2) {
        assert!(pair[0].is_signed_by(&pair[1]));
    }
}

#[test]
fn issuers_of_all_kinds_of_keys_and_names_sign() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
        let key = PrivateKey::generate(kind).unwrap();
        // Two attributes of one kind, and letters that need UTF-8.
        let root = Maker::authority(now(), "Zürich").with(|params| {
            params.distinguished_name.push(rcgen::DnType::CountryName, "CH");
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "navarch");
        });
        let root = root.self_signed(&key);
        let files = files([("ca-cert.pem", root.to_pem()), ("ca-key.pem", key.to_pem().unwrap().expose().to_owned())]);
        let authority = Authority::new(Bundle::from_files(&files).unwrap().unwrap(), Options::default());
        let issued = authority.sign(&csr_of(KeyKind::P256), &identity(), None, now()).unwrap();
        assert!(leaf(&issued).is_signed_by(&root), "{kind:?}");
    }
}

#[test]
fn s24_nothing_that_is_shown_holds_key_material() {
    let authority = authority(now());
    let (key, csr) = csr::request(&identity(), KeyKind::P256).unwrap();
    let issued = authority.sign(&csr, &identity(), None, now()).unwrap();
    let secret = authority.bundle().to_files().unwrap();
    let shown = format!("{authority:?} {issued:?} {secret:?} {key:?} {:?}", authority.bundle());
    let own = authority.bundle().key.to_pem().unwrap();
    for pem in [key, own] {
        // The private number is the octets 36 to 67 of a P-256 key in PKCS#8 (the rest is public): no window of its base64,
        // nor of its octets as a list of numbers.
        let body: String = pem.expose().lines().filter(|line| !line.starts_with("---")).collect();
        for at in 48..88 - 12 {
            assert!(!shown.contains(&body[at..at + 12]));
        }
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
        assert_eq!(der[34..36], [4, 32]);
        for window in der[36..68].windows(6) {
            let numbers = format!("{window:?}");
            assert!(!shown.contains(numbers.trim_matches(['[', ']'])));
        }
    }
}
