//! The annotations of a pod that change its injection, and which of their values are refused.
//!
//! <https://istio.io/latest/docs/reference/config/annotations/>; the rules are Istio's (`pkg/kube/inject/validate.go`)
//! and three more: the two annotations with volumes and the one with overrides may not bring what their pod may not
//! have (S51).

use super::Refusal;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
pub(super) const BOOTSTRAP_OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
pub(super) const CAP_NET_BIND_SERVICE: &str = "sidecar.istio.io/capNetBindService";
pub(super) const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
pub(super) const DISCOVERY_ADDRESS: &str = "sidecar.istio.io/discoveryAddress";
pub(super) const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
pub(super) const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
pub(super) const EXCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
pub(super) const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
pub(super) const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
pub(super) const INCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
pub(super) const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
pub(super) const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
pub(super) const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
pub(super) const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
pub(super) const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
pub(super) const MULTUS_NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
pub(super) const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
pub(super) const OVERRIDES: &str = "proxy.istio.io/overrides";
pub(super) const PROXY_CONFIG: &str = "proxy.istio.io/config";
pub(super) const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
pub(super) const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
pub(super) const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
pub(super) const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
pub(super) const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
pub(super) const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
pub(super) const READINESS_FAILURE_THRESHOLD: &str = "readiness.status.sidecar.istio.io/failureThreshold";
pub(super) const READINESS_INITIAL_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
pub(super) const READINESS_PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
pub(super) const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
pub(super) const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
pub(super) const STATUS: &str = "sidecar.istio.io/status";
pub(super) const STATUS_PORT: &str = "status.sidecar.istio.io/port";
pub(super) const TEMPLATES: &str = "inject.istio.io/templates";
pub(super) const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
pub(super) const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";

type Rule = fn(&str) -> Result<(), String>;

const RULES: [(&str, Rule); 25] = [
    (INTERCEPTION_MODE, interception_mode),
    (STATUS_PORT, port),
    (READINESS_INITIAL_DELAY, number),
    (READINESS_PERIOD, number),
    (READINESS_FAILURE_THRESHOLD, number),
    (INCLUDE_OUTBOUND_IP_RANGES, ranges_or_all),
    (EXCLUDE_OUTBOUND_IP_RANGES, ranges),
    (INCLUDE_INBOUND_PORTS, ports_or_all),
    (EXCLUDE_INBOUND_PORTS, ports),
    (INCLUDE_OUTBOUND_PORTS, ports_or_all),
    (EXCLUDE_OUTBOUND_PORTS, ports),
    (EXCLUDE_INTERFACES, interfaces),
    (KUBEVIRT_INTERFACES, interfaces),
    (REROUTE_INTERFACES, interfaces),
    (MERGE_METRICS, boolean),
    (PROXY_CONFIG, proxy_config),
    (PROXY_CPU, quantity),
    (PROXY_MEMORY, quantity),
    (PROXY_CPU_LIMIT, quantity),
    (PROXY_MEMORY_LIMIT, quantity),
    (PROXY_IMAGE, image),
    (PROXY_IMAGE_TYPE, image),
    (BOOTSTRAP_OVERRIDE, object_name),
    (USER_VOLUME, volumes),
    (USER_VOLUME_MOUNT, mounts),
];

/// The first annotation, by name, whose value cannot be followed.
pub(super) fn validate(annotations: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in annotations {
        let Some((_, rule)) = RULES.iter().find(|(rule, _)| rule == name) else { continue };
        rule(value).map_err(|reason| refusal(name, reason))?;
    }
    Ok(())
}

pub(super) fn refusal(name: &str, reason: impl Into<String>) -> Refusal {
    Refusal::Annotation { name: name.to_owned(), reason: reason.into() }
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A JSON object of named JSON objects, in the order written.
pub(super) fn named(value: &str) -> Result<Vec<(String, Value)>, String> {
    let value: Value = serde_json::from_str(value).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("not a JSON object".into()) };
    match fields.iter().find(|(_, value)| !value.is_object()) {
        Some((name, _)) => Err(format!("{name:?} is not a JSON object")),
        None => Ok(fields.into_iter().collect()),
    }
}

