//! The tables by stage, and each stage's part of a commit: target ← keys, tables read, function.

use crate::catalog::{self, Groups, Mesh, Objects, Rules};
use crate::gateway::{self, GatewayListener, GatewaySlot, Merged};
use crate::inbound::{self, Inbound};
use crate::input::Sorted;
use crate::key::{
    ClusterKey, GatewayKey, InboundKey, Reach, RuleKey, ScopeKey, SetKey, SlotKey, TableKey, VantageKey, VirtualHostKey,
};
use crate::made::Made;
use crate::outbound::{self, EncodedHost, Entry, HostMap, OwnKey, Placement, SeenKey, SlotGroups};
use crate::scope::{self, Class, Feed, Member, Scope, Viewer};
use crds::mesh_config::MeshConfig;
use crds::{ObjectKey, Problem, kube, networking as n};
use model::endpoint::PodFacts;
use model::{Endpoints, Hostname, Locality, Proxy, ProxyKind, RouteRules, Service, ServiceKey, Visibility};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tables::{Commit, Dump, Reads, Shared, Table, keys_from};
use xds::{ConnectionId, Layer, Pieces, Resource};

pub(crate) struct Inputs {
    pub(crate) mesh: Mesh,
    pub(crate) destination_rules: Objects<n::DestinationRule>,
    pub(crate) gateways: Objects<n::Gateway>,
    pub(crate) nodes: Objects<()>,
    pub(crate) pods: Objects<kube::Pod>,
    pub(crate) service_entries: Objects<n::ServiceEntry>,
    pub(crate) services: Objects<kube::Service>,
    pub(crate) sidecars: Objects<n::Sidecar>,
    pub(crate) slices: Objects<kube::EndpointSlice>,
    pub(crate) virtual_services: Objects<n::VirtualService>,
    pub(crate) workload_entries: Objects<n::WorkloadEntry>,
    pub(crate) proxies: Table<ConnectionId, Proxy>,
}

impl Inputs {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            mesh: c.table("mesh"),
            destination_rules: c.table("destination_rules"),
            gateways: c.table("gateways"),
            nodes: c.table("nodes"),
            pods: c.table("pods"),
            service_entries: c.table("service_entries"),
            services: c.table("kube_services"),
            sidecars: c.table("sidecars"),
            slices: c.table("endpoint_slices"),
            virtual_services: c.table("virtual_services"),
            workload_entries: c.table("workload_entries"),
            proxies: c.table("proxies"),
        }
    }

    pub(crate) fn commit(
        &mut self,
        c: &mut Commit,
        sorted: &mut Sorted,
        proxies: Vec<(ConnectionId, Option<Proxy>)>,
        mesh: &MeshConfig,
    ) {
        use std::mem::take;
        let same = self.mesh.peek(&()).is_some_and(|it| **it == *mesh);
        c.input(&mut self.mesh, if same { vec![] } else { vec![((), Some(mesh.clone()))] });
        c.input(&mut self.destination_rules, take(&mut sorted.destination_rules));
        c.input(&mut self.gateways, take(&mut sorted.gateways));
        c.input(&mut self.nodes, take(&mut sorted.nodes));
        c.input(&mut self.pods, take(&mut sorted.pods));
        c.input(&mut self.service_entries, take(&mut sorted.service_entries));
        c.input(&mut self.services, take(&mut sorted.services));
        c.input(&mut self.sidecars, take(&mut sorted.sidecars));
        c.input(&mut self.slices, take(&mut sorted.slices));
        c.input(&mut self.virtual_services, take(&mut sorted.virtual_services));
        c.input(&mut self.workload_entries, take(&mut sorted.workload_entries));
        c.input(&mut self.proxies, proxies);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![
            &self.mesh,
            &self.destination_rules,
            &self.gateways,
            &self.nodes,
            &self.pods,
            &self.service_entries,
            &self.services,
            &self.sidecars,
            &self.slices,
            &self.virtual_services,
            &self.workload_entries,
            &self.proxies,
        ]
    }
}

