//! Who sees what: from a connected proxy to its scope, and from a scope to the services in it.

use crate::catalog::{self, Groups, Mesh, Objects, Rules, is_routable};
use crate::envoy_filter::{self, FilterTables};
use crate::key::{Client, ClusterKey, GatewayKey, InboundKey, Instance, Reach, RuleKey, RuleRef, ScopeKey, VantageKey};
use crds::mesh_config::{InterceptionMode, MeshConfig};
use crds::networking::{CaptureMode, DestinationRule, EgressListener, OutboundTrafficPolicy, Sidecar};
use crds::{Kind, ObjectKey, kube};
use model::service::Age;
use model::sidecar::{self, Imports};
use model::traffic_policy;
use model::{
    Certificates, DnsCapture, Hostname, Labels, MergedRule, Namespace, Policies, Protocol, Proxy, ProxyKind, Registry,
    Resolution, RouteRules, Service, ServiceKey, Visibility, label,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tables::{Reads, Shared, Table};
use translate::cluster::{self, Discovery};
use translate::endpoint;
use translate::envoy_filter::Patches;
use translate::listener::outbound::KnownAddresses;
use translate::name;
use xds::ConnectionId;

/// What a proxy's configuration depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) scope: Arc<ScopeKey>,
    pub(crate) vantage: Arc<VantageKey>,
    /// Sidecars.
    pub(crate) inbound: Option<Arc<InboundKey>>,
    /// Gateways.
    pub(crate) gateway: Option<Arc<GatewayKey>>,
    pub(crate) certificates: Certificates,
    pub(crate) dns_capture: DnsCapture,
    pub(crate) patches: Arc<Patches>,
    pub(crate) known: KnownAddresses,
}

impl Class {
    /// Of sidecars.
    pub(crate) fn client(&self) -> Client {
        Client { certificates: self.certificates, known: self.known }
    }
}

fn known_addresses(proxy: &Proxy) -> KnownAddresses {
    match proxy.dns_capture {
        DnsCapture::Off => KnownAddresses::None,
        DnsCapture::On if proxy.ips.iter().any(IpAddr::is_ipv6) => KnownAddresses::All,
        DnsCapture::On => KnownAddresses::V4,
    }
}

pub(crate) type ClassTables<'t> = (
    &'t Table<ConnectionId, Proxy>,
    &'t Mesh,
    (&'t Groups<Arc<str>, ObjectKey>, &'t Objects<Sidecar>),
    &'t Groups<(), ObjectKey>,
    (&'t Groups<Arc<str>, ServiceKey>, &'t Table<ServiceKey, Service>),
    (&'t Objects<kube::Service>, &'t Objects<kube::Pod>),
    &'t Table<Namespace, Policies>,
    FilterTables<'t>,
    SelectingRules<'t>,
);

/// The DestinationRules for selected clients, by namespace.
type SelectingRules<'t> = (&'t Groups<Arc<str>, ObjectKey>, &'t Objects<DestinationRule>);