fn interception_mode(value: &str) -> Result<(), String> {
    match value {
        "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
        _ => Err(format!("{value:?} is not REDIRECT, TPROXY or NONE")),
    }
}

fn port(value: &str) -> Result<(), String> {
    value.trim().parse::<u16>().map(drop).map_err(|_| format!("{value:?} is not a port"))
}

fn ports(value: &str) -> Result<(), String> {
    if value.trim().is_empty() {
        return Ok(());
    }
    value.split(',').try_for_each(port)
}

fn ports_or_all(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ports(value) }
}

fn number(value: &str) -> Result<(), String> {
    // Kubernetes' fields are i32.
    value
        .parse::<u32>()
        .ok()
        .filter(|it| *it <= i32::MAX as u32)
        .map(drop)
        .ok_or_else(|| format!("{value:?} is not a number"))
}

fn boolean(value: &str) -> Result<(), String> {
    parse_bool(value).map(drop).ok_or_else(|| format!("{value:?} is not true or false"))
}

fn ranges(value: &str) -> Result<(), String> {
    let is_range = |range: &str| {
        let (address, bits) = range.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let bits = bits.parse::<u8>().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
    };
    match value.split(',').find(|range| is_range(range).is_none()) {
        Some(range) if !value.is_empty() => Err(format!("{range:?} is not a range such as 10.0.0.0/8")),
        _ => Ok(()),
    }
}

fn ranges_or_all(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ranges(value) }
}

/// As the kernel takes them (`dev_valid_name`).
fn interfaces(value: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        (1..16).contains(&name.len()) && name.chars().all(|it| it.is_ascii_graphic() && !"/:,".contains(it))
    };
    match value.split(',').map(str::trim).find(|it| !is_name(it)) {
        Some(name) if !value.is_empty() => Err(format!("{name:?} is not the name of an interface")),
        _ => Ok(()),
    }
}

/// Kubernetes' `resource.ParseQuantity`, which has no negative resources to offer here.
fn quantity(value: &str) -> Result<(), String> {
    let digits = value.trim_start_matches(|it: char| it.is_ascii_digit());
    let whole = value.len() - digits.len();
    let rest = digits.strip_prefix('.').unwrap_or(digits);
    let suffix = rest.trim_start_matches(|it: char| it.is_ascii_digit() && digits.starts_with('.'));
    let fraction = rest.len() - suffix.len();
    let exponent = || {
        let exponent = suffix.strip_prefix(['e', 'E'])?;
        exponent.strip_prefix(['+', '-']).unwrap_or(exponent).parse::<u8>().ok()
    };
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    match whole + fraction > 0 && (suffixes.contains(&suffix) || exponent().is_some()) {
        true => Ok(()),
        false => Err(format!("{value:?} is not a quantity such as 100m or 128Mi")),
    }
}

fn image(value: &str) -> Result<(), String> {
    match !value.is_empty() && value.chars().all(|it| it.is_ascii_alphanumeric() || "._-/:@".contains(it)) {
        true => Ok(()),
        false => Err(format!("{value:?} does not name an image")),
    }
}

fn object_name(value: &str) -> Result<(), String> {
    let is_name = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "-.".contains(it);
    match (1..254).contains(&value.len()) && value.chars().all(is_name) {
        true => Ok(()),
        false => Err(format!("{value:?} is not the name of a ConfigMap")),
    }
}

fn proxy_config(value: &str) -> Result<(), String> {
    let config = crds::yaml::value(value).map_err(|error| error.to_string())?;
    let Value::Object(fields) = config else {
        return if config.is_null() { Ok(()) } else { Err("not a ProxyConfig".into()) };
    };
    let metadata = fields.get("proxyMetadata").filter(|it| !it.is_null());
    let Some(metadata) = metadata else { return Ok(()) };
    let Value::Object(metadata) = metadata else { return Err("proxyMetadata is not a map".into()) };
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "_.-".contains(it));
    match metadata.iter().find(|(name, value)| !is_name(name) || value.is_object() || value.is_array()) {
        Some((name, _)) => Err(format!("proxyMetadata: {name:?} is no name and value of an environment variable")),
        None => Ok(()),
    }
}

