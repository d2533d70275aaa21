//! What scopes send: clusters, load assignments, virtual hosts, route tables and outbound listeners.

use crate::catalog::{Groups, Mesh, Objects, Rules};
use crate::key::{
    ClusterKey, Reach, RuleRef, ScopeKey, SetKey, SlotKey, Subject, TableKey, VantageKey, VirtualHostKey,
};
use crate::made::Made;
use crate::scope::{Egress, Feed, Member, Scope};
use crate::stage::OwnMember;
use crds::mesh_config::{InterceptionMode, MeshConfig};
use crds::networking::Gateway;
use crds::{Kind, ObjectKey, Problem, Reason};
use imbl::OrdMap;
use model::{
    Address, DestinationView, Destinations, Endpoints, Hostname, MergedRule, Protocol, ProxyKind, Resolution,
    RouteRules, Service, ServiceKey, ServicePort,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tables::{Reads, Shared, Table};
use translate::cluster::{self, ClusterInput};
use translate::endpoint::{self, AssignmentInput, Vantage};
use translate::listener::{Bind, outbound as listener};
use translate::name::SidecarRoute;
use translate::route::{self, Client, DomainForm, VirtualHostInput};
use xds::{Layer, Piece, Pieces, Resource, TypeUrl};

pub(crate) type RuleTable = Table<crate::key::RuleKey, Rules>;
type Services = Table<ServiceKey, Service>;
pub(crate) type EndpointTable = Table<ServiceKey, Endpoints>;

fn merged_rule<'t>(reads: &mut Reads, rules: &'t RuleTable, of: Option<&RuleRef>) -> Option<&'t MergedRule> {
    let of = of?;
    reads.get(rules, &of.key)?.merged_at(of.at)
}

impl Rules {
    fn merged_at(&self, at: usize) -> Option<&MergedRule> {
        self.merged.get(at)
    }
}

pub(crate) fn cluster(
    reads: &mut Reads,
    (services, rules, mesh, endpoints): (&Services, &RuleTable, &Mesh, &EndpointTable),
    (key, vantage): &SeenKey,
) -> Option<Made> {
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, &key.service)?;
    let rule = merged_rule(reads, rules, key.rule.as_ref());
    let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let endpoints = by_name.then(|| reads.get(endpoints, &key.service)).flatten();
    let input = ClusterInput {
        service,
        port: service.port(key.port)?,
        subset: key.subset.as_deref(),
        rule,
        mesh,
        kind: key.kind,
        endpoints: endpoints.map(|it| &**it),
    };
    let vantage = vantage.as_deref().map(VantageKey::value);
    let made = cluster::cluster_seen_from(&input, vantage.as_ref())?;
    let owner = rule.map_or(&service.object, |it| &it.objects[0]);
    Some(Made::checked(made, rule.is_some(), owner))
}

/// A cluster or its load assignment; with a vantage, as seen from there.
pub(crate) type SeenKey = (ClusterKey, Option<Arc<VantageKey>>);

impl VantageKey {
    fn value(&self) -> Vantage {
        Vantage { locality: (*self.locality).clone(), node: self.node.clone(), labels: self.labels.clone() }
    }
}

pub(crate) fn assignment(
    reads: &mut Reads,
    (services, rules, mesh, endpoints): (&Services, &RuleTable, &Mesh, &EndpointTable),
    (key, vantage): &SeenKey,
) -> Option<Arc<Resource>> {
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, &key.service)?;
    let rule = merged_rule(reads, rules, key.rule.as_ref());
    let none = Endpoints::default();
    let endpoints = reads.get(endpoints, &key.service).map_or(&none, |it| &**it);
    let vantage = vantage.as_deref().map(VantageKey::value);
    let made = endpoint::load_assignment(&AssignmentInput {
        service,
        port: service.port(key.port)?,
        subset: key.subset.as_deref(),
        rule,
        mesh,
        kind: key.kind,
        endpoints,
        vantage: vantage.as_ref(),
    });
    let name: Arc<str> = made.resource.cluster_name.as_str().into();
    Some(Arc::new(Resource::whole(name, &made.resource)))
}

/// What a scope shows in one set for one service: cluster names that differ from the base, masks of those it hides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entry {
    Cluster(SeenKey),
    Mask(Arc<str>),
}