pub(crate) fn class(
    reads: &mut Reads,
    (proxies, mesh, sidecars, sourced, services, kube, policies, filters, rules): ClassTables<'_>,
    id: &ConnectionId,
) -> Option<Class> {
    let proxy = reads.get(proxies, id)?.clone();
    let mesh = reads.get(mesh, &())?;
    let (certificates, dns_capture, known) = (proxy.certificates, proxy.dns_capture, known_addresses(&proxy));
    let vantage =
        VantageKey { locality: proxy.locality.clone(), node: proxy.node.clone(), labels: proxy.labels.clone() };
    let vantage = Arc::new(vantage);
    let selectors = selectors(reads, &proxy, rules);
    let scope = |labels, reach| {
        Arc::new(ScopeKey { namespace: proxy.namespace.clone(), kind: proxy.kind, labels, selectors, reach })
    };
    if proxy.kind == ProxyKind::Router {
        let scope = scope(None, Reach::Layered);
        let gateway = GatewayKey {
            namespace: proxy.namespace.clone(),
            labels: proxy.labels.clone(),
            scope: scope.clone(),
            certificates,
            ports: instances(reads, &proxy, services, kube),
        };
        let patches = envoy_filter::patches_of(reads, filters, (&proxy, &mesh.root_namespace), &gateway.ports);
        return Some(Class {
            scope,
            vantage,
            inbound: None,
            gateway: Some(Arc::new(gateway)),
            certificates,
            dns_capture,
            patches,
            known,
        });
    }
    let sidecar = select_sidecar(reads, &proxy, mesh, sidecars);
    let labels = reads.get(sourced, &()).is_some().then(|| proxy.labels.clone());
    let http_proxy_port = proxy.http_proxy_port.or_else(|| Some(mesh.proxy_http_port).filter(|it| *it != 0));
    let layered = sidecar.is_none() && proxy.interception != InterceptionMode::None && http_proxy_port.is_none();
    let reach = match layered {
        true => Reach::Layered,
        false => Reach::Full {
            sidecar: sidecar.clone(),
            interception: proxy.interception,
            http_proxy_port,
            low_ports: proxy.low_ports,
        },
    };
    let inbound = InboundKey {
        interception: proxy.interception,
        ip: (proxy.interception == InterceptionMode::None || sidecar.is_some()).then(|| proxy.ips[0]),
        sidecar,
        ports: instances(reads, &proxy, services, kube),
        security: (certificates == Certificates::Workload).then(|| {
            let policies = catalog::policies_of(reads, policies, mesh, &proxy.namespace);
            policies.map(|it| it.effective(&proxy.labels)).unwrap_or_default()
        }),
    };
    let (scope, inbound) = (scope(labels, reach), Some(Arc::new(inbound)));
    let patches = envoy_filter::patches_of(reads, filters, (&proxy, &mesh.root_namespace), &[]);
    Some(Class { scope, vantage, inbound, gateway: None, certificates, dns_capture, known, patches })
}

/// Proxies that the same rules select share what they make of them, whatever else their labels are.
fn selectors(reads: &mut Reads, proxy: &Proxy, (by_namespace, rules): SelectingRules<'_>) -> Arc<BTreeSet<Labels>> {
    let rules = reads.members(by_namespace, rules, &proxy.namespace);
    let selectors = rules.filter_map(|(_, it)| Some(&it.spec.workload_selector.as_ref()?.match_labels));
    Arc::new(selectors.filter(|it| label::selects(it, &proxy.labels)).map(|it| Arc::new(it.clone())).collect())
}

fn select_sidecar(
    reads: &mut Reads,
    proxy: &Proxy,
    mesh: &MeshConfig,
    (by_namespace, sidecars): (&Groups<Arc<str>, ObjectKey>, &Objects<Sidecar>),
) -> Option<ObjectKey> {
    let root: Arc<str> = mesh.root_namespace.as_str().into();
    let mut of = |namespace: &Arc<str>| -> Vec<_> {
        let members = reads.members(by_namespace, sidecars, namespace);
        members.map(|(key, stored)| (key, Age::new(&stored.meta), &stored.spec)).collect()
    };
    let own = of(&proxy.namespace);
    let root = if root == proxy.namespace { vec![] } else { of(&root) };
    sidecar::select(&own, &root, &proxy.labels).cloned()
}

/// Service ports that this workload serves: Services of its namespace that select its labels, with their target
/// ports. Readiness plays no part: a pod must have its listeners before it can become ready.
fn instances(
    reads: &mut Reads,
    proxy: &Proxy,
    (by_namespace, services): (&Groups<Arc<str>, ServiceKey>, &Table<ServiceKey, Service>),
    (kube_services, pods): (&Objects<kube::Service>, &Objects<kube::Pod>),
) -> Vec<Instance> {
    let selecting: Vec<Shared<Service>> = reads
        .members(by_namespace, services, &proxy.namespace)
        .filter(|(_, it)| !it.selector.is_empty() && is_routable(it) && label::selects(&it.selector, &proxy.labels))
        .map(|(_, it)| it.clone())
        .collect();
    let mut instances = BTreeSet::new();
    for service in selecting {
        let spec = match service.registry {
            Registry::Kubernetes => reads.get(kube_services, &service.object).map(|it| &it.spec),
            Registry::External => None,
        };
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            let target = spec.and_then(|it| it.ports.iter().find(|it| it.port == port.number)?.target_port.as_ref());
            let target = match target {
                None => port.target_port.or(Some(port.number)),
                Some(kube::IntOrString::Int(number)) => Some(*number),
                Some(kube::IntOrString::String(name)) => {
                    let key = ObjectKey::new(Kind::Pod, proxy.namespace.clone(), proxy.name.clone());
                    reads.get(pods, &key).and_then(|pod| container_port(&pod.spec, name))
                }
            };
            let instance = |target| Instance { target, service: service.key.clone(), port: port.number };
            instances.extend(target.map(instance));
        }
    }
    instances.into_iter().collect()
}

