//! `istio.v1.auth` on the wire: the two messages, written by hand after Istio's `security/v1alpha1/ca.proto`, and a
//! client.
use std::collections::BTreeMap;

use tonic::transport::Channel;
use tonic::{Request, Status};

/// What is asked of the CA.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// A certificate signing request in PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// In seconds; 0 and below mean the CA's default.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// One certificate per string: the leaf first, the roots last.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`, as far as the metadata of requests goes: texts. Other kinds of values are skipped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`; `text` is absent for every other kind.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(string, optional, tag = "3")]
    pub text: Option<String>,
}

impl IstioCertificateRequest {
    /// A text of the metadata, if it is there and not empty.
    pub fn metadata_text(&self, key: &str) -> Option<&str> {
        let value = self.metadata.as_ref()?.fields.get(key)?;
        value.text.as_deref().filter(|text| !text.is_empty())
    }

    /// Whether the metadata holds `key` with a value of any kind but the empty text.
    pub(crate) fn metadata_holds(&self, key: &str) -> bool {
        let value = self.metadata.as_ref().and_then(|metadata| metadata.fields.get(key));
        value.is_some_and(|value| value.text.as_deref() != Some(""))
    }
}

/// Asks a CA for certificates. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    grpc: tonic::client::Grpc<Channel>,
    cluster_id: String,
}

impl Client {
    /// `cluster_id` goes along as the header `clusterid`, unless empty.
    pub fn new(channel: Channel, cluster_id: impl Into<String>) -> Self {
        let grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        Self { grpc, cluster_id: cluster_id.into() }
    }

    /// One request. `token` is the bearer token of this call; without one the connection's certificate must do.
    pub async fn create_certificate(
        &mut self,
        token: Option<&str>,
        request: IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        let mut request = Request::new(request);
        if let Some(token) = token {
            let value = format!("Bearer {}", token.trim()).parse();
            let mut value: tonic::metadata::MetadataValue<_> =
                value.map_err(|_| Status::unauthenticated("the token holds characters that no header may"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        if !self.cluster_id.is_empty() {
            let value = self.cluster_id.parse().map_err(|_| Status::internal("the cluster's id is no header value"))?;
            request.metadata_mut().insert(CLUSTER_ID_HEADER, value);
        }
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::default();
        Ok(self.grpc.unary(request, http::uri::PathAndQuery::from_static(PATH), codec).await?.into_inner())
    }
}

pub const SERVICE: &str = "istio.v1.auth.IstioCertificateService";
pub(crate) const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
pub(crate) const CLUSTER_ID_HEADER: &str = "clusterid";
/// A chain of ten RSA-4096 certificates is 20 KiB.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn field_numbers_are_istios() {
        let value = Value { text: Some("b".to_owned()) };
        let request = IstioCertificateRequest {
            csr: "x".to_owned(),
            validity_duration: 5,
            metadata: Some(Struct { fields: BTreeMap::from([("a".to_owned(), value)]) }),
        };
        let expected = [&[0x0a, 1, b'x'][..], &[0x18, 5], &[0x22, 10, 0x0a, 8, 0x0a, 1, b'a', 0x12, 3, 0x1a, 1, b'b']];
        assert_eq!(request.encode_to_vec(), expected.concat());
        let response = IstioCertificateResponse { cert_chain: vec!["y".to_owned()] };
        assert_eq!(response.encode_to_vec(), [0x0a, 1, b'y']);
        // A value of another kind, true, is read as absent.
        let other = [0x22, 9, 0x0a, 7, 0x0a, 1, b'a', 0x12, 2, 0x20, 1];
        let read = IstioCertificateRequest::decode(&other[..]).unwrap();
        assert_eq!(read.metadata_text("a"), None);
        assert!(read.metadata_holds("a"));
    }
}
