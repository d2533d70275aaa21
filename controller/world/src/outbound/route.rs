//! Virtual hosts and route tables.

use super::placement::{host_name, proxy_tables};
use super::see::{SeeTables, client, destinations, see};
use crate::catalog::{Groups, Mesh};
use crate::key::{Reach, ScopeKey, SetKey, Subject, TableKey, VirtualHostKey};
use crate::made::checked_host;
use crate::scope::Scope;
use crds::{ObjectKey, Problem, Reason};
use imbl::OrdMap;
use model::{Hostname, RouteRules, Service, ServiceKey};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tables::{Reads, Table};
use translate::name;
use translate::route::{self, DomainForm, VirtualHostInput};
use xds::{Piece, Pieces, Resource, TypeUrl};

pub(crate) type VirtualHostTables<'t> = (
    SeeTables<'t>,
    &'t Table<ObjectKey, RouteRules>,
    (&'t Groups<Hostname, ServiceKey>, &'t Groups<IpAddr, ServiceKey>),
    &'t Mesh,
);

/// A virtual host, encoded as a field of its route table; `None` hides the base's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EncodedHost {
    pub(crate) name: Arc<str>,
    pub(crate) piece: Option<Arc<Piece>>,
    pub(crate) problems: Vec<Problem>,
}

/// The number of `RouteConfiguration.virtual_hosts`.
pub(crate) const VIRTUAL_HOSTS: u32 = 2;

pub(crate) fn virtual_host(
    reads: &mut Reads,
    (see_tables, all_rules, owners, mesh): VirtualHostTables<'_>,
    key: &VirtualHostKey,
) -> Option<EncodedHost> {
    let mesh = reads.get(mesh, &())?;
    let set = &key.table.set;
    let none = BTreeMap::new();
    let client = client(set, &none, model::virtual_service::MESH);
    let mut problems = vec![];
    let (name, domains, service, rules, port) = match &key.subject {
        Subject::Mask(name) => return Some(EncodedHost { name: name.clone(), piece: None, problems: vec![] }),
        Subject::Service { service, port } => {
            let member = see(reads, see_tables, set, &service.host)?;
            let form = form(&key.table.rds, *port);
            let wanted = route::domains(&member.service, *port, client.namespace, form);
            let domains = owned_domains(reads, owners, &member.service, *port, wanted, &mut problems);
            let port_view = member.service.port(*port)?;
            (
                host_name(&service.host, *port),
                domains,
                Some((&*member.service, port_view)),
                member.routes.clone(),
                *port,
            )
        }
        Subject::Host { host, rules } => {
            let port = key.table.rds.parse().unwrap_or(80);
            let mut domains = vec![host.to_string()];
            if form(&key.table.rds, LOOSE_PORT) == DomainForm::WithPort {
                domains.push(format!("{host}:{LOOSE_PORT}"));
            }
            (host_name(host, port), domains, None, Some(rules.clone()), port)
        }
    };
    let rules = rules.and_then(|it| reads.get(all_rules, &it)).cloned();
    let mut hosts = rules.as_ref().map(|it| it.destination_hosts()).unwrap_or_default();
    hosts.extend(service.map(|(service, _)| service.key.host.clone()));
    let destinations = destinations(reads, see_tables, set, hosts);
    let made = route::virtual_host(&VirtualHostInput {
        name: name.to_string(),
        domains,
        service,
        rules: rules.as_deref(),
        destinations: &destinations,
        client: &client,
        listener_port: port,
        mesh,
    });
    problems.extend(made.problems);
    let host = match &rules {
        Some(rules) => checked_host(made.resource, &rules.object, &mut problems),
        None => Some(made.resource),
    };
    // A host that nothing but a VirtualService without a route for it knows is left to the catch-all.
    let host = host.filter(|it| service.is_some() || !it.routes.is_empty());
    let piece = host.map(|host| Piece::field(VIRTUAL_HOSTS, &host));
    Some(EncodedHost { name, piece, problems })
}

/// Of hosts that no service has.
const LOOSE_PORT: u16 = 80;

