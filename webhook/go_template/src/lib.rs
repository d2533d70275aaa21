//! Go's text/template with the functions that Helm charts and Istio's injection templates use.
//!
//! It knows nothing of Kubernetes, and does no I/O. A template is somebody else's program: it may be wrong, and it may
//! try to run for ever, so that every rendering has [`Limits`], and none of them panics. `docs/templates.md` says
//! where this differs from Go and Helm.
//!
//! ```
//! let template = go_template::Template::parse("hello", "Hello {{ .name | default \"you\" | quote }}").unwrap();
//! let data = serde_json::json!({"name": "world"});
//! assert_eq!(template.render("hello", &data).unwrap(), "Hello \"world\"");
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compare;
mod engine;
mod exec;
mod format;
mod function;
mod json;
mod lex;
mod parse;
mod value;
mod yaml;

pub use engine::{Engine, Limits, MissingKey, Numbers, Template};

/// A template that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {template}:{line}: {message}")]
pub struct ParseError {
    pub template: String,
    /// 1-based.
    pub line: usize,
    pub message: String,
}

/// A template that failed while it ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {template}:{line}: {message}")]
pub struct RenderError {
    /// The one that was being executed: of several that include each other, the innermost.
    pub template: String,
    /// 1-based, in the text that the template was parsed from; 0 when the template does not exist.
    pub line: usize,
    pub message: String,
}
