//! `extensions.istio.io`: <https://istio.io/latest/docs/reference/config/proxy_extensions/>. Field names are Istio's.

use crate::networking::{MatchLabels, PortSelector, TargetReference};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// WasmPlugin: the older way to say what a [`TrafficExtension`] says.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WasmPlugin {
    pub selector: Option<MatchLabels>,
    pub target_ref: Option<TargetReference>,
    pub target_refs: Vec<TargetReference>,
    pub url: String,
    pub sha256: String,
    pub image_pull_policy: PullPolicy,
    pub image_pull_secret: String,
    pub verification_key: String,
    pub plugin_config: Option<Map<String, Value>>,
    pub plugin_name: String,
    pub phase: Phase,
    pub priority: Option<i32>,
    pub fail_strategy: FailStrategy,
    pub vm_config: VmConfig,
    pub r#match: Vec<TrafficSelector>,
    pub r#type: PluginType,
}

impl WasmPlugin {
    pub fn extension(&self) -> TrafficExtension {
        TrafficExtension {
            selector: self.selector.clone(),
            target_refs: self.target_ref.iter().chain(&self.target_refs).cloned().collect(),
            phase: self.phase,
            priority: self.priority,
            r#match: self.r#match.clone(),
            wasm: Some(Wasm {
                url: self.url.clone(),
                sha256: self.sha256.clone(),
                image_pull_policy: self.image_pull_policy,
                image_pull_secret: self.image_pull_secret.clone(),
                verification_key: self.verification_key.clone(),
                plugin_config: self.plugin_config.clone(),
                plugin_name: self.plugin_name.clone(),
                fail_strategy: self.fail_strategy,
                vm_config: self.vm_config.clone(),
                r#type: self.r#type,
            }),
            lua: None,
        }
    }
}

/// A filter of the user's in the chains of its proxies. Exactly one of `wasm` and `lua` is set.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficExtension {
    /// Absent: the whole namespace, or in the root namespace the whole mesh.
    pub selector: Option<MatchLabels>,
    pub target_refs: Vec<TargetReference>,
    pub phase: Phase,
    /// Higher ones come first; absent is the lowest.
    pub priority: Option<i32>,
    /// Empty: all traffic.
    pub r#match: Vec<TrafficSelector>,
    pub wasm: Option<Wasm>,
    pub lua: Option<Lua>,
}

#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Wasm {
    /// `file://`, `http://`, `https://` or `oci://`; without a scheme an image.
    pub url: String,
    pub sha256: String,
    pub image_pull_policy: PullPolicy,
    pub image_pull_secret: String,
    /// Istio does not read it either.
    pub verification_key: String,
    pub plugin_config: Option<Map<String, Value>>,
    pub plugin_name: String,
    pub fail_strategy: FailStrategy,
    pub vm_config: VmConfig,
    pub r#type: PluginType,
}

impl Wasm {
    /// Whether the module is not a file of the proxy's.
    pub fn is_remote(&self) -> bool {
        !self.url.starts_with("file://")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lua {
    pub inline_code: String,
}

/// Where among the filters: before what authenticates, before what authorizes, before what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    Authn,
    Authz,
    Stats,
    /// After all the others.
    #[default]
    #[serde(alias = "UNSPECIFIED_PHASE")]
    Unspecified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
pub enum PullPolicy {
    #[default]
    #[serde(rename = "UNSPECIFIED_POLICY")]
    Unspecified,
    IfNotPresent,
    Always,
}

/// What becomes of traffic when the module cannot be had, or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailStrategy {
    #[default]
    FailClose,
    FailOpen,
    FailReload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PluginType {
    /// HTTP.
    #[default]
    #[serde(rename = "UNSPECIFIED_PLUGIN_TYPE")]
    Unspecified,
    Http,
    Network,
}

/// Both parts must match; what is absent matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrafficSelector {
    pub mode: WorkloadMode,
    pub ports: Vec<PortSelector>,
}

/// On which side of a call the workload is. Gateways are clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Both.
    #[default]
    Undefined,
    Client,
    Server,
    ClientAndServer,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VmConfig {
    pub env: Vec<EnvVar>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    pub name: String,
    pub value_from: EnvValueSource,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EnvValueSource {
    #[default]
    Inline,
    /// The proxy's own environment.
    Host,
}
