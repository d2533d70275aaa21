//! The whole way: an agent's client, real TLS on loopback, tonic's server, the authenticator, a certificate back.
use super::*;
use crate::authenticate::{Options, ReviewOutage};
use crate::bundle::{Chain, check_chain};
use crate::csr;
use crate::key::{KeyKind, KeyPem, PrivateKey};
use crate::spiffe::TrustDomains;
use crate::testing::{DAY, Reviews, TestClock, authority, good_review, identity};
use crate::tls::{ClientCerts, ServingCertificate, ServingOptions, channel, client_config, incoming, istiod_names};
use crate::wire::{Client, Struct, Value};
use std::collections::BTreeMap;
use std::time::SystemTime;

struct Ca {
    address: SocketAddr,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Ca {
    async fn start() -> Self {
        let clock = TestClock::at(SystemTime::now());
        let authority = Arc::new(authority(clock.now()));
        let (sender, current) = watch::channel(authority.clone());
        let reviews = Reviews::default()
            .with("good", Ok(good_review("default", "reviews")))
            .with("other", Ok(good_review("default", "ratings")))
            .with("outage", Err(ReviewOutage("away".to_owned())));
        let options = Options::new(TrustDomains::new("cluster.local"));
        let authenticator = Authenticator::new(options, Arc::new(reviews), current.clone(), clock.clock());
        let metrics = Arc::new(Metrics::default());
        let service = CertificateService::new(authenticator, current.clone(), clock.clock(), metrics.clone());
        let options = ServingOptions::new(istiod_names("istio-system", "", &[]));
        let serving = ServingCertificate::new(current, options, clock.clock()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = incoming(listener, serving, ClientCerts::Optional);
        let server = tokio::spawn(async move {
            let _sender = sender;
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(connections).await.unwrap();
        });
        Self { address, authority, metrics, server }
    }

    /// With a certificate, if there is one.
    fn client(&self, certificate: Option<(&str, &KeyPem)>) -> Client {
        let config = Arc::new(client_config(self.authority.roots_pem(), certificate).unwrap());
        let source = Arc::new(move || Ok(config.clone()));
        let channel = channel(&self.address.to_string(), "istiod.istio-system.svc", source).unwrap();
        Client::new(channel, "Kubernetes")
    }

    fn check(&self, key: &KeyPem, answer: &[String]) -> Chain {
        let key = PrivateKey::from_pem(key.expose().as_bytes()).unwrap();
        check_chain(answer, &key, &identity(), self.authority.roots_pem(), SystemTime::now()).unwrap()
    }
}

fn request(csr: &str) -> IstioCertificateRequest {
    IstioCertificateRequest { csr: csr.to_owned(), validity_duration: 3600, metadata: None }
}

#[tokio::test]
async fn f28_a_token_gets_a_certificate_and_the_certificate_the_next() {
    let ca = Ca::start().await;
    let (key, csr) = csr::request(&identity(), KeyKind::P256).unwrap();
    let first = ca.client(None).create_certificate(Some("good"), request(&csr)).await.unwrap();
    let chain = ca.check(&key, &first.cert_chain);
    assert_eq!(first.cert_chain.len(), 2);
    let left = chain.not_after.duration_since(SystemTime::now()).unwrap();
    assert!(left <= DAY / 24 && left > DAY / 25, "{left:?}");
    let (next_key, csr) = csr::request(&identity(), KeyKind::Rsa2048).unwrap();
    let mut client = ca.client(Some((&chain.certificates_pem, &key)));
    let next = client.create_certificate(None, request(&csr)).await.unwrap();
    ca.check(&next_key, &next.cert_chain);
    // S7: the same connection with somebody else's token.
    let refused = client.create_certificate(Some("other"), request(&csr)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!((ca.metrics.csr.value(), ca.metrics.success.value()), (3, 2));
    assert_eq!(ca.metrics.authentication_failure.value(), 1);
}

#[tokio::test]
async fn s08_s09_refusals_on_the_wire() {
    let ca = Ca::start().await;
    let csr = csr::request(&identity(), KeyKind::P256).unwrap().1;
    let mut client = ca.client(None);
    for (token, code) in
        [(None, Code::Unauthenticated), (Some("bad"), Code::Unauthenticated), (Some("outage"), Code::Unavailable)]
    {
        let refused = client.create_certificate(token, request(&csr)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{token:?}");
        assert!(!refused.message().contains("invalid bearer") && !refused.message().contains("away"), "{refused}");
    }
    let mut foreign = request(&csr);
    for (change, code) in [
        ("garbage", Code::InvalidArgument),
        (&*"x".repeat(20_000), Code::InvalidArgument),
        (&*"x".repeat(100_000), Code::OutOfRange),
    ] {
        foreign.csr = change.to_owned();
        let refused = client.create_certificate(Some("good"), foreign.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let refused = client.create_certificate(Some("other"), request(&csr)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(ca.metrics.id_extraction_error.value(), 1);
    let long = IstioCertificateRequest { validity_duration: 91 * 24 * 3600, ..request(&csr) };
    assert_eq!(client.create_certificate(Some("good"), long).await.unwrap_err().code(), Code::InvalidArgument);
    let negative = IstioCertificateRequest { validity_duration: -1, ..request(&csr) };
    client.create_certificate(Some("good"), negative).await.unwrap();
    assert_eq!((ca.metrics.csr_parsing_error.value(), ca.metrics.csr_sign_error.value()), (2, 1));
}

#[tokio::test]
async fn s13_impersonation_is_refused() {
    let ca = Ca::start().await;
    let csr = csr::request(&identity(), KeyKind::P256).unwrap().1;
    let with = |key: &str, text: Option<&str>| IstioCertificateRequest {
        metadata: Some(Struct { fields: BTreeMap::from([(key.to_owned(), Value { text: text.map(str::to_owned) })]) }),
        ..request(&csr)
    };
    let mut client = ca.client(None);
    let other = "spiffe://cluster.local/ns/default/sa/ratings";
    for text in [Some(other), None] {
        let refused = client.create_certificate(Some("good"), with("ImpersonatedIdentity", text)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    client.create_certificate(Some("good"), with("ImpersonatedIdentity", Some(""))).await.unwrap();
    client.create_certificate(Some("good"), with("CertSigner", Some("any"))).await.unwrap();
}

#[tokio::test]
async fn f35_one_pod_that_storms_is_limited() {
    let ca = Ca::start().await;
    let csr = csr::request(&identity(), KeyKind::P256).unwrap().1;
    let mut client = ca.client(None);
    let mut issued = 0;
    let refused = loop {
        match client.create_certificate(Some("good"), request(&csr)).await {
            Ok(_) => issued += 1,
            Err(refused) => break refused,
        }
        assert!(issued < 100);
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(issued >= 20, "{issued}");
    assert_eq!(ca.metrics.rate_limited.value(), 1);
}

#[tokio::test]
async fn f35_five_hundred_agents_at_once_are_served_in_time() {
    let clock = TestClock::at(SystemTime::now());
    let (_sender, current) = watch::channel(Arc::new(authority(clock.now())));
    let options = Options::new(TrustDomains::new("cluster.local"));
    let authenticator = Authenticator::new(options, Arc::new(Reviews::default()), current.clone(), clock.clock());
    let service = CertificateService::new(authenticator, current, clock.clock(), Arc::default());
    let csr = csr::request(&identity(), KeyKind::P256).unwrap().1;
    let agents = (0..500).map(|number: usize| {
        let pod = Some(PodRef { name: "reviews".into(), uid: number.to_string().into() });
        let caller = Caller { identity: identity(), pod, credential: crate::authenticate::Credential::Token };
        let (service, request) = (&service, request(&csr));
        async move { service.0.issue(&caller, request).await.is_ok() }
    });
    let storm = futures::future::join_all(agents);
    let issued = tokio::time::timeout(Duration::from_secs(30), storm).await.expect("within 30 s");
    assert_eq!(issued.iter().filter(|issued| **issued).count(), 500);
}