/// What exists, whoever looks at it.
pub(crate) struct Catalog {
    entries_by_service: Groups<ServiceKey, ObjectKey>,
    aliases_by_target: Groups<Hostname, ObjectKey>,
    slices_by_service: Groups<ObjectKey, ObjectKey>,
    workloads_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) sidecars_by_namespace: Groups<Arc<str>, ObjectKey>,
    localities: Table<ObjectKey, Arc<Locality>>,
    pods: Table<ObjectKey, PodFacts>,
    pods_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) services: Table<ServiceKey, Service>,
    pub(crate) services_by_namespace: Groups<Arc<str>, ServiceKey>,
    pub(crate) services_by_pattern: Groups<Hostname, ServiceKey>,
    pub(crate) services_by_audience: Groups<Arc<str>, ServiceKey>,
    pub(crate) services_by_ip: Groups<IpAddr, ServiceKey>,
    /// The public service of a host.
    pub(crate) hosts: Table<Hostname, ServiceKey>,
    pub(crate) endpoints: Table<ServiceKey, Endpoints>,
    rules_by_host: Groups<RuleKey, ObjectKey>,
    pub(crate) rules: Table<RuleKey, Rules>,
    pub(crate) rules_by_namespace: Groups<Arc<str>, RuleKey>,
    pub(crate) rules_by_audience: Groups<Arc<str>, RuleKey>,
    pub(crate) routes: Table<ObjectKey, RouteRules>,
    pub(crate) routes_by_host: Groups<Hostname, ObjectKey>,
    pub(crate) routes_by_gateway: Groups<String, ObjectKey>,
    pub(crate) routes_by_audience: Groups<Arc<str>, ObjectKey>,
    pub(crate) routes_of_mesh: Groups<(), ObjectKey>,
    pub(crate) routes_by_source: Groups<(), ObjectKey>,
    pub(crate) shadowed: Table<Hostname, Vec<Problem>>,
    pub(crate) unbound: Table<String, Vec<Problem>>,
    /// Hosts of VirtualServices that no service has.
    pub(crate) loose: Table<Hostname, ObjectKey>,
}

impl Catalog {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            entries_by_service: c.table("entries_by_service"),
            aliases_by_target: c.table("aliases_by_target"),
            slices_by_service: c.table("slices_by_service"),
            workloads_by_namespace: c.table("workloads_by_namespace"),
            sidecars_by_namespace: c.table("sidecars_by_namespace"),
            localities: c.table("localities"),
            pods: c.table("pod_facts"),
            pods_by_namespace: c.table("pods_by_namespace"),
            services: c.table("services"),
            services_by_namespace: c.table("services_by_namespace"),
            services_by_pattern: c.table("services_by_pattern"),
            services_by_audience: c.table("services_by_audience"),
            services_by_ip: c.table("services_by_ip"),
            hosts: c.table("hosts"),
            endpoints: c.table("endpoints"),
            rules_by_host: c.table("rules_by_host"),
            rules: c.table("rules"),
            rules_by_namespace: c.table("rules_by_namespace"),
            rules_by_audience: c.table("rules_by_audience"),
            routes: c.table("routes"),
            routes_by_host: c.table("routes_by_host"),
            routes_by_gateway: c.table("routes_by_gateway"),
            routes_by_audience: c.table("routes_by_audience"),
            routes_of_mesh: c.table("routes_of_mesh"),
            routes_by_source: c.table("routes_by_source"),
            shadowed: c.table("shadowed"),
            unbound: c.table("unbound"),
            loose: c.table("loose_hosts"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs) {
        self.commit_services(c, i);
        self.commit_rules(c, i);
    }

    fn commit_services(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.entries_by_service, &i.service_entries, catalog::services_of_entry);
        c.group(&mut self.aliases_by_target, &i.services, catalog::alias_target);
        c.group(&mut self.slices_by_service, &i.slices, catalog::service_of_slice);
        c.group(&mut self.workloads_by_namespace, &i.workload_entries, |key, _| vec![key.namespace.clone()]);
        c.group(&mut self.sidecars_by_namespace, &i.sidecars, |key, _| vec![key.namespace.clone()]);
        let nodes = keys_from(&i.nodes, |key, _| [key.clone()]);
        c.derive(&mut self.localities, &[&nodes], &i.nodes, |reads, nodes, key| {
            Some(Arc::new(model::endpoint::node_locality(&reads.get(nodes, key)?.meta)))
        });
        let pods = keys_from(&i.pods, |key, _| [key.clone()]);
        c.derive(&mut self.pods, &[&pods], (&i.pods, &self.localities), catalog::pod_facts);
        c.group(&mut self.pods_by_namespace, &self.pods, |key, _| vec![key.namespace.clone()]);

