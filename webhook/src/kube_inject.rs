//! Injection offline: workloads in YAML files, as the webhook would change their pods.
//!
//! The same function does both, so the pod parts are equal byte for byte. What is no workload passes through as it is
//! written.

use crate::inject::{self, Config, Outcome, ProxyConfigs, Request, Workload};
use crate::yaml;
use crds::{Kind, Object, Spec};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// The file, injected, and one sentence for each workload that is left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injected {
    pub text: String,
    pub remarks: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("line {line}: {message}")]
    Yaml { line: usize, message: String },
    #[error("{object}: {refusal}")]
    Refused { object: String, refusal: inject::Refusal },
}

/// `namespace` is that of objects that do not say theirs.
pub fn file(text: &str, namespace: &str, config: &Config) -> Result<Injected, Error> {
    let mut injected = Injected::default();
    let config = &config.clone().with_proxy_configs(Arc::new(proxy_configs(text, namespace, &mut injected.remarks)));
    for (line, chunk) in chunks(text) {
        let mut documents = vec![];
        for document in crds::yaml::documents(chunk) {
            let content =
                document.content.map_err(|error| Error::Yaml { line: line + error.line, message: error.message })?;
            documents.push(content.value);
        }
        let separate = if injected.text.is_empty() { "" } else { "---\n" };
        let before = documents.clone();
        for document in &mut documents {
            object(document, namespace, config, &mut injected.remarks)?;
        }
        if documents == before {
            if !chunk.trim().is_empty() {
                let end = if chunk.ends_with('\n') { "" } else { "\n" };
                let _ = write!(injected.text, "{separate}{chunk}{end}");
            }
            continue;
        }
        let texts: Vec<_> = documents.iter().map(yaml::text).collect();
        let _ = write!(injected.text, "{separate}{}", texts.join("---\n"));
    }
    Ok(injected)
}

/// Those of the file stand for those of the cluster, which nobody asks here.
fn proxy_configs(text: &str, namespace: &str, remarks: &mut Vec<String>) -> ProxyConfigs {
    let documents = crds::yaml::documents(text).into_iter().filter_map(|it| it.content.ok());
    let mut found = vec![];
    for decoded in documents.flat_map(|it| crds::decode::checked(with_namespace(it.value, namespace))) {
        if decoded.key.kind != Kind::ProxyConfig {
            continue;
        }
        remarks.extend(decoded.problems.iter().map(ToString::to_string));
        if let Some(Object { meta, spec: Spec::ProxyConfig(config), .. }) = decoded.into_object() {
            found.push((meta, config));
        }
    }
    ProxyConfigs::new(found)
}

fn with_namespace(mut object: Value, namespace: &str) -> Value {
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(|it| *it = with_namespace(it.take(), namespace));
    } else if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| namespace.into());
    }
    object
}

/// The text between `---` lines, and how many lines are before it.
fn chunks(text: &str) -> Vec<(usize, &str)> {
    let mut chunks = vec![];
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty()) {
            chunks.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + line.len(), i + 1);
        }
        offset += line.len();
    }
    chunks.push((start_line, &text[start..]));
    chunks
}

fn object(object: &mut Value, namespace: &str, config: &Config, remarks: &mut Vec<String>) -> Result<(), Error> {
    if kind(object) == "List" {
        let mut items = object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten();
        return items.try_for_each(|it| self::object(it, namespace, config, remarks));
    }
    let Some(template) = template(kind(object)) else { return Ok(()) };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|it| !it.is_empty());
    let (kind, name) = (kind(object).to_owned(), text("/metadata/name").unwrap_or_default().to_owned());
    let workload = Workload {
        api_version: text("/apiVersion").unwrap_or_default().to_owned(),
        kind: kind.clone(),
        name: name.clone(),
    };
    let namespace = text("/metadata/namespace").unwrap_or(namespace).to_owned();
    let Some(part) = object.pointer_mut(template).filter(|it| it["spec"].is_object()) else { return Ok(()) };
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": part["metadata"], "spec": part["spec"] });
    if pod["metadata"].is_null() {
        pod["metadata"] = json!({});
    }
    // A pod knows its owner itself.
    let workload = if template.is_empty() { None } else { Some(workload) };
    let request = Request { namespace, workload, ..Request::default() };
    match inject::inject(&pod, &request, config) {
        Ok(Outcome::Injected(mut pod)) => {
            part["metadata"] = pod["metadata"].take();
            part["spec"] = pod["spec"].take();
        }
        Ok(Outcome::Skipped(why)) => remarks.push(format!("{kind} {name}: not injected: {why}")),
        Err(refusal) => return Err(Error::Refused { object: format!("{kind} {name}"), refusal }),
    }
    Ok(())
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// Where the pod is in an object of that kind.
fn template(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        "DaemonSet"
        | "Deployment"
        | "DeploymentConfig"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => Some("/spec/template"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
