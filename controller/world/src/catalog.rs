//! What exists: services, endpoints, rules. Each row is one host or one object, whoever looks at it.

use crate::input::Stored;
use crate::key::RuleKey;
use crds::mesh_config::MeshConfig;
use crds::security::PeerAuthentication;
use crds::{Kind, ObjectKey, Problem, kube, networking as n};
use imbl::OrdSet;
use model::endpoint::{self, PodFacts};
use model::service::Age;
use model::{
    Allocation, DelegateView, Delegates, Endpoints, Hostname, Locality, MergedRule, Namespace, Policies, Proxy,
    Registry, Resolution, RouteRules, Service, ServiceKey, Visibility, label,
};
use std::sync::Arc;
use tables::{Reads, Table};
use xds::ConnectionId;

pub(crate) type Objects<T> = Table<ObjectKey, Stored<T>>;
pub(crate) type Groups<G, K> = Table<G, OrdSet<K>>;
pub(crate) type Mesh = Table<(), MeshConfig>;

pub(crate) fn service_of_kube(key: &ObjectKey) -> ServiceKey {
    ServiceKey { host: Hostname::kube_service(&key.name, &key.namespace), namespace: key.namespace.clone() }
}

pub(crate) fn services_of_entry(key: &ObjectKey, entry: &Stored<n::ServiceEntry>) -> Vec<ServiceKey> {
    let service = |host: &String| ServiceKey { host: Hostname::new(host), namespace: key.namespace.clone() };
    entry.spec.hosts.iter().map(service).collect()
}

/// The Service that a slice belongs to
/// (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#ownership>).
pub(crate) fn service_of_slice(key: &ObjectKey, slice: &Stored<kube::EndpointSlice>) -> Vec<ObjectKey> {
    let name = slice.meta.labels.get("kubernetes.io/service-name");
    name.map(|name| ObjectKey::new(Kind::Service, key.namespace.clone(), name.as_str())).into_iter().collect()
}

/// ExternalName Services by the host they stand for.
pub(crate) fn alias_target(_: &ObjectKey, service: &Stored<kube::Service>) -> Vec<Hostname> {
    let alias = service.spec.r#type == kube::ServiceType::ExternalName;
    let target = service.spec.external_name.as_deref().filter(|_| alias);
    target.map(|name| Hostname::new(name.trim_end_matches('.'))).into_iter().collect()
}

pub(crate) type ServiceTables<'t> = (
    (&'t Objects<kube::Service>, &'t Objects<()>),
    &'t Groups<ServiceKey, ObjectKey>,
    (&'t Objects<n::ServiceEntry>, &'t Table<ObjectKey, Allocation>),
    &'t Groups<Hostname, ObjectKey>,
    &'t Mesh,
);

/// Kubernetes Services win over ServiceEntries of the same host and namespace, the oldest ServiceEntry over others.
pub(crate) fn service(
    reads: &mut Reads,
    ((kube_services, namespaces), entries_by_service, (service_entries, allocations), aliases_by_target, mesh): ServiceTables<
        '_,
    >,
    key: &ServiceKey,
) -> Option<Service> {
    let mesh = reads.get(mesh, &())?;
    let namespace = reads.get(namespaces, &ObjectKey::new(Kind::Namespace, "", key.namespace.clone()));
    let annotations = namespace.map(|it| &*it.meta.annotations);
    if let Some((name, namespace)) = key.host.kube_name().filter(|(_, namespace)| *namespace == &*key.namespace) {
        let object = ObjectKey::new(Kind::Service, namespace, name);
        if let Some(stored) = reads.get(kube_services, &object) {
            let aliases = reads.get(aliases_by_target, &key.host);
            let aliases = aliases.into_iter().flat_map(|set| set.iter()).map(|it| service_of_kube(it).host).collect();
            let service = Service::from_kube(&object, &stored.meta, &stored.spec, aliases, mesh);
            return Some(service.within(annotations));
        }
    }
    let entries = reads.members(entries_by_service, service_entries, key);
    let (object, oldest) = entries.min_by_key(|(_, stored)| Age::new(&stored.meta))?;
    let service = Service::from_entry(&key.host, object, &oldest.meta, &oldest.spec, mesh).within(annotations);
    let allocated = reads.get(allocations, object).and_then(|it| it.get(&key.host)).cloned().unwrap_or_default();
    Some(Service { allocated, ..service })
}

pub(crate) type HostTables<'t> = (&'t Groups<Hostname, ServiceKey>, &'t Table<ServiceKey, Service>);

