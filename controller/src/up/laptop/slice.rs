//! EndpointSlices, as Kubernetes' endpoint slice controller writes them.

use super::{Plan, PodKey, Setup, meta, port};
use crds::kube::{Conditions, Container, EndpointSlice, SliceEndpoint, SlicePort, TargetRef, TransportProtocol};
use crds::{Kind, Meta, Object, ObjectKey, Problem, Reason, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// For Services with selectors, unless the folder brings slices of that Service. Pods whose containers give a named
/// port different numbers come in slices of their own, as in Kubernetes.
pub(super) fn endpoint_slices(plan: &mut Plan, setup: &Setup) {
    let brought: BTreeSet<(String, String)> = plan.objects.values().filter_map(service_of).collect();
    let services: Vec<_> = plan
        .selecting_services()
        .filter(|(key, _)| !brought.contains(&(key.namespace.to_string(), key.name.to_string())))
        .map(|(key, service)| (key.clone(), service.clone()))
        .collect();
    for (key, service) in services {
        let mut slices = BTreeMap::<Vec<(String, u16)>, Vec<(PodKey, Ipv4Addr)>>::new();
        for workload in plan.workloads.values() {
            if workload.key.namespace != *key.namespace || !model::label::selects(&service.selector, &workload.labels) {
                continue;
            }
            let containers = containers_of(plan, &workload.key);
            let ports = port::tcp_ports(&service)
                .filter_map(|it| Some((it.name.clone(), port::target(it, containers, setup.low_ports)?)))
                .collect();
            slices.entry(ports).or_default().push((workload.key.clone(), workload.addresses.pod));
        }
        let unresolved = unresolved(&key, &service, slices.keys());
        for (index, (ports, pods)) in slices.into_iter().enumerate() {
            insert(plan, setup, &key, index, ports, pods);
        }
        plan.problems.extend(unresolved);
    }
}

fn insert(
    plan: &mut Plan,
    setup: &Setup,
    service: &ObjectKey,
    index: usize,
    ports: Vec<(String, u16)>,
    pods: Vec<(PodKey, Ipv4Addr)>,
) {
    let endpoints = pods
        .into_iter()
        .map(|(pod, ip)| {
            let ready = setup.readiness.has(&pod);
            SliceEndpoint {
                addresses: vec![ip.to_string()],
                conditions: Conditions { ready: Some(ready), serving: Some(ready), terminating: Some(false) },
                target_ref: Some(TargetRef { kind: "Pod".to_owned(), name: pod.name, namespace: Some(pod.namespace) }),
                ..SliceEndpoint::default()
            }
        })
        .collect();
    let ports = ports
        .into_iter()
        .map(|(name, port)| SlicePort { name: Some(name), port: Some(port), protocol: TransportProtocol::Tcp })
        .collect();
    let slice = EndpointSlice { address_type: "IPv4".to_owned(), endpoints, ports };
    let meta = Meta {
        labels: BTreeMap::from([(SERVICE_NAME_LABEL.to_owned(), service.name.to_string())]).into(),
        ..meta(&service.namespace, &format!("{}-{index}", service.name))
    };
    plan.insert(Kind::EndpointSlice, meta, Spec::EndpointSlice(slice));
}

/// A named target port that no selected pod has is a typo in most cases.
fn unresolved<'a>(
    key: &ObjectKey,
    service: &crds::kube::Service,
    slices: impl Iterator<Item = &'a Vec<(String, u16)>>,
) -> Vec<Problem> {
    let slices: Vec<_> = slices.collect();
    if slices.is_empty() {
        let reason = Reason::Ineffective("no pod of the folder's Deployments has the selector's labels".to_owned());
        return vec![Problem::new(key, "spec.selector", reason)];
    }
    let missing = |name: &str| !slices.iter().any(|ports| ports.iter().any(|(it, _)| it == name));
    let ports = service.ports.iter().enumerate();
    ports
        .filter(|(_, it)| it.protocol == TransportProtocol::Tcp && missing(&it.name))
        .map(|(index, _)| {
            let reason = Reason::Ineffective("no container of the selected pods has a port of this name".to_owned());
            Problem::new(key, format!("spec.ports[{index}].targetPort"), reason)
        })
        .collect()
}

fn service_of(object: &Object) -> Option<(String, String)> {
    match object.spec {
        Spec::EndpointSlice(_) => {
            let service = object.meta.labels.get(SERVICE_NAME_LABEL)?;
            Some((object.key.namespace.to_string(), service.clone()))
        }
        _ => None,
    }
}

pub(super) fn containers_of<'a>(plan: &'a Plan, pod: &PodKey) -> &'a [Container] {
    let key = ObjectKey::new(Kind::Pod, pod.namespace.as_str(), pod.name.as_str());
    match plan.objects.get(&key).map(|it| &it.spec) {
        Some(Spec::Pod(pod)) => &pod.spec.containers,
        _ => &[],
    }
}