        let kube = keys_from(&i.services, |key, _| [catalog::service_of_kube(key)]);
        let entries = keys_from(&i.service_entries, catalog::services_of_entry);
        let from = (&i.services, &self.entries_by_service, &i.service_entries, &self.aliases_by_target, &i.mesh);
        c.derive(&mut self.services, &[&kube, &entries], from, catalog::service);
        c.group(&mut self.services_by_namespace, &self.services, |key, _| vec![key.namespace.clone()]);
        c.group(&mut self.services_by_pattern, &self.services, |key, _| key.host.patterns().collect());
        c.group(&mut self.services_by_audience, &self.services, |_, it| audience(&it.visibility));
        c.group(&mut self.services_by_ip, &self.services, |_, it| it.addresses.iter().map(|net| net.addr()).collect());
        let hosts = keys_from(&self.services, |key, _| [key.host.clone()]);
        c.derive(&mut self.hosts, &[&hosts], (&self.services_by_pattern, &self.services), catalog::public_service);

        let services = keys_from(&self.services, |key, _| [key.clone()]);
        let from = (
            &self.services,
            (&self.slices_by_service, &i.slices),
            (&self.entries_by_service, &i.service_entries),
            (&self.workloads_by_namespace, &i.workload_entries),
            (&self.pods_by_namespace, &self.pods),
        );
        c.derive(&mut self.endpoints, &[&services], from, catalog::endpoints);
    }

    fn commit_rules(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.rules_by_host, &i.destination_rules, catalog::rule_of);
        let rules = keys_from(&self.rules_by_host, |key, _| [key.clone()]);
        c.derive(&mut self.rules, &[&rules], (&self.rules_by_host, &i.destination_rules, &i.mesh), catalog::rules);
        c.group(&mut self.rules_by_namespace, &self.rules, |key, _| vec![key.namespace.clone()]);
        c.group(&mut self.rules_by_audience, &self.rules, |_, it| {
            it.merged.iter().flat_map(|rule| audience(&rule.visibility)).collect::<BTreeSet<_>>().into_iter().collect()
        });

        let routes = keys_from(&i.virtual_services, |key, _| [key.clone()]);
        c.derive(&mut self.routes, &[&routes], (&i.virtual_services, &i.mesh), catalog::route_rules);
        let mesh = |it: &RouteRules| it.binds(model::virtual_service::MESH);
        c.group(&mut self.routes_by_host, &self.routes, |_, it| if mesh(it) { it.hosts.clone() } else { vec![] });
        c.group(&mut self.routes_by_gateway, &self.routes, |_, it| it.gateways.clone());
        c.group(
            &mut self.routes_by_audience,
            &self.routes,
            |_, it| {
                if mesh(it) { audience(&it.visibility) } else { vec![] }
            },
        );
        c.group(&mut self.routes_of_mesh, &self.routes, |_, it| if mesh(it) { vec![()] } else { vec![] });
        c.group(&mut self.routes_by_source, &self.routes, |_, it| {
            if mesh(it) && it.asks_for_source() { vec![()] } else { vec![] }
        });
        let hosts = keys_from(&self.routes_by_host, |host, _| [host.clone()]);
        c.derive(&mut self.shadowed, &[&hosts], (&self.routes_by_host, &self.routes), outbound::shadowed);
        let gateways = keys_from(&self.routes_by_gateway, |name, _| [name.clone()]);
        c.derive(&mut self.unbound, &[&gateways], (&self.routes_by_gateway, &i.gateways), outbound::unbound);
        let from = (&self.routes_by_host, &self.routes, &self.services_by_pattern);
        c.derive(&mut self.loose, &[&hosts], from, outbound::loose_host);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![
            &self.entries_by_service,
            &self.aliases_by_target,
            &self.slices_by_service,
            &self.workloads_by_namespace,
            &self.sidecars_by_namespace,
            &self.localities,
            &self.pods,
            &self.pods_by_namespace,
            &self.services,
            &self.services_by_namespace,
            &self.services_by_pattern,
            &self.services_by_audience,
            &self.services_by_ip,
            &self.hosts,
            &self.endpoints,
            &self.rules_by_host,
            &self.rules,
            &self.rules_by_namespace,
            &self.rules_by_audience,
            &self.routes,
            &self.routes_by_host,
            &self.routes_by_gateway,
            &self.routes_by_audience,
            &self.routes_of_mesh,
            &self.routes_by_source,
            &self.shadowed,
            &self.unbound,
            &self.loose,
        ]
    }
}

