//! Installing, upgrading and uninstalling, against an API server that is a map.

use deploy::chart::Chart;
use deploy::install::{self, InstallError, Owner, Progress, Removal};
use deploy::manifest::Component;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Objects by path, and what happened to them.
#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    log: Vec<String>,
    version: u64,
    /// Paths whose writes are refused.
    forbidden: Vec<String>,
    /// Whether workloads get ready.
    is_broken: bool,
}

impl Server {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (StatusCode, Value) {
        if *method != Method::GET && self.forbidden.iter().any(|forbidden| path.ends_with(forbidden.as_str())) {
            return (StatusCode::FORBIDDEN, status(403, "user may not do that"));
        }
        match *method {
            Method::GET if path.rsplit('/').next().is_some_and(is_plural) => (StatusCode::OK, self.list(path, query)),
            Method::GET => match self.objects.get_mut(path) {
                None => (StatusCode::NOT_FOUND, status(404, "not found")),
                Some(object) => {
                    let answer = object.clone();
                    // Others do their part after the first look.
                    if !self.is_broken {
                        advance(object);
                    }
                    (StatusCode::OK, answer)
                }
            },
            Method::PATCH => (StatusCode::OK, self.apply(path, query, body)),
            Method::DELETE => match self.objects.remove(path) {
                None => (StatusCode::NOT_FOUND, status(404, "not found")),
                Some(object) => {
                    self.log.push(format!("delete {path}"));
                    (StatusCode::OK, object)
                }
            },
            _ => panic!("{method} {path}"),
        }
    }

    fn apply(&mut self, path: &str, query: &str, body: &[u8]) -> Value {
        assert!(query.contains("fieldManager=navarch") && query.contains("force=true"), "{query}");
        let applied: Value = serde_json::from_slice(body).expect("JSON");
        let old = self.objects.get(path).cloned();
        let mut object = old.clone().unwrap_or_else(|| json!({"metadata": {"generation": 1}}));
        merge(&mut object, &applied);
        if old.as_ref() != Some(&object) {
            self.version += 1;
            self.log.push(format!("apply {path}"));
        }
        object["metadata"]["resourceVersion"] = if old.as_ref() == Some(&object) {
            object["metadata"]["resourceVersion"].clone()
        } else {
            json!(self.version.to_string())
        };
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let plural = path.rsplit('/').next().unwrap_or_default();
        let wanted: Vec<(String, String)> = query
            .split('&')
            .find_map(|parameter| parameter.strip_prefix("labelSelector="))
            .map(|selector| selector.replace("%2F", "/").replace("%3D", "=").replace("%2C", ","))
            .into_iter()
            .flat_map(|selector| selector.split(',').map(str::to_owned).collect::<Vec<_>>())
            .map(|term| term.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("an equality"))
            .collect();
        let is_selected = |object: &Value| wanted.iter().all(|(l, v)| object["metadata"]["labels"][l] == v.as_str());
        let is_kind = |at: &str| at.split('/').rev().nth(1) == Some(plural);
        let items = self.objects.iter().filter(|(at, object)| is_kind(at) && is_selected(object));
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items.map(|(_, o)| o).collect::<Vec<_>>()})
    }
}

/// What controllers do with an object.
fn advance(object: &mut Value) {
    match object["kind"].as_str() {
        Some("CustomResourceDefinition") => {
            object["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
        }
        Some("Deployment") => {
            object["status"] =
                json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        }
        Some("MutatingWebhookConfiguration") => object["webhooks"][0]["clientConfig"]["caBundle"] = json!("eA=="),
        _ => {}
    }
}

fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(under), Value::Array(over)) if under.len() == over.len() => {
            under.iter_mut().zip(over).for_each(|(under, over)| merge(under, over));
        }
        (under, over) => *under = over.clone(),
    }
}

fn is_plural(word: &str) -> bool {
    deploy::kind::KINDS.iter().any(|kind| kind.plural == word) || word == "pods"
}

