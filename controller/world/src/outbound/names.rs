//! The names that a scope's proxies answer DNS queries for: those of the base, and a scope's own over them.

use super::see::{EndpointTable, OwnKey};
use crate::key::{Reach, ScopeKey, SetKey};
use crate::scope::Member;
use crate::stage::OwnMember;
use imbl::OrdMap;
use model::{Endpoints, Service, ServiceKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{Reads, Table};
use translate::listener::outbound::KnownAddresses;
use translate::name_table;
use xds::{Layer, Piece, Pieces, Resource, TypeUrl};

/// A service's names, encoded as entries of the table; `None` hides the base's.
pub(crate) type Names = BTreeMap<Arc<str>, Option<Arc<Piece>>>;

pub(crate) type NameMap = OrdMap<Arc<str>, Option<Arc<Piece>>>;

/// A service in a set.
pub(crate) type NameKey = (NameSet, ServiceKey);

/// A set, as those see it who know these of the allocated addresses.
pub(crate) type NameSet = (SetKey, KnownAddresses);

/// Whether anybody asks for names.
pub(crate) type Resolvers = Table<KnownAddresses, ()>;

pub(crate) type NamesTables<'t> =
    (&'t Resolvers, &'t Table<ServiceKey, Member>, &'t Table<OwnKey, OwnMember>, &'t EndpointTable);

pub(crate) fn names(
    reads: &mut Reads,
    (resolvers, base, own, endpoints): NamesTables<'_>,
    ((set, known), key): &NameKey,
) -> Option<Names> {
    reads.get(resolvers, known)?;
    let SetKey::Own(scope) = set else {
        let service = reads.get(base, key)?.service.clone();
        return Some(of_service(&service, pods(reads, endpoints, &service), *known));
    };
    let own = reads.get(own, &(scope.clone(), key.clone()))?.clone();
    let service = &own.member.service;
    let mut names = of_service(service, pods(reads, endpoints, service), *known);
    if own.base.as_ref().is_some_and(|it| it.service.key != *key) {
        names.entry(key.host.as_str().into()).or_default();
    }
    Some(names)
}

fn pods<'t>(reads: &mut Reads, endpoints: &'t EndpointTable, service: &Service) -> Option<&'t Endpoints> {
    let by_endpoint = service.addresses.is_empty() && service.resolution == model::Resolution::Passthrough;
    by_endpoint.then(|| reads.get(endpoints, &service.key)).flatten().map(|it| &**it)
}

fn of_service(service: &Service, endpoints: Option<&Endpoints>, known: KnownAddresses) -> Names {
    let entries = name_table::names(service, endpoints, known).into_iter();
    entries.map(|it| (it.key.as_str().into(), Some(Piece::field(name_table::TABLE, &it)))).collect()
}

pub(crate) fn base_names(reads: &mut Reads, maps: &Table<NameSet, NameMap>, known: &KnownAddresses) -> Option<Pieces> {
    let mut pieces = Pieces::default();
    overlay(&mut pieces, reads.get(maps, &(SetKey::Base, *known))?);
    Some(pieces)
}

/// The table of one scope, alone in its layer.
pub(crate) fn name_table(
    reads: &mut Reads,
    (base, maps): (&Table<KnownAddresses, Pieces>, &Table<NameSet, NameMap>),
    (scope, known): &(Arc<ScopeKey>, KnownAddresses),
) -> Option<Layer> {
    let under = (scope.reach == Reach::Layered).then(|| reads.get(base, known)).flatten();
    let mut pieces = under.map(|it| (**it).clone()).unwrap_or_default();
    if let Some(own) = reads.get(maps, &(SetKey::Own(scope.clone()), *known)) {
        overlay(&mut pieces, own);
    }
    let resource = Resource::joined(TypeUrl::NameTable, NAME, vec![], &pieces);
    Some(Layer::unit(NAME.into(), Some(Arc::new(resource))))
}

/// Agents do not look at it: there is only one.
const NAME: &str = "names";

fn overlay(pieces: &mut Pieces, map: &NameMap) {
    for (name, piece) in map {
        match piece {
            Some(piece) => pieces.insert(name.clone(), piece.clone()),
            None => pieces.remove(name),
        }
    }
}
