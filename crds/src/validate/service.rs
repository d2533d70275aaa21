//! Service: the API server's rules that matter for traffic (`ValidateService` of Kubernetes), as a folder has no API
//! server before it; and Istio's advice on port names (`istioctl validate`).

use super::report::Report;
use super::rule;
use crate::Object;
use crate::kube::{IntOrString, Service, ServiceType};
use std::collections::BTreeSet;

pub(super) fn validate(service: &Service, object: &Object, report: &mut Report<'_>) {
    if object.key.name.contains('.') {
        report.error("metadata.name", format!("the name of a Service has no dots: {:?}", object.key.name));
    }
    report.check("spec.selector", rule::labels(&service.selector));
    if service.r#type == ServiceType::ExternalName {
        return external_name(service, report);
    }
    let is_headless = service.cluster_ip.as_deref() == Some("None");
    if service.ports.is_empty() && !is_headless {
        report.error("spec.ports", "a Service needs at least one port");
    }
    if let Some(address) = service.cluster_ip.as_deref().filter(|ip| !["", "None"].contains(ip)) {
        report.check("spec.clusterIP", rule::ip(address));
    }
    for (i, address) in service.cluster_ips.iter().enumerate().filter(|(_, ip)| !["", "None"].contains(&ip.as_str())) {
        report.check(format!("spec.clusterIPs[{i}]"), rule::ip(address));
    }
    ports(service, report);
}

fn external_name(service: &Service, report: &mut Report<'_>) {
    match service.external_name.as_deref().unwrap_or_default() {
        "" => report.error("spec.externalName", "a Service of type ExternalName needs an externalName"),
        name => report.check("spec.externalName", rule::fqdn(name)),
    }
}

fn ports(service: &Service, report: &mut Report<'_>) {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in service.ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        report.check(format!("{at}.port"), rule::port(port.port.into()));
        if port.name.is_empty() && service.ports.len() > 1 {
            report.error(format!("{at}.name"), "with more than one port, each needs a name");
        } else if !port.name.is_empty() {
            report.check(format!("{at}.name"), rule::port_name(&port.name));
        }
        if !names.insert(&port.name) && !port.name.is_empty() {
            report.error(format!("{at}.name"), format!("port name {:?} is already used", port.name));
        }
        if !numbers.insert((port.port, format!("{:?}", port.protocol))) {
            report.error(format!("{at}.port"), format!("port {} is already defined", port.port));
        }
        match &port.target_port {
            Some(IntOrString::Int(0)) => {
                report.error(format!("{at}.targetPort"), "port number 0 must be in the range 1..65535")
            }
            Some(IntOrString::String(name)) if name.is_empty() || name.len() > 15 || !rule::is_label(name) => {
                let why = format!("{name:?} is neither a port number nor the name of a container port");
                report.error(format!("{at}.targetPort"), why);
            }
            _ => {}
        }
    }
}
