//! Installing, upgrading and uninstalling: components one after another, each applied server-side and waited for.

mod apply;
mod remove;
mod wait;

use crate::kind;
use crate::manifest::{Component, ManifestError, Warning};
use serde_json::Value;
use std::time::Duration;

pub use remove::{Removal, uninstall};

/// What is told while an installation goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Warning(Warning),
    Applied {
        object: String,
        change: Change,
    },
    /// Still waiting, for this.
    Waiting {
        object: String,
        state: String,
    },
    Ready {
        object: String,
    },
    Removed {
        object: String,
    },
    /// Left in the cluster on purpose.
    Kept {
        object: String,
        reason: &'static str,
    },
}

/// What applying an object did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Changed,
    Unchanged,
}

/// Why an installation did not come about.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(
        "the cluster cannot be reached: {0}\ncheck --kubeconfig and --context: `kubectl cluster-info` must work with them"
    )]
    Connect(String),
    #[error("{object} was not {verb}: {reason}")]
    Refused { object: String, verb: &'static str, reason: String },
    #[error("{object} is not ready after {after:?}: {state}\n{hint}")]
    NotReady { object: String, after: Duration, state: String, hint: String },
    #[error(
        "nothing that navarch installed was found in namespace {namespace}{revision}; `kubectl get all -A -l {label}` shows what there is"
    )]
    NothingInstalled { namespace: String, revision: String, label: &'static str },
}

impl InstallError {
    /// 1: the cluster said no; 2: the request is wrong; 3: not ready in time.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Manifest(_) => 2,
            Self::NotReady { .. } => 3,
            Self::Connect(_) | Self::Refused { .. } | Self::NothingInstalled { .. } => 1,
        }
    }
}

/// Which installation the objects belong to, by labels on each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub namespace: String,
    /// Empty for the control plane without a revision.
    pub revision: String,
}

impl Owner {
    fn labels(&self, component: &str) -> [(&'static str, String); 3] {
        // What is shared by all revisions belongs to none.
        let revision = if component == BASE { "" } else { self.revision_label() };
        [
            (NAMESPACE_LABEL, self.namespace.clone()),
            (REVISION_LABEL, revision.to_owned()),
            (COMPONENT_LABEL, component.to_owned()),
        ]
    }

    fn revision_label(&self) -> &str {
        if self.revision.is_empty() { "default" } else { &self.revision }
    }

    /// Selects what belongs to this revision, or what is shared.
    fn selector(&self, part: Part) -> String {
        let namespace = format!("{NAMESPACE_LABEL}={}", self.namespace);
        match part {
            Part::Shared => format!("{namespace},{COMPONENT_LABEL}={BASE}"),
            Part::Revision => format!("{namespace},{REVISION_LABEL}={}", self.revision_label()),
        }
    }
}

/// The two halves of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Shared,
    Revision,
}

/// Applies the components in their order, waits for each, and removes what the previous installation of the same
/// revision had and this one has not.
pub async fn install(
    client: &kube::Client,
    components: &[Component],
    owner: &Owner,
    ready_within: Duration,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), InstallError> {
    let limit = tokio::time::Instant::now() + ready_within;
    let mut wanted = Vec::new();
    for step in steps(components, owner) {
        match step {
            Step::Apply(object) => {
                let change = apply::apply(client, object.clone()).await?;
                tell(Progress::Applied { object: kind::describe(&object), change });
                wanted.push(kind::describe(&object));
            }
            Step::Wait(object) => wait::ready(client, &object, ready_within, limit, tell).await?,
        }
    }
    remove::prune(client, owner, &wanted, tell).await
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Apply(Value),
    Wait(Value),
}

/// What installing comes to: the objects with their owner's labels, and after each component's definitions, workloads
/// and webhooks the wait for them.
pub fn steps(components: &[Component], owner: &Owner) -> Vec<Step> {
    let mut steps = Vec::new();
    for component in components {
        let objects: Vec<Value> = component.objects.iter().map(|o| labelled(o, owner, &component.name)).collect();
        for group in objects.chunk_by(|a, b| kind::of(a).map(|kind| kind.phase) == kind::of(b).map(|kind| kind.phase)) {
            steps.extend(group.iter().cloned().map(Step::Apply));
            steps.extend(group.iter().filter(|object| wait::is_awaited(object)).cloned().map(Step::Wait));
        }
    }
    steps
}

fn labelled(object: &Value, owner: &Owner, component: &str) -> Value {
    let mut object = object.clone();
    // The namespace may have been there before, and holds more than this.
    if object["kind"] != "Namespace" {
        for (label, value) in owner.labels(component) {
            object["metadata"]["labels"][label] = Value::from(value);
        }
    }
    object
}

/// Who owns the fields that are applied.
pub const FIELD_MANAGER: &str = "navarch";
const NAMESPACE_LABEL: &str = "install.navarch.io/namespace";
const REVISION_LABEL: &str = "install.navarch.io/revision";
const COMPONENT_LABEL: &str = "install.navarch.io/component";
const BASE: &str = "base";
