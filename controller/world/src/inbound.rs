//! The inbound side of a sidecar: its own ports, as clusters and listeners that only its workload's replicas share.

use crate::catalog::{Mesh, Objects, Rules};
use crate::key::{InboundKey, RuleKey};
use crate::made::entry;
use crate::scope::{self, Viewer};
use crds::ObjectKey;
use crds::mesh_config::{InboundTrafficPolicyMode, InterceptionMode, MeshConfig};
use crds::networking::{ConnectionPool, IngressListener, Sidecar};
use crds::{Problem, Reason};
use model::{Mode, Protocol, ProxyKind, Service, ServiceKey, traffic_policy};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tables::{Reads, Shared, Table};
use translate::cluster::{self, InboundClusterInput, InboundEndpoint};
use translate::listener::{InboundInput, InboundPort};
use translate::name::InboundCluster;
use xds::Layer;

#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Inbound {
    pub(crate) clusters: Layer,
    pub(crate) listeners: Layer,
    pub(crate) problems: Vec<Problem>,
}

/// Where the program listens.
enum Endpoint {
    OriginalDst,
    Ip(SocketAddr),
    Unix(String),
}

/// One inbound port, before it is made into a cluster and a filter chain or listener.
struct Plan {
    port: u16,
    protocol: Protocol,
    service: Option<(Shared<Service>, u16)>,
    endpoint: Endpoint,
    /// Bound to this address (interception NONE).
    bind: Option<String>,
    pool: Option<ConnectionPool>,
}

pub(crate) type InboundTables<'t> =
    (&'t Table<ServiceKey, Service>, &'t Objects<Sidecar>, &'t Table<RuleKey, Rules>, &'t Mesh);

pub(crate) fn inbound(
    reads: &mut Reads,
    (services, sidecars, rules, mesh): InboundTables<'_>,
    key: &Arc<InboundKey>,
) -> Option<Inbound> {
    let mesh = reads.get(mesh, &())?;
    let sidecar = key.sidecar.as_ref().and_then(|it| reads.get(sidecars, it)).cloned();
    let sidecar = sidecar.as_ref().map(|it| &it.spec);
    let mut made = Inbound::default();
    let ingress = sidecar.map(|it| it.ingress.as_slice()).unwrap_or_default();
    let plans = match ingress.is_empty() {
        true => from_services(reads, services, mesh, sidecar, key),
        false => from_ingress(reads, services, ingress, sidecar, key, &mut made.problems),
    };
    let captured: Vec<&Plan> = plans.iter().filter(|it| it.bind.is_none()).collect();
    for plan in &plans {
        let service = plan.service.as_ref().map(|(service, _)| &**service);
        let own_pool = own_pool(reads, rules, mesh, plan);
        let cluster = cluster::inbound(&InboundClusterInput {
            port: plan.port,
            protocol: plan.protocol,
            endpoint: match &plan.endpoint {
                Endpoint::OriginalDst => InboundEndpoint::OriginalDst,
                Endpoint::Ip(address) => InboundEndpoint::Ip(*address),
                Endpoint::Unix(path) => InboundEndpoint::Unix(path),
            },
            service,
            pool: plan.pool.as_ref().or(own_pool.as_ref()),
            mesh,
        });
        made.clusters.extend([entry(&cluster.resource)]);
        made.problems.extend(cluster.problems);
        if let Some(bind) = &plan.bind {
            let mode = key.security.as_ref().map_or(Mode::Disable, |it| it.of_port(plan.port));
            made.listeners.extend([entry(&translate::listener::inbound(bind, &port(plan), mode, mesh))]);
        }
    }
    if key.interception != InterceptionMode::None {
        made.clusters.extend([entry(&cluster::inbound_passthrough(mesh))]);
        let ports = captured.into_iter().map(port).collect();
        let input = InboundInput { ports, mesh, interception: key.interception, security: key.security.as_ref() };
        made.listeners.extend([entry(&translate::listener::virtual_inbound(&input))]);
    }
    Some(made)
}

/// The connection pool of the workload's own service: circuit breakers must be as wide here as at its clients.
fn own_pool(
    reads: &mut Reads,
    rules: &Table<RuleKey, Rules>,
    mesh: &MeshConfig,
    plan: &Plan,
) -> Option<ConnectionPool> {
    let (service, number) = plan.service.as_ref()?;
    let viewer = Viewer { namespace: Some(&service.key.namespace), ..Viewer::of_any_namespace(ProxyKind::Sidecar) };
    let (of, found) = scope::find_rule(reads, rules, service, mesh, viewer)?;
    traffic_policy::policy(found.merged.get(of.at), *number, None, mesh).connection_pool.cloned()
}

