//! Every way in that must be shut, one test each, and the ways in that are open.
use super::*;
use crate::certificate::Certificate;
use crate::key::{KeyKind, PrivateKey};
use crate::testing::{DAY, Maker, Reviews, TestClock, authority, good_review, identity, now, root};
use http::header::AUTHORIZATION;
use std::time::Duration;

const GOOD: &str = "good";

fn authenticator(reviews: Reviews) -> (Authenticator, Arc<Reviews>, watch::Sender<Arc<Authority>>) {
    let reviews = Arc::new(reviews);
    let (sender, authority) = watch::channel(Arc::new(authority(now())));
    let mut trust_domains = TrustDomains::new("cluster.local");
    trust_domains.aliases.push("old.example".into());
    let clock = TestClock::at(now()).clock();
    (Authenticator::new(Options::new(trust_domains), reviews.clone(), authority, clock), reviews, sender)
}

fn headers(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}

fn unauthenticated() -> Refusal {
    Refusal::Unauthenticated("request authenticate failure".to_owned())
}

async fn by_status(change: impl FnOnce(&mut TokenReviewStatus)) -> Result<Caller, Refusal> {
    let mut status = good_review("default", "reviews");
    change(&mut status);
    let (authenticator, ..) = authenticator(Reviews::default().with(GOOD, Ok(status)));
    authenticator.authenticate(&headers(GOOD), None).await
}

#[tokio::test]
async fn a_good_token_names_identity_and_pod() {
    let caller = by_status(|_| {}).await.unwrap();
    assert_eq!(caller.identity, identity());
    assert_eq!(caller.pod, Some(PodRef { name: "reviews-1".into(), uid: "uid-1".into() }));
    assert_eq!(caller.credential, Credential::Token);
    assert_eq!(by_status(|status| status.user.as_mut().unwrap().extra = None).await.unwrap().pod, None);
}

