//! The descriptors of every message in [`envoy`](crate::envoy), taken from the package that has the Rust types.

use crate::typed_struct;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::sync::OnceLock;

/// The descriptors of all Envoy messages, with Envoy's validation rules as options.
///
/// ```
/// assert!(xds::descriptors().get_message_by_name("envoy.config.cluster.v3.Cluster").is_some());
/// ```
pub fn descriptors() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let set: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
        let mut pool = DescriptorPool::decode(set).expect("the set came out of protoc and is part of this program");
        pool.add_file_descriptor_protos(typed_struct::files()).expect("they refer to Struct only, which is in the set");
        pool
    })
}

/// The message behind a type URL (`type.googleapis.com/envoy…`); its bare full name will do as well.
pub(crate) fn message(type_url: &str) -> Option<MessageDescriptor> {
    descriptors().get_message_by_name(message_name(type_url))
}

pub(crate) fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}