/// The namespaces that a private object is for.
fn audience(visibility: &Visibility) -> Vec<Arc<str>> {
    match visibility {
        Visibility::Public => vec![],
        Visibility::Only(names) => names.iter().cloned().collect(),
    }
}

/// Who sees what.
pub(crate) struct Scopes {
    pub(crate) classes: Table<ConnectionId, Class>,
    pub(crate) scopes: Table<Arc<ScopeKey>, Scope>,
    /// Public services as any namespace sees them, and headless ones as gateways do.
    pub(crate) base: Table<ServiceKey, Member>,
    pub(crate) router_base: Table<ServiceKey, Member>,
    pub(crate) own: Table<OwnKey, OwnMember>,
    pub(crate) own_by_host: Groups<(Arc<ScopeKey>, Hostname), OwnKey>,
}

/// A member of a scope's own, beside what the base has for the host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OwnMember {
    pub(crate) member: Member,
    pub(crate) base: Option<Shared<Member>>,
}

type OwnTables<'t> = (
    scope::MemberTables<'t>,
    &'t Table<Arc<ScopeKey>, Scope>,
    (&'t Table<Hostname, ServiceKey>, &'t Table<ServiceKey, Member>, &'t Table<ServiceKey, Member>),
);

fn own_member(
    reads: &mut Reads,
    (members, scopes, (hosts, base, router_base)): OwnTables<'_>,
    (scope, service): &OwnKey,
) -> Option<OwnMember> {
    let egress = match scope.reach {
        Reach::Layered => None,
        Reach::Full { .. } => Some(reads.get(scopes, scope)?.clone()),
    };
    let egress = egress.as_ref().map(|it| it.egress.as_slice()).unwrap_or_default();
    let viewer = Viewer { namespace: Some(&scope.namespace), kind: scope.kind, egress };
    let member = scope::member(reads, members, service, viewer)?;
    let base = match scope.reach {
        Reach::Full { .. } => None,
        Reach::Layered => reads.get(hosts, &service.host).and_then(|key| {
            let router = (scope.kind == ProxyKind::Router).then(|| reads.get(router_base, key)).flatten();
            router.or_else(|| reads.get(base, key)).cloned()
        }),
    };
    Some(OwnMember { member, base })
}

impl Scopes {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            classes: c.table("classes"),
            scopes: c.table("scopes"),
            base: c.table("base_members"),
            router_base: c.table("router_base_members"),
            own: c.table("own_members"),
            own_by_host: c.table("own_members_by_host"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog) {
        let proxies = keys_from(&i.proxies, |id, _| [*id]);
        let from = (
            &i.proxies,
            &i.mesh,
            (&k.sidecars_by_namespace, &i.sidecars),
            &k.routes_by_source,
            (&k.services_by_namespace, &k.services),
            (&i.services, &i.pods),
        );
        c.derive(&mut self.classes, &[&proxies], from, scope::class);
        let scopes = keys_from(&self.classes, |_, class| [class.scope.clone()]);
        let from = (
            (&k.services, &k.hosts),
            (&k.services_by_namespace, &k.services_by_pattern, &k.services_by_audience),
            (&k.rules_by_namespace, &k.rules_by_audience),
            (&k.routes, &k.routes_of_mesh, &k.routes_by_audience, &k.routes_by_source),
            (&i.mesh, &i.sidecars),
        );
        c.derive(&mut self.scopes, &[&scopes], from, scope::scope);

        let members = (&k.services, &k.rules, (&k.routes_by_host, &k.routes), &i.mesh);
        let public = keys_from(&k.hosts, |_, service| [service.clone()]);
        c.derive(&mut self.base, &[&public], members, |reads, from, key| {
            scope::member(reads, from, key, Viewer { namespace: None, kind: ProxyKind::Sidecar, egress: &[] })
        });
        let differing = keys_from(&self.base, |key, it| it.depends_on_kind().then(|| key.clone()));
        c.derive(&mut self.router_base, &[&differing], members, |reads, from, key| {
            scope::member(reads, from, key, Viewer { namespace: None, kind: ProxyKind::Router, egress: &[] })
        });
        let own = keys_from(&self.scopes, |scope, it| {
            it.services.values().map(|service| (scope.clone(), service.clone())).collect::<Vec<_>>()
        });
        let from = (members, &self.scopes, (&k.hosts, &self.base, &self.router_base));
        c.derive(&mut self.own, &[&own], from, own_member);
        c.group(&mut self.own_by_host, &self.own, |(scope, service), _| vec![(scope.clone(), service.host.clone())]);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![&self.classes, &self.scopes, &self.base, &self.router_base, &self.own, &self.own_by_host]
    }
}

