//! Which protocol a port speaks: `appProtocol` first, then the port name's prefix, else found out by sniffing
//! (<https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/>).

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Unknown: Envoy sniffs HTTP, everything else is TCP.
    Auto,
    Grpc,
    GrpcWeb,
    Http,
    Http2,
    HttpProxy,
    Https,
    Mongo,
    Mysql,
    Redis,
    Tcp,
    Tls,
    Udp,
}

impl Protocol {
    /// Istio's `protocol.Parse`; anything unknown is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http" => Self::Http,
            "http_proxy" => Self::HttpProxy,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            _ => return None,
        })
    }

    /// Istio's `ConvertProtocol` for a TCP Service port.
    pub fn of_port(number: u16, name: &str, app_protocol: Option<&str>) -> Self {
        if let Some(app_protocol) = app_protocol {
            return match app_protocol {
                "kubernetes.io/h2c" => Self::Http2,
                "kubernetes.io/ws" => Self::Http,
                "kubernetes.io/wss" => Self::Https,
                other => Self::parse(other).unwrap_or_else(|| Self::fallback(number)),
            };
        }
        let lower = name.to_ascii_lowercase();
        if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            return Self::GrpcWeb;
        }
        let prefix = lower.split('-').next().unwrap_or_default();
        Self::parse(prefix).filter(|it| *it != Self::Udp).unwrap_or_else(|| Self::fallback(number))
    }

    /// Ports where the server speaks first cannot be sniffed (smtp, dns, mysql, mongo).
    fn fallback(number: u16) -> Self {
        match number {
            25 | 53 | 3306 | 27017 => Self::Tcp,
            _ => Self::Auto,
        }
    }

    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::HttpProxy | Self::Grpc | Self::GrpcWeb)
    }

    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Carried as bytes: neither HTTP nor sniffed nor UDP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Mongo | Self::Mysql | Self::Redis | Self::Https | Self::Tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_beats_the_name_and_unknown_is_sniffed() {
        for (number, name, app, expected) in [
            (80, "http", None, Protocol::Http),
            (80, "http-web", Some("grpc"), Protocol::Grpc),
            (80, "HTTP2-x", None, Protocol::Http2),
            (80, "grpc-web-x", None, Protocol::GrpcWeb),
            (80, "web", None, Protocol::Auto),
            (3306, "db", None, Protocol::Tcp),
            (80, "", Some("kubernetes.io/h2c"), Protocol::Http2),
            (80, "", Some("kubernetes.io/wss"), Protocol::Https),
            (80, "http", Some("made-up"), Protocol::Auto),
        ] {
            assert_eq!(Protocol::of_port(number, name, app), expected, "{number} {name} {app:?}");
        }
    }
}