fn container_port(pod: &kube::Pod, name: &str) -> Option<u16> {
    let mut ports = pod.spec.containers.iter().flat_map(|it| &it.ports);
    ports.find(|port| port.name == name).map(|port| port.container_port)
}

/// What a scope sees: for each host the one service it means there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scope {
    /// Layered scopes list only what may differ from the base.
    pub(crate) services: BTreeMap<Hostname, ServiceKey>,
    /// Full scopes: hosts of VirtualServices that no service has.
    pub(crate) loose: BTreeMap<Hostname, ObjectKey>,
    /// Full scopes: where outbound listeners bind, and what they import.
    pub(crate) egress: Vec<Egress>,
    pub(crate) policy: OutboundTrafficPolicy,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Egress {
    /// `None`: every port that the others leave.
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Option<Protocol>,
    /// `None`: by captured address.
    pub(crate) bind: Option<Arc<str>>,
    pub(crate) imports: Imports,
}

pub(crate) type ScopeTables<'t> = (
    (&'t Table<ServiceKey, Service>, &'t Table<Hostname, ServiceKey>),
    // services by namespace, pattern, audience
    (&'t Groups<Arc<str>, ServiceKey>, &'t Groups<Hostname, ServiceKey>, &'t Groups<Arc<str>, ServiceKey>),
    // DestinationRules by namespace and audience
    (&'t Groups<Arc<str>, RuleKey>, &'t Groups<Arc<str>, RuleKey>),
    // VirtualServices; those of the mesh, of an audience, asking for their source
    (
        &'t Table<ObjectKey, RouteRules>,
        &'t Groups<(), ObjectKey>,
        &'t Groups<Arc<str>, ObjectKey>,
        &'t Groups<(), ObjectKey>,
    ),
    (&'t Mesh, &'t Objects<Sidecar>),
);

pub(crate) fn scope(reads: &mut Reads, tables: ScopeTables<'_>, key: &Arc<ScopeKey>) -> Option<Scope> {
    let mesh = reads.get(tables.4.0, &())?;
    match &key.reach {
        Reach::Layered => Some(Scope {
            services: layered_services(reads, tables, key, mesh),
            loose: BTreeMap::new(),
            egress: vec![],
            policy: mesh.outbound_traffic_policy.clone(),
        }),
        Reach::Full { sidecar, interception, .. } => {
            let sidecar = sidecar.as_ref().and_then(|it| reads.get(tables.4.1, it)).cloned();
            let sidecar = sidecar.as_ref().map(|it| &it.spec);
            let egress = egress(sidecar, *interception, key);
            let policy = sidecar.and_then(|it| it.outbound_traffic_policy.clone());
            Some(full_scope(reads, tables, key, egress, policy.unwrap_or_else(|| mesh.outbound_traffic_policy.clone())))
        }
    }
}

