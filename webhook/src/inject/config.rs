//! What injection depends on besides the pod: the two keys of the ConfigMap `istio-sidecar-injector`, the mesh's
//! configuration, and how the control plane was started.

use super::proxy_config::ProxyConfigs;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that injection reads except the pod itself. Cheap to replace, never changed in place.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) injector: Injector,
    pub(crate) values: Tree,
    pub(crate) mesh: Tree,
    pub(crate) options: Options,
    /// Users' own templates, parsed.
    pub(crate) templates: BTreeMap<String, go_template::Template>,
    pub(crate) proxy_configs: Arc<ProxyConfigs>,
}

/// How the control plane was started, as far as injected pods show it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Empty: the default revision.
    pub revision: String,
    pub native_sidecars: NativeSidecars,
    /// Istio's `COMPLIANCE_POLICY`; empty: none.
    pub compliance_policy: String,
    /// What templates may read with `env`; nothing else of the environment reaches them.
    pub environment: BTreeMap<String, String>,
}

/// What a pod gets that does not say it by annotation (`ENABLE_NATIVE_SIDECARS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NativeSidecars {
    /// The proxy is an init container that keeps running.
    Native,
    /// The proxy is a container beside the others.
    #[default]
    Container,
}

impl NativeSidecars {
    /// `auto`: native where the oldest kubelet of the cluster is 1.33 or later.
    pub fn auto(kubelet_version_lowest: Option<&str>) -> Self {
        let minor = |version: &str| {
            let mut parts = version.trim_start_matches('v').split('.');
            let major: u32 = parts.next()?.parse().ok()?;
            let minor: u32 = parts.next()?.trim_end_matches('+').parse().ok()?;
            Some((major, minor))
        };
        match kubelet_version_lowest.and_then(minor) {
            Some(version) if version >= (1, 33) => Self::Native,
            _ => Self::Container,
        }
    }
}

/// The texts that [`Config`] is made of. Absent ones count as empty: the built-in templates and Istio's defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// Key `config` of the ConfigMap `istio-sidecar-injector`.
    pub config: Option<&'a str>,
    /// Key `values` of the same ConfigMap.
    pub values: Option<&'a str>,
    /// Key `mesh` of the ConfigMap `istio`.
    pub mesh: Option<&'a str>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{key}: {reason}")]
    Yaml { key: &'static str, reason: String },
    #[error("config: template {name}: {reason}")]
    Template { name: String, reason: String },
}

impl Config {
    /// Reads the texts. An error leaves the caller with the configuration it has.
    pub fn new(texts: Texts<'_>, options: Options) -> Result<Self, ConfigError> {
        let injector: Injector = match yaml("config", texts.config)? {
            Value::Null => Injector::default(),
            value => serde_json::from_value(value)
                .map_err(|error| ConfigError::Yaml { key: "config", reason: error.to_string() })?,
        };
        let engine = super::template::engine(&options.environment);
        let parse = |(name, text): (&String, &String)| match engine.parse(name, text) {
            Ok(template) => Ok((name.clone(), template)),
            Err(error) => Err(ConfigError::Template { name: name.clone(), reason: error.to_string() }),
        };
        let templates = injector.templates.iter().map(parse).collect::<Result<_, _>>()?;
        let (values, mesh) = (Tree(yaml("values", texts.values)?), Tree(yaml("mesh", texts.mesh)?));
        Ok(Self { injector, values, mesh, options, templates, proxy_configs: Arc::default() })
    }

    /// The same configuration with these ProxyConfigs, and no others.
    pub fn with_proxy_configs(mut self, proxy_configs: Arc<ProxyConfigs>) -> Self {
        self.proxy_configs = proxy_configs;
        self
    }

    /// The same configuration for clusters whose kubelets have another age.
    pub fn with_native_sidecars(&self, native_sidecars: NativeSidecars) -> Self {
        let mut config = self.clone();
        config.options.native_sidecars = native_sidecars;
        config
    }
}

fn yaml(key: &'static str, text: Option<&str>) -> Result<Value, ConfigError> {
    crds::yaml::value(text.unwrap_or_default()).map_err(|error| ConfigError::Yaml { key, reason: error.to_string() })
}

/// The key `config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Injector {
    pub(crate) policy: Policy,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) default_templates: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) templates: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) never_inject_selector: Vec<LabelSelector>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) always_inject_selector: Vec<LabelSelector>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) injected_annotations: BTreeMap<String, String>,
}

impl Default for Injector {
    fn default() -> Self {
        Self {
            policy: Policy::Enabled,
            default_templates: vec![],
            templates: BTreeMap::new(),
            aliases: BTreeMap::new(),
            never_inject_selector: vec![],
            always_inject_selector: vec![],
            injected_annotations: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    Enabled,
    Disabled,
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A document of which only some paths are read, by Istio's names: `global.proxy.logLevel`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(pub(crate) Value);

impl Tree {
    /// Null and absent are the same.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |at, name| at.get(name)).filter(|it| !it.is_null())
    }

    /// A scalar as text; numbers and booleans as they are written.
    pub(crate) fn scalar(&self, path: &str) -> Option<String> {
        match self.get(path)? {
            Value::String(text) => Some(text.clone()),
            Value::Object(_) | Value::Array(_) => None,
            other => Some(other.to_string()),
        }
    }

    pub(crate) fn text(&self, path: &str, default: &str) -> String {
        self.scalar(path).unwrap_or_else(|| default.to_owned())
    }

    /// Empty counts as absent.
    pub(crate) fn filled(&self, path: &str) -> Option<String> {
        self.scalar(path).filter(|it| !it.is_empty())
    }

    pub(crate) fn is(&self, path: &str) -> bool {
        self.scalar(path).is_some_and(|it| it == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_are_native_where_the_oldest_kubelet_is_1_33() {
        let cases = [
            (None, NativeSidecars::Container),
            (Some("v1.32.9"), NativeSidecars::Container),
            (Some("v1.33.0"), NativeSidecars::Native),
            (Some("v1.37.1+k3s1"), NativeSidecars::Native),
            (Some("v1.33+"), NativeSidecars::Native),
            (Some("new"), NativeSidecars::Container),
        ];
        for (version, want) in cases {
            assert_eq!(NativeSidecars::auto(version), want, "{version:?}");
        }
    }

    #[test]
    fn an_absent_config_map_is_istio_s_defaults() {
        let config = Config::new(Texts::default(), Options::default()).unwrap();
        assert_eq!(config.injector.policy, Policy::Enabled);
        assert_eq!(config.values.get("global.hub"), None);
    }

    #[test]
    fn what_is_wrong_names_its_key() {
        let texts = Texts { config: Some("policy: sometimes"), ..Texts::default() };
        let error = Config::new(texts, Options::default()).unwrap_err().to_string();
        assert!(error.starts_with("config: unknown variant `sometimes`"), "{error}");
        let texts = Texts { values: Some("a: [1"), ..Texts::default() };
        assert!(Config::new(texts, Options::default()).unwrap_err().to_string().starts_with("values: line "));
    }
}
