//! The application's own probes, asked by the agent in kubelet's place: kubelet cannot get past mTLS. Only the probes the
//! injector listed are asked, so that this is no way past Envoy (S40).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::client::{self, ClientError, Way};

/// As much of the application's answer as kubelet shows.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// An application's answer that is larger than this is an error.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// As kubelet: more redirects are a failure.
const REDIRECTS_MAX: usize = 10;
/// Of lifecycle hooks, which have no limit of their own.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub action: Action,
    /// How long it may take.
    pub timeout: Duration,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An HTTP GET.
    Http {
        /// Port.
        port: u16,
        /// Path with the slash.
        path: String,
        /// With TLS or not.
        scheme: Scheme,
    },
    /// A connection.
    Tcp {
        /// Port.
        port: u16,
    },
    /// grpc.health.v1.Health/Check
    Grpc {
        /// Port.
        port: u16,
        /// Service, may be empty.
        service: String,
    },
}

/// With TLS or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without.
    Http,
    /// With, unverified: kubelet does not verify either.
    Https,
}

/// What kubelet is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Result {
    /// Status.
    pub status: StatusCode,
    /// The start of the application's answer.
    pub body: Bytes,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: u32,
}

#[derive(serde::Deserialize)]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    scheme: String,
}

#[derive(serde::Deserialize)]
struct TcpSocket {
    port: u16,
}

#[derive(serde::Deserialize)]
struct Grpc {
    port: u16,
    service: Option<String>,
}

/// Reads `ISTIO_KUBE_APP_PROBERS`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(json: &str) -> std::result::Result<BTreeMap<String, Probe>, String> {
    let wire: BTreeMap<String, Wire> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    wire.into_iter()
        .map(|(path, wire)| {
            if !is_probe_path(&path) {
                return Err(format!("{path:?} is no path of a probe"));
            }
            let action = match (wire.http_get, wire.tcp_socket, wire.grpc) {
                (Some(http), None, None) => Action::Http {
                    port: http.port,
                    path: if http.path.starts_with('/') { http.path } else { format!("/{}", http.path) },
                    scheme: if http.scheme == "HTTPS" { Scheme::Https } else { Scheme::Http },
                },
                (None, Some(tcp), None) => Action::Tcp { port: tcp.port },
                (None, None, Some(grpc)) => Action::Grpc { port: grpc.port, service: grpc.service.unwrap_or_default() },
                _ => return Err(format!("{path}: exactly one of httpGet, tcpSocket and grpc is needed")),
            };
            let timeout = match wire.timeout_seconds {
                0 => TIMEOUT_DEFAULT,
                seconds => Duration::from_secs(seconds.into()),
            };
            Ok((path, Probe { action, timeout }))
        })
        .collect()
}

/// `/app-health/CONTAINER/livez` and its like.
fn is_probe_path(path: &str) -> bool {
    let mut parts = path.split('/');
    matches!(
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()),
        (
            Some(""),
            Some("app-health" | "app-lifecycle"),
            Some(container),
            Some("livez" | "readyz" | "startupz" | "prestopz" | "poststartz"),
            None
        ) if !container.is_empty()
    )
}

/// Asks the application. `headers` are kubelet's, `status_port` the agent's own.
pub async fn ask(probe: &Probe, application: IpAddr, headers: &HeaderMap, status_port: u16) -> Result {
    answer(probe, application, headers, status_port).await.unwrap_or_else(|reason| {
        tracing::info!(reason, probe = ?probe.action, "the application did not answer a probe");
        plain(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

/// [`ask`], with the reason if there is no answer.
pub(crate) async fn answer(
    probe: &Probe,
    application: IpAddr,
    headers: &HeaderMap,
    status_port: u16,
) -> std::result::Result<Result, String> {
    let asking = async {
        match &probe.action {
            Action::Http { port, path, scheme } => {
                let to = SocketAddr::new(application, *port);
                http(to, path, *scheme, probe.timeout, headers, status_port).await
            }
            Action::Tcp { port } => {
                let connected = client::connect(SocketAddr::new(application, *port), source(application)).await;
                connected.map(|_connection| plain(StatusCode::OK)).map_err(|error| error.to_string())
            }
            Action::Grpc { port, service } => grpc(SocketAddr::new(application, *port), service).await,
        }
    };
    match tokio::time::timeout(probe.timeout, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Timeout(probe.timeout).to_string()),
    }
}

fn plain(status: StatusCode) -> Result {
    Result { status, body: Bytes::new() }
}

/// The address capture rules let pass.
fn source(application: IpAddr) -> Option<IpAddr> {
    Some(match application {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    })
}

async fn http(
    to: SocketAddr,
    path: &str,
    scheme: Scheme,
    timeout: Duration,
    headers: &HeaderMap,
    status_port: u16,
) -> std::result::Result<Result, String> {
    let host = host(headers, status_port, to);
    let mut path = path.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        let mut request = Request::get(path.as_str()).body(Empty::new()).map_err(|error| error.to_string())?;
        *request.headers_mut() = forwarded(headers);
        request.headers_mut().insert(header::HOST, host.parse().map_err(|_| format!("host {host:?}"))?);
        let tls = (scheme == Scheme::Https).then(unverified).transpose().map_err(|error| error.to_string())?;
        let way = Way { address: to, source: source(to.ip()), tls };
        let answer = client::send(request, way, timeout, READ_BYTES_MAX).await.map_err(|error| error.to_string())?;
        if !answer.status.is_redirection() {
            let body = answer.body.slice(..answer.body.len().min(BODY_BYTES_MAX));
            return Ok(Result { status: answer.status, body });
        }
        match same_place(answer.headers.get(header::LOCATION), &host) {
            Some(next) => path = next,
            // As kubelet: whoever sends us elsewhere is alive.
            None => return Ok(plain(StatusCode::OK)),
        }
    }
    Err(format!("more than {REDIRECTS_MAX} redirects"))
}

/// kubelet's headers as they came, without those of its connection.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE] {
        headers.remove(name);
    }
    headers
}