/// Hosts that this namespace may see differently from others: its own services, and those that rules of its own,
/// or rules and services exported to it alone, are about.
fn layered_services(
    reads: &mut Reads,
    ((services, hosts), (by_namespace, by_pattern, by_audience), rules, routes, _): ScopeTables<'_>,
    key: &ScopeKey,
    mesh: &MeshConfig,
) -> BTreeMap<Hostname, ServiceKey> {
    let namespace = &key.namespace;
    let mut found: BTreeSet<ServiceKey> = BTreeSet::new();
    for group in [by_namespace, by_audience] {
        found.extend(reads.get(group, namespace).into_iter().flat_map(|set| set.iter().cloned()));
    }
    let mut patterns: BTreeSet<Hostname> = BTreeSet::new();
    // The root namespace's public rules are in the base already.
    let own_rules = [rules.0, rules.1].into_iter().skip(usize::from(**namespace == *mesh.root_namespace));
    for group in own_rules {
        patterns.extend(reads.get(group, namespace).into_iter().flat_map(|set| set.iter().map(|it| it.host.clone())));
    }
    let (all, _, audience, sourced) = routes;
    let for_audience = reads.get(audience, namespace).cloned();
    let for_source = reads.get(sourced, &()).filter(|_| key.kind == ProxyKind::Sidecar).cloned();
    for object in for_audience.iter().chain(for_source.iter()).flat_map(|set| set.iter()) {
        patterns.extend(reads.get(all, object).into_iter().flat_map(|it| it.hosts.iter().cloned()));
    }
    for pattern in &patterns {
        found.extend(reads.get(by_pattern, pattern).into_iter().flat_map(|set| set.iter().cloned()));
    }
    let mut by_host: BTreeMap<Hostname, Vec<Shared<Service>>> = BTreeMap::new();
    let wanted: BTreeSet<Hostname> = found.iter().map(|it| it.host.clone()).collect();
    for service in &found {
        by_host.entry(service.host.clone()).or_default().extend(reads.get(services, service).cloned());
    }
    for host in wanted {
        let public = reads.get(hosts, &host).cloned();
        if let Some(public) = public.and_then(|it| reads.get(services, &it)) {
            by_host.entry(host).or_default().push(public.clone());
        }
    }
    by_host.into_iter().filter_map(|(host, list)| Some((host, winner(namespace, list.iter())?))).collect()
}

/// Which service a host means in a namespace: its own, then Kubernetes', then the oldest (`istio.md` 1.2).
fn winner<'a>(namespace: &Namespace, services: impl Iterator<Item = &'a Shared<Service>>) -> Option<ServiceKey> {
    services
        .filter(|it| it.visibility.allows(namespace) && is_routable(it))
        .min_by_key(|it| (it.key.namespace != *namespace, it.registry, it.age.clone()))
        .map(|it| it.key.clone())
}

/// A Sidecar's egress listeners; without any: one that imports everything.
fn egress(sidecar: Option<&Sidecar>, interception: InterceptionMode, key: &ScopeKey) -> Vec<Egress> {
    let listeners = sidecar.map(|it| it.egress.as_slice()).unwrap_or_default();
    let listener = |it: &EgressListener| {
        let bound = interception == InterceptionMode::None || it.capture_mode == CaptureMode::None;
        let port = it.port.as_ref().and_then(|it| u16::try_from(it.number).ok());
        Egress {
            port,
            protocol: it.port.as_ref().and_then(|it| Protocol::parse(&it.protocol)),
            bind: match it.bind.is_empty() {
                false => Some(it.bind.as_str().into()),
                true => bound.then(|| "127.0.0.1".into()),
            },
            imports: Imports::new(it, &key.namespace),
        }
    };
    let everything = || Egress {
        port: None,
        protocol: None,
        bind: (interception == InterceptionMode::None).then(|| "127.0.0.1".into()),
        imports: Imports::everything(),
    };
    match listeners.is_empty() {
        true => vec![everything()],
        false => listeners.iter().map(listener).collect(),
    }
}

