//! What a user asked for: profile, files and `--set`, of navarch's own form or of Istio's (`values.`, IstioOperator).

use super::Installation;
use crate::chart::Chart;
use crate::profile;
use crate::value::{self, Unknown, ValueError};
use serde_json::{Map, Value};
use std::fmt;

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub profile: Option<String>,
    pub revision: Option<String>,
    pub namespace: Option<String>,
    /// Files' names and contents; later ones win.
    pub files: Vec<(String, String)>,
    pub set: Vec<String>,
    pub set_text: Vec<String>,
}

/// Something in the values that does not do what it seems to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    Unknown(Unknown),
    NoEffect {
        path: String,
        reason: &'static str,
    },
    /// Values of a gateway that is not installed.
    Gateway {
        name: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(Unknown { path, nearest: Some(nearest) }) => {
                write!(f, "there is no value {path}, did you mean {nearest}?")
            }
            Self::Unknown(Unknown { path, nearest: None }) => write!(f, "there is no value {path}"),
            Self::NoEffect { path, reason } => write!(f, "{path} has no effect: {reason}"),
            Self::Gateway { name } => {
                write!(f, "gateways.{name}: no such gateway is installed (profiles default and demo have some)")
            }
        }
    }
}

impl Request {
    /// Decides what is to be installed, and tells which values will not do anything.
    pub fn installation(&self) -> Result<(Installation, Vec<Warning>), ValueError> {
        let mut asked = Value::Object(Map::new());
        for (file, text) in &self.files {
            value::merge(&mut asked, &normalized(value::parse(file, text)?));
        }
        let mut set = Value::Object(Map::new());
        for argument in &self.set {
            value::set(&mut set, argument)?;
        }
        for argument in &self.set_text {
            value::set_text(&mut set, argument)?;
        }
        value::merge(&mut asked, &normalized(set));

        let mut take = |name: &str| asked.as_object_mut().and_then(|map| map.shift_remove(name));
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let (named, revision, namespace) = (text(take("profile")), text(take("revision")), text(take("namespace")));
        let components = take("components").unwrap_or_default();
        let profile = profile::profile(self.profile.as_deref().or(named.as_deref()).unwrap_or("default"))?;
        let in_values = asked["global"]["istioNamespace"].as_str().map(str::to_owned);
        let mut values = profile.values;
        value::merge(&mut values, &asked);
        let gateways = gateways(profile.gateways, &components);
        let warnings = warnings(&asked, &gateways, &components)?;
        let installation = Installation {
            namespace: self.namespace.clone().or(namespace).or(in_values).unwrap_or_else(|| "istio-system".into()),
            revision: self.revision.clone().or(revision).unwrap_or_default(),
            gateways,
            values,
        };
        Ok((installation, warnings))
    }
}

/// Istio's ways to write values, as the charts' own: the content of `spec` and of `values` moves to the top, `hub` and
/// `tag` are everybody's.
fn normalized(mut written: Value) -> Value {
    if written["kind"] == "IstioOperator" {
        written = written["spec"].take();
    }
    let Value::Object(mut map) = written else { return Value::Object(Map::new()) };
    let inner = map.shift_remove("values");
    for name in ["hub", "tag"] {
        if let Some(value) = map.shift_remove(name) {
            let global = map.entry("global").or_insert_with(|| Value::Object(Map::new()));
            global[name] = value;
        }
    }
    let mut all = inner.filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new()));
    value::merge(&mut all, &Value::Object(map));
    all
}

/// The profile's gateways, less those that `components` switches off, and those that it adds.
fn gateways(mut gateways: Vec<String>, components: &Value) -> Vec<String> {
    for (list, usual) in [("ingressGateways", "istio-ingressgateway"), ("egressGateways", "istio-egressgateway")] {
        for gateway in components[list].as_array().into_iter().flatten() {
            let name = gateway["name"].as_str().unwrap_or(usual);
            gateways.retain(|present| present != name);
            if gateway["enabled"] == true {
                gateways.push(name.to_owned());
            }
        }
    }
    gateways
}

fn warnings(asked: &Value, gateways: &[String], components: &Value) -> Result<Vec<Warning>, ValueError> {
    let mut warnings = Vec::new();
    let mut rest = asked.clone();
    for (path, reason) in NO_EFFECT {
        if remove(&mut rest, path) {
            warnings.push(Warning::NoEffect { path: (*path).to_owned(), reason });
        }
    }
    for name in components.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !["ingressGateways", "egressGateways", "base", "pilot"].contains(&name.as_str()) {
            let reason = "navarch installs base, the control plane and gateways";
            warnings.push(Warning::NoEffect { path: format!("components.{name}"), reason });
        }
    }
    let (istiod, gateway) = (Chart::Istiod.defaults()?, Chart::Gateway.defaults()?);
    let own: Vec<String> = istiod["gateways"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    if let Some(Value::Object(written)) = rest.get_mut("gateways") {
        for (name, values) in std::mem::take(written) {
            if own.contains(&name) {
                continue;
            }
            if !gateways.contains(&name) {
                warnings.push(Warning::Gateway { name });
                continue;
            }
            let prefixed = |path: &str| format!("gateways.{name}.{path}");
            for Unknown { path, nearest } in value::unknown(&values, &gateway, Chart::Gateway.open()) {
                let nearest = nearest.as_deref().map(prefixed);
                warnings.push(Warning::Unknown(Unknown { path: prefixed(&path), nearest }));
            }
        }
    }
    let mut known = Chart::Base.defaults()?;
    value::merge(&mut known, &istiod);
    if let Some(Value::Object(pilot)) = rest.as_object_mut().and_then(|map| map.shift_remove("pilot")) {
        let pilot = value::unknown(&Value::Object(pilot), &istiod, Chart::Istiod.open()).into_iter();
        let prefixed = |path: &str| format!("pilot.{path}");
        warnings.extend(pilot.map(|Unknown { path, nearest }| {
            Warning::Unknown(Unknown { path: prefixed(&path), nearest: nearest.as_deref().map(prefixed) })
        }));
    }
    warnings.extend(value::unknown(&rest, &known, Chart::Istiod.open()).into_iter().map(Warning::Unknown));
    Ok(warnings)
}

/// Takes the value at a dotted path out; whether there was one.
fn remove(values: &mut Value, path: &str) -> bool {
    match path.split_once('.') {
        Some((first, rest)) => values.get_mut(first).is_some_and(|inner| remove(inner, rest)),
        None => values.as_object_mut().is_some_and(|map| map.shift_remove(path).is_some()),
    }
}

/// Names of Istio's charts that are taken and do nothing.
pub(crate) const NO_EFFECT: &[(&str, &str)] = &[
    ("experimental", "the mesh's own policies judge configuration, by the validating webhook"),
    ("gatewayClasses", "gateways are installed by chart, not yet from the Gateway API"),
    ("global.configCluster", "one cluster is its own configuration"),
    ("global.waypoint", "there is no ambient mode"),
    ("istiodRemote.enabledLocalInjectorIstiod", "a control plane always injects in its own cluster"),
    ("ownerName", "navarch labels what it installs itself"),
    ("taint", "there is no node agent whose arrival nodes would wait for"),
    ("telemetry.v2.stackdriver", "its exporter is not part of Envoy"),
    ("trustedZtunnelName", "there is no ambient mode"),
    ("trustedZtunnelNamespace", "there is no ambient mode"),
];
