//! istiod's certificate over real connections on loopback.
use super::*;
use crate::bundle::Bundle;
use crate::testing::{DAY, Maker, TestClock, authority, identity, root};
use bytes_of::Text;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const NAME: &str = "istiod.istio-system.svc";

fn serving(clock: &TestClock) -> (ServingCertificate, watch::Sender<Arc<Authority>>) {
    let (sender, receiver) = watch::channel(Arc::new(authority(clock.now())));
    let options = ServingOptions::new(istiod_names("istio-system", "canary", &["custom.example".to_owned()]));
    (ServingCertificate::new(receiver, options, clock.clock()).unwrap(), sender)
}

/// A clock at the real time: rustls looks at the machine's.
fn today() -> TestClock {
    TestClock::at(SystemTime::now())
}

#[test]
fn names_of_istiod() {
    let names = istiod_names("istio-system", "canary", &["custom.example".to_owned(), "istiod".to_owned()]);
    for name in [
        NAME,
        "istiod",
        "istiod.istio-system",
        "istiod-canary.istio-system.svc",
        "istio-pilot.istio-system.svc",
        "custom.example",
    ] {
        assert_eq!(names.iter().filter(|found| *found == name).count(), 1, "{name}");
    }
    assert!(!istiod_names("istio-system", "default", &[]).iter().any(|name| name.contains("default")));
}

#[test]
fn s55_the_certificate_is_renewed_in_half_its_life_and_with_another_authority() {
    let clock = today();
    let (serving, sender) = serving(&clock);
    let config = |serving: &ServingCertificate| serving.server_config(ClientCerts::Optional, Protocols::Grpc).unwrap();
    let (first, first_config) = (serving.certificate(), config(&serving));
    assert!(Arc::ptr_eq(&first_config, &config(&serving)));
    clock.advance(DAY / 2 - Duration::from_secs(1));
    assert!(Arc::ptr_eq(&first, &serving.certificate()));
    clock.advance(Duration::from_secs(2));
    let second = serving.certificate();
    assert_ne!(first.cert, second.cert);
    assert!(!Arc::ptr_eq(&first_config, &config(&serving)), "S32: sessions are not carried over");
    sender.send_replace(Arc::new(authority(clock.now())));
    let third = serving.certificate();
    assert_ne!(second.cert, third.cert);
    let leaf = Certificate::from_der(third.cert[0].clone()).unwrap();
    assert!(leaf.is_signed_by(&sender.borrow().bundle().signing));
    assert!(leaf.facts.dns_names.contains(&NAME.to_owned()));
}

#[test]
fn f31_an_authority_that_cannot_sign_leaves_the_certificate() {
    let clock = today();
    let (serving, sender) = serving(&clock);
    let first = serving.certificate();
    let expired = Bundle::self_signed(KeyKind::P256, DAY, "cluster.local", clock.now() - DAY * 2).unwrap();
    sender.send_replace(Arc::new(Authority::new(expired, crate::authority::Options::default())));
    assert!(Arc::ptr_eq(&first, &serving.certificate()));
    assert!(Arc::ptr_eq(&first, &serving.certificate()));
}

async fn listen(
    serving: &ServingCertificate,
    clients: ClientCerts,
) -> (SocketAddr, impl futures::Stream<Item = std::io::Result<TlsConnection>> + use<>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), incoming(listener, serving.clone(), clients))
}

