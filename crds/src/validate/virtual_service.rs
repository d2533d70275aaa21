//! VirtualService (`ValidateVirtualService`).

use super::report::Report;
use super::rule::{self, ExportsToNobody};
use super::{header, http_route, unreachable};
use crate::Object;
use crate::networking::{Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsRoute, VirtualService};

pub(super) fn validate(service: &VirtualService, object: &Object, report: &mut Report<'_>) {
    let is_delegate = service.hosts.is_empty();
    if is_delegate {
        delegate(service, report);
    }
    gateway_names(&service.gateways, "spec.gateways", report);
    hosts(service, report);
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        report.error("spec", "http, tcp or tls must be provided in virtual service");
    }
    for (i, route) in service.http.iter().enumerate() {
        let at = format!("spec.http[{i}]");
        http_route::validate(route, is_delegate, &at, report);
        if !is_gateway_only(service) {
            jwt_claims(route, &at, report);
        }
    }
    for (i, route) in service.tls.iter().enumerate() {
        tls_route(route, service, &format!("spec.tls[{i}]"), report);
    }
    for (i, route) in service.tcp.iter().enumerate() {
        tcp_route(route, &format!("spec.tcp[{i}]"), report);
    }
    let exports = rule::export_to(&service.export_to, &object.key.namespace, ExportsToNobody::Refused);
    report.check("spec.exportTo", exports);
    unreachable::remarks(service, report);
}

/// A VirtualService without hosts exists only to be delegated to.
fn delegate(service: &VirtualService, report: &mut Report<'_>) {
    if !service.gateways.is_empty() {
        report.error("spec.gateways", "delegate virtual service must have no gateways specified");
    }
    if !service.tls.is_empty() {
        report.error("spec.tls", "delegate virtual service must have no tls route specified");
    }
    if !service.tcp.is_empty() {
        report.error("spec.tcp", "delegate virtual service must have no tcp route specified");
    }
}

/// Without gateways it belongs to the mesh.
fn is_gateway_only(service: &VirtualService) -> bool {
    !service.gateways.is_empty() && !service.gateways.iter().any(|gateway| gateway == "mesh")
}

fn hosts(service: &VirtualService, report: &mut Report<'_>) {
    let is_gateway_only = is_gateway_only(service);
    let has_sni = service.tls.iter().flat_map(|route| &route.r#match).any(|m| !m.sni_hosts.is_empty());
    let mut all_valid = true;
    for (i, host) in service.hosts.iter().enumerate() {
        let at = format!("spec.hosts[{i}]");
        let rule = match is_gateway_only && has_sni {
            true => sni_domain(host),
            false => rule::wildcard_domain(host),
        };
        if let Err(why) = rule.or_else(|why| rule::ip(host).map_err(|_| why)) {
            report.error(at, why);
            all_valid = false;
        } else if host == "*" && !is_gateway_only {
            report.error(at, "wildcard host * is not allowed for virtual services bound to the mesh gateway");
            all_valid = false;
        }
    }
    for (i, host) in service.hosts.iter().enumerate().filter(|_| all_valid) {
        for (j, other) in service.hosts.iter().enumerate().skip(i + 1) {
            if rule::hosts_overlap(host, other) {
                report
                    .error(format!("spec.hosts[{j}]"), format!("duplicate hosts in virtual service: {host} & {other}"));
            }
        }
    }
}

/// A domain, or the name that AUTO_PASSTHROUGH gives a cluster: `outbound_.80_._.host`.
fn sni_domain(host: &str) -> Result<(), String> {
    let Some(rest) = host.strip_prefix("outbound_") else { return rule::wildcard_domain(host) };
    let parts: Vec<_> = rest.split('_').map(|part| part.trim_matches('.')).collect();
    let is_valid = host.len() <= 255
        && parts.len() >= 3
        && parts[0].bytes().any(|b| b.is_ascii_digit())
        && parts[2].bytes().any(|b| b.is_ascii_alphabetic());
    match is_valid {
        true => Ok(()),
        false => Err(format!("domain name {host:?} invalid, should follow 'outbound_.<PORT>_._.<HOSTNAME>' format")),
    }
}

/// `mesh`, `name` or `namespace/name`. `name.namespace.svc...` is an older form.
pub(super) fn gateway_names(names: &[String], at: &str, report: &mut Report<'_>) {
    for (i, name) in names.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let Some((namespace, gateway)) = name.split_once('/') else {
            if let Some((gateway, namespace)) = name.split_once('.') {
                let namespace = namespace.split('.').next().unwrap_or_default();
                let why =
                    format!("using legacy gatewayName format {name:?}; prefer {:?}", format!("{namespace}/{gateway}"));
                report.warning(at.as_str(), why);
            }
            report.check(at, rule::fqdn(name));
            continue;
        };
        if !rule::is_label(namespace) {
            report.error(at.as_str(), format!("invalid value for namespace: {namespace:?}"));
        }
        if !rule::is_label(gateway) {
            report.error(at, format!("invalid value for gateway name: {gateway:?}"));
        }
    }
}

