//! Every row of `cases.json`: what Go 1.26 with sprig 3 and `sigs.k8s.io/yaml` 1.6 makes of a template, byte for byte.

#![allow(clippy::unwrap_used)]

use go_template::Template;
use serde_json::Value;

fn cases() -> (Value, Vec<Value>) {
    let file: Value = serde_json::from_str(include_str!("cases.json")).unwrap();
    (file["data"].clone(), file["cases"].as_array().unwrap().clone())
}

fn render(text: &str, data: &Value) -> Result<String, String> {
    let template = Template::parse("t", text).map_err(|error| error.to_string())?;
    template.render("t", data).map_err(|error| error.to_string())
}

#[test]
fn templates_render_as_in_go() {
    let (data, cases) = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let text = case["template"].as_str().unwrap();
        let data = case.get("data").unwrap_or(&data);
        match (render(text, data), case.get("out").and_then(Value::as_str)) {
            (Err(_), None) => {}
            (Ok(out), Some(wanted)) if out == wanted => {}
            (Ok(out), Some(wanted)) => {
                let lines = wanted.lines().zip(out.lines()).filter(|(wanted, out)| wanted != out).take(20);
                let lines: String = lines.map(|(wanted, out)| format!("  go   {wanted}\n  here {out}\n")).collect();
                wrong.push(format!("{text}\n{lines}"));
            }
            (Ok(out), None) => wrong.push(format!("{text}\n  go   refuses\n  here {out}\n")),
            (Err(error), Some(wanted)) => wrong.push(format!("{text}\n  go   {wanted}\n  here {error}\n")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
