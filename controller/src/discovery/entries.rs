//! Writes the WorkloadEntries of workloads that register themselves (Istio's `autoregistration`): made, or taken over,
//! when a workload connects to this replica, marked when it leaves, and gone after a grace period. Every replica does so
//! for its own connections; what a replica that ended has left behind, any other one takes away.

use super::registration::{GROUP, Health, Registration, Wanted};
use crds::ObjectKey;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::Preconditions;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use xds::ConnectionId;

const CONTROLLER: &str = "istio.io/workloadController";
const CONNECTED: &str = "istio.io/connectedAt";
const DISCONNECTED: &str = "istio.io/disconnectedAt";

/// The condition that endpoints follow.
const HEALTHY: &str = "Healthy";

/// After a round in which something could not be written, doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How many grace periods are between two looks at what ended replicas have left.
const SWEEP: u32 = 10;

/// What to write with.
pub(super) struct Entries {
    pub(super) client: Client,
    /// This replica, as entries name it.
    pub(super) instance: String,
    pub(super) grace: Duration,
    /// How long a stream lasts at most: a workload that is there has come again by then.
    pub(super) stream_age_max: Duration,
}

/// What stands in the cluster by this replica's hand.
#[derive(Default)]
struct State {
    written: BTreeMap<ObjectKey, Written>,
    /// Until when a workload that has left may come again.
    leaving: BTreeMap<ObjectKey, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Whole,
    /// Something is to be tried again.
    Failed,
}

struct Written {
    connection: ConnectionId,
    health: Option<Health>,
}

impl Entries {
    /// Works until `wanted` closes.
    pub(super) async fn keep(self, mut wanted: watch::Receiver<Wanted>) {
        let mut state = State::default();
        let mut sweep = Instant::now() + self.grace * SWEEP;
        let mut retry = RETRY.0;
        loop {
            let current = wanted.borrow_and_update().clone();
            let written = self.round(&mut state, &current).await;
            if Instant::now() >= sweep {
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "WorkloadEntries that were left behind could not be taken away");
                }
                sweep = Instant::now() + self.grace * SWEEP;
            }
            let next = match written {
                Round::Whole => state.leaving.values().copied().chain([sweep]).min().unwrap_or(sweep),
                Round::Failed => Instant::now() + retry,
            };
            retry = if written == Round::Whole { RETRY.0 } else { (retry * 2).min(RETRY.1) };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// What differs, each by itself: one that cannot be written is in nobody's way.
    async fn round(&self, state: &mut State, wanted: &Wanted) -> Round {
        let mut keys: BTreeSet<ObjectKey> = wanted.keys().cloned().collect();
        keys.extend(state.written.keys().chain(state.leaving.keys()).cloned());
        let mut round = Round::Whole;
        for key in keys {
            let one = match wanted.get(&key) {
                Some(registration) => self.present(state, &key, registration).await,
                None => self.absent(state, &key).await,
            };
            if let Err(error) = one {
                tracing::warn!(%error, "{key} could not be written");
                round = Round::Failed;
            }
        }
        round
    }

    async fn present(&self, state: &mut State, key: &ObjectKey, registration: &Registration) -> kube::Result<()> {
        state.leaving.remove(key);
        if state.written.get(key).is_none_or(|it| it.connection != registration.connection) {
            self.connect(key, registration).await?;
            let written = Written { connection: registration.connection, health: None };
            state.written.insert(key.clone(), written);
        }
        let Some(written) = state.written.get_mut(key) else { return Ok(()) };
        if let Some(health) = registration.health.as_ref().filter(|it| written.health.as_ref() != Some(it)) {
            self.tell_health(key, health).await?;
            written.health = Some(health.clone());
        }
        Ok(())
    }

    async fn absent(&self, state: &mut State, key: &ObjectKey) -> kube::Result<()> {
        if state.written.contains_key(key) {
            self.disconnect(key).await?;
            state.written.remove(key);
            state.leaving.insert(key.clone(), Instant::now() + self.grace);
        }
        if state.leaving.get(key).is_some_and(|at| *at <= Instant::now()) {
            if let Some(entry) = self.entry(key).await?.filter(|it| self.is_ours(it) && !has(it, CONNECTED)) {
                self.delete(&entry).await?;
            }
            state.leaving.remove(key);
        }
        Ok(())
    }

    async fn connect(&self, key: &ObjectKey, registration: &Registration) -> kube::Result<()> {
        let now = Timestamp::now().to_string();
        let Some(entry) = self.entry(key).await? else { return self.create(key, registration, &now).await };
        let account = entry.data.pointer("/spec/serviceAccount").and_then(Value::as_str).filter(|it| !it.is_empty());
        let is_of_group = entry.annotations().get(GROUP).is_some_and(|it| **it == *registration.group);
        let is_of_account = registration.service_account.is_none()
            || account.is_none_or(|it| registration.service_account.as_deref() == Some(it));
        if !is_of_group || !is_of_account {
            tracing::warn!("{key} is somebody else's, and stays as it is");
            return Ok(());
        }
        let mine = json!({CONTROLLER: self.instance, CONNECTED: now, DISCONNECTED: null});
        self.annotate(&entry, mine).await?;
        tracing::info!("{key} is connected again");
        Ok(())
    }