/// What scopes send.
pub(crate) struct Outbound {
    pub(crate) shared_clusters: Table<(), Layer>,
    by_vantage: Table<(SetKey, ClusterKey, Feed), ()>,
    by_vantage_of_set: Groups<SetKey, (SetKey, ClusterKey, Feed)>,
    vantages: Table<SeenSet, Vec<(ClusterKey, Feed)>>,
    pub(crate) clusters: Table<SeenKey, Made>,
    cluster_entries: Table<(SeenSet, Entry), Option<Arc<Resource>>>,
    pub(crate) cds: Table<SeenSet, Layer>,
    assignments: Table<SeenKey, Arc<Resource>>,
    assignment_entries: Table<(SeenSet, SeenKey), Arc<Resource>>,
    pub(crate) eds: Table<SeenSet, Layer>,
    placements: Table<ServiceKey, Placement>,
    own_placements: Table<OwnKey, Placement>,
    pub(crate) virtual_hosts: Table<VirtualHostKey, EncodedHost>,
    host_maps: Table<TableKey, HostMap>,
    base_pieces: Table<Arc<str>, Pieces>,
    route_tables: Table<TableKey, Arc<Resource>>,
    pub(crate) rds: Table<SetKey, Layer>,
    slots: SlotGroups<ServiceKey>,
    own_slots: SlotGroups<OwnKey>,
    pub(crate) listeners: Table<SlotKey, Made>,
    pub(crate) lds: Table<SetKey, Layer>,
    pub(crate) scope_listeners: Table<Arc<ScopeKey>, Layer>,
}

/// A set's resources: those equal for all proxies, or those as seen from one vantage.
pub(crate) type SeenSet = (SetKey, Option<Arc<VantageKey>>);

fn with_feed(list: &[(ClusterKey, Feed)], feed: Feed) -> impl Iterator<Item = &ClusterKey> {
    list.iter().filter(move |(_, it)| *it == feed).map(|(key, _)| key)
}

impl Outbound {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            shared_clusters: c.table("shared_clusters"),
            by_vantage: c.table("clusters_by_vantage"),
            by_vantage_of_set: c.table("clusters_by_vantage_of_set"),
            vantages: c.table("vantages"),
            clusters: c.table("clusters"),
            cluster_entries: c.table("cluster_entries"),
            cds: c.table("cds"),
            assignments: c.table("load_assignments"),
            assignment_entries: c.table("load_assignment_entries"),
            eds: c.table("eds"),
            placements: c.table("placements"),
            own_placements: c.table("own_placements"),
            virtual_hosts: c.table("virtual_hosts"),
            host_maps: c.table("virtual_hosts_by_table"),
            base_pieces: c.table("base_route_tables"),
            route_tables: c.table("route_tables"),
            rds: c.table("rds"),
            slots: c.table("slots"),
            own_slots: c.table("own_slots"),
            listeners: c.table("listeners"),
            lds: c.table("lds"),
            scope_listeners: c.table("scope_listeners"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        self.commit_vantages(c, i, s);
        self.commit_clusters(c, i, k, s);
        self.commit_assignments(c, i, k, s);
        self.commit_placements(c, i, k, s);
        self.commit_routes(c, i, k, s);
        self.commit_listeners(c, i, k, s);
    }

