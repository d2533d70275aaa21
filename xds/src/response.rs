//! A response: a few fields of the stream's own and encoded resources shared with all other streams.

use crate::{Resource, Version, envoy};
use bytes::Bytes;
use prost::Message;
use std::{borrow::Cow, sync::Arc};

/// One response, ready to be sent.
///
/// On the wire it is `own` and then `shared`. Protobuf lets the fields of a message come in any order, so the
/// two need not be encoded as one.
#[derive(Clone, Debug)]
pub struct Response {
    pub type_url: Cow<'static, str>,
    pub nonce: String,
    pub version: String,
    /// The names of the resources in it.
    pub names: Vec<Arc<str>>,
    /// The names in `removed_resources`.
    pub removed: Vec<Arc<str>>,
    pub own: Vec<u8>,
    pub shared: Vec<Bytes>,
}

impl Response {
    pub(crate) fn delta(
        type_url: Cow<'static, str>,
        nonce: String,
        salt: u64,
        resources: &[&Arc<Resource>],
        removed: Vec<Arc<str>>,
    ) -> Self {
        let gone = removed.iter().map(|name| Version::of(name.as_bytes()).and(Version(0)));
        let version = version(resources, gone, salt);
        let own = envoy::DeltaDiscoveryResponse {
            system_version_info: version.clone(),
            type_url: type_url.clone().into_owned(),
            nonce: nonce.clone(),
            removed_resources: removed.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let mut shared = Vec::with_capacity(resources.len());
        resources.iter().for_each(|resource| resource.delta_parts(&mut shared));
        let names = resources.iter().map(|resource| resource.name.clone()).collect();
        Self { type_url, nonce, version, names, removed, own: own.encode_to_vec(), shared }
    }

    pub(crate) fn sotw(type_url: Cow<'static, str>, nonce: String, salt: u64, resources: &[&Arc<Resource>]) -> Self {
        let version = version(resources, std::iter::empty(), salt);
        let own = envoy::DiscoveryResponse {
            version_info: version.clone(),
            type_url: type_url.clone().into_owned(),
            nonce: nonce.clone(),
            ..Default::default()
        };
        let mut shared = Vec::with_capacity(resources.len());
        resources.iter().for_each(|resource| resource.sotw_parts(&mut shared));
        let names = resources.iter().map(|resource| resource.name.clone()).collect();
        Self { type_url, nonce, version, names, removed: Vec::new(), own: own.encode_to_vec(), shared }
    }

    /// How long the message is.
    pub fn length(&self) -> usize {
        self.own.len() + self.shared.iter().map(Bytes::len).sum::<usize>()
    }

    /// The message in one piece, for clients within the process.
    pub fn bytes(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.length());
        whole.extend_from_slice(&self.own);
        self.shared.iter().for_each(|part| whole.extend_from_slice(part));
        whole.into()
    }
}

/// The version of a response as a whole: a function of what is in it.
///
/// After a NACK the versions of a type carry the number of NACKs: Envoy skips a response whose version is the
/// last that it took, even though what it refused in between has left its mark (envoy#12592, rule X48).
fn version(resources: &[&Arc<Resource>], gone: impl Iterator<Item = Version>, nacks: u64) -> String {
    let one = |resource: &&Arc<Resource>| Version::of(resource.name.as_bytes()).and(resource.version);
    let sum = resources.iter().map(one).chain(gone).fold(0_u128, |sum, part| sum.wrapping_add(part.0));
    let version = Version::of(&sum.to_le_bytes());
    match nacks {
        0 => version.to_string(),
        nacks => format!("{version}-{nacks}"),
    }
}
