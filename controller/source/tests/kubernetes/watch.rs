//! The Kubernetes source against an API server that has faults.

use super::fake::{Api, definition, namespace, service, virtual_service};
use crds::{Kind, Object, ObjectKey, Problem, Spec};
use serde_json::{Value, json};
use source::kube::{Event, Health, Options, Timing, watch};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, watch as watched};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);
const ISTIO: &str = "networking.istio.io";
const CRDS: &str = "apiextensions.k8s.io";

/// A reader of the source: what it knows of the objects, and every event.
struct Reader {
    events: mpsc::Receiver<Event>,
    health: watched::Receiver<Health>,
    objects: BTreeMap<ObjectKey, Object>,
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
    is_synced: bool,
    /// Keys of every event since [`Reader::forget`].
    changed: Vec<Vec<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn fast() -> Timing {
    Timing {
        batch: Duration::from_millis(10),
        watch: Duration::from_secs(5),
        silence: Duration::from_secs(8),
        retry: (Duration::from_millis(20), Duration::from_millis(100)),
        spacing: Duration::from_millis(50),
    }
}

impl Reader {
    fn start(api: &Api) -> Self {
        Self::with(api, fast())
    }

    fn with(api: &Api, timing: Timing) -> Self {
        let mut options = Options::new("istio-system");
        options.timing = timing;
        let health = options.health();
        let (sender, events) = mpsc::channel(4);
        let client = api.client();
        let task = tokio::spawn(async move {
            let Err(error) = watch(client, options, sender).await;
            assert_eq!(error.to_string(), "nobody reads the changes any more");
        });
        let (objects, problems) = (BTreeMap::new(), BTreeMap::new());
        Self { events, health, objects, problems, is_synced: false, changed: Vec::new(), task }
    }

    async fn synced(api: &Api) -> Self {
        let mut reader = Self::start(api);
        reader.until(|reader| reader.is_synced).await;
        reader
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let event = timeout(LIMIT, self.events.recv())
                .await
                .unwrap_or_else(|_| panic!("{:?} {:#?}", self.changed, self.health.borrow()));
            self.take(event.expect("the source never ends"));
        }
    }

    fn take(&mut self, event: Event) {
        let Event::Changed { changes, problems } = event else {
            assert!(!self.is_synced, "said once");
            self.is_synced = true;
            return;
        };
        self.changed.push(changes.iter().map(|(key, _)| key.to_string()).collect());
        for (key, object) in changes {
            self.problems.remove(&key);
            match object {
                Some(object) => self.objects.insert(key, object),
                None => self.objects.remove(&key),
            };
        }
        for problem in &problems {
            self.problems.remove(&problem.object);
        }
        for problem in problems {
            self.problems.entry(problem.object.clone()).or_default().push(problem);
        }
    }

    async fn healthy(&self, condition: impl Fn(&Health) -> bool) {
        let mut health = self.health.clone();
        let reached = timeout(LIMIT, health.wait_for(|health| condition(health))).await;
        assert!(reached.is_ok(), "{:#?}", self.health.borrow());
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        let keys = self.objects.keys().filter(|key| key.kind == kind);
        keys.map(|key| format!("{}/{}", key.namespace, key.name)).collect()
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.names(kind).iter().any(|known| known == name)
    }

    fn host(&self, name: &str) -> Option<String> {
        let object = self.objects.get(&ObjectKey::new(Kind::VirtualService, "default", name))?;
        let Spec::VirtualService(spec) = &object.spec else { panic!("a VirtualService") };
        spec.hosts.first().map(ToString::to_string)
    }
}

async fn api() -> Api {
    let api = Api::start().await;
    api.put("", "namespaces", namespace("default", json!({})));
    api.put(
        CRDS,
        "customresourcedefinitions",
        definition(ISTIO, "VirtualService", "virtualservices", &["v1beta1", "v1"]),
    );
    api
}

/// Tells apart "nothing was said" from "not yet": a later change has come through, and nothing before it.
async fn marker(api: &Api, reader: &mut Reader, name: &str) {
    api.put("", "services", service("default", name, 1));
    let key = format!("default/{name}");
    reader.until(|reader| reader.has(Kind::Service, &key)).await;
}

