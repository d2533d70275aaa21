//! What is merged, and what is left out.

use super::*;
use crate::service::Age;
use crds::Meta;
use serde_json::{Value, json};

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(Kind::VirtualService, namespace, name)
}

fn spec(value: Value) -> VirtualService {
    serde_json::from_value(value).unwrap()
}

/// A root `r/root` with one rule that delegates, and what comes of it; the delegate is `d/team`.
fn merged(mut root: Value, delegate: Value) -> (Vec<HttpRule>, Vec<String>) {
    root["delegate"] = json!({"name": "team", "namespace": "d"});
    let root = spec(json!({"hosts": ["a"], "http": [root]}));
    let delegate = spec(delegate);
    let visibility = Visibility::new(&delegate.export_to, &[], &"d".into());
    let delegates = [(key("d", "team"), DelegateView { visibility, spec: &delegate })].into();
    let made = RouteRules::new(key("r", "root"), Age::new(&Meta::default()), Visibility::Public, &root, &delegates);
    (made.http, made.problems.iter().map(ToString::to_string).collect())
}

fn to(host: &str) -> Value {
    json!([{"destination": {"host": host}}])
}

#[test]
fn what_the_delegate_leaves_open_the_root_says() {
    let root = json!({
        "name": "root", "match": [{"name": "m", "uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}, "port": 80}],
        "timeout": "1s", "rewrite": {"uri": "/"}, "headers": {"request": {"set": {"a": "root"}}}, "mirror": {"host": "copy"},
    });
    let delegate = json!({"http": [
        {"name": "own", "match": [{"name": "n", "uri": {"exact": "/a/b"}, "headers": {"y": {}}}], "timeout": "2s", "route": to("team")},
        {"headers": {"request": {"set": {"a": "own"}}}, "mirror": {"host": "mine"}, "route": to("b.example.com")},
    ]});
    let (rules, problems) = merged(root, delegate);
    assert_eq!(problems, [""; 0]);
    let expected = spec(json!({"http": [
        {
            "name": "root-own",
            "match": [{
                "name": "m-n", "uri": {"exact": "/a/b"}, "headers": {"x": {"exact": "1"}, "y": {}}, "port": 80,
            }],
            "timeout": "2s", "rewrite": {"uri": "/"}, "headers": {"request": {"set": {"a": "root"}}},
            "mirror": {"host": "copy.r.svc.cluster.local"}, "route": to("team.d.svc.cluster.local"),
        },
        {
            "name": "root", "match": [{
                "name": "m", "uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}, "port": 80,
            }],
            "timeout": "1s", "rewrite": {"uri": "/"}, "headers": {"request": {"set": {"a": "own"}}},
            "mirror": {"host": "mine.d.svc.cluster.local"}, "route": to("b.example.com"),
        },
    ]}));
    for (at, (rule, route)) in rules.iter().zip(&expected.http).enumerate() {
        assert_eq!((&rule.object, rule.at, &rule.route), (&key("d", "team"), at, route));
    }
}

#[test]
fn a_match_must_be_within_one_of_the_roots() {
    for (root, own, matches) in [
        (json!([]), json!([{"uri": {"exact": "/a"}}]), 1),
        (json!([{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}]), json!([]), 2),
        (json!([{"uri": {"prefix": "/a"}}]), json!([{"uri": {"prefix": "/a/b"}}]), 1),
        (json!([{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}]), json!([{"uri": {"exact": "/a/b/c"}}]), 2),
        (json!([{"uri": {"prefix": "/a/b"}}]), json!([{"uri": {"prefix": "/a"}}]), 0),
        (json!([{"uri": {"exact": "/a"}}]), json!([{"uri": {"exact": "/a"}}]), 1),
        (json!([{"uri": {"exact": "/a"}}]), json!([{"uri": {"prefix": "/a"}}]), 0),
        (json!([{"uri": {"regex": "/a"}}]), json!([{"uri": {"regex": "/a"}}]), 0),
        (json!([{"uri": {"regex": "/a"}}]), json!([{"method": {"exact": "GET"}}]), 1),
        (json!([{"uri": {"prefix": "/a"}}]), json!([{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]), 0),
        (json!([{"headers": {"x": {"exact": "1"}}}]), json!([{"headers": {"x": {"exact": "2"}}}]), 0),
        (json!([{"headers": {"x": {}}}]), json!([{"headers": {"x": {}}}]), 0),
        (json!([{"withoutHeaders": {"x": {"exact": "1"}}}]), json!([{"withoutHeaders": {"x": {"exact": "2"}}}]), 0),
        (json!([{"queryParams": {"q": {"exact": "1"}}}]), json!([{"queryParams": {"q": {"exact": "1"}}}]), 1),
        (json!([{"uri": {"prefix": "/a"}}]), json!([{"uri": {"prefix": "/a"}, "ignoreUriCase": true}]), 0),
        (json!([{"port": 80}]), json!([{"port": 81}]), 0),
        (json!([{"port": 80}]), json!([{"port": 80}]), 1),
        (json!([{"sourceNamespace": "a"}]), json!([{"sourceNamespace": "a"}]), 1),
        (json!([{"sourceNamespace": "a"}]), json!([{"sourceNamespace": "b"}]), 0),
        (json!([{"sourceNamespace": "a"}]), json!([{"port": 80}]), 0),
        (json!([{"sourceLabels": {"a": "1"}}]), json!([{"sourceLabels": {"b": "1"}}]), 1),
        (json!([{"sourceLabels": {"a": "1"}}]), json!([{"sourceLabels": {"a": "2"}}]), 0),
        (json!([{"gateways": ["r/g", "mesh"]}]), json!([{"gateways": ["mesh"]}]), 1),
        (json!([{"gateways": ["g"]}]), json!([{"gateways": ["g"]}]), 0),
        (json!([{"gateways": ["g"]}]), json!([{"gateways": ["r/g"]}]), 1),
    ] {
        let case = format!("{root} {own}");
        let (rules, problems) = merged(json!({"match": root}), json!({"http": [{"match": own, "route": to("b")}]}));
        assert_eq!(rules.first().map_or(0, |it| it.route.r#match.len()), matches, "{case}");
        assert_eq!(problems.len(), usize::from(matches == 0), "{case}: {problems:?}");
    }
}

#[test]
fn a_delegate_that_does_not_fit_is_named_and_the_rest_stays() {
    let good = json!({"http": [{"route": to("b")}]});
    let of = |more: Value| {
        let mut spec = good.clone();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        merged(json!({}), spec)
    };
    let at = "VirtualService r/root: spec.http[0].delegate: ";
    for (more, rules, problem) in [
        (json!({}), 1, ""),
        (json!({"exportTo": ["r"]}), 1, ""),
        (json!({"exportTo": ["."]}), 0, "VirtualService d/team is not exported to namespace r"),
        (
            json!({"hosts": ["x"]}),
            0,
            "VirtualService d/team has hosts of its own; only one without can be delegated to",
        ),
        (
            json!({"http": [{"delegate": {"name": "x"}}, {"route": to("b")}]}),
            1,
            "VirtualService d/team delegates spec.http[0] itself, which only a VirtualService with hosts may",
        ),
    ] {
        let (made, problems) = of(more.clone());
        assert_eq!(made.len(), rules, "{more}");
        let expected = if problem.is_empty() { vec![] } else { vec![format!("{at}{problem}")] };
        assert_eq!(problems, expected, "{more}");
    }
}

#[test]
fn a_missing_delegate_leaves_the_other_rules() {
    let root = spec(json!({"hosts": ["a"], "http": [{"delegate": {"name": "x"}}, {"route": to("b")}]}));
    assert_eq!(names(&key("r", "root"), &root).collect::<Vec<_>>(), [key("r", "x")], "the root's own namespace");
    let (rules, problems) = rules(&key("r", "root"), &root, &Delegates::new());
    assert_eq!(rules.iter().map(|it| (&it.object, it.at)).collect::<Vec<_>>(), [(&key("r", "root"), 1)]);
    assert_eq!(
        problems[0].to_string(),
        "VirtualService r/root: spec.http[0].delegate: VirtualService r/x does not exist"
    );
}