/// The clusters of a member that are the same wherever the proxy stands.
pub(crate) fn shared_entries(member: &Member) -> impl Iterator<Item = &ClusterKey> {
    member.clusters.iter().filter(|it| it.feed != Feed::ClusterByVantage).map(|it| &it.key)
}

/// Whether `own` needs entries of its own beside the base's.
pub(crate) fn differing_clusters(own: &Member, base: Option<&Member>) -> Vec<Entry> {
    let same = |cluster: &ClusterKey| base.is_some_and(|it| it.clusters.iter().any(|other| other.key == *cluster));
    let mut entries: Vec<Entry> =
        shared_entries(own).filter(|it| !same(it)).map(|it| Entry::Cluster((it.clone(), None))).collect();
    let names: BTreeSet<&Arc<str>> = own.clusters.iter().map(|it| &it.name).collect();
    let hidden = base.into_iter().flat_map(|it| &it.clusters).filter(|it| !names.contains(&it.name));
    entries.extend(hidden.map(|it| Entry::Mask(it.name.clone())));
    entries
}

/// How the outbound side of a set is laid out for one service.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Placement {
    /// Virtual hosts: route table and service port.
    pub(crate) virtual_hosts: BTreeSet<(Arc<str>, u16)>,
    /// Base virtual hosts, by route table and name, that must not be seen.
    pub(crate) masks: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Listener addresses.
    pub(crate) slots: BTreeSet<(Arc<str>, u16, PortClass)>,
}

impl Placement {
    /// `bind`: the address that a listener of the sidecar's own binds.
    fn add_slots(&mut self, service: &Service, port: &ServicePort, bind: Option<&str>, ips: &[IpAddr]) {
        let class = if port.protocol.is_http() { PortClass::Http } else { PortClass::Other };
        let mut slots = listener::slots(service, port, InterceptionMode::Redirect, bind);
        if bind.is_none() && listener::by_endpoint(service, port) {
            slots.extend(listener::headless_slots(service, port, ips.iter().copied(), None));
        }
        for (address, number) in slots {
            if port.protocol.is_http() || port.protocol == Protocol::Auto {
                let rds = listener::rds_name(&address, number, service, port.protocol).to_string();
                self.virtual_hosts.insert((rds.into(), port.number));
            }
            self.slots.insert((address.to_string().into(), number, class));
        }
    }

    pub(crate) fn virtual_hosts(&self, set: &SetKey, service: &ServiceKey) -> Vec<VirtualHostKey> {
        let table = |rds: &Arc<str>| TableKey { set: set.clone(), rds: rds.clone() };
        let hosts = self.virtual_hosts.iter().map(|(rds, port)| VirtualHostKey {
            table: table(rds),
            subject: Subject::Service { service: service.clone(), port: *port },
        });
        let masks = self.masks.iter();
        let masks = masks.map(|(rds, name)| VirtualHostKey { table: table(rds), subject: Subject::Mask(name.clone()) });
        hosts.chain(masks).collect()
    }

    pub(crate) fn slots(&self, set: &SetKey) -> Vec<SlotClass> {
        let slot = |(bind, port, class): &(Arc<str>, u16, PortClass)| SlotClass {
            slot: SlotKey { set: set.clone(), bind: bind.clone(), port: *port },
            class: *class,
        };
        self.slots.iter().map(slot).collect()
    }
}

/// Where a captured service's ports are found: HTTP by port, everything else by address.
pub(crate) fn placement(service: &Service, ips: &[IpAddr]) -> Placement {
    let mut placement = Placement::default();
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        placement.add_slots(service, port, None, ips);
    }
    placement
}

/// The same where a Sidecar says which listener imports what, or where listeners bind an address of their own.
fn placement_by_egress(service: &Service, ips: &[IpAddr], scope: &Scope, key: &ScopeKey) -> Placement {
    let mut placement = Placement::default();
    let explicit: BTreeSet<u16> =
        scope.egress.iter().filter(|it| !it.is_http_proxy()).filter_map(|it| it.port).collect();
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        let imports = |it: &&Egress| it.imports.service(&service.key.namespace, &service.key.host);
        // What a VirtualService pulled in belongs to the listener without a port.
        let pulled = !scope.egress.iter().any(|it| imports(&it));
        if port.protocol.is_http() {
            let tables = proxy_tables_importing(key, scope, |it| pulled || imports(&it));
            placement.virtual_hosts.extend(tables.into_iter().map(|rds| (rds, port.number)));
        }
        let takes = |it: &&Egress| match it.port {
            _ if it.is_http_proxy() => false,
            Some(number) => number == port.number && imports(it),
            None => !explicit.contains(&port.number) && (pulled || imports(it)),
        };
        if let Some(egress) = scope.egress.iter().find(takes) {
            placement.add_slots(service, port, egress.bind.as_deref(), ips);
        }
    }
    placement
}

