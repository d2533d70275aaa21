//! Callers known by a service account's token: reviewed by the API server, remembered for a moment.
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use sha2::Digest as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Caller, Credential, Escaped, Failure, Options, PodRef, ReviewOutage, TokenReviewer, refused};
use crate::clock::unix_s;
use crate::spiffe::Identity;

/// The token of a request, if it brings one. A header that is there must be right.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refused("the header authorization stands more than once"));
    }
    let text = value.to_str().map_err(|_| refused("the header authorization is not text"))?;
    let (scheme, token) = text.split_once(' ').ok_or_else(|| refused("the header authorization holds no token"))?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(refused("the header authorization holds no bearer token"));
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(refused("the token is too long"));
    }
    Ok(Some(token))
}

/// Reviews, with what was answered lately.
pub(super) struct Tokens {
    reviewer: Arc<dyn TokenReviewer>,
    remembered: Mutex<Remembered>,
    slots: Semaphore,
}

struct Remembered {
    good: Recent<TokenHash, Caller>,
    bad: Recent<TokenHash, Escaped>,
}

type TokenHash = [u8; 32];

impl Tokens {
    pub(super) fn new(reviewer: Arc<dyn TokenReviewer>) -> Self {
        let remembered = Remembered { good: Recent::new(REMEMBERED_MAX), bad: Recent::new(REMEMBERED_MAX) };
        Self { reviewer, remembered: Mutex::new(remembered), slots: Semaphore::new(REVIEWS_AT_ONCE_MAX) }
    }

    pub(super) async fn caller(&self, token: &str, options: &Options, now: SystemTime) -> Result<Caller, Failure> {
        let hash: TokenHash = sha2::Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.known(&hash) {
            return known;
        }
        let review = async {
            let _slot = self.slots.acquire().await.map_err(|error| ReviewOutage(error.to_string()))?;
            self.reviewer.review(token, &options.audiences).await
        };
        let outage = |text: &str| Failure::Outage(Escaped::new(text));
        let review = tokio::time::timeout(REVIEW_TIMEOUT, review).await;
        let status = review.map_err(|_| outage("the review took too long"))?;
        let status = status.map_err(|error| outage(&error.to_string()))?;
        let judged = judge(&status, options);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        match &judged {
            Ok(caller) => remembered.good.insert(hash, caller.clone(), good_for(token, now)),
            Err(detail) => remembered.bad.insert(hash, detail.clone(), BAD_FOR),
        }
        judged.map_err(Failure::Refused)
    }

    fn known(&self, hash: &TokenHash) -> Option<Result<Caller, Failure>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = remembered.good.get(hash) {
            return Some(Ok(caller.clone()));
        }
        remembered.bad.get(hash).map(|detail| Err(Failure::Refused(detail.clone())))
    }
}

/// Whom a review's answer names (S2, S3). Pure.
pub(super) fn judge(status: &TokenReviewStatus, options: &Options) -> Result<Caller, Escaped> {
    if status.authenticated != Some(true) {
        let error = status.error.as_deref().unwrap_or("without a reason");
        return Err(Escaped::new(&format!("the API server does not accept the token: {error}")));
    }
    // An authenticator that knows no audiences answers without any: it would accept tokens meant for others.
    let audiences = status.audiences.as_deref().unwrap_or_default();
    if !audiences.iter().any(|audience| options.audiences.contains(audience)) {
        return Err(Escaped::new(&format!(
            "the token is for the audiences {audiences:?}, not {:?}",
            options.audiences
        )));
    }
    let nobody = UserInfo::default();
    let user = status.user.as_ref().unwrap_or(&nobody);
    if !user.groups.iter().flatten().any(|group| group == SERVICE_ACCOUNTS) {
        return Err(Escaped::new("the token is not a service account's"));
    }
    let name = user.username.as_deref().unwrap_or_default();
    let parts = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let Some((namespace, service_account)) = parts else {
        return Err(Escaped::new(&format!("the token's user {name:?} is no service account")));
    };
    let trust_domain = &options.trust_domains.local;
    // Through the parser, so that no name of another's making gets into a certificate.
    let identity = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}").parse::<Identity>();
    let identity = identity.map_err(|error| Escaped::new(&format!("the token's user {name:?}: {error}")))?;
    Ok(Caller { identity, pod: pod(user), credential: Credential::Token })
}

