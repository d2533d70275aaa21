//! Entries come and go at an API server that is a map.

use super::*;
use crds::Kind;
use std::sync::{Arc, Mutex};

/// An API server with one WorkloadGroup, and the WorkloadEntries that are written.
#[derive(Clone, Default)]
struct Api {
    entries: Arc<Mutex<BTreeMap<String, Value>>>,
    changed: watch::Sender<usize>,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (code, answer) = api.answer(&parts.method, parts.uri.path(), &body);
                let body = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, kube::Error>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &http::Method, path: &str, body: &[u8]) -> (u16, Value) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let missing = (404, json!({"status": "Failure", "code": 404, "message": "", "reason": "NotFound"}));
        if path.contains("/workloadgroups/") {
            return (200, json!({"metadata": {"name": "vm", "namespace": "shop", "uid": "u1"}}));
        }
        let mut entries = self.entries.lock().unwrap();
        let name = path.split("/workloadentries/").nth(1).map(|it| it.trim_end_matches("/status").to_owned());
        let answer = match (method.as_str(), name) {
            ("POST", _) if body["metadata"]["labels"]["app"] == "a b" => {
                return (422, json!({"status": "Failure", "code": 422, "message": "", "reason": "Invalid"}));
            }
            ("POST", _) => {
                entries.insert(body["metadata"]["name"].as_str().unwrap().to_owned(), body.clone());
                (201, body)
            }
            ("GET", Some(name)) => entries.get(&name).map_or(missing, |it| (200, it.clone())),
            ("GET", None) => (200, json!({"metadata": {}, "items": entries.values().cloned().collect::<Vec<_>>()})),
            ("PATCH", Some(name)) => {
                let entry = entries.get_mut(&name).unwrap();
                merge(entry, &body);
                (200, entry.clone())
            }
            ("DELETE", Some(name)) => entries.remove(&name).map_or(missing, |it| (200, it)),
            other => panic!("{other:?}"),
        };
        if method != http::Method::GET {
            self.changed.send_modify(|it| *it += 1);
        }
        answer
    }

    async fn until(&self, what: &str, holds: impl Fn(&BTreeMap<String, Value>) -> bool) {
        let mut changed = self.changed.subscribe();
        let all = async {
            while !holds(&self.entries.lock().unwrap()) {
                changed.changed().await.unwrap()
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), all).await.expect(what);
    }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    for (name, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => _ = into.as_object_mut().unwrap().remove(name),
            Value::Object(_) => {
                if !into[name].is_object() {
                    into[name] = json!({});
                }
                merge(&mut into[name], value);
            }
            value => into[name] = value.clone(),
        }
    }
}

fn registration(connection: u64, health: Option<Health>) -> (ObjectKey, Registration) {
    let registration = Registration {
        connection: ConnectionId(connection),
        group: "vm".into(),
        service_account: Some("vm".into()),
        labels: Arc::new([("app".to_owned(), "vm".to_owned())].into()),
        ports: Arc::default(),
        annotations: [(GROUP.to_owned(), "vm".to_owned())].into(),
        spec: json!({"address": "10.0.0.9", "serviceAccount": "vm"}),
        health,
    };
    (ObjectKey::new(Kind::WorkloadEntry, "shop", "vm-10.0.0.9"), registration)
}

fn entries(api: &Api) -> (watch::Sender<Wanted>, tokio::task::JoinHandle<()>) {
    let entries = Entries {
        client: api.client(),
        instance: "istiod-1".into(),
        grace: Duration::from_secs(10),
        stream_age_max: Duration::from_secs(1800),
    };
    let (wanted, receiver) = watch::channel(Wanted::default());
    (wanted, tokio::spawn(entries.keep(receiver)))
}

