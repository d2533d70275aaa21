//! What comes in from outside.

use crate::catalog::{Mesh, Objects};
use crate::input::{Batch, Sorted, Stored};
use crds::mesh_config::MeshConfig;
use crds::{Kind, Object, ObjectKey, Spec, extensions as x, kube, networking as n, security as s};
use model::{Allocation, Allocator, Proxy};
use std::collections::BTreeMap;
use tables::{Commit, Dump, Table};
use xds::ConnectionId;

pub(crate) struct Inputs {
    pub(crate) mesh: Mesh,
    pub(crate) destination_rules: Objects<n::DestinationRule>,
    pub(crate) envoy_filters: Objects<n::EnvoyFilter>,
    pub(crate) gateways: Objects<n::Gateway>,
    pub(crate) namespaces: Objects<()>,
    pub(crate) nodes: Objects<()>,
    pub(crate) peer_authentications: Objects<s::PeerAuthentication>,
    pub(crate) pods: Objects<kube::Pod>,
    pub(crate) proxy_configs: Objects<n::ProxyConfig>,
    pub(crate) service_entries: Objects<n::ServiceEntry>,
    pub(crate) services: Objects<kube::Service>,
    pub(crate) sidecars: Objects<n::Sidecar>,
    pub(crate) slices: Objects<kube::EndpointSlice>,
    pub(crate) traffic_extensions: Objects<x::TrafficExtension>,
    pub(crate) virtual_services: Objects<n::VirtualService>,
    pub(crate) wasm_plugins: Objects<x::WasmPlugin>,
    pub(crate) workload_entries: Objects<n::WorkloadEntry>,
    pub(crate) workload_groups: Objects<n::WorkloadGroup>,
    pub(crate) proxies: Table<ConnectionId, Proxy>,
    /// Of ServiceEntries without addresses. Not of one entry alone, so they are made at the door.
    pub(crate) allocations: Table<ObjectKey, Allocation>,
    allocator: Allocator,
    /// Of the CA, as PEM; no row where there is none.
    pub(crate) roots: Table<(), String>,
}

