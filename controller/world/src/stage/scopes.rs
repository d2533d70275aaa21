//! Who sees what.

use crate::catalog::Groups;
use crate::key::{Client, Reach, ScopeKey};
use crate::outbound::OwnKey;
use crate::scope::{self, Class, Member, Scope, Viewer};
use model::{Certificates, Hostname, ProxyKind, ServiceKey};
use std::sync::Arc;
use tables::{Commit, Dump, Reads, Shared, Table, keys_from};
use xds::ConnectionId;

use super::catalog::Catalog;
use super::inputs::Inputs;

/// Who sees what.
pub(crate) struct Scopes {
    pub(crate) classes: Table<ConnectionId, Class>,
    /// Which kinds of clients are connected: only what they need is made.
    pub(crate) clients: Table<Certificates, ()>,
    /// The same for outbound listeners.
    pub(crate) listeners_for: Table<Client, ()>,
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
    let viewer = Viewer { namespace: Some(&scope.namespace), kind: scope.kind, selectors: &scope.selectors, egress };
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
            clients: c.table("clients"),
            listeners_for: c.table("clients_of_listeners"),
            scopes: c.table("scopes"),
            base: c.table("base_members"),
            router_base: c.table("router_base_members"),
            own: c.table("own_members"),
            own_by_host: c.table("own_members_by_host"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog) {
        let proxies = keys_from(&k.proxies, |id, _| [*id]);
        let from = (
            &k.proxies,
            &i.mesh,
            (&k.sidecars_by_namespace, &i.sidecars),
            &k.routes_by_source,
            (&k.services_by_namespace, &k.services),
            (&i.services, &i.pods),
            &k.policies,
            (&k.filters_by_namespace, &i.envoy_filters, &k.patches, (&k.extensions_by_namespace, &k.extensions)),
            (&k.rules_for_selected, &i.destination_rules),
        );
        c.derive(&mut self.classes, &[&proxies], from, scope::class);
        let clients = keys_from(&self.classes, |_, class| [class.certificates]);
        c.derive(&mut self.clients, &[&clients], (), |_, (), _| Some(()));
        let listeners_for = keys_from(&self.classes, |_, class| class.inbound.is_some().then(|| class.client()));
        c.derive(&mut self.listeners_for, &[&listeners_for], (), |_, (), _| Some(()));
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
            scope::member(reads, from, key, Viewer::of_any_namespace(ProxyKind::Sidecar))
        });
        let differing = keys_from(&self.base, |key, it| it.depends_on_kind().then(|| key.clone()));
        c.derive(&mut self.router_base, &[&differing], members, |reads, from, key| {
            scope::member(reads, from, key, Viewer::of_any_namespace(ProxyKind::Router))
        });
        let own = keys_from(&self.scopes, |scope, it| {
            it.services.values().map(|service| (scope.clone(), service.clone())).collect::<Vec<_>>()
        });
        let from = (members, &self.scopes, (&k.hosts, &self.base, &self.router_base));
        c.derive(&mut self.own, &[&own], from, own_member);
        c.group(&mut self.own_by_host, &self.own, |(scope, service), _| vec![(scope.clone(), service.host.clone())]);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![
            &self.classes,
            &self.clients,
            &self.listeners_for,
            &self.scopes,
            &self.base,
            &self.router_base,
            &self.own,
            &self.own_by_host,
        ]
    }
}
