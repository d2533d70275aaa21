//! `security.istio.io`: <https://istio.io/latest/docs/reference/config/security/>. Field names are Istio's.

use crate::networking::MatchLabels;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// PeerAuthentication: <https://istio.io/latest/docs/reference/config/security/peer_authentication/>.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    /// Absent: the whole namespace, or in the root namespace the whole mesh.
    pub selector: Option<MatchLabels>,
    pub mtls: MutualTls,
    /// By the port that the workload listens on, as text: keys of YAML maps are.
    pub port_level_mtls: BTreeMap<String, MutualTls>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MutualTls {
    pub mode: MutualTlsMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MutualTlsMode {
    /// Whatever the level above says.
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}
