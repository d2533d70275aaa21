//! Custom resources, and the parts of Kubernetes' own objects that navarch reads, as Rust types.
//!
//! This crate says what users may write and whether it is well formed. It knows nothing of meshes or Envoy.

pub mod decode;
pub mod duration;
pub mod extensions;
pub mod field;
pub mod grpc_status;
pub mod kube;
pub mod mesh_config;
pub mod networking;
pub mod object;
pub mod problem;
pub mod re2;
pub mod schema;
pub mod security;
pub mod string_match;
pub mod validate;
pub mod yaml;

pub use duration::Duration;
pub use object::{Kind, Labels, Meta, Object, ObjectKey, Spec};
pub use problem::{Problem, Reason, Severity};
pub use string_match::StringMatch;
