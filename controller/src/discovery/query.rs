//! What the debug pages ask the loop, and what it answers.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use xds::{Resource, TypeUrl};

/// The namespace of a proxy, and all it has by type.
pub(crate) type Dump = (String, Vec<(TypeUrl, Vec<Arc<Resource>>)>);

#[derive(Debug)]
pub(crate) enum Query {
    Proxies(oneshot::Sender<Vec<ProxyRow>>),
    /// Of one proxy, by `POD.NAMESPACE` or its node id; `None` if it is not connected.
    Resources {
        proxy: String,
        answer: oneshot::Sender<Option<Dump>>,
    },
    /// Everything that is wrong, one sentence each.
    Problems(oneshot::Sender<Vec<String>>),
}

/// A connected proxy, as `/debug/syncz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProxyRow {
    pub(crate) node: String,
    pub(crate) namespace: String,
    /// Of Envoy.
    pub(crate) version: String,
    pub(crate) connected_seconds: u64,
    /// The version last accepted, by type.
    pub(crate) acked: BTreeMap<&'static str, String>,
    /// Why the last response was refused, by type.
    pub(crate) refused: BTreeMap<&'static str, String>,
}
