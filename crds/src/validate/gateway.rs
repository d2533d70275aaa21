//! Gateway (`ValidateGateway`).

use super::report::Report;
use super::rule::{self, Protocol, UNIX};
use super::server_tls;
use crate::Object;
use crate::networking::{Gateway, Server, ServerTls, ServerTlsMode};
use std::collections::BTreeSet;

pub(super) fn validate(gateway: &Gateway, object: &Object, report: &mut Report<'_>) {
    if !rule::is_label(&object.key.name) {
        report.error("metadata.name", format!("invalid gateway name: {:?} (a name with dots?)", object.key.name));
    }
    if gateway.servers.is_empty() {
        report.error("spec.servers", "gateway must have at least one server");
    }
    report.check("spec.selector", rule::selector(&gateway.selector));
    let mut names = BTreeSet::new();
    for (i, server) in gateway.servers.iter().enumerate() {
        let at = format!("spec.servers[{i}]");
        self::server(server, &at, report);
        if !names.insert(&server.port.name) {
            let why = format!("port names in servers must be unique: duplicate name {}", server.port.name);
            report.error(format!("{at}.port.name"), why);
        }
    }
}

fn server(server: &Server, at: &str, report: &mut Report<'_>) {
    if server.hosts.is_empty() {
        report.error(format!("{at}.hosts"), "server config must contain at least one host");
    }
    for (i, host) in server.hosts.iter().enumerate() {
        report.check(format!("{at}.hosts[{i}]"), self::host(host));
    }
    port(server, &format!("{at}.port"), report);
    if let Some(path) = server.bind.strip_prefix(UNIX) {
        report.check(format!("{at}.bind"), rule::unix_address(path));
        if server.port.number != 0 {
            report.error(format!("{at}.port.number"), "port number must be 0 for unix domain socket");
        }
    } else if !server.bind.is_empty() {
        report.check(format!("{at}.bind"), rule::ip(&server.bind));
    }
    let protocol = Protocol::parse(&server.port.protocol);
    match &server.tls {
        None if protocol == Protocol::Tls => {
            report.error(format!("{at}.tls"), "server must have TLS settings for HTTPS/TLS protocols");
        }
        None => {}
        Some(tls) => {
            let at = format!("{at}.tls");
            server_tls::validate(tls, &at, report);
            match protocol {
                Protocol::Tls | Protocol::Unsupported => {}
                // Only the redirect to HTTPS.
                Protocol::Http if has_no_certificates(tls) => {}
                Protocol::Http => {
                    report.error(at.as_str(), "server cannot have TLS settings for plain text HTTP ports")
                }
                Protocol::Tcp | Protocol::Udp => {
                    report.error(at.as_str(), "server cannot have TLS settings for non HTTPS/TLS ports");
                }
            }
            if tls.https_redirect && protocol != Protocol::Http {
                report
                    .warning(format!("{at}.httpsRedirect"), "tls.httpsRedirect should only be used with http servers");
            }
        }
    }
}

fn has_no_certificates(tls: &ServerTls) -> bool {
    matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        && tls.ca_certificates.is_empty()
        && tls.private_key.is_empty()
        && tls.server_certificate.is_empty()
}

fn port(server: &Server, at: &str, report: &mut Report<'_>) {
    let port = &server.port;
    if matches!(Protocol::parse(&port.protocol), Protocol::Unsupported) {
        let why = format!(
            "invalid protocol {:?}, supported protocols are HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, TLS",
            port.protocol
        );
        report.error(format!("{at}.protocol"), why);
    }
    if port.number > 0 || !server.bind.starts_with(UNIX) {
        report.check(format!("{at}.number"), rule::port(port.number));
    }
    if port.target_port.is_some_and(|port| port > 0) {
        report.error(format!("{at}.targetPort"), "targetPort has no impact on Gateways");
    }
    if port.name.is_empty() {
        report.error(format!("{at}.name"), "port name must be set");
    }
}

/// `host`, `namespace/host`, `./host` or `*/host`.
fn host(host: &str) -> Result<(), String> {
    let Some((namespace, host)) = host.split_once('/') else { return host_name(host) };
    if namespace.is_empty() || host.is_empty() {
        return Err("config namespace and dnsName in host entry cannot be empty".into());
    }
    if namespace != "*" && namespace != "." && !rule::is_label(namespace) {
        return Err(format!("invalid namespace value {namespace:?} in gateway"));
    }
    host_name(host)
}

fn host_name(host: &str) -> Result<(), String> {
    if host != "*" && !host.contains('.') && rule::ip(host).is_err() {
        return Err(format!("short names (non FQDN) are not allowed: {host:?}"));
    }
    rule::wildcard_domain(host).or_else(|why| rule::ip(host).map_err(|_| why))?;
    rule::no_partial_wildcard(host)
}