/// Claims are known only where a token was checked, which Istio does for gateways.
fn jwt_claims(route: &crate::networking::HttpRoute, at: &str, report: &mut Report<'_>) {
    for (i, m) in route.r#match.iter().enumerate() {
        let headers = m.headers.keys().map(|name| ("headers", name));
        for (field, name) in headers.chain(m.without_headers.keys().map(|name| ("withoutHeaders", name))) {
            if header::is_jwt_claim(name) {
                let why = "JWT claim based routing is only supported for gateways";
                report.error(format!("{at}.match[{i}].{field}.{name}"), why);
            }
        }
    }
}

fn tls_route(route: &TlsRoute, service: &VirtualService, at: &str, report: &mut Report<'_>) {
    if route.r#match.is_empty() {
        report.error(format!("{at}.match"), "TLS route must have at least one match condition");
    }
    for (i, m) in route.r#match.iter().enumerate() {
        let at = format!("{at}.match[{i}]");
        if m.sni_hosts.is_empty() {
            report.error(format!("{at}.sniHosts"), "TLS match must have at least one SNI host");
        }
        for (i, host) in m.sni_hosts.iter().enumerate() {
            sni_host(host, service, &format!("{at}.sniHosts[{i}]"), report);
        }
        l4_match(&m.destination_subnets, m.port, &at, report);
        report.check(format!("{at}.sourceLabels"), rule::labels(&m.source_labels));
        gateway_names(&m.gateways, &format!("{at}.gateways"), report);
    }
    if route.route.is_empty() {
        report.error(format!("{at}.route"), "TLS route is required");
    }
    route_destinations(&route.route, at, report);
}

fn sni_host(host: &str, service: &VirtualService, at: &str, report: &mut Report<'_>) {
    let rule = if is_gateway_only(service) { sni_domain(host) } else { rule::wildcard_domain(host) };
    if let Err(why) = rule {
        match rule::ip(host) {
            Ok(()) => {
                let why = format!(
                    "using an IP address ({host:?}) goes against SNI spec and most clients do not support this"
                );
                report.warning(at, why);
            }
            Err(_) => report.error(at, why),
        }
        return;
    }
    if !service.hosts.iter().any(|of| rule::host_within(host, of)) {
        let hosts = service.hosts.join(", ");
        let why =
            format!("SNI host {host:?} is not a compatible subset of any of the virtual service hosts: [{hosts}]");
        report.error(at, why);
    }
}

fn tcp_route(route: &TcpRoute, at: &str, report: &mut Report<'_>) {
    for (i, m) in route.r#match.iter().enumerate() {
        let at = format!("{at}.match[{i}]");
        let L4MatchAttributes { destination_subnets, port, source_labels, gateways, source_subnet, .. } = m;
        l4_match(destination_subnets, *port, &at, report);
        if !source_subnet.is_empty() {
            report.check(format!("{at}.sourceSubnet"), rule::subnet(source_subnet));
            report.warning(format!("{at}.sourceSubnet"), "deprecated, has no effect");
        }
        report.check(format!("{at}.sourceLabels"), rule::labels(source_labels));
        gateway_names(gateways, &format!("{at}.gateways"), report);
    }
    if route.route.is_empty() {
        report.error(format!("{at}.route"), "TCP route is required");
    }
    route_destinations(&route.route, at, report);
}

fn l4_match(subnets: &[String], port: Option<u32>, at: &str, report: &mut Report<'_>) {
    for (i, subnet) in subnets.iter().enumerate() {
        report.check(format!("{at}.destinationSubnets[{i}]"), rule::subnet(subnet));
    }
    if let Some(port) = port.filter(|port| *port != 0) {
        report.check(format!("{at}.port"), rule::port(port));
    }
}

fn route_destinations(routes: &[RouteDestination], at: &str, report: &mut Report<'_>) {
    for (i, route) in routes.iter().enumerate() {
        destination(&route.destination, &format!("{at}.route[{i}].destination"), report);
    }
    weights(routes.iter().map(|route| route.weight), at, report);
}

/// None below zero, and with more than one destination not all of them zero.
pub(super) fn weights(weights: impl Iterator<Item = i32>, at: &str, report: &mut Report<'_>) {
    let (mut count, mut total) = (0, 0i64);
    for (i, weight) in weights.enumerate() {
        if weight < 0 {
            report.error(format!("{at}.route[{i}].weight"), format!("weight {weight} < 0"));
        }
        count += 1;
        total += i64::from(weight);
    }
    if count > 1 && total == 0 {
        report.error(format!("{at}.route"), "total destination weight = 0");
    }
    // Envoy's weighted clusters add up in 32 bits.
    if total > i64::from(u32::MAX) {
        report.error(format!("{at}.route"), format!("total destination weight {total} is larger than {}", u32::MAX));
    }
}

pub(super) fn destination(destination: &Destination, at: &str, report: &mut Report<'_>) {
    match destination.host.as_str() {
        "" => report.error(format!("{at}.host"), "destination host is required"),
        "*" => report.error(format!("{at}.host"), "invalid destination host *"),
        host => report.check(format!("{at}.host"), rule::wildcard_domain(host)),
    }
    if !destination.subset.is_empty() {
        report.check(format!("{at}.subset"), subset_name(&destination.subset));
    }
    if let Some(port) = &destination.port {
        report.check(format!("{at}.port.number"), rule::port(port.number));
    }
}

pub(super) fn subset_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("subset name cannot be empty".into()),
        _ if rule::is_label(name) => Ok(()),
        _ => Err(format!("subset name is invalid: {name}")),
    }
}