fn status(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

fn client(server: &Arc<Mutex<Server>>) -> kube::Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let query = parts.uri.query().unwrap_or_default();
            let (code, answer) =
                server.lock().expect("unpoisoned").answer(&parts.method, parts.uri.path(), query, &body);
            let response = Response::builder().status(code).header("content-type", "application/json");
            Ok::<_, Infallible>(response.body(Full::new(bytes::Bytes::from(answer.to_string()))).expect("a response"))
        }
    });
    kube::Client::new(service, "default")
}

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

/// A small installation: a definition, a ConfigMap, a workload and its webhook.
fn components(config_map: &str) -> Vec<Component> {
    let mut hook = object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None, "injector");
    hook["webhooks"] = json!([{"name": "a", "clientConfig": {"service": {"name": "istiod"}}}]);
    vec![
        Component {
            name: "base".into(),
            chart: Chart::Base,
            objects: vec![
                object("v1", "Namespace", None, "mesh"),
                object(
                    "apiextensions.k8s.io/v1",
                    "CustomResourceDefinition",
                    None,
                    "virtualservices.networking.istio.io",
                ),
            ],
        },
        Component {
            name: "istiod".into(),
            chart: Chart::Istiod,
            objects: vec![
                object("v1", "ConfigMap", Some("mesh"), config_map),
                object("apps/v1", "Deployment", Some("mesh"), "istiod"),
                hook,
            ],
        },
    ]
}

fn owner() -> Owner {
    Owner { namespace: "mesh".into(), revision: String::new() }
}

/// Runs an installation; the lines that it told.
async fn run(server: &Arc<Mutex<Server>>, components: &[Component]) -> (Result<(), InstallError>, Vec<String>) {
    let mut told = Vec::new();
    let within = Duration::from_secs(60);
    let result = install::install(&client(server), components, &owner(), within, &mut |p| told.push(short(&p))).await;
    (result, told)
}