/// Volumes are the pod author's own, but an annotation passes by whatever reads pod specs before admission ends.
fn volumes(value: &str) -> Result<(), String> {
    for (name, volume) in named(value)? {
        if volume.get("hostPath").is_some() {
            return Err(format!("{name:?}: a hostPath may not come from an annotation, only from the pod itself"));
        }
        let typed = serde_json::from_value::<k8s_openapi::api::core::v1::Volume>(with_name(&name, volume));
        typed.map_err(|error| format!("{name:?}: {error}"))?;
    }
    Ok(())
}

fn mounts(value: &str) -> Result<(), String> {
    for (name, mount) in named(value)? {
        let typed = serde_json::from_value::<k8s_openapi::api::core::v1::VolumeMount>(with_name(&name, mount));
        let typed = typed.map_err(|error| format!("{name:?}: {error}"))?;
        if !typed.mount_path.starts_with('/') {
            return Err(format!("{name:?}: mountPath has to be absolute"));
        }
    }
    Ok(())
}

pub(super) fn with_name(name: &str, mut value: Value) -> Value {
    value["name"] = name.into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s51_values_that_cannot_be_followed_are_refused_by_name() {
        let good: &[(&str, &[&str])] = &[
            (INTERCEPTION_MODE, &["REDIRECT", "TPROXY", "NONE"]),
            (STATUS_PORT, &["0", "15020"]),
            (INCLUDE_OUTBOUND_IP_RANGES, &["*", "", "10.0.0.0/8,fd00::/8"]),
            (INCLUDE_INBOUND_PORTS, &["*", "", "80, 90"]),
            (EXCLUDE_INTERFACES, &["", "eth0,net1"]),
            (MERGE_METRICS, &["true", "False", "1"]),
            (PROXY_CPU, &["1", "0.5", ".5", "100m", "1e3", "2E", "1.Gi"]),
            (PROXY_CONFIG, &["", "concurrency: 2", "{\"proxyMetadata\":{\"A\":\"b\"}}"]),
            (PROXY_IMAGE, &["registry:5000/a/proxyv2:1@sha256:ab"]),
            (USER_VOLUME, &["{}", r#"{"v":{"emptyDir":{}}}"#]),
            (USER_VOLUME_MOUNT, &[r#"{"v":{"mountPath":"/v","readOnly":true}}"#]),
            ("sidecar.istio.io/logLevel", &["anything\nat all"]),
        ];
        let bad: &[(&str, &[&str])] = &[
            (INTERCEPTION_MODE, &["", "redirect"]),
            (STATUS_PORT, &["", "65536", "http"]),
            (READINESS_PERIOD, &["-1", "1s", "4294967295"]),
            (INCLUDE_OUTBOUND_IP_RANGES, &["10.0.0.0", "10.0.0.0/33", "*,10.0.0.0/8"]),
            (EXCLUDE_OUTBOUND_IP_RANGES, &["*"]),
            (EXCLUDE_INBOUND_PORTS, &["*", "80-90"]),
            (EXCLUDE_INTERFACES, &["eth0;reboot now", "a,,b", "sixteen-letters-x"]),
            (MERGE_METRICS, &["yes"]),
            (PROXY_CPU, &["", "m", "1 ", "1\n", "1mm", "-1", "."]),
            (PROXY_CONFIG, &["- 1", "a: [", "proxyMetadata: {\"A=B\": c}", "proxyMetadata: 1"]),
            (PROXY_IMAGE, &["", "a b", "a\n"]),
            (BOOTSTRAP_OVERRIDE, &["", "Up", "a/b"]),
            (USER_VOLUME, &["[]", "x", r#"{"v":1}"#, r#"{"v":{"hostPath":{"path":"/"}}}"#]),
            (USER_VOLUME_MOUNT, &[r#"{"v":{}}"#, r#"{"v":{"mountPath":"relative"}}"#]),
        ];
        let check = |name: &str, value: &str| validate(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        for (name, values) in good {
            values.iter().for_each(|value| check(name, value).unwrap());
        }
        for (name, values) in bad {
            for value in *values {
                let error = check(name, value).expect_err(value).to_string();
                assert!(error.starts_with(&format!("annotation {name}: ")), "{error}");
            }
        }
    }
}