/// One octet there and back, so that both sides know what the other thinks of their certificates.
async fn exchange(
    serving: &ServingCertificate,
    clients: ClientCerts,
    config: rustls::ClientConfig,
) -> std::io::Result<ConnectionInfo> {
    use futures::StreamExt as _;
    let (address, connections) = listen(serving, clients).await;
    let mut connections = std::pin::pin!(connections);
    let client = async {
        let stream = TcpStream::connect(address).await?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(NAME.try_into().unwrap(), stream).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await.map(drop)
    };
    let server = async {
        let mut connection = connections.next().await.unwrap()?;
        let octet = connection.read_u8().await?;
        connection.write_all(&[octet]).await?;
        connection.flush().await?;
        Ok::<_, std::io::Error>(connection.info().clone())
    };
    // A handshake that fails is never yielded: the client's error ends it.
    tokio::select! {
        biased;
        both = async { tokio::try_join!(client, server) } => both.map(|(_, info)| info),
        () = tokio::time::sleep(Duration::from_secs(20)) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

fn client_certificate(issuer: &Bundle, maker: Maker) -> (String, crate::key::KeyPem) {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let leaf = maker.signed_by(&key, &issuer.signing, &issuer.key);
    (leaf.to_pem(), key.to_pem().unwrap())
}

#[tokio::test]
async fn a_client_certificate_is_optional_but_must_be_ours() {
    let clock = today();
    let (serving, sender) = serving(&clock);
    let authority = sender.borrow().clone();
    let roots = authority.roots_pem();
    let uri = identity().to_string();
    let none = exchange(&serving, ClientCerts::Optional, client_config(roots, None).unwrap()).await.unwrap();
    assert!(none.peer.is_none() && none.remote.is_some());
    let (chain, key) = client_certificate(authority.bundle(), Maker::workload(clock.now(), &uri));
    let config = client_config(roots, Some((&chain, &key))).unwrap();
    let ours = exchange(&serving, ClientCerts::Optional, config.clone()).await.unwrap();
    assert_eq!(
        crate::certificate::to_pem(&[Certificate::from_der(ours.peer.unwrap().chain[0].clone()).unwrap()]),
        chain
    );
    assert!(exchange(&serving, ClientCerts::None, config).await.unwrap().peer.is_none());
    let other = root(clock.now());
    let expired = Maker::workload(clock.now(), &uri).valid(clock.now() - DAY * 2, clock.now() - DAY);
    for (chain, key) in [
        client_certificate(&other, Maker::workload(clock.now(), &uri)),
        client_certificate(authority.bundle(), expired),
    ] {
        let config = client_config(roots, Some((&chain, &key))).unwrap();
        let error = exchange(&serving, ClientCerts::Optional, config).await.unwrap_err();
        assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    }
}

#[tokio::test]
async fn s32_a_client_with_other_roots_is_not_talked_into_it_and_tls_is_at_least_1_2() {
    let clock = today();
    let (serving, sender) = serving(&clock);
    let other = root(clock.now()).roots_pem();
    assert!(exchange(&serving, ClientCerts::Optional, client_config(&other, None).unwrap()).await.is_err());
    // A client of before the change fails, one of after it gets in: no restart.
    let old = sender.borrow().roots_pem().clone();
    sender.send_replace(Arc::new(authority(clock.now())));
    assert!(exchange(&serving, ClientCerts::Optional, client_config(&old, None).unwrap()).await.is_err());
    let new = sender.borrow().roots_pem().clone();
    exchange(&serving, ClientCerts::Optional, client_config(&new, None).unwrap()).await.unwrap();
    let config = serving.server_config(ClientCerts::Optional, Protocols::Grpc).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2"]);
}

#[tokio::test]
async fn s49_a_client_that_says_nothing_does_not_hold_up_others() {
    use futures::StreamExt as _;
    let (serving, sender) = serving(&today());
    let (address, connections) = listen(&serving, ClientCerts::None).await;
    let mut connections = std::pin::pin!(connections);
    let silent = TcpStream::connect(address).await.unwrap();
    let config = client_config(sender.borrow().roots_pem(), None).unwrap();
    let client = async {
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(NAME.try_into().unwrap(), stream).await.unwrap()
    };
    let (_client, connection) = tokio::join!(client, connections.next());
    assert_ne!(connection.unwrap().unwrap().info().remote, silent.local_addr().ok());
}

#[tokio::test]
async fn http_is_served_with_the_connection_in_the_extensions() {
    let (serving, sender) = serving(&today());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = tower::service_fn(async |request: http::Request<hyper::body::Incoming>| {
        let remote = remote(request.extensions()).unwrap();
        Ok::<_, Infallible>(http::Response::new(Text::new(format!("{:?} {}", request.version(), remote.ip()))))
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let connections = incoming_http(listener, serving, ClientCerts::None);
    let server = serve_http(connections, service, async { drop(stopped.await) });
    let mut config = client_config(sender.borrow().roots_pem(), None).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let client = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(NAME.try_into().unwrap(), stream).await.unwrap();
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.send(()).unwrap();
        answer
    };
    let ((), answer) = tokio::join!(server, client);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\nHTTP/1.1 127.0.0.1\r"), "{answer}");
}

/// The smallest body there is.
mod bytes_of {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(super) struct Text(Option<std::collections::VecDeque<u8>>);

    impl Text {
        pub(super) fn new(text: String) -> Self {
            Self(Some(text.into_bytes().into()))
        }
    }

    impl hyper::body::Body for Text {
        type Data = std::collections::VecDeque<u8>;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Infallible>>> {
            Poll::Ready(self.0.take().map(|data| Ok(hyper::body::Frame::data(data))))
        }
    }
}
