//! What the agent itself asks the control plane for: the name table and the mesh's further roots.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status as Detail;
use prost::Message;

use super::Options;
use super::frame::Dialect;
use crate::dns::{self, Table};
use crate::health::Health;

/// `istio.mesh.v1alpha1.ProxyConfig`, of which only the roots come this way.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TrustConfig {
    #[prost(string, repeated, tag = "34")]
    pub(super) ca_certificates_pem: Vec<String>,
}

pub(super) const TRUST_TYPE: &str = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig";
/// gRPC's INVALID_ARGUMENT, as Envoy says it when it refuses.
const INVALID_ARGUMENT: i32 = 3;
/// gRPC's INTERNAL, as Istio's agents say that the application is not well.
const INTERNAL: i32 = 13;

pub(super) const HEALTH_TYPE: &str = "type.googleapis.com/istio.v1.HealthInformation";

impl Options {
    /// The types asked for.
    pub(super) fn own_types(&self) -> impl Iterator<Item = &'static str> {
        self.names.as_ref().map(|_| dns::wire::TYPE_URL).into_iter().chain([TRUST_TYPE])
    }

    /// Uses an answer to one of them; the request that says so.
    pub(super) fn take(&self, dialect: Dialect, type_url: &str, frame: Bytes) -> Bytes {
        let answer = Answer::read(dialect, frame);
        let (nonce, version, result) = match answer {
            Ok(answer) => {
                let result = answer.resource.map_or(Ok(()), |resource| self.use_resource(type_url, &resource));
                (answer.nonce, answer.version, result)
            }
            Err(error) => (String::new(), String::new(), Err(error.to_string())),
        };
        if let Err(error) = &result {
            tracing::error!(type_url, error, "an answer of the control plane cannot be used");
        }
        let refusal = result.err().map(|message| Detail { code: INVALID_ARGUMENT, message, ..Detail::default() });
        request(dialect, type_url, version, nonce, refusal)
    }

    fn use_resource(&self, type_url: &str, resource: &[u8]) -> Result<(), String> {
        if type_url == TRUST_TYPE {
            let config = TrustConfig::decode(resource).map_err(|error| error.to_string())?;
            let roots = config.ca_certificates_pem;
            self.trust.send_if_modified(|old| {
                let changed = **old != roots;
                if changed {
                    tracing::info!(count = roots.len(), "the mesh's further roots changed");
                    *old = Arc::new(roots);
                }
                changed
            });
        } else if let Some(names) = &self.names {
            let table = dns::wire::NameTable::decode(resource).map_err(|error| error.to_string())?;
            names.table.send_replace(Arc::new(Table::new(table, &names.place)));
        }
        Ok(())
    }
}

/// The first request for a type.
pub(super) fn subscription(dialect: Dialect, type_url: &str) -> Bytes {
    request(dialect, type_url, String::new(), String::new(), None)
}

/// Says how the application is: what is wrong stands where other requests say why they refuse something.
pub(super) fn health(dialect: Dialect, health: &Health) -> Bytes {
    let wrong = match health {
        Health::Healthy => None,
        Health::Unhealthy(why) => Some(Detail { code: INTERNAL, message: why.clone(), ..Detail::default() }),
    };
    request(dialect, HEALTH_TYPE, String::new(), String::new(), wrong)
}

fn request(dialect: Dialect, type_url: &str, version: String, nonce: String, error_detail: Option<Detail>) -> Bytes {
    let type_url = type_url.to_owned();
    match dialect {
        Dialect::State => bytes(&DiscoveryRequest {
            version_info: version,
            type_url,
            response_nonce: nonce,
            error_detail,
            ..DiscoveryRequest::default()
        }),
        Dialect::Delta => bytes(&DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        }),
    }
}

fn bytes(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.encoded_len());
    message.encode(&mut bytes).expect("BytesMut grows");
    bytes.freeze()
}

struct Answer {
    nonce: String,
    version: String,
    resource: Option<Vec<u8>>,
}

impl Answer {
    fn read(dialect: Dialect, frame: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(match dialect {
            Dialect::State => {
                let answer = DiscoveryResponse::decode(frame)?;
                let resource = answer.resources.into_iter().next().map(|any| any.value);
                Self { nonce: answer.nonce, version: answer.version_info, resource }
            }
            Dialect::Delta => {
                let answer = DeltaDiscoveryResponse::decode(frame)?;
                let resource = answer.resources.into_iter().find_map(|it| it.resource).map(|any| any.value);
                Self { nonce: answer.nonce, version: String::new(), resource }
            }
        })
    }
}