fn full_scope(
    reads: &mut Reads,
    ((services, _), (_, by_pattern, _), _, (all, of_mesh, ..), _): ScopeTables<'_>,
    key: &ScopeKey,
    egress: Vec<Egress>,
    policy: OutboundTrafficPolicy,
) -> Scope {
    let namespace = &key.namespace;
    let mut candidates: BTreeMap<Hostname, Vec<Shared<Service>>> = BTreeMap::new();
    let patterns: BTreeSet<&Hostname> = egress.iter().flat_map(|it| it.imports.patterns()).collect();
    for pattern in patterns {
        for (service, value) in reads.members(by_pattern, services, pattern) {
            if egress.iter().any(|it| it.imports.service(&service.namespace, &service.host)) {
                candidates.entry(service.host.clone()).or_default().push(value.clone());
            }
        }
    }
    let mut seen: BTreeMap<Hostname, ServiceKey> =
        candidates.into_iter().filter_map(|(host, list)| Some((host, winner(namespace, list.iter())?))).collect();
    let imported: Vec<Shared<RouteRules>> = reads
        .members(of_mesh, all, &())
        .filter(|(_, it)| it.visibility.allows(namespace))
        .filter(|(_, it)| egress.iter().any(|listener| listener.imports.rules(&it.namespace, &it.hosts)))
        .map(|(_, it)| it.clone())
        .collect();
    // Destinations of imported VirtualServices come along, whatever the Sidecar says (`istio.md` 1.2).
    for host in imported.iter().flat_map(|it| it.destination_hosts()) {
        if !seen.contains_key(&host) {
            let found: Vec<_> = reads.members(by_pattern, services, &host).map(|(_, it)| it.clone()).collect();
            let named = found.iter().filter(|it| it.key.host == host);
            seen.extend(winner(namespace, named).map(|it| (host, it)));
        }
    }
    let mut loose: BTreeMap<Hostname, &RouteRules> = BTreeMap::new();
    for rules in &imported {
        for host in rules.hosts.iter().filter(|host| !seen.keys().any(|it| host.covers(it))) {
            let entry = loose.entry(host.clone()).or_insert(rules);
            *entry = if rules.age < entry.age { rules } else { entry };
        }
    }
    let loose = loose.into_iter().map(|(host, it)| (host, it.object.clone())).collect();
    Scope { services: seen, loose, egress, policy }
}

/// A service as one scope sees it, with the rules that apply there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) service: Shared<Service>,
    pub(crate) rule: Option<RuleRef>,
    pub(crate) routes: Option<ObjectKey>,
    pub(crate) clusters: Vec<MemberCluster>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberCluster {
    pub(crate) key: ClusterKey,
    pub(crate) name: Arc<str>,
    pub(crate) feed: Feed,
    pub(crate) kinds: Kinds,
}

/// Whether gateways and sidecars have the same cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinds {
    Alike,
    Differ,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Feed {
    /// The cluster has them itself, or needs none.
    Cluster,
    /// The cluster has them itself, by where the proxy stands (DNS with preferred localities).
    ClusterByVantage,
    /// EDS, equal for all proxies.
    Shared,
    /// EDS, by where the proxy stands.
    Vantage,
}

impl Member {
    /// Whether gateways have other clusters for it than sidecars.
    pub(crate) fn depends_on_kind(&self) -> bool {
        self.clusters.iter().any(|it| it.kinds == Kinds::Differ)
    }
}

/// From where rules are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Viewer<'a> {
    /// `None`: any namespace that has no rules of its own.
    pub(crate) namespace: Option<&'a Namespace>,
    pub(crate) kind: ProxyKind,
    /// Of the rules for selected clients, those for this one.
    pub(crate) selectors: &'a BTreeSet<Labels>,
    /// Full scopes see only VirtualServices they import.
    pub(crate) egress: &'a [Egress],
}

impl Viewer<'_> {
    pub(crate) fn of_any_namespace(kind: ProxyKind) -> Self {
        Self { namespace: None, kind, selectors: const { &BTreeSet::new() }, egress: &[] }
    }
}

pub(crate) type MemberTables<'t> = (
    &'t Table<ServiceKey, Service>,
    &'t Table<RuleKey, Rules>,
    (&'t Groups<Hostname, ObjectKey>, &'t Table<ObjectKey, RouteRules>),
    &'t Mesh,
);

