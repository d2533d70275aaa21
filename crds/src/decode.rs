//! JSON (what YAML became) to typed objects: the one parser behind folder, API server, webhook and CLI.
//!
//! An object decodes or it does not; remarks (unknown fields, kinds that are not translated) travel beside it. What
//! the fields mean, and whether they are allowed together, is [`crate::validate`]'s business; [`checked`] is both.

mod kind;
mod mesh_config;
mod typed;

pub use kind::{Known, distance};
pub use mesh_config::{mesh_config, mesh_config_map, mesh_config_text};

use crate::object::{Kind, Meta, Object, ObjectKey, Spec};
use crate::{Problem, Reason, Severity, kube, validate};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What became of one document, or of one item of a `List`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Of [`Kind::Unread`] when the kind is not one that navarch reads; the name is empty when there is none.
    pub key: ObjectKey,
    /// Where the object is inside its document: empty, or `items[3]`. Prefix of every field path.
    pub at: String,
    pub outcome: Outcome,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Object(Box<Object>),
    /// Something is wrong; `problems` says what.
    Refused,
    /// A kind that navarch reads nothing from, and that says nothing of traffic: `apps/v1 StatefulSet`.
    Skipped(String),
    /// A kind that Istio knows and this version does not translate; `problems` has the warning.
    NotTranslated,
}

impl Decoded {
    pub fn object(&self) -> Option<&Object> {
        match &self.outcome {
            Outcome::Object(object) => Some(object),
            _ => None,
        }
    }

    pub fn into_object(self) -> Option<Object> {
        match self.outcome {
            Outcome::Object(object) => Some(*object),
            _ => None,
        }
    }

    fn refused(key: ObjectKey, problem: Problem) -> Self {
        Self { key, at: String::new(), outcome: Outcome::Refused, problems: vec![problem] }
    }
}

/// Every object of one document: itself, or the items of a `List` (of lists), as `kubectl get -o yaml` prints it.
pub fn objects(value: Value) -> Vec<Decoded> {
    let mut all = Vec::new();
    flatten(value, String::new(), &mut all);
    all
}

/// Decodes and validates every object of one document. What [`validate::object`] finds an error in is refused.
pub fn checked(value: Value) -> Vec<Decoded> {
    let mut all = objects(value);
    for decoded in &mut all {
        let Outcome::Object(object) = &decoded.outcome else { continue };
        decoded.problems.extend(validate::object(object));
        decoded.problems.extend(validate::untranslated(object));
        if decoded.problems.iter().any(|p| p.severity() == Severity::Error) {
            decoded.outcome = Outcome::Refused;
        }
    }
    all
}

/// Decodes one object. A `List` is no object; see [`objects`].
pub fn object(value: Value) -> Decoded {
    let Value::Object(map) = value else {
        let key = ObjectKey::new(Kind::Unread("document"), "", "");
        let reason =
            Reason::Malformed(format!("expected an object with apiVersion and kind, found {}", kind_of(&value)));
        return Decoded::refused(key.clone(), Problem::new(&key, "", reason));
    };
    let text = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind_name) = (text("apiVersion"), text("kind"));
    let known = kind::find(&api_version, &kind_name);
    let kind = match &known {
        Known::Read(kind) | Known::NotTranslated(kind) => *kind,
        Known::Skipped | Known::Unknown(_) => Kind::Unread("object"),
    };
    let (meta, key, mut problems) = metadata(&map, kind);
    for field in ["kind", "apiVersion"].into_iter().filter(|field| text(field).is_empty()) {
        problems.push(Problem::new(&key, field, Reason::Malformed(format!("{field} is required"))));
    }
    let decoded = |outcome, problems| Decoded { key: key.clone(), at: String::new(), outcome, problems };
    match known {
        Known::Unknown(_) if !problems.is_empty() => decoded(Outcome::Refused, problems),
        Known::Unknown(reason) => {
            problems.push(Problem::new(&key, "kind", Reason::UnknownKind(reason)));
            decoded(Outcome::Refused, problems)
        }
        Known::Skipped => decoded(Outcome::Skipped(format!("{api_version} {kind_name}")), vec![]),
        Known::NotTranslated(_) => decoded(Outcome::NotTranslated, vec![Problem::new(&key, "", Reason::NotTranslated)]),
        Known::Read(kind) => {
            let spec = spec(kind, map, &key, &mut problems);
            let refused = problems.iter().any(|p| p.severity() == Severity::Error);
            match (spec, refused) {
                (Some(spec), false) => {
                    let object = Object { key: key.clone(), meta, spec };
                    decoded(Outcome::Object(Box::new(object)), problems)
                }
                _ => decoded(Outcome::Refused, problems),
            }
        }
    }
}

fn flatten(mut value: Value, at: String, all: &mut Vec<Decoded>) {
    let is_list = value["apiVersion"] == "v1" && value["kind"] == "List";
    let Some(Value::Array(items)) = value.get_mut("items").filter(|_| is_list).map(Value::take) else {
        let mut decoded = object(value);
        if !at.is_empty() {
            for problem in &mut decoded.problems {
                problem.field = typed::join(&at, &problem.field);
            }
        }
        decoded.at = at;
        all.push(decoded);
        return;
    };
    for (i, item) in items.into_iter().enumerate() {
        flatten(item, typed::join(&at, &format!("items[{i}]")), all);
    }
}

