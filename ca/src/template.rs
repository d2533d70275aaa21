//! Certificates in DER, written out: what a workload gets, what istiod itself serves with, and a root.
//!
//! Written by hand, not with rcgen, because the issuer's name must stand in the leaf byte by byte as in the issuer's
//! own certificate (rcgen keeps one value per attribute, so two OUs of a plugged-in CA would become one and the chain
//! would break; the same goes for a root that is renewed), and because nothing of a request but its key may get in.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{PublicKeyData as _, SigningKey as _};

use crate::clock::unix_s;
use crate::key::PrivateKey;

/// What a certificate says.
#[derive(Debug)]
pub(crate) struct Template<'a> {
    pub(crate) serial: [u8; SERIAL_BYTES],
    /// The issuer's subject, in DER.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) public_key_info: &'a [u8],
    pub(crate) purpose: Purpose<'a>,
}

/// What it is for decides the subject and the extensions.
#[derive(Debug)]
pub(crate) enum Purpose<'a> {
    /// The subject is empty: the identity is the alternative name (critical therefore, RFC 5280 4.2.1.6).
    Leaf { names: Vec<Name<'a>>, key_encipherment: KeyEncipherment, issuer_key_id: Option<&'a [u8]> },
    /// Issuer and subject are one.
    Root { key_id: &'a [u8] },
}

/// RSA keys may also be used to wrap keys; TLS 1.2 clients look for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyEncipherment {
    No,
    Yes,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Uri(&'a str),
    Dns(&'a str),
}

/// The certificate, signed.
pub(crate) fn certificate(template: &Template<'_>, issuer_key: &PrivateKey) -> Result<Vec<u8>, rcgen::Error> {
    let algorithm = signature_algorithm(issuer_key)?;
    let (subject, extensions) = match &template.purpose {
        Purpose::Leaf { names, key_encipherment, issuer_key_id } => {
            (tlv(SEQUENCE, &[]), leaf_extensions(names, *key_encipherment, *issuer_key_id))
        }
        Purpose::Root { key_id } => (template.issuer.to_vec(), root_extensions(key_id)),
    };
    let body = tlv(
        SEQUENCE,
        &[
            tlv(EXPLICIT_0, &tlv(INTEGER, &[2])),
            tlv(INTEGER, &integer(&template.serial)),
            algorithm.clone(),
            template.issuer.to_vec(),
            tlv(SEQUENCE, &[time(template.not_before), time(template.not_after)].concat()),
            subject,
            template.public_key_info.to_vec(),
            tlv(EXPLICIT_3, &tlv(SEQUENCE, &extensions)),
        ]
        .concat(),
    );
    let signature = [&[0][..], &issuer_key.sign(&body)?].concat();
    Ok(tlv(SEQUENCE, &[body, algorithm, tlv(BIT_STRING, &signature)].concat()))
}

/// A name that holds an organization and nothing else, as Istio's own roots have it.
pub(crate) fn organization(organization: &str) -> Vec<u8> {
    let attribute = [tlv(OBJECT_ID, &ORGANIZATION), tlv(UTF8_STRING, organization.as_bytes())].concat();
    tlv(SEQUENCE, &tlv(SET, &tlv(SEQUENCE, &attribute)))
}

fn leaf_extensions(names: &[Name<'_>], encipherment: KeyEncipherment, issuer_key_id: Option<&[u8]>) -> Vec<u8> {
    // digitalSignature is bit 0, keyEncipherment bit 2; the first octet counts unused bits.
    let usage: &[u8] = match encipherment {
        KeyEncipherment::No => &[7, 0b1000_0000],
        KeyEncipherment::Yes => &[5, 0b1010_0000],
    };
    let purposes = [tlv(OBJECT_ID, &SERVER_AUTH), tlv(OBJECT_ID, &CLIENT_AUTH)].concat();
    let name = |name: &Name<'_>| match name {
        Name::Uri(uri) => tlv(NAME_URI, uri.as_bytes()),
        Name::Dns(name) => tlv(NAME_DNS, name.as_bytes()),
    };
    let names: Vec<u8> = names.iter().flat_map(name).collect();
    let mut all = vec![
        critical_extension(&KEY_USAGE, &tlv(BIT_STRING, usage)),
        extension(&EXTENDED_KEY_USAGE, &tlv(SEQUENCE, &purposes)),
        critical_extension(&BASIC_CONSTRAINTS, &tlv(SEQUENCE, &[])),
    ];
    if let Some(id) = issuer_key_id {
        all.push(extension(&AUTHORITY_KEY_ID, &tlv(SEQUENCE, &tlv(IMPLICIT_0, id))));
    }
    all.push(critical_extension(&ALTERNATIVE_NAME, &tlv(SEQUENCE, &names)));
    all.concat()
}

fn root_extensions(key_id: &[u8]) -> Vec<u8> {
    [
        // keyCertSign is bit 5, cRLSign bit 6.
        critical_extension(&KEY_USAGE, &tlv(BIT_STRING, &[1, 0b0000_0110])),
        critical_extension(&BASIC_CONSTRAINTS, &tlv(SEQUENCE, &tlv(BOOLEAN, &[0xff]))),
        extension(&SUBJECT_KEY_ID, &tlv(OCTET_STRING, key_id)),
    ]
    .concat()
}

fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[tlv(OBJECT_ID, id), tlv(OCTET_STRING, value)].concat())
}

