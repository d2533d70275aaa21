//! Load assignments: the endpoints of a cluster by locality, with weight, health and priority (`istio.md` 2.2).
//!
//! Most are the same for every proxy. Those that are not ([`needs_vantage`]) are computed for each [`Vantage`].

mod group;
mod preference;
#[cfg(test)]
mod tests;

pub(crate) use preference::LocalityPreference;

use crate::{Translated, cluster, message, name, tls};
use crds::mesh_config::MeshConfig;
use group::Group;
use model::endpoint::Workload;
use model::traffic_policy::{Policy, policy};
use model::{
    Address, Endpoint, Endpoints, Health, Labels, Locality, MergedRule, ProxyKind, Resolution, Service, ServicePort,
    TlsMode,
};
use std::sync::Arc;
use xds::envoy::endpoint::lb_endpoint::HostIdentifier;
use xds::envoy::{self, ClusterLoadAssignment, HealthStatus, LbEndpoint, LocalityLbEndpoints};

#[derive(Clone, Copy, Debug)]
pub struct AssignmentInput<'a> {
    pub service: &'a Service,
    pub port: &'a ServicePort,
    pub subset: Option<&'a str>,
    pub rule: Option<&'a MergedRule>,
    pub mesh: &'a MeshConfig,
    pub kind: ProxyKind,
    pub endpoints: &'a Endpoints,
    /// None: the assignment for everybody, without preference.
    pub vantage: Option<&'a Vantage>,
}

/// Where a proxy is, as far as it decides which endpoints are near. Proxies of equal vantage get equal assignments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vantage {
    pub locality: Locality,
    pub node: Option<Arc<str>>,
    pub labels: Labels,
}

/// Whether the assignment (or, for DNS types, the cluster) differs between proxies.
pub fn needs_vantage(
    service: &Service,
    rule: Option<&MergedRule>,
    port: u16,
    subset: Option<&str>,
    mesh: &MeshConfig,
) -> bool {
    let policy = policy(rule, port, subset, mesh);
    if let Resolution::Alias(_) = service.resolution {
        return false;
    }
    service.node_local || LocalityPreference::new(service, &policy, mesh).is_some_and(|it| it.takes_effect(&policy))
}

/// `outbound|PORT|SUBSET|HOST`. Without endpoints it is empty, but there: Envoy waits for what is missing.
pub fn load_assignment(input: &AssignmentInput<'_>) -> Translated<ClusterLoadAssignment> {
    let AssignmentInput { service, port, subset, rule, mesh, kind, endpoints, vantage } = *input;
    let policy = policy(rule, port.number, subset, mesh);
    let discovery = cluster::discovery(service, kind, &policy);
    let filter = Filter {
        subset: subset.and_then(|name| rule?.subset(name)).map(|it| &it.labels),
        names: discovery != cluster::Discovery::Eds,
        unhealthy: sends_unhealthy(service) && (forces_unhealthy(service) || !panics(&policy)),
        node: service.node_local.then(|| vantage.and_then(|it| it.node.as_deref())),
    };
    let mut groups = Group::by_locality(endpoints.of(port).iter().filter(|it| filter.keeps(it)));
    if let Some(vantage) = vantage
        && let Some(preference) = LocalityPreference::new(service, &policy, mesh)
        && preference.takes_effect(&policy)
    {
        preference.apply(&mut groups, vantage, &policy);
    }
    Translated::flawless(ClusterLoadAssignment {
        cluster_name: name::OutboundCluster { port: port.number, subset, host: &service.key.host }.to_string(),
        endpoints: groups.iter().map(locality_lb_endpoints).collect(),
        ..Default::default()
    })
}

/// Endpoints that are not ready are sent, as UNHEALTHY, where somebody asked for them or must know how many there are.
pub(crate) fn sends_unhealthy(service: &Service) -> bool {
    service.publish_not_ready || forces_unhealthy(service)
}

/// Kubernetes' `trafficDistribution` spills over by health, without any outlier detection.
pub(crate) fn forces_unhealthy(service: &Service) -> bool {
    service.traffic_distribution.is_some()
}

/// With a panic threshold Envoy would at some point send to endpoints that never were ready.
fn panics(policy: &Policy<'_>) -> bool {
    policy.outlier_detection.is_some_and(|it| it.min_health_percent > 0)
}

struct Filter<'a> {
    subset: Option<&'a std::collections::BTreeMap<String, String>>,
    /// Only DNS types resolve names; one in an EDS answer makes Envoy refuse the answer.
    names: bool,
    unhealthy: bool,
    /// `internalTrafficPolicy: Local`: only endpoints of this node. A proxy of unknown node reaches none.
    node: Option<Option<&'a str>>,
}

impl Filter<'_> {
    fn keeps(&self, endpoint: &Endpoint) -> bool {
        let health = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.unhealthy,
            // Istio sends these only to clusters with persistent sessions.
            Health::Draining => false,
        };
        health
            && (self.names || !matches!(endpoint.address, Address::Name(_)))
            && self.node.is_none_or(|node| node.is_some() && endpoint.node.as_deref() == node)
            && self.subset.is_none_or(|selector| model::label::selects(selector, &endpoint.labels))
    }
}

fn locality_lb_endpoints(group: &Group<'_>) -> LocalityLbEndpoints {
    let Locality { region, zone, subzone } = group.locality;
    LocalityLbEndpoints {
        locality: Some(envoy::Locality { region: region.clone(), zone: zone.clone(), sub_zone: subzone.clone() }),
        lb_endpoints: group.endpoints.iter().map(|it| lb_endpoint(it)).collect(),
        load_balancing_weight: message::uint32(group.weight),
        priority: group.priority,
        ..Default::default()
    }
}

fn lb_endpoint(from: &Endpoint) -> LbEndpoint {
    let address = match &from.address {
        Address::Ip(ip) => message::socket_address(ip.to_string(), from.port),
        Address::Name(name) => message::socket_address(&**name, from.port),
        Address::Unix(path) => message::pipe(&**path),
    };
    let health = match from.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::Draining => HealthStatus::Draining,
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: metadata(from),
        load_balancing_weight: message::uint32(from.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(envoy::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
    }
}

/// `tlsMode: istio` makes clients that have certificates pick the socket that speaks mutual TLS.
fn metadata(from: &Endpoint) -> Option<envoy::Metadata> {
    let mut metadata = from.workload.as_ref().map(|it| workload_metadata(it));
    if from.tls == TlsMode::Istio {
        let fields = message::structure([(tls::MODE, message::string_value(tls::MODE_ISTIO))]);
        let all = &mut metadata.get_or_insert_default().filter_metadata;
        all.insert("envoy.transport_socket_match".to_owned(), fields);
    }
    metadata
}

/// `istio.workload`: `name;namespace;canonical name;canonical revision;cluster`, by which metrics name the server. The
/// default revision is left empty.
fn workload_metadata(workload: &Workload) -> envoy::Metadata {
    let Workload { name, namespace, canonical_name, canonical_revision, kube_cluster } = workload;
    let revision = if &**canonical_revision == "latest" { "" } else { canonical_revision };
    let text = [&**name, &**namespace, &**canonical_name, revision, &**kube_cluster].join(";");
    message::metadata("istio", message::structure([("workload", message::string_value(text))]))
}
