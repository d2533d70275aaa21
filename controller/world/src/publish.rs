//! The one door out: what a commit changed, in the words of the xDS server.

use crate::key::{Client, GatewayKey, InboundKey, ScopeKey, SetKey};
use crate::patched::{PatchedKey, Patcher};
use crate::scope::Class;
use crate::stage::{Catalog, NamesStage, Outbound, SeenSet, Sides, sets};
use crds::{ObjectKey, Problem};
use model::{Certificates, DnsCapture, ProxyKind};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use tables::{Key, Table};
use translate::envoy_filter::Context;
use translate::listener::outbound::KnownAddresses;
use xds::{ConnectionId, Layer, Resource, SetName, TypeUrl, Update, View};

/// What a commit changed.
#[derive(Debug, Default)]
pub struct Changes {
    pub update: Update,
    /// All that is wrong now, if that changed.
    pub problems: Option<Vec<Problem>>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.update.sets.is_empty() && self.update.nodes.is_empty() && self.problems.is_none()
    }
}

fn name(kind: &str, of: impl Display) -> SetName {
    format!("{kind} of {of}").into()
}

/// LDS differs by what clients can prove, and by whether they know the addresses that are allocated.
fn listeners_name(of: &SetKey, client: Client) -> SetName {
    let over = if client.certificates == Certificates::Workload { " over mutual TLS" } else { "" };
    let with = match client.known {
        KnownAddresses::None => "",
        KnownAddresses::V4 => " with DNS (IPv4)",
        KnownAddresses::All => " with DNS",
    };
    format!("lds{over}{with} of {of}").into()
}

fn names_name(of: &ScopeKey, known: KnownAddresses) -> SetName {
    let of_family = if known == KnownAddresses::V4 { " (IPv4)" } else { "" };
    format!("nds{of_family} of {of}").into()
}

fn seen_name(kind: &str, (set, vantage): &SeenSet) -> SetName {
    match vantage {
        None => name(kind, set),
        Some(it) => {
            let node = it.node.as_deref().unwrap_or("-");
            format!("{kind} of {set} from {} {node} {:?}", it.locality, it.labels).into()
        }
    }
}

fn inbound_name(kind: &str, key: &InboundKey) -> SetName {
    format!("{kind} inbound {key:?}").into()
}

fn gateway_name(kind: &str, key: &GatewayKey) -> SetName {
    format!("{kind} gateway {key:?}").into()
}

/// Clusters that every proxy has.
const SHARED: &str = "cds shared";
/// What every agent is told; no Envoy asks for it.
const TRUST: &str = "pcds";
/// The kind of the sets of clusters for clients with certificates.
const SECURE_CDS: &str = "cds over mutual TLS";

/// Which sets make up a proxy's configuration; the first that knows a name wins. With those of them that EnvoyFilters
/// change for it.
pub(crate) fn view(class: &Class) -> (View, Vec<PatchedKey>) {
    let sets: Vec<SetKey> = sets(class).collect();
    let each = |kind: &'static str| sets.iter().map(move |set| name(kind, set));
    let each_listener = sets.iter().map(|set| listeners_name(set, class.client()));
    let inbound = |kind| class.inbound.iter().map(move |key| inbound_name(kind, key));
    let seen = |kind: &'static str| {
        let piles = sets.iter().flat_map(|set| [(set.clone(), Some(class.vantage.clone())), (set.clone(), None)]);
        piles.map(move |set| seen_name(kind, &set)).collect::<Vec<_>>()
    };
    let cds = match class.certificates {
        Certificates::None => "cds",
        Certificates::Workload => SECURE_CDS,
    };
    let clusters = inbound("cds").chain(seen(cds)).chain([SHARED.into()]).collect();
    let endpoints = seen("eds");
    let (listeners, routes) = match (&class.gateway, class.scope.kind) {
        (Some(key), ProxyKind::Router) => (vec![gateway_name("lds", key)], vec![gateway_name("rds", key)]),
        _ => {
            let scope = [name("lds extra", &class.scope)];
            (inbound("lds").chain(scope).chain(each_listener).collect(), each("rds").collect())
        }
    };
    let names = match (class.dns_capture, class.scope.kind) {
        (DnsCapture::On, ProxyKind::Sidecar) => vec![names_name(&class.scope, class.known)],
        _ => vec![],
    };
    let mut layers = BTreeMap::from([
        (TypeUrl::Cluster, clusters),
        (TypeUrl::Endpoint, endpoints),
        (TypeUrl::Listener, listeners),
        (TypeUrl::Route, routes),
        (TypeUrl::NameTable, names),
        (TypeUrl::ProxyConfig, vec![TRUST.into()]),
    ]);
    let patched = patch(class, &mut layers);
    (View { layers }, patched)
}

