//! Whether a well-formed object is allowed: the rules of Istio's webhook
//! (<https://github.com/istio/istio/tree/master/pkg/config/validation>), of the CRDs' own schemas, and the list of
//! fields that this version accepts without translating them.
//!
//! An error means that Istio would refuse the object; a warning that it is in force with a remark. Nothing here looks
//! at other objects: what depends on them (an unknown subset, two rules for a host) is found where they meet.

mod destination_rule;
mod envoy_filter;
mod extension;
mod gateway;
mod header;
mod http_route;
mod locality;
pub(crate) mod mesh_config;
mod peer_authentication;
mod proxy_config;
mod report;
mod rule;
mod server_tls;
mod service;
mod service_entry;
mod sidecar;
mod target;
mod traffic_policy;
pub(crate) mod translated;
mod unreachable;
mod virtual_service;
mod workload_entry;
mod workload_group;

use crate::{Object, Problem, Spec};
use report::Report;

/// Every rule of the object's kind; all mistakes, not only the first.
pub fn object(object: &Object) -> Vec<Problem> {
    let mut report = Report::new(&object.key);
    metadata(object, &mut report);
    match &object.spec {
        Spec::DestinationRule(rule) => destination_rule::validate(rule, object, &mut report),
        Spec::EnvoyFilter(filter) => envoy_filter::validate(filter, &mut report),
        Spec::Gateway(gateway) => gateway::validate(gateway, object, &mut report),
        Spec::PeerAuthentication(policy) => peer_authentication::validate(policy, &mut report),
        Spec::ProxyConfig(config) => proxy_config::validate(config, &mut report),
        Spec::Service(service) => service::validate(service, object, &mut report),
        Spec::ServiceEntry(entry) => service_entry::validate(entry, object, &mut report),
        Spec::Sidecar(sidecar) => sidecar::validate(sidecar, object, &mut report),
        Spec::TrafficExtension(it) => extension::traffic_extension(it, &mut report),
        Spec::VirtualService(service) => virtual_service::validate(service, object, &mut report),
        Spec::WasmPlugin(it) => extension::wasm_plugin(it, &mut report),
        Spec::WorkloadEntry(entry) => workload_entry::validate(entry, &mut report),
        Spec::WorkloadGroup(group) => workload_group::validate(group, &mut report),
        Spec::ConfigMap(_)
        | Spec::Deployment(_)
        | Spec::EndpointSlice(_)
        | Spec::Namespace
        | Spec::Node
        | Spec::Pod(_) => {}
    }
    report.into_problems()
}

/// Fields that are set and have no effect in this version; [`translated`] has the list.
pub fn untranslated(object: &Object) -> Vec<Problem> {
    let mut report = Report::new(&object.key);
    translated::remarks(&object.spec, &mut report);
    report.into_problems()
}

/// Names that the API server would refuse, and annotations that Istio keeps for itself.
fn metadata(object: &Object, report: &mut Report<'_>) {
    report.check("metadata.name", rule::object_name(&object.meta.name));
    if !object.key.namespace.is_empty() {
        report.check("metadata.namespace", rule::namespace(&object.key.namespace));
    }
    for name in ["internal.istio.io/parents", "internal.istio.io/parent-namespace"] {
        if object.meta.annotations.contains_key(name) {
            report.error(format!("metadata.annotations.{name}"), "annotation found, this may not be set by users");
        }
    }
    let always_reject = "internal.istio.io/webhook-always-reject";
    if object.meta.annotations.contains_key(always_reject) {
        report.error(format!("metadata.annotations.{always_reject}"), "annotation found, rejecting");
    }
}

#[cfg(test)]
mod tests;