pub(crate) type OwnPlacementTables<'t> = (
    &'t Table<OwnKey, OwnMember>,
    &'t Table<Arc<ScopeKey>, Scope>,
    &'t EndpointTable,
    &'t Table<ServiceKey, Placement>,
);

pub(crate) fn own_placement(
    reads: &mut Reads,
    (own, scopes, endpoints, placements): OwnPlacementTables<'_>,
    key: &OwnKey,
) -> Option<Placement> {
    let (scope, _) = key;
    let own = reads.get(own, key)?.clone();
    let service = &own.member.service;
    let ips = headless_ips(reads, endpoints, service);
    if let Reach::Full { .. } = scope.reach {
        let row = reads.get(scopes, scope)?;
        return Some(placement_by_egress(service, &ips, row, scope));
    }
    let mut placement = placement(service, &ips);
    let base = own.base.as_ref();
    if let Some(hidden) = base.and_then(|it| reads.get(placements, &it.service.key)) {
        let gone = hidden.virtual_hosts.difference(&placement.virtual_hosts);
        placement.masks = gone.map(|(rds, port)| (rds.clone(), host_name(&service.key.host, *port))).collect();
    }
    let same_service = base.is_some_and(|it| it.service == *service);
    let same_rules = base.is_some_and(|it| it.rule == own.member.rule && it.routes == own.member.routes);
    // All HTTP services of a port share one listener, whatever their rules are.
    placement.slots.retain(|(_, _, class)| !same_service || !(same_rules || *class == PortClass::Http));
    Some(placement)
}

/// A virtual host's name.
fn host_name(host: &Hostname, port: u16) -> Arc<str> {
    format!("{host}:{port}").into()
}

impl Egress {
    fn is_http_proxy(&self) -> bool {
        self.protocol == Some(Protocol::HttpProxy)
    }
}

/// Route tables of HTTP proxy listeners: `proxyHttpPort`'s, and those of `HTTP_PROXY` egress listeners.
pub(crate) fn proxy_tables(key: &ScopeKey, scope: &Scope) -> Vec<Arc<str>> {
    proxy_tables_importing(key, scope, |_| true)
}

fn proxy_tables_importing(key: &ScopeKey, scope: &Scope, imports: impl Fn(&Egress) -> bool) -> Vec<Arc<str>> {
    let default = matches!(key.reach, Reach::Full { http_proxy_port: Some(_), .. });
    let own = scope.egress.iter().filter(|it| it.is_http_proxy() && imports(it));
    let own = own.filter_map(|it| it.port).map(|port| port.to_string().into());
    default.then(|| HTTP_PROXY.into()).into_iter().chain(own).collect()
}

/// Where VirtualService hosts without a service are found: port 80, as in Istio, and HTTP proxies.
pub(crate) fn loose_tables(key: &ScopeKey, scope: &Scope) -> Vec<Arc<str>> {
    std::iter::once("80".into()).chain(proxy_tables(key, scope)).collect()
}

pub(crate) fn loose_key(set: SetKey, rds: &str, host: &Hostname, rules: &ObjectKey) -> VirtualHostKey {
    VirtualHostKey {
        table: TableKey { set, rds: rds.into() },
        subject: Subject::Host { host: host.clone(), rules: rules.clone() },
    }
}