    /// What differs by where a proxy stands, for each set and each place where a proxy stands that sees the set.
    fn commit_vantages(&mut self, c: &mut Commit, i: &Inputs, s: &Scopes) {
        let mesh = keys_from(&i.mesh, |_, _| [()]);
        c.derive(&mut self.shared_clusters, &[&mesh], &i.mesh, |reads, mesh, _| {
            let mesh = reads.get(mesh, &())?;
            let named = |it: Resource| (it.name.clone(), Some(Arc::new(it)));
            Some(outbound::shared_clusters(mesh).into_iter().map(named).collect())
        });
        let of = |set: &SetKey, it: &Member| {
            let differing = it.clusters.iter().filter(|it| matches!(it.feed, Feed::Vantage | Feed::ClusterByVantage));
            differing.map(|it| (set.clone(), it.key.clone(), it.feed)).collect::<Vec<_>>()
        };
        let base = keys_from(&s.base, |_, it| of(&SetKey::Base, it));
        let router = keys_from(&s.router_base, |_, it| of(&SetKey::RouterBase, it));
        let own = keys_from(&s.own, |(scope, _), it| of(&SetKey::Own(scope.clone()), &it.member));
        c.derive(&mut self.by_vantage, &[&base, &router, &own], (), |_, (), _| Some(()));
        c.group(&mut self.by_vantage_of_set, &self.by_vantage, |(set, ..), ()| vec![set.clone()]);
        let vantages = keys_from(&s.classes, |_, class| {
            sets(class).map(|set| (set, Some(class.vantage.clone()))).collect::<Vec<_>>()
        });
        c.derive(&mut self.vantages, &[&vantages], &self.by_vantage_of_set, |reads, groups, (set, _)| {
            Some(reads.get(groups, set)?.iter().map(|(_, key, feed)| (key.clone(), *feed)).collect())
        });
    }

    fn commit_clusters(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        let all = |it: &Member| outbound::shared_entries(it).map(|key| (key.clone(), None)).collect::<Vec<_>>();
        let base = keys_from(&s.base, |_, it| all(it));
        let router = keys_from(&s.router_base, |_, it| all(it));
        let own = keys_from(&s.own, |_, it| all(&it.member));
        let seen = keys_from(&self.vantages, |(_, vantage), list| {
            with_feed(list, Feed::ClusterByVantage).map(|key| (key.clone(), vantage.clone())).collect::<Vec<_>>()
        });
        let from = (&k.services, &k.rules, &i.mesh, &k.endpoints);
        c.derive(&mut self.clusters, &[&base, &router, &own, &seen], from, outbound::cluster);

        let of_set = |set: SetKey, it: &Member| {
            let entry = |key: &ClusterKey| ((set.clone(), None), Entry::Cluster((key.clone(), None)));
            outbound::shared_entries(it).map(entry).collect::<Vec<_>>()
        };
        let base = keys_from(&s.base, |_, it| of_set(SetKey::Base, it));
        let router = keys_from(&s.router_base, |_, it| of_set(SetKey::RouterBase, it));
        let own = keys_from(&s.own, |(scope, _), it| {
            let entries = outbound::differing_clusters(&it.member, it.base.as_deref());
            entries.into_iter().map(|entry| ((SetKey::Own(scope.clone()), None), entry)).collect::<Vec<_>>()
        });
        let seen = keys_from(&self.vantages, |set, list| {
            let entry = |key: &ClusterKey| (set.clone(), Entry::Cluster((key.clone(), set.1.clone())));
            with_feed(list, Feed::ClusterByVantage).map(entry).collect::<Vec<_>>()
        });
        let from = &self.clusters;
        c.derive(&mut self.cluster_entries, &[&base, &router, &own, &seen], from, |reads, clusters, (_, entry)| {
            match entry {
                Entry::Mask(_) => Some(None),
                Entry::Cluster(key) => Some(Some(reads.get(clusters, key)?.resource.clone()?)),
            }
        });
        c.collect(&mut self.cds, &self.cluster_entries, |(set, entry), resource| {
            let name = match entry {
                Entry::Mask(name) => name.clone(),
                Entry::Cluster(_) => resource.as_ref()?.name.clone(),
            };
            Some((set.clone(), name, (**resource).clone()))
        });
    }

