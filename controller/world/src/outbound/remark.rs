//! VirtualServices that have less effect than their writers may think.

use crate::catalog::{Groups, Objects};
use crds::networking::Gateway;
use crds::{Kind, ObjectKey, Problem, Reason};
use model::{Hostname, RouteRules, ServiceKey};
use tables::{Reads, Table};

pub(crate) type LooseTables<'t> =
    (&'t Groups<Hostname, ObjectKey>, &'t Table<ObjectKey, RouteRules>, &'t Groups<Hostname, ServiceKey>);

/// Hosts of public VirtualServices that no public service has, with the oldest such VirtualService.
pub(crate) fn loose_host(
    reads: &mut Reads,
    (by_host, all, by_pattern): LooseTables<'_>,
    host: &Hostname,
) -> Option<ObjectKey> {
    if reads.get(by_pattern, host).is_some() {
        return None;
    }
    let public = reads.members(by_host, all, host).filter(|(_, it)| it.visibility == model::Visibility::Public);
    public.min_by_key(|(_, it)| it.age.clone()).map(|(key, _)| key.clone())
}

/// VirtualServices bound to a Gateway that does not exist.
pub(crate) fn unbound(
    reads: &mut Reads,
    (by_gateway, gateways): (&Groups<String, ObjectKey>, &Objects<Gateway>),
    name: &String,
) -> Option<Vec<Problem>> {
    let (namespace, gateway) = name.split_once('/')?;
    if reads.get(gateways, &ObjectKey::new(Kind::Gateway, namespace, gateway)).is_some() {
        return None;
    }
    let problem = |object: &ObjectKey| Problem::new(object, "spec.gateways", Reason::UnknownGateway(name.clone()));
    Some(reads.get(by_gateway, name)?.iter().map(problem).collect())
}

/// VirtualServices that have no effect on a host because an older one rules it.
pub(crate) fn shadowed(
    reads: &mut Reads,
    (by_host, all): (&Groups<Hostname, ObjectKey>, &Table<ObjectKey, RouteRules>),
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
