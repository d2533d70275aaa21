//! The custom resource definitions of Istio's kinds: one table, from which `charts/base/files/crd-all.gen.yaml` is
//! written (a test keeps it so).
//!
//! The schema of `spec` is made from the Rust type ([`crds::schema`]). A kind that has no type yet accepts any `spec`:
//! what is wrong in one is said by navarch's validating webhook and, when there is none, by the status of the mesh.

use serde_json::{Value, json};

/// A kind, as its definition describes it.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub group: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub short: &'static [&'static str],
    /// In the order of the definition; all are served.
    pub versions: &'static [&'static str],
    pub storage: &'static str,
    /// What `kubectl get` shows beside the name.
    pub columns: &'static [Column],
}

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub path: &'static str,
    pub format: Format,
}

#[derive(Clone, Copy, Debug)]
pub enum Format {
    String,
    Date,
}

/// All definitions, by group and plural.
pub const DEFINITIONS: &[Definition] = &[
    Definition {
        group: EXTENSIONS,
        kind: "TrafficExtension",
        plural: "trafficextensions",
        short: &[],
        versions: &["v1alpha1"],
        storage: "v1alpha1",
        columns: &[AGE],
    },
    Definition {
        group: EXTENSIONS,
        kind: "WasmPlugin",
        plural: "wasmplugins",
        short: &[],
        versions: &["v1alpha1"],
        storage: "v1alpha1",
        columns: &[AGE],
    },
    Definition {
        group: NETWORKING,
        kind: "DestinationRule",
        plural: "destinationrules",
        short: &["dr"],
        versions: STABLE,
        storage: "v1",
        columns: &[text("Host", ".spec.host"), AGE],
    },
    Definition {
        group: NETWORKING,
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        short: &[],
        versions: &["v1alpha3"],
        storage: "v1alpha3",
        columns: &[],
    },
    Definition {
        group: NETWORKING,
        kind: "Gateway",
        plural: "gateways",
        short: &["gw"],
        versions: STABLE,
        storage: "v1",
        columns: &[],
    },
    Definition {
        group: NETWORKING,
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        short: &[],
        versions: &["v1beta1"],
        storage: "v1beta1",
        columns: &[],
    },
    Definition {
        group: NETWORKING,
        kind: "ServiceEntry",
        plural: "serviceentries",
        short: &["se"],
        versions: STABLE,
        storage: "v1",
        columns: &[
            text("Hosts", ".spec.hosts"),
            text("Location", ".spec.location"),
            text("Resolution", ".spec.resolution"),
            AGE,
        ],
    },
    Definition {
        group: NETWORKING,
        kind: "Sidecar",
        plural: "sidecars",
        short: &[],
        versions: STABLE,
        storage: "v1",
        columns: &[],
    },
    Definition {
        group: NETWORKING,
        kind: "VirtualService",
        plural: "virtualservices",
        short: &["vs"],
        versions: STABLE,
        storage: "v1",
        columns: &[text("Gateways", ".spec.gateways"), text("Hosts", ".spec.hosts"), AGE],
    },
    Definition {
        group: NETWORKING,
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short: &["we"],
        versions: STABLE,
        storage: "v1",
        columns: &[AGE, text("Address", ".spec.address")],
    },
    Definition {
        group: NETWORKING,
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short: &["wg"],
        versions: STABLE,
        storage: "v1",
        columns: &[AGE],
    },
    Definition {
        group: SECURITY,
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short: &["ap"],
        versions: &["v1", "v1beta1"],
        storage: "v1",
        columns: &[text("Action", ".spec.action"), AGE],
    },
    Definition {
        group: SECURITY,
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short: &["pa"],
        versions: &["v1", "v1beta1"],
        storage: "v1",
        columns: &[text("Mode", ".spec.mtls.mode"), AGE],
    },
    Definition {
        group: SECURITY,
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short: &["ra"],
        versions: &["v1", "v1beta1"],
        storage: "v1",
        columns: &[],
    },
    Definition {
        group: TELEMETRY,
        kind: "Telemetry",
        plural: "telemetries",
        short: &["telemetry"],
        versions: &["v1", "v1alpha1"],
        storage: "v1alpha1",
        columns: &[AGE],
    },
];

/// The definitions as objects.
pub fn custom_resource_definitions() -> Vec<Value> {
    DEFINITIONS.iter().map(Definition::custom_resource_definition).collect()
}

impl Definition {
    /// The name of the definition: `virtualservices.networking.istio.io`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    fn custom_resource_definition(&self) -> Value {
        let mut labels = json!({"app": "istio-pilot", "chart": "istio", "release": "istio"});
        if self.group != NETWORKING && self.group != EXTENSIONS {
            labels["istio"] = json!(self.group.trim_end_matches(".istio.io"));
        }
        let schema = self.schema();
        let singular = self.kind.to_ascii_lowercase();
        let mut names = json!({
            "categories": ["istio-io", self.group.replace('.', "-")],
            "kind": self.kind,
            "listKind": format!("{}List", self.kind),
            "plural": self.plural,
            "singular": singular,
        });
        if !self.short.is_empty() {
            names["shortNames"] = json!(self.short);
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                // Users' configuration outlives the release.
                "annotations": {"helm.sh/resource-policy": "keep"},
                "labels": labels,
                "name": self.name(),
            },
            "spec": {
                "group": self.group,
                "names": names,
                "scope": "Namespaced",
                "versions": self.versions.iter().map(|version| self.version(version, &schema)).collect::<Vec<_>>(),
            },
        })
    }

    /// The same in all versions.
    fn schema(&self) -> Value {
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let spec = crds::schema::spec(self.kind).unwrap_or_else(|| any.clone());
        let mut schema = json!({"type": "object", "properties": {"spec": spec, "status": any}});
        if NEEDS_SPEC.contains(&self.kind) {
            schema["required"] = json!(["spec"]);
        }
        schema
    }

    fn version(&self, name: &str, schema: &Value) -> Value {
        let mut version = json!({
            "name": name,
            "schema": {"openAPIV3Schema": schema},
            "served": true,
            "storage": name == self.storage,
            "subresources": {"status": {}},
        });
        if !self.columns.is_empty() {
            let columns = self.columns.iter().map(|column| {
                let format = match column.format {
                    Format::String => "string",
                    Format::Date => "date",
                };
                json!({"jsonPath": column.path, "name": column.name, "type": format})
            });
            version["additionalPrinterColumns"] = columns.collect();
        }
        version
    }
}

const fn text(name: &'static str, path: &'static str) -> Column {
    Column { name, path, format: Format::String }
}

const AGE: Column = Column { name: "Age", path: ".metadata.creationTimestamp", format: Format::Date };
/// Kinds of which an object without a `spec` is refused.
const NEEDS_SPEC: [&str; 5] = ["ServiceEntry", "TrafficExtension", "WasmPlugin", "WorkloadEntry", "WorkloadGroup"];
const STABLE: &[&str] = &["v1", "v1alpha3", "v1beta1"];
const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