#[tokio::test(start_paused = true)]
async fn an_entry_comes_and_goes_with_its_workload() {
    let api = Api::default();
    let (wanted, task) = entries(&api);
    let put = |connection, health| wanted.send_replace(Arc::new([registration(connection, health)].into()));
    let at = |entry: &Value, name: &str| entry["metadata"]["annotations"][name].is_string();
    put(1, None);
    api.until("it is made", |it| it.contains_key("vm-10.0.0.9")).await;
    let made = api.entries.lock().unwrap()["vm-10.0.0.9"].clone();
    assert_eq!(made["metadata"]["annotations"][GROUP], "vm");
    assert_eq!(made["metadata"]["annotations"][CONTROLLER], "istiod-1");
    assert_eq!(
        made["metadata"]["ownerReferences"][0],
        json!({"apiVersion": VERSION, "kind": "WorkloadGroup", "name": "vm", "uid": "u1", "controller": true})
    );
    assert!(at(&made, CONNECTED) && !at(&made, DISCONNECTED));
    put(1, Some(Health::Unhealthy("refused".into())));
    let condition =
        |it: &BTreeMap<String, Value>, status: &str| it["vm-10.0.0.9"]["status"]["conditions"][0]["status"] == status;
    api.until("it is ill", |it| condition(it, "False")).await;
    put(1, Some(Health::Healthy));
    api.until("it is well", |it| condition(it, "True")).await;
    wanted.send_replace(Wanted::default());
    api.until("it has left", |it| at(&it["vm-10.0.0.9"], DISCONNECTED)).await;
    put(2, None);
    api.until("it is back", |it| at(&it["vm-10.0.0.9"], CONNECTED) && !at(&it["vm-10.0.0.9"], DISCONNECTED)).await;
    wanted.send_replace(Wanted::default());
    api.until("it is gone", BTreeMap::is_empty).await;
    drop(wanted);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_refused_is_in_nobody_s_way() {
    let api = Api::default();
    let (wanted, task) = entries(&api);
    let (key, mut bad) = registration(1, None);
    bad.labels = Arc::new([("app".to_owned(), "a b".to_owned())].into());
    let first = ObjectKey::new(Kind::WorkloadEntry, "shop", "a");
    wanted.send_replace(Arc::new([(first, bad), registration(2, None)].into()));
    api.until("the other is made", |it| it.contains_key(&*key.name)).await;
    wanted.send_replace(Wanted::default());
    api.until("it is gone", BTreeMap::is_empty).await;
    drop(wanted);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_somebody_else_s_stays_as_it_is() {
    let api = Api::default();
    let user = json!({"metadata": {"name": "vm-10.0.0.9", "namespace": "shop"}, "spec": {"address": "10.0.0.9"}});
    api.entries.lock().unwrap().insert("vm-10.0.0.9".into(), user.clone());
    let (wanted, task) = entries(&api);
    wanted.send_replace(Arc::new([registration(1, Some(Health::Healthy))].into()));
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::task::yield_now().await;
    drop(wanted);
    task.await.unwrap();
    assert_eq!(api.entries.lock().unwrap()["vm-10.0.0.9"], user);
}

#[test]
fn what_ended_replicas_left_is_taken_away_when_nobody_can_come_again() {
    let now: Timestamp = "2024-05-01T12:00:00Z".parse().unwrap();
    for (annotations, left) in [
        (json!({}), false),
        (json!({DISCONNECTED: "2024-05-01T11:00:00Z"}), false),
        (json!({GROUP: "vm"}), false),
        (json!({GROUP: "vm", DISCONNECTED: "2024-05-01T11:59:55.123456789Z"}), false),
        (json!({GROUP: "vm", DISCONNECTED: "2024-05-01T11:59:45Z"}), true),
        (json!({GROUP: "vm", CONNECTED: "2024-05-01T11:30:00Z", DISCONNECTED: "2024-05-01T11:00:00Z"}), false),
        (json!({GROUP: "vm", CONNECTED: "2024-05-01T10:59:00Z"}), true),
        (json!({GROUP: "vm", CONNECTED: "yesterday"}), false),
    ] {
        let entry = json!({"metadata": {"name": "e", "annotations": annotations}});
        let entry: DynamicObject = serde_json::from_value(entry).unwrap();
        let is = is_left(&entry, now, Duration::from_secs(10), Duration::from_secs(1800));
        assert_eq!(is, left, "{annotations}");
    }
}