/// Which of the public services of one host those namespaces see that have none of their own: Kubernetes' first,
/// then the oldest.
pub(crate) fn public_service(
    reads: &mut Reads,
    (services_by_host, services): HostTables<'_>,
    host: &Hostname,
) -> Option<ServiceKey> {
    reads
        .members(services_by_host, services, host)
        .filter(|(_, service)| service.visibility == Visibility::Public && is_routable(service))
        .min_by_key(|(_, service)| (service.registry, service.age.clone()))
        .map(|(key, _)| key.clone())
}

/// ExternalName Services have no cluster of their own.
pub(crate) fn is_routable(service: &Service) -> bool {
    !matches!(service.resolution, Resolution::Alias(_))
}

/// Pods, and the localities of the nodes they are on.
pub(crate) type PodTables<'t> = (&'t Objects<kube::Pod>, &'t Table<ObjectKey, Arc<Locality>>);

/// Made for whoever asks, and kept with nobody: there are many more pods than of those that anybody asks for.
fn pod_facts(reads: &mut Reads, tables: PodTables<'_>, key: &ObjectKey) -> Option<PodFacts> {
    let pod = reads.get(tables.0, key)?;
    Some(facts(reads, tables, pod))
}

fn facts(reads: &mut Reads, (_, nodes): PodTables<'_>, pod: &Stored<kube::Pod>) -> PodFacts {
    let node = match &pod.spec.spec.node_name {
        name if name.is_empty() => None,
        name => reads.get(nodes, &ObjectKey::new(Kind::Node, "", name.clone())),
    };
    PodFacts::new(&pod.meta, &pod.spec, node.map(|it| &**it))
}

/// The policies of one namespace, or of the root, over those of the mesh.
pub(crate) fn policies(
    reads: &mut Reads,
    (by_namespace, all, mesh): (&Groups<Arc<str>, ObjectKey>, &Objects<PeerAuthentication>, &Mesh),
    key: &Namespace,
) -> Option<Policies> {
    let root: Namespace = reads.get(mesh, &())?.root_namespace.as_str().into();
    let others = (root != *key).then_some(&root);
    let members: Vec<_> = [Some(key), others]
        .into_iter()
        .flatten()
        .flat_map(|namespace| {
            let members = reads.members(by_namespace, all, namespace);
            members.map(|(object, it)| (&object.namespace, Age::new(&it.meta), &it.spec)).collect::<Vec<_>>()
        })
        .collect();
    Some(Policies::new(&root, key, members.into_iter()))
}

/// Those in force in a namespace. `None`: nobody has written any.
pub(crate) fn policies_of<'t>(
    reads: &mut Reads,
    policies: &'t Table<Namespace, Policies>,
    mesh: &MeshConfig,
    namespace: &Namespace,
) -> Option<&'t Policies> {
    let root: Namespace = mesh.root_namespace.as_str().into();
    reads.get(policies, namespace).or_else(|| reads.get(policies, &root)).map(|it| &**it)
}

/// A connected proxy with what the API server knows of its Pod.
pub(crate) fn known_proxy(
    reads: &mut Reads,
    (proxies, pods): (&Table<ConnectionId, Proxy>, PodTables<'_>),
    id: &ConnectionId,
) -> Option<Proxy> {
    let proxy = (**reads.get(proxies, id)?).clone();
    let pod = ObjectKey::new(Kind::Pod, proxy.namespace.clone(), proxy.name.clone());
    Some(match pod_facts(reads, pods, &pod) {
        Some(pod) => proxy.known_by(&pod),
        None => proxy,
    })
}

pub(crate) type EndpointTables<'t> = (
    &'t Table<ServiceKey, Service>,
    (&'t Groups<ObjectKey, ObjectKey>, &'t Objects<kube::EndpointSlice>),
    (&'t Groups<ServiceKey, ObjectKey>, &'t Objects<n::ServiceEntry>),
    (&'t Groups<Arc<str>, ObjectKey>, &'t Objects<n::WorkloadEntry>),
    (&'t Groups<Arc<str>, ObjectKey>, PodTables<'t>),
    (&'t Table<Namespace, Policies>, &'t Mesh),
);

