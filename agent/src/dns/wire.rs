//! istiod's name table as it comes over xDS (`istio.networking.nds.v1`). Field numbers as in Istio's nds.proto.

use std::collections::BTreeMap;

/// The resource's type in xDS.
pub const TYPE_URL: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";

/// All names a proxy may resolve.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameTable {
    /// By host name.
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
}

/// What a name resolves to.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NameInfo {
    /// Its addresses, both families.
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// `Kubernetes` or `External`.
    #[prost(string, tag = "2")]
    pub registry: String,
    /// The Service's name, in Kubernetes.
    #[prost(string, tag = "3")]
    pub shortname: String,
    /// The Service's namespace, in Kubernetes.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Deprecated in Istio; read all the same.
    #[prost(string, repeated, tag = "5")]
    pub alt_hosts: Vec<String>,
}
