//! Clusters and load assignments, and which of them a scope has beside the base.

use super::see::{EndpointTable, RuleTable, merged_rule};
use crate::catalog::Mesh;
use crate::key::{CERTIFICATES, ClusterKey, VantageKey};
use crate::made::{Made, entry};
use crate::scope::{Feed, Member};
use crds::mesh_config::MeshConfig;
use model::{Certificates, Endpoints, Peers, Resolution, Service, ServiceKey};
use std::collections::BTreeSet;
use std::sync::Arc;
use tables::{Reads, Table};
use translate::cluster::{self, ClusterInput};
use translate::endpoint::{self, AssignmentInput, Vantage};
use xds::{Layer, Resource};
type Services = Table<ServiceKey, Service>;
pub(crate) type ClusterTables<'t> =
    (&'t Services, &'t RuleTable, &'t Mesh, &'t EndpointTable, (&'t Clients, &'t Table<ServiceKey, Peers>));

pub(crate) type Clients = Table<Certificates, ()>;

/// Whether there is anybody to make it for. Plain text is made before anybody is there.
pub(crate) fn is_wanted(reads: &mut Reads, clients: &Clients, of: Certificates) -> bool {
    match of {
        Certificates::Workload => reads.get(clients, &of).is_some(),
        Certificates::None => {
            reads.get(clients, &of).is_some() || reads.get(clients, &Certificates::Workload).is_none()
        }
    }
}

pub(crate) fn cluster(
    reads: &mut Reads,
    (services, rules, mesh, endpoints, (clients, peers)): ClusterTables<'_>,
    (key, vantage): &SeenKey,
) -> Option<Made> {
    if !is_wanted(reads, clients, key.certificates) {
        return None;
    }
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, &key.service)?;
    let rule = merged_rule(reads, rules, key.rule.as_ref());
    let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let endpoints = by_name.then(|| reads.get(endpoints, &key.service)).flatten();
    let nobody = Peers::default();
    let input = ClusterInput {
        service,
        port: service.port(key.port)?,
        subset: key.subset.as_deref(),
        rule,
        mesh,
        kind: key.kind,
        endpoints: endpoints.map(|it| &**it),
        peers: match key.certificates {
            Certificates::Workload => Some(reads.get(peers, &key.service).map_or(&nobody, |it| &**it)),
            Certificates::None => None,
        },
    };
    let vantage = vantage.as_deref().map(VantageKey::value);
    let made = cluster::cluster_seen_from(&input, vantage.as_ref())?;
    let owner = rule.map_or(&service.object, |it| &it.objects[0]);
    Some(Made::checked(made, rule.is_some(), owner))
}

/// A cluster or its load assignment; with a vantage, as seen from there.
pub(crate) type SeenKey = (ClusterKey, Option<Arc<VantageKey>>);

impl VantageKey {
    fn value(&self) -> Vantage {
        Vantage { locality: (*self.locality).clone(), node: self.node.clone(), labels: self.labels.clone() }
    }
}

pub(crate) fn assignment(
    reads: &mut Reads,
    (services, rules, mesh, endpoints): (&Services, &RuleTable, &Mesh, &EndpointTable),
    (key, vantage): &SeenKey,
) -> Option<Arc<Resource>> {
    let mesh = reads.get(mesh, &())?;
    let service = reads.get(services, &key.service)?;
    let rule = merged_rule(reads, rules, key.rule.as_ref());
    let none = Endpoints::default();
    let endpoints = reads.get(endpoints, &key.service).map_or(&none, |it| &**it);
    let vantage = vantage.as_deref().map(VantageKey::value);
    let made = endpoint::load_assignment(&AssignmentInput {
        service,
        port: service.port(key.port)?,
        subset: key.subset.as_deref(),
        rule,
        mesh,
        kind: key.kind,
        endpoints,
        vantage: vantage.as_ref(),
    });
    let name: Arc<str> = made.resource.cluster_name.as_str().into();
    Some(Arc::new(Resource::whole(name, &made.resource)))
}

/// What a scope shows in one set for one service: cluster names that differ from the base, masks of those it hides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entry {
    Cluster(SeenKey),
    Mask(Arc<str>, Certificates),
}

impl Entry {
    pub(crate) fn certificates(&self) -> Certificates {
        match self {
            Self::Cluster((key, _)) => key.certificates,
            Self::Mask(_, certificates) => *certificates,
        }
    }
}

/// The clusters of a member that are the same wherever the proxy stands.
pub(crate) fn shared_entries(member: &Member) -> impl Iterator<Item = &ClusterKey> {
    member.clusters.iter().filter(|it| it.feed != Feed::ClusterByVantage).map(|it| &it.key)
}

/// Whether `own` needs entries of its own beside the base's.
pub(crate) fn differing_clusters(own: &Member, base: Option<&Member>) -> Vec<Entry> {
    let same = |cluster: &ClusterKey| base.is_some_and(|it| it.clusters.iter().any(|other| other.key == *cluster));
    let entry = |key: &ClusterKey| key.of_clients().map(|key| Entry::Cluster((key, None)));
    let mut entries: Vec<Entry> = shared_entries(own).filter(|it| !same(it)).flat_map(entry).collect();
    let names: BTreeSet<&Arc<str>> = own.clusters.iter().map(|it| &it.name).collect();
    let hidden = base.into_iter().flat_map(|it| &it.clusters).filter(|it| !names.contains(&it.name));
    entries.extend(hidden.flat_map(|it| CERTIFICATES.map(|of| Entry::Mask(it.name.clone(), of))));
    entries
}

/// Cluster keys of a member that are fed by EDS, by who gets them.
pub(crate) fn fed(member: &Member, feed: Feed) -> impl Iterator<Item = &ClusterKey> {
    member.clusters.iter().filter(move |it| it.feed == feed).map(|it| &it.key)
}

/// What every captured proxy has: the clusters and listeners that stand for "anything else".
pub(crate) fn shared_clusters(mesh: &MeshConfig) -> Layer {
    let by_name = translate::listener::resolved(&mesh.outbound_traffic_policy);
    let by_name = by_name.map(|_| cluster::allow_any_dynamic_dns(mesh));
    [cluster::black_hole(), cluster::passthrough(mesh)].iter().chain(&by_name).map(entry).collect()
}
