//! What exists, whoever looks at it.

use crate::catalog::{self, Groups, Rules};
use crate::envoy_filter::{self, Compiled};
use crate::extension;
use crate::key::RuleKey;
use crate::outbound::{self};
use crate::proxy_config;
use crds::{ObjectKey, Problem};
use model::{
    Endpoints, Hostname, Locality, Namespace, Peers, Policies, Proxy, RouteRules, Service, ServiceKey, Visibility,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tables::{Commit, Dump, Table, keys_from};
use xds::{ConnectionId, Layer};

use super::inputs::Inputs;

/// What exists, whoever looks at it.
pub(crate) struct Catalog {
    policies_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) policies: Table<Namespace, Policies>,
    entries_by_service: Groups<ServiceKey, ObjectKey>,
    aliases_by_target: Groups<Hostname, ObjectKey>,
    slices_by_service: Groups<ObjectKey, ObjectKey>,
    workloads_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) sidecars_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) filters_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) patches: Table<ObjectKey, Compiled>,
    proxy_configs_by_namespace: Groups<Arc<str>, ObjectKey>,
    /// By namespace, of ProxyConfigs.
    pub(crate) passed_over: Table<Arc<str>, Vec<Problem>>,
    pub(crate) trust: Table<(), Layer>,
    pub(crate) extensions: Table<ObjectKey, extension::Compiled>,
    pub(crate) extensions_by_namespace: Groups<Arc<str>, ObjectKey>,
    localities: Table<ObjectKey, Arc<Locality>>,
    pub(crate) proxies: Table<ConnectionId, Proxy>,
    pods_by_namespace: Groups<Arc<str>, ObjectKey>,
    pub(crate) services: Table<ServiceKey, Service>,
    pub(crate) services_by_namespace: Groups<Arc<str>, ServiceKey>,
    pub(crate) services_by_pattern: Groups<Hostname, ServiceKey>,
    pub(crate) services_by_audience: Groups<Arc<str>, ServiceKey>,
    pub(crate) services_by_ip: Groups<IpAddr, ServiceKey>,
    /// The public service of a host.
    pub(crate) hosts: Table<Hostname, ServiceKey>,
    pub(crate) endpoints: Table<ServiceKey, Endpoints>,
    pub(crate) peers: Table<ServiceKey, Peers>,
    rules_by_host: Groups<RuleKey, ObjectKey>,
    pub(crate) rules_for_selected: Groups<Arc<str>, ObjectKey>,
    pub(crate) rules: Table<RuleKey, Rules>,
    pub(crate) rules_by_namespace: Groups<Arc<str>, RuleKey>,
    pub(crate) rules_by_audience: Groups<Arc<str>, RuleKey>,
    pub(crate) routes: Table<ObjectKey, RouteRules>,
    pub(crate) routes_by_host: Groups<Hostname, ObjectKey>,
    pub(crate) routes_by_gateway: Groups<String, ObjectKey>,
    pub(crate) routes_by_audience: Groups<Arc<str>, ObjectKey>,
    pub(crate) routes_of_mesh: Groups<(), ObjectKey>,
    pub(crate) routes_by_source: Groups<(), ObjectKey>,
    pub(crate) shadowed: Table<Hostname, Vec<Problem>>,
    pub(crate) unbound: Table<String, Vec<Problem>>,
    /// Hosts of VirtualServices that no service has.
    pub(crate) loose: Table<Hostname, ObjectKey>,
}

impl Catalog {
    pub(crate) fn new(c: &mut Commit) -> Self {
        Self {
            policies_by_namespace: c.table("peer_authentications_by_namespace"),
            policies: c.table("policies"),
            filters_by_namespace: c.table("envoy_filters_by_namespace"),
            patches: c.table("patches"),
            extensions: c.table("extensions"),
            extensions_by_namespace: c.table("extensions_by_namespace"),
            proxy_configs_by_namespace: c.table("proxy_configs_by_namespace"),
            passed_over: c.table("passed_over"),
            trust: c.table("trust"),
            entries_by_service: c.table("entries_by_service"),
            aliases_by_target: c.table("aliases_by_target"),
            slices_by_service: c.table("slices_by_service"),
            workloads_by_namespace: c.table("workloads_by_namespace"),
            sidecars_by_namespace: c.table("sidecars_by_namespace"),
            localities: c.table("localities"),
            proxies: c.table("known_proxies"),
            pods_by_namespace: c.table("pods_by_namespace"),
            services: c.table("services"),
            services_by_namespace: c.table("services_by_namespace"),
            services_by_pattern: c.table("services_by_pattern"),
            services_by_audience: c.table("services_by_audience"),
            services_by_ip: c.table("services_by_ip"),
            hosts: c.table("hosts"),
            endpoints: c.table("endpoints"),
            peers: c.table("peers"),
            rules_by_host: c.table("rules_by_host"),
            rules_for_selected: c.table("rules_for_selected_clients"),
            rules: c.table("rules"),
            rules_by_namespace: c.table("rules_by_namespace"),
            rules_by_audience: c.table("rules_by_audience"),
            routes: c.table("routes"),
            routes_by_host: c.table("routes_by_host"),
            routes_by_gateway: c.table("routes_by_gateway"),
            routes_by_audience: c.table("routes_by_audience"),
            routes_of_mesh: c.table("routes_of_mesh"),
            routes_by_source: c.table("routes_by_source"),
            shadowed: c.table("shadowed"),
            unbound: c.table("unbound"),
            loose: c.table("loose_hosts"),
        }
    }

