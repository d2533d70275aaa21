//! What scopes send.

use crate::catalog::Groups;
use crate::key::{Client, ClusterKey, ScopeKey, SetKey, SlotKey, TableKey, VantageKey, VirtualHostKey};
use crate::made::Made;
use crate::outbound::{self, EncodedHost, Entry, HostMap, OwnKey, Placement, SeenKey, SlotGroups};
use crate::scope::{Feed, Member};
use model::{Certificates, ProxyKind, ServiceKey};
use std::sync::Arc;
use tables::{Commit, Dump, Table, keys_from};
use xds::{Layer, Pieces, Resource};

use super::catalog::Catalog;
use super::inputs::Inputs;
use super::scopes::Scopes;
use super::sides::sets;

/// What scopes send.
pub(crate) struct Outbound {
    pub(crate) shared_clusters: Table<(), Layer>,
    by_vantage: Table<(SetKey, ClusterKey, Feed), ()>,
    by_vantage_of_set: Groups<SetKey, (SetKey, ClusterKey, Feed)>,
    vantages: Table<SeenSet, Vec<(ClusterKey, Feed)>>,
    pub(crate) clusters: Table<SeenKey, Made>,
    cluster_entries: Table<(SeenSet, Entry), Option<Arc<Resource>>>,
    pub(crate) cds: Table<(SeenSet, Certificates), Layer>,
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
    slot_clients: Table<SlotKey, Vec<Client>>,
    pub(crate) listeners: Table<(SlotKey, Client), Made>,
    pub(crate) lds: Table<(SetKey, Client), Layer>,
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
            slot_clients: c.table("slot_clients"),
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
            Some(outbound::shared_clusters(reads.get(mesh, &())?))
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
        let all = |it: &Member| {
            let each = |key: &ClusterKey| key.of_clients().map(|key| (key, None));
            outbound::shared_entries(it).flat_map(each).collect::<Vec<_>>()
        };
        let base = keys_from(&s.base, |_, it| all(it));
        let router = keys_from(&s.router_base, |_, it| all(it));
        let own = keys_from(&s.own, |_, it| all(&it.member));
        let seen = keys_from(&self.vantages, |(_, vantage), list| {
            let each = |key: &ClusterKey| key.of_clients().map(|key| (key, vantage.clone()));
            with_feed(list, Feed::ClusterByVantage).flat_map(each).collect::<Vec<_>>()
        });
        let from = (&k.services, &k.rules, &i.mesh, &k.endpoints, (&s.clients, &k.peers));
        c.derive(&mut self.clusters, &[&base, &router, &own, &seen], from, outbound::cluster);

        let of_set = |set: SetKey, it: &Member| {
            let entry = |key: ClusterKey| ((set.clone(), None), Entry::Cluster((key, None)));
            outbound::shared_entries(it).flat_map(|key| key.of_clients().map(entry)).collect::<Vec<_>>()
        };
        let base = keys_from(&s.base, |_, it| of_set(SetKey::Base, it));
        let router = keys_from(&s.router_base, |_, it| of_set(SetKey::RouterBase, it));
        let own = keys_from(&s.own, |(scope, _), it| {
            let entries = outbound::differing_clusters(&it.member, it.base.as_deref());
            entries.into_iter().map(|entry| ((SetKey::Own(scope.clone()), None), entry)).collect::<Vec<_>>()
        });
        let seen = keys_from(&self.vantages, |set, list| {
            let entry = |key: ClusterKey| (set.clone(), Entry::Cluster((key, set.1.clone())));
            with_feed(list, Feed::ClusterByVantage).flat_map(|key| key.of_clients().map(entry)).collect::<Vec<_>>()
        });
        let from = &self.clusters;
        c.derive(&mut self.cluster_entries, &[&base, &router, &own, &seen], from, |reads, clusters, (_, entry)| {
            match entry {
                Entry::Mask(..) => Some(None),
                Entry::Cluster(key) => Some(Some(reads.get(clusters, key)?.resource.clone()?)),
            }
        });
        c.collect(&mut self.cds, &self.cluster_entries, |(set, entry), resource| {
            let name = match entry {
                Entry::Mask(name, _) => name.clone(),
                Entry::Cluster(_) => resource.as_ref()?.name.clone(),
            };
            Some(((set.clone(), entry.certificates()), name, (**resource).clone()))
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
        c.derive(&mut self.slot_clients, &[&base, &own], &s.listeners_for, outbound::slot_clients);
        let keys = keys_from(&self.slot_clients, |slot, clients| {
            clients.iter().map(|of| (slot.clone(), *of)).collect::<Vec<_>>()
        });
        let see = (&k.hosts, &s.base, (&s.own_by_host, &s.own), &k.rules);
        let from = (see, (&self.slots, &self.own_slots), &k.routes, &s.scopes, &i.mesh);
        c.derive(&mut self.listeners, &[&keys], from, outbound::outbound_listener);
        c.collect(&mut self.lds, &self.listeners, |(key, of), made| {
            let resource = made.resource.clone()?;
            Some(((key.set.clone(), *of), resource.name.clone(), Some(resource)))
        });
        let scopes = keys_from(&s.scopes, |key, _| (key.kind == ProxyKind::Sidecar).then(|| key.clone()));
        c.derive(&mut self.scope_listeners, &[&scopes], (&s.scopes, &k.services, &i.mesh), outbound::scope_listeners);
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
            &self.slot_clients,
            &self.listeners,
            &self.lds,
            &self.scope_listeners,
        ]
    }
}