/// The listeners of a scope that stand for no service: what catches everything else, and HTTP proxies.
pub(crate) fn scope_listeners(
    reads: &mut Reads,
    (scopes, mesh): (&Table<Arc<ScopeKey>, Scope>, &Mesh),
    key: &Arc<ScopeKey>,
) -> Option<Layer> {
    let mesh = reads.get(mesh, &())?;
    let scope = reads.get(scopes, key)?;
    let mut listeners = vec![];
    let (mut interception, mut proxy_port) = (InterceptionMode::Redirect, None);
    if let Reach::Full { interception: mode, http_proxy_port, .. } = &key.reach {
        (interception, proxy_port) = (*mode, *http_proxy_port);
    }
    if interception != InterceptionMode::None {
        listeners.push(translate::listener::virtual_outbound(&scope.policy, interception, mesh));
    }
    listeners.extend(
        proxy_port.map(|port| translate::listener::http_proxy("127.0.0.1", port, &SidecarRoute::HttpProxy, mesh)),
    );
    for egress in scope.egress.iter().filter(|it| it.is_http_proxy()) {
        if let Some(port) = egress.port {
            let bind = egress.bind.as_deref().unwrap_or("127.0.0.1");
            listeners.push(translate::listener::http_proxy(bind, port, &SidecarRoute::Port(port), mesh));
        }
    }
    let named = |it: &xds::envoy::Listener| {
        let resource = Resource::whole(it.name.clone(), it);
        (resource.name.clone(), Some(Arc::new(resource)))
    };
    Some(listeners.iter().map(named).collect())
}

/// The route table of `proxyHttpPort`.
pub(crate) const HTTP_PROXY: &str = "http_proxy";

/// Addresses of a headless service's endpoints: each gets a listener where traffic is captured.
pub(crate) fn headless_ips(reads: &mut Reads, endpoints: &EndpointTable, service: &Service) -> Vec<IpAddr> {
    let Some(endpoints) = service.headless.then(|| reads.get(endpoints, &service.key)).flatten() else { return vec![] };
    let all = endpoints.by_port.values().flatten().filter_map(|it| match it.address {
        Address::Ip(ip) => Some(ip),
        _ => None,
    });
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

pub(crate) type SeeTables<'t> = (
    &'t Table<Hostname, ServiceKey>,
    &'t Table<ServiceKey, Member>,
    (&'t Groups<(Arc<ScopeKey>, Hostname), OwnKey>, &'t Table<OwnKey, OwnMember>),
    &'t RuleTable,
);

/// A service in a scope of its own.
pub(crate) type OwnKey = (Arc<ScopeKey>, ServiceKey);

/// The member that a host means in a set.
pub(crate) fn see<'t>(
    reads: &mut Reads,
    (hosts, base, (by_host, own), _): SeeTables<'t>,
    set: &SetKey,
    host: &Hostname,
) -> Option<&'t Member> {
    if let SetKey::Own(scope) = set {
        let keys = reads.get(by_host, &(scope.clone(), host.clone()));
        if let Some(key) = keys.and_then(|it| it.get_min()) {
            return reads.get(own, key).map(|it| &it.member);
        }
        if matches!(scope.reach, Reach::Full { .. }) {
            return None;
        }
    }
    let key = reads.get(hosts, host)?;
    reads.get(base, key).map(|it| &**it)
}

pub(crate) fn destinations<'t>(
    reads: &mut Reads,
    tables: SeeTables<'t>,
    set: &SetKey,
    hosts: impl IntoIterator<Item = Hostname>,
) -> Destinations<'t> {
    let mut destinations = Destinations::new();
    for host in hosts {
        let member = see(reads, tables, set, &host);
        let rule = member.and_then(|it| merged_rule(reads, tables.3, it.rule.as_ref()));
        let view = DestinationView { service: member.map(|it| &*it.service), rule };
        destinations.insert(host, view);
    }
    destinations
}

/// `None`: namespaces without rules of their own, for which any name stands that owns nothing.
pub(crate) fn client<'a>(set: &'a SetKey, none: &'a BTreeMap<String, String>, gateway: &'a str) -> Client<'a> {
    match set {
        SetKey::Own(scope) => Client {
            gateway,
            namespace: &scope.namespace,
            labels: scope.labels.as_deref().unwrap_or(none),
            kind: scope.kind,
        },
        SetKey::Base | SetKey::RouterBase => Client { gateway, namespace: "", labels: none, kind: ProxyKind::Sidecar },
    }
}

pub(crate) type VirtualHostTables<'t> = (
    SeeTables<'t>,
    &'t Table<ObjectKey, RouteRules>,
    (&'t Groups<Hostname, ServiceKey>, &'t Groups<IpAddr, ServiceKey>),
    &'t Mesh,
);

/// A virtual host, encoded as a field of its route table; `None` hides the base's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EncodedHost {
    pub(crate) name: Arc<str>,
    pub(crate) piece: Option<Arc<Piece>>,
    pub(crate) problems: Vec<Problem>,
}