    fn commit_assignments(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        let shared = |it: &Member| outbound::fed(it, Feed::Shared).map(|key| (key.clone(), None)).collect::<Vec<_>>();
        let base = keys_from(&s.base, |_, it| shared(it));
        let router = keys_from(&s.router_base, |_, it| shared(it));
        let own = keys_from(&s.own, |_, it| shared(&it.member));
        let seen = keys_from(&self.vantages, |(_, vantage), list| {
            with_feed(list, Feed::Vantage).map(|key| (key.clone(), vantage.clone())).collect::<Vec<_>>()
        });
        let from = (&k.services, &k.rules, &i.mesh, &k.endpoints);
        c.derive(&mut self.assignments, &[&base, &router, &own, &seen], from, outbound::assignment);

        let entry = |set: SetKey, key: &ClusterKey| ((set, None), (key.clone(), None));
        let base = keys_from(&s.base, |_, it| {
            outbound::fed(it, Feed::Shared).map(|key| entry(SetKey::Base, key)).collect::<Vec<_>>()
        });
        let router = keys_from(&s.router_base, |_, it| {
            outbound::fed(it, Feed::Shared).map(|key| entry(SetKey::RouterBase, key)).collect::<Vec<_>>()
        });
        let own = keys_from(&s.own, |(scope, _), it| {
            let differs = |key: &&ClusterKey| {
                !it.base.as_ref().is_some_and(|base| outbound::fed(base, Feed::Shared).any(|other| other == *key))
            };
            let fed = outbound::fed(&it.member, Feed::Shared).filter(differs);
            fed.map(|key| entry(SetKey::Own(scope.clone()), key)).collect::<Vec<_>>()
        });
        let seen = keys_from(&self.vantages, |set, list| {
            let entry = |key: &ClusterKey| (set.clone(), (key.clone(), set.1.clone()));
            with_feed(list, Feed::Vantage).map(entry).collect::<Vec<_>>()
        });
        c.derive(
            &mut self.assignment_entries,
            &[&base, &router, &own, &seen],
            &self.assignments,
            |reads, from, (_, key)| Some((**reads.get(from, key)?).clone()),
        );
        c.collect(&mut self.eds, &self.assignment_entries, |(set, _), resource| {
            Some((set.clone(), resource.name.clone(), Some((**resource).clone())))
        });
    }

    fn commit_placements(&mut self, c: &mut Commit, _: &Inputs, k: &Catalog, s: &Scopes) {
        let base = keys_from(&s.base, |key, _| [key.clone()]);
        c.derive(&mut self.placements, &[&base], (&s.base, &k.endpoints), |reads, (base, endpoints), key| {
            let member = reads.get(base, key)?.clone();
            let ips = outbound::headless_ips(reads, endpoints, &member.service);
            Some(outbound::placement(&member.service, &ips))
        });
        let own = keys_from(&s.own, |key, _| (key.0.kind == ProxyKind::Sidecar).then(|| key.clone()));
        let from = (&s.own, &s.scopes, &k.endpoints, &self.placements);
        c.derive(&mut self.own_placements, &[&own], from, outbound::own_placement);
    }

    fn commit_routes(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        let loose = keys_from(&k.loose, |host, rules| [outbound::loose_key(SetKey::Base, "80", host, rules)]);
        let base = keys_from(&self.placements, |key, it| it.virtual_hosts(&SetKey::Base, key));
        let own =
            keys_from(&self.own_placements, |(scope, key), it| it.virtual_hosts(&SetKey::Own(scope.clone()), key));
        let own_loose = keys_from(&s.scopes, |key, scope| {
            let set = SetKey::Own(key.clone());
            let tables = outbound::loose_tables(key, scope);
            let each = |rds: &Arc<str>| {
                let hosts = scope.loose.iter().map(|(host, rules)| outbound::loose_key(set.clone(), rds, host, rules));
                hosts.collect::<Vec<_>>()
            };
            tables.iter().flat_map(each).collect::<Vec<_>>()
        });
        let see = (&k.hosts, &s.base, (&s.own_by_host, &s.own), &k.rules);
        let from = (see, &k.routes, (&k.services_by_pattern, &k.services_by_ip), &i.mesh);
        c.derive(&mut self.virtual_hosts, &[&loose, &base, &own, &own_loose], from, outbound::virtual_host);
        c.collect(&mut self.host_maps, &self.virtual_hosts, |key, host| {
            Some((key.table.clone(), host.name.clone(), host.piece.clone()))
        });
        let base = keys_from(&self.host_maps, |key, _| (key.set == SetKey::Base).then(|| key.rds.clone()));
        c.derive(&mut self.base_pieces, &[&base], &self.host_maps, outbound::base_pieces);
        let tables = keys_from(&self.host_maps, |key, _| [key.clone()]);
        let named = keys_from(&s.scopes, |key, scope| {
            let table = |rds| TableKey { set: SetKey::Own(key.clone()), rds };
            outbound::proxy_tables(key, scope).into_iter().map(table).collect::<Vec<_>>()
        });
        let from = (&self.base_pieces, &self.host_maps, &s.scopes, &i.mesh);
        c.derive(&mut self.route_tables, &[&tables, &named], from, outbound::route_table);
        c.collect(&mut self.rds, &self.route_tables, |key, resource| {
            Some((key.set.clone(), key.rds.clone(), Some((**resource).clone())))
        });
    }