/// Puts the sets that EnvoyFilters change in the place of those that were translated.
fn patch(class: &Class, layers: &mut BTreeMap<TypeUrl, Vec<SetName>>) -> Vec<PatchedKey> {
    let mut patched = vec![];
    if class.patches.is_empty() {
        return patched;
    }
    let inbound: BTreeSet<SetName> =
        class.inbound.iter().flat_map(|key| ["cds", "lds"].map(|kind| inbound_name(kind, key))).collect();
    let own = match class.scope.kind {
        ProxyKind::Router => Context::Gateway,
        ProxyKind::Sidecar => Context::Outbound,
    };
    let key = |base, kind, context| PatchedKey { base, kind, context, patches: class.patches.clone() };
    for (kind, names) in layers.iter_mut() {
        for name in names {
            let context = if inbound.contains(name) { Context::Inbound } else { own };
            if class.patches.concern(context, *kind) {
                let key = key(Some(name.clone()), *kind, context);
                *name = key.name();
                patched.push(key);
            }
        }
    }
    let contexts = [Some(own), (own == Context::Outbound).then_some(Context::Inbound)];
    for context in contexts.into_iter().flatten() {
        for kind in [TypeUrl::Cluster, TypeUrl::Listener, TypeUrl::Extension] {
            if class.patches.add(context, kind) {
                let key = key(None, kind, context);
                layers.entry(kind).or_default().push(key.name());
                patched.push(key);
            }
        }
    }
    patched
}

/// Problems by the row that found them.
struct Ledger<K>(HashMap<K, Vec<Problem>>);

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Key + Hash> Ledger<K> {
    /// Whether anything changed.
    fn update<V>(&mut self, table: &Table<K, V>, problems: impl Fn(&V) -> &[Problem]) -> bool {
        let mut changed = false;
        for change in table.changes() {
            let new = change.new.as_ref().map(|it| problems(it)).unwrap_or_default();
            changed |= match new.is_empty() {
                true => self.0.remove(&change.key).is_some(),
                false => self.0.insert(change.key.clone(), new.to_vec()).as_deref() != Some(new),
            };
        }
        changed
    }
}

/// What has been published, and every problem.
#[derive(Default)]
pub(crate) struct Publisher {
    sets: BTreeMap<SetName, Layer>,
    views: BTreeMap<ConnectionId, Arc<View>>,
    rules: Ledger<crate::key::RuleKey>,
    routes: Ledger<ObjectKey>,
    shadowed: Ledger<model::Hostname>,
    unbound: Ledger<String>,
    clusters: Ledger<crate::outbound::SeenKey>,
    virtual_hosts: Ledger<crate::key::VirtualHostKey>,
    listeners: Ledger<(crate::key::SlotKey, Client)>,
    inbound: Ledger<Arc<InboundKey>>,
    gateways: Ledger<Arc<GatewayKey>>,
    gateway_listeners: Ledger<crate::gateway::GatewaySlot>,
    filters: Ledger<ObjectKey>,
    proxy_configs: Ledger<Arc<str>>,
    extensions: Ledger<ObjectKey>,
    patcher: Patcher,
    patched: Vec<Problem>,
    mesh: Vec<Problem>,
}

impl Publisher {
    pub(crate) fn changes(
        &mut self,
        (k, o, x, names): (&Catalog, &Outbound, &Sides, &NamesStage),
        mesh: &[Problem],
    ) -> Changes {
        let mut sets: Vec<(SetName, Option<Layer>)> = vec![];
        let mut add = |name: SetName, layer: Option<&Layer>| sets.push((name, layer.cloned()));
        k.trust.changes().iter().for_each(|it| add(TRUST.into(), it.new.as_deref()));
        o.shared_clusters.changes().iter().for_each(|it| add(SHARED.into(), it.new.as_deref()));
        o.cds.changes().iter().for_each(|it| {
            let kind = if it.key.1 == Certificates::None { "cds" } else { SECURE_CDS };
            add(seen_name(kind, &it.key.0), it.new.as_deref());
        });
        o.eds.changes().iter().for_each(|it| add(seen_name("eds", &it.key), it.new.as_deref()));
        o.lds.changes().iter().for_each(|it| add(listeners_name(&it.key.0, it.key.1), it.new.as_deref()));
        o.rds.changes().iter().for_each(|it| add(name("rds", &it.key), it.new.as_deref()));
        o.scope_listeners.changes().iter().for_each(|it| add(name("lds extra", &it.key), it.new.as_deref()));
        names.nds.changes().iter().for_each(|it| add(names_name(&it.key.0, it.key.1), it.new.as_deref()));
        for it in x.inbound.changes() {
            add(inbound_name("cds", &it.key), it.new.as_ref().map(|it| &it.clusters));
            add(inbound_name("lds", &it.key), it.new.as_ref().map(|it| &it.listeners));
        }
        for it in x.gateway_layers.changes() {
            add(gateway_name("lds", &it.key), it.new.as_ref().map(|it| &it.0));
            add(gateway_name("rds", &it.key), it.new.as_ref().map(|it| &it.1));
        }
        let nodes = x.views.changes().iter().map(|it| (it.key, it.new.as_deref().cloned())).collect();
        let mut update = Update { sets, nodes };
        self.remember(&update);
        self.patch(&mut update, x);
        let problems = self.note(k, o, x, mesh).then(|| self.problems(mesh));
        Changes { update, problems }
    }

