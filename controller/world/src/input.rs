//! The one door in: batches of objects and proxies, sorted into input tables.

use crds::{Kind, Meta, Object, ObjectKey, Spec, extensions as x, kube, networking as n, security as s};
use model::Proxy;
use xds::ConnectionId;

/// What changed, in any order; `None` removes.
#[derive(Default, Debug)]
pub struct Batch {
    pub objects: Vec<(ObjectKey, Option<Object>)>,
    pub proxies: Vec<(ConnectionId, Option<Proxy>)>,
    /// The CA's roots, as PEM, when they have changed.
    pub roots: Option<String>,
}

/// An object as a table keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    pub meta: Meta,
    pub spec: T,
}

pub(crate) type Rows<T> = Vec<(ObjectKey, Option<Stored<T>>)>;

/// A batch by kind. Kinds that decide nothing in the mesh (Deployments) are dropped here.
#[derive(Default)]
pub(crate) struct Sorted {
    pub(crate) config_maps: Rows<kube::ConfigMap>,
    pub(crate) destination_rules: Rows<n::DestinationRule>,
    pub(crate) envoy_filters: Rows<n::EnvoyFilter>,
    pub(crate) gateways: Rows<n::Gateway>,
    pub(crate) namespaces: Rows<()>,
    pub(crate) nodes: Rows<()>,
    pub(crate) peer_authentications: Rows<s::PeerAuthentication>,
    pub(crate) pods: Rows<kube::Pod>,
    pub(crate) proxy_configs: Rows<n::ProxyConfig>,
    pub(crate) service_entries: Rows<n::ServiceEntry>,
    pub(crate) services: Rows<kube::Service>,
    pub(crate) sidecars: Rows<n::Sidecar>,
    pub(crate) slices: Rows<kube::EndpointSlice>,
    pub(crate) traffic_extensions: Rows<x::TrafficExtension>,
    pub(crate) virtual_services: Rows<n::VirtualService>,
    pub(crate) wasm_plugins: Rows<x::WasmPlugin>,
    pub(crate) workload_entries: Rows<n::WorkloadEntry>,
    pub(crate) workload_groups: Rows<n::WorkloadGroup>,
}

impl Sorted {
    pub(crate) fn new(objects: Vec<(ObjectKey, Option<Object>)>) -> Self {
        let mut sorted = Self::default();
        for (key, object) in objects {
            match object {
                Some(object) => sorted.add(key, object),
                None => sorted.remove(key),
            }
        }
        sorted
    }

    fn add(&mut self, key: ObjectKey, Object { meta, spec, .. }: Object) {
        fn put<T>(rows: &mut Rows<T>, key: ObjectKey, meta: Meta, spec: T) {
            rows.push((key, Some(Stored { meta, spec })));
        }
        match spec {
            Spec::ConfigMap(spec) => put(&mut self.config_maps, key, meta, spec),
            Spec::DestinationRule(spec) => put(&mut self.destination_rules, key, meta, *spec),
            Spec::EndpointSlice(spec) => put(&mut self.slices, key, meta, spec),
            Spec::EnvoyFilter(spec) => put(&mut self.envoy_filters, key, meta, *spec),
            Spec::Gateway(spec) => put(&mut self.gateways, key, meta, spec),
            Spec::Namespace => put(&mut self.namespaces, key, meta, ()),
            Spec::Node => put(&mut self.nodes, key, meta, ()),
            Spec::PeerAuthentication(spec) => put(&mut self.peer_authentications, key, meta, spec),
            Spec::Pod(spec) => put(&mut self.pods, key, meta, spec),
            Spec::ProxyConfig(spec) => put(&mut self.proxy_configs, key, meta, spec),
            Spec::Service(spec) => put(&mut self.services, key, meta, spec),
            Spec::ServiceEntry(spec) => put(&mut self.service_entries, key, meta, spec),
            Spec::Sidecar(spec) => put(&mut self.sidecars, key, meta, *spec),
            Spec::TrafficExtension(spec) => put(&mut self.traffic_extensions, key, meta, *spec),
            Spec::VirtualService(spec) => put(&mut self.virtual_services, key, meta, spec),
            Spec::WasmPlugin(spec) => put(&mut self.wasm_plugins, key, meta, *spec),
            Spec::WorkloadEntry(spec) => put(&mut self.workload_entries, key, meta, spec),
            Spec::WorkloadGroup(spec) => put(&mut self.workload_groups, key, meta, *spec),
            Spec::Deployment(_) => {}
        }
    }

    fn remove(&mut self, key: ObjectKey) {
        match key.kind {
            Kind::ConfigMap => self.config_maps.push((key, None)),
            Kind::DestinationRule => self.destination_rules.push((key, None)),
            Kind::EndpointSlice => self.slices.push((key, None)),
            Kind::EnvoyFilter => self.envoy_filters.push((key, None)),
            Kind::Gateway => self.gateways.push((key, None)),
            Kind::Namespace => self.namespaces.push((key, None)),
            Kind::Node => self.nodes.push((key, None)),
            Kind::PeerAuthentication => self.peer_authentications.push((key, None)),
            Kind::Pod => self.pods.push((key, None)),
            Kind::ProxyConfig => self.proxy_configs.push((key, None)),
            Kind::Service => self.services.push((key, None)),
            Kind::ServiceEntry => self.service_entries.push((key, None)),
            Kind::Sidecar => self.sidecars.push((key, None)),
            Kind::TrafficExtension => self.traffic_extensions.push((key, None)),
            Kind::VirtualService => self.virtual_services.push((key, None)),
            Kind::WasmPlugin => self.wasm_plugins.push((key, None)),
            Kind::WorkloadEntry => self.workload_entries.push((key, None)),
            Kind::WorkloadGroup => self.workload_groups.push((key, None)),
            Kind::Deployment | Kind::Unread(_) => {}
        }
    }
}