fn short(progress: &Progress) -> String {
    match progress {
        Progress::Warning(warning) => warning.to_string(),
        Progress::Applied { object, change } => format!("{object} {change:?}"),
        Progress::Waiting { object, state } => format!("{object}: {state}"),
        Progress::Ready { object } => format!("{object} ready"),
        Progress::Removed { object } => format!("{object} removed"),
        Progress::Kept { object, .. } => format!("{object} kept"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_installation_waits_for_what_the_next_step_needs() {
    let server = Arc::new(Mutex::new(Server::default()));
    let (result, told) = run(&server, &components("istio")).await;
    result.expect("installed");
    assert_eq!(
        told,
        [
            "Namespace mesh Created",
            "CustomResourceDefinition virtualservices.networking.istio.io Created",
            "CustomResourceDefinition virtualservices.networking.istio.io: not established yet",
            "CustomResourceDefinition virtualservices.networking.istio.io ready",
            "ConfigMap mesh/istio Created",
            "Deployment mesh/istiod Created",
            "Deployment mesh/istiod: 0 of 1 pods ready",
            "Deployment mesh/istiod ready",
            "MutatingWebhookConfiguration injector Created",
            "MutatingWebhookConfiguration injector: the control plane has not put its certificate in yet",
            "MutatingWebhookConfiguration injector ready",
        ]
    );
    let labels = &server.lock().expect("unpoisoned").objects["/apis/apps/v1/namespaces/mesh/deployments/istiod"]["metadata"]
        ["labels"];
    assert_eq!(
        *labels,
        json!({"install.navarch.io/namespace": "mesh", "install.navarch.io/revision": "default", "install.navarch.io/component": "istiod"})
    );
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_changes_what_differs_and_removes_what_is_no_more() {
    let server = Arc::new(Mutex::new(Server::default()));
    run(&server, &components("old")).await.0.expect("installed");
    server.lock().expect("unpoisoned").log.clear();
    let (result, told) = run(&server, &components("new")).await;
    result.expect("upgraded");
    let changes: Vec<_> = told.iter().filter(|line| !line.ends_with("ready")).collect();
    assert_eq!(
        changes,
        [
            "Namespace mesh Unchanged",
            "CustomResourceDefinition virtualservices.networking.istio.io Unchanged",
            "ConfigMap mesh/new Created",
            "Deployment mesh/istiod Unchanged",
            "MutatingWebhookConfiguration injector Unchanged",
            "ConfigMap mesh/old removed",
        ]
    );
    let log = server.lock().expect("unpoisoned").log.clone();
    assert_eq!(log, ["apply /api/v1/namespaces/mesh/configmaps/new", "delete /api/v1/namespaces/mesh/configmaps/old"]);
}

#[tokio::test(start_paused = true)]
async fn uninstalling_leaves_users_configuration_and_what_others_installed() {
    let server = Arc::new(Mutex::new(Server::default()));
    run(&server, &components("istio")).await.0.expect("installed");
    let foreign = "/api/v1/namespaces/mesh/configmaps/foreign";
    server
        .lock()
        .expect("unpoisoned")
        .objects
        .insert(foreign.into(), object("v1", "ConfigMap", Some("mesh"), "foreign"));
    let mut told = Vec::new();
    install::uninstall(&client(&server), &owner(), Removal::Installation, &mut |p| told.push(short(&p)))
        .await
        .expect("removed");
    assert_eq!(
        told,
        [
            "MutatingWebhookConfiguration injector removed",
            "Deployment mesh/istiod removed",
            "ConfigMap mesh/istio removed",
            "CustomResourceDefinition virtualservices.networking.istio.io kept",
        ]
    );
    let left: Vec<String> = server.lock().expect("unpoisoned").objects.keys().cloned().collect();
    assert_eq!(
        left,
        [
            foreign,
            "/api/v1/namespaces/mesh",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualservices.networking.istio.io",
        ]
        .map(str::to_owned)
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    let again = install::uninstall(&client(&server), &owner(), Removal::Installation, &mut |_| {}).await;
    let error = again.expect_err("nothing is left");
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().starts_with("nothing that navarch installed was found in namespace mesh"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn purging_takes_the_definitions_and_the_keys_too_but_no_plugged_in_ones() {
    let server = Arc::new(Mutex::new(Server::default()));
    run(&server, &components("istio")).await.0.expect("installed");
    for secret in ["istio-ca-secret", "cacerts"] {
        let path = format!("/api/v1/namespaces/mesh/secrets/{secret}");
        server.lock().expect("unpoisoned").objects.insert(path, object("v1", "Secret", Some("mesh"), secret));
    }
    install::uninstall(&client(&server), &owner(), Removal::Purge, &mut |_| {}).await.expect("removed");
    let left: Vec<String> = server.lock().expect("unpoisoned").objects.keys().cloned().collect();
    assert_eq!(left, ["/api/v1/namespaces/mesh", "/api/v1/namespaces/mesh/secrets/cacerts"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_is_named_with_what_to_do() {
    let server = Arc::new(Mutex::new(Server { forbidden: vec!["/configmaps/istio".into()], ..Server::default() }));
    let error = run(&server, &components("istio")).await.0.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "ConfigMap mesh/istio was not applied: user may not do that\n\
         installing takes the rights of a cluster's administrator"
    );
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_get_ready_is_named_with_its_state() {
    let server = Arc::new(Mutex::new(Server { is_broken: true, ..Server::default() }));
    let error = run(&server, &components("istio")).await.0.expect_err("never ready");
    assert!(
        error.to_string().starts_with(
            "CustomResourceDefinition virtualservices.networking.istio.io is not ready after 60s: not established yet"
        ),
        "{error}"
    );
    assert_eq!(error.exit_code(), 3);
}
