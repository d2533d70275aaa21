//! The transport protocol between a control plane and Envoy: xDS over one aggregated stream.
//!
//! Knows Envoy's messages and envelope, and nothing of Istio or Kubernetes: what is in a resource is
//! somebody else's decision. The parts, from the pure to the connected:
//!
//! * [`envoy`]: the v3 messages under short names; [`canonical`]: equal messages become equal bytes;
//!   [`json`] and [`yaml`]: the same messages for people; [`merge`]: what people change in them; [`validate`]: Envoy's own field rules.
//! * [`Resource`], [`Layer`], [`View`], [`Hub`]: what every proxy should have, shared between proxies.
//! * [`Stream`]: one proxy's session as a plain struct: requests and snapshots in, responses out.
//! * [`server`] and [`client`]: gRPC around it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod canonical;
pub mod client;
mod descriptor;
pub mod envoy;
mod hub;
pub mod json;
pub mod merge;
mod node;
mod resource;
mod response;
pub mod server;
mod snapshot;
mod stream;
mod subscription;
mod type_url;
mod typed_struct;
mod validate;
mod wire;
pub mod yaml;

pub use descriptor::descriptors;
pub use hub::Hub;
pub use node::{Node, NodeError};
pub use resource::{Body, Piece, Pieces, Resource, Version};
pub use response::Response;
pub use snapshot::{ConnectionId, Layer, Layers, SetName, Snapshot, Update, View};
pub use stream::{Observed, Protocol, ProtocolError, Request, Stream};
pub use type_url::TypeUrl;
pub use validate::{Violation, validate};