/// The number of `RouteConfiguration.virtual_hosts`.
pub(crate) const VIRTUAL_HOSTS: u32 = 2;

pub(crate) fn virtual_host(
    reads: &mut Reads,
    (see_tables, all_rules, owners, mesh): VirtualHostTables<'_>,
    key: &VirtualHostKey,
) -> Option<EncodedHost> {
    let mesh = reads.get(mesh, &())?;
    let set = &key.table.set;
    let none = BTreeMap::new();
    let client = client(set, &none, model::virtual_service::MESH);
    let mut problems = vec![];
    let (name, domains, service, rules, port) = match &key.subject {
        Subject::Mask(name) => return Some(EncodedHost { name: name.clone(), piece: None, problems: vec![] }),
        Subject::Service { service, port } => {
            let member = see(reads, see_tables, set, &service.host)?;
            let form = form(&key.table.rds, *port);
            let wanted = route::domains(&member.service, *port, client.namespace, form);
            let domains = owned_domains(reads, owners, &member.service, *port, wanted, &mut problems);
            let port_view = member.service.port(*port)?;
            (
                format!("{}:{port}", service.host),
                domains,
                Some((&*member.service, port_view)),
                member.routes.clone(),
                *port,
            )
        }
        Subject::Host { host, rules } => {
            let port = key.table.rds.parse().unwrap_or(80);
            (format!("{host}:{port}"), vec![host.to_string()], None, Some(rules.clone()), port)
        }
    };
    let rules = rules.and_then(|it| reads.get(all_rules, &it)).cloned();
    let mut hosts = rules.as_ref().map(|it| it.destination_hosts()).unwrap_or_default();
    hosts.extend(service.map(|(service, _)| service.key.host.clone()));
    let destinations = destinations(reads, see_tables, set, hosts);
    let made = route::virtual_host(&VirtualHostInput {
        name: name.clone(),
        domains,
        service,
        rules: rules.as_deref(),
        destinations: &destinations,
        client: &client,
        listener_port: port,
        mesh,
    });
    problems.extend(made.problems);
    let piece = Some(Piece::field(VIRTUAL_HOSTS, &made.resource));
    Some(EncodedHost { name: name.into(), piece, problems })
}

/// How the domains of a route table are written.
fn form(rds: &str, port: u16) -> DomainForm {
    match rds.parse::<u16>() {
        Ok(number) if number == port => DomainForm::Plain,
        Err(_) if rds != HTTP_PROXY => DomainForm::Any,
        _ => DomainForm::WithPort,
    }
}

/// Envoy refuses a whole table for one repeated domain. A short form or an address that is another service's own
/// host or older address stays with that one.
fn owned_domains(
    reads: &mut Reads,
    (by_host, by_ip): (&Groups<Hostname, ServiceKey>, &Groups<IpAddr, ServiceKey>),
    service: &Service,
    port: u16,
    wanted: Vec<String>,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut domains: Vec<String> = vec![];
    for domain in wanted {
        let bare = domain.strip_suffix(&format!(":{port}")).unwrap_or(&domain);
        let owner = match bare.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => reads.get(by_ip, &ip).and_then(|it| it.get_min()),
            Err(_) if bare == service.key.host.as_str() => None,
            Err(_) => {
                let host = Hostname::new(bare);
                reads.get(by_host, &host).and_then(|it| it.iter().find(|it| it.host == host))
            }
        };
        match owner.filter(|it| it.host != service.key.host) {
            Some(owner) => {
                let reason = Reason::DuplicateDomain { domain, owner: owner.host.to_string() };
                problems.push(Problem::new(&service.object, "", reason));
            }
            None if domains.contains(&domain) => {}
            None => domains.push(domain),
        }
    }
    domains
}

/// The pieces of a base route table, and the same with a scope's own laid over them.
pub(crate) type HostMap = OrdMap<Arc<str>, Option<Arc<Piece>>>;

pub(crate) fn base_pieces(reads: &mut Reads, hosts: &Table<TableKey, HostMap>, rds: &Arc<str>) -> Option<Pieces> {
    let hosts = reads.get(hosts, &TableKey { set: SetKey::Base, rds: rds.clone() })?;
    let mut pieces = Pieces::default();
    for (name, piece) in hosts.iter() {
        if let Some(piece) = piece {
            pieces.insert(name.clone(), piece.clone());
        }
    }
    Some(pieces)
}

