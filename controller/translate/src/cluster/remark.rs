//! Collects what could not be honoured, with the path of the block it is written in.

use crds::mesh_config::MeshConfig;
use crds::{Kind, ObjectKey, Problem, Reason};
use model::MergedRule;
use model::traffic_policy::Origin;

pub(super) struct Remarks<'a> {
    rule: Option<&'a MergedRule>,
    mesh: &'a MeshConfig,
    problems: Vec<Problem>,
}

impl<'a> Remarks<'a> {
    pub(super) fn new(rule: Option<&'a MergedRule>, mesh: &'a MeshConfig) -> Self {
        Self { rule, mesh, problems: Vec::new() }
    }

    /// `field` is relative to the policy that `origin` names. Of merged rules the oldest is blamed.
    pub(super) fn add(&mut self, origin: Origin, field: &str, reason: Reason) {
        let mesh_config = || ObjectKey::new(Kind::ConfigMap, self.mesh.root_namespace.as_str(), "istio");
        let rule = self.rule.and_then(|it| it.objects.first());
        let object = match origin {
            Origin::Mesh => mesh_config(),
            _ => rule.cloned().unwrap_or_else(mesh_config),
        };
        self.problems.push(Problem { object, field: format!("{origin}.{field}"), reason });
    }

    /// Keeps a value that Envoy would accept; another is left out and remarked on.
    pub(super) fn keep<T>(&mut self, value: Option<T>, ok: bool, origin: Origin, field: &str, why: &str) -> Option<T> {
        if value.is_some() && !ok {
            self.add(origin, field, Reason::Invalid(why.to_owned()));
            return None;
        }
        value
    }

    pub(super) fn extend(&mut self, problems: Vec<Problem>) {
        self.problems.extend(problems);
    }

    pub(super) fn problems(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems.dedup();
        self.problems
    }
}
