//! Sidecar (`ValidateSidecar`).

use super::report::Report;
use super::rule::{self, Protocol, UNIX};
use super::{server_tls, traffic_policy, virtual_service};
use crate::Object;
use crate::networking::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode, Port, ServerTls,
    ServerTlsMode, Sidecar,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn validate(sidecar: &Sidecar, object: &Object, report: &mut Report<'_>) {
    if let Some(selector) = &sidecar.workload_selector {
        report.check("spec.workloadSelector.labels", rule::selector(&selector.labels));
        if selector.labels.is_empty() {
            let why = "workload selector specified without labels, will be applied to all services in namespace";
            report.warning("spec.workloadSelector", why);
        }
    }
    let is_empty = sidecar.egress.is_empty()
        && sidecar.ingress.is_empty()
        && sidecar.outbound_traffic_policy.is_none()
        && sidecar.inbound_connection_pool.is_none();
    if is_empty {
        report.error("spec", "sidecar: empty configuration provided");
    }
    let mut ports = BTreeSet::new();
    for (i, listener) in sidecar.ingress.iter().enumerate() {
        let at = format!("spec.ingress[{i}]");
        ingress(listener, &at, report);
        if !ports.insert(listener.port.number) {
            report.error(format!("{at}.port.number"), "sidecar: ports on IP bound listeners must be unique");
        }
    }
    if let Some(pool) = &sidecar.inbound_connection_pool {
        traffic_policy::connection_pool(pool, "spec.inboundConnectionPool", report);
    }
    egress_listeners(sidecar, object, report);
    if let Some(policy) = &sidecar.outbound_traffic_policy {
        outbound_traffic_policy(policy, report);
    }
}