/// Reads `metadata`. The key is as good as it can be even when something is wrong, so that problems name the object.
fn metadata(map: &Map<String, Value>, kind: Kind) -> (Meta, ObjectKey, Vec<Problem>) {
    let value = map.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let namespace: Arc<str> = match text("namespace") {
        _ if kind.is_cluster_scoped() => "".into(),
        "" => "default".into(),
        namespace => namespace.into(),
    };
    let key = ObjectKey::new(kind, namespace.clone(), text("name"));
    let read = typed::read::<Meta>(value, "metadata", typed::Unknown::Ignore, &key);
    let mut problems = read.problems;
    let mut meta = read.value.unwrap_or_default();
    meta.namespace = namespace;
    if meta.name.is_empty() && problems.is_empty() {
        problems.push(Problem::new(&key, "metadata.name", Reason::Malformed("a name is required".into())));
    }
    (meta, key, problems)
}

/// Reads what follows the metadata. Fields that Istio does not know are reported; Kubernetes' own objects have many
/// that navarch has no use for.
fn spec(kind: Kind, mut map: Map<String, Value>, key: &ObjectKey, problems: &mut Vec<Problem>) -> Option<Spec> {
    let is_istio = kind::is_istio(kind);
    if is_istio {
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        let unknown = map.keys().filter(|name| !known.contains(&name.as_str()));
        problems.extend(unknown.map(|name| Problem::new(key, name, Reason::UnknownField)));
    }
    let unknown = if is_istio { typed::Unknown::Report } else { typed::Unknown::Ignore };
    let spec = map.remove("spec").unwrap_or(Value::Null);
    let whole = Value::Object(map);
    macro_rules! read {
        ($type:ty, $value:expr, $path:expr) => {{
            let read = typed::read::<$type>($value, $path, unknown, key);
            problems.extend(read.problems);
            read.value
        }};
    }
    use crate::{extensions as x, networking as n, security as s};
    match kind {
        Kind::Namespace => Some(Spec::Namespace),
        Kind::Node => Some(Spec::Node),
        Kind::ConfigMap => read!(kube::ConfigMap, whole, "").map(Spec::ConfigMap),
        Kind::EndpointSlice => read!(kube::EndpointSlice, whole, "").map(Spec::EndpointSlice),
        Kind::Pod => {
            let mut whole = whole;
            whole["spec"] = spec;
            read!(kube::Pod, whole, "").map(Spec::Pod)
        }
        Kind::Deployment => read!(kube::Deployment, spec, "spec").map(|s| Spec::Deployment(Box::new(s))),
        Kind::Service => read!(kube::Service, spec, "spec").map(Spec::Service),
        Kind::DestinationRule => read!(n::DestinationRule, spec, "spec").map(|s| Spec::DestinationRule(Box::new(s))),
        Kind::EnvoyFilter => read!(n::EnvoyFilter, spec, "spec").map(|s| Spec::EnvoyFilter(Box::new(s))),
        Kind::Gateway => read!(n::Gateway, spec, "spec").map(Spec::Gateway),
        Kind::ProxyConfig => read!(n::ProxyConfig, spec, "spec").map(Spec::ProxyConfig),
        Kind::ServiceEntry => read!(n::ServiceEntry, spec, "spec").map(|spec| {
            let status = status(&whole);
            Spec::ServiceEntry(n::ServiceEntry { status, ..spec })
        }),
        Kind::Sidecar => read!(n::Sidecar, spec, "spec").map(|s| Spec::Sidecar(Box::new(s))),
        Kind::TrafficExtension => read!(x::TrafficExtension, spec, "spec").map(|s| Spec::TrafficExtension(Box::new(s))),
        Kind::VirtualService => read!(n::VirtualService, spec, "spec").map(Spec::VirtualService),
        Kind::WasmPlugin => read!(x::WasmPlugin, spec, "spec").map(|s| Spec::WasmPlugin(Box::new(s))),
        Kind::WorkloadEntry => read!(n::WorkloadEntry, spec, "spec").map(|spec| {
            let status = status(&whole);
            Spec::WorkloadEntry(n::WorkloadEntry { status, ..spec })
        }),
        Kind::WorkloadGroup => read!(n::WorkloadGroup, spec, "spec").map(|s| Spec::WorkloadGroup(Box::new(s))),
        Kind::PeerAuthentication => read!(s::PeerAuthentication, spec, "spec").map(Spec::PeerAuthentication),
        Kind::Unread(_) => None,
    }
}

/// Written by programs, not by users: what cannot be read of it is as good as not there.
fn status<T: serde::de::DeserializeOwned + Default>(whole: &Value) -> T {
    whole.get("status").and_then(|it| T::deserialize(it).ok()).unwrap_or_default()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
