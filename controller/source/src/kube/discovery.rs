//! `MeshConfig.discoverySelectors`: namespaces outside of them are as if they did not exist.
//!
//! A filter between the watches and their reader. Once there are selectors it keeps a copy of every object of a
//! namespace, so that a label that changes brings them all or takes them all away; without selectors it keeps nothing.

use super::state::{Change, Now};
use crds::{Kind, Object, ObjectKey, Problem, yaml};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(super) struct Discovery {
    selectors: Selectors,
    namespaces: BTreeMap<Arc<str>, Labels>,
    kept: BTreeMap<Arc<str>, BTreeMap<ObjectKey, Copy>>,
}

/// Which namespaces exist for the mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Selectors {
    /// The MeshConfig has not been read yet: everything waits.
    #[default]
    Unknown,
    All,
    /// Those that one of the selectors matches.
    Any(Vec<Selector>),
}

/// All of the requirements, as in Kubernetes' LabelSelector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

#[derive(Debug)]
struct Copy {
    object: Option<Object>,
    problems: Vec<Problem>,
}

/// Whether the namespaced kinds must be listed again, because nothing was kept of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relist {
    Needed,
    No,
}

impl Discovery {
    /// What the reader is to know of these changes.
    pub(super) fn pass(&mut self, changes: Vec<Change>) -> Vec<Change> {
        let mut passed = Vec::new();
        for change in changes {
            match change.key.kind {
                Kind::Namespace => {
                    passed.extend(self.namespace(&change));
                    passed.push(change);
                }
                // The MeshConfig says which namespaces there are, and is not subject to it.
                Kind::ConfigMap => passed.push(change),
                _ if change.key.namespace.is_empty() => passed.push(change),
                _ => passed.extend(self.object(change)),
            }
        }
        passed
    }

    /// Other selectors. Gives what appears and disappears, as far as copies are kept.
    pub(super) fn select(&mut self, selectors: Selectors) -> (Vec<Change>, Relist) {
        let before = std::mem::replace(&mut self.selectors, selectors);
        if before == self.selectors {
            return (Vec::new(), Relist::No);
        }
        let relist = if before == Selectors::All { Relist::Needed } else { Relist::No };
        let mut changes = Vec::new();
        for (namespace, objects) in &self.kept {
            let labels = self.namespaces.get(namespace);
            changes.extend(flip(objects, before.shows(labels), self.selectors.shows(labels)));
        }
        if self.selectors == Selectors::All {
            self.kept.clear();
        }
        (changes, relist)
    }

    pub(super) fn shows(&self, namespace: &str) -> bool {
        self.selectors.shows(self.namespaces.get(namespace))
    }

    pub(super) fn is_known(&self) -> bool {
        self.selectors != Selectors::Unknown
    }

    fn namespace(&mut self, change: &Change) -> Vec<Change> {
        let name = &change.key.name;
        let was = self.shows(name);
        match &change.now {
            Now::Set(object) => {
                self.namespaces.insert(name.clone(), (*object.meta.labels).clone());
            }
            Now::Gone => {
                self.namespaces.remove(name);
            }
            Now::Kept => {}
        }
        let is = self.shows(name);
        self.kept.get(name).map(|objects| flip(objects, was, is)).unwrap_or_default()
    }

    fn object(&mut self, change: Change) -> Option<Change> {
        let namespace = change.key.namespace.clone();
        if self.selectors != Selectors::All {
            self.keep(&namespace, &change);
        }
        self.shows(&namespace).then_some(change)
    }

    fn keep(&mut self, namespace: &Arc<str>, change: &Change) {
        let objects = self.kept.entry(namespace.clone()).or_default();
        match &change.now {
            Now::Gone => {
                objects.remove(&change.key);
                if objects.is_empty() {
                    self.kept.remove(namespace);
                }
            }
            Now::Set(object) => {
                let copy = Copy { object: Some((**object).clone()), problems: change.problems.clone() };
                objects.insert(change.key.clone(), copy);
            }
            Now::Kept => {
                let copy = objects.entry(change.key.clone()).or_insert(Copy { object: None, problems: Vec::new() });
                copy.problems.clone_from(&change.problems);
            }
        }
    }
}

impl Selectors {
    /// Reads `discoverySelectors` of a MeshConfig. An error leaves what was there in force.
    pub(super) fn of(mesh_config: &str) -> Result<Self, String> {
        let mut documents = yaml::documents(mesh_config).into_iter();
        let Some(document) = documents.next() else { return Ok(Self::All) };
        let content = document.content.map_err(|error| error.message)?;
        let selectors = match &content.value["discoverySelectors"] {
            Value::Null => return Ok(Self::All),
            Value::Array(selectors) => selectors.iter().map(Selector::of).collect::<Result<Vec<_>, _>>()?,
            _ => return Err("discoverySelectors: must be a list".into()),
        };
        Ok(if selectors.is_empty() { Self::All } else { Self::Any(selectors) })
    }

    /// A namespace that has not been seen has no labels; it is hidden until it is seen.
    fn shows(&self, labels: Option<&Labels>) -> bool {
        match self {
            Self::Unknown => false,
            Self::All => true,
            Self::Any(selectors) => labels.is_some_and(|labels| selectors.iter().any(|one| one.matches(labels))),
        }
    }
}

impl Selector {
    fn of(value: &Value) -> Result<Self, String> {
        let text = |value: &Value, field: &str| {
            value.as_str().map(str::to_owned).ok_or_else(|| format!("discoverySelectors: {field} must be a text"))
        };
        let mut all = Vec::new();
        for (key, value) in value["matchLabels"].as_object().into_iter().flatten() {
            all.push(Requirement { key: key.clone(), operator: Operator::In(vec![text(value, key)?]) });
        }
        for expression in value["matchExpressions"].as_array().into_iter().flatten() {
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.map(|value| text(value, "values")).collect::<Result<Vec<_>, _>>()?;
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" | "NotIn" if values.is_empty() => {
                    return Err("discoverySelectors: In and NotIn need values".into());
                }
                "In" => Operator::In(values),
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("discoverySelectors: {other:?} is no operator of a label selector")),
            };
            all.push(Requirement { key: text(&expression["key"], "key")?, operator });
        }
        Ok(Self(all))
    }

    fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|Requirement { key, operator }| match (operator, labels.get(key)) {
            (Operator::In(values), value) => value.is_some_and(|value| values.contains(value)),
            (Operator::NotIn(values), value) => value.is_none_or(|value| !values.contains(value)),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
        })
    }
}

/// All objects of a namespace, when it appears or disappears.
fn flip(objects: &BTreeMap<ObjectKey, Copy>, was: bool, is: bool) -> Vec<Change> {
    let change = |(key, copy): (&ObjectKey, &Copy)| {
        let now = match &copy.object {
            _ if !is => Now::Gone,
            Some(object) => Now::Set(Box::new(object.clone())),
            None => Now::Kept,
        };
        Change { key: key.clone(), now, problems: if is { copy.problems.clone() } else { Vec::new() } }
    };
    if was == is { Vec::new() } else { objects.iter().map(change).collect() }
}
