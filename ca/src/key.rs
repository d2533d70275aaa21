//! Private keys: made, read, written, used for signing; wiped when dropped, never shown.
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize as _, Zeroizing};

/// What keys we make. P-256 unless the user asks for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    #[default]
    P256,
    P384,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

/// A private key as PEM text. Wiped when dropped; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPem(Zeroizing<String>);

impl KeyPem {
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The text itself; for files, secrets and SDS, never for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyPem(redacted)")
    }
}

/// Why a key cannot be used. Holds nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no private key in PEM form (PKCS#8, PKCS#1 or SEC1)")]
    Pem,
    #[error("neither an ECDSA key on P-256 or P-384 nor an RSA key of 2048 to 8192 bits")]
    Kind,
    #[error("the cryptographic library failed")]
    Library,
}

/// A private key that can sign.
pub struct PrivateKey {
    pair: Pair,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl PrivateKey {
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::generate(algorithm).map(Pair::Ecdsa).map_err(|_| KeyError::Library)
        };
        let rsa =
            |size| RsaKeyPair::generate(size).map(|pair| Pair::Rsa(Box::new(pair))).map_err(|_| KeyError::Library);
        let (pair, algorithm) = match kind {
            KeyKind::P256 => (ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)?, &rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::P384 => (ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)?, &rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::Rsa2048 => (rsa(aws_lc_rs::rsa::KeySize::Rsa2048)?, &rcgen::PKCS_RSA_SHA256),
            KeyKind::Rsa3072 => (rsa(aws_lc_rs::rsa::KeySize::Rsa3072)?, &rcgen::PKCS_RSA_SHA256),
            KeyKind::Rsa4096 => (rsa(aws_lc_rs::rsa::KeySize::Rsa4096)?, &rcgen::PKCS_RSA_SHA256),
        };
        Ok(Self { pair, algorithm })
    }

    /// Reads PKCS#8 ("PRIVATE KEY"), PKCS#1 ("RSA PRIVATE KEY") and SEC1 ("EC PRIVATE KEY").
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)?;
        let key = Self::from_der(&der);
        der.zeroize();
        key
    }

    fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        let rsa = |pair: RsaKeyPair| Self { pair: Pair::Rsa(Box::new(pair)), algorithm: &rcgen::PKCS_RSA_SHA256 };
        let ecdsa = |algorithm| move |pair| Self { pair: Pair::Ecdsa(pair), algorithm };
        let p256 = ecdsa(&rcgen::PKCS_ECDSA_P256_SHA256);
        let p384 = ecdsa(&rcgen::PKCS_ECDSA_P384_SHA384);
        match der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map(rsa).ok(),
            PrivateKeyDer::Sec1(der) => {
                let der = der.secret_sec1_der();
                let first = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map(p256);
                first
                    .or_else(|_| EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_ASN1_SIGNING, der).map(p384))
                    .ok()
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let first = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map(p256);
                let second = || EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, der).map(p384);
                first.or_else(|_| second()).or_else(|_| RsaKeyPair::from_pkcs8(der).map(rsa)).ok()
            }
            _ => None,
        }
        .ok_or(KeyError::Kind)
    }

    /// PKCS#8 as PEM, which Envoy and Istio read alike.
    pub fn to_pem(&self) -> Result<KeyPem, KeyError> {
        let body = Zeroizing::new(STANDARD.encode(self.pkcs8()?.as_slice()));
        let mut pem = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 64));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(KeyPem(pem))
    }

    /// The same key for rustls.
    pub fn for_rustls(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, KeyError> {
        let der = self.pkcs8()?;
        let mut der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|_| KeyError::Library);
        der.zeroize();
        key
    }

    pub fn is_rsa(&self) -> bool {
        matches!(self.pair, Pair::Rsa(_))
    }

    /// The public half as SubjectPublicKeyInfo, in DER; what certificates and requests hold.
    pub fn public_key_info(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(self)
    }

    fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let der = match &self.pair {
            Pair::Ecdsa(pair) => Zeroizing::new(pair.to_pkcs8v1().map_err(|_| KeyError::Library)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Library)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
        };
        Ok(der)
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s24_keys_survive_the_way_through_pem_and_show_nothing() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa2048] {
            let key = PrivateKey::generate(kind).unwrap();
            let pem = key.to_pem().unwrap();
            let again = PrivateKey::from_pem(pem.expose().as_bytes()).unwrap();
            assert_eq!(key.public_key_info(), again.public_key_info(), "{kind:?}");
            again.for_rustls().unwrap();
            let shown = format!("{key:?} {again:?} {pem:?} {pem:#?}");
            for line in pem.expose().lines() {
                assert!(!shown.contains(line));
            }
        }
    }

    #[test]
    fn bad_keys_are_refused_without_repeating_them() {
        assert_eq!(PrivateKey::from_pem(b"hello").err(), Some(KeyError::Pem));
        let pem = b"-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        assert_eq!(PrivateKey::from_pem(pem).err(), Some(KeyError::Kind));
    }
}
