//! What scopes send: clusters, load assignments, virtual hosts, route tables and outbound listeners.

use crate::catalog::{Groups, Mesh, Objects, Rules};
use crate::key::{ClusterKey, Reach, RuleRef, ScopeKey, SetKey, SlotKey, Subject, TableKey, VantageKey, VirtualHostKey};
use crate::made::Made;
use crate::scope::{Feed, Member, Scope};
use crds::mesh_config::MeshConfig;
use crds::networking::{OutboundTrafficPolicy, VirtualService};
use crds::{ObjectKey, Problem, Reason};
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
use translate::listener::outbound as listener;
use translate::route::{self, Client, DomainForm, VirtualHostInput};
use xds::{Piece, Pieces, Resource, TypeUrl};

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
    key: &ClusterKey,
) -> Option<Made> {
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, &key.service)?;
    let rule = merged_rule(reads, rules, key.rule.as_ref());
    let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let endpoints = by_name.then(|| reads.get(endpoints, &key.service)).flatten();
    let made = cluster::cluster(&ClusterInput {
        service,
        port: service.port(key.port)?,
        subset: key.subset.as_deref(),
        rule,
        mesh,
        kind: key.kind,
        endpoints: endpoints.map(|it| &**it),
    })?;
    let owner = rule.map_or(&service.object, |it| &it.objects[0]);
    Some(Made::checked(made, rule.is_some(), owner))
}

/// A cluster's endpoints; with a vantage, as seen from there.
pub(crate) type AssignmentKey = (ClusterKey, Option<Arc<VantageKey>>);

pub(crate) fn assignment(
    reads: &mut Reads,
    (services, rules, mesh, endpoints): (&Services, &RuleTable, &Mesh, &EndpointTable),
    (key, vantage): &AssignmentKey,
) -> Option<Arc<Resource>> {
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, &key.service)?;
    let rule = merged_rule(reads, rules, key.rule.as_ref());
    let none = Endpoints::default();
    let endpoints = reads.get(endpoints, &key.service).map_or(&none, |it| &**it);
    let vantage = vantage.as_ref().map(|it| Vantage {
        locality: (*it.locality).clone(),
        node: it.node.clone(),
        labels: it.labels.clone(),
    });
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
pub enum Entry {
    Cluster(ClusterKey),
    Mask(Arc<str>),
}

/// Whether `own` needs entries of its own beside the base's.
pub(crate) fn differing_clusters(own: &Member, base: Option<&Member>) -> Vec<Entry> {
    let same = |cluster: &ClusterKey| base.is_some_and(|it| it.clusters.iter().any(|other| other.key == *cluster));
    let mut entries: Vec<Entry> =
        own.clusters.iter().filter(|it| !same(&it.key)).map(|it| Entry::Cluster(it.key.clone())).collect();
    let names: BTreeSet<&Arc<str>> = own.clusters.iter().map(|it| &it.name).collect();
    let hidden = base.into_iter().flat_map(|it| &it.clusters).filter(|it| !names.contains(&it.name));
    entries.extend(hidden.map(|it| Entry::Mask(it.name.clone())));
    entries
}

/// How one scope's outbound side is laid out for one service.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Placement {
    /// Virtual hosts: route table and service port.
    pub virtual_hosts: BTreeSet<(Arc<str>, u16)>,
    /// Base virtual hosts that must not be seen.
    pub masks: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Listener addresses and the service ports in them.
    pub slots: BTreeSet<(Arc<str>, u16, u16)>,
}

/// Where a captured service's ports are found: HTTP by port, everything else by address.
pub(crate) fn placement(service: &Service, ips: &[IpAddr]) -> Placement {
    let mut placement = Placement::default();
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        for (bind, number) in listener::slots(service, port, None, ips) {
            if port.protocol.is_http() || port.protocol == Protocol::Auto {
                let rds = listener::rds_name(service, port, &bind);
                placement.virtual_hosts.insert((rds.into(), port.number));
            }
            placement.slots.insert((bind.into(), number, port.number));
        }
    }
    placement
}