/// How the domains of a route table are written.
fn form(rds: &str, port: u16) -> DomainForm {
    match rds.parse::<u16>() {
        Ok(number) if number == port => DomainForm::Plain,
        _ if is_sniffed(rds) => DomainForm::Any,
        _ => DomainForm::WithPort,
    }
}

/// The table of one sniffed service: neither a port's nor an HTTP proxy's.
fn is_sniffed(rds: &str) -> bool {
    rds.parse::<u16>().is_err() && rds != name::HTTP_PROXY_ROUTE
}

/// Envoy refuses a whole table for one repeated domain. A short form or an address that is another service's own
/// host or older address stays with that one.
fn owned_domains(
    reads: &mut Reads,
    (by_host, by_ip): (&Groups<Hostname, ServiceKey>, &Groups<IpAddr, ServiceKey>),
    service: &Service,
    port: u16,
    wanted: Vec<String>,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut domains: Vec<String> = vec![];
    for domain in wanted {
        let bare = domain.strip_suffix(&format!(":{port}")).unwrap_or(&domain);
        let owner = match bare.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => reads.get(by_ip, &ip).and_then(|it| it.get_min()),
            Err(_) if bare == service.key.host.as_str() => None,
            Err(_) => {
                let host = Hostname::new(bare);
                reads.get(by_host, &host).and_then(|it| it.iter().find(|it| it.host == host))
            }
        };
        match owner.filter(|it| it.host != service.key.host && !service.aliases.contains(&it.host)) {
            Some(owner) => {
                let reason = Reason::DuplicateDomain { domain, owner: owner.host.to_string() };
                problems.push(Problem::new(&service.object, "", reason));
            }
            None if domains.contains(&domain) => {}
            None => domains.push(domain),
        }
    }
    domains
}

/// The pieces of a base route table, and the same with a scope's own laid over them.
pub(crate) type HostMap = OrdMap<Arc<str>, Option<Arc<Piece>>>;

pub(crate) fn base_pieces(reads: &mut Reads, hosts: &Table<TableKey, HostMap>, rds: &Arc<str>) -> Option<Pieces> {
    let hosts = reads.get(hosts, &TableKey { set: SetKey::Base, rds: rds.clone() })?;
    let mut pieces = Pieces::default();
    for (name, piece) in hosts.iter() {
        if let Some(piece) = piece {
            pieces.insert(name.clone(), piece.clone());
        }
    }
    Some(pieces)
}

pub(crate) type RouteTables<'t> =
    (&'t Table<Arc<str>, Pieces>, &'t Table<TableKey, HostMap>, &'t Table<Arc<ScopeKey>, Scope>, &'t Mesh);

pub(crate) fn route_table(
    reads: &mut Reads,
    (base, hosts, scopes, mesh): RouteTables<'_>,
    key: &TableKey,
) -> Option<Arc<Resource>> {
    let mut policy = reads.get(mesh, &())?.outbound_traffic_policy.clone();
    let (mut layered, mut proxy) = (true, false);
    if let SetKey::Own(scope) = &key.set {
        let row = reads.get(scopes, scope)?;
        policy = row.policy.clone();
        layered = scope.reach == Reach::Layered;
        proxy = proxy_tables(scope, row).contains(&key.rds);
    }
    let under = layered.then(|| reads.get(base, &key.rds)).flatten();
    let mut pieces = under.map(|it| (**it).clone()).unwrap_or_default();
    if let SetKey::Own(_) = &key.set {
        for (name, piece) in reads.get(hosts, key).into_iter().flat_map(|it| it.iter()) {
            match piece {
                Some(piece) => pieces.insert(name.clone(), piece.clone()),
                None => pieces.remove(name),
            }
        }
    }
    // The table of one sniffed service takes every host already.
    if proxy || !is_sniffed(&key.rds) {
        let catch_all = route::catch_all(&policy);
        pieces.insert(catch_all.name.as_str().into(), Piece::field(VIRTUAL_HOSTS, &catch_all));
    }
    let head = match proxy {
        true => route::http_proxy_configuration(&key.rds),
        false => route::route_configuration(&key.rds),
    };
    let head = xds::canonical::encode(&head);
    Some(Arc::new(Resource::joined(TypeUrl::Route, key.rds.clone(), head, &pieces)))
}