    pub(crate) fn commit(&mut self, c: &mut Commit, i: &Inputs) {
        self.commit_policies(c, i);
        self.commit_patches(c, i);
        self.commit_proxy_configs(c, i);
        self.commit_services(c, i);
        self.commit_rules(c, i);
    }

    fn commit_policies(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.policies_by_namespace, &i.peer_authentications, |key, _| vec![key.namespace.clone()]);
        let own = keys_from(&self.policies_by_namespace, |namespace, _| [namespace.clone()]);
        let root = keys_from(&i.mesh, |_, mesh| [Namespace::from(mesh.root_namespace.as_str())]);
        let from = (&self.policies_by_namespace, &i.peer_authentications, &i.mesh);
        c.derive(&mut self.policies, &[&own, &root], from, catalog::policies);
    }

    fn commit_patches(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.filters_by_namespace, &i.envoy_filters, |key, _| vec![key.namespace.clone()]);
        let filters = keys_from(&i.envoy_filters, |key, _| [key.clone()]);
        c.derive(&mut self.patches, &[&filters], &i.envoy_filters, envoy_filter::compiled);
        let own = keys_from(&i.traffic_extensions, |key, _| [key.clone()]);
        let plugins = keys_from(&i.wasm_plugins, |key, _| [key.clone()]);
        let from = (&i.traffic_extensions, &i.wasm_plugins);
        c.derive(&mut self.extensions, &[&own, &plugins], from, extension::compiled);
        c.group(&mut self.extensions_by_namespace, &self.extensions, |key, _| vec![key.namespace.clone()]);
    }

    fn commit_proxy_configs(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.proxy_configs_by_namespace, &i.proxy_configs, |key, _| vec![key.namespace.clone()]);
        let namespaces = keys_from(&self.proxy_configs_by_namespace, |namespace, _| [namespace.clone()]);
        let from = (&self.proxy_configs_by_namespace, &i.proxy_configs);
        c.derive(&mut self.passed_over, &[&namespaces], from, proxy_config::passed_over);
        let roots = keys_from(&i.roots, |(), _| [()]);
        c.derive(&mut self.trust, &[&roots], (&i.roots, &i.mesh), proxy_config::trust);
    }

    fn commit_services(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.entries_by_service, &i.service_entries, catalog::services_of_entry);
        c.group(&mut self.aliases_by_target, &i.services, catalog::alias_target);
        c.group(&mut self.slices_by_service, &i.slices, catalog::service_of_slice);
        c.group(&mut self.workloads_by_namespace, &i.workload_entries, |key, _| vec![key.namespace.clone()]);
        c.group(&mut self.sidecars_by_namespace, &i.sidecars, |key, _| vec![key.namespace.clone()]);
        let nodes = keys_from(&i.nodes, |key, _| [key.clone()]);
        c.derive(&mut self.localities, &[&nodes], &i.nodes, |reads, nodes, key| {
            Some(Arc::new(model::endpoint::node_locality(&reads.get(nodes, key)?.meta)))
        });
        let proxies = keys_from(&i.proxies, |id, _| [*id]);
        c.derive(&mut self.proxies, &[&proxies], (&i.proxies, (&i.pods, &self.localities)), catalog::known_proxy);
        c.group(&mut self.pods_by_namespace, &i.pods, |key, _| vec![key.namespace.clone()]);

        let kube = keys_from(&i.services, |key, _| [catalog::service_of_kube(key)]);
        let entries = keys_from(&i.service_entries, catalog::services_of_entry);
        let from = (
            (&i.services, &i.namespaces),
            &self.entries_by_service,
            (&i.service_entries, &i.allocations),
            &self.aliases_by_target,
            &i.mesh,
        );
        c.derive(&mut self.services, &[&kube, &entries], from, catalog::service);
        c.group(&mut self.services_by_namespace, &self.services, |key, _| vec![key.namespace.clone()]);
        c.group(&mut self.services_by_pattern, &self.services, |key, _| key.host.patterns().collect());
        c.group(&mut self.services_by_audience, &self.services, |_, it| audience(&it.visibility));
        c.group(&mut self.services_by_ip, &self.services, |_, it| it.ips().collect());
        let hosts = keys_from(&self.services, |key, _| [key.host.clone()]);
        c.derive(&mut self.hosts, &[&hosts], (&self.services_by_pattern, &self.services), catalog::public_service);

        let services = keys_from(&self.services, |key, _| [key.clone()]);
        let from = (
            &self.services,
            (&self.slices_by_service, &i.slices),
            (&self.entries_by_service, &i.service_entries),
            (&self.workloads_by_namespace, &i.workload_entries),
            (&self.pods_by_namespace, (&i.pods, &self.localities)),
            (&self.policies, &i.mesh),
        );
        c.derive(&mut self.endpoints, &[&services], from, catalog::endpoints);
        // A row of its own: it seldom differs when endpoints do, and clusters depend on no more.
        c.derive(&mut self.peers, &[&services], &self.endpoints, |reads, endpoints, key| {
            Some(reads.get(endpoints, key)?.peers())
        });
    }

    fn commit_rules(&mut self, c: &mut Commit, i: &Inputs) {
        c.group(&mut self.rules_by_host, &i.destination_rules, catalog::rule_of);
        c.group(&mut self.rules_for_selected, &i.destination_rules, |key, it| {
            it.spec.workload_selector.is_some().then(|| key.namespace.clone()).into_iter().collect()
        });
        let rules = keys_from(&self.rules_by_host, |key, _| [key.clone()]);
        c.derive(&mut self.rules, &[&rules], (&self.rules_by_host, &i.destination_rules, &i.mesh), catalog::rules);
        c.group(&mut self.rules_by_namespace, &self.rules, |key, _| vec![key.namespace.clone()]);
        c.group(&mut self.rules_by_audience, &self.rules, |_, it| {
            it.merged.iter().flat_map(|rule| audience(&rule.visibility)).collect::<BTreeSet<_>>().into_iter().collect()
        });

        let routes = keys_from(&i.virtual_services, |key, _| [key.clone()]);
        c.derive(&mut self.routes, &[&routes], (&i.virtual_services, &i.mesh), catalog::route_rules);
        let mesh = |it: &RouteRules| it.binds(model::virtual_service::MESH);
        c.group(&mut self.routes_by_host, &self.routes, |_, it| if mesh(it) { it.hosts.clone() } else { vec![] });
        c.group(&mut self.routes_by_gateway, &self.routes, |_, it| it.gateways.clone());
        c.group(
            &mut self.routes_by_audience,
            &self.routes,
            |_, it| {
                if mesh(it) { audience(&it.visibility) } else { vec![] }
            },
        );
        c.group(&mut self.routes_of_mesh, &self.routes, |_, it| if mesh(it) { vec![()] } else { vec![] });
        c.group(&mut self.routes_by_source, &self.routes, |_, it| {
            if mesh(it) && it.asks_for_source() { vec![()] } else { vec![] }
        });
        let hosts = keys_from(&self.routes_by_host, |host, _| [host.clone()]);
        c.derive(&mut self.shadowed, &[&hosts], (&self.routes_by_host, &self.routes), outbound::shadowed);
        let gateways = keys_from(&self.routes_by_gateway, |name, _| [name.clone()]);
        c.derive(&mut self.unbound, &[&gateways], (&self.routes_by_gateway, &i.gateways), outbound::unbound);
        let from = (&self.routes_by_host, &self.routes, &self.services_by_pattern);
        c.derive(&mut self.loose, &[&hosts], from, outbound::loose_host);
    }

    pub(crate) fn tables(&self) -> Vec<&dyn Dump> {
        vec![
            &self.policies_by_namespace,
            &self.policies,
            &self.filters_by_namespace,
            &self.patches,
            &self.proxy_configs_by_namespace,
            &self.passed_over,
            &self.trust,
            &self.extensions,
            &self.extensions_by_namespace,
            &self.entries_by_service,
            &self.aliases_by_target,
            &self.slices_by_service,
            &self.workloads_by_namespace,
            &self.sidecars_by_namespace,
            &self.localities,
            &self.proxies,
            &self.pods_by_namespace,
            &self.services,
            &self.services_by_namespace,
            &self.services_by_pattern,
            &self.services_by_audience,
            &self.services_by_ip,
            &self.hosts,
            &self.endpoints,
            &self.peers,
            &self.rules_by_host,
            &self.rules_for_selected,
            &self.rules,
            &self.rules_by_namespace,
            &self.rules_by_audience,
            &self.routes,
            &self.routes_by_host,
            &self.routes_by_gateway,
            &self.routes_by_audience,
            &self.routes_of_mesh,
            &self.routes_by_source,
            &self.shadowed,
            &self.unbound,
            &self.loose,
        ]
    }
}

/// The namespaces that a private object is for.
fn audience(visibility: &Visibility) -> Vec<Arc<str>> {
    match visibility {
        Visibility::Public => vec![],
        Visibility::Only(names) => names.iter().cloned().collect(),
    }
}
