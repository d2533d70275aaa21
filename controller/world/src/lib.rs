//! All tables of the mesh and the order in which a commit walks them: the data flow, from objects and connected
//! proxies to what each proxy is sent. Knows nothing of Kubernetes clients, sockets or time.
//!
//! Read [`World::commit`] and the stages it calls top to bottom. How sharing works: what is public is translated
//! once, as any namespace sees it (the *base*); a namespace has entries of its own only where it differs (its own
//! services answer to short names, its own rules apply). A Sidecar, or listeners that bind addresses of their own,
//! make a *full* scope that shares nothing.

mod catalog;
mod envoy_filter;
mod extension;
mod gateway;
mod inbound;
mod input;
mod key;
mod made;
mod outbound;
mod patched;
mod proxy_config;
mod publish;
mod scope;
mod stage;

pub use input::{Batch, Stored};
pub use publish::Changes;

use crds::mesh_config::MeshConfig;
use crds::{Kind, Object, ObjectKey, Problem};
use input::Sorted;
use model::Proxy;
use publish::Publisher;
use stage::{Catalog, Inputs, NamesStage, Outbound, Scopes, Sides};
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{Commit, Dump};
use xds::{ConnectionId, Resource, TypeUrl};

/// The mesh as tables. Feed it batches, hand what comes out to the xDS server.
pub struct World {
    commit: Commit,
    inputs: Inputs,
    catalog: Catalog,
    scopes: Scopes,
    outbound: Outbound,
    sides: Sides,
    names: NamesStage,
    publisher: Publisher,
    /// Those with a MeshConfig in them.
    mesh_maps: BTreeMap<ObjectKey, Object>,
    mesh: MeshConfig,
    mesh_problems: Vec<Problem>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(Commit::default())
    }

    /// An engine with settings of its own (threads).
    pub fn with(mut commit: Commit) -> Self {
        let c = &mut commit;
        let (inputs, catalog, scopes) = (Inputs::new(c), Catalog::new(c), Scopes::new(c));
        let (outbound, sides, names) = (Outbound::new(c), Sides::new(c), NamesStage::new(c));
        Self {
            inputs,
            catalog,
            scopes,
            outbound,
            sides,
            names,
            publisher: Publisher::default(),
            mesh_maps: BTreeMap::new(),
            mesh: MeshConfig::default(),
            mesh_problems: vec![],
            commit,
        }
    }

    /// Applies one batch and brings every table up to date. What comes out is what differs for proxies.
    pub fn commit(&mut self, batch: Batch) -> Changes {
        self.decode_mesh(&batch);
        let mut sorted = Sorted::new(batch.objects);
        let c = &mut self.commit;
        self.inputs.commit(c, &mut sorted, (batch.proxies, batch.roots), &self.mesh);
        self.catalog.commit(c, &self.inputs);
        self.scopes.commit(c, &self.inputs, &self.catalog);
        self.outbound.commit(c, &self.inputs, &self.catalog, &self.scopes);
        self.sides.commit(c, &self.inputs, &self.catalog, &self.scopes);
        self.names.commit(c, &self.catalog, &self.scopes);
        let from = (&self.catalog, &self.outbound, &self.sides, &self.names);
        self.publisher.changes(from, &self.mesh_problems)
    }

    /// An object as it was put in; `None` for those of kinds that decide nothing in the mesh.
    pub fn object(&self, key: &ObjectKey) -> Option<Object> {
        self.mesh_maps.get(key).cloned().or_else(|| self.inputs.object(key))
    }

    /// Addresses that should stand in the status of ServiceEntries and do not yet.
    pub fn unwritten_addresses(&self) -> &BTreeMap<ObjectKey, Vec<crds::networking::ServiceEntryAddress>> {
        self.inputs.unwritten()
    }

    pub fn pod(&self, key: &ObjectKey) -> Option<&crds::kube::Pod> {
        self.inputs.pods.peek(key).map(|it| &it.spec)
    }

    /// All there are.
    pub fn proxy_configs(&self) -> impl Iterator<Item = &Stored<crds::networking::ProxyConfig>> {
        self.inputs.proxy_configs.rows().into_values()
    }

    /// The CA's, as they were put in.
    pub fn roots(&self) -> Option<String> {
        self.inputs.roots.peek(&()).map(|it| (**it).clone())
    }

    pub fn workload_group(&self, key: &ObjectKey) -> Option<&crds::networking::WorkloadGroup> {
        self.inputs.workload_groups.peek(key).map(|it| &it.spec)
    }

    /// A connected proxy as it was put in.
    pub fn proxy(&self, id: ConnectionId) -> Option<Proxy> {
        self.inputs.proxies.peek(&id).map(|it| (**it).clone())
    }

    /// The end of it: everything that was put in, to make another one.
    pub fn into_inputs(self) -> Batch {
        let mut batch = self.inputs.batch();
        batch.objects.extend(self.mesh_maps.into_iter().map(|(key, object)| (key, Some(object))));
        batch
    }

    /// The MeshConfig in force is the last good one, field by field: that takes the one before, so it is decoded
    /// at the door.
    fn decode_mesh(&mut self, batch: &Batch) {
        for (key, object) in batch.objects.iter().filter(|(key, _)| is_mesh_config(key)) {
            match object {
                Some(object) => _ = self.mesh_maps.insert(key.clone(), object.clone()),
                None => _ = self.mesh_maps.remove(key),
            }
            (self.mesh, self.mesh_problems) = match object {
                Some(object) => crds::decode::mesh_config_map(object, &self.mesh),
                None => crds::decode::mesh_config_text("", &self.mesh, key),
            };
        }
    }

    /// What a connected proxy has, of one type; for offline use, dumps and tests.
    pub fn resources(&self, proxy: ConnectionId, kind: TypeUrl) -> Vec<Arc<Resource>> {
        self.publisher.resources(proxy, kind)
    }

    /// Everything wrong with the objects in force that shows only when they meet.
    pub fn problems(&self) -> Vec<Problem> {
        self.publisher.problems(&self.mesh_problems)
    }

    pub fn mesh_config(&self) -> &MeshConfig {
        &self.mesh
    }

    /// Every table, in the order of the data flow.
    pub fn tables(&self) -> Vec<&dyn Dump> {
        let mut tables = self.inputs.tables();
        tables.extend(self.catalog.tables());
        tables.extend(self.scopes.tables());
        tables.extend(self.outbound.tables());
        tables.extend(self.sides.tables());
        tables.extend(self.names.tables());
        tables
    }

    /// One row with what it read and who read it; `key` is the row's key as the dump prints it.
    pub fn dump_row(&self, table: &str, key: &str) -> Option<tables::RowDump> {
        self.commit.dump_row(&self.tables(), table, key)
    }
}

/// The ConfigMap `istio` of whichever namespace holds the control plane.
fn is_mesh_config(key: &ObjectKey) -> bool {
    key.kind == Kind::ConfigMap && &*key.name == "istio"
}