pub(crate) type RouteTables<'t> =
    (&'t Table<Arc<str>, Pieces>, &'t Table<TableKey, HostMap>, &'t Table<Arc<ScopeKey>, Scope>, &'t Mesh);

pub(crate) fn route_table(
    reads: &mut Reads,
    (base, hosts, scopes, mesh): RouteTables<'_>,
    key: &TableKey,
) -> Option<Arc<Resource>> {
    let mut policy = reads.get(mesh, &())?.outbound_traffic_policy.clone();
    let (mut layered, mut proxy) = (true, false);
    if let SetKey::Own(scope) = &key.set {
        let row = reads.get(scopes, scope)?;
        policy = row.policy.clone();
        layered = scope.reach == Reach::Layered;
        proxy = proxy_tables(scope, row).contains(&key.rds);
    }
    let under = layered.then(|| reads.get(base, &key.rds)).flatten();
    let mut pieces = under.map(|it| (**it).clone()).unwrap_or_default();
    if let SetKey::Own(_) = &key.set {
        for (name, piece) in reads.get(hosts, key).into_iter().flat_map(|it| it.iter()) {
            match piece {
                Some(piece) => pieces.insert(name.clone(), piece.clone()),
                None => pieces.remove(name),
            }
        }
    }
    // The table of one sniffed service takes every host already.
    if proxy || form(&key.rds, 0) != DomainForm::Any {
        let catch_all = route::catch_all(&policy);
        pieces.insert(catch_all.name.as_str().into(), Piece::field(VIRTUAL_HOSTS, &catch_all));
    }
    let head = match proxy {
        true => route::http_proxy_configuration(&key.rds),
        false => route::route_configuration(&key.rds),
    };
    let head = xds::canonical::encode(&head);
    Some(Arc::new(Resource::joined(TypeUrl::Route, key.rds.clone(), head, &pieces)))
}

/// An outbound listener's members: which ports of which services meet at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotClass {
    pub(crate) slot: SlotKey,
    pub(crate) class: PortClass,
}

/// All HTTP services of a port make one and the same listener, so one of them stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PortClass {
    Http,
    Other,
}

pub(crate) type SlotGroups<K> = Groups<SlotClass, K>;

pub(crate) type ListenerTables<'t> = (
    SeeTables<'t>,
    (&'t SlotGroups<ServiceKey>, &'t SlotGroups<OwnKey>),
    &'t Table<ObjectKey, RouteRules>,
    &'t Table<Arc<ScopeKey>, Scope>,
    &'t Mesh,
);

