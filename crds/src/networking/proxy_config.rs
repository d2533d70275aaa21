//! ProxyConfig: <https://istio.io/latest/docs/reference/config/networking/proxy-config/>. It lies over `defaultConfig`
//! of the mesh, which is [`crate::mesh_config::ProxyConfig`].

use super::MatchLabels;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Absent: the whole namespace, or in the root namespace the whole mesh.
    pub selector: Option<MatchLabels>,
    /// Threads of Envoy; 0: as many as the machine has processors.
    pub concurrency: Option<i32>,
    pub environment_variables: BTreeMap<String, String>,
    pub image: Option<ProxyImage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyImage {
    /// `default`, `debug` or `distroless`: what the image's tag ends with.
    pub image_type: String,
}