fn port(plan: &Plan) -> InboundPort<'_> {
    let service = plan.service.as_ref().and_then(|(service, number)| Some((&**service, service.port(*number)?)));
    InboundPort { port: plan.port, protocol: plan.protocol, service, cluster: InboundCluster(plan.port).to_string() }
}

/// One chain per target port of the Services that select the workload; the oldest Service of a port names it.
/// With interception NONE there is nothing to build: the sidecar would bind what the program binds.
fn from_services(
    reads: &mut Reads,
    services: &Table<ServiceKey, Service>,
    mesh: &MeshConfig,
    sidecar: Option<&Sidecar>,
    key: &InboundKey,
) -> Vec<Plan> {
    if key.interception == InterceptionMode::None {
        return vec![];
    }
    let mut by_target: BTreeMap<u16, (Shared<Service>, u16)> = BTreeMap::new();
    for instance in key.ports.iter().filter(|it| !model::port::RESERVED.contains(&it.target)) {
        let Some(service) = reads.get(services, &instance.service) else { continue };
        let older = |(other, _): &(Shared<Service>, u16)| service.age < other.age;
        if by_target.get(&instance.target).is_none_or(older) {
            by_target.insert(instance.target, (service.clone(), instance.port));
        }
    }
    let endpoint = |target| match mesh.inbound_traffic_policy.mode {
        InboundTrafficPolicyMode::Passthrough => Endpoint::OriginalDst,
        InboundTrafficPolicyMode::Localhost => Endpoint::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target)),
    };
    by_target
        .into_iter()
        .filter_map(|(target, (service, number))| {
            let protocol = service.port(number)?.protocol;
            let pool = sidecar.and_then(|it| it.inbound_connection_pool.clone());
            Some(Plan {
                port: target,
                protocol,
                service: Some((service, number)),
                endpoint: endpoint(target),
                bind: None,
                pool,
            })
        })
        .collect()
}

/// What a Sidecar's `ingress` lists replaces everything else.
fn from_ingress(
    reads: &mut Reads,
    services: &Table<ServiceKey, Service>,
    ingress: &[IngressListener],
    sidecar: Option<&Sidecar>,
    key: &InboundKey,
    problems: &mut Vec<Problem>,
) -> Vec<Plan> {
    let mut plans: Vec<Plan> = vec![];
    for (at, listener) in ingress.iter().enumerate() {
        let Some(port) = u16::try_from(listener.port.number).ok().filter(|it| *it != 0) else { continue };
        if let (Some(object), true) = (&key.sidecar, plans.iter().any(|it| it.port == port)) {
            let reason = Reason::PortConflict { address: port.to_string(), with: "an earlier ingress listener".into() };
            problems.push(Problem::new(object, format!("spec.ingress[{at}].port.number"), reason));
            continue;
        }
        let bound =
            key.interception == InterceptionMode::None || listener.capture_mode == crds::networking::CaptureMode::None;
        let ip = key.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let instance = key.ports.iter().find(|it| it.target == port || it.port == port);
        let service = instance.and_then(|it| Some((reads.get(services, &it.service)?.clone(), it.port)));
        let protocol = Protocol::parse(&listener.port.protocol)
            .unwrap_or_else(|| Protocol::of_port(port, &listener.port.name, None));
        let endpoint = endpoint(&listener.default_endpoint, ip, key.sidecar.as_ref(), at, problems);
        let bind = match listener.bind.is_empty() {
            false => listener.bind.clone(),
            true => ip.to_string(),
        };
        plans.push(Plan {
            port,
            protocol,
            service,
            endpoint,
            bind: bound.then_some(bind),
            pool: listener.connection_pool.clone().or_else(|| sidecar?.inbound_connection_pool.clone()),
        });
    }
    plans
}

/// `127.0.0.1:P`, `[::1]:P`, `0.0.0.0:P` (the workload's own address) or `unix:///path`; empty: where the
/// connection was going.
fn endpoint(text: &str, own: IpAddr, object: Option<&ObjectKey>, at: usize, problems: &mut Vec<Problem>) -> Endpoint {
    if let Some(path) = text.strip_prefix("unix://") {
        return Endpoint::Unix(path.to_owned());
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => Endpoint::Ip(SocketAddr::new(own, address.port())),
        Ok(address) => Endpoint::Ip(address),
        Err(_) => {
            if let (false, Some(object)) = (text.is_empty(), object) {
                let reason = Reason::Invalid(format!("{text:?} is neither IP:PORT nor unix:///PATH"));
                problems.push(Problem::new(object, format!("spec.ingress[{at}].defaultEndpoint"), reason));
            }
            Endpoint::OriginalDst
        }
    }
}
