//! A small API server: lists in pages, watches with bookmarks, and every fault that the tests are about. On loopback,
//! on a port of its own.

mod serve;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Group and plural: `("", "pods")`.
pub(crate) type Resource = (String, String);

#[derive(Clone, Debug)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    addr: SocketAddr,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    version: u64,
    /// Watches from before this version are told that it is gone.
    oldest: u64,
    objects: BTreeMap<Resource, BTreeMap<(String, String), Value>>,
    log: Vec<(u64, Resource, &'static str, Value)>,
    pub(crate) forbidden: BTreeSet<String>,
    /// The answer to a watch from a forgotten version is the status itself, not an event.
    pub(crate) is_gone_a_status: bool,
    /// While closed, later pages than the first (or all, if the first as well) of this plural wait.
    pub(crate) gate: Option<(String, usize)>,
    /// Connections are closed at once.
    pub(crate) is_down: bool,
    /// Connections up to this one are never answered again.
    frozen: u64,
    connections: u64,
    /// Watches that began before it end without a word.
    cut: u64,
    pub(crate) requests: Vec<String>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = State { version: 100, ..State::default() };
        let api = Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0), addr };
        tokio::spawn(serve::accept(api.clone(), listener));
        api
    }

    pub(crate) fn client(&self) -> kube::Client {
        let url = format!("http://{}", self.addr).parse().unwrap();
        source::kube::client(kube::Config::new(url)).unwrap()
    }

    /// Changes the server's state, and wakes all that wait for it.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    pub(crate) fn put(&self, group: &str, plural: &str, object: Value) {
        self.with(|state| state.put((group.into(), plural.into()), object));
    }

    pub(crate) fn delete(&self, group: &str, plural: &str, namespace: &str, name: &str) {
        self.with(|state| state.delete((group.into(), plural.into()), namespace, name));
    }

    /// Every watch ends in the middle.
    pub(crate) fn cut(&self) {
        self.with(|state| state.cut += 1);
    }

    /// Nobody who is connected hears anything any more; new connections work.
    pub(crate) fn freeze(&self) {
        self.with(|state| state.frozen = state.connections);
    }

    /// A backup is restored: versions start again from a lower one.
    pub(crate) fn restore(&self) {
        self.with(|state| {
            state.version = 10;
            state.oldest = 0;
            state.log.clear();
            state.cut += 1;
        });
    }

    /// How many requests had all of these in them.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        self.lock().requests.iter().filter(|request| parts.iter().all(|part| request.contains(part))).count()
    }

    /// How many times a kind was listed from the start.
    pub(crate) fn lists(&self, plural: &str) -> usize {
        let plural = format!("/{plural}?");
        let requests = &self.lock().requests;
        let is_list = |request: &&String| {
            request.contains(&plural) && !request.contains("watch=true") && !request.contains("continue=")
        };
        requests.iter().filter(is_list).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// As etcd's compaction: what happened until now can only be listed. Running watches end.
    pub(crate) fn forget_history(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.cut += 1;
    }

    pub(crate) fn put(&mut self, resource: Resource, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let key = key(&object);
        let known = self.objects.entry(resource.clone()).or_default();
        let is_new = known.insert(key, object.clone()).is_none();
        self.log.push((self.version, resource, if is_new { "ADDED" } else { "MODIFIED" }, object));
    }

    pub(crate) fn delete(&mut self, resource: Resource, namespace: &str, name: &str) {
        let known = self.objects.entry(resource.clone()).or_default();
        let Some(mut object) = known.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.log.push((self.version, resource, "DELETED", object));
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

pub(crate) fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(crate) fn service(namespace: &str, name: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": port}]}})
}

pub(crate) fn virtual_service(name: &str, host: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

/// A definition of one of Istio's kinds.
pub(crate) fn definition(group: &str, kind: &str, plural: &str, versions: &[&str]) -> Value {
    let versions: Vec<_> = versions.iter().map(|version| json!({"name": version, "served": true})).collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "names": {"kind": kind, "plural": plural}, "versions": versions},
        "status": {"conditions": [{"type": "Established", "status": "True"}]}})
}
