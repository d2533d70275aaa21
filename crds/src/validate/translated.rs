//! The fields that are accepted and not translated by this version: one line each. Translating a field means deleting
//! its line, and nothing else.

use super::report::Report;
use crate::extensions::{TrafficExtension, Wasm};
use crate::networking::{ClientTls, ClientTlsMode, DestinationRule, Gateway, LoadBalancer, ServerTls, ServerTlsMode};
use crate::{Reason, Spec};

/// A field's path below its message, and whether it is set in a way that is not translated.
type Line<T> = (&'static str, fn(&T) -> bool);

/// Of traffic policies, and of their ports' settings.
/// What it stands for is asked of the control plane, which serves no secrets yet: the connection fails.
const CLIENT_TLS: &[Line<ClientTls>] = &[("tls.credentialName", |tls| {
    matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) && !tls.credential_name.is_empty()
})];

const LOAD_BALANCER: &[Line<LoadBalancer>] = &[
    ("backendUtilization", |lb| lb.backend_utilization.is_some()),
    ("zoneAwareLbSetting", |lb| lb.zone_aware_lb_setting.is_some()),
];

/// Credentials are asked of the control plane, which serves no secrets yet.
const SERVER_TLS: &[Line<ServerTls>] = &[
    ("mode", |tls| tls.mode == ServerTlsMode::AutoPassthrough),
    ("credentialName", |tls| tls.needs_credentials() && !tls.credential_name.is_empty()),
    ("credentialNames", |tls| tls.needs_credentials() && !tls.credential_names.is_empty()),
    ("caCertCredentialName", |tls| tls.needs_credentials() && !tls.ca_cert_credential_name.is_empty()),
];

/// Whoever would fetch it is not there yet: the filter is left out.
const WASM: &[Line<Wasm>] =
    &[("url", |wasm| wasm.is_remote()), ("imagePullSecret", |wasm| !wasm.image_pull_secret.is_empty())];

pub(super) fn remarks(spec: &Spec, report: &mut Report<'_>) {
    match spec {
        Spec::DestinationRule(rule) => destination_rule(rule, report),
        Spec::Gateway(gateway) => self::gateway(gateway, report),
        Spec::TrafficExtension(it) => module(it, "spec.wasm", report),
        Spec::WasmPlugin(it) => module(&it.extension(), "spec", report),
        _ => {}
    }
}

fn lines<T>(table: &[Line<T>], value: &T, at: &str, report: &mut Report<'_>) {
    for (field, _) in table.iter().filter(|(_, is_set)| is_set(value)) {
        report.add(format!("{at}.{field}"), Reason::NotTranslated);
    }
}

fn module(extension: &TrafficExtension, at: &str, report: &mut Report<'_>) {
    if let Some(wasm) = &extension.wasm {
        lines(WASM, wasm, at, report);
    }
}

fn gateway(gateway: &Gateway, report: &mut Report<'_>) {
    for (i, server) in gateway.servers.iter().enumerate() {
        if let Some(tls) = &server.tls {
            lines(SERVER_TLS, tls, &format!("spec.servers[{i}].tls"), report);
        }
    }
}

fn destination_rule(rule: &DestinationRule, report: &mut Report<'_>) {
    let subsets = rule.subsets.iter().enumerate();
    let subsets = subsets.map(|(i, subset)| (format!("spec.subsets[{i}].trafficPolicy"), &subset.traffic_policy));
    let all = std::iter::once(("spec.trafficPolicy".to_owned(), &rule.traffic_policy)).chain(subsets);
    for (at, policy) in all.filter_map(|(at, policy)| Some((at, policy.as_ref()?))) {
        blocks(&policy.load_balancer, &policy.tls, &at, report);
        for (i, port) in policy.port_level_settings.iter().enumerate() {
            blocks(&port.load_balancer, &port.tls, &format!("{at}.portLevelSettings[{i}]"), report);
        }
    }
}

fn blocks(load_balancer: &Option<LoadBalancer>, tls: &Option<ClientTls>, at: &str, report: &mut Report<'_>) {
    if let Some(load_balancer) = load_balancer {
        lines(LOAD_BALANCER, load_balancer, &format!("{at}.loadBalancer"), report);
    }
    if let Some(tls) = tls {
        lines(CLIENT_TLS, tls, at, report);
    }
}
