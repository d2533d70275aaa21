//! Which ProxyConfigs a pod gets: they lie between the mesh's `defaultConfig` and the pod's own annotation.

use crds::Meta;
use crds::networking::ProxyConfig;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All of a cluster, or of a folder; by namespace, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfigs(BTreeMap<Arc<str>, Vec<ProxyConfig>>);

impl ProxyConfigs {
    pub fn new(objects: impl IntoIterator<Item = (Meta, ProxyConfig)>) -> Self {
        let mut sorted: Vec<_> = objects.into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| (&a.creation_timestamp, &a.name).cmp(&(&b.creation_timestamp, &b.name)));
        let mut all = Self::default();
        for (meta, config) in sorted {
            all.0.entry(meta.namespace).or_default().push(config);
        }
        all
    }

    /// What lies over `defaultConfig`, the lowest first: of the root namespace, of the pod's, and the one that selects
    /// it. At each level the oldest counts alone.
    pub fn of<'a>(
        &'a self,
        root: &str,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a ProxyConfig> {
        let all = |namespace: &str| self.0.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let whole = |namespace: &str| all(namespace).iter().find(|it| it.selector.is_none());
        let selects = |config: &ProxyConfig| {
            let wanted = config.selector.as_ref().map(|it| &it.match_labels).filter(|it| !it.is_empty());
            wanted.is_some_and(|it| it.iter().all(|(name, value)| labels.get(name) == Some(value)))
        };
        let own = (namespace != root).then(|| whole(namespace)).flatten();
        [whole(root), own, all(namespace).iter().find(|it| selects(it))].into_iter().flatten()
    }
}

/// As a part of the mesh's own ProxyConfig, whose fields have other names.
pub(super) fn fields(config: &ProxyConfig) -> Value {
    let mut fields = Map::new();
    if let Some(concurrency) = config.concurrency {
        fields.insert("concurrency".into(), concurrency.into());
    }
    if !config.environment_variables.is_empty() {
        fields.insert("proxyMetadata".into(), json!(config.environment_variables));
    }
    if let Some(image) = config.image.as_ref().filter(|it| !it.image_type.is_empty()) {
        fields.insert("image".into(), json!({ "imageType": image.image_type }));
    }
    fields.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(objects: &[(&str, &str, &str, &str)]) -> ProxyConfigs {
        ProxyConfigs::new(objects.iter().map(|(namespace, name, created, spec)| {
            let meta = Meta {
                name: (*name).into(),
                namespace: (*namespace).into(),
                creation_timestamp: (*created).into(),
                ..Meta::default()
            };
            (meta, serde_json::from_value(crds::yaml::value(spec).unwrap()).unwrap())
        }))
    }

    #[test]
    fn the_narrower_lies_over_the_wider_and_the_oldest_counts_alone() {
        let all = configs(&[
            ("istio-system", "a", "2", "{concurrency: 10}"),
            ("istio-system", "b", "1", "{concurrency: 11}"),
            ("istio-system", "c", "1", "{concurrency: 12, selector: {matchLabels: {app: cart}}}"),
            ("shop", "d", "2", "{concurrency: 20}"),
            ("shop", "e", "2", "{concurrency: 21}"),
            ("shop", "f", "2", "{concurrency: 22, selector: {matchLabels: {app: cart}}}"),
            ("shop", "g", "1", "{concurrency: 23, selector: {matchLabels: {tier: front}}}"),
            ("shop", "h", "0", "{concurrency: 24, selector: {}}"),
        ]);
        for (namespace, labels, expected) in [
            ("other", &[("app", "cart")][..], &[11][..]),
            ("istio-system", &[], &[11]),
            // A selector in the root namespace is for the pods there.
            ("istio-system", &[("app", "cart")], &[11, 12]),
            ("shop", &[("app", "web")], &[11, 20]),
            ("shop", &[("app", "cart"), ("version", "1")], &[11, 20, 22]),
            ("shop", &[("app", "cart"), ("tier", "front")], &[11, 20, 23]),
        ] {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found: Vec<_> = all.of("istio-system", namespace, &labels).filter_map(|it| it.concurrency).collect();
            assert_eq!(found, expected, "{namespace} {labels:?}");
        }
    }

    #[test]
    fn only_what_is_set_lies_over_what_is_there() {
        let of = |spec: &str| fields(&serde_json::from_value(crds::yaml::value(spec).unwrap()).unwrap());
        assert_eq!(of("{image: {}}"), json!({}));
        assert_eq!(
            of("{concurrency: 0, environmentVariables: {A: b}, image: {imageType: debug}}"),
            json!({"concurrency": 0, "proxyMetadata": {"A": "b"}, "image": {"imageType": "debug"}})
        );
    }
}
