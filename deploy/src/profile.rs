//! Profiles: which gateways are installed beside the control plane, and with which values.

use crate::value::{self, ValueError};
use serde_json::Value;

/// What a profile chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    pub gateways: Vec<String>,
    pub values: Value,
}

/// The profile of that name.
pub fn profile(name: &str) -> Result<Profile, ValueError> {
    let (name, text) =
        PROFILES.iter().find(|(known, _)| *known == name).ok_or_else(|| ValueError::Profile(name.into()))?;
    let mut content = value::parse(&format!("profile {name}"), text)?;
    let gateways = content["gateways"].as_array().into_iter().flatten();
    let gateways = gateways.filter_map(|gateway| gateway.as_str().map(str::to_owned)).collect();
    Ok(Profile { name, gateways, values: content["values"].take() })
}

/// All profiles.
pub const PROFILES: &[(&str, &str)] = &[
    ("default", include_str!("../profiles/default.yaml")),
    ("minimal", include_str!("../profiles/minimal.yaml")),
    ("demo", include_str!("../profiles/demo.yaml")),
];
