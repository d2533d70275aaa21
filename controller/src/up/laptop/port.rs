//! Ports: which ones a workload's program serves, and how ports that need privileges are avoided.

use super::{Objects, Plan};
use crate::service::Speaks;
use crds::Spec;
use crds::kube::{Container, IntOrString, Service, ServicePort, TransportProtocol};
use model::Protocol;
use std::collections::BTreeMap;

/// Whether this user may bind ports below 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowPorts {
    Bindable,
    /// They are raised by 10,000 where a program or an inbound listener would bind them (target ports; the ports that
    /// callers name stay).
    Raised,
}

impl LowPorts {
    pub(super) fn raise(self, port: u16) -> u16 {
        match self {
            Self::Raised if port < 1024 => port + 10_000,
            _ => port,
        }
    }
}

/// Raises the low target ports of all Services, so that everybody who reads a Service agrees.
pub(super) fn raise(objects: &mut Objects, low_ports: LowPorts) {
    if low_ports == LowPorts::Bindable {
        return;
    }
    for object in objects.values_mut() {
        let Spec::Service(service) = &mut object.spec else { continue };
        for port in &mut service.ports {
            let target = match port.target_port {
                Some(IntOrString::String(_)) => continue,
                Some(IntOrString::Int(target)) => target,
                None => port.port,
            };
            if target < 1024 {
                port.target_port = Some(IntOrString::Int(low_ports.raise(target)));
            }
        }
    }
}

/// The number that a Service port means in these containers; `None` if no container names it.
pub(super) fn target(port: &ServicePort, containers: &[Container], low_ports: LowPorts) -> Option<u16> {
    match &port.target_port {
        None => Some(low_ports.raise(port.port)),
        Some(IntOrString::Int(number)) => Some(low_ports.raise(*number)),
        Some(IntOrString::String(name)) => containers
            .iter()
            .flat_map(|it| &it.ports)
            .find(|it| it.name == *name && it.protocol == TransportProtocol::Tcp)
            .map(|it| low_ports.raise(it.container_port)),
    }
}

/// Every TCP port of the containers, and every port through which a Service reaches them.
pub(super) fn listen(
    plan: &Plan,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    containers: &[Container],
    low_ports: LowPorts,
) -> BTreeMap<u16, Speaks> {
    let own = containers.iter().flat_map(|it| &it.ports).filter(|it| it.protocol == TransportProtocol::Tcp);
    let mut listen: BTreeMap<u16, Speaks> = own
        .map(|it| (low_ports.raise(it.container_port), speaks(Protocol::of_port(it.container_port, &it.name, None))))
        .collect();
    for (_, service) in services_of(plan, namespace, labels) {
        for port in tcp_ports(service) {
            if let Some(target) = target(port, containers, low_ports) {
                listen.insert(target, speaks(protocol(port)));
            }
        }
    }
    listen
}

/// The Services that select a pod.
pub(super) fn services_of<'a>(
    plan: &'a Plan,
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a crds::ObjectKey, &'a Service)> {
    plan.selecting_services()
        .filter(move |(key, service)| &*key.namespace == namespace && model::label::selects(&service.selector, labels))
}

pub(super) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.ports.iter().filter(|it| it.protocol == TransportProtocol::Tcp)
}

pub(super) fn protocol(port: &ServicePort) -> Protocol {
    Protocol::of_port(port.port, &port.name, port.app_protocol.as_deref())
}

/// The echo speaks HTTP unless the port says that it does not.
fn speaks(protocol: Protocol) -> Speaks {
    if protocol.is_tcp() { Speaks::Tcp } else { Speaks::Http }
}
