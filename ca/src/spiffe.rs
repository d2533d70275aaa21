//! SPIFFE ids as Istio writes them: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A workload's identity.
///
/// ```
/// let id: ca::spiffe::Identity = "spiffe://cluster.local/ns/default/sa/reviews".parse().unwrap();
/// assert_eq!(&*id.namespace, "default");
/// assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/reviews");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub trust_domain: Arc<str>,
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
}

/// Why a text is no identity. The text itself is left out: it came from a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    Form,
    #[error("longer than {IDENTITY_BYTES_MAX} bytes")]
    Long,
    #[error("a part is empty or holds characters that are not allowed in names")]
    Part,
}

impl Identity {
    pub fn new(
        trust_domain: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        service_account: impl Into<Arc<str>>,
    ) -> Self {
        Self { trust_domain: trust_domain.into(), namespace: namespace.into(), service_account: service_account.into() }
    }

    /// Same namespace and service account, whatever the trust domain.
    pub fn same_workload(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.service_account == other.service_account
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() > IDENTITY_BYTES_MAX {
            return Err(IdentityError::Long);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(IdentityError::Form)?;
        let mut parts = rest.split('/');
        let (Some(trust_domain), Some("ns"), Some(namespace), Some("sa"), Some(service_account), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::Form);
        };
        if ![trust_domain, namespace, service_account].into_iter().all(is_name) {
            return Err(IdentityError::Part);
        }
        Ok(Self::new(trust_domain, namespace, service_account))
    }
}

/// The mesh's trust domain, and the others it answers to (`trustDomainAliases`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains {
    pub local: Arc<str>,
    /// Accepted where identities are checked (S30), never issued.
    pub aliases: Vec<Arc<str>>,
}

impl TrustDomains {
    pub fn new(local: impl Into<Arc<str>>) -> Self {
        Self { local: local.into(), aliases: Vec::new() }
    }

    pub fn accepts(&self, trust_domain: &str) -> bool {
        *self.local == *trust_domain || self.aliases.iter().any(|alias| **alias == *trust_domain)
    }
}

/// What Kubernetes allows in names of namespaces and service accounts, and SPIFFE in trust domains (which may also hold
/// `_`): nothing that could be taken for a path, a pattern or an escape.
fn is_name(part: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !part.is_empty() && part != "." && part != ".." && part.bytes().all(good)
}

/// SPIFFE's own limit for an id.
pub const IDENTITY_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_strictly() {
        for (text, expected) in [
            ("spiffe://cluster.local/ns/a/sa/b", None),
            ("spiffe://cluster.local/ns/a/sa/b.c-d", None),
            ("spiffe://cluster.local/ns/a/sa/b/", Some(IdentityError::Form)),
            ("spiffe://cluster.local/ns/a/sa", Some(IdentityError::Form)),
            ("SPIFFE://cluster.local/ns/a/sa/b", Some(IdentityError::Form)),
            ("https://cluster.local/ns/a/sa/b", Some(IdentityError::Form)),
            ("spiffe:///ns/a/sa/b", Some(IdentityError::Part)),
            ("spiffe://cluster.local/ns//sa/b", Some(IdentityError::Part)),
            ("spiffe://cluster.local/ns/../sa/b", Some(IdentityError::Part)),
            ("spiffe://cluster.local/ns/a/sa/b%2fc", Some(IdentityError::Part)),
            ("spiffe://cluster.local/ns/a/sa/b\0", Some(IdentityError::Part)),
            ("spiffe://cluster.local/ns/a/sa/*", Some(IdentityError::Part)),
            ("spiffe://user@cluster.local:1/ns/a/sa/b", Some(IdentityError::Part)),
        ] {
            assert_eq!(text.parse::<Identity>().err(), expected, "{text:?}");
        }
        assert_eq!(format!("spiffe://td/ns/a/sa/{}", "b".repeat(3000)).parse::<Identity>(), Err(IdentityError::Long));
    }
}
