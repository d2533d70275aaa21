//! Rules of single values that several kinds share (`pkg/config/validation/agent`, `pkg/config/labels`).

use crate::Duration;
use crate::networking::HttpRetry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

type Rule = Result<(), String>;

const LABEL_BYTES_MAX: usize = 63;
const DOMAIN_BYTES_MAX: usize = 255;

/// Istio's notion of a DNS label: letters of both cases, digits and inner dashes.
pub(super) fn is_label(text: &str) -> bool {
    let is_alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= LABEL_BYTES_MAX
        && is_alphanumeric(text.bytes().next())
        && is_alphanumeric(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `*`, or a label that may begin with `*` or `*-`.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text.strip_prefix('*').map_or(text, |rest| rest.strip_prefix('-').unwrap_or(rest));
    text == "*" || (text.len() <= LABEL_BYTES_MAX && is_label(rest))
}

/// A name as the API server takes it: a lower-case DNS subdomain.
pub(super) fn object_name(name: &str) -> Rule {
    let is_label = |label: &str| {
        let is_edge = |b: Option<u8>| b.is_some_and(|b| b != b'-');
        is_edge(label.bytes().next())
            && is_edge(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(()),
        false => Err(format!("{name:?} is not a name: lower-case letters, digits, - and . (at most 253) are allowed")),
    }
}

pub(super) fn namespace(name: &str) -> Rule {
    match is_label(name) && object_name(name).is_ok() {
        true => Ok(()),
        false => Err(format!("{name:?} is not a namespace: lower-case letters, digits and - (at most 63) are allowed")),
    }
}

pub(super) fn fqdn(domain: &str) -> Rule {
    domain_length(domain)?;
    labels_of_domain(domain)
}

/// A domain whose first label may be a wildcard (`*`, `*.example.com`, `*-a.example.com`).
pub(super) fn wildcard_domain(domain: &str) -> Rule {
    domain_length(domain)?;
    let (first, rest) = domain.split_once('.').map_or((domain, None), |(first, rest)| (first, Some(rest)));
    if !is_wildcard_label(first) {
        return Err(format!("domain name {domain:?} invalid (label {first:?} invalid)"));
    }
    rest.map_or(Ok(()), labels_of_domain)
}

fn domain_length(domain: &str) -> Rule {
    match domain.len() {
        0 => Err("empty domain name not allowed".into()),
        1..=DOMAIN_BYTES_MAX => Ok(()),
        length => Err(format!("domain name {domain:?} too long ({length}, max {DOMAIN_BYTES_MAX})")),
    }
}

fn labels_of_domain(domain: &str) -> Rule {
    // A dot at the end marks an absolute name.
    let labels = domain.strip_suffix('.').unwrap_or(domain);
    let top = domain.rsplit('.').next().unwrap_or_default();
    if !top.is_empty() && top.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("domain name {domain:?} invalid (top level domain {top:?} cannot be all-numeric)"));
    }
    match labels.split('.').find(|label| !is_label(label)) {
        Some(label) => Err(format!("domain name {domain:?} invalid (label {label:?} invalid)")),
        None => Ok(()),
    }
}

/// `*` alone and `*.` are wildcards; `*a.example.com` is a partial one, which hosts of Gateways and Sidecars may not be.
pub(super) fn no_partial_wildcard(host: &str) -> Rule {
    match host.contains('*') && host != "*" && !host.starts_with("*.") {
        true => Err(format!("partial wildcard {host:?} not allowed")),
        false => Ok(()),
    }
}

/// Whether the two names may mean the same host, wildcards on either side.
pub(super) fn hosts_overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (None, None) => a == b,
    }
}

/// Whether every host of `a` is one of `b`.
pub(super) fn host_within(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (_, Some(suffix)) => a.strip_prefix('*').unwrap_or(a).ends_with(suffix),
        (Some(_), None) => false,
        (None, None) => a == b,
    }
}

pub(super) fn ip(address: &str) -> Rule {
    address.parse::<IpAddr>().map(drop).map_err(|_| format!("{address} is not a valid IP"))
}

/// `10.0.0.0/8` or a single address.
pub(super) fn subnet(text: &str) -> Rule {
    match text.contains('/') {
        true => text.parse::<ipnet::IpNet>().map(drop).map_err(|_| format!("{text} is not a valid CIDR block")),
        false => ip(text),
    }
}

/// What follows `unix://`: an absolute path of a file, or an abstract socket.
pub(super) fn unix_address(path: &str) -> Rule {
    match path {
        "" => Err("unix address must not be empty".into()),
        _ if path.starts_with('@') => Ok(()),
        _ if path.starts_with('/') && !path.ends_with('/') => Ok(()),
        _ => Err(format!("{path} is not an absolute path to a file")),
    }
}

pub(super) const UNIX: &str = "unix://";

pub(super) fn port(number: u32) -> Rule {
    match number {
        1..=65535 => Ok(()),
        _ => Err(format!("port number {number} must be in the range 1..65535")),
    }
}

pub(super) fn port_name(name: &str) -> Rule {
    match is_label(name) {
        true => Ok(()),
        false => Err(format!("invalid port name: {name:?}")),
    }
}

/// Protocols that Istio knows by name, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Tls,
    Tcp,
    Udp,
    Unsupported,
}

impl Protocol {
    pub(super) fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "http" | "http2" | "http_proxy" | "grpc" | "grpc-web" => Self::Http,
            "https" | "tls" => Self::Tls,
            "tcp" | "mongo" | "redis" | "mysql" => Self::Tcp,
            "udp" => Self::Udp,
            _ => Self::Unsupported,
        }
    }
}