/// The same where a Sidecar says which listener imports what, or where listeners bind an address of their own.
pub(crate) fn placement_by_egress(service: &Service, ips: &[IpAddr], scope: &Scope, key: &ScopeKey) -> Placement {
    let mut placement = Placement::default();
    let explicit: BTreeSet<u16> = scope.egress.iter().filter_map(|it| it.port).collect();
    for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
        let web = port.protocol.is_http() || port.protocol == Protocol::Auto;
        if let Reach::Full { http_proxy_port: Some(_), .. } = key.reach
            && port.protocol.is_http()
        {
            placement.virtual_hosts.insert((HTTP_PROXY.into(), port.number));
        }
        for egress in &scope.egress {
            if !egress.imports.service(&service.key.namespace, &service.key.host) {
                continue;
            }
            let here = match (egress.port, egress.protocol) {
                (Some(number), Some(Protocol::HttpProxy)) => {
                    if port.protocol.is_http() {
                        placement.virtual_hosts.insert((number.to_string().into(), port.number));
                    }
                    false
                }
                (Some(number), _) => number == port.number,
                (None, _) => !explicit.contains(&port.number),
            };
            if !here {
                continue;
            }
            for (bind, number) in listener::slots(service, port, egress.bind.as_deref(), ips) {
                if web {
                    let rds = listener::rds_name(service, port, &bind);
                    placement.virtual_hosts.insert((rds.into(), port.number));
                }
                placement.slots.insert((bind.into(), number, port.number));
            }
            break;
        }
    }
    placement
}

/// The route table of `proxyHttpPort`.
pub(crate) const HTTP_PROXY: &str = "http_proxy";

/// Addresses of a headless service's endpoints: each gets a listener where traffic is captured.
pub(crate) fn endpoint_ips(endpoints: &Endpoints) -> Vec<IpAddr> {
    let all = endpoints.by_port.values().flatten().filter_map(|it| match it.address {
        Address::Ip(ip) => Some(ip),
        _ => None,
    });
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// A scope's name for what a destination host means to it.
pub(crate) struct Seen<'t> {
    pub(crate) service: Option<&'t Shared<Service>>,
    pub(crate) rule: Option<&'t MergedRule>,
}

pub(crate) type SeeTables<'t> = (
    &'t Table<Hostname, ServiceKey>,
    &'t Table<ServiceKey, Member>,
    (&'t Groups<(Arc<ScopeKey>, Hostname), OwnKey>, &'t Table<OwnKey, Member>),
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
) -> Option<&'t Shared<Member>> {
    if let SetKey::Own(scope) = set {
        let keys = reads.get(by_host, &(scope.clone(), host.clone()));
        if let Some(key) = keys.and_then(|it| it.get_min()) {
            return reads.get(own, key);
        }
        if matches!(scope.reach, Reach::Full { .. }) {
            return None;
        }
    }
    let key = reads.get(hosts, host)?;
    reads.get(base, key)
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
pub struct EncodedHost {
    pub name: Arc<str>,
    pub piece: Option<Arc<Piece>>,
    pub problems: Vec<Problem>,
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
            (format!("{}:{port}", service.host), domains, Some((&*member.service, port_view)), member.routes.clone(), *port)
        }
        Subject::Host { host, rules } => {
            let port = key.table.rds.parse().unwrap_or(80);
            (format!("{host}:{port}"), vec![host.to_string()], None, Some(rules.clone()), port)
        }
    };
    let rules = rules.and_then(|it| reads.get(all_rules, &it)).cloned();
    let hosts = rules.as_ref().map(|it| it.destination_hosts()).unwrap_or_default();
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
    let piece = Some(Pieces::field(VIRTUAL_HOSTS, &made.resource));
    Some(EncodedHost { name: name.into(), piece, problems })
}

