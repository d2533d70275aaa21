//! What agents that answer DNS are told.

use crate::key::{ScopeKey, SetKey};
use crate::outbound::{self, NameKey, NameMap, NameSet, Names};
use model::{DnsCapture, ProxyKind};
use std::sync::Arc;
use tables::{Commit, Dump, Table, keys_from};
use translate::listener::outbound::KnownAddresses;
use xds::{Layer, Piece, Pieces};

use super::catalog::Catalog;
use super::scopes::Scopes;

/// What agents that answer DNS are told; nothing is made while there is none.
pub(crate) struct NamesStage {
    resolvers: Table<KnownAddresses, ()>,
    names: Table<NameKey, Names>,
    entries: Table<(NameKey, Arc<str>), Option<Arc<Piece>>>,
    maps: Table<NameSet, NameMap>,
    base: Table<KnownAddresses, Pieces>,
    pub(crate) nds: Table<(Arc<ScopeKey>, KnownAddresses), Layer>,
}

/// Of those who ask.
const KNOWN: [KnownAddresses; 2] = [KnownAddresses::V4, KnownAddresses::All];

impl NamesStage {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            resolvers: c.table("resolvers"),
            names: c.table("names"),
            entries: c.table("name_entries"),
            maps: c.table("names_by_set"),
            base: c.table("base_names"),
            nds: c.table("nds"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, k: &Catalog, s: &Scopes) {
        let asks = |it: &crate::scope::Class| it.dns_capture == DnsCapture::On && it.scope.kind == ProxyKind::Sidecar;
        let resolvers = keys_from(&s.classes, |_, class| asks(class).then_some(class.known));
        c.derive(&mut self.resolvers, &[&resolvers], (), |_, (), _| Some(()));
        let base = keys_from(&s.base, |key, _| KNOWN.map(|it| ((SetKey::Base, it), key.clone())));
        let own = keys_from(&s.own, |(scope, key), _| {
            let sidecar = scope.kind == ProxyKind::Sidecar;
            let each = KNOWN.iter().filter(|_| sidecar);
            each.map(|it| ((SetKey::Own(scope.clone()), *it), key.clone())).collect::<Vec<_>>()
        });
        let from = (&self.resolvers, &s.base, &s.own, &k.endpoints);
        c.derive(&mut self.names, &[&base, &own], from, outbound::names);
        let entries = keys_from(&self.names, |key, names| {
            names.keys().map(|name| (key.clone(), name.clone())).collect::<Vec<_>>()
        });
        c.derive(&mut self.entries, &[&entries], &self.names, |reads, names, (key, name)| {
            reads.get(names, key)?.get(name).cloned()
        });
        c.collect(&mut self.maps, &self.entries, |((set, _), name), piece| {
            Some((set.clone(), name.clone(), (**piece).clone()))
        });
        let base = keys_from(&self.maps, |(set, known), _| (*set == SetKey::Base).then_some(*known));
        c.derive(&mut self.base, &[&base], &self.maps, outbound::base_names);
        let scopes = keys_from(&s.classes, |_, class| asks(class).then(|| (class.scope.clone(), class.known)));
        c.derive(&mut self.nds, &[&scopes], (&self.base, &self.maps), outbound::name_table);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![&self.resolvers, &self.names, &self.entries, &self.maps, &self.base, &self.nds]
    }
}