    fn commit_listeners(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        c.group(&mut self.slots, &self.placements, |_, it| it.slots(&SetKey::Base));
        c.group(&mut self.own_slots, &self.own_placements, |(scope, _), it| it.slots(&SetKey::Own(scope.clone())));
        let base = keys_from(&self.slots, |key, _| [key.slot.clone()]);
        let own = keys_from(&self.own_slots, |key, _| [key.slot.clone()]);
        let see = (&k.hosts, &s.base, (&s.own_by_host, &s.own), &k.rules);
        let from = (see, (&self.slots, &self.own_slots), &k.routes, &s.scopes, &i.mesh);
        c.derive(&mut self.listeners, &[&base, &own], from, outbound::outbound_listener);
        c.collect(&mut self.lds, &self.listeners, |key, made| {
            let resource = made.resource.clone()?;
            Some((key.set.clone(), resource.name.clone(), Some(resource)))
        });
        let scopes = keys_from(&s.scopes, |key, _| (key.kind == ProxyKind::Sidecar).then(|| key.clone()));
        c.derive(&mut self.scope_listeners, &[&scopes], (&s.scopes, &i.mesh), outbound::scope_listeners);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![
            &self.shared_clusters,
            &self.by_vantage,
            &self.by_vantage_of_set,
            &self.vantages,
            &self.clusters,
            &self.cluster_entries,
            &self.cds,
            &self.assignments,
            &self.assignment_entries,
            &self.eds,
            &self.placements,
            &self.own_placements,
            &self.virtual_hosts,
            &self.host_maps,
            &self.base_pieces,
            &self.route_tables,
            &self.rds,
            &self.slots,
            &self.own_slots,
            &self.listeners,
            &self.lds,
            &self.scope_listeners,
        ]
    }
}

/// The sets that a proxy's resources come from, top first.
pub(crate) fn sets(class: &Class) -> impl Iterator<Item = SetKey> + use<> {
    let layered = class.scope.reach == Reach::Layered;
    let router = layered && class.scope.kind == ProxyKind::Router;
    let own = SetKey::Own(class.scope.clone());
    [Some(own), router.then_some(SetKey::RouterBase), layered.then_some(SetKey::Base)].into_iter().flatten()
}

/// What belongs to single workloads and gateways, and the view of each proxy.
pub(crate) struct Sides {
    pub(crate) inbound: Table<Arc<InboundKey>, Inbound>,
    pub(crate) gateways: Table<Arc<GatewayKey>, Merged>,
    pub(crate) gateway_listeners: Table<GatewaySlot, GatewayListener>,
    pub(crate) gateway_layers: Table<Arc<GatewayKey>, (Layer, Layer)>,
    pub(crate) views: Table<ConnectionId, Arc<xds::View>>,
}

impl Sides {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            inbound: c.table("inbound"),
            gateways: c.table("merged_gateways"),
            gateway_listeners: c.table("gateway_listeners"),
            gateway_layers: c.table("gateway_layers"),
            views: c.table("views"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        let inbound = keys_from(&s.classes, |_, class| class.inbound.clone());
        c.derive(&mut self.inbound, &[&inbound], (&k.services, &i.sidecars, &i.mesh), inbound::inbound);
        let gateways = keys_from(&s.classes, |_, class| class.gateway.clone());
        c.derive(&mut self.gateways, &[&gateways], &i.gateways, gateway::merged);
        let slots = keys_from(&self.gateways, |key, it| {
            it.gateway.listeners.keys().map(|address| (key.clone(), address.clone())).collect::<Vec<_>>()
        });
        let see = (&k.hosts, &s.base, (&s.own_by_host, &s.own), &k.rules);
        let from = (&self.gateways, (&k.routes_by_gateway, &k.routes), see, &i.mesh);
        c.derive(&mut self.gateway_listeners, &[&slots], from, gateway::gateway_listener);
        let keys = keys_from(&self.gateways, |key, _| [key.clone()]);
        c.derive(&mut self.gateway_layers, &[&keys], (&self.gateways, &self.gateway_listeners), gateway::layers);
        let classes = keys_from(&s.classes, |id, _| [*id]);
        c.derive(&mut self.views, &[&classes], &s.classes, |reads, classes, id| {
            Some(Arc::new(crate::publish::view(reads.get(classes, id)?)))
        });
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![&self.inbound, &self.gateways, &self.gateway_listeners, &self.gateway_layers, &self.views]
    }
}
