//! One Sidecar for each workload, made from the user's own that would apply to it: the same hosts, policies and
//! listeners, with the workload's addresses filled in.

use super::{HTTP_PROXY_PORT, LowPorts, Plan, Workload, meta, port, proxy, slice};
use crate::envoy::bootstrap::Role;
use crds::networking::{CaptureMode, EgressListener, IngressListener, Port, Sidecar, WorkloadSelector};
use crds::{Kind, ObjectKey, Spec};
use model::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

pub(super) fn sidecars(plan: &mut Plan, low_ports: LowPorts) {
    let workloads: Vec<Workload> = plan.workloads.values().filter(|it| it.role == Role::Sidecar).cloned().collect();
    let mut made = vec![];
    for workload in &workloads {
        let applied = applied(plan, workload);
        let own = applied.as_ref().map(|(_, sidecar)| sidecar.clone()).unwrap_or_default();
        made.push((workload, applied.map(|(key, _)| key), sidecar(plan, workload, own, low_ports)));
    }
    // Selectors of two Sidecars for one pod would conflict (the older wins in Istio), so the user's make room.
    plan.objects.retain(|_, it| !matches!(&it.spec, Spec::Sidecar(it) if it.workload_selector.is_some()));
    for (workload, origin, sidecar) in made {
        let meta = meta(&workload.key.namespace, &format!("navarch-{}", workload.key.name));
        let key = plan.insert(Kind::Sidecar, meta, Spec::Sidecar(Box::new(sidecar)));
        let deployment =
            || ObjectKey::new(Kind::Deployment, workload.key.namespace.as_str(), workload.deployment.as_str());
        plan.origins.insert(key, origin.unwrap_or_else(deployment));
    }
}

/// Istio's order: with a matching selector, of the namespace, of the root namespace; among equals the oldest.
fn applied(plan: &Plan, workload: &Workload) -> Option<(ObjectKey, Sidecar)> {
    let root = proxy::mesh_config(&plan.objects).root_namespace;
    let mut candidates: Vec<_> = plan
        .objects
        .values()
        .filter_map(|object| match &object.spec {
            Spec::Sidecar(sidecar) => {
                let own = *object.key.namespace == workload.key.namespace;
                let rank = match &sidecar.workload_selector {
                    Some(it) if own && model::label::selects(&it.labels, &workload.labels) => 0,
                    Some(_) => return None,
                    None if own => 1,
                    None if *object.key.namespace == root => 2,
                    None => return None,
                };
                Some((rank, object.meta.creation_timestamp.clone(), &object.key, sidecar))
            }
            _ => None,
        })
        .collect();
    candidates.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
    candidates.first().map(|(_, _, key, sidecar)| ((*key).clone(), (***sidecar).clone()))
}

fn sidecar(plan: &Plan, workload: &Workload, own: Sidecar, low_ports: LowPorts) -> Sidecar {
    Sidecar {
        workload_selector: Some(WorkloadSelector {
            labels: BTreeMap::from([(super::POD_LABEL.to_owned(), workload.key.name.clone())]),
        }),
        ingress: match own.ingress.is_empty() {
            true => ingress(plan, workload, low_ports),
            false => own.ingress.into_iter().map(|it| placed_ingress(it, workload)).collect(),
        },
        egress: egress(own.egress, workload.addresses.sidecar),
        inbound_connection_pool: own.inbound_connection_pool,
        outbound_traffic_policy: own.outbound_traffic_policy,
    }
}

/// A listener for each port through which a Service reaches the pod: the inbound listeners that Istio makes by itself
/// where it captures. The first Service to name a port gives it its protocol.
fn ingress(plan: &Plan, workload: &Workload, low_ports: LowPorts) -> Vec<IngressListener> {
    let containers = slice::containers_of(plan, &workload.key);
    let mut listeners = BTreeMap::new();
    for (_, service) in port::services_of(plan, &workload.key.namespace, &workload.labels) {
        for service_port in port::tcp_ports(service) {
            let Some(number) = port::target(service_port, containers, low_ports) else { continue };
            listeners.entry(number).or_insert_with(|| IngressListener {
                port: Port {
                    number: number.into(),
                    protocol: protocol_name(port::protocol(service_port)).to_owned(),
                    name: service_port.name.clone(),
                    target_port: None,
                },
                bind: workload.addresses.pod.to_string(),
                capture_mode: CaptureMode::None,
                default_endpoint: format!("{}:{number}", workload.addresses.app),
                ..IngressListener::default()
            });
        }
    }
    listeners.into_values().collect()
}

/// A user's ingress listener, bound to the pod's address; `127.0.0.1:PORT`, `0.0.0.0:PORT` and nothing all mean the
/// program of this pod, which has an address of its own here. Unix sockets stay.
fn placed_ingress(own: IngressListener, workload: &Workload) -> IngressListener {
    let app = workload.addresses.app;
    let default_endpoint = match own.default_endpoint.rsplit_once(':') {
        _ if own.default_endpoint.starts_with("unix:") => own.default_endpoint.clone(),
        Some((_, port)) => format!("{app}:{port}"),
        None => format!("{app}:{}", own.port.number),
    };
    IngressListener {
        bind: workload.addresses.pod.to_string(),
        capture_mode: CaptureMode::None,
        default_endpoint,
        ..own
    }
}

/// The user's listeners on the sidecar's address, and before the catch-all (which must be the last) the HTTP proxy,
/// which sees every host that any of them imports.
fn egress(own: Vec<EgressListener>, sidecar: Ipv4Addr) -> Vec<EgressListener> {
    let place = |listener: EgressListener| EgressListener {
        bind: match listener.bind.starts_with("unix:") {
            true => listener.bind.clone(),
            false => sidecar.to_string(),
        },
        capture_mode: CaptureMode::None,
        ..listener
    };
    let everything = || EgressListener { hosts: vec!["*/*".to_owned()], ..EgressListener::default() };
    let own = if own.is_empty() { vec![everything()] } else { own };
    let hosts: BTreeSet<String> = own.iter().flat_map(|it| it.hosts.iter().cloned()).collect();
    let (with_port, catch_all): (Vec<_>, Vec<_>) = own.into_iter().partition(|it| it.port.is_some());
    let proxy = EgressListener {
        port: Some(Port {
            number: HTTP_PROXY_PORT.into(),
            protocol: "HTTP_PROXY".to_owned(),
            name: "http-proxy".to_owned(),
            target_port: None,
        }),
        hosts: hosts.into_iter().collect(),
        ..EgressListener::default()
    };
    with_port.into_iter().chain([proxy]).chain(catch_all).map(place).collect()
}

/// As Sidecar ports write it; empty means that Envoy finds out.
fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "",
        Protocol::Grpc => "GRPC",
        Protocol::GrpcWeb => "GRPC-WEB",
        Protocol::Http => "HTTP",
        Protocol::Http2 => "HTTP2",
        Protocol::HttpProxy => "HTTP_PROXY",
        Protocol::Https => "HTTPS",
        Protocol::Mongo => "MONGO",
        Protocol::Mysql => "MYSQL",
        Protocol::Redis => "REDIS",
        Protocol::Tcp => "TCP",
        Protocol::Tls => "TLS",
        Protocol::Udp => "UDP",
    }
}
