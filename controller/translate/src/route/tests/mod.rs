//! One table of cases for each field or rule.

mod action;
mod catch_all;
mod domain;
mod filter;
mod gateway;
mod header;
mod matcher;
mod rule;
mod wrong;

use super::*;
use crds::{Kind, Meta, ObjectKey, networking as n};
use model::{DestinationView, MergedRule, Visibility, service::Age};
use serde_json::{Value, json};

/// `expected` is a part of `actual`; `null` means "not there". Lists must be equal in length.
#[track_caller]
fn assert_part(actual: &Value, expected: &Value, path: &str) {
    match (actual, expected) {
        (Value::Object(have), Value::Object(want)) => {
            for (key, want) in want {
                assert_part(have.get(key).unwrap_or(&Value::Null), want, &format!("{path}.{key}"));
            }
        }
        (Value::Array(have), Value::Array(want)) if have.len() == want.len() => {
            for (at, (have, want)) in have.iter().zip(want).enumerate() {
                assert_part(have, want, &format!("{path}[{at}]"));
            }
        }
        _ => assert_eq!(actual, expected, "{path}"),
    }
}

fn service(namespace: &str, name: &str, spec: Value) -> Service {
    let key = ObjectKey::new(Kind::Service, namespace, name);
    let meta = Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() };
    Service::from_kube(&key, &meta, &serde_json::from_value(spec).unwrap(), vec![], &MeshConfig::default())
}

fn destination_rule(host: &str, spec: Value) -> MergedRule {
    let spec: n::DestinationRule = serde_json::from_value(spec).unwrap();
    MergedRule {
        host: Hostname::new(host),
        objects: vec![ObjectKey::new(Kind::DestinationRule, "books", "rule")],
        age: Age { created: "".into(), name: "".into(), namespace: "".into() },
        visibility: Visibility::Public,
        selector: None,
        traffic_policy: spec.traffic_policy,
        subsets: spec.subsets,
    }
}

fn rules(name: &str, spec: Value) -> RouteRules {
    let key = ObjectKey::new(Kind::VirtualService, "books", name);
    let meta = Meta { name: name.into(), namespace: "books".into(), ..Meta::default() };
    let spec = serde_json::from_value(spec).unwrap();
    RouteRules::new(key, Age::new(&meta), Visibility::Public, &spec, &model::Delegates::new())
}

const REVIEWS: &str = "reviews.books.svc.cluster.local";

/// `reviews` has one port and two subsets, `ratings` two ports, `sticky` hashes by a header, `old` is another name of
/// `reviews`.
struct Mesh {
    services: Vec<Service>,
    rules: Vec<MergedRule>,
    config: MeshConfig,
}

impl Mesh {
    fn new() -> Self {
        let one = json!({"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 9080}]});
        let two = json!({"ports": [{"name": "http", "port": 9080}, {"name": "http-b", "port": 81}]});
        let alias = json!({"type": "ExternalName", "externalName": REVIEWS, "ports": [{"name": "http", "port": 9080}]});
        let names = [("reviews", &one), ("ratings", &two), ("sticky", &one), ("old", &alias)];
        let subsets = json!({"host": "reviews", "subsets": [{"name": "v1"}, {"name": "v2"}]});
        let hash = json!({"trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}});
        Self {
            services: names.map(|(name, spec)| service("books", name, spec.clone())).into(),
            rules: vec![destination_rule(REVIEWS, subsets), destination_rule("sticky.books.svc.cluster.local", hash)],
            config: MeshConfig::default(),
        }
    }

    fn destinations(&self) -> Destinations<'_> {
        let rule = |service: &Service| self.rules.iter().find(|it| it.host == service.key.host);
        let views = self.services.iter().map(|it| DestinationView { service: Some(it), rule: rule(it) });
        self.services.iter().map(|it| it.key.host.clone()).zip(views).collect()
    }

    fn virtual_host(&self, service: &str, spec: Option<Value>, client: &Client<'_>) -> Translated<VirtualHost> {
        let service = self.services.iter().find(|it| &*it.object.name == service);
        let rules = spec.map(|it| rules("vs", it));
        virtual_host(&VirtualHostInput {
            name: "test".into(),
            domains: vec!["test".into()],
            service: service.map(|it| (it, &it.ports[0])),
            rules: rules.as_ref(),
            destinations: &self.destinations(),
            client,
            listener_port: 9080,
            mesh: &self.config,
        })
    }

    /// The routes of `http` for a sidecar of `books` with label `app: web`, and "field: reason" of each problem.
    fn routes(&self, http: &Value) -> (Vec<Value>, Vec<String>) {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let client = Client { gateway: "mesh", namespace: "books", labels: &labels, kind: ProxyKind::Sidecar };
        let made = self.virtual_host("", Some(json!({"hosts": ["reviews"], "http": http})), &client);
        (json_of(&made.resource.routes), text_of(&made.problems))
    }
}

fn json_of(routes: &[Route]) -> Vec<Value> {
    routes.iter().map(|it| xds::json::of(it).unwrap()).collect()
}

fn text_of(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|it| format!("{}: {}", it.field, it.reason)).collect()
}

/// The only route of a rule to `reviews` with more fields.
#[track_caller]
fn route(fields: Value) -> Value {
    let mut rule = json!({"route": [{"destination": {"host": "reviews"}}]});
    rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (routes, problems) = Mesh::new().routes(&json!([rule]));
    assert_eq!((routes.len(), problems), (1, vec![]), "{fields}");
    routes[0].clone()
}

/// Each case: fields of a rule, and a part of the route that they make.
#[track_caller]
fn assert_routes<const N: usize>(cases: [(Value, Value); N]) {
    for (fields, expected) in cases {
        assert_part(&route(fields.clone()), &expected, &fields.to_string());
    }
}