    async fn create(&self, key: &ObjectKey, registration: &Registration, now: &str) -> kube::Result<()> {
        let groups = self.api("WorkloadGroup", &key.namespace);
        let Some(group) = groups.get_opt(&registration.group).await? else {
            tracing::warn!("{key} is not made: there is no WorkloadGroup {} any more", registration.group);
            return Ok(());
        };
        let mut annotations = registration.annotations.clone();
        annotations.extend([(CONTROLLER.to_owned(), self.instance.clone()), (CONNECTED.to_owned(), now.to_owned())]);
        let entry = json!({
            "apiVersion": VERSION,
            "kind": "WorkloadEntry",
            "metadata": {
                "name": &*key.name,
                "namespace": &*key.namespace,
                "labels": *registration.labels,
                "annotations": annotations,
                "ownerReferences": [{
                    "apiVersion": VERSION,
                    "kind": "WorkloadGroup",
                    "name": group.name_any(),
                    "uid": group.uid(),
                    "controller": true,
                }],
            },
            "spec": registration.spec,
        });
        let entry: DynamicObject = serde_json::from_value(entry).map_err(kube::Error::SerdeError)?;
        self.api("WorkloadEntry", &key.namespace).create(&PostParams::default(), &entry).await?;
        tracing::info!("{key} is registered");
        Ok(())
    }

    /// Another replica's by now: nothing to do.
    async fn disconnect(&self, key: &ObjectKey) -> kube::Result<()> {
        let Some(entry) = self.entry(key).await?.filter(|it| self.is_ours(it)) else { return Ok(()) };
        let now = Timestamp::now().to_string();
        self.annotate(&entry, json!({CONNECTED: null, DISCONNECTED: now})).await?;
        tracing::info!("{key} is disconnected");
        Ok(())
    }

    async fn tell_health(&self, key: &ObjectKey, health: &Health) -> kube::Result<()> {
        let Some(entry) = self.entry(key).await?.filter(|it| self.is_ours(it)) else { return Ok(()) };
        let conditions = conditions(&entry.data, health, &Timestamp::now().to_string());
        let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
        self.api("WorkloadEntry", &key.namespace).patch_status(&key.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn sweep(&self) -> kube::Result<()> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("WorkloadEntry"));
        let now = Timestamp::now();
        let found = match all.list(&ListParams::default()).await {
            // There is no such kind here.
            Err(kube::Error::Api(why)) if why.code == 404 => return Ok(()),
            found => found?,
        };
        for entry in found.items {
            if is_left(&entry, now, self.grace, self.stream_age_max) {
                self.delete(&entry).await?;
            }
        }
        Ok(())
    }

    /// As it was seen: a workload that has come again in between keeps it.
    async fn delete(&self, entry: &DynamicObject) -> kube::Result<()> {
        let seen = Preconditions { resource_version: entry.resource_version(), uid: entry.uid() };
        let options = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
        let (namespace, name) = (entry.namespace().unwrap_or_default(), entry.name_any());
        match self.api("WorkloadEntry", &namespace).delete(&name, &options).await {
            Ok(_) => tracing::info!("WorkloadEntry {namespace}/{name} is gone with its workload"),
            Err(kube::Error::Api(why)) if [404, 409].contains(&why.code) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn annotate(&self, entry: &DynamicObject, annotations: Value) -> kube::Result<()> {
        let seen = json!({"resourceVersion": entry.resource_version(), "annotations": annotations});
        let api = self.api("WorkloadEntry", &entry.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"metadata": seen}));
        api.patch(&entry.name_any(), &PatchParams::default(), &patch).await.map(drop)
    }

    async fn entry(&self, key: &ObjectKey) -> kube::Result<Option<DynamicObject>> {
        self.api("WorkloadEntry", &key.namespace).get_opt(&key.name).await
    }

    fn is_ours(&self, entry: &DynamicObject) -> bool {
        has(entry, GROUP) && entry.annotations().get(CONTROLLER) == Some(&self.instance)
    }

    fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }
}

const VERSION: &str = "networking.istio.io/v1";

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", kind))
}

fn has(entry: &DynamicObject, annotation: &str) -> bool {
    entry.annotations().get(annotation).is_some_and(|it| !it.is_empty())
}

/// Nobody waits for its workload any more: it left longer ago than the grace period, or its replica ended, and it has
/// not come again in the time in which every stream ends once.
fn is_left(entry: &DynamicObject, now: Timestamp, grace: Duration, stream_age_max: Duration) -> bool {
    if !has(entry, GROUP) {
        return false;
    }
    let since = |annotation: &str| {
        let at: Timestamp = entry.annotations().get(annotation)?.parse().ok()?;
        Some(now.duration_since(at))
    };
    let signed = |it: Duration| SignedDuration::try_from(it).unwrap_or(SignedDuration::MAX);
    match (since(CONNECTED), since(DISCONNECTED)) {
        (Some(since), _) => since > signed(stream_age_max * 2),
        (None, Some(since)) => since > signed(grace),
        (None, None) => false,
    }
}

/// Those that are there, with this one.
fn conditions(entry: &Value, health: &Health, now: &str) -> Vec<Value> {
    let (status, message) = match health {
        Health::Healthy => ("True", ""),
        Health::Unhealthy(why) => ("False", why.as_str()),
    };
    let own = json!({
        "type": HEALTHY, "status": status, "message": message, "lastProbeTime": now, "lastTransitionTime": now,
    });
    let there = entry.pointer("/status/conditions").and_then(Value::as_array);
    there.into_iter().flatten().filter(|it| it["type"] != HEALTHY).cloned().chain([own]).collect()
}

#[cfg(test)]
mod tests;
