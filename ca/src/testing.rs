//! Helpers of the tests: a clock that is told the time, authorities, certificates with one thing wrong, a reviewer and a
//! store that answer as told.
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

use crate::authenticate::{ReviewOutage, TokenReviewer};
use crate::authority::{Authority, Options};
use crate::bundle::{Bundle, Files};
use crate::certificate::Certificate;
use crate::clock::Clock;
use crate::key::{KeyKind, PrivateKey};
use crate::spiffe::Identity;
use crate::store::{AccessError, Bytes, Store, Stored};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A moment for tests of pure functions.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A clock that stands until it is moved.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn at(now: SystemTime) -> Self {
        Self(Arc::new(AtomicU64::new(now.duration_since(UNIX_EPOCH).unwrap().as_secs())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || clock.now())
    }
}

pub(crate) fn identity() -> Identity {
    Identity::new("cluster.local", "default", "reviews")
}

pub(crate) fn root(now: SystemTime) -> Bundle {
    Bundle::self_signed(KeyKind::P256, TEN_YEARS, "cluster.local", now).unwrap()
}

pub(crate) fn authority(now: SystemTime) -> Authority {
    Authority::new(root(now), Options::default())
}

/// Certificates of any shape, for what our own code would never make.
pub(crate) struct Maker {
    pub(crate) params: rcgen::CertificateParams,
}

impl Maker {
    pub(crate) fn new(now: SystemTime) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        let maker = Self { params };
        maker.valid(now - DAY, now + DAY)
    }

    pub(crate) fn workload(now: SystemTime, uri: &str) -> Self {
        let mut maker = Self::new(now).uri(uri);
        maker.params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        maker
    }

    pub(crate) fn authority(now: SystemTime, name: &str) -> Self {
        let mut maker = Self::new(now).valid(now - DAY, now + DAY * 100).named(name);
        maker.params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        maker.params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        maker
    }

    pub(crate) fn uri(mut self, uri: &str) -> Self {
        self.params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
        self
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.params.distinguished_name.push(rcgen::DnType::CommonName, name);
        self
    }

    pub(crate) fn path_length(mut self, most: u8) -> Self {
        self.params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(most));
        self
    }

    pub(crate) fn valid(mut self, from: SystemTime, to: SystemTime) -> Self {
        let at = |time: SystemTime| rcgen::date_time_ymd(1970, 1, 1) + time.duration_since(UNIX_EPOCH).unwrap();
        self.params.not_before = at(from);
        self.params.not_after = at(to);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    pub(crate) fn signed_by(
        &self,
        key: &impl rcgen::PublicKeyData,
        issuer: &Certificate,
        by: &PrivateKey,
    ) -> Certificate {
        let issuer = rcgen::Issuer::from_ca_cert_der(&issuer.der, by).unwrap();
        Certificate::from_der(self.params.signed_by(key, &issuer).unwrap().into()).unwrap()
    }

    pub(crate) fn self_signed(&self, key: &PrivateKey) -> Certificate {
        Certificate::from_der(self.params.self_signed(key).unwrap().into()).unwrap()
    }
}

/// A plugged-in CA: root, intermediate, signing certificate.
pub(crate) struct Plugged {
    pub(crate) root: Certificate,
    pub(crate) middle: Certificate,
    pub(crate) signing: Certificate,
    pub(crate) key: PrivateKey,
    pub(crate) root_key: PrivateKey,
}

impl Plugged {
    pub(crate) fn new(now: SystemTime) -> Self {
        let [root_key, middle_key, key] = [(); 3].map(|()| PrivateKey::generate(KeyKind::P256).unwrap());
        let root = Maker::authority(now, "root").self_signed(&root_key);
        let middle = Maker::authority(now, "middle").signed_by(&middle_key, &root, &root_key);
        let signing = Maker::authority(now, "signing").signed_by(&key, &middle, &middle_key);
        Self { root, middle, signing, key, root_key }
    }

    pub(crate) fn files(&self) -> Files {
        files([
            ("ca-cert.pem", self.signing.to_pem()),
            ("ca-key.pem", self.key.to_pem().unwrap().expose().to_owned()),
            ("cert-chain.pem", format!("{}{}", self.signing.to_pem(), self.middle.to_pem())),
            ("root-cert.pem", self.root.to_pem()),
        ])
    }
}

pub(crate) fn files<const N: usize>(files: [(&str, String); N]) -> Files {
    files.into_iter().map(|(name, text)| (name.to_owned(), Bytes::new(text.into_bytes()))).collect()
}

/// Answers of the API server by token; unknown tokens are not accepted.
#[derive(Default)]
pub(crate) struct Reviews {
    pub(crate) answers: BTreeMap<String, Result<TokenReviewStatus, ReviewOutage>>,
    pub(crate) asked: AtomicUsize,
}

