//! Why a decision came out as it did: plain sentences in the order in which Envoy would have looked.

use std::fmt;

/// One thing that was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step(String);

impl Step {
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects the steps of one decision.
#[derive(Debug, Default)]
pub(super) struct Trace(Vec<Step>);

impl Trace {
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.0.push(Step(text.into()));
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.0
    }
}
