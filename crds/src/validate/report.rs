//! Where rules put what they find.

use crate::{ObjectKey, Problem, Reason};

pub(super) struct Report<'a> {
    object: &'a ObjectKey,
    problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(super) fn new(object: &'a ObjectKey) -> Self {
        Self { object, problems: Vec::new() }
    }

    pub(super) fn error(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.add(field, Reason::Invalid(why.into()));
    }

    pub(super) fn warning(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.add(field, Reason::Ineffective(why.into()));
    }

    pub(super) fn add(&mut self, field: impl Into<String>, reason: Reason) {
        self.problems.push(Problem::new(self.object, field, reason));
    }

    pub(super) fn check(&mut self, field: impl Into<String>, rule: Result<(), String>) {
        if let Err(why) = rule {
            self.error(field, why);
        }
    }

    /// A regex has a reason of its own: only Envoy's engine decides about it.
    pub(super) fn regex(&mut self, field: impl Into<String>, pattern: &str) {
        if let Err(why) = crate::re2::check(pattern) {
            self.add(field, Reason::InvalidRegex(why));
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
