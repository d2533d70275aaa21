//! Where the ports of a service are found: in which route tables, at which listener addresses.

use super::see::{EndpointTable, OwnKey};
use crate::catalog::Groups;
use crate::key::{Reach, ScopeKey, SetKey, SlotKey, Subject, TableKey, VirtualHostKey};
use crate::scope::{Egress, Scope};
use crate::stage::OwnMember;
use crds::ObjectKey;
use crds::mesh_config::InterceptionMode;
use model::{Address, Hostname, LowPorts, Protocol, Service, ServiceKey, ServicePort};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tables::{Reads, Table};
use translate::forward_proxy::DnsCache;
use translate::listener::outbound as listener;
use translate::name;

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
        let class = match (port.protocol.is_http(), DnsCache::of(service)) {
            (true, None) => PortClass::Http,
            (true, Some(_)) => PortClass::Resolved,
            (false, _) => PortClass::Other,
        };
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
    // The listener without a port leaves out the ports of others at its own address, and no more.
    let explicit: BTreeSet<(Option<&str>, u16)> = scope
        .egress
        .iter()
        .filter(|it| !it.is_http_proxy())
        .filter_map(|it| Some((it.bind.as_deref(), it.port?)))
        .collect();
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
            None => !explicit.contains(&(it.bind.as_deref(), port.number)) && (pulled || imports(it)),
        };
        let denied = matches!(key.reach, Reach::Full { low_ports: LowPorts::Skipped, .. }) && port.number < 1024;
        for egress in scope.egress.iter().filter(takes).filter(|it| it.bind.is_none() || !denied) {
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
    placement.slots.retain(|(_, _, class)| !same_service || !(same_rules || *class != PortClass::Other));
    Some(placement)
}

/// A virtual host's name.
pub(super) fn host_name(host: &Hostname, port: u16) -> Arc<str> {
    name::VirtualHost { host: host.as_str(), port }.to_string().into()
}

impl Egress {
    pub(crate) fn is_http_proxy(&self) -> bool {
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
    default.then(|| name::HTTP_PROXY_ROUTE.into()).into_iter().chain(own).collect()
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

/// Addresses of a headless service's endpoints: each gets a listener where traffic is captured.
pub(crate) fn headless_ips(reads: &mut Reads, endpoints: &EndpointTable, service: &Service) -> Vec<IpAddr> {
    let Some(endpoints) = service.headless.then(|| reads.get(endpoints, &service.key)).flatten() else { return vec![] };
    let all = endpoints.by_port.values().flatten().filter_map(|it| match it.address {
        Address::Ip(ip) => Some(ip),
        _ => None,
    });
    all.collect::<BTreeSet<_>>().into_iter().collect()
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
    /// HTTP to hosts that Envoy resolves: the listener knows each.
    Resolved,
    Other,
}

pub(crate) type SlotGroups<K> = Groups<SlotClass, K>;
