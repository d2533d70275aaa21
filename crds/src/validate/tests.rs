//! One case a rule: a spec, and what is said about it. `!` marks an error, `?` a warning.

mod destination_rule;
mod gateway;
mod service_entry;
mod sidecar;
mod virtual_service;

use crate::decode::{self, Outcome};
use crate::{Severity, Spec, yaml};

/// Decodes and validates `spec` (flow or block YAML) as an object of `kind`, and returns `!field: reason` lines.
fn verdict(kind: &str, spec: &str) -> Vec<String> {
    let api = match kind {
        "Service" => "v1",
        "EnvoyFilter" => "networking.istio.io/v1alpha3",
        "PeerAuthentication" => "security.istio.io/v1",
        _ => "networking.istio.io/v1",
    };
    object(&format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a, namespace: ns}}\nspec: {spec}\n"))
}

fn object(text: &str) -> Vec<String> {
    let value = yaml::value(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut decoded = decode::checked(value);
    assert_eq!(decoded.len(), 1);
    let decoded = decoded.remove(0);
    let has_error = decoded.problems.iter().any(|p| p.severity() == Severity::Error);
    assert_eq!(has_error, decoded.outcome == Outcome::Refused, "an error, and only an error, refuses: {text}");
    let sign = |severity| if severity == Severity::Error { '!' } else { '?' };
    decoded.problems.iter().map(|p| format!("{}{}: {}", sign(p.severity()), p.field, p.reason)).collect()
}

/// Every case must say exactly one thing that begins with the expected text; none, when that is empty.
fn cases(kind: &str, cases: &[(&str, &str)]) {
    for (spec, expected) in cases {
        let found = verdict(kind, spec);
        let is_expected = match *expected {
            "" => found.is_empty(),
            text => found.len() == 1 && found[0].starts_with(text),
        };
        assert!(is_expected, "{kind} {spec}\nexpected {expected:?}\nfound    {found:#?}");
    }
}

/// `rules.yaml`: each rule says all that stands there, and nothing else.
#[test]
fn the_rules_of_the_table() {
    let rules = yaml::value(include_str!("tests/rules.yaml")).unwrap();
    let mut wrong = vec![];
    for rule in rules.as_array().unwrap() {
        let expected: Vec<&str> = rule["says"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let mut found = verdict(rule["kind"].as_str().unwrap(), &rule["spec"].to_string());
        found.retain(|it| !it.contains(": not translated by this version"));
        let says =
            expected.len() == found.len() && expected.iter().all(|text| found.iter().any(|it| it.starts_with(text)));
        if !says {
            wrong.push(format!("{}: expected {expected:#?}, found {found:#?}", rule["rule"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn metadata_that_istio_keeps_for_itself_is_refused() {
    for (metadata, expected) in [
        ("name: A", "!metadata.name: \"A\" is not a name"),
        ("name: a..b", "!metadata.name: \"a..b\" is not a name"),
        ("name: a, namespace: B", "!metadata.namespace: \"B\" is not a namespace"),
        (
            "name: a, annotations: {internal.istio.io/parents: x}",
            "!metadata.annotations.internal.istio.io/parents: annotation found, this may not be set by users",
        ),
        (
            "name: a, annotations: {internal.istio.io/webhook-always-reject: x}",
            "!metadata.annotations.internal.istio.io/webhook-always-reject: annotation found, rejecting",
        ),
    ] {
        let found = object(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{{metadata}}}\n"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{metadata}: {found:?}");
    }
}

#[test]
fn service_rules() {
    let long = "a".repeat(300);
    let external = format!("{{type: ExternalName, externalName: {long}.com}}");
    cases(
        "Service",
        &[
            ("{ports: [{port: 80}]}", ""),
            ("{clusterIP: None}", ""),
            ("{type: ExternalName, externalName: example.com}", ""),
            ("{}", "!spec.ports: a Service needs at least one port"),
            ("{type: ExternalName}", "!spec.externalName: a Service of type ExternalName needs"),
            (&external, "!spec.externalName: domain name"),
            ("{ports: [{port: 0}]}", "!spec.ports[0].port: port number 0 must be"),
            ("{ports: [{port: 65536}]}", "!spec.ports[0].port: invalid value: integer 65536"),
            ("{ports: [{port: 80, name: a}, {port: 81}]}", "!spec.ports[1].name: with more than one port"),
            ("{ports: [{port: 80, name: a}, {port: 81, name: a}]}", "!spec.ports[1].name: port name \"a\" is already"),
            ("{ports: [{port: 80, name: a}, {port: 80, name: b}]}", "!spec.ports[1].port: port 80 is already"),
            ("{ports: [{port: 53, name: a}, {port: 53, name: b, protocol: UDP}]}", ""),
            ("{ports: [{port: 80, name: a_b}]}", "!spec.ports[0].name: invalid port name"),
            (
                "{ports: [{port: 80, protocol: HTTP}]}",
                "!spec.ports[0].protocol: unknown value \"HTTP\", expected one of \"TCP\"",
            ),
            ("{ports: [{port: 80, targetPort: 0}]}", "!spec.ports[0].targetPort: port number 0"),
            ("{ports: [{port: 80, targetPort: not_a_name}]}", "!spec.ports[0].targetPort: \"not_a_name\" is neither"),
            ("{clusterIP: 1.2.3, ports: [{port: 80}]}", "!spec.clusterIP: 1.2.3 is not a valid IP"),
            ("{selector: {'a b': c}, ports: [{port: 80}]}", "!spec.selector: invalid label key"),
        ],
    );
}

#[test]
fn workload_entry_rules() {
    cases(
        "WorkloadEntry",
        &[
            ("{address: 1.1.1.1}", ""),
            ("{address: a.example.com, ports: {http: 80}}", ""),
            ("{address: 'unix:///var/run/a'}", ""),
            ("{address: 'unix://@abstract'}", ""),
            ("{}", "!spec.address: address is required"),
            ("{network: net}", "?spec.address: address is unset with network"),
            ("{address: 'unix://a'}", "!spec.address: a is not an absolute path"),
            ("{address: 'unix:///a', ports: {a: 1}}", "!spec.address: unix endpoint unix:///a must not include ports"),
            ("{address: 'a b'}", "!spec.address: endpoint address \"a b\" is not a valid FQDN"),
            ("{address: 1.1.1.1, ports: {a: 0}}", "!spec.ports.a: port number 0"),
            ("{address: 1.1.1.1, ports: {a_b: 1}}", "!spec.ports.a_b: invalid port name"),
            ("{address: 1.1.1.1, labels: {a: '*'}}", "!spec.labels: invalid label value"),
        ],
    );
}

#[test]
fn workload_group_rules() {
    let probe = |spec: &str| format!("{{template: {{}}, probe: {{{spec}}}}}");
    for (spec, expected) in [
        ("{template: {ports: {http: 80}, labels: {app: a}}}".to_owned(), ""),
        ("{}".to_owned(), "!spec.template: template is required"),
        ("{template: {ports: {http: 0}}}".to_owned(), "!spec.template.ports.http: port number 0"),
        ("{template: {labels: {a: '*'}}}".to_owned(), "!spec.template.labels: invalid label value"),
        ("{template: {}, metadata: {labels: {a: '*'}}}".to_owned(), "!spec.metadata.labels: invalid label value"),
        (probe("httpGet: {port: 80, path: /, scheme: HTTP, httpHeaders: [{name: a-b, value: c}]}"), ""),
        (probe("tcpSocket: {port: 80}"), ""),
        (probe("exec: {command: [a]}"), ""),
        (probe("grpc: {port: 80}"), ""),
        (probe("periodSeconds: 1"), "!spec.probe: one of httpGet, tcpSocket, exec and grpc is required"),
        (probe("tcpSocket: {port: 80}, grpc: {port: 80}"), "!spec.probe: only one of"),
        (probe("tcpSocket: {port: 80}, periodSeconds: -1"), "!spec.probe.periodSeconds: periodSeconds must be"),
        (probe("tcpSocket: {}"), "!spec.probe.tcpSocket.port: port number 0"),
        (probe("grpc: {port: 70000}"), "!spec.probe.grpc.port: port number 70000"),
        (probe("exec: {}"), "!spec.probe.exec.command: exec.command is required"),
        (probe("httpGet: {port: 80, scheme: http}"), "!spec.probe.httpGet.scheme: httpGet.scheme must be"),
        (probe("httpGet: {port: 80, httpHeaders: [{name: 'a b'}]}"), "!spec.probe.httpGet.httpHeaders[0].name: header"),
    ] {
        let found = verdict("WorkloadGroup", &spec);
        let is_expected = if expected.is_empty() { found.is_empty() } else { found[0].starts_with(expected) };
        assert!(is_expected && found.len() < 2, "{spec}: {found:?}");
    }
}

#[test]
fn what_stands_in_a_status_is_read_and_never_a_mistake() {
    let read = |kind: &str, spec: &str, status: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\nstatus: {status}\n"
        );
        let decoded = decode::object(yaml::value(&text).unwrap());
        assert_eq!(decoded.problems, [], "{text}");
        decoded.into_object().unwrap().spec
    };
    let Spec::WorkloadEntry(entry) =
        read("WorkloadEntry", "{address: 1.1.1.1}", "{conditions: [{type: Healthy, status: 'False', message: m}]}")
    else {
        panic!("another kind");
    };
    assert_eq!(
        (entry.status.conditions[0].r#type.as_str(), entry.status.conditions[0].status.as_str()),
        ("Healthy", "False")
    );
    for (status, count) in [("{addresses: [{value: 240.240.0.1, host: a}]}", 1), ("{addresses: {}}", 0), ("1", 0)] {
        let Spec::ServiceEntry(entry) = read("ServiceEntry", "{hosts: [a]}", status) else { panic!("another kind") };
        assert_eq!(entry.status.addresses.len(), count, "{status}");
    }
}