pub(crate) fn outbound_listener(
    reads: &mut Reads,
    (see_tables, (base_slots, own_slots), all_rules, scopes, mesh): ListenerTables<'_>,
    key: &SlotKey,
) -> Option<Made> {
    let mesh = reads.get(mesh, &())?;
    let mut policy = &mesh.outbound_traffic_policy;
    let mut bind_to_port = false;
    let mut hosts: BTreeSet<Hostname> = BTreeSet::new();
    let base_key = SlotKey { set: SetKey::Base, ..key.clone() };
    match &key.set {
        SetKey::Own(scope) => {
            let row = reads.get(scopes, scope)?;
            policy = &row.policy;
            bind_to_port = row.egress.iter().any(|it| it.bind.as_deref() == Some(&key.bind));
            if scope.reach == Reach::Layered {
                hosts.extend(slot_members(reads, base_slots, &base_key, |it| &it.host));
            }
            hosts.extend(slot_members(reads, own_slots, key, |(_, it)| &it.host));
        }
        _ => hosts.extend(slot_members(reads, base_slots, &base_key, |it| &it.host)),
    }
    let none = BTreeMap::new();
    let client = client(&key.set, &none, model::virtual_service::MESH);
    let mut found: Vec<(&Member, Option<&Shared<RouteRules>>, Destinations<'_>)> = vec![];
    for host in hosts {
        let Some(member) = see(reads, see_tables, &key.set, &host) else { continue };
        let rules = member.routes.as_ref().and_then(|it| reads.get(all_rules, it));
        let hosts = rules.map(|it| it.destination_hosts()).unwrap_or_default();
        found.push((member, rules, destinations(reads, see_tables, &key.set, hosts)));
    }
    found.sort_by(|a, b| a.0.service.age.cmp(&b.0.service.age));
    let mut members = vec![];
    for (member, rules, destinations) in &found {
        let Some(port) = member.service.port(key.port) else { continue };
        let rule = merged_rule(reads, see_tables.3, member.rule.as_ref());
        let rules = rules.map(|it| &**it);
        members.push(listener::Member { service: &member.service, port, rules, destinations, rule });
    }
    let owner = members.first().map(|it| it.service.object.clone())?;
    let slot = listener::Slot {
        bind: Bind::parse(&key.bind)?,
        port: key.port,
        bind_to_port,
        members,
        policy,
        mesh,
        client: &client,
    };
    Some(Made::optional(listener::listener(&slot), &owner))
}

/// All HTTP services of a port make one and the same listener: the first stands for them.
fn slot_members<K: tables::Key>(
    reads: &mut Reads,
    groups: &SlotGroups<K>,
    slot: &SlotKey,
    host: fn(&K) -> &Hostname,
) -> Vec<Hostname> {
    let mut hosts = vec![];
    for (class, most) in [(PortClass::Http, 1), (PortClass::Other, usize::MAX)] {
        let group = reads.get(groups, &SlotClass { slot: slot.clone(), class });
        hosts.extend(group.into_iter().flat_map(|it| it.iter()).take(most).map(|it| host(it).clone()));
    }
    hosts
}

pub(crate) type LooseTables<'t> =
    (&'t Groups<Hostname, ObjectKey>, &'t Table<ObjectKey, RouteRules>, &'t Groups<Hostname, ServiceKey>);

/// Hosts of public VirtualServices that no public service has, with the oldest such VirtualService.
pub(crate) fn loose_host(
    reads: &mut Reads,
    (by_host, all, by_pattern): LooseTables<'_>,
    host: &Hostname,
) -> Option<ObjectKey> {
    if reads.get(by_pattern, host).is_some() {
        return None;
    }
    let public = reads.members(by_host, all, host).filter(|(_, it)| it.visibility == model::Visibility::Public);
    public.min_by_key(|(_, it)| it.age.clone()).map(|(key, _)| key.clone())
}

/// Cluster keys of a member that are fed by EDS, by who gets them.
pub(crate) fn fed(member: &Member, feed: Feed) -> impl Iterator<Item = &ClusterKey> {
    member.clusters.iter().filter(move |it| it.feed == feed).map(|it| &it.key)
}

/// VirtualServices bound to a Gateway that does not exist.
pub(crate) fn unbound(
    reads: &mut Reads,
    (by_gateway, gateways): (&Groups<String, ObjectKey>, &Objects<Gateway>),
    name: &String,
) -> Option<Vec<Problem>> {
    let (namespace, gateway) = name.split_once('/')?;
    if reads.get(gateways, &ObjectKey::new(Kind::Gateway, namespace, gateway)).is_some() {
        return None;
    }
    let problem = |object: &ObjectKey| Problem::new(object, "spec.gateways", Reason::UnknownGateway(name.clone()));
    Some(reads.get(by_gateway, name)?.iter().map(problem).collect())
}

/// VirtualServices that have no effect on a host because an older one rules it.
pub(crate) fn shadowed(
    reads: &mut Reads,
    (by_host, all): (&Groups<Hostname, ObjectKey>, &Table<ObjectKey, RouteRules>),
    host: &Hostname,
) -> Option<Vec<Problem>> {
    let mut list: Vec<_> = reads
        .members(by_host, all, host)
        .filter(|(_, it)| it.visibility == model::Visibility::Public)
        .map(|(key, it)| (it.age.clone(), key.clone()))
        .collect();
    list.sort();
    let (_, by) = list.first()?.clone();
    let problem = |(_, object): &(_, ObjectKey)| {
        let reason = Reason::Shadowed { host: host.to_string(), by: by.clone() };
        Problem::new(object, "spec.hosts", reason)
    };
    Some(list[1..].iter().map(problem).collect())
}

/// What every captured proxy has: the clusters and listeners that stand for "anything else".
pub(crate) fn shared_clusters(mesh: &MeshConfig) -> Vec<Resource> {
    [cluster::black_hole(), cluster::passthrough(mesh)].map(|it| Resource::whole(it.name.clone(), &it)).into()
}