/// How the domains of a route table are written.
fn form(rds: &str, port: u16) -> DomainForm {
    match rds.parse::<u16>() {
        Ok(number) if number == port => DomainForm::Plain,
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

pub(crate) fn base_pieces(
    reads: &mut Reads,
    hosts: &Table<TableKey, HostMap>,
    rds: &Arc<str>,
) -> Option<PiecesRow> {
    let hosts = reads.get(hosts, &TableKey { set: SetKey::Base, rds: rds.clone() })?;
    let mut pieces = Pieces::default();
    for (name, piece) in hosts.iter() {
        if let Some(piece) = piece {
            pieces.insert(name.clone(), piece.clone());
        }
    }
    Some(PiecesRow(pieces))
}

/// Compared by what is in it.
#[derive(Clone, Debug)]
pub struct PiecesRow(pub Pieces);

impl PartialEq for PiecesRow {
    fn eq(&self, other: &Self) -> bool {
        self.0.sum() == other.0.sum() && self.0.map().len() == other.0.map().len()
    }
}

pub(crate) type RouteTables<'t> = (
    &'t Table<Arc<str>, PiecesRow>,
    &'t Table<TableKey, HostMap>,
    &'t Table<Arc<ScopeKey>, Scope>,
    &'t Mesh,
);

pub(crate) fn route_table(
    reads: &mut Reads,
    (base, hosts, scopes, mesh): RouteTables<'_>,
    key: &TableKey,
) -> Option<Arc<Resource>> {
    let mut policy = reads.get(mesh, &())?.outbound_traffic_policy.clone();
    let mut layered = true;
    if let SetKey::Own(scope) = &key.set {
        policy = reads.get(scopes, scope)?.policy.clone();
        layered = scope.reach == Reach::Layered;
    }
    let under = layered.then(|| reads.get(base, &key.rds)).flatten();
    let mut pieces = under.map(|it| it.0.clone()).unwrap_or_default();
    if let SetKey::Own(_) = &key.set {
        for (name, piece) in reads.get(hosts, key).into_iter().flat_map(|it| it.iter()) {
            match piece {
                Some(piece) => pieces.insert(name.clone(), piece.clone()),
                None => pieces.remove(name),
            }
        }
    }
    let catch_all = route::catch_all(&policy);
    pieces.insert(catch_all.name.as_str().into(), Pieces::field(VIRTUAL_HOSTS, &catch_all));
    let head = xds::canonical::encode(&route::route_configuration(&key.rds));
    Some(Arc::new(Resource::joined(TypeUrl::Route, key.rds.clone(), head, &pieces)))
}

/// An outbound listener's members: which ports of which services meet at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotClass {
    pub slot: SlotKey,
    pub class: PortClass,
}

/// All HTTP services of a port make one and the same listener, so one of them stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortClass {
    Http,
    Other,
}

pub(crate) type SlotGroups = Groups<SlotClass, (ServiceKey, u16)>;

