//! Outbound listeners.

use super::placement::{PortClass, SlotClass, SlotGroups};
use super::see::{OwnKey, SeeTables, client, destinations, merged_rule, see};
use crate::catalog::Mesh;
use crate::key::{CLIENTS, Client, Reach, ScopeKey, SetKey, SlotKey};
use crate::made::{Made, entry};
use crate::scope::{Member, Scope};
use crds::ObjectKey;
use crds::mesh_config::InterceptionMode;
use model::{Destinations, Hostname, RouteRules, Service, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tables::{Reads, Shared, Table};
use translate::forward_proxy::DnsCache;
use translate::listener::{Bind, outbound as listener};
use translate::name::SidecarRoute;
use xds::Layer;

/// The listeners of a scope that stand for no service: what catches everything else, and HTTP proxies.
pub(crate) fn scope_listeners(
    reads: &mut Reads,
    (scopes, services, mesh): (&Table<Arc<ScopeKey>, Scope>, &Table<ServiceKey, Service>, &Mesh),
    key: &Arc<ScopeKey>,
) -> Option<Layer> {
    let mesh = reads.get(mesh, &())?;
    let scope = reads.get(scopes, key)?;
    let resolved = resolved(reads, services, scope);
    let mut listeners = vec![];
    let (mut interception, mut proxy_port) = (InterceptionMode::Redirect, None);
    if let Reach::Full { interception: mode, http_proxy_port, .. } = &key.reach {
        (interception, proxy_port) = (*mode, *http_proxy_port);
    }
    if interception != InterceptionMode::None {
        listeners.push(translate::listener::virtual_outbound(&scope.policy, interception, mesh));
    }
    let http_proxy = |bind: &str, port, route: &SidecarRoute| {
        translate::listener::http_proxy(bind, port, route, mesh, resolved.clone())
    };
    listeners.extend(proxy_port.map(|port| http_proxy("127.0.0.1", port, &SidecarRoute::HttpProxy)));
    for egress in scope.egress.iter().filter(|it| it.is_http_proxy()) {
        if let Some(port) = egress.port {
            let bind = egress.bind.as_deref().unwrap_or("127.0.0.1");
            listeners.push(http_proxy(bind, port, &SidecarRoute::Port(port)));
        }
    }
    Some(listeners.iter().map(entry).collect())
}

/// What an HTTP proxy's requests may ask for that Envoy resolves. Only wildcard hosts are looked at.
fn resolved(reads: &mut Reads, services: &Table<ServiceKey, Service>, scope: &Scope) -> Vec<DnsCache> {
    let wildcards = scope.services.iter().filter(|(host, _)| host.is_wildcard());
    let known = wildcards.filter_map(|(_, key)| DnsCache::of(reads.get(services, key)?));
    known.chain(translate::listener::resolved(&scope.policy)).collect()
}

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
    (key, of): &(SlotKey, Client),
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
    let bind = Bind::parse(&key.bind)?;
    let mut members = vec![];
    for (member, rules, destinations) in &found {
        let Some(port) = member.service.port(key.port) else { continue };
        if !bind_to_port && !listener::is_for(&member.service, port, &bind, of.known) {
            continue;
        }
        let rule = merged_rule(reads, see_tables.3, member.rule.as_ref());
        let rules = rules.map(|it| &**it);
        members.push(listener::Member { service: &member.service, port, rules, destinations, rule });
    }
    let owner = members.first().map(|it| it.service.object.clone())?;
    let slot = listener::Slot {
        bind,
        port: key.port,
        bind_to_port,
        members,
        policy,
        mesh,
        client: &client,
        certificates: of.certificates,
    };
    Some(Made::optional(listener::listener(&slot), &owner))
}

/// Which kinds of clients are connected.
pub(crate) type Listeners = Table<Client, ()>;

/// For whom a listener is made. The plainest is made before anybody is there.
pub(crate) fn slot_clients(reads: &mut Reads, clients: &Listeners, _: &SlotKey) -> Option<Vec<Client>> {
    let there: Vec<Client> = reads.all(clients).map(|(client, _)| *client).collect();
    Some(if there.is_empty() { CLIENTS[..1].to_vec() } else { there })
}

/// All HTTP services of a port make one and the same listener: the first stands for them.
fn slot_members<K: tables::Key>(
    reads: &mut Reads,
    groups: &SlotGroups<K>,
    slot: &SlotKey,
    host: fn(&K) -> &Hostname,
) -> Vec<Hostname> {
    let mut hosts = vec![];
    for (class, most) in [(PortClass::Http, 1), (PortClass::Resolved, usize::MAX), (PortClass::Other, usize::MAX)] {
        let group = reads.get(groups, &SlotClass { slot: slot.clone(), class });
        hosts.extend(group.into_iter().flat_map(|it| it.iter()).take(most).map(|it| host(it).clone()));
    }
    hosts
}