#[tokio::test]
async fn f09_nothing_is_said_before_every_first_list_is_in() {
    let api = api().await;
    api.put("", "services", service("default", "a", 80));
    api.put(ISTIO, "virtualservices", virtual_service("route", "a"));
    api.with(|state| state.gate = Some(("pods".into(), 0)));
    let mut reader = Reader::start(&api);
    reader.healthy(|health| health.waiting().map(|(name, _)| name).eq(["Pod"])).await;
    assert!(reader.events.is_empty());
    api.with(|state| state.gate = None);
    reader.until(|reader| reader.is_synced).await;
    assert_eq!(reader.changed.len(), 1, "everything at once");
    assert_eq!(reader.changed[0], ["Namespace default", "Service default/a", "VirtualService default/route"]);
    assert!(reader.health.borrow().is_synced);
}

#[tokio::test]
async fn f03_a_lost_watch_ends_in_one_replacement_and_only_what_differs_is_said() {
    for is_gone_a_status in [false, true] {
        let api = api().await;
        api.with(|state| {
            state.is_gone_a_status = is_gone_a_status;
            for i in 0..1201 {
                state.put((String::new(), "services".into()), service("default", &format!("s{i:04}"), 80));
            }
        });
        let mut reader = Reader::synced(&api).await;
        assert_eq!(reader.names(Kind::Service).len(), 1201, "all pages");
        let later_pages = || api.count(&["/services?", "continue="]);
        let pages = later_pages();
        assert!(pages > 1, "{pages}");
        reader.changed.clear();
        api.with(|state| state.gate = Some(("services".into(), 1)));
        api.with(|state| {
            // What the watches would have said is lost with the compaction, under the same lock.
            state.delete((String::new(), "services".into()), "default", "s0700");
            state.put((String::new(), "services".into()), service("default", "s0003", 81));
            state.forget_history();
        });
        let second_page = async {
            while later_pages() == pages {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, second_page).await.expect("a second page of the new list is asked for");
        api.put("", "pods", json!({"metadata": {"name": "p", "namespace": "default"}}));
        reader.until(|reader| reader.has(Kind::Pod, "default/p")).await;
        assert_eq!(reader.changed, [["Pod default/p"]], "nothing of half a list");
        api.with(|state| state.gate = None);
        reader.until(|reader| !reader.has(Kind::Service, "default/s0700")).await;
        assert_eq!(reader.changed[1], ["Service default/s0003", "Service default/s0700"]);
        assert_eq!(api.lists("services"), 2);
    }
}

#[tokio::test]
async fn f02_a_watch_that_breaks_off_goes_on_where_it_was_without_a_list() {
    let api = api().await;
    let mut reader = Reader::synced(&api).await;
    for round in 0..5 {
        api.cut();
        marker(&api, &mut reader, &format!("s{round}")).await;
    }
    assert_eq!(api.lists("services"), 1);
    assert_eq!(reader.changed.len(), 6, "{:?}", reader.changed);
}

#[tokio::test]
async fn f01_an_api_server_that_is_away_costs_nothing_and_what_it_did_meanwhile_is_told() {
    let api = api().await;
    api.put("", "services", service("default", "a", 80));
    let mut reader = Reader::synced(&api).await;
    reader.changed.clear();
    api.with(|state| state.is_down = true);
    reader.healthy(|health| health.kinds["Service"].trouble.is_some()).await;
    api.put("", "services", service("default", "b", 80));
    assert!(reader.events.is_empty());
    api.with(|state| state.is_down = false);
    reader.until(|reader| reader.has(Kind::Service, "default/b")).await;
    reader.healthy(|health| health.kinds["Service"].trouble.is_none()).await;
    assert_eq!(reader.changed, [["Service default/b"]]);
    assert_eq!(api.lists("services"), 1);
}

#[tokio::test]
async fn f02_a_dead_connection_is_noticed_by_its_silence() {
    let api = api().await;
    let timing = Timing { silence: Duration::from_secs(2), watch: Duration::from_secs(1), ..fast() };
    let mut reader = Reader::with(&api, timing);
    reader.until(|reader| reader.is_synced).await;
    api.freeze();
    marker(&api, &mut reader, "after").await;
    assert_eq!(api.lists("services"), 1);
}

#[tokio::test]
async fn f04_short_watches_are_resumed_and_never_lists_again() {
    let api = api().await;
    let mut reader = Reader::with(&api, Timing { watch: Duration::from_secs(1), ..fast() });
    reader.until(|reader| reader.is_synced).await;
    reader.healthy(|_| api.count(&["/services?", "watch=true"]) >= 4).await;
    marker(&api, &mut reader, "after").await;
    assert_eq!(reader.changed, [vec!["Namespace default"], vec!["Service default/after"]]);
    assert_eq!((api.lists("services"), api.lists("pods")), (1, 1));
}

#[tokio::test]
async fn f08_versions_that_go_back_are_listed_anew() {
    let api = api().await;
    api.put("", "services", service("default", "a", 80));
    let mut reader = Reader::synced(&api).await;
    api.restore();
    marker(&api, &mut reader, "b").await;
    assert_eq!(reader.names(Kind::Service), ["default/a", "default/b"]);
    assert!(api.lists("services") >= 2);
}

#[tokio::test]
async fn f05_what_is_forbidden_is_named_and_the_rest_goes_on() {
    let api = api().await;
    api.with(|state| state.forbidden.extend(["nodes".to_owned(), "virtualservices".to_owned()]));
    api.put("", "nodes", json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    let mut reader = Reader::synced(&api).await;
    let trouble = |health: &Health, kind: &str| health.kinds[kind].trouble.clone();
    let health = reader.health.borrow().clone();
    assert_eq!(trouble(&health, "Node").as_deref(), Some("forbidden: needs get, list and watch of nodes"));
    let routes = "forbidden: needs get, list and watch of virtualservices.networking.istio.io";
    assert_eq!(trouble(&health, "VirtualService").as_deref(), Some(routes));
    api.with(|state| state.forbidden.clear());
    reader.until(|reader| reader.has(Kind::Node, "/n")).await;
    reader.healthy(|health| health.kinds.values().all(|kind| kind.trouble.is_none())).await;
}

#[tokio::test]
async fn f05_services_that_may_not_be_read_are_not_an_empty_cluster() {
    let api = api().await;
    api.put("", "services", service("default", "a", 80));
    api.with(|state| state.forbidden.insert("services".into()));
    let mut reader = Reader::start(&api);
    reader.healthy(|health| health.waiting().map(|(name, _)| name).eq(["Service"])).await;
    assert!(reader.events.is_empty());
    api.with(|state| state.forbidden.clear());
    reader.until(|reader| reader.is_synced).await;
    reader.changed.clear();
    // And in flight: what is known stays.
    api.with(|state| state.forbidden.insert("services".into()));
    api.cut();
    reader.healthy(|health| health.kinds["Service"].trouble.is_some()).await;
    assert!(reader.events.is_empty());
    api.with(|state| state.forbidden.clear());
    marker(&api, &mut reader, "b").await;
    assert_eq!(reader.names(Kind::Service), ["default/a", "default/b"]);
}

#[tokio::test]
async fn f05_security_policies_that_may_not_be_read_are_not_no_policies() {
    let api = api().await;
    let (group, kind, plural) = ("security.istio.io", "PeerAuthentication", "peerauthentications");
    api.put(CRDS, "customresourcedefinitions", definition(group, kind, plural, &["v1"]));
    api.with(|state| state.forbidden.insert(plural.into()));
    let mut reader = Reader::start(&api);
    reader.healthy(|health| health.waiting().map(|(name, _)| name).eq([kind])).await;
    assert!(reader.events.is_empty());
    api.with(|state| state.forbidden.clear());
    reader.until(|reader| reader.is_synced).await;
}

#[tokio::test]
async fn f05_kinds_come_and_go_with_their_definitions() {
    let api = Api::start().await;
    let mut reader = Reader::synced(&api).await;
    assert_eq!(api.count(&["istio.io"]), 0);
    let define = |versions: &[&str]| definition(ISTIO, "VirtualService", "virtualservices", versions);
    api.put(ISTIO, "virtualservices", virtual_service("route", "a"));
    api.put(CRDS, "customresourcedefinitions", define(&["v1alpha3", "v1beta1"]));
    reader.until(|reader| reader.has(Kind::VirtualService, "default/route")).await;
    assert_eq!(api.count(&["/v1beta1/virtualservices?"]), api.count(&["/virtualservices?"]), "the best that is served");
    reader.changed.clear();
    // The version in use is served no more: the objects stay.
    api.put(CRDS, "customresourcedefinitions", define(&["v1"]));
    reader.healthy(|_| api.count(&["/v1/virtualservices?", "watch=true"]) > 0).await;
    marker(&api, &mut reader, "a").await;
    assert_eq!(reader.changed, [["Service default/a"]]);
    api.delete(CRDS, "customresourcedefinitions", "", "virtualservices.networking.istio.io");
    reader.until(|reader| !reader.has(Kind::VirtualService, "default/route")).await;
    assert!(!reader.health.borrow().kinds.contains_key("VirtualService"));
}

#[tokio::test]
async fn f06_bad_objects_stop_nothing_and_the_last_good_version_stays() {
    let api = api().await;
    let hostile = [
        json!({"metadata": {"name": "no-spec", "namespace": "default"}}),
        json!({"metadata": {"name": "number", "namespace": "default"}, "spec": 5}),
        json!({"metadata": {"name": "hosts", "namespace": "default"}, "spec": {"hosts": "a"}}),
        json!({"metadata": {"name": "labels", "namespace": "default", "labels": [1]}, "spec": {}}),
        json!({"metadata": {"name": "dates", "namespace": "default", "creationTimestamp": {}}, "spec": {}}),
    ];
    for object in &hostile {
        api.put(ISTIO, "virtualservices", object.clone());
    }
    api.put(ISTIO, "virtualservices", virtual_service("good", "a"));
    let mut reader = Reader::synced(&api).await;
    assert_eq!(reader.names(Kind::VirtualService), ["default/good"]);
    assert_eq!(reader.problems.len(), hostile.len());
    assert_eq!(reader.health.borrow().kinds["VirtualService"].refused, hostile.len());
    // A good one turns bad, and good again.
    let mut bad = virtual_service("good", "b");
    bad["spec"]["http"][0]["route"][0]["weight"] = "much".into();
    api.put(ISTIO, "virtualservices", bad);
    let key = ObjectKey::new(Kind::VirtualService, "default", "good");
    reader.until(|reader| reader.problems.contains_key(&key)).await;
    assert_eq!(reader.host("good").as_deref(), Some("a"));
    for object in &hostile {
        api.put(ISTIO, "virtualservices", object.clone());
    }
    api.put(ISTIO, "virtualservices", virtual_service("good", "a"));
    reader.until(|reader| !reader.problems.contains_key(&key)).await;
    api.put(ISTIO, "virtualservices", virtual_service("good", "c"));
    reader.until(|reader| reader.host("good").as_deref() == Some("c")).await;
}

#[tokio::test]
async fn namespaces_outside_the_discovery_selectors_are_as_if_they_did_not_exist() {
    let api = api().await;
    let map = |mesh: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": mesh}})
    };
    api.put("", "configmaps", map("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]"));
    api.put("", "namespaces", namespace("in", json!({"mesh": "yes"})));
    api.put("", "namespaces", namespace("out", json!({})));
    for name in ["in", "out"] {
        api.put("", "services", service(name, "a", 80));
    }
    let mut reader = Reader::synced(&api).await;
    assert_eq!(reader.names(Kind::Service), ["in/a"]);
    assert_eq!(reader.names(Kind::Namespace), ["/default", "/in", "/out"]);
    // The label comes and goes; what changed in the shade counts.
    api.put("", "services", service("out", "b", 80));
    api.put("", "namespaces", namespace("out", json!({"mesh": "yes"})));
    reader.until(|reader| reader.names(Kind::Service) == ["in/a", "out/a", "out/b"]).await;
    api.put("", "namespaces", namespace("in", json!({"mesh": "no"})));
    reader.until(|reader| reader.names(Kind::Service) == ["out/a", "out/b"]).await;
    // So do the selectors.
    api.put("", "configmaps", map("{}"));
    reader.until(|reader| reader.names(Kind::Service).len() == 3).await;
    api.put(
        "",
        "configmaps",
        map("discoverySelectors: [{matchExpressions: [{key: mesh, operator: In, values: ['no']}]}]"),
    );
    reader.until(|reader| reader.names(Kind::Service) == ["in/a"]).await;
    api.put("", "namespaces", namespace("out", json!({"mesh": "no"})));
    reader.until(|reader| reader.names(Kind::Service).len() == 3).await;
    api.delete("", "services", "out", "a");
    reader.until(|reader| reader.names(Kind::Service) == ["in/a", "out/b"]).await;
    api.delete("", "configmaps", "istio-system", "istio");
    api.put("", "namespaces", namespace("out", json!({})));
    marker(&api, &mut reader, "c").await;
    assert_eq!(reader.names(Kind::Service), ["default/c", "in/a", "out/b"]);
    assert!(api.count(&["/configmaps?"]) == api.count(&["/namespaces/istio-system/configmaps?", "metadata.name"]));
}

#[tokio::test]
async fn a_busy_reader_finds_one_change_for_each_object() {
    let api = api().await;
    let mut reader = Reader::synced(&api).await;
    for port in 1..200 {
        api.put("", "services", service("default", "a", port));
        tokio::task::yield_now().await;
    }
    let key = ObjectKey::new(Kind::Service, "default", "a");
    let port = |object: &Object| match &object.spec {
        Spec::Service(service) => service.ports[0].port,
        _ => panic!("a Service"),
    };
    reader.until(|reader| reader.objects.get(&key).is_some_and(|object| port(object) == 199)).await;
    assert!(reader.changed.iter().all(|keys| keys.len() == 1));
}

/// What the source is asked to keep small, as a cluster has it.
fn pod() -> Value {
    let long = "x".repeat(4096);
    json!({"metadata": {"name": "reviews-v1-5b5d6494f4-6l4xk", "namespace": "default",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "5b5d6494f4"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": long, "cni.example/status": long,
                "sidecar.istio.io/inject": "true"},
            "managedFields": [{"manager": long}]},
        "spec": {"nodeName": "worker-1", "serviceAccountName": "bookinfo-reviews", "volumes": [{"name": long}],
            "containers": [{"name": "reviews", "image": "example/reviews:1", "env": [{"name": "A", "value": long}],
                "ports": [{"containerPort": 9080}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}],
            "conditions": [{"message": long}]}})
}

#[tokio::test]
async fn a_pod_is_less_than_a_kibibyte_however_much_others_wrote_into_it() {
    let api = api().await;
    api.put("", "pods", pod());
    let reader = Reader::synced(&api).await;
    let (_, object) = reader.objects.iter().find(|(key, _)| key.kind == Kind::Pod).unwrap();
    // Every text, and what a map entry, a vector and the fixed parts cost beside it.
    let printed = format!("{object:?}");
    assert!(!printed.contains("xxx"), "{printed}");
    let size = deep_size(object);
    assert!(size <= 1024, "{size} bytes: {printed}");
}

fn deep_size(object: &Object) -> usize {
    let Spec::Pod(pod) = &object.spec else { panic!("a Pod") };
    let map =
        |map: &BTreeMap<String, String>| map.iter().map(|(key, value)| 48 + key.len() + value.len()).sum::<usize>();
    let containers = pod.spec.containers.iter().map(|container| {
        let ports = container.ports.iter().map(|port| size_of_val(port) + port.name.len()).sum::<usize>();
        size_of_val(container) + container.name.len() + container.image.len() + ports
    });
    size_of_val(object)
        + object.key.name.len() * 2
        + object.key.namespace.len()
        + map(&object.meta.labels)
        + map(&object.meta.annotations)
        + containers.sum::<usize>()
        + pod.spec.node_name.len()
        + pod.spec.service_account_name.len()
}
