//! The Helm charts of this folder, inside the program: rendered as Helm renders them, into objects.

mod engine;

use crate::value::{self, ValueError};
use serde_json::{Value, json};

/// A chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chart {
    /// Definitions of Istio's kinds, and what is shared by control planes of all revisions.
    Base,
    /// One control plane.
    Istiod,
    /// One gateway.
    Gateway,
}

/// What a chart is rendered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub name: String,
    pub namespace: String,
    /// Who installs: the label app.kubernetes.io/managed-by.
    pub service: String,
}

/// A chart that cannot be rendered with the values it was given.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("chart {chart}, {file}: {reason}")]
    Template { chart: &'static str, file: String, reason: String },
    #[error("chart {chart}, {file}: what it renders to is not YAML: {reason}")]
    Yaml { chart: &'static str, file: String, reason: String },
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl Chart {
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Istiod => "istiod",
            Self::Gateway => "gateway",
        }
    }

    /// The chart's files by their path in it.
    pub fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Base => BASE,
            Self::Istiod => ISTIOD,
            Self::Gateway => GATEWAY,
        }
    }

    /// The chart's own values: every name that it knows.
    pub fn defaults(self) -> Result<Value, ValueError> {
        value::parse(&format!("{}/values.yaml", self.name()), self.file("values.yaml").unwrap_or_default())
    }

    /// Maps of the chart's values in which users' own names stand beside those that are there by default.
    pub fn open(self) -> &'static [&'static str] {
        match self {
            Self::Base => &[],
            Self::Istiod => &[
                "meshConfig",
                "resources",
                "seccompProfile",
                "cpu",
                "pdb",
                "global.defaultResources",
                "global.proxy.resources",
                "global.proxy.seccompProfile",
            ],
            Self::Gateway => &["labels", "podAnnotations", "service", "resources", "networkGatewayPorts"],
        }
    }

    fn file(self, path: &str) -> Option<&'static str> {
        self.files().iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
    }
}

/// The chart's objects, with `values` laid over the chart's own, in the order of its files.
pub fn render(chart: Chart, values: &Value, release: &Release) -> Result<Vec<Value>, RenderError> {
    let mut all = chart.defaults()?;
    value::merge(&mut all, values);
    let description = value::parse("Chart.yaml", chart.file("Chart.yaml").unwrap_or_default())?;
    let root = json!({
        "Values": all,
        "Release": {
            "Name": release.name,
            "Namespace": release.namespace,
            "Service": release.service,
            "IsInstall": true,
            "IsUpgrade": false,
            "Revision": 1,
        },
        "Chart": {
            "Name": description["name"],
            "Version": description["version"],
            "AppVersion": description["appVersion"],
        },
    });
    let mut objects = Vec::new();
    for (file, text) in engine::render(chart, &root)? {
        for document in crds::yaml::documents(&text) {
            let content = document.content.map_err(|error| RenderError::Yaml {
                chart: chart.name(),
                file: file.clone(),
                reason: error.to_string(),
            })?;
            objects.push(content.value);
        }
    }
    Ok(objects)
}

macro_rules! files {
    ($chart:literal, $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../charts/", $chart, "/", $path)))),+]
    };
}

const BASE: &[(&str, &str)] = files!(
    "base",
    "Chart.yaml",
    "values.yaml",
    "files/crd-all.gen.yaml",
    "templates/_helper.tpl",
    "templates/crds.yaml",
    "templates/default-validator.yaml",
    "templates/reader.yaml",
);

const ISTIOD: &[(&str, &str)] = files!(
    "istiod",
    "Chart.yaml",
    "values.yaml",
    "templates/_env.tpl",
    "templates/_helper.tpl",
    "templates/_mesh.tpl",
    "templates/_webhook.tpl",
    "templates/configmap.yaml",
    "templates/deployment.yaml",
    "templates/mutatingwebhook.yaml",
    "templates/rbac.yaml",
    "templates/scaling.yaml",
    "templates/service.yaml",
    "templates/serviceaccount.yaml",
    "templates/validatingwebhook.yaml",
);

const GATEWAY: &[(&str, &str)] = files!(
    "gateway",
    "Chart.yaml",
    "values.yaml",
    "templates/_helper.tpl",
    "templates/account.yaml",
    "templates/scaling.yaml",
    "templates/service.yaml",
    "templates/workload.yaml",
);
