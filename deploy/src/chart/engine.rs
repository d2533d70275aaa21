//! From a chart's templates to text.

use super::{Chart, RenderError};
use serde_json::Value;

/// TODO: the template engine is not there yet; until then nothing can be rendered.
pub(super) fn render(chart: Chart, _root: &Value) -> Result<Vec<(String, String)>, RenderError> {
    let reason = "charts cannot be rendered yet; use helm".to_owned();
    Err(RenderError::Template { chart: chart.name(), file: "templates".into(), reason })
}
