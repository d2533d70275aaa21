//! The cluster's Secrets.
use std::collections::BTreeMap;

use ::kube::api::PostParams;
use ::kube::core::ObjectMeta;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{AccessError, Bytes, Store, Stored};
use crate::bundle::Files;

/// Secrets of istiod's namespace.
#[derive(Clone)]
pub struct KubeStore {
    secrets: ::kube::Api<Secret>,
    namespace: String,
}

impl KubeStore {
    pub fn new(client: ::kube::Client, namespace: &str) -> Self {
        Self { secrets: ::kube::Api::namespaced(client, namespace), namespace: namespace.to_owned() }
    }

    fn secret(&self, name: &str, version: Option<&str>, files: &Files) -> Secret {
        let data = files.iter().map(|(name, bytes)| (name.clone(), ByteString(bytes.expose().to_vec())));
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            data: Some(data.collect::<BTreeMap<_, _>>()),
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        }
    }
}

impl Store for KubeStore {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, AccessError>> {
        async move {
            let secret = self.secrets.get_opt(name).await.map_err(|error| access(&error))?;
            Ok(secret.map(|secret| Stored {
                version: secret.metadata.resource_version.unwrap_or_default(),
                files: secret.data.into_iter().flatten().map(|(name, bytes)| (name, Bytes::new(bytes.0))).collect(),
            }))
        }
        .boxed()
    }

    fn create<'a>(&'a self, name: &'a str, files: &'a Files) -> BoxFuture<'a, Result<(), AccessError>> {
        async move {
            let secret = self.secret(name, None, files);
            self.secrets.create(&PostParams::default(), &secret).await.map(drop).map_err(|error| access(&error))
        }
        .boxed()
    }

    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        files: &'a Files,
    ) -> BoxFuture<'a, Result<(), AccessError>> {
        async move {
            // Labels and annotations are others': they are read again, and the version makes sure nothing came between.
            let mut secret = self.secrets.get(name).await.map_err(|error| access(&error))?;
            secret.metadata.resource_version = Some(version.to_owned());
            secret.metadata.managed_fields = None;
            secret.data = self.secret(name, None, files).data;
            let replaced = self.secrets.replace(name, &PostParams::default(), &secret).await;
            replaced.map(drop).map_err(|error| access(&error))
        }
        .boxed()
    }
}

fn access(error: &::kube::Error) -> AccessError {
    match error {
        // 409 is AlreadyExists for create, Conflict for replace.
        ::kube::Error::Api(status) if status.code == 409 => AccessError::Conflict,
        other => AccessError::Unavailable(other.to_string()),
    }
}

/// As Istio's. It cannot be changed in a Secret that exists.
const TYPE: &str = "istio.io/ca-root";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::testing::{FakeApi, now, root};
    use serde_json::json;

    #[tokio::test]
    async fn f30_the_secret_is_created_and_replaced_with_conflicts_told() {
        let api = FakeApi::default();
        let store = KubeStore::new(api.client(), "istio-system");
        assert_eq!(store.get("istio-ca-secret").await, Ok(None));
        let files = root(now()).to_files().unwrap();
        store.create("istio-ca-secret", &files).await.unwrap();
        assert_eq!(store.create("istio-ca-secret", &files).await, Err(AccessError::Conflict));
        let path = "/api/v1/namespaces/istio-system/secrets/istio-ca-secret";
        let made = api.object(path).unwrap();
        assert_eq!((&made["type"], &made["metadata"]["name"]), (&json!("istio.io/ca-root"), &json!("istio-ca-secret")));
        api.change(path, |secret| secret["metadata"]["labels"] = json!({"team": "a"}));
        let stored = store.get("istio-ca-secret").await.unwrap().unwrap();
        assert_eq!(stored.files, files);
        let renewed = Bundle::from_files(&files).unwrap().unwrap().renewed(crate::testing::DAY, now()).unwrap();
        let next = renewed.to_files().unwrap();
        store.replace("istio-ca-secret", &stored.version, &next).await.unwrap();
        assert_eq!(api.object(path).unwrap()["metadata"]["labels"], json!({"team": "a"}));
        let stale = store.replace("istio-ca-secret", &stored.version, &files).await;
        assert_eq!(stale, Err(AccessError::Conflict));
        assert_eq!(store.get("istio-ca-secret").await.unwrap().unwrap().files, next);
        api.fail();
        assert!(matches!(store.get("istio-ca-secret").await, Err(AccessError::Unavailable(_))));
    }
}
