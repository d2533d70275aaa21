//! The cluster's namespaces and ConfigMaps.
use std::collections::BTreeMap;

use ::kube::api::PostParams;
use ::kube::core::{ObjectMeta, PartialObjectMeta};
use ::kube::runtime::{WatchStreamExt as _, watcher};
use ::kube::{Api, Client};
use futures::future::BoxFuture;
use futures::stream::{Stream, StreamExt as _, select};
use futures::{FutureExt as _, future};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};

use super::{CONFIG_MAP, CONFIG_MAP_KEY, Event, Kind, Phase, Writer};

/// All namespaces, and the ConfigMaps of our name. Broken watches are begun again, with growing pauses.
pub fn watch_cluster(client: Client) -> impl Stream<Item = Event> + Send {
    let namespaces = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watcher::Config::default());
    let namespaces = namespaces.default_backoff().filter_map(|event| {
        future::ready(match event {
            Ok(event) => namespace_event(event),
            Err(error) => {
                tracing::warn!(target: "ca::roots", %error, "namespaces cannot be watched at the moment");
                None
            }
        })
    });
    let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let config_maps = watcher(Api::<ConfigMap>::all(client), config).default_backoff().filter_map(|event| {
        future::ready(match event {
            Ok(event) => config_map_event(event),
            Err(error) => {
                tracing::warn!(target: "ca::roots", %error, "ConfigMaps cannot be watched at the moment");
                None
            }
        })
    });
    select(namespaces, config_maps)
}

fn namespace_event(event: watcher::Event<PartialObjectMeta<Namespace>>) -> Option<Event> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Init => Some(Event::Relisting(Kind::Namespaces)),
        InitDone => Some(Event::Listed(Kind::Namespaces)),
        Apply(object) | InitApply(object) => {
            // A namespace is terminating from its deletion timestamp on.
            let terminating = object.metadata.deletion_timestamp.is_some();
            let phase = if terminating { Phase::Terminating } else { Phase::Active };
            Some(Event::Namespace { name: object.metadata.name?, phase })
        }
        Delete(object) => Some(Event::NamespaceGone { name: object.metadata.name? }),
    }
}

fn config_map_event(event: watcher::Event<ConfigMap>) -> Option<Event> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Init => Some(Event::Relisting(Kind::ConfigMaps)),
        InitDone => Some(Event::Listed(Kind::ConfigMaps)),
        Apply(object) | InitApply(object) => {
            let root = object.data.and_then(|mut data| data.remove(CONFIG_MAP_KEY));
            Some(Event::ConfigMap { namespace: object.metadata.namespace?, root })
        }
        Delete(object) => Some(Event::ConfigMapGone { namespace: object.metadata.namespace? }),
    }
}

/// Writes with get, create and update, the verbs of Istio's own role.
#[derive(Clone)]
pub struct KubeRoots {
    client: Client,
}

impl KubeRoots {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn put(&self, namespace: &str, root: &str) -> Result<(), ::kube::Error> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        match api.get_opt(CONFIG_MAP).await? {
            Some(mut found) => {
                // The version it was read with stays in it: an edit in between is a conflict, and the watch tells of it.
                found.data.get_or_insert_default().insert(CONFIG_MAP_KEY.to_owned(), root.to_owned());
                found.metadata.managed_fields = None;
                found.metadata.labels.get_or_insert_default().extend(labels());
                api.replace(CONFIG_MAP, &PostParams::default(), &found).await.map(drop)
            }
            None => {
                let made = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(CONFIG_MAP.to_owned()),
                        namespace: Some(namespace.to_owned()),
                        labels: Some(labels()),
                        ..ObjectMeta::default()
                    },
                    data: Some(BTreeMap::from([(CONFIG_MAP_KEY.to_owned(), root.to_owned())])),
                    ..ConfigMap::default()
                };
                api.create(&PostParams::default(), &made).await.map(drop)
            }
        }
    }
}

impl Writer for KubeRoots {
    fn write<'a>(&'a self, namespace: &'a str, root: &'a str) -> BoxFuture<'a, Result<(), String>> {
        async move { self.put(namespace, root).await.map_err(|error| error.to_string()) }.boxed()
    }
}

/// Istio's, by which it finds its own ConfigMaps.
fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("istio.io/config".to_owned(), "true".to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeApi;
    use serde_json::json;

    #[test]
    fn watched_objects_become_events() {
        let namespace = |deleted: bool| {
            let text = deleted.then_some("2026-01-01T00:00:00Z");
            let metadata = json!({"name": "a", "deletionTimestamp": text});
            serde_json::from_value::<PartialObjectMeta<Namespace>>(json!({"metadata": metadata})).unwrap()
        };
        let event = |phase| Some(Event::Namespace { name: "a".to_owned(), phase });
        assert_eq!(namespace_event(watcher::Event::Apply(namespace(false))), event(Phase::Active));
        assert_eq!(namespace_event(watcher::Event::InitApply(namespace(true))), event(Phase::Terminating));
        let gone = Some(Event::NamespaceGone { name: "a".to_owned() });
        assert_eq!(namespace_event(watcher::Event::Delete(namespace(true))), gone);
        let map = json!({"metadata": {"name": CONFIG_MAP, "namespace": "a"}, "data": {CONFIG_MAP_KEY: "root"}});
        let map: ConfigMap = serde_json::from_value(map).unwrap();
        let event = Event::ConfigMap { namespace: "a".to_owned(), root: Some("root".to_owned()) };
        assert_eq!(config_map_event(watcher::Event::Apply(map.clone())), Some(event));
        let gone = Some(Event::ConfigMapGone { namespace: "a".to_owned() });
        assert_eq!(config_map_event(watcher::Event::Delete(map)), gone);
        assert_eq!(config_map_event(watcher::Event::InitDone), Some(Event::Listed(Kind::ConfigMaps)));
    }

    #[tokio::test]
    async fn s29_the_config_map_is_made_and_repaired_and_the_rest_of_it_left() {
        let api = FakeApi::default();
        let writer = KubeRoots::new(api.client());
        writer.write("default", "root").await.unwrap();
        let path = "/api/v1/namespaces/default/configmaps/istio-ca-root-cert";
        assert_eq!(api.object(path).unwrap()["data"], json!({"root-cert.pem": "root"}));
        assert_eq!(api.object(path).unwrap()["metadata"]["labels"], json!({"istio.io/config": "true"}));
        api.change(path, |map| map["data"] = json!({"root-cert.pem": "evil", "other": "x"}));
        writer.write("default", "root").await.unwrap();
        assert_eq!(api.object(path).unwrap()["data"], json!({"other": "x", "root-cert.pem": "root"}));
        api.fail();
        assert!(writer.write("default", "root").await.is_err());
        assert_eq!(api.verbs(), ["GET", "POST", "GET", "PUT", "GET"]);
    }
}
