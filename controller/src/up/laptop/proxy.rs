//! What the mesh, ProxyConfigs and a pod's annotation say of its Envoy, as far as it means something without a container:
//! threads, and the node's metadata. Istio's order, which injection has from the same place.

use super::{Objects, Plan};
use crds::Spec;
use crds::mesh_config::{MeshConfig, ProxyConfig};
use std::collections::BTreeMap;
use webhook::inject::ProxyConfigs;

/// Variables of a proxy that become metadata of its node, under the rest of their names.
const META: &str = "ISTIO_META_";

/// The pod's own ProxyConfig.
const ANNOTATION: &str = "proxy.istio.io/config";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    pub threads: Threads,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// One is enough for one person's requests, and a mesh has many Envoys.
    #[default]
    One,
    Exactly(u32),
    /// As many as there are processors.
    OfMachine,
}

/// Where the settings of all workloads come from.
pub(super) struct Origin {
    mesh: MeshConfig,
    configs: ProxyConfigs,
}

impl Origin {
    pub(super) fn new(plan: &Plan) -> Self {
        let configs = plan.objects.values().filter_map(|it| match &it.spec {
            Spec::ProxyConfig(config) => Some((it.meta.clone(), config.clone())),
            _ => None,
        });
        Self { mesh: mesh_config(&plan.objects), configs: ProxyConfigs::new(configs) }
    }

    pub(super) fn settings(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> ProxySettings {
        let mut concurrency = self.mesh.default_config.concurrency;
        let mut variables = self.mesh.default_config.proxy_metadata.clone();
        for config in self.configs.of(&self.mesh.root_namespace, namespace, labels) {
            concurrency = config.concurrency.and_then(|it| it.try_into().ok()).or(concurrency);
            variables.extend(config.environment_variables.clone());
        }
        let own = annotations.get(ANNOTATION).and_then(|it| crds::yaml::value(it).ok());
        if let Some(own) = own.and_then(|it| serde_json::from_value::<ProxyConfig>(it).ok()) {
            concurrency = own.concurrency.or(concurrency);
            variables.extend(own.proxy_metadata);
        }
        let metadata = variables.into_iter().filter_map(|(name, value)| Some((name.strip_prefix(META)?.into(), value)));
        let threads = match concurrency {
            None => Threads::One,
            Some(0) => Threads::OfMachine,
            Some(threads) => Threads::Exactly(threads),
        };
        ProxySettings { threads, metadata: metadata.collect() }
    }
}

/// Of the folder; Istio's defaults if it has none.
pub(super) fn mesh_config(objects: &Objects) -> MeshConfig {
    let is_config =
        |it: &&crds::Object| matches!(it.spec, Spec::ConfigMap(_)) && crds::mesh_config::is_mesh_config_map(&it.meta);
    let defaults = MeshConfig::default();
    match objects.values().find(is_config) {
        Some(config) => crds::decode::mesh_config_map(config, &defaults).0,
        None => defaults,
    }
}
