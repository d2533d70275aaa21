//! From a chart's templates to text, with go_template set up as Helm does.

use super::{Chart, RenderError};
use go_template::Engine;
use serde_json::{Value, json};

/// What each of the chart's manifests renders to, by its path.
pub(super) fn render(chart: Chart, root: &Value) -> Result<Vec<(String, String)>, RenderError> {
    let wrong = |template: &str, line: usize, message: &str| RenderError::Template {
        chart: chart.name(),
        file: format!("{template}:{line}"),
        reason: message.to_owned(),
    };
    let engine = Engine::helm().method("Get", move |arguments| {
        // `.Files.Get`: nothing for a file that is not there, as in Helm.
        let path = arguments.last().and_then(Value::as_str).unwrap_or_default();
        Ok(Value::from(chart.file(path).unwrap_or_default()))
    });
    let templates = chart.files().iter().filter(|(path, _)| path.starts_with("templates/"));
    let mut all = engine.parse("", "").map_err(|error| wrong(&error.template, error.line, &error.message))?;
    for (path, text) in templates.clone() {
        all.add(path, text).map_err(|error| wrong(&error.template, error.line, &error.message))?;
    }
    let mut rendered = Vec::new();
    for (path, _) in templates.filter(|(path, _)| path.ends_with(".yaml")) {
        let mut data = root.clone();
        data["Files"] = json!({});
        data["Template"] =
            json!({"Name": format!("{}/{path}", chart.name()), "BasePath": format!("{}/templates", chart.name())});
        let text = all.render(path, &data).map_err(|error| wrong(&error.template, error.line, &error.message))?;
        rendered.push(((*path).to_owned(), text));
    }
    Ok(rendered)
}