fn pod(user: &UserInfo) -> Option<PodRef> {
    let extra = |key: &str| match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(Arc::<str>::from(value.as_str())),
        _ => None,
    };
    Some(PodRef {
        name: extra("authentication.kubernetes.io/pod-name")?,
        uid: extra("authentication.kubernetes.io/pod-uid")?,
    })
}

/// At most a minute, and never past the token's own end (which it states itself; it was just found genuine).
fn good_for(token: &str, now: SystemTime) -> Duration {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let end_s = claims.and_then(|claims| claims.get("exp")?.as_i64());
    let left = end_s.map_or(GOOD_FOR, |end| {
        Duration::from_secs(u64::try_from(end.saturating_sub(unix_s(now))).unwrap_or_default())
    });
    left.min(GOOD_FOR)
}

/// A map whose entries end, and which is never larger than told: the oldest goes first.
struct Recent<K, V> {
    entries: HashMap<K, (Instant, V)>,
    order: VecDeque<K>,
    entries_max: usize,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), entries_max }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).filter(|(end, _)| *end > Instant::now()).map(|(_, value)| value)
    }

    fn insert(&mut self, key: K, value: V, lifetime: Duration) {
        if self.entries.insert(key.clone(), (Instant::now() + lifetime, value)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.entries_max {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

/// Asks the cluster's API server.
#[derive(Clone)]
pub struct KubeReviewer {
    reviews: kube::Api<TokenReview>,
}

impl KubeReviewer {
    pub fn new(client: kube::Client) -> Self {
        Self { reviews: kube::Api::all(client) }
    }
}

impl std::fmt::Debug for KubeReviewer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KubeReviewer")
    }
}

impl TokenReviewer for KubeReviewer {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewOutage>> {
        let spec = TokenReviewSpec { audiences: Some(audiences.to_vec()), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        async move {
            let answer = self.reviews.create(&kube::api::PostParams::default(), &review).await;
            let answer = answer.map_err(|error| ReviewOutage(error.to_string()))?;
            answer.status.ok_or_else(|| ReviewOutage("an answer without a status".to_owned()))
        }
        .boxed()
    }
}

const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// S8: how long an answer is good for. A deleted pod's token may pass this long.
const GOOD_FOR: Duration = Duration::from_secs(60);
const BAD_FOR: Duration = Duration::from_secs(5);
/// Tokens remembered, good and bad each: 16 Ki pods, about 5 MiB.
const REMEMBERED_MAX: usize = 16 * 1024;
/// Reviews under way at once: a storm of new connections must not become one at the API server.
const REVIEWS_AT_ONCE_MAX: usize = 64;
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);
/// Projected tokens are about 1 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeApi;

    #[tokio::test]
    async fn s02_a_review_names_the_audience_and_an_error_of_the_server_is_an_outage() {
        let api = FakeApi::default();
        let reviewer = KubeReviewer::new(api.client());
        // This API server only stores what it gets: an answer without a status is no answer.
        let audiences = ["istio-ca".to_owned()];
        assert!(reviewer.review("token", &audiences).await.is_err());
        let asked = api.object("/apis/authentication.k8s.io/v1/tokenreviews/").unwrap();
        assert_eq!(asked["spec"], serde_json::json!({"audiences": ["istio-ca"], "token": "token"}));
        api.fail();
        let outage = reviewer.review("token", &audiences).await.unwrap_err();
        assert!(!outage.to_string().contains("token\""), "{outage}");
    }
}
