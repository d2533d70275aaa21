//! Istio's `ProxyConfig`, as far as an agent acts on it. The whole of it goes to the control plane in the node's
//! metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::text;

/// One proxy's settings: the mesh's defaults, `PROXY_CONFIG`, the pod's annotation, each over the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// Where Envoy's bootstrap is written, `./etc/istio/proxy`.
    pub config_path: String,
    /// Envoy itself.
    pub binary_path: String,
    /// `host:port` of the control plane.
    pub discovery_address: String,
    /// `istio-proxy` unless named.
    pub service_cluster: String,
    /// Until Envoy has drained a listener.
    pub drain_duration: Duration,
    /// Until Envoy is ended.
    pub termination_drain_duration: Duration,
    /// Envoy's admin.
    pub admin_port: u16,
    /// The agent's own.
    pub status_port: u16,
    /// Worker threads; `Some(0)` is one for each CPU.
    pub concurrency: Option<u32>,
    /// Envoy's longest name of a statistic.
    pub stat_name_length: u32,
    /// `NONE`: no TLS to the control plane.
    pub control_plane_auth: ControlPlaneAuth,
    /// Envoy's runtime; an empty text removes a key.
    pub runtime_values: BTreeMap<String, String>,
    /// What is counted beside Istio's list.
    pub stats: StatsMatcher,
    /// Further tags of `istio_…` metrics.
    pub extra_stat_tags: Vec<String>,
    /// Variables that stand in for those of the container.
    pub metadata: BTreeMap<String, String>,
    /// All of it, as it goes into the node's metadata.
    pub json: Value,
}

/// How the control plane is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlPlaneAuth {
    /// TLS, and a token or certificate.
    MutualTls,
    /// Plaintext, for port 15010.
    None,
}

/// `proxyStatsMatcher`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsMatcher {
    /// Of the statistics' names.
    pub prefixes: Vec<String>,
    /// Of the statistics' names.
    pub suffixes: Vec<String>,
    /// Of the statistics' names.
    pub regexes: Vec<String>,
}

/// What a field holds that it cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyConfigError {
    /// Not YAML or JSON, or no object.
    #[error("{layer}: {reason}")]
    Syntax {
        /// Where it came from.
        layer: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A field of the wrong kind.
    #[error("ProxyConfig: {field}: {value} is not {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is there.
        value: String,
        /// What should be.
        expected: &'static str,
    },
}

fn defaults() -> Value {
    json!({
        "configPath": "./etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "proxyAdminPort": 15000,
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "statNameLength": 189,
        "statusPort": 15020,
        "terminationDrainDuration": "5s",
    })
}

impl ProxyConfig {
    /// From layers, the weakest first; each is YAML or JSON.
    ///
    /// # Errors
    /// A layer that cannot be read or a field of the wrong kind.
    pub fn new(layers: &[(&'static str, &str)]) -> Result<Self, ProxyConfigError> {
        let mut merged = defaults();
        for (layer, text) in layers {
            merge(&mut merged, object(layer, text)?);
        }
        Self::read(merged)
    }

    fn read(json: Value) -> Result<Self, ProxyConfigError> {
        let fields = Fields(&json);
        Ok(Self {
            config_path: fields.text("configPath")?,
            binary_path: fields.text("binaryPath")?,
            discovery_address: fields.text("discoveryAddress")?,
            service_cluster: match &json["serviceName"] {
                Value::String(name) if !name.is_empty() => name.clone(),
                _ => fields.text("serviceCluster")?,
            },
            drain_duration: fields.duration("drainDuration")?,
            termination_drain_duration: fields.duration("terminationDrainDuration")?,
            admin_port: fields.port("proxyAdminPort")?,
            status_port: fields.port("statusPort")?,
            concurrency: fields.number("concurrency")?.map(|number| u32::try_from(number).unwrap_or(0)),
            stat_name_length: fields.number("statNameLength")?.and_then(|it| u32::try_from(it).ok()).unwrap_or(189),
            control_plane_auth: match json["controlPlaneAuthPolicy"].as_str() {
                Some("NONE") => ControlPlaneAuth::None,
                _ => ControlPlaneAuth::MutualTls,
            },
            runtime_values: fields.map("runtimeValues")?,
            stats: StatsMatcher {
                prefixes: list(&json["proxyStatsMatcher"]["inclusionPrefixes"]),
                suffixes: list(&json["proxyStatsMatcher"]["inclusionSuffixes"]),
                regexes: list(&json["proxyStatsMatcher"]["inclusionRegexps"]),
            },
            extra_stat_tags: list(&json["extraStatTags"]),
            metadata: fields.map("proxyMetadata")?,
            json,
        })
    }
}

/// YAML or JSON that is an object (or nothing), its keys in protobuf's JSON form.
pub(super) fn object(layer: &'static str, text: &str) -> Result<Value, ProxyConfigError> {
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    let error = |reason: String| ProxyConfigError::Syntax { layer, reason };
    let value: Value = serde_saphyr::from_str(text).map_err(|problem| error(problem.to_string()))?;
    match value {
        Value::Null => Ok(json!({})),
        Value::Object(fields) => {
            Ok(Value::Object(fields.into_iter().map(|(key, value)| (camel(&key), value)).collect::<Map<_, _>>()))
        }
        _ => Err(error("is not an object".to_owned())),
    }
}

/// Protobuf takes a field's own name as well as its JSON name.
fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// As protobuf merges: maps and messages field by field, everything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (into, from) => *into = from,
    }
}

