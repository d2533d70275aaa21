//! From what a user asks for to the objects of an installation, in the order in which they can be applied.

mod request;

pub use request::{Request, Warning};

use crate::chart::{self, Chart, Release, RenderError};
use crate::kind::{self, Scope};
use crate::value::{self, ValueError};
use crate::yaml;
use serde_json::{Value, json};

/// What is to be installed, decided: no defaults are left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Installation {
    pub namespace: String,
    /// Empty for the control plane without a revision.
    pub revision: String,
    pub gateways: Vec<String>,
    /// Values of the control plane and of what is shared; those of a gateway are under `gateways.NAME`.
    pub values: Value,
}

/// A part of an installation: its objects are applied and waited for before those of the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// `base`, `istiod`, or a gateway's name.
    pub name: String,
    pub chart: Chart,
    /// Sorted by phase.
    pub objects: Vec<Value>,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("chart {chart} renders a {object}, which is no kind that navarch installs")]
    Kind { chart: &'static str, object: String },
}

/// The components of an installation: base, control plane, gateways.
pub fn components(installation: &Installation) -> Result<Vec<Component>, ManifestError> {
    let mut components =
        vec![component(installation, Chart::Base, "base")?, component(installation, Chart::Istiod, "istiod")?];
    for gateway in &installation.gateways {
        components.push(component(installation, Chart::Gateway, gateway)?);
    }
    Ok(components)
}

/// Everything as YAML for `kubectl apply -f -`: the same bytes for the same request.
pub fn generate(installation: &Installation) -> Result<String, ManifestError> {
    let objects: Vec<Value> = components(installation)?.into_iter().flat_map(|component| component.objects).collect();
    Ok(yaml::documents(&objects))
}

fn component(installation: &Installation, chart: Chart, name: &str) -> Result<Component, ManifestError> {
    let release = Release {
        name: if chart == Chart::Base { "istio-base".into() } else { name.to_owned() },
        namespace: installation.namespace.clone(),
        service: "navarch".into(),
    };
    let mut objects = chart::render(chart, &values(installation, chart, name)?, &release)?;
    if chart == Chart::Base {
        let metadata = json!({"name": installation.namespace});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    let mut keyed = Vec::with_capacity(objects.len());
    for object in objects {
        let kind = kind::of(&object)
            .ok_or_else(|| ManifestError::Kind { chart: chart.name(), object: kind::describe(&object) })?;
        debug_assert_eq!(kind.scope == Scope::Namespaced, object["metadata"]["namespace"].is_string());
        keyed.push((kind.phase, object));
    }
    keyed.sort_by_key(|(phase, object)| (*phase, kind::describe(object)));
    Ok(Component { name: name.to_owned(), chart, objects: keyed.into_iter().map(|(_, object)| object).collect() })
}

/// The part of the installation's values that a chart knows.
fn values(installation: &Installation, chart: Chart, name: &str) -> Result<Value, ManifestError> {
    let all = &installation.values;
    let known = chart.defaults()?;
    let mut values;
    match chart {
        Chart::Gateway => {
            let global = &all["global"];
            let secrets = global["imagePullSecrets"].as_array().into_iter().flatten();
            values = json!({
                "revision": installation.revision,
                "imagePullPolicy": global["imagePullPolicy"].as_str().unwrap_or_default(),
                "imagePullSecrets": secrets.map(|name| json!({"name": name})).collect::<Vec<_>>(),
                "global": {"networkPolicy": {"enabled": global["networkPolicy"]["enabled"] == true}},
            });
            if let Some(own) = all["gateways"].get(name) {
                value::merge(&mut values, own);
            }
        }
        Chart::Base | Chart::Istiod => {
            let own = all.as_object().into_iter().flatten().filter(|(name, _)| known.get(name).is_some());
            values = Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect());
            value::merge(&mut values, &json!({"global": {"istioNamespace": installation.namespace}}));
            if chart == Chart::Istiod {
                values["revision"] = json!(installation.revision);
            } else if !installation.revision.is_empty() && all.get("defaultRevision").is_none() {
                // Another revision than the default one leaves the default validator to that.
                values["defaultRevision"] = json!("");
            }
        }
    }
    Ok(values)
}