/// Empty means that the protocol is found out from the traffic.
pub(super) fn protocol(name: &str) -> Rule {
    match !name.is_empty() && Protocol::parse(name) == Protocol::Unsupported {
        true => Err(format!("unsupported protocol: {name}")),
        false => Ok(()),
    }
}

pub(super) fn duration(duration: Duration) -> Rule {
    if duration < Duration::from_millis(1) {
        return Err("duration must be greater than 1ms".into());
    }
    whole_millis(duration)
}

pub(super) fn whole_millis(duration: Duration) -> Rule {
    match duration.0.as_nanos() % 1_000_000 {
        0 => Ok(()),
        _ => Err("only durations to ms precision are supported".into()),
    }
}

pub(super) fn optional_duration(value: Option<Duration>) -> Rule {
    value.map_or(Ok(()), duration)
}

/// Labels of pods: keys may have a DNS prefix, values may be empty.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Rule {
    for (key, value) in labels {
        let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        let prefix_is_valid = prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_label));
        if !prefix_is_valid || !is_qualified_name(name) || name.len() > LABEL_BYTES_MAX {
            return Err(format!("invalid label key: {key:?}"));
        }
        if !value.is_empty() && !is_qualified_name(value) {
            return Err(format!("invalid label value: {value:?}"));
        }
    }
    Ok(())
}

fn is_qualified_name(text: &str) -> bool {
    let is_alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    is_alphanumeric(text.bytes().next())
        && is_alphanumeric(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The labels of a selector: no wildcards.
pub(super) fn selector(labels: &BTreeMap<String, String>) -> Rule {
    for (key, value) in labels {
        if key.is_empty() {
            return Err(format!("empty key is not supported in selector: {key}={value}"));
        }
        if key.contains('*') || value.contains('*') {
            return Err(format!("wildcard is not supported in selector: {key}={value}"));
        }
    }
    Ok(())
}

/// Who may export to nobody (`~`).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ExportsToNobody {
    Allowed,
    Refused,
}

/// `*` alone, `~` alone, or namespaces (`.` is the own one), none of them twice.
pub(super) fn export_to(entries: &[String], namespace: &str, nobody: ExportsToNobody) -> Rule {
    let mut seen = BTreeSet::new();
    for entry in entries {
        let meant = if entry == "." { namespace } else { entry.as_str() };
        match entry.as_str() {
            "*" | "." => {}
            "~" if nobody == ExportsToNobody::Allowed => {}
            "~" => return Err("exportTo ~ (none) is not allowed for this kind".into()),
            name if is_label(name) => {}
            _ => return Err(format!("only ., *, or a namespace is allowed as exportTo entry, not {entry:?}")),
        }
        if !seen.insert(meant) {
            return Err(format!("duplicate entries in exportTo for entry {entry}"));
        }
    }
    if entries.len() > 1 && seen.contains("*") {
        return Err("cannot have both public (*) and non-public exportTo values for a resource".into());
    }
    if entries.len() > 1 && seen.contains("~") {
        return Err("cannot export service entry to no one (~) and someone".into());
    }
    Ok(())
}

pub(super) fn percent(value: i32) -> Rule {
    match value {
        0..=100 => Ok(()),
        _ => Err(format!("percentage {value} is not in range 0..100")),
    }
}

/// A fraction that Envoy can express in millionths.
pub(super) fn fraction(value: f64) -> Rule {
    match value == 0.0 || (0.0001..=100.0).contains(&value) {
        true => Ok(()),
        false => Err(format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]")),
    }
}

pub(super) fn http_status(status: u32) -> Rule {
    match status {
        200..=599 => Ok(()),
        _ => Err(format!("HTTP status {status} is not in range 200-599")),
    }
}

/// `VirtualService.http[].retries` and `MeshConfig.defaultHttpRetryPolicy`: field and reason of each mistake.
pub(super) fn http_retry(retry: &HttpRetry) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut check = |field, rule: Rule| {
        if let Err(why) = rule {
            wrong.push((field, why));
        }
    };
    if retry.attempts < 0 {
        check("attempts", Err("attempts cannot be negative".into()));
    }
    let is_configured =
        retry.per_try_timeout.is_some() || !retry.retry_on.is_empty() || retry.retry_remote_localities.is_some();
    if retry.attempts == 0 && is_configured {
        let why = "http retry policy configured when attempts are set to 0 (disabled)";
        check("attempts", Err(why.into()));
    }
    check("perTryTimeout", optional_duration(retry.per_try_timeout));
    check("backoff", optional_duration(retry.backoff));
    for policy in retry.retry_on.split(',').filter(|_| !retry.retry_on.is_empty()) {
        let is_status = policy.parse().is_ok_and(|status: u16| (100..=599).contains(&status));
        if !is_status && !RETRY_ON.contains(&policy) {
            check("retryOn", Err(format!("{policy:?} is not a valid retryOn policy")));
        }
    }
    wrong
}

/// Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on` values.
const RETRY_ON: &[&str] = &[
    "5xx",
    "cancelled",
    "connect-failure",
    "deadline-exceeded",
    "envoy-ratelimited",
    "gateway-error",
    "http3-post-connect-failure",
    "internal",
    "refused-stream",
    "reset",
    "reset-before-request",
    "resource-exhausted",
    "retriable-4xx",
    "retriable-headers",
    "retriable-status-codes",
    "unavailable",
];
