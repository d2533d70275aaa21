//! Keeps our webhook configurations callable: `caBundle` holds our roots, and the validator's `failurePolicy` is `Fail`
//! once a wrong object was seen to be refused.
//!
//! Runs while this replica leads. Only those two fields are ever written, by server-side apply, only to configurations
//! with our name and our revision's label, and only when they lack something (S55, F37, F38). What to write is
//! [`desired`], which is pure.

mod desired;

use desired::{FIELD_MANAGER, Probe, Roots};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two rounds, whatever happens: somebody who undoes our work is answered once a second, not in a storm.
const ROUND_EVERY_MIN: Duration = Duration::from_secs(1);

/// A round without a reason: for a validator that did not refuse yet, and for events that were lost.
const ROUND_EVERY_MAX: Duration = Duration::from_secs(30);

/// After a round that failed the wait doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Which configurations are ours.
#[derive(Clone, Debug)]
pub struct Names {
    /// Of the MutatingWebhookConfiguration (`INJECTION_WEBHOOK_CONFIG_NAME`), revision not included.
    pub injection: String,
    /// Of the ValidatingWebhookConfiguration (`VALIDATION_WEBHOOK_CONFIG_NAME`).
    pub validation: String,
    /// Empty: the default revision.
    pub revision: String,
    /// istiod's own: where the wrong object is tried.
    pub namespace: String,
}

impl Names {
    fn revision(&self) -> &str {
        if self.revision.is_empty() { "default" } else { &self.revision }
    }

    fn selector(&self) -> String {
        format!("istio.io/rev={}", self.revision())
    }
}

/// Works until `leader` closes. `roots` is the bundle to trust, as PEM; empty: not known yet.
pub async fn keep(client: Client, names: Names, mut roots: watch::Receiver<String>, mut leader: watch::Receiver<bool>) {
    while leader.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            () = lead(&client, &names, &mut roots) => return,
            lost = leader.wait_for(|leads| !*leads) => if lost.is_err() { return },
        }
    }
}

/// One term. Returns when nobody will say our roots any more.
async fn lead(client: &Client, names: &Names, roots: &mut watch::Receiver<String>) {
    let mut changes = stream::select(
        changes::<MutatingWebhookConfiguration>(client, names),
        changes::<ValidatingWebhookConfiguration>(client, names),
    );
    let mut retry = ROUND_EVERY_MIN;
    loop {
        let current = Roots::parse(&roots.borrow_and_update());
        let begun = Instant::now();
        let wait = match round(client, names, &current).await {
            Ok(()) => {
                retry = ROUND_EVERY_MIN;
                ROUND_EVERY_MAX
            }
            Err(error) => {
                tracing::warn!(%error, "webhook configurations could not be kept");
                retry = (retry * 2).min(RETRY_MAX);
                retry
            }
        };
        tokio::select! {
            _ = changes.next() => {}
            changed = roots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
        tokio::time::sleep_until(begun + retry).await;
    }
}

/// An item whenever a configuration of our revision may have changed.
fn changes<K>(client: &Client, names: &Names) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(&names.selector());
    watcher(Api::<K>::all(client.clone()), config).default_backoff().touched_objects().map(|_| ()).boxed()
}

async fn round(client: &Client, names: &Names, roots: &Roots) -> kube::Result<()> {
    if roots.is_empty() {
        return Ok(());
    }
    let list = ListParams::default().labels(&names.selector());
    let injectors = Api::<MutatingWebhookConfiguration>::all(client.clone());
    for configuration in injectors.list(&list).await? {
        let value = serde_json::to_value(&configuration).map_err(kube::Error::SerdeError)?;
        if let Some(wanted) = desired::injector(&value, names, roots) {
            apply(&injectors, &wanted).await?;
        }
    }
    let validators = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    for configuration in validators.list(&list).await? {
        let value = serde_json::to_value(&configuration).map_err(kube::Error::SerdeError)?;
        let Some(probe) = desired::probe(&value, names) else { continue };
        if let Some(wanted) = desired::validator(&value, roots, desired::Seen::Nothing) {
            apply(&validators, &wanted).await?;
        } else if desired::is_lenient(&value) && refuses(client, names, &probe).await? {
            // The same two steps as istiod: open until it is sure that the webhook answers, closed from then on.
            if let Some(wanted) = desired::validator(&value, roots, desired::Seen::Refusal) {
                apply(&validators, &wanted).await?;
            }
        }
    }
    Ok(())
}

async fn apply<K>(api: &Api<K>, wanted: &Value) -> kube::Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(wanted)).await?;
    tracing::info!(name, "webhook configuration brought up to date");
    Ok(())
}

/// Whether the API server, asked to try an object that is always wrong, says no because of our webhook.
async fn refuses(client: &Client, names: &Names, probe: &Probe) -> kube::Result<bool> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "Gateway"));
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &names.namespace, &kind);
    let wrong: DynamicObject = serde_json::from_value(probe.object.clone()).map_err(kube::Error::SerdeError)?;
    let dry = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.into()) };
    match api.create(&dry, &wrong).await {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(status)) => Ok(desired::is_refusal(&status.message)),
        Err(error) => Err(error),
    }
}