#[tokio::test]
async fn s01_without_a_credential_nobody_is_let_in() {
    let (authenticator, ..) = authenticator(Reviews::default());
    assert_eq!(authenticator.authenticate(&HeaderMap::new(), None).await, Err(unauthenticated()));
    let empty = PeerCertificates { chain: Vec::new() };
    assert_eq!(authenticator.authenticate(&HeaderMap::new(), Some(&empty)).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s02_an_answer_without_audiences_is_refused() {
    assert_eq!(by_status(|status| status.audiences = None).await, Err(unauthenticated()));
    assert_eq!(by_status(|status| status.audiences = Some(Vec::new())).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s03_a_token_of_another_audience_is_refused() {
    let other = |audience: &str| Some(vec![audience.to_owned()]);
    assert_eq!(by_status(|status| status.audiences = other("vault")).await, Err(unauthenticated()));
    let api_server = "https://kubernetes.default.svc";
    assert_eq!(by_status(|status| status.audiences = other(api_server)).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s03_expired_foreign_and_deleted_pods_tokens_are_refused() {
    // The API server says all of these with the same word and its own reasons.
    for reason in ["token has expired", "signature is invalid", "pod \"a\" has been deleted", "unknown issuer"] {
        let refused = by_status(|status| {
            *status =
                TokenReviewStatus { authenticated: Some(false), error: Some(reason.to_owned()), ..Default::default() }
        });
        assert_eq!(refused.await, Err(unauthenticated()), "{reason}");
    }
    assert_eq!(by_status(|status| status.authenticated = None).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s03_a_user_that_is_no_service_account_is_refused() {
    for name in
        ["admin", "system:node:a", "system:serviceaccount:", "system:serviceaccount:a", "system:serviceaccount::b"]
    {
        let refused = by_status(|status| status.user.as_mut().unwrap().username = Some(name.to_owned()));
        assert_eq!(refused.await, Err(unauthenticated()), "{name}");
    }
    let path = "system:serviceaccount:a:b/../c".to_owned();
    assert_eq!(by_status(|status| status.user.as_mut().unwrap().username = Some(path)).await, Err(unauthenticated()));
    assert_eq!(by_status(|status| status.user = None).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s03_a_user_outside_the_service_accounts_group_is_refused() {
    assert_eq!(by_status(|status| status.user.as_mut().unwrap().groups = None).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s04_only_the_configured_cluster_may_be_named_and_once() {
    let reviews = Reviews::default().with(GOOD, Ok(good_review("default", "reviews")));
    let (authenticator, ..) = authenticator(reviews);
    let mut named = headers(GOOD);
    named.append("clusterid", "Kubernetes".parse().unwrap());
    assert!(authenticator.authenticate(&named, None).await.is_ok());
    named.append("clusterid", "Kubernetes".parse().unwrap());
    assert_eq!(authenticator.authenticate(&named, None).await, Err(unauthenticated()));
    named.insert("clusterid", "other".parse().unwrap());
    assert_eq!(authenticator.authenticate(&named, None).await, Err(unauthenticated()));
}

#[tokio::test]
async fn malformed_authorization_is_refused_without_asking() {
    let (authenticator, reviews, _sender) = authenticator(Reviews::default());
    let long = format!("Bearer {}", "a".repeat(20_000));
    for value in ["Bearer", "Bearer  ", "Basic YTpi", "token", long.as_str()] {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert_eq!(authenticator.authenticate(&headers, None).await, Err(unauthenticated()), "{value:.20}");
    }
    let mut twice = headers("a");
    twice.append(AUTHORIZATION, "Bearer b".parse().unwrap());
    assert_eq!(authenticator.authenticate(&twice, None).await, Err(unauthenticated()));
    assert_eq!(reviews.asked(), 0);
}

/// One certificate of the mesh's own root, as changed.
async fn by_certificate(change: impl FnOnce(Maker) -> Maker) -> Result<Caller, Refusal> {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    by_certificate_of(&key, change).await
}

async fn by_certificate_of(
    key: &impl rcgen::PublicKeyData,
    change: impl FnOnce(Maker) -> Maker,
) -> Result<Caller, Refusal> {
    let (authenticator, _, sender) = authenticator(Reviews::default());
    let authority = sender.borrow().clone();
    let maker = change(Maker::workload(now(), "spiffe://cluster.local/ns/default/sa/reviews"));
    let leaf = maker.signed_by(key, &authority.bundle().signing, &authority.bundle().key);
    authenticator.authenticate(&HeaderMap::new(), Some(&PeerCertificates { chain: vec![leaf.der] })).await
}

#[tokio::test]
async fn s05_a_certificate_of_ours_is_accepted() {
    let caller = by_certificate(|maker| maker).await.unwrap();
    assert_eq!(caller, Caller { identity: identity(), pod: None, credential: Credential::Certificate });
}

#[tokio::test]
async fn s05_no_uri_is_refused() {
    let dns = rcgen::SanType::DnsName("reviews.default".try_into().unwrap());
    let refused = by_certificate(|maker| maker.with(|params| params.subject_alt_names = vec![dns])).await;
    assert_eq!(refused, Err(unauthenticated()));
    assert_eq!(
        by_certificate(|maker| maker.with(|params| params.subject_alt_names.clear())).await,
        Err(unauthenticated())
    );
}

#[tokio::test]
async fn s05_two_uris_are_refused() {
    let refused = by_certificate(|maker| maker.uri("spiffe://cluster.local/ns/default/sa/other")).await;
    assert_eq!(refused, Err(unauthenticated()));
}

#[tokio::test]
async fn s05_a_foreign_trust_domain_is_refused() {
    let foreign =
        |maker: Maker| maker.with(|params| params.subject_alt_names.clear()).uri("spiffe://evil/ns/default/sa/reviews");
    assert_eq!(by_certificate(foreign).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s05_expired_and_not_yet_valid_are_refused() {
    assert_eq!(by_certificate(|maker| maker.valid(now() - DAY * 2, now() - DAY)).await, Err(unauthenticated()));
    assert_eq!(by_certificate(|maker| maker.valid(now() + DAY, now() + DAY * 2)).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s05_a_certificate_for_servers_alone_is_refused() {
    let server = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let refused = by_certificate(|maker| maker.with(|params| params.extended_key_usages = server)).await;
    assert_eq!(refused, Err(unauthenticated()));
    assert_eq!(
        by_certificate(|maker| maker.with(|params| params.extended_key_usages.clear())).await,
        Err(unauthenticated())
    );
}

#[tokio::test]
async fn s05_a_ca_as_caller_is_refused() {
    let ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    assert_eq!(by_certificate(|maker| maker.with(|params| params.is_ca = ca)).await, Err(unauthenticated()));
}

/// An RSA key of 1024 bits: nothing that we use would make one.
struct WeakKey(Vec<u8>);

impl rcgen::PublicKeyData for WeakKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

#[tokio::test]
async fn s05_a_weak_key_is_refused() {
    // SEQUENCE { INTEGER of 128 octets, the first of them 0xc0 behind a zero, INTEGER 65537 }
    let mut der = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0, 0xc0];
    der.extend([0x55; 127]);
    der.extend([0x02, 3, 1, 0, 1]);
    assert_eq!(by_certificate_of(&WeakKey(der), |maker| maker).await, Err(unauthenticated()));
}

#[test]
fn s05_a_sha1_signature_is_refused() {
    let root = crate::bundle::Bundle::self_signed(KeyKind::Rsa2048, DAY, "cluster.local", now()).unwrap();
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let maker = Maker::workload(now(), "spiffe://cluster.local/ns/default/sa/reviews");
    let mut der = maker.signed_by(&key, &root.signing, &root.key).der.to_vec();
    assert!(certificate::check_leaf(&Certificate::from_der(der.clone().into()).unwrap()).is_ok());
    // sha256WithRSAEncryption becomes sha1WithRSAEncryption, inside and outside of what is signed.
    let algorithm = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    for at in 0..der.len() - algorithm.len() {
        if der[at..at + algorithm.len()] == algorithm {
            der[at + 8] = 5;
        }
    }
    let leaf = Certificate::from_der(der.into()).unwrap();
    assert_eq!(certificate::check_leaf(&leaf), Err(refused("the certificate is signed with SHA-1")));
}

#[tokio::test]
async fn s05_another_root_is_refused() {
    let (authenticator, ..) = authenticator(Reviews::default());
    let other = root(now());
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let maker = Maker::workload(now(), "spiffe://cluster.local/ns/default/sa/reviews");
    // The same name as ours, another key.
    let leaf = maker.signed_by(&key, &other.signing, &other.key);
    let peer = PeerCertificates { chain: vec![leaf.der, other.signing.der] };
    assert_eq!(authenticator.authenticate(&HeaderMap::new(), Some(&peer)).await, Err(unauthenticated()));
}

#[tokio::test]
async fn s07_token_and_certificate_must_agree() {
    let reviews = Reviews::default()
        .with(GOOD, Ok(good_review("default", "reviews")))
        .with("other", Ok(good_review("default", "ratings")));
    let (authenticator, _, sender) = authenticator(reviews);
    let authority = sender.borrow().clone();
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let maker = Maker::workload(now(), "spiffe://old.example/ns/default/sa/reviews");
    let leaf = maker.signed_by(&key, &authority.bundle().signing, &authority.bundle().key);
    let peer = PeerCertificates { chain: vec![leaf.der] };
    // S30: the alias is accepted, and not handed on.
    let caller = authenticator.authenticate(&headers(GOOD), Some(&peer)).await.unwrap();
    assert_eq!((caller.identity, caller.credential), (identity(), Credential::Token));
    assert_eq!(authenticator.authenticate(&headers("other"), Some(&peer)).await, Err(unauthenticated()));
    assert_eq!(authenticator.authenticate(&headers("bad"), Some(&peer)).await, Err(unauthenticated()));
    assert_eq!(authenticator.authenticate(&HeaderMap::new(), Some(&peer)).await.unwrap().identity, identity());
}

#[tokio::test(start_paused = true)]
async fn s08_answers_are_remembered_for_a_minute_and_refusals_for_five_seconds() {
    let (authenticator, reviews, _sender) = authenticator(Reviews::default().with(GOOD, Ok(good_review("a", "b"))));
    let ask = async |token: &str| authenticator.authenticate(&headers(token), None).await.is_ok();
    assert!(ask(GOOD).await && ask(GOOD).await);
    assert_eq!(reviews.asked(), 1);
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(ask(GOOD).await);
    assert_eq!(reviews.asked(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(ask(GOOD).await);
    assert_eq!(reviews.asked(), 2);
    assert!(!ask("bad").await && !ask("bad").await);
    assert_eq!(reviews.asked(), 3);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(!ask("bad").await);
    assert_eq!(reviews.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn s08_a_token_is_not_remembered_past_its_own_end() {
    use base64::Engine as _;
    let end = crate::clock::unix_s(now()) + 10;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{end}}}"));
    let token = format!("e30.{payload}.sig");
    let (authenticator, reviews, _sender) = authenticator(Reviews::default().with(&token, Ok(good_review("a", "b"))));
    assert!(authenticator.authenticate(&headers(&token), None).await.is_ok());
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(authenticator.authenticate(&headers(&token), None).await.is_ok());
    assert_eq!(reviews.asked(), 2);
}

#[tokio::test]
async fn s08_an_outage_is_unavailable_and_not_remembered() {
    let outage = Err(ReviewOutage("connection refused to 10.0.0.1".to_owned()));
    let (authenticator, reviews, _sender) = authenticator(Reviews::default().with(GOOD, outage));
    for asked in 1..3 {
        let refusal = authenticator.authenticate(&headers(GOOD), None).await.unwrap_err();
        assert!(matches!(&refusal, Refusal::Unavailable(text) if !text.contains("10.0.0.1")), "{refusal:?}");
        assert_eq!(reviews.asked(), asked);
    }
}

struct Silent;

impl TokenReviewer for Silent {
    fn review<'a>(&'a self, _: &'a str, _: &'a [String]) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewOutage>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn s08_a_silent_api_server_is_an_outage() {
    let (_sender, authority) = watch::channel(Arc::new(authority(now())));
    let options = Options::new(TrustDomains::new("cluster.local"));
    let authenticator = Authenticator::new(options, Arc::new(Silent), authority, TestClock::at(now()).clock());
    let refusal = authenticator.authenticate(&headers(GOOD), None).await;
    assert!(matches!(refusal, Err(Refusal::Unavailable(_))), "{refusal:?}");
}

#[test]
fn s09_what_is_logged_has_no_control_characters() {
    let escaped = Escaped::new(&format!("a\nb\u{1b}[31m\r{}", "x".repeat(1000))).to_string();
    assert!(!escaped.chars().any(char::is_control), "{escaped}");
    assert!(escaped.starts_with("a\\u{a}b\\u{1b}[31m\\u{d}x"), "{escaped}");
    assert!(escaped.len() < 600);
}

#[tokio::test]
async fn s24_tokens_are_not_shown() {
    let (authenticator, ..) = authenticator(Reviews::default().with("secret-token", Ok(good_review("a", "b"))));
    let caller = authenticator.authenticate(&headers("secret-token"), None).await;
    assert!(!format!("{authenticator:?} {caller:?}").contains("secret-token"));
}
