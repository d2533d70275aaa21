//! Files in, files out, and the same pods as from the webhook.

use super::*;
use crate::inject::{Options, Texts};

fn config() -> Config {
    Config::new(Texts::default(), Options::default()).unwrap()
}

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  replicas: 2
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - name: web
        image: web:1
        ports:
        - containerPort: 80
          name: http
        readinessProbe:
          httpGet:
            path: /
            port: http
";

/// The pod that the Deployment's ReplicaSet would ask the API server for.
fn pod_of(workload: &Value, template: &str) -> Value {
    let mut pod = workload.pointer(template).unwrap().clone();
    let kind = kind(workload);
    let (owner, hash) = if kind == "Deployment" { ("ReplicaSet", "-5d4") } else { (kind, "") };
    let (owner, name) = match kind {
        "CronJob" => ("Job", format!("{}-28123456", workload["metadata"]["name"].as_str().unwrap())),
        _ => (owner, format!("{}{hash}", workload["metadata"]["name"].as_str().unwrap())),
    };
    let version = workload["apiVersion"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["generateName"] = format!("{name}-").into();
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": version, "kind": owner, "name": name, "controller": true}]);
    if kind == "Deployment" {
        pod["metadata"]["labels"]["pod-template-hash"] = "5d4".into();
    }
    pod
}

#[test]
fn the_pod_part_is_the_webhook_s_byte_for_byte() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"] {
        let mut workload = crds::yaml::value(DEPLOYMENT).unwrap();
        workload["kind"] = kind.into();
        let at = template(kind).unwrap();
        if kind == "Job" || kind == "CronJob" {
            workload["apiVersion"] = "batch/v1".into();
        }
        if kind == "CronJob" {
            let template = workload["spec"]["template"].take();
            workload["spec"] = json!({"jobTemplate": {"spec": {"template": template}}});
        }
        let offline = file(&yaml::text(&workload), "default", &config()).unwrap();
        let offline = crds::yaml::value(&offline.text).unwrap();
        let request = Request { namespace: "shop".into(), ..Request::default() };
        let Outcome::Injected(online) = inject::inject(&pod_of(&workload, at), &request, &config()).unwrap() else {
            panic!("{kind} skipped")
        };
        let spec = |value: &Value| serde_json::to_string(&value["spec"]).unwrap();
        assert_eq!(spec(offline.pointer(at).unwrap()), spec(&online), "{kind}");
        let annotations = |value: &Value| serde_json::to_string(&value["metadata"]["annotations"]).unwrap();
        assert_eq!(annotations(offline.pointer(at).unwrap()), annotations(&online), "{kind}");
    }
}

#[test]
fn what_is_no_workload_passes_as_written_and_the_rest_is_injected() {
    let service = "# a comment\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: one}\n  spec: {containers: [{name: a}]}\n";
    let host =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: host}\nspec: {hostNetwork: true, containers: [{name: a}]}\n";
    let text = format!("---\n{service}---\n{DEPLOYMENT}---\n{list}---\n{host}");
    let injected = file(&text, "default", &config()).unwrap();
    assert!(injected.text.starts_with(service), "{}", injected.text);
    assert!(injected.text.ends_with(host), "{}", injected.text);
    assert_eq!(injected.text.matches("name: istio-proxy\n").count(), 2, "{}", injected.text);
    assert_eq!(injected.remarks, ["Pod host: not injected: the pod uses the network of its node"]);
    assert_eq!(file(&text, "default", &config()).unwrap(), injected, "the same every time");
    assert_eq!(file(&injected.text, "default", &config()).unwrap().text, injected.text, "once is enough");
}

#[test]
fn mistakes_name_their_place() {
    let error = file("a: 1\n---\nb: [\n", "default", &config()).unwrap_err().to_string();
    assert!(error.starts_with("line "), "{error}");
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {status.sidecar.istio.io/port: http}}\nspec: {containers: []}\n";
    let error = file(bad, "default", &config()).unwrap_err().to_string();
    assert_eq!(error, "Pod x: annotation status.sidecar.istio.io/port: \"http\" is not a port");
}

#[test]
fn proxy_configs_of_the_file_count_as_those_of_the_cluster() {
    let config_of = |selector: &str| {
        let spec = format!("{{environmentVariables: {{FROM: config}}{selector}}}");
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {{name: all}}\nspec: {spec}\n---\n"
        )
    };
    for (text, namespace, expected) in [
        (config_of(""), "shop", true),
        (config_of(", selector: {matchLabels: {app: web}}"), "shop", true),
        (config_of(", selector: {matchLabels: {app: other}}"), "shop", false),
        (config_of(""), "other", false),
        (config_of(""), "istio-system", true),
    ] {
        let injected = file(&format!("{text}{DEPLOYMENT}"), namespace, &config()).unwrap();
        assert!(injected.text.starts_with(&text), "what is no workload passes through:\n{}", injected.text);
        assert_eq!(injected.text.contains("- name: FROM\n"), expected, "{namespace}\n{text}");
    }
    let wrong = config_of("").replace("FROM: config", "A=B: c");
    let injected = file(&format!("{wrong}{DEPLOYMENT}"), "shop", &config()).unwrap();
    let why = "ProxyConfig shop/all: spec.environmentVariables: \"A=B\" is not the name of an environment variable";
    assert_eq!(injected.remarks, [why]);
}