/// The probe's `Host`: the agent's port in it becomes the application's.
fn host(headers: &HeaderMap, status_port: u16, to: SocketAddr) -> String {
    let said = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match said.rsplit_once(':') {
        _ if said.is_empty() => to.to_string(),
        Some((host, port)) if port.parse() == Ok(status_port) => format!("{host}:{}", to.port()),
        _ => said.to_owned(),
    }
}

/// The path of a redirect that stays with the same host name.
fn same_place(location: Option<&http::HeaderValue>, host: &str) -> Option<String> {
    let uri: Uri = location?.to_str().ok()?.parse().ok()?;
    let bare = |host: &str| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned();
    let same = uri.authority().is_none_or(|authority| bare(authority.as_str()) == bare(host));
    let path = uri.path_and_query()?.as_str();
    (same && path.starts_with('/')).then(|| path.to_owned())
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// grpc.health.v1's word for healthy.
const SERVING: i32 = 1;

async fn grpc(to: SocketAddr, service: &str) -> std::result::Result<Result, String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{to}")).map_err(|e| e.to_string())?;
    let connect =
        tower::service_fn(move |_: Uri| async move { client::connect(to, source(to.ip())).await.map(TokioIo::new) });
    let channel = endpoint.connect_with_connector(connect).await.map_err(|error| error.to_string())?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    let response = client.unary(request, path, codec).await.map_err(|status| status.to_string())?;
    match response.into_inner().status {
        SERVING => Ok(plain(StatusCode::OK)),
        status => Err(format!("health status {status}")),
    }
}

/// TLS that takes any certificate: a probe asks whether somebody is there, as kubelet's does.
fn unverified() -> std::result::Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s40_only_paths_of_probes_are_listed() {
        for (path, good) in [
            ("/app-health/web/livez", true),
            ("/app-lifecycle/web/prestopz", true),
            ("/app-health//livez", false),
            ("/app-health/web/livez/x", false),
            ("/app-health/web/admin", false),
            ("/quitquitquit", false),
            ("app-health/web/livez", false),
        ] {
            assert_eq!(is_probe_path(path), good, "{path}");
        }
    }

    #[test]
    fn probers_are_the_injectors_json() {
        let json = r#"{"/app-health/a/livez":{"httpGet":{"path":"x?y=1","port":8080,"scheme":"HTTPS"},"timeoutSeconds":3},
            "/app-health/a/readyz":{"tcpSocket":{"port":5}},"/app-health/a/startupz":{"grpc":{"port":6,"service":"s"}}}"#;
        let probes = parse(json).expect("good probers");
        let http = Action::Http { port: 8080, path: "/x?y=1".to_owned(), scheme: Scheme::Https };
        assert_eq!(probes["/app-health/a/livez"], Probe { action: http, timeout: Duration::from_secs(3) });
        assert_eq!(probes["/app-health/a/readyz"].action, Action::Tcp { port: 5 });
        assert_eq!(probes["/app-health/a/startupz"].action, Action::Grpc { port: 6, service: "s".to_owned() });
        for bad in [
            "",
            "[]",
            r#"{"/app-health/a/livez":{}}"#,
            r#"{"/app-health/a/livez":{"httpGet":{"port":"web"}}}"#,
            r#"{"/app-health/a/livez":{"tcpSocket":{"port":1},"grpc":{"port":2}}}"#,
            r#"{"/x":{"tcpSocket":{"port":1}}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_application_sees_its_own_port_in_host() {
        let to: SocketAddr = "10.0.0.1:8080".parse().expect("an address");
        for (said, expected) in [
            ("10.0.0.1:15020", "10.0.0.1:8080"),
            ("shop.example", "shop.example"),
            ("a:99", "a:99"),
            ("", "10.0.0.1:8080"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, said.parse().expect("a header"));
            assert_eq!(host(&headers, 15020, to), expected);
        }
    }

    #[test]
    fn a_redirect_to_another_host_is_not_followed() {
        let next = |location: &str| same_place(Some(&location.parse().expect("a header")), "app:80");
        assert_eq!(next("/ok"), Some("/ok".to_owned()));
        assert_eq!(next("http://app:81/ok?x"), Some("/ok?x".to_owned()));
        assert_eq!(next("http://elsewhere/ok"), None);
        assert_eq!(same_place(None, "app"), None);
    }
}