pub(crate) fn member(
    reads: &mut Reads,
    (services, rules, routes, mesh): MemberTables<'_>,
    key: &ServiceKey,
    viewer: Viewer<'_>,
) -> Option<Member> {
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, key)?.clone();
    let found = find_rule(reads, rules, &service, mesh, viewer);
    let rule = found.as_ref().map(|(of, rules)| &rules.merged[of.at]);
    let policy_of = |port, subset| traffic_policy::policy(rule, port, subset, mesh);
    let mut clusters = vec![];
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        let subsets = rule.into_iter().flat_map(|it| &it.subsets).map(|it| Some(it.name.as_str()));
        for subset in std::iter::once(None).chain(subsets) {
            let policy = policy_of(port.number, subset);
            let (kind, kinds) = match cluster::depends_on_kind(&service, port, &policy) {
                true => (viewer.kind, Kinds::Differ),
                false => (ProxyKind::Sidecar, Kinds::Alike),
            };
            let eds = cluster::discovery(&service, kind, &policy) == Discovery::Eds;
            let differs = endpoint::needs_vantage(&service, rule, port.number, subset, mesh);
            let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            let feed = match (eds, differs) {
                (true, true) => Feed::Vantage,
                (true, false) => Feed::Shared,
                (false, true) if by_name => Feed::ClusterByVantage,
                (false, _) => Feed::Cluster,
            };
            let name = name::OutboundCluster { port: port.number, subset, host: &key.host }.to_string();
            let key = ClusterKey {
                service: key.clone(),
                port: port.number,
                subset: subset.map(Arc::from),
                rule: found.as_ref().map(|(of, _)| of.clone()),
                kind,
                certificates: Certificates::None,
            };
            clusters.push(MemberCluster { key, name: name.into(), feed, kinds });
        }
    }
    let routes = match viewer.kind {
        ProxyKind::Sidecar => find_routes(reads, routes, &key.host, viewer),
        ProxyKind::Router => None,
    };
    Some(Member { service, rule: found.map(|(of, _)| of), routes, clusters })
}

/// The client's own DestinationRules first, then those of the service's namespace, then the root's; in each the
/// most specific host, and of its rules one that selects this client before one for all (`istio.md` 1.2).
pub(crate) fn find_rule(
    reads: &mut Reads,
    rules: &Table<RuleKey, Rules>,
    service: &Service,
    mesh: &MeshConfig,
    viewer: Viewer<'_>,
) -> Option<(RuleRef, Shared<Rules>)> {
    let root: Namespace = mesh.root_namespace.as_str().into();
    let client = viewer.namespace.filter(|it| **it != root);
    let mut asked = vec![];
    for namespace in client.into_iter().chain([&service.key.namespace, &root]) {
        if asked.contains(&namespace) {
            continue;
        }
        asked.push(namespace);
        for host in service.key.host.patterns() {
            let key = RuleKey { namespace: namespace.clone(), host };
            let Some(found) = reads.get(rules, &key) else { continue };
            let visible = |visibility: &Visibility| match viewer.namespace {
                Some(namespace) => visibility.allows(namespace),
                None => *visibility == Visibility::Public,
            };
            let of = |selected| {
                let fits = |it: &MergedRule| match &it.selector {
                    Some(selector) => selected && viewer.selectors.contains(selector),
                    None => !selected,
                };
                found.merged.iter().position(|it| fits(it) && visible(&it.visibility))
            };
            if let Some(at) = of(true).or_else(|| of(false)) {
                return Some((RuleRef { key, at }, found.clone()));
            }
        }
    }
    None
}

/// The oldest visible VirtualService of the most specific host that covers the service.
fn find_routes(
    reads: &mut Reads,
    (by_host, all): (&Groups<Hostname, ObjectKey>, &Table<ObjectKey, RouteRules>),
    host: &Hostname,
    viewer: Viewer<'_>,
) -> Option<ObjectKey> {
    for pattern in host.patterns() {
        let best = reads
            .members(by_host, all, &pattern)
            .filter(|(_, it)| match viewer.namespace {
                Some(namespace) => it.visibility.allows(namespace),
                None => it.visibility == Visibility::Public,
            })
            .filter(|(_, it)| {
                viewer.egress.is_empty() || viewer.egress.iter().any(|e| e.imports.rules(&it.namespace, &it.hosts))
            })
            .min_by_key(|(_, it)| it.age.clone());
        if let Some((key, _)) = best {
            return Some(key.clone());
        }
    }
    None
}
