//! The names of virtual hosts.

use super::*;

fn kube(name: &str, spec: Value) -> Service {
    service("books", name, spec)
}

fn with_ip(ips: Value) -> Service {
    kube("reviews", json!({"clusterIPs": ips, "ports": [{"name": "http", "port": 9080}]}))
}

const HOST: &str = "reviews.books.svc.cluster.local";
const ABSOLUTE: &str = "reviews.books.svc.cluster.local.";

#[test]
fn plain_names_depend_on_the_clients_namespace() {
    let service = with_ip(json!(["10.0.0.1", "fd00::1"]));
    assert_eq!(
        domains(&service, 9080, "books", DomainForm::Plain),
        [HOST, ABSOLUTE, "reviews", "reviews.books.svc", "reviews.books", "10.0.0.1", "[fd00::1]"]
    );
    assert_eq!(
        domains(&service, 9080, "other", DomainForm::Plain),
        [HOST, ABSOLUTE, "reviews.books", "reviews.books.svc", "10.0.0.1", "[fd00::1]"]
    );
}

#[test]
fn in_an_http_proxys_table_names_have_their_port_and_on_port_80_also_none() {
    let service = with_ip(json!(["fd00::1"]));
    assert_eq!(
        domains(&service, 9080, "other", DomainForm::WithPort),
        [
            "reviews.books.svc.cluster.local:9080",
            "reviews.books.svc.cluster.local.:9080",
            "reviews.books:9080",
            "reviews.books.svc:9080",
            "[fd00::1]:9080",
        ]
    );
    let on_80 = domains(&service, 80, "other", DomainForm::WithPort);
    assert_eq!(on_80[..3], [HOST, "reviews.books.svc.cluster.local:80", ABSOLUTE]);
    assert_eq!(on_80.len(), 10);
}

#[test]
fn a_sniffed_service_alone_at_its_address_has_any_name() {
    assert_eq!(domains(&with_ip(json!([])), 9080, "books", DomainForm::Any), ["*"]);
}

#[test]
fn aliases_follow_and_pods_of_headless_services_have_names_under_it() {
    let mut service = kube("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
    service.aliases = vec![Hostname::new("x.y.svc.cluster.local")];
    let names = [
        "db.books.svc.cluster.local",
        "db.books.svc.cluster.local.",
        "db.books",
        "db.books.svc",
        "x.y.svc.cluster.local",
        "x.y.svc.cluster.local.",
        "x.y",
        "x.y.svc",
    ];
    let pods = names.map(|it| format!("*.{it}"));
    let expected: Vec<String> = names.map(str::to_owned).into_iter().chain(pods).collect();
    assert_eq!(domains(&service, 80, "z", DomainForm::Plain), expected);
}

#[test]
fn hosts_of_service_entries_have_no_short_forms() {
    let entry = |host: &str| {
        let spec = json!({"hosts": [host], "addresses": ["240.0.0.1", "10.0.0.0/8"]});
        let key = ObjectKey::new(Kind::ServiceEntry, "books", "entry");
        let spec = serde_json::from_value(spec).unwrap();
        Service::from_entry(&Hostname::new(host), &key, &Meta::default(), &spec, &MeshConfig::default())
    };
    for (host, expected) in [
        ("a.com", vec!["a.com", "a.com.", "240.0.0.1"]),
        ("*.a.com", vec!["*.a.com", "*.a.com.", "240.0.0.1"]),
        ("1.2.3.4", vec!["1.2.3.4", "240.0.0.1"]),
        (
            "a.b.c.svc.cluster.local",
            vec!["a.b.c.svc.cluster.local", "a.b.c.svc.cluster.local.", "a.b.c", "a.b.c.svc", "240.0.0.1"],
        ),
    ] {
        assert_eq!(domains(&entry(host), 80, "books", DomainForm::Plain), expected, "{host}");
    }
}
