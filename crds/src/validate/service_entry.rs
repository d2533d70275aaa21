//! ServiceEntry (`ValidateServiceEntry`).

use super::report::Report;
use super::rule::{self, ExportsToNobody, Protocol};
use super::workload_entry;
use crate::Object;
use crate::networking::{Location, Resolution, ServiceEntry};
use std::collections::BTreeSet;

pub(super) fn validate(entry: &ServiceEntry, object: &Object, report: &mut Report<'_>) {
    if let Some(selector) = &entry.workload_selector {
        report.check("spec.workloadSelector.labels", rule::selector(&selector.labels));
        if selector.labels.is_empty() {
            let why = "workload selector specified without labels, will be applied to all services in namespace";
            report.warning("spec.workloadSelector", why);
        }
        if !entry.endpoints.is_empty() {
            report.error("spec.endpoints", "only one of WorkloadSelector or Endpoints is allowed in Service Entry");
        }
    }
    hosts(entry, report);
    for (i, address) in entry.addresses.iter().enumerate() {
        let at = format!("spec.addresses[{i}]");
        report.check(at.as_str(), rule::subnet(address));
        if address.contains('/') && !matches!(entry.resolution, Resolution::None | Resolution::Static) {
            report.error(at, "CIDR addresses are allowed only for NONE/STATIC resolution types");
        }
    }
    ports(entry, object, report);
    resolution(entry, object, report);
    let exports = rule::export_to(&entry.export_to, &object.key.namespace, ExportsToNobody::Allowed);
    report.check("spec.exportTo", exports);
}

fn hosts(entry: &ServiceEntry, report: &mut Report<'_>) {
    if entry.hosts.is_empty() {
        report.error("spec.hosts", "service entry must have at least one host");
    }
    for (i, host) in entry.hosts.iter().enumerate() {
        let at = format!("spec.hosts[{i}]");
        if host == "*" {
            report.error(at, "invalid host *");
            continue;
        }
        report.check(at.as_str(), rule::wildcard_domain(host));
        if entry.resolution != Resolution::DynamicDns
            && let Err(why) = rule::no_partial_wildcard(host)
        {
            report.warning(at, why);
        }
    }
}

fn ports(entry: &ServiceEntry, object: &Object, report: &mut Report<'_>) {
    let opts_out = object.meta.labels.get("networking.istio.io/enable-autoallocate-ip").is_some_and(|v| v == "false");
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in entry.ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        report.check(format!("{at}.name"), rule::port_name(&port.name));
        report.check(format!("{at}.number"), rule::port(port.number));
        report.check(format!("{at}.protocol"), rule::protocol(&port.protocol));
        if !names.insert(&port.name) {
            report.error(format!("{at}.name"), format!("service entry port name {:?} already defined", port.name));
        }
        if !numbers.insert(port.number) {
            report.error(format!("{at}.number"), format!("service entry port {} already defined", port.number));
        }
        if let Some(target) = port.target_port.filter(|target| *target != 0) {
            report.check(format!("{at}.targetPort"), rule::port(target));
        }
        let is_tcp = port.protocol.is_empty() || port.protocol == "TCP";
        if entry.addresses.is_empty() && is_tcp && opts_out {
            let why = "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled";
            report.warning(at, why);
        }
    }
    let cannot_tell_hosts_apart = entry.resolution != Resolution::None && entry.hosts.len() > 1;
    let is_plain = |name: &str| !matches!(Protocol::parse(name), Protocol::Http | Protocol::Tls);
    if let Some(i) = entry.ports.iter().position(|port| is_plain(&port.protocol)).filter(|_| cannot_tell_hosts_apart) {
        report.error(format!("spec.ports[{i}]"), "multiple hosts provided with non-HTTP, non-TLS ports");
    }
}

fn resolution(entry: &ServiceEntry, object: &Object, report: &mut Report<'_>) {
    let names: BTreeSet<_> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    match entry.resolution {
        Resolution::None => {
            if !entry.endpoints.is_empty() {
                report.error("spec.endpoints", "no endpoints should be provided for resolution type none");
            }
            if entry.workload_selector.is_some() {
                let why = "workloadSelector should not be set when resolution mode is NONE";
                report.warning("spec.workloadSelector", why);
            }
        }
        Resolution::Static => {
            for (i, endpoint) in entry.endpoints.iter().enumerate() {
                workload_entry::static_endpoint(endpoint, &names, &format!("spec.endpoints[{i}]"), report);
            }
        }
        Resolution::Dns | Resolution::DnsRoundRobin => dns(entry, &names, report),
        Resolution::DynamicDns => dynamic_dns(entry, object, report),
    }
}

fn dns(entry: &ServiceEntry, names: &BTreeSet<&str>, report: &mut Report<'_>) {
    for (i, host) in entry.hosts.iter().enumerate().filter(|_| entry.endpoints.is_empty()) {
        if let Err(why) = rule::fqdn(host) {
            let why = format!("hosts must be FQDN if no endpoints are provided for DNS resolution: {why}");
            report.error(format!("spec.hosts[{i}]"), why);
        }
    }
    if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
        let why = "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN";
        report.error("spec.endpoints", why);
    }
    for (i, endpoint) in entry.endpoints.iter().enumerate() {
        let at = format!("spec.endpoints[{i}]");
        if rule::ip(&endpoint.address).is_err() && rule::fqdn(&endpoint.address).is_err() {
            let why = format!("endpoint address {:?} is not a valid FQDN or an IP address", endpoint.address);
            report.error(format!("{at}.address"), why);
        }
        report.check(format!("{at}.labels"), rule::labels(&endpoint.labels));
        workload_entry::ports(endpoint, Some(names), &at, report);
    }
    let has_tcp =
        entry.ports.iter().any(|port| matches!(Protocol::parse(&port.protocol), Protocol::Tcp | Protocol::Tls));
    if !entry.addresses.is_empty() && entry.hosts.len() > 1 && has_tcp {
        let why = "service entry can not have more than one host specified simultaneously with address and tcp port";
        report.warning("spec.hosts", why);
    }
}

fn dynamic_dns(entry: &ServiceEntry, object: &Object, report: &mut Report<'_>) {
    for (i, host) in entry.hosts.iter().enumerate() {
        if !host.starts_with('*') {
            report.error(format!("spec.hosts[{i}]"), "host must be wildcarded for resolution mode DYNAMIC_DNS");
        }
    }
    if !entry.addresses.is_empty() {
        report.error("spec.addresses", "addresses cannot be set for resolution type DYNAMIC_DNS");
    }
    if !entry.endpoints.is_empty() {
        report.error("spec.endpoints", "endpoints cannot be set for resolution type DYNAMIC_DNS");
    }
    for (i, port) in entry.ports.iter().enumerate() {
        if !["http", "tls", "grpc", "http2"].contains(&port.protocol.to_ascii_lowercase().as_str()) {
            let why = "only HTTP, TLS, GRPC, and HTTP2 protocols are supported for resolution type DYNAMIC_DNS";
            report.error(format!("spec.ports[{i}].protocol"), why);
        }
    }
    let waypoint = object.meta.labels.get("istio.io/use-waypoint");
    let uses_waypoint = waypoint.is_some_and(|waypoint| !waypoint.is_empty() && !waypoint.eq_ignore_ascii_case("none"));
    if entry.location == Location::MeshInternal && uses_waypoint {
        let why = "location MESH_INTERNAL with resolution type DYNAMIC_DNS is not supported when using waypoints";
        report.error("spec.location", why);
    }
}