pub(crate) type ListenerTables<'t> = (
    SeeTables<'t>,
    (&'t SlotGroups, &'t SlotGroups),
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
    let mut members: BTreeMap<(ServiceKey, u16), ()> = BTreeMap::new();
    let mut policy = mesh.outbound_traffic_policy.clone();
    let mut bind_to_port = false;
    let mut add = |reads: &mut Reads, groups: &SlotGroups, slot: &SlotKey| {
        for class in [PortClass::Http, PortClass::Other] {
            let all = reads.get(groups, &SlotClass { slot: slot.clone(), class });
            let take = if class == PortClass::Http { 1 } else { usize::MAX };
            members.extend(all.into_iter().flat_map(|it| it.iter().take(take)).map(|it| (it.clone(), ())));
        }
    };
    match &key.set {
        SetKey::Own(scope) => {
            let row = reads.get(scopes, scope)?;
            policy = row.policy.clone();
            bind_to_port = row.egress.iter().any(|it| it.bind.as_deref() == Some(&key.bind));
            if scope.reach == Reach::Layered {
                add(reads, base_slots, &SlotKey { set: SetKey::Base, ..key.clone() });
            }
            add(reads, own_slots, key);
        }
        _ => add(reads, base_slots, key),
    }
    let none = BTreeMap::new();
    let client = client(&key.set, &none, model::virtual_service::MESH);
    let mut found: Vec<(&Shared<Member>, u16, Option<&Shared<RouteRules>>, Destinations<'_>)> = vec![];
    for (service, port) in members.into_keys() {
        let Some(member) = see(reads, see_tables, &key.set, &service.host) else { continue };
        let rules = member.routes.as_ref().and_then(|it| reads.get(all_rules, it));
        let hosts = rules.map(|it| it.destination_hosts()).unwrap_or_default();
        let destinations = destinations(reads, see_tables, &key.set, hosts);
        found.push((member, port, rules, destinations));
    }
    found.sort_by(|a, b| (&a.0.service.age, a.1).cmp(&(&b.0.service.age, b.1)));
    found.dedup_by(|a, b| (&a.0.service.key, a.1) == (&b.0.service.key, b.1));
    let mut members = vec![];
    for (member, port, rules, destinations) in &found {
        let Some(port) = member.service.port(*port) else { continue };
        let rule = merged_rule(reads, see_tables.3, member.rule.as_ref());
        members.push(listener::Member {
            service: &member.service,
            port,
            rules: rules.map(|it| &**it),
            destinations,
            rule,
        });
    }
    let owner = members.first().map(|it| it.service.object.clone())?;
    let slot = listener::Slot {
        bind: &key.bind,
        port: key.port,
        bind_to_port,
        members,
        policy: &policy,
        mesh,
        client: &client,
    };
    let made = listener::listener(&slot)?;
    Some(Made::checked(made, true, &owner))
}

/// Which slots an own member needs beside the base's: all in a full scope; in a layered one those of ports that are
/// carried as bytes and whose rules differ, and those the base does not have at all.
pub(crate) fn own_slots(own: &Member, base: Option<&Member>, placement: &Placement) -> Vec<(Arc<str>, u16, u16)> {
    let same_service = base.is_some_and(|it| it.service == own.service);
    let same_rules = base.is_some_and(|it| it.rule == own.rule && it.routes == own.routes);
    placement
        .slots
        .iter()
        .filter(|(_, _, port)| {
            let http = own.service.port(*port).is_some_and(|it| it.protocol.is_http());
            !same_service || !(http || same_rules)
        })
        .cloned()
        .collect()
}

/// Hosts of public VirtualServices that no public service has, with the oldest such VirtualService.
pub(crate) fn loose_host(
    reads: &mut Reads,
    (by_host, all, by_pattern): (
        &Groups<Hostname, ObjectKey>,
        &Table<ObjectKey, RouteRules>,
        &Groups<Hostname, ServiceKey>,
    ),
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

/// VirtualServices that have no effect on a host because an older one rules it.
pub(crate) fn shadowed(
    reads: &mut Reads,
    (by_host, all, _): (&Groups<Hostname, ObjectKey>, &Table<ObjectKey, RouteRules>, &Objects<VirtualService>),
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
    [cluster::black_hole(), cluster::passthrough(mesh)]
        .map(|it| Resource::whole(it.name.clone(), &it))
        .into()
}

/// Policy and outbound port as the scope's own listeners need them.
pub(crate) fn virtual_outbound(policy: &OutboundTrafficPolicy, mesh: &MeshConfig) -> Resource {
    let made = translate::listener::virtual_outbound(policy, mesh);
    Resource::whole(made.name.clone(), &made)
}

/// Needed where a port is only known by number.
pub(crate) fn port_of(service: &Service, number: u16) -> Option<&ServicePort> {
    service.port(number)
}