impl Inputs {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            mesh: c.table("mesh"),
            destination_rules: c.table("destination_rules"),
            envoy_filters: c.table("envoy_filters"),
            gateways: c.table("gateways"),
            namespaces: c.table("namespaces"),
            nodes: c.table("nodes"),
            peer_authentications: c.table("peer_authentications"),
            pods: c.table("pods"),
            proxy_configs: c.table("proxy_configs"),
            service_entries: c.table("service_entries"),
            services: c.table("kube_services"),
            sidecars: c.table("sidecars"),
            slices: c.table("endpoint_slices"),
            traffic_extensions: c.table("traffic_extensions"),
            virtual_services: c.table("virtual_services"),
            wasm_plugins: c.table("wasm_plugins"),
            workload_entries: c.table("workload_entries"),
            workload_groups: c.table("workload_groups"),
            proxies: c.table("proxies"),
            allocations: c.table("allocations"),
            allocator: Allocator::default(),
            roots: c.table("roots"),
        }
    }

    pub(crate) fn commit(
        &mut self,
        c: &mut Commit,
        sorted: &mut Sorted,
        (proxies, roots): (Vec<(ConnectionId, Option<Proxy>)>, Option<String>),
        mesh: &MeshConfig,
    ) {
        use std::mem::take;
        let same = self.mesh.peek(&()).is_some_and(|it| **it == *mesh);
        c.input(&mut self.mesh, if same { vec![] } else { vec![((), Some(mesh.clone()))] });
        c.input(&mut self.destination_rules, take(&mut sorted.destination_rules));
        c.input(&mut self.envoy_filters, take(&mut sorted.envoy_filters));
        c.input(&mut self.gateways, take(&mut sorted.gateways));
        c.input(&mut self.namespaces, take(&mut sorted.namespaces));
        c.input(&mut self.nodes, take(&mut sorted.nodes));
        c.input(&mut self.peer_authentications, take(&mut sorted.peer_authentications));
        c.input(&mut self.pods, take(&mut sorted.pods));
        c.input(&mut self.proxy_configs, take(&mut sorted.proxy_configs));
        let entries = sorted.service_entries.iter();
        let allocations =
            self.allocator.apply(entries.map(|(key, it)| (key, it.as_ref().map(|it| (&it.meta, &it.spec)))));
        c.input(&mut self.service_entries, take(&mut sorted.service_entries));
        c.input(&mut self.services, take(&mut sorted.services));
        c.input(&mut self.sidecars, take(&mut sorted.sidecars));
        c.input(&mut self.slices, take(&mut sorted.slices));
        c.input(&mut self.traffic_extensions, take(&mut sorted.traffic_extensions));
        c.input(&mut self.virtual_services, take(&mut sorted.virtual_services));
        c.input(&mut self.wasm_plugins, take(&mut sorted.wasm_plugins));
        c.input(&mut self.workload_entries, take(&mut sorted.workload_entries));
        c.input(&mut self.workload_groups, take(&mut sorted.workload_groups));
        c.input(&mut self.proxies, proxies);
        c.input(&mut self.allocations, allocations);
        c.input(&mut self.roots, roots.map(|it| ((), Some(it))).into_iter().collect::<Vec<_>>());
    }

    /// Addresses that should stand in the status of ServiceEntries and do not yet.
    pub(crate) fn unwritten(&self) -> &BTreeMap<ObjectKey, Vec<n::ServiceEntryAddress>> {
        self.allocator.unwritten()
    }

    /// As it was put in; a MeshConfig is not kept as an object.
    pub(crate) fn object(&self, key: &ObjectKey) -> Option<Object> {
        match key.kind {
            Kind::DestinationRule => one(&self.destination_rules, key, |it| Spec::DestinationRule(Box::new(it))),
            Kind::EndpointSlice => one(&self.slices, key, Spec::EndpointSlice),
            Kind::EnvoyFilter => one(&self.envoy_filters, key, |it| Spec::EnvoyFilter(Box::new(it))),
            Kind::Gateway => one(&self.gateways, key, Spec::Gateway),
            Kind::Namespace => one(&self.namespaces, key, |()| Spec::Namespace),
            Kind::Node => one(&self.nodes, key, |()| Spec::Node),
            Kind::PeerAuthentication => one(&self.peer_authentications, key, Spec::PeerAuthentication),
            Kind::Pod => one(&self.pods, key, Spec::Pod),
            Kind::ProxyConfig => one(&self.proxy_configs, key, Spec::ProxyConfig),
            Kind::Service => one(&self.services, key, Spec::Service),
            Kind::ServiceEntry => one(&self.service_entries, key, Spec::ServiceEntry),
            Kind::Sidecar => one(&self.sidecars, key, |it| Spec::Sidecar(Box::new(it))),
            Kind::TrafficExtension => one(&self.traffic_extensions, key, |it| Spec::TrafficExtension(Box::new(it))),
            Kind::VirtualService => one(&self.virtual_services, key, Spec::VirtualService),
            Kind::WasmPlugin => one(&self.wasm_plugins, key, |it| Spec::WasmPlugin(Box::new(it))),
            Kind::WorkloadEntry => one(&self.workload_entries, key, Spec::WorkloadEntry),
            Kind::WorkloadGroup => one(&self.workload_groups, key, |it| Spec::WorkloadGroup(Box::new(it))),
            Kind::ConfigMap | Kind::Deployment | Kind::Unread(_) => None,
        }
    }

    /// Everything, one object at a time.
    pub(crate) fn batch(&self) -> Batch {
        let tables: [Vec<ObjectKey>; 17] = [
            keys(&self.destination_rules),
            keys(&self.envoy_filters),
            keys(&self.gateways),
            keys(&self.namespaces),
            keys(&self.nodes),
            keys(&self.peer_authentications),
            keys(&self.pods),
            keys(&self.proxy_configs),
            keys(&self.service_entries),
            keys(&self.services),
            keys(&self.sidecars),
            keys(&self.slices),
            keys(&self.traffic_extensions),
            keys(&self.virtual_services),
            keys(&self.wasm_plugins),
            keys(&self.workload_entries),
            keys(&self.workload_groups),
        ];
        let objects = tables.into_iter().flatten().map(|key| {
            let object = self.object(&key);
            (key, object)
        });
        let proxies = self.proxies.rows().into_iter().map(|(id, proxy)| (id, Some(proxy.clone())));
        let roots = self.roots.peek(&()).map(|it| (**it).clone());
        Batch { objects: objects.collect(), proxies: proxies.collect(), roots }
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![
            &self.mesh,
            &self.destination_rules,
            &self.envoy_filters,
            &self.gateways,
            &self.namespaces,
            &self.nodes,
            &self.peer_authentications,
            &self.pods,
            &self.proxy_configs,
            &self.service_entries,
            &self.services,
            &self.sidecars,
            &self.slices,
            &self.traffic_extensions,
            &self.virtual_services,
            &self.wasm_plugins,
            &self.workload_entries,
            &self.workload_groups,
            &self.proxies,
            &self.allocations,
            &self.roots,
        ]
    }
}

fn one<T: Clone>(table: &Objects<T>, key: &ObjectKey, spec: fn(T) -> Spec) -> Option<Object> {
    let Stored { meta, spec: value } = (**table.peek(key)?).clone();
    Some(Object { key: key.clone(), meta, spec: spec(value) })
}

fn keys<T>(table: &Objects<T>) -> Vec<ObjectKey> {
    table.rows().into_keys().collect()
}
