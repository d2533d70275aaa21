//! Taking away what navarch installed, and nothing else: objects are found by the owner's labels.

use super::apply::{api, explain};
use super::{COMPONENT_LABEL, InstallError, NAMESPACE_LABEL, Owner, Part, Progress};
use crate::crd;
use crate::kind::{self, KINDS, Kind, Phase, Scope};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

/// How much is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The control plane and its gateways. Users' configuration and the signing key stay, so that it can come back.
    Installation,
    /// Istio's kinds with all their objects, the signing key and the root certificates, too.
    Purge,
}

/// Removes an installation: webhooks first, so that pods can be created while the rest goes.
pub async fn uninstall(
    client: &kube::Client,
    owner: &Owner,
    removal: Removal,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), InstallError> {
    let mut found = list(client, &owner.selector(Part::Revision)).await?;
    if found.is_empty() && removal == Removal::Installation {
        let revision =
            if owner.revision.is_empty() { String::new() } else { format!(" of revision {}", owner.revision) };
        let namespace = owner.namespace.clone();
        return Err(InstallError::NothingInstalled { namespace, revision, label: NAMESPACE_LABEL });
    }
    let everything = list(client, &format!("{NAMESPACE_LABEL}={}", owner.namespace)).await?;
    let is_other = |object: &Value| {
        object["metadata"]["labels"][COMPONENT_LABEL] == "istiod" && !found.iter().any(|own| same(own, object))
    };
    let has_other = everything.iter().any(is_other);
    // What revisions share goes with the last of them.
    if !has_other {
        found.extend(list(client, &owner.selector(Part::Shared)).await?);
    } else if removal == Removal::Purge {
        tell(Progress::Kept { object: "what is shared".into(), reason: "another revision uses it" });
    }
    found.sort_by_key(|object| std::cmp::Reverse(kind::of(object).map(|kind| kind.phase)));
    for object in &found {
        if object["kind"] == "CustomResourceDefinition" && removal == Removal::Installation {
            let reason = "with it would go every object of its kind; --purge removes it";
            tell(Progress::Kept { object: kind::describe(object), reason });
        } else {
            delete(client, object, tell).await?;
        }
    }
    if removal == Removal::Purge && !has_other {
        purge(client, &owner.namespace, tell).await?;
    }
    Ok(())
}

/// Removes what an earlier installation of the same revision had and this one has not. Definitions stay.
pub(super) async fn prune(
    client: &kube::Client,
    owner: &Owner,
    wanted: &[String],
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), InstallError> {
    let mut found = list(client, &owner.selector(Part::Revision)).await?;
    found.extend(list(client, &owner.selector(Part::Shared)).await?);
    found.retain(|object| object["kind"] != "CustomResourceDefinition" && !wanted.contains(&kind::describe(object)));
    found.sort_by_key(|object| std::cmp::Reverse(kind::of(object).map(|kind| kind.phase)));
    for object in &found {
        delete(client, object, tell).await?;
    }
    Ok(())
}

/// The definitions, whoever installed them, and what the control plane writes itself. A `cacerts` that a user has put
/// there is theirs.
async fn purge(
    client: &kube::Client,
    namespace: &str,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), InstallError> {
    for definition in crd::custom_resource_definitions() {
        delete(client, &definition, tell).await?;
    }
    let roots = ListParams::default().fields("metadata.name=istio-ca-root-cert");
    let config_maps = kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::all(client.clone());
    let refused = |error: &kube::Error| InstallError::Refused {
        object: "ConfigMap istio-ca-root-cert of every namespace".into(),
        verb: "listed",
        reason: explain(error),
    };
    for root in config_maps.list(&roots).await.map_err(|error| refused(&error))? {
        let metadata = json!({"name": root.metadata.name, "namespace": root.metadata.namespace});
        delete(client, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}), tell).await?;
    }
    let secret = json!({"name": "istio-ca-secret", "namespace": namespace});
    delete(client, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": secret}), tell).await
}

/// Everything with these labels, of all kinds that navarch installs.
async fn list(client: &kube::Client, selector: &str) -> Result<Vec<Value>, InstallError> {
    let mut found = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.phase != Phase::Namespace) {
        let objects = api(client, kind, None).list(&ListParams::default().labels(selector)).await;
        let objects = objects.map_err(|error| InstallError::Refused {
            object: format!("{} of navarch", kind.name),
            verb: "listed",
            reason: explain(&error),
        })?;
        for object in objects {
            let mut metadata = json!({"name": object.metadata.name, "labels": object.metadata.labels});
            if kind.scope == Scope::Namespaced {
                metadata["namespace"] = json!(object.metadata.namespace);
            }
            let api_version =
                if kind.group.is_empty() { "v1".into() } else { format!("{}/{}", kind.group, kind.version) };
            found.push(json!({"apiVersion": api_version, "kind": kind.name, "metadata": metadata}));
        }
    }
    Ok(found)
}

async fn delete(
    client: &kube::Client,
    object: &Value,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), InstallError> {
    let description = kind::describe(object);
    let kind = kind::of(object).unwrap_or(&SECRET);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api = api(client, kind, object["metadata"]["namespace"].as_str());
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => tell(Progress::Removed { object: description }),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            return Err(InstallError::Refused { object: description, verb: "removed", reason: explain(&error) });
        }
    }
    Ok(())
}

fn same(a: &Value, b: &Value) -> bool {
    kind::describe(a) == kind::describe(b)
}

/// The only kind that is removed and never applied.
const SECRET: Kind = Kind {
    group: "",
    version: "v1",
    name: "Secret",
    plural: "secrets",
    scope: Scope::Namespaced,
    phase: Phase::Configuration,
};