fn critical_extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[tlv(OBJECT_ID, id), tlv(BOOLEAN, &[0xff]), tlv(OCTET_STRING, value)].concat())
}

fn signature_algorithm(key: &PrivateKey) -> Result<Vec<u8>, rcgen::Error> {
    let null = tlv(NULL, &[]);
    let (id, parameters): (&[u8], &[u8]) = if *key.algorithm() == rcgen::PKCS_ECDSA_P256_SHA256 {
        (&ECDSA_SHA256, &[])
    } else if *key.algorithm() == rcgen::PKCS_ECDSA_P384_SHA384 {
        (&ECDSA_SHA384, &[])
    } else if *key.algorithm() == rcgen::PKCS_RSA_SHA256 {
        (&RSA_SHA256, &null)
    } else {
        return Err(rcgen::Error::UnsupportedSignatureAlgorithm);
    };
    Ok(tlv(SEQUENCE, &[&tlv(OBJECT_ID, id), parameters].concat()))
}

/// Tag, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match (value.len(), u8::try_from(length.len())) {
        (short @ 0..=127, _) => out.push(u8::try_from(short).unwrap_or_default()),
        (_, Ok(octets)) => {
            out.push(0x80 | octets);
            out.extend(length);
        }
        (_, Err(_)) => unreachable!("a length has at most eight octets"),
    }
    out.extend(value);
    out
}

/// A positive number's shortest form: no leading zeros, but one where the top bit is set.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let rest = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    match rest.first() {
        None => vec![0],
        Some(first) if *first >= 0x80 => [&[0], rest].concat(),
        Some(_) => rest.to_vec(),
    }
}

/// UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280 4.1.2.5).
fn time(at: SystemTime) -> Vec<u8> {
    let seconds = unix_s(at);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    if year < 2050 {
        let year = year % 100;
        tlv(UTC_TIME, format!("{year:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z").as_bytes())
    } else {
        tlv(GENERALIZED_TIME, format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z").as_bytes())
    }
}

/// Days since 1970 to a date of the Gregorian calendar, counted in eras of 400 years that begin on 1 March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Whole seconds: certificates know no others.
pub(crate) fn whole_seconds(at: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// 128 bits from the system's generator (S27).
pub(crate) const SERIAL_BYTES: usize = 16;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const IMPLICIT_0: u8 = 0x80;
const NAME_DNS: u8 = 0x82;
const NAME_URI: u8 = 0x86;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_3: u8 = 0xa3;

/// 2.5.4.10
const ORGANIZATION: [u8; 3] = [0x55, 4, 10];
const SUBJECT_KEY_ID: [u8; 3] = [0x55, 0x1d, 14];
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 15];
const ALTERNATIVE_NAME: [u8; 3] = [0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];
const AUTHORITY_KEY_ID: [u8; 3] = [0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 37];
/// 1.3.6.1.5.5.7.3.1 and .2
const SERVER_AUTH: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 2];
/// 1.2.840.10045.4.3.2 and .3
const ECDSA_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// 1.2.840.113549.1.1.11
const RSA_SHA256: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_numbers_and_times_are_der() {
        assert_eq!(tlv(OCTET_STRING, &[1]), [4, 1, 1]);
        assert_eq!(tlv(OCTET_STRING, &[0; 127])[..2], [4, 127]);
        assert_eq!(tlv(OCTET_STRING, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(OCTET_STRING, &[0; 256])[..4], [4, 0x82, 1, 0]);
        assert_eq!(integer(&[0, 0]), [0]);
        assert_eq!(integer(&[0, 0x7f]), [0x7f]);
        assert_eq!(integer(&[0x80, 1]), [0, 0x80, 1]);
        for (seconds, text) in [
            (0, "700101000000Z"),
            (951_782_399, "000228235959Z"),
            (951_782_400, "000229000000Z"),
            (1_709_164_800, "240229000000Z"),
            (2_524_607_999, "491231235959Z"),
            (2_524_608_000, "20500101000000Z"),
            (4_107_542_400, "21000301000000Z"),
        ] {
            assert_eq!(&time(UNIX_EPOCH + Duration::from_secs(seconds))[2..], text.as_bytes(), "{seconds}");
        }
    }
}