fn list(of: &Value) -> Vec<String> {
    of.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn error(&self, field: &'static str, expected: &'static str) -> ProxyConfigError {
        ProxyConfigError::Field { field, value: self.0[field].to_string(), expected }
    }

    fn text(&self, field: &'static str) -> Result<String, ProxyConfigError> {
        self.0[field].as_str().map(str::to_owned).ok_or_else(|| self.error(field, "a text"))
    }

    fn duration(&self, field: &'static str) -> Result<Duration, ProxyConfigError> {
        self.0[field].as_str().and_then(text::duration).ok_or_else(|| self.error(field, "a duration such as 5s"))
    }

    fn number(&self, field: &'static str) -> Result<Option<u64>, ProxyConfigError> {
        match &self.0[field] {
            Value::Null => Ok(None),
            Value::Number(number) => number.as_u64().map(Some).ok_or_else(|| self.error(field, "a number from 0")),
            Value::String(text) => text.parse().map(Some).map_err(|_| self.error(field, "a number from 0")),
            _ => Err(self.error(field, "a number from 0")),
        }
    }

    fn port(&self, field: &'static str) -> Result<u16, ProxyConfigError> {
        let number = self.number(field)?.and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| self.error(field, "a port"))
    }

    fn map(&self, field: &'static str) -> Result<BTreeMap<String, String>, ProxyConfigError> {
        let entries = match &self.0[field] {
            Value::Null => return Ok(BTreeMap::new()),
            Value::Object(entries) => entries,
            _ => return Err(self.error(field, "a map of texts")),
        };
        // YAML's `true` and `5` without quotes are common here, and what they mean is clear.
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(entries.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_maps_are_merged() {
        let config = ProxyConfig::new(&[
            ("mesh", "discoveryAddress: a:15012\nproxyMetadata:\n  A: x\n  B: true\n"),
            ("PROXY_CONFIG", r#"{"concurrency":4,"terminationDrainDuration":"30s","proxyMetadata":{"A":"y"}}"#),
            ("annotation", "status_port: 15099\nconcurrency: 0"),
        ])
        .unwrap();
        assert_eq!(config.discovery_address, "a:15012");
        assert_eq!(config.concurrency, Some(0));
        assert_eq!(config.termination_drain_duration, Duration::from_secs(30));
        assert_eq!(config.status_port, 15099);
        assert_eq!(config.admin_port, 15000);
        let metadata = [("A", "y"), ("B", "true")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(config.metadata, BTreeMap::from(metadata));
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (text, expected) in [
            ("- a", "PROXY_CONFIG: is not an object"),
            ("drainDuration: 5", "drainDuration: 5 is not a duration"),
            ("statusPort: 70000", "statusPort: 70000 is not a port"),
            ("proxyMetadata: 5", "proxyMetadata: 5 is not a map"),
        ] {
            let error = ProxyConfig::new(&[("PROXY_CONFIG", text)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
