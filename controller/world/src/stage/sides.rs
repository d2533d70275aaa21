//! What belongs to single workloads and gateways, and the view of each proxy.

use crate::gateway::{self, GatewayListener, GatewaySlot, Merged};
use crate::inbound::{self, Inbound};
use crate::key::{GatewayKey, InboundKey, Reach, SetKey};
use crate::patched::PatchedKey;
use crate::scope::Class;
use model::ProxyKind;
use std::sync::Arc;
use tables::{Commit, Dump, Table, keys_from};
use xds::{ConnectionId, Layer};

use super::catalog::Catalog;
use super::inputs::Inputs;
use super::scopes::Scopes;

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
    /// Which sets EnvoyFilters change for somebody.
    pub(crate) patched: Table<PatchedKey, ()>,
}

impl Sides {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            inbound: c.table("inbound"),
            gateways: c.table("merged_gateways"),
            gateway_listeners: c.table("gateway_listeners"),
            gateway_layers: c.table("gateway_layers"),
            views: c.table("views"),
            patched: c.table("patched_sets"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs, k: &Catalog, s: &Scopes) {
        let inbound = keys_from(&s.classes, |_, class| class.inbound.clone());
        c.derive(&mut self.inbound, &[&inbound], (&k.services, &i.sidecars, &k.rules, &i.mesh), inbound::inbound);
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
            Some(Arc::new(crate::publish::view(reads.get(classes, id)?).0))
        });
        let patched = keys_from(&s.classes, |_, class| match class.patches.is_empty() {
            true => vec![],
            false => crate::publish::view(class).1,
        });
        c.derive(&mut self.patched, &[&patched], (), |_, (), _| Some(()));
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![&self.inbound, &self.gateways, &self.gateway_listeners, &self.gateway_layers, &self.views, &self.patched]
    }
}
