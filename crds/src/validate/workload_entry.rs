//! WorkloadEntry, alone and inside a ServiceEntry (`validateWorkloadEntry`).

use super::report::Report;
use super::rule::{self, UNIX};
use crate::networking::WorkloadEntry;
use std::collections::BTreeSet;

pub(super) fn validate(entry: &WorkloadEntry, report: &mut Report<'_>) {
    address(entry, "spec", report);
    ports(entry, None, "spec", report);
    report.check("spec.labels", rule::labels(&entry.labels));
}

/// An endpoint of a ServiceEntry with STATIC resolution: no DNS names.
pub(super) fn static_endpoint(entry: &WorkloadEntry, services: &BTreeSet<&str>, at: &str, report: &mut Report<'_>) {
    address(entry, at, report);
    let address = &entry.address;
    if !address.is_empty() && !address.starts_with(UNIX) && rule::ip(address).is_err() && rule::fqdn(address).is_ok() {
        report.error(format!("{at}.address"), format!("endpoint address {address:?} is not a valid IP address"));
    }
    if address.starts_with(UNIX) && services.len() != 1 {
        report.error(format!("{at}.address"), "exactly 1 service port required for unix endpoints");
    }
    ports(entry, Some(services), at, report);
    report.check(format!("{at}.labels"), rule::labels(&entry.labels));
}

pub(super) fn address(entry: &WorkloadEntry, at: &str, report: &mut Report<'_>) {
    let at = format!("{at}.address");
    let address = &entry.address;
    if address.is_empty() {
        match entry.network.is_empty() {
            true => report.error(at, "address is required"),
            false => report.warning(at, format!("address is unset with network {:?}", entry.network)),
        }
    } else if let Some(path) = address.strip_prefix(UNIX) {
        report.check(at.as_str(), rule::unix_address(path));
        if !entry.ports.is_empty() {
            report.error(at, format!("unix endpoint {address} must not include ports"));
        }
    } else if rule::ip(address).is_err() && rule::fqdn(address).is_err() {
        report.error(at, format!("endpoint address {address:?} is not a valid FQDN or an IP address"));
    }
}

/// `services` are the names of the service's ports, when they are known.
pub(super) fn ports(entry: &WorkloadEntry, services: Option<&BTreeSet<&str>>, at: &str, report: &mut Report<'_>) {
    for (name, port) in &entry.ports {
        let at = format!("{at}.ports.{name}");
        if services.is_some_and(|services| !services.contains(name.as_str())) {
            report.error(at.as_str(), format!("endpoint port {name} ({port}) is not defined by the service entry"));
        }
        report.check(at.as_str(), rule::port_name(name));
        report.check(at, rule::port(*port));
    }
}
