//! What is wrong with one VirtualService, collected while its routes are made.

use crds::{ObjectKey, Problem, Reason};

/// Problems, each of the object that is being read.
pub(super) struct Notes<'a> {
    object: &'a ObjectKey,
    problems: Vec<Problem>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(object: &'a ObjectKey) -> Self {
        Self { object, problems: vec![] }
    }

    /// From here on: rules may be written in a delegate.
    pub(super) fn about(&mut self, object: &'a ObjectKey) {
        self.object = object;
    }

    pub(super) fn add(&mut self, field: impl Into<String>, reason: Reason) {
        self.problems.push(Problem::new(self.object, field, reason));
    }

    /// Sorted; each once, though a rule with several matches makes several routes.
    pub(super) fn problems(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems.dedup();
        self.problems
    }
}

/// Why a route cannot be made: the field, from the object's root, and the reason.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) field: String,
    pub(super) reason: Reason,
}

impl Flaw {
    pub(super) fn new(field: impl Into<String>, reason: Reason) -> Self {
        Self { field: field.into(), reason }
    }

    pub(super) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(field, Reason::Invalid(why.into()))
    }
}

/// A pattern that Envoy's RE2 accepts. Envoy wants it not to be empty.
pub(super) fn regex(pattern: &str, field: &str) -> Result<(), Flaw> {
    if pattern.is_empty() {
        return Err(Flaw::new(field, Reason::InvalidRegex("the pattern is empty".into())));
    }
    crds::re2::check(pattern).map_err(|why| Flaw::new(field, Reason::InvalidRegex(why)))
}

/// Text that may stand in a header: Envoy refuses NUL and line ends (`HTTP_HEADER_VALUE`).
pub(super) fn header_text<'t>(text: &'t str, field: &str) -> Result<&'t str, Flaw> {
    match text.contains(['\0', '\r', '\n']) {
        true => Err(Flaw::invalid(field, format!("{text:?} contains a line end or NUL"))),
        false => Ok(text),
    }
}

/// A time that Envoy accepts: it counts in nanoseconds of 64 bits.
pub(super) fn time(value: crds::Duration, field: &str) -> Result<crds::Duration, Flaw> {
    /// `DurationUtil::validateDuration` (`source/common/protobuf/utility.cc`).
    const SECONDS_MAX: u64 = i64::MAX as u64 / 1_000_000_000 - 1;
    match value.0.as_secs() > SECONDS_MAX {
        true => Err(Flaw::invalid(field, "longer than the 292 years that Envoy can count")),
        false => Ok(value),
    }
}
