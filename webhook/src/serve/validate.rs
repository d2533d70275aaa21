//! Whether a configuration object may be stored: the rules of `crds`, as an answer to the API server.
//!
//! Not a line of defence: what gets past (the webhook may be off) is validated again where it is used (S54).

use crds::decode::{self, Outcome};
use crds::{Problem, Reason, Severity};
use serde_json::Value;

/// What the API server and its user are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Why the object is refused; empty: it is allowed.
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Kubernetes cuts warnings off at 4096 bytes in sum, and says nothing of it.
const WARNINGS_MAX: usize = 10;

pub(super) fn verdict(object: Value) -> Verdict {
    let decoded = decode::checked(object).into_iter().next();
    let Some(decoded) = decoded else { return Verdict::default() };
    // A kind or version that this one does not know belongs to a newer one (S53).
    let unknown = |problem: &Problem| matches!(problem.reason, Reason::UnknownKind(_));
    let is_unknown = decoded.problems.iter().any(unknown);
    if is_unknown || matches!(decoded.outcome, Outcome::Skipped(_)) {
        return Verdict::default();
    }
    let (errors, warnings): (Vec<_>, Vec<_>) =
        decoded.problems.iter().partition(|problem| problem.severity() == Severity::Error);
    let sentence = |problem: &Problem| match problem.field.as_str() {
        "" => problem.reason.to_string(),
        field => format!("{field}: {}", problem.reason),
    };
    let refused = decoded.outcome == Outcome::Refused;
    Verdict {
        errors: if refused { errors.into_iter().map(sentence).collect() } else { vec![] },
        warnings: warnings.into_iter().take(WARNINGS_MAX).map(sentence).collect(),
    }
}

impl Verdict {
    /// One mistake on one line, several as a list: Istio's shape, which tools read.
    pub(super) fn message(&self) -> String {
        let list = match self.errors.as_slice() {
            [one] => one.clone(),
            many => {
                let items: Vec<_> = many.iter().map(|it| format!("\t* {it}")).collect();
                format!("{} errors occurred:\n{}\n", many.len(), items.join("\n"))
            }
        };
        format!("configuration is invalid: {list}")
    }
}
