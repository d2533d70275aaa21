//! Writes into the status of ServiceEntries the addresses that were allocated to them, so that every replica, and
//! this one after a restart, knows the same (Istio's `ipallocate` controller).
//!
//! Runs while this replica leads. What to write the world says; here is only how.

use crds::ObjectKey;
use crds::networking::ServiceEntryAddress;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Addresses by entry.
pub(super) type Wanted = Arc<BTreeMap<ObjectKey, Vec<ServiceEntryAddress>>>;

/// Between two rounds: what was written comes back as a change of its entry, and until then is still wanted.
const ROUND_EVERY: Duration = Duration::from_secs(1);

/// After a round in which something failed, doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Works until `leader` or `wanted` closes.
pub(super) async fn keep(client: Client, mut wanted: watch::Receiver<Wanted>, mut leader: watch::Receiver<bool>) {
    while leader.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            () = lead(&client, &mut wanted) => return,
            lost = leader.wait_for(|leads| !*leads) => if lost.is_err() { return },
        }
    }
}

/// One term. Returns when nobody will want anything any more.
async fn lead(client: &Client, wanted: &mut watch::Receiver<Wanted>) {
    let mut retry = RETRY.0;
    loop {
        let current = wanted.borrow_and_update().clone();
        let mut wait = ROUND_EVERY;
        for (key, addresses) in current.iter() {
            if let Err(error) = write(client, key, addresses).await {
                tracing::warn!(%error, "the status of {key} could not be written");
                wait = retry;
            }
        }
        retry = if wait == ROUND_EVERY { RETRY.0 } else { (retry * 2).min(RETRY.1) };
        tokio::time::sleep(wait).await;
        if wait == ROUND_EVERY && wanted.changed().await.is_err() {
            return;
        }
    }
}

/// A change in between is a refusal, and what is wanted is asked for again.
async fn write(client: &Client, key: &ObjectKey, addresses: &[ServiceEntryAddress]) -> kube::Result<()> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry"));
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &key.namespace, &kind);
    let Some(found) = api.get_opt(&key.name).await? else { return Ok(()) };
    let Some(patch) = patch(found.metadata.resource_version.as_deref(), &found.data, addresses) else { return Ok(()) };
    let patch: Patch<DynamicObject> = Patch::Json(serde_json::from_value(patch).map_err(kube::Error::SerdeError)?);
    api.patch_status(&key.name, &PatchParams::default(), &patch).await?;
    tracing::info!("the status of {key} has its allocated addresses");
    Ok(())
}

/// `None`: there is nothing to write any more.
fn patch(version: Option<&str>, object: &Value, addresses: &[ServiceEntryAddress]) -> Option<Value> {
    let addresses: Vec<Value> = addresses.iter().map(|it| json!({"value": it.value, "host": it.host})).collect();
    let status = object.get("status").filter(|it| !it.is_null());
    if status.is_some_and(|it| it.get("addresses") == Some(&json!(addresses))) {
        return None;
    }
    let unchanged = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    let put = match status {
        Some(_) => json!({"op": "add", "path": "/status/addresses", "value": addresses}),
        None => json!({"op": "add", "path": "/status", "value": {"addresses": addresses}}),
    };
    Some(json!([unchanged, put]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_written_and_only_if_they_differ() {
        let wanted = [ServiceEntryAddress { value: "240.240.0.1".into(), host: "a".into() }];
        let list = json!([{"value": "240.240.0.1", "host": "a"}]);
        let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"});
        for (object, expected) in [
            (json!({}), Some(json!({"op": "add", "path": "/status", "value": {"addresses": list}}))),
            (json!({"status": null}), Some(json!({"op": "add", "path": "/status", "value": {"addresses": list}}))),
            (
                json!({"status": {"conditions": [], "addresses": []}}),
                Some(json!({"op": "add", "path": "/status/addresses", "value": list})),
            ),
            (json!({"status": {"addresses": list}}), None),
        ] {
            let expected = expected.map(|it| json!([test, it]));
            assert_eq!(patch(Some("7"), &object, &wanted), expected, "{object}");
        }
    }

    /// An API server with one entry, which takes patches as they are and keeps the last one.
    fn api(patched: watch::Sender<Value>) -> Client {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let patched = patched.clone();
            async move {
                let entry = json!({
                    "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                    "metadata": {"name": "e", "namespace": "n", "resourceVersion": "7"},
                });
                let (parts, body) = request.into_parts();
                if parts.method == http::Method::PATCH {
                    assert_eq!(parts.uri.path(), "/apis/networking.istio.io/v1/namespaces/n/serviceentries/e/status");
                    patched.send_replace(serde_json::from_slice(&body.collect_bytes().await?).unwrap());
                }
                let body = kube::client::Body::from(serde_json::to_vec(&entry).unwrap());
                Ok::<_, kube::Error>(http::Response::new(body))
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_leader_writes_what_is_wanted_and_others_do_not() {
        let (patched, mut seen) = watch::channel(Value::Null);
        let key = ObjectKey::new(crds::Kind::ServiceEntry, "n", "e");
        let address = ServiceEntryAddress { value: "240.240.0.1".into(), host: "a".into() };
        let (wanted, receiver) = watch::channel::<Wanted>(Arc::new([(key, vec![address])].into()));
        let (leads, leader) = watch::channel(false);
        let task = tokio::spawn(keep(api(patched), receiver, leader));
        tokio::task::yield_now().await;
        assert!(!seen.has_changed().unwrap());
        leads.send_replace(true);
        let written = tokio::time::timeout(Duration::from_secs(10), seen.changed()).await;
        written.unwrap().unwrap();
        assert_eq!(seen.borrow()[1]["value"]["addresses"][0]["value"], "240.240.0.1");
        drop((wanted, leads));
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }
}
