//! One call as a proxy sees it arrive: addresses, what the inspectors could sniff, and perhaps a request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where iptables sends a pod's outgoing connections (Istio's `virtualOutbound`).
const CAPTURE_OUTBOUND_PORT: u16 = 15001;
/// Where iptables sends connections to a pod (Istio's `virtualInbound`).
const CAPTURE_INBOUND_PORT: u16 = 15006;

/// Who calls what.
///
/// ```
/// use refproxy::core::Call;
/// let call = Call::outbound("10.96.0.7:9080").get("reviews:9080", "/1").header("end-user", "jason");
/// assert_eq!(call.connect.unwrap().port(), 15001);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The address that the client meant (the original destination).
    pub destination: SocketAddr,
    /// The address at which the connection arrives: the capturing listener after a REDIRECT. `None` when nothing was
    /// redirected, so it arrives at `destination` itself.
    pub connect: Option<SocketAddr>,
    pub source: IpAddr,
    /// Known only where a test cares: `filter_chain_match.source_ports` is rare.
    pub source_port: Option<u16>,
    pub tls: Option<Tls>,
    /// `None` is a connection that carries something else than HTTP.
    pub request: Option<Request>,
    pub protocol: Protocol,
    /// Stands for Envoy's random number, in [0, 1): weighted clusters and runtime fractions take `floor(roll × total)`.
    pub roll: f64,
}

/// What `http_inspector` would see in the first bytes, once decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http11,
    H2c,
    /// Not HTTP.
    Opaque,
}

impl Protocol {
    /// The name that `http_inspector` puts where TLS has its ALPN.
    pub(super) fn application_protocol(self) -> Option<&'static str> {
        match self {
            Self::Http11 => Some("http/1.1"),
            Self::H2c => Some("h2c"),
            Self::Opaque => None,
        }
    }
}

/// The ClientHello, as far as it decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub sni: Option<String>,
    pub alpn: Vec<String>,
    /// The subject of the client certificate, if the client has one. Whether it is trusted is not judged here.
    pub peer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub authority: String,
    /// With its query. Empty only for CONNECT.
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn new(method: &str, authority: &str, path: &str) -> Self {
        Self { method: method.into(), authority: authority.into(), path: path.into(), headers: Vec::new() }
    }

    /// All values of a header joined as Envoy joins them before matching: with a comma, without a space.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let same = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let values: Vec<&str> = same.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let same = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
    }
}

impl Call {
    /// A connection that is not redirected: to a gateway's port, or to a listener that binds its own port.
    ///
    /// # Panics
    /// If `destination` is not `ip:port`; calls are written by hand.
    pub fn direct(destination: &str) -> Self {
        let destination = destination.parse().expect("a call's destination is ip:port");
        Self {
            destination,
            connect: None,
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            source_port: None,
            tls: None,
            request: None,
            protocol: Protocol::Opaque,
            roll: 0.0,
        }
    }

    /// A pod's outgoing connection, redirected to port 15001.
    pub fn outbound(destination: &str) -> Self {
        let call = Self::direct(destination);
        let loopback = match call.destination {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        call.captured_at(SocketAddr::new(loopback, CAPTURE_OUTBOUND_PORT))
    }

    /// A connection to a pod, redirected to port 15006.
    pub fn inbound(destination: &str) -> Self {
        let call = Self::direct(destination);
        let at = SocketAddr::new(call.destination.ip(), CAPTURE_INBOUND_PORT);
        call.captured_at(at)
    }

    pub fn captured_at(self, connect: SocketAddr) -> Self {
        Self { connect: Some(connect), ..self }
    }

    pub fn from(self, source: IpAddr) -> Self {
        Self { source, ..self }
    }

    pub fn tls(self, sni: &str, alpn: &[&str]) -> Self {
        let sni = (!sni.is_empty()).then(|| sni.to_ascii_lowercase());
        let alpn = alpn.iter().map(|protocol| (*protocol).to_owned()).collect();
        Self { tls: Some(Tls { sni, alpn, peer: None }), ..self }
    }

    /// The client holds a certificate; makes the call a TLS call.
    pub fn peer(mut self, subject: &str) -> Self {
        self.tls.get_or_insert_default().peer = Some(subject.into());
        self
    }

    pub fn get(self, authority: &str, path: &str) -> Self {
        self.request(Request::new("GET", authority, path))
    }

    /// An HTTP/1.1 request, unless `h2` says otherwise.
    pub fn request(self, request: Request) -> Self {
        let protocol = if self.protocol == Protocol::Opaque { Protocol::Http11 } else { self.protocol };
        Self { request: Some(request), protocol, ..self }
    }

    /// Adds a header to the request, if the call has one.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(request) = &mut self.request {
            request.headers.push((name.into(), value.into()));
        }
        self
    }

    /// HTTP/2 with prior knowledge.
    pub fn h2(self) -> Self {
        Self { protocol: Protocol::H2c, ..self }
    }

    pub fn roll(self, roll: f64) -> Self {
        Self { roll, ..self }
    }
}
