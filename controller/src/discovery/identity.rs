//! Whether a proxy is who its node says it is. The credential decides; what a node says of itself is compared with
//! it and never believed on its own (S14, S15).

use ca::authenticate::Caller;
use std::sync::Arc;

/// What a stream's first request claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim<'a> {
    pub(crate) pod: &'a str,
    pub(crate) namespace: &'a str,
    /// Metadata `NAMESPACE` and `SERVICE_ACCOUNT`; empty when the node does not say.
    pub(crate) metadata_namespace: &'a str,
    pub(crate) metadata_service_account: &'a str,
}

/// What the API server knows of the pod that is claimed.
pub(crate) type KnownAccount = Option<Arc<str>>;

/// `Err` is why the stream is refused, in words for the log. `pod` is the service account of the Pod object, if there
/// is such a Pod.
pub(crate) fn check(claim: &Claim<'_>, caller: &Caller, pod: &KnownAccount) -> Result<(), String> {
    let identity = &caller.identity;
    let differs =
        |what: &str, said: &str, is: &str| Err(format!("{identity}: its {what} is {is:?}, its node says {said:?}"));
    if claim.namespace != &*identity.namespace {
        return differs("namespace", claim.namespace, &identity.namespace);
    }
    if !claim.metadata_namespace.is_empty() && claim.metadata_namespace != &*identity.namespace {
        return differs("namespace", claim.metadata_namespace, &identity.namespace);
    }
    let account = &*identity.service_account;
    if !claim.metadata_service_account.is_empty() && claim.metadata_service_account != account {
        return differs("service account", claim.metadata_service_account, account);
    }
    // A node that says nothing of its account must not get more by that: the Pod object says it.
    if let Some(of_pod) = pod.as_ref().filter(|it| &***it != account) {
        return Err(format!("{identity}: pod {} runs as {of_pod:?}", claim.pod));
    }
    match &caller.pod {
        Some(bound) if *bound.name != *claim.pod => differs("pod", claim.pod, &bound.name),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ca::authenticate::{Credential, PodRef};

    fn caller(pod: Option<&str>) -> Caller {
        Caller {
            identity: "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap(),
            pod: pod.map(|name| PodRef { name: name.into(), uid: "u".into() }),
            credential: Credential::Token,
        }
    }

    fn claim<'a>(namespace: &'a str, metadata_namespace: &'a str, account: &'a str) -> Claim<'a> {
        Claim { pod: "cart-1", namespace, metadata_namespace, metadata_service_account: account }
    }

    #[test]
    fn s14_namespace_and_service_account_come_from_the_credential() {
        for (namespace, metadata, account, wrong) in [
            ("shop", "shop", "cart", None),
            ("shop", "", "", None),
            ("bank", "", "", Some("namespace")),
            ("shop", "bank", "", Some("namespace")),
            ("shop", "shop", "teller", Some("service account")),
        ] {
            let found = check(&claim(namespace, metadata, account), &caller(None), &None);
            match wrong {
                None => assert_eq!(found, Ok(())),
                Some(what) => assert!(found.unwrap_err().contains(what)),
            }
        }
    }

    #[test]
    fn s14_a_node_that_keeps_its_account_to_itself_is_held_to_its_pod_s() {
        let found = check(&claim("shop", "", ""), &caller(None), &Some("teller".into()));
        assert!(found.unwrap_err().contains("teller"));
        assert_eq!(check(&claim("shop", "", ""), &caller(None), &Some("cart".into())), Ok(()));
    }

    #[test]
    fn s15_a_token_bound_to_another_pod_is_refused() {
        let found = check(&claim("shop", "", ""), &caller(Some("cart-2")), &None);
        assert!(found.unwrap_err().contains("cart-2"));
        assert_eq!(check(&claim("shop", "", ""), &caller(Some("cart-1")), &None), Ok(()));
    }
}
