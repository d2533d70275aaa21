//! One object, applied server-side.

use super::{Change, FIELD_MANAGER, InstallError};
use crate::kind::{self, Kind, Scope};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::Value;

/// Applies an object. What other field managers say of the same fields is taken over: an installation of Istio's can be
/// replaced in place.
pub(super) async fn apply(client: &kube::Client, mut object: Value) -> Result<Change, InstallError> {
    let description = kind::describe(&object);
    let refused = |reason: String| InstallError::Refused { object: description.clone(), verb: "applied", reason };
    let kind = kind::of(&object).ok_or_else(|| refused("a kind that navarch does not install".into()))?;
    let api = api(client, kind, object["metadata"]["namespace"].as_str());
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let before = api.get_opt(&name).await.map_err(|error| refused(explain(&error)))?;
    if let Some(before) = &before {
        keep_failure_policy(&mut object, before);
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let after =
        api.patch(&name, &parameters, &Patch::Apply(&object)).await.map_err(|error| refused(explain(&error)))?;
    Ok(match before {
        None => Change::Created,
        Some(before) if before.metadata.resource_version == after.metadata.resource_version => Change::Unchanged,
        Some(_) => Change::Changed,
    })
}

/// A validator that the control plane has made strict stays strict: otherwise every upgrade would let wrong
/// configuration through for as long as it takes.
fn keep_failure_policy(object: &mut Value, before: &DynamicObject) {
    if object["kind"] != "ValidatingWebhookConfiguration" {
        return;
    }
    let live = before.data["webhooks"].as_array().into_iter().flatten();
    let strict: Vec<&Value> = live.filter(|hook| hook["failurePolicy"] == "Fail").map(|hook| &hook["name"]).collect();
    for hook in object["webhooks"].as_array_mut().into_iter().flatten() {
        if strict.contains(&&hook["name"]) {
            hook["failurePolicy"] = Value::from("Fail");
        }
    }
}

pub(super) fn api(client: &kube::Client, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = resource(kind);
    match (kind.scope, namespace) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
        _ => Api::all_with(client.clone(), &resource),
    }
}

fn resource(kind: &Kind) -> ApiResource {
    let api_version = match kind.group {
        "" => kind.version.to_owned(),
        group => format!("{group}/{}", kind.version),
    };
    ApiResource {
        group: kind.group.into(),
        version: kind.version.into(),
        api_version,
        kind: kind.name.into(),
        plural: kind.plural.into(),
    }
}

/// The API server's own words, and what to do where that is known.
pub(super) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("{}\ninstalling takes the rights of a cluster's administrator", status.message)
        }
        kube::Error::Api(status) if status.code == 422 && status.message.contains("immutable") => format!(
            "{}\nan object of that name was installed otherwise; remove it, or install beside it with --revision NAME",
            status.message
        ),
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn f37_a_validator_that_is_strict_already_stays_strict() {
        let hooks = |policy: &str| json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "v"}, "webhooks": [{"name": "a", "failurePolicy": policy}, {"name": "b", "failurePolicy": "Ignore"}]});
        let before: DynamicObject = serde_json::from_value(hooks("Fail")).unwrap();
        let mut object = hooks("Ignore");
        keep_failure_policy(&mut object, &before);
        assert_eq!(object, hooks("Fail"));
    }
}
