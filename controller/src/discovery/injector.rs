//! Keeps the injector's configuration as the ConfigMaps say it; a broken one leaves the last good one in force.

use super::environment::NativeSidecars;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use webhook::inject::{Config, NativeSidecars as Injected, Options, ProxyConfigs, Texts};

/// How often the kubelets' versions are looked at: they change with upgrades of nodes.
const KUBELETS: Duration = Duration::from_secs(60);

/// What to read.
pub(crate) struct Injector {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// `istio-sidecar-injector`, or with `-REVISION`.
    pub(crate) config_map: String,
    /// `istio`, or with `-REVISION`.
    pub(crate) mesh_config_map: String,
    pub(crate) options: Options,
    pub(crate) native_sidecars: NativeSidecars,
    /// `None` until they have been read: a pod that came before would go without.
    pub(crate) proxy_configs: watch::Receiver<Option<Arc<ProxyConfigs>>>,
}

/// The texts of both ConfigMaps, and all ProxyConfigs, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    config: Option<String>,
    values: Option<String>,
    mesh: Option<String>,
    proxy_configs: Option<Arc<ProxyConfigs>>,
}

enum Event {
    ConfigMap { name: String, data: BTreeMap<String, String> },
    Kubelets(Option<String>),
    ProxyConfigs(Arc<ProxyConfigs>),
}

impl Injector {
    /// Runs until nobody reads. The channel comes when the injector's ConfigMap has been read for the first time.
    pub(crate) async fn keep(self, first: oneshot::Sender<watch::Receiver<Arc<Config>>>) {
        let mut first = Some(first);
        let mut configs: Option<watch::Sender<Arc<Config>>> = None;
        let mut seen = Seen::default();
        let mut options = self.options.clone();
        let maps = stream::select(self.config_map(&self.config_map), self.config_map(&self.mesh_config_map));
        let others = stream::select(self.kubelets(), self.proxy_configs());
        let mut events = stream::select(maps, others).boxed();
        while let Some(event) = events.next().await {
            let before = (seen.clone(), options.native_sidecars);
            match event {
                Event::ConfigMap { name, data } => self.take(&name, data, &mut seen),
                Event::Kubelets(lowest) => options.native_sidecars = Injected::auto(lowest.as_deref()),
                Event::ProxyConfigs(configs) => seen.proxy_configs = Some(configs),
            }
            let same = before == (seen.clone(), options.native_sidecars);
            let Some(config) = self.config(&seen, &options).filter(|_| !same) else { continue };
            if let Some(configs) = &configs {
                if configs.send(config).is_err() {
                    return;
                }
                continue;
            }
            let (sender, receiver) = watch::channel(config);
            configs = Some(sender);
            if first.take().is_none_or(|it| it.send(receiver).is_err()) {
                return;
            }
        }
    }

    fn config(&self, seen: &Seen, options: &Options) -> Option<Arc<Config>> {
        let (config, proxy_configs) = (Some(seen.config.as_deref()?), seen.proxy_configs.clone()?);
        let texts = Texts { config, values: seen.values.as_deref(), mesh: seen.mesh.as_deref() };
        match Config::new(texts, options.clone()) {
            Ok(config) => Some(Arc::new(config.with_proxy_configs(proxy_configs))),
            Err(why) => {
                let config_map = &self.config_map;
                tracing::error!(config_map, "injection goes on with the last good configuration: {why}");
                None
            }
        }
    }

    fn take(&self, name: &str, mut data: BTreeMap<String, String>, seen: &mut Seen) {
        if name == self.config_map {
            seen.config = Some(data.remove("config").unwrap_or_default());
            seen.values = data.remove("values");
        } else if name == self.mesh_config_map {
            seen.mesh = data.remove("mesh");
        }
    }

    /// What it holds, whenever it changes. When it is gone its last content counts: pods that are created now must not
    /// lose their proxies by it.
    fn config_map(&self, name: &str) -> impl stream::Stream<Item = Event> + use<> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let events = watcher(api, config).default_backoff();
        events.filter_map(async |event| match event.ok()? {
            watcher::Event::Apply(map) | watcher::Event::InitApply(map) => {
                Some(Event::ConfigMap { name: map.name_any(), data: map.data.unwrap_or_default() })
            }
            watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_) => None,
        })
    }

    /// All of them, whenever one changes.
    fn proxy_configs(&self) -> impl stream::Stream<Item = Event> + use<> {
        let mut configs = self.proxy_configs.clone();
        configs.mark_changed();
        stream::unfold(configs, async |mut configs| {
            configs.changed().await.ok()?;
            let current = configs.borrow_and_update().clone();
            Some((current, configs))
        })
        .filter_map(async |it| it.map(Event::ProxyConfigs))
    }

    /// The lowest kubelet version, as often as it is looked at; never, if it does not matter.
    fn kubelets(&self) -> impl stream::Stream<Item = Event> + use<> {
        let mut ticks = tokio::time::interval(KUBELETS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let api: Api<Node> = Api::all(self.client.clone());
        let auto = self.native_sidecars == NativeSidecars::Auto;
        stream::unfold((ticks, api), async |(mut ticks, api)| {
            ticks.tick().await;
            let nodes = api.list(&ListParams::default()).await.map(|it| it.items).unwrap_or_default();
            Some((nodes, (ticks, api)))
        })
        .filter(move |nodes| std::future::ready(auto && !nodes.is_empty()))
        .map(|nodes| Event::Kubelets(lowest(&nodes)))
    }
}

/// `v1.33.2` of the oldest node. By number: 1.9 is older than 1.33.
fn lowest(nodes: &[Node]) -> Option<String> {
    let versions = nodes.iter().filter_map(|it| Some(it.status.as_ref()?.node_info.as_ref()?.kubelet_version.clone()));
    let by_number: BTreeMap<Vec<u64>, String> = versions.map(|it| (numbers(&it), it)).collect();
    by_number.into_values().next()
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|it| it.parse().ok()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeStatus, NodeSystemInfo};

    #[test]
    fn the_oldest_kubelet_decides() {
        let node = |version: &str| Node {
            status: Some(NodeStatus {
                node_info: Some(NodeSystemInfo { kubelet_version: version.into(), ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let nodes = [node("v1.33.1"), node("v1.9.7"), node("v1.37.2-gke.1")];
        assert_eq!(lowest(&nodes).as_deref(), Some("v1.9.7"));
        assert_eq!(lowest(&[]), None);
    }
}
