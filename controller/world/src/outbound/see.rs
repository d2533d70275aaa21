//! What a host means to a scope, and which rules apply to it there.

use crate::catalog::{Groups, Rules};
use crate::key::{Reach, RuleRef, ScopeKey, SetKey};
use crate::scope::Member;
use crate::stage::OwnMember;
use model::{DestinationView, Destinations, Endpoints, Hostname, MergedRule, ProxyKind, ServiceKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{Reads, Table};
use translate::route::Client;

pub(crate) type RuleTable = Table<crate::key::RuleKey, Rules>;
pub(crate) type EndpointTable = Table<ServiceKey, Endpoints>;

pub(crate) fn merged_rule<'t>(reads: &mut Reads, rules: &'t RuleTable, of: Option<&RuleRef>) -> Option<&'t MergedRule> {
    let of = of?;
    reads.get(rules, &of.key)?.merged_at(of.at)
}

impl Rules {
    fn merged_at(&self, at: usize) -> Option<&MergedRule> {
        self.merged.get(at)
    }
}

pub(crate) type SeeTables<'t> = (
    &'t Table<Hostname, ServiceKey>,
    &'t Table<ServiceKey, Member>,
    (&'t Groups<(Arc<ScopeKey>, Hostname), OwnKey>, &'t Table<OwnKey, OwnMember>),
    &'t RuleTable,
);

/// A service in a scope of its own.
pub(crate) type OwnKey = (Arc<ScopeKey>, ServiceKey);

/// The member that a host means in a set.
pub(crate) fn see<'t>(
    reads: &mut Reads,
    (hosts, base, (by_host, own), _): SeeTables<'t>,
    set: &SetKey,
    host: &Hostname,
) -> Option<&'t Member> {
    if let SetKey::Own(scope) = set {
        let keys = reads.get(by_host, &(scope.clone(), host.clone()));
        if let Some(key) = keys.and_then(|it| it.get_min()) {
            return reads.get(own, key).map(|it| &it.member);
        }
        if matches!(scope.reach, Reach::Full { .. }) {
            return None;
        }
    }
    let key = reads.get(hosts, host)?;
    reads.get(base, key).map(|it| &**it)
}

pub(crate) fn destinations<'t>(
    reads: &mut Reads,
    tables: SeeTables<'t>,
    set: &SetKey,
    hosts: impl IntoIterator<Item = Hostname>,
) -> Destinations<'t> {
    let mut destinations = Destinations::new();
    for host in hosts {
        let member = see(reads, tables, set, &host);
        let rule = member.and_then(|it| merged_rule(reads, tables.3, it.rule.as_ref()));
        let view = DestinationView { service: member.map(|it| &*it.service), rule };
        destinations.insert(host, view);
    }
    destinations
}

/// `None`: namespaces without rules of their own, for which any name stands that owns nothing.
pub(crate) fn client<'a>(set: &'a SetKey, none: &'a BTreeMap<String, String>, gateway: &'a str) -> Client<'a> {
    match set {
        SetKey::Own(scope) => Client {
            gateway,
            namespace: &scope.namespace,
            labels: scope.labels.as_deref().unwrap_or(none),
            kind: scope.kind,
        },
        SetKey::Base | SetKey::RouterBase => Client { gateway, namespace: "", labels: none, kind: ProxyKind::Sidecar },
    }
}