impl Reviews {
    pub(crate) fn with(mut self, token: &str, answer: Result<TokenReviewStatus, ReviewOutage>) -> Self {
        self.answers.insert(token.to_owned(), answer);
        self
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl TokenReviewer for Reviews {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewOutage>> {
        assert_eq!(audiences, ["istio-ca"]);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let invalid = TokenReviewStatus { error: Some("invalid bearer token".to_owned()), ..Default::default() };
        std::future::ready(self.answers.get(token).cloned().unwrap_or(Ok(invalid))).boxed()
    }
}

/// What the API server says of a good token of a pod.
pub(crate) fn good_review(namespace: &str, service_account: &str) -> TokenReviewStatus {
    let extra =
        [("authentication.kubernetes.io/pod-name", "reviews-1"), ("authentication.kubernetes.io/pod-uid", "uid-1")];
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec!["istio-ca".to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some(format!("system:serviceaccount:{namespace}:{service_account}")),
            groups: Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]),
            uid: Some("sa-uid".to_owned()),
            extra: Some(extra.into_iter().map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).collect()),
        }),
    }
}

/// Secrets in memory with versions and a history. Every call lets others go first once, so that a test that polls by hand
/// decides the order.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) secrets: Mutex<BTreeMap<String, (u64, Files)>>,
    pub(crate) history: Mutex<Vec<Files>>,
    pub(crate) failures: Mutex<usize>,
}

impl Memory {
    pub(crate) fn put(&self, name: &str, files: &Files) {
        let mut secrets = self.secrets.lock().unwrap();
        let version = secrets.get(name).map_or(0, |(version, _)| *version) + 1;
        secrets.insert(name.to_owned(), (version, files.clone()));
        self.history.lock().unwrap().push(files.clone());
    }

    pub(crate) fn files(&self, name: &str) -> Option<Files> {
        self.secrets.lock().unwrap().get(name).map(|(_, files)| files.clone())
    }

    pub(crate) fn writes(&self) -> usize {
        self.history.lock().unwrap().len()
    }

    async fn turn(&self) -> Result<(), AccessError> {
        let mut first = true;
        poll_fn(|context| {
            if std::mem::take(&mut first) {
                context.waker().wake_by_ref();
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(AccessError::Unavailable("told to fail".to_owned()));
        }
        Ok(())
    }
}

impl Store for Memory {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, AccessError>> {
        async move {
            self.turn().await?;
            let secrets = self.secrets.lock().unwrap();
            Ok(secrets.get(name).map(|(version, files)| Stored { version: version.to_string(), files: files.clone() }))
        }
        .boxed()
    }

    fn create<'a>(&'a self, name: &'a str, files: &'a Files) -> BoxFuture<'a, Result<(), AccessError>> {
        async move {
            self.turn().await?;
            if self.files(name).is_some() {
                return Err(AccessError::Conflict);
            }
            self.put(name, files);
            Ok(())
        }
        .boxed()
    }

    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        files: &'a Files,
    ) -> BoxFuture<'a, Result<(), AccessError>> {
        async move {
            self.turn().await?;
            let found = self.secrets.lock().unwrap().get(name).map(|(version, _)| version.to_string());
            if found.as_deref() != Some(version) {
                return Err(AccessError::Conflict);
            }
            self.put(name, files);
            Ok(())
        }
        .boxed()
    }
}

/// Polls until done: for futures that wait for nothing but their turn.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = futures::task::noop_waker();
    let mut context = std::task::Context::from_waker(&waker);
    for _ in 0..TURNS_MAX {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("still not done after {TURNS_MAX} turns");
}

const TURNS_MAX: usize = 10_000;

/// An API server that stores objects by path, with versions, creates and replaces as the real one does, and can be told to
/// fail the next request.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, serde_json::Value>,
    version: u64,
    verbs: Vec<String>,
    fail_next: Option<()>,
}

impl FakeApi {
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (status, answer) = api.0.lock().unwrap().answer(&parts, &body);
                let answer = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, kube::Error>(http::Response::builder().status(status).body(answer).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    pub(crate) fn object(&self, path: &str) -> Option<serde_json::Value> {
        self.0.lock().unwrap().by_path.get(path).cloned()
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut serde_json::Value)) {
        change(self.0.lock().unwrap().by_path.get_mut(path).unwrap());
    }

    pub(crate) fn fail(&self) {
        self.0.lock().unwrap().fail_next = Some(());
    }

    pub(crate) fn verbs(&self) -> Vec<String> {
        self.0.lock().unwrap().verbs.clone()
    }
}

impl Objects {
    fn answer(&mut self, parts: &http::request::Parts, body: &[u8]) -> (u16, serde_json::Value) {
        self.verbs.push(parts.method.to_string());
        if self.fail_next.take().is_some() {
            return (
                500,
                serde_json::json!({"kind": "Status", "status": "Failure", "code": 500, "message": "told to"}),
            );
        }
        let failure = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            (code, serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}))
        };
        let mut path = parts.uri.path().to_owned();
        if parts.method == http::Method::GET {
            return self.by_path.get(&path).map_or_else(|| failure(404), |object| (200, object.clone()));
        }
        let mut object: serde_json::Value = serde_json::from_slice(body).unwrap();
        if parts.method == http::Method::POST {
            path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            if self.by_path.contains_key(&path) {
                return failure(409);
            }
        } else if self.by_path[&path]["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return failure(409);
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.by_path.insert(path, object.clone());
        (200, object)
    }
}
