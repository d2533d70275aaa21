//! WorkloadGroup (`ValidateWorkloadGroup`).

use super::report::Report;
use super::rule::UNIX;
use super::{rule, workload_entry};
use crate::networking::{HttpHealthCheck, ReadinessProbe, WorkloadGroup};

pub(super) fn validate(group: &WorkloadGroup, report: &mut Report<'_>) {
    match &group.template {
        None => report.error("spec.template", "template is required"),
        // Its address is the workload's own, unless it is a socket.
        Some(template) => {
            if template.address.starts_with(UNIX) {
                workload_entry::address(template, "spec.template", report);
            }
            workload_entry::ports(template, None, "spec.template", report);
            report.check("spec.template.labels", rule::labels(&template.labels));
        }
    }
    if let Some(metadata) = &group.metadata {
        report.check("spec.metadata.labels", rule::labels(&metadata.labels));
    }
    if let Some(probe) = &group.probe {
        self::probe(probe, report);
    }
}

fn probe(probe: &ReadinessProbe, report: &mut Report<'_>) {
    let at = "spec.probe";
    for (field, value) in [
        ("periodSeconds", probe.period_seconds),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if value < 0 {
            report.error(format!("{at}.{field}"), format!("{field} must be non-negative"));
        }
    }
    let methods = [probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.exec.is_some(), probe.grpc.is_some()];
    match methods.iter().filter(|is_set| **is_set).count() {
        0 => report.error(at, "one of httpGet, tcpSocket, exec and grpc is required"),
        1 => {}
        _ => report.error(at, "only one of httpGet, tcpSocket, exec and grpc may be set"),
    }
    if let Some(http) = &probe.http_get {
        http_get(http, &format!("{at}.httpGet"), report);
    }
    if let Some(tcp) = &probe.tcp_socket {
        report.check(format!("{at}.tcpSocket.port"), rule::port(tcp.port));
    }
    if let Some(grpc) = &probe.grpc {
        report.check(format!("{at}.grpc.port"), rule::port(grpc.port));
    }
    if let Some(exec) = &probe.exec
        && exec.command.iter().all(String::is_empty)
    {
        report.error(format!("{at}.exec.command"), "exec.command is required");
    }
}

fn http_get(check: &HttpHealthCheck, at: &str, report: &mut Report<'_>) {
    report.check(format!("{at}.port"), rule::port(check.port));
    if !["", "HTTP", "HTTPS"].contains(&check.scheme.as_str()) {
        report.error(format!("{at}.scheme"), "httpGet.scheme must be one of \"HTTPS\", \"HTTP\"");
    }
    for (i, header) in check.http_headers.iter().enumerate() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if header.name.is_empty() || !header.name.chars().all(is_name) {
            let why = format!("header name {:?} is not a valid header name", header.name);
            report.error(format!("{at}.httpHeaders[{i}].name"), why);
        }
    }
}