pub(crate) fn endpoints(
    reads: &mut Reads,
    (services, slices, entries, workloads, pods, (policies, mesh)): EndpointTables<'_>,
    key: &ServiceKey,
) -> Option<Endpoints> {
    let service = reads.get(services, key)?.clone();
    let mut endpoints = match service.registry {
        Registry::Kubernetes => {
            let slices: Vec<_> = reads.members(slices.0, slices.1, &service.object).map(|(_, it)| &it.spec).collect();
            endpoint::from_slices(&service, slices.into_iter(), |target| {
                let namespace = target.namespace.as_deref().unwrap_or(&key.namespace);
                let pod = ObjectKey::new(Kind::Pod, namespace, target.name.as_str());
                pod_facts(reads, pods.1, &pod)
            })
        }
        Registry::External => entry_endpoints(reads, &service, entries, pods),
    };
    if !service.selector.is_empty() {
        let members = reads.members(workloads.0, workloads.1, &key.namespace);
        for (_, entry) in members.filter(|(_, it)| endpoint::is_healthy(&it.spec, &it.meta)) {
            let mut labels = entry.spec.labels.clone();
            labels.extend((*entry.meta.labels).clone());
            if label::selects(&service.selector, &labels) {
                endpoint::add_workload_entry(&mut endpoints, &service, &entry.spec, Some(&entry.meta));
            }
        }
    }
    let dns = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if dns && endpoints.by_port.is_empty() && service.selector.is_empty() {
        endpoint::add_own_host(&mut endpoints, &service);
    }
    let mesh = reads.get(mesh, &())?;
    if let Some(policies) = policies_of(reads, policies, mesh, &key.namespace) {
        endpoints.apply(policies);
    }
    endpoints.sort();
    if service.resolution == Resolution::DnsRoundRobin {
        endpoints.by_port.values_mut().for_each(|list| list.truncate(1));
    }
    Some(endpoints)
}

/// Inline endpoints of every ServiceEntry of the host, and selected pods.
fn entry_endpoints(
    reads: &mut Reads,
    service: &Service,
    entries: (&Groups<ServiceKey, ObjectKey>, &Objects<n::ServiceEntry>),
    (pods_by_namespace, pods): (&Groups<Arc<str>, ObjectKey>, PodTables<'_>),
) -> Endpoints {
    let mut endpoints = Endpoints::default();
    for (_, entry) in reads.members(entries.0, entries.1, &service.key) {
        for inline in &entry.spec.endpoints {
            endpoint::add_workload_entry(&mut endpoints, service, inline, None);
        }
    }
    if !service.selector.is_empty() {
        for (_, pod) in reads.members(pods_by_namespace, pods.0, &service.key.namespace) {
            if label::selects(&service.selector, &pod.meta.labels) {
                endpoint::add_pod(&mut endpoints, service, &facts(reads, pods, pod));
            }
        }
    }
    endpoints
}

/// The DestinationRules of a [`RuleKey`], merged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) merged: Vec<MergedRule>,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) fn rule_of(key: &ObjectKey, rule: &Stored<n::DestinationRule>) -> Vec<RuleKey> {
    vec![RuleKey { namespace: key.namespace.clone(), host: Hostname::resolve(&rule.spec.host, &key.namespace) }]
}

pub(crate) fn rules(
    reads: &mut Reads,
    (by_host, rules, mesh): (&Groups<RuleKey, ObjectKey>, &Objects<n::DestinationRule>, &Mesh),
    key: &RuleKey,
) -> Option<Rules> {
    let mesh = reads.get(mesh, &())?;
    let members = reads.members(by_host, rules, key);
    let mut list: Vec<_> = members.map(|(object, it)| (object, Age::new(&it.meta), &it.spec)).collect();
    list.sort_by(|a, b| a.1.cmp(&b.1));
    let (merged, problems) = model::destination_rule::merge(&list, &key.namespace, mesh);
    Some(Rules { merged, problems })
}

pub(crate) fn route_rules(
    reads: &mut Reads,
    (virtual_services, mesh): (&Objects<n::VirtualService>, &Mesh),
    key: &ObjectKey,
) -> Option<RouteRules> {
    let mesh = reads.get(mesh, &())?;
    let stored = reads.get(virtual_services, key)?;
    // One without hosts only says what others delegate to it.
    if stored.spec.hosts.is_empty() {
        return None;
    }
    let visibility = |key: &ObjectKey, spec: &n::VirtualService| {
        Visibility::new(&spec.export_to, &mesh.default_virtual_service_export_to, &key.namespace)
    };
    let mut delegates = Delegates::new();
    for name in model::delegate::names(key, &stored.spec) {
        if let Some(found) = reads.get(virtual_services, &name) {
            let visibility = visibility(&name, &found.spec);
            delegates.insert(name, DelegateView { visibility, spec: &found.spec });
        }
    }
    let own = visibility(key, &stored.spec);
    Some(RouteRules::new(key.clone(), Age::new(&stored.meta), own, &stored.spec, &delegates))
}
