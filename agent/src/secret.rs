//! Envoy's certificates over the Unix socket (`envoy.service.secret.v3`): `default` and `ROOTCA` of this workload, and
//! certificates in files by their names. A name nobody knows is not answered, and holds up nothing else.

mod resource;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use tokio::sync::watch;

use crate::certificate::Workload;

pub(crate) use serve::bind;
pub use serve::{Claim, claim, serve};

/// The type of all that is served here.
pub const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// What secrets are made of. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    /// The workload's certificate.
    pub workload: watch::Receiver<Option<Arc<Workload>>>,
    /// Further roots, from the control plane: PEM texts.
    pub trust: watch::Receiver<Arc<Vec<String>>>,
    /// What names of files are relative to.
    pub directory: PathBuf,
}

/// A secret, and a number that differs when it does.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) version: u64,
    pub(crate) body: Any,
}

/// Those of `names` that can be had now.
pub(crate) fn resources<'a>(
    source: &Source,
    names: impl IntoIterator<Item = &'a String>,
) -> BTreeMap<String, Resource> {
    let workload = source.workload.borrow().clone();
    let trust = source.trust.borrow().clone();
    let one = |name: &String| Some((name.clone(), resource::resource(source, workload.as_deref(), &trust, name)?));
    names.into_iter().filter_map(one).collect()
}
