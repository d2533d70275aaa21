//! An object as the API server sends it: any JSON with a name. It is decoded later, so that an object which does not
//! decode is that object's problem, and never its watch's (F6).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

#[derive(Clone, Debug)]
pub(super) struct Raw {
    /// Name, namespace and resource version, and no more: what a watcher has to know.
    pub(super) meta: Box<ObjectMeta>,
    /// Everything but what [`strip`] takes away.
    pub(super) value: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(Value::deserialize(deserializer)?))
    }
}

impl Raw {
    pub(super) fn new(mut value: Value) -> Self {
        strip(&mut value);
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Self { meta: Box::new(meta), value }
    }

    /// Items of a list do not say what they are.
    pub(super) fn into_value(mut self, resource: &ApiResource) -> Value {
        if let Value::Object(map) = &mut self.value {
            map.insert("apiVersion".into(), resource.api_version.as_str().into());
            map.insert("kind".into(), resource.kind.as_str().into());
        }
        self.value
    }
}

/// Takes away what is large and what nothing reads, before anything is kept.
fn strip(value: &mut Value) {
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// The same for the kinds there are most of: container environments and other programs' annotations say nothing of
/// the mesh, and are most of a Pod's size.
pub(super) fn strip_many(value: &mut Value) {
    if let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| name.contains("istio.io/"));
    }
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        // Nothing of these kinds is older than another.
        metadata.remove("creationTimestamp");
    }
    let containers = value.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        container.remove("env");
    }
}

impl kube::Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// An object with nothing but a name, to ask `crds` what it makes of a kind.
pub(super) fn empty(api_version: &str, kind: &str) -> Value {
    let metadata: Map<String, Value> = [("name".to_owned(), "x".into())].into_iter().collect();
    Value::Object(
        [
            ("apiVersion".to_owned(), api_version.into()),
            ("kind".to_owned(), kind.into()),
            ("metadata".to_owned(), metadata.into()),
        ]
        .into_iter()
        .collect(),
    )
}