    fn patch(&mut self, update: &mut Update, x: &Sides) {
        let changed: Vec<SetName> = update.sets.iter().map(|(name, _)| name.clone()).collect();
        let patched = self.patcher.update(&x.patched, &self.sets, &changed);
        self.remember_sets(&patched);
        update.sets.extend(patched);
    }

    fn remember_sets(&mut self, sets: &[(SetName, Option<Layer>)]) {
        for (name, layer) in sets {
            match layer {
                Some(layer) => _ = self.sets.insert(name.clone(), layer.clone()),
                None => _ = self.sets.remove(name),
            }
        }
    }

    fn remember(&mut self, update: &Update) {
        self.remember_sets(&update.sets);
        for (id, view) in &update.nodes {
            match view {
                Some(view) => _ = self.views.insert(*id, view.clone()),
                None => _ = self.views.remove(id),
            }
        }
    }

    fn note(&mut self, k: &Catalog, o: &Outbound, x: &Sides, mesh: &[Problem]) -> bool {
        let changes = [
            self.rules.update(&k.rules, |it| &it.problems),
            self.routes.update(&k.routes, |it| &it.problems),
            self.shadowed.update(&k.shadowed, |it| it),
            self.unbound.update(&k.unbound, |it| it),
            self.clusters.update(&o.clusters, |it| &it.problems),
            self.virtual_hosts.update(&o.virtual_hosts, |it| &it.problems),
            self.listeners.update(&o.listeners, |it| &it.problems),
            self.inbound.update(&x.inbound, |it| &it.problems),
            self.gateways.update(&x.gateways, |it| &it.problems),
            self.gateway_listeners.update(&x.gateway_listeners, |it| &it.problems),
            self.filters.update(&k.patches, |it| &it.problems),
            self.proxy_configs.update(&k.passed_over, |it| it),
            self.extensions.update(&k.extensions, |it| &it.problems),
            self.patched != self.patcher.problems(),
            self.mesh != mesh,
        ];
        if changes[changes.len() - 2] {
            self.patched = self.patcher.problems().to_vec();
        }
        self.mesh = mesh.to_vec();
        changes.contains(&true)
    }

    /// Each once, in order: several scopes may find the same.
    pub(crate) fn problems(&self, mesh: &[Problem]) -> Vec<Problem> {
        let all = self
            .rules
            .0
            .values()
            .chain(self.routes.0.values())
            .chain(self.shadowed.0.values())
            .chain(self.unbound.0.values())
            .chain(self.clusters.0.values());
        let all = all.chain(self.virtual_hosts.0.values()).chain(self.listeners.0.values());
        let all = all.chain(self.inbound.0.values()).chain(self.gateways.0.values());
        let all = all.chain(self.gateway_listeners.0.values()).chain(self.filters.0.values());
        let all = all.chain(self.proxy_configs.0.values());
        let all = all.chain(self.extensions.0.values());
        let all = all.flatten().chain(&self.patched).chain(mesh);
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(crate) fn resources(&self, proxy: ConnectionId, kind: TypeUrl) -> Vec<Arc<Resource>> {
        let mut found: BTreeMap<Arc<str>, Option<Arc<Resource>>> = BTreeMap::new();
        let layers = self.views.get(&proxy).and_then(|view| view.layers.get(&kind));
        for layer in layers.into_iter().flatten().filter_map(|name| self.sets.get(name)) {
            for (name, resource) in layer {
                found.entry(name.clone()).or_insert_with(|| resource.clone());
            }
        }
        found.into_values().flatten().collect()
    }
}
