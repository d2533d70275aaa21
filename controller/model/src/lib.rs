//! What the mesh is: services, endpoints, workloads, who sees what, which policy applies.
//!
//! Pure values and functions over Istio's and Kubernetes' objects. Knows nothing of Envoy, I/O or time.

pub mod allocation;
pub mod delegate;
pub mod destination_rule;
pub mod endpoint;
pub mod gateway;
pub mod host;
pub mod label;
pub mod peer_authentication;
pub mod port;
pub mod protocol;
pub mod proxy;
pub mod service;
pub mod sidecar;
pub mod traffic_policy;
pub mod virtual_service;
pub mod visibility;

pub use allocation::{Allocation, Allocator};
pub use delegate::{DelegateView, Delegates, HttpRule};
pub use destination_rule::MergedRule;
pub use endpoint::{Address, Endpoint, Endpoints, Health, Locality, Peers, TlsMode};
pub use gateway::{GatewayServer, MergedGateway, TlsServer};
pub use host::Hostname;
pub use label::Labels;
pub use peer_authentication::{EffectiveModes, Mode, Policies};
pub use protocol::Protocol;
pub use proxy::{Certificates, DnsCapture, LowPorts, Proxy, ProxyKind};
pub use service::{Location, Registry, Resolution, Service, ServiceKey, ServicePort};
pub use virtual_service::{DestinationView, Destinations, RouteRules};
pub use visibility::Visibility;

use std::sync::Arc;

pub type Namespace = Arc<str>;