fn ingress(listener: &IngressListener, at: &str, report: &mut Report<'_>) {
    no_target_port(&listener.port, at, report);
    port(&listener.port, at, report);
    report.check(format!("{at}.port.number"), rule::port(listener.port.number));
    if !listener.bind.is_empty() {
        report.check(format!("{at}.bind"), rule::ip(&listener.bind));
    }
    if !listener.default_endpoint.is_empty() {
        report.check(format!("{at}.defaultEndpoint"), default_endpoint(&listener.default_endpoint));
    }
    if let Some(tls) = &listener.tls {
        ingress_tls(tls, &listener.port, &format!("{at}.tls"), report);
    }
    if let Some(pool) = &listener.connection_pool {
        traffic_policy::connection_pool(pool, &format!("{at}.connectionPool"), report);
        if pool.http.is_some() && Protocol::parse(&listener.port.protocol) != Protocol::Http {
            let why = format!(
                "sidecar: HTTP connection pool settings are configured for port {} but its protocol is not HTTP ({}); \
                 only TCP settings will apply",
                listener.port.number, listener.port.protocol
            );
            report.warning(format!("{at}.connectionPool.http"), why);
        }
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `0.0.0.0:80`, `:80` or `unix:///path`.
fn default_endpoint(endpoint: &str) -> Result<(), String> {
    if let Some(path) = endpoint.strip_prefix(UNIX) {
        return rule::unix_address(path);
    }
    let Some((host, port)) = endpoint.rsplit_once(':') else {
        return Err(format!("sidecar: defaultEndpoint {endpoint:?} has no port"));
    };
    if !["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"].contains(&host) {
        let why = "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, \
                   [::]:<port>, unix://filepath or unset";
        return Err(why.into());
    }
    match port.parse() {
        Ok(number) => rule::port(number),
        Err(_) => Err(format!("sidecar: defaultEndpoint port ({port}) is not a number")),
    }
}

fn ingress_tls(tls: &ServerTls, port: &Port, at: &str, report: &mut Report<'_>) {
    for (field, is_set) in [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ] {
        if is_set {
            report.error(format!("{at}.{field}"), format!("sidecar: {field} is not supported in ingress tls"));
        }
    }
    if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        report.error(format!("{at}.mode"), "cannot set this mode in sidecar ingress tls");
    }
    if Protocol::parse(&port.protocol) != Protocol::Tls {
        report.error(at, "server cannot have TLS settings for non HTTPS/TLS ports");
    }
    server_tls::validate(tls, at, report);
}

fn egress_listeners(sidecar: &Sidecar, object: &Object, report: &mut Report<'_>) {
    let (mut ports, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for (i, listener) in sidecar.egress.iter().enumerate() {
        let at = format!("spec.egress[{i}]");
        match &listener.port {
            None if i + 1 < sidecar.egress.len() => {
                let why = "sidecar: the egress listener with empty port should be the last listener in the list";
                report.error(at.as_str(), why);
            }
            None => {}
            Some(port) => {
                egress_port(listener, port, &at, report);
                if port.number == 0 && !sockets.insert(&listener.bind) {
                    let why = "sidecar: unix domain socket values for listeners must be unique";
                    report.error(format!("{at}.bind"), why);
                }
                if port.number != 0 && !ports.insert(port.number) {
                    let why = "sidecar: ports on IP bound listeners must be unique";
                    report.error(format!("{at}.port.number"), why);
                }
            }
        }
        egress_hosts(listener, &object.key.namespace, &at, report);
    }
}

fn egress_port(listener: &EgressListener, port: &Port, at: &str, report: &mut Report<'_>) {
    no_target_port(port, at, report);
    self::port(port, at, report);
    if port.number != 0 {
        report.check(format!("{at}.port.number"), rule::port(port.number));
        if !listener.bind.is_empty() {
            report.check(format!("{at}.bind"), rule::ip(&listener.bind));
        }
        return;
    }
    match listener.bind.strip_prefix(UNIX) {
        Some(path) => report.check(format!("{at}.bind"), rule::unix_address(path)),
        None => {
            let why = "sidecar: ports with 0 value must have a unix domain socket bind address";
            report.error(format!("{at}.bind"), why);
        }
    }
    if listener.capture_mode == CaptureMode::Iptables {
        let why = "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners";
        report.error(format!("{at}.captureMode"), why);
    }
}

fn egress_hosts(listener: &EgressListener, own: &str, at: &str, report: &mut Report<'_>) {
    if listener.hosts.is_empty() {
        report.error(format!("{at}.hosts"), "sidecar: egress listener must contain at least one host");
    }
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (i, entry) in listener.hosts.iter().enumerate() {
        let at = format!("{at}.hosts[{i}]");
        report.check(at.as_str(), egress_host(entry));
        let Some((namespace, host)) = entry.split_once('/').filter(|(namespace, _)| !namespace.starts_with('~')) else {
            continue;
        };
        let hosts = seen.entry(if namespace == "." { own } else { namespace }).or_default();
        let is_covered = if host == "*" { !hosts.is_empty() } else { hosts.contains("*") || hosts.contains(host) };
        if is_covered {
            report.warning(at, format!("duplicated egress host: {entry}"));
        }
        hosts.insert(host);
    }
    if seen.len() > 1 && seen.get("*").is_some_and(|hosts| hosts.contains("*")) {
        report.warning(format!("{at}.hosts"), "`*/*` host select all resources, no other hosts can be added");
    }
}

/// `namespace/host`; the namespace may be `*`, `.`, `~` (nothing), or begin with `~` (all but it).
fn egress_host(entry: &str) -> Result<(), String> {
    let Some((namespace, host)) = entry.split_once('/') else {
        return Err("host must be of form namespace/dnsName".into());
    };
    if namespace.is_empty() || host.is_empty() {
        return Err("config namespace and dnsName in host entry cannot be empty".into());
    }
    let name = namespace.strip_prefix('~').unwrap_or(namespace);
    if !["", "*", "."].contains(&name) && !rule::is_label(name) {
        return Err(format!("invalid namespace value {namespace:?} in sidecar"));
    }
    if host != "*" && !host.contains('.') {
        return Err(format!("short names (non FQDN) are not allowed: {host:?}"));
    }
    rule::wildcard_domain(host)?;
    rule::no_partial_wildcard(host)
}

fn outbound_traffic_policy(policy: &OutboundTrafficPolicy, report: &mut Report<'_>) {
    const AT: &str = "spec.outboundTrafficPolicy";
    if policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns {
        let why = "sidecar: ALLOW_ANY_DYNAMIC_DNS mode is only supported in MeshConfig, not in Sidecar resource";
        report.error(format!("{AT}.mode"), why);
        return;
    }
    let Some(proxy) = &policy.egress_proxy else { return };
    let at = format!("{AT}.egressProxy");
    if policy.mode != OutboundTrafficPolicyMode::AllowAny {
        let why = "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode";
        report.error(at.as_str(), why);
    }
    report.check(format!("{at}.host"), rule::fqdn(&proxy.host));
    if proxy.port.is_none() {
        report.error(format!("{at}.port"), "sidecar: egress_proxy port must be non-nil");
    }
    virtual_service::destination(proxy, &at, report);
}

fn no_target_port(port: &Port, at: &str, report: &mut Report<'_>) {
    if port.target_port.is_some_and(|port| port > 0) {
        report.error(format!("{at}.port.targetPort"), "targetPort has no impact on Sidecars");
    }
}

fn port(port: &Port, at: &str, report: &mut Report<'_>) {
    if !port.name.is_empty() {
        report.check(format!("{at}.port.name"), rule::port_name(&port.name));
    }
    report.check(format!("{at}.port.protocol"), rule::protocol(&port.protocol));
}
