//! ProxyConfigs decide nothing here; the world keeps them for injection, and says which never come to bear.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use crds::ObjectKey;
use model::{Locality, Proxy};
use prost::Message;
use translate::trust::TrustConfig;
use world::{Batch, World};
use xds::{ConnectionId, TypeUrl};

fn batch(text: &str) -> Batch {
    let documents = crds::yaml::documents(text).into_iter().map(|it| it.content.unwrap().value);
    let objects = documents.flat_map(crds::decode::checked).map(|it| {
        let object = it.into_object().unwrap();
        (object.key.clone(), Some(object))
    });
    Batch { objects: objects.collect(), ..Batch::default() }
}

fn config(name: &str, created: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}\nspec: {spec}\n"
    )
}

#[test]
fn those_that_never_come_to_bear_are_named() {
    let mut world = World::new();
    let texts = [
        config("first", "1", "{}"),
        config("second", "2", "{concurrency: 1}"),
        config("cart", "1", "{selector: {matchLabels: {app: cart}}}"),
        config("cart-two", "2", "{selector: {matchLabels: {app: cart, version: v2}}}"),
        config("version", "3", "{selector: {matchLabels: {version: v2}}}"),
        config("nobody", "3", "{selector: {}}"),
    ];
    let said = |problems: Vec<crds::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let changes = world.commit(batch(&texts.concat()));
    assert_eq!(
        said(changes.problems.unwrap()),
        [
            "ProxyConfig shop/cart-two: what it is for is ruled by ProxyConfig shop/cart, the older one wins",
            "ProxyConfig shop/second: what it is for is ruled by ProxyConfig shop/first, the older one wins",
        ]
    );
    assert_eq!(world.proxy_configs().count(), 6);
    let gone = ["first", "cart"].map(|name| (ObjectKey::new(crds::Kind::ProxyConfig, "shop", name), None));
    let changes = world.commit(Batch { objects: gone.into(), ..Batch::default() });
    assert_eq!(said(changes.problems.unwrap()), [""; 0]);
}

#[test]
fn agents_are_told_the_roots_of_the_ca_and_of_the_mesh() {
    let pem = |it: &str| format!("-----BEGIN CERTIFICATE-----\n{it}\n-----END CERTIFICATE-----\n");
    let mut world = World::new();
    let proxy = Proxy::parse("sidecar~10.0.0.1~a.shop~cluster.local", &serde_json::json!({}), Locality::default());
    world.commit(Batch { proxies: vec![(ConnectionId(1), Some(proxy.unwrap()))], ..Batch::default() });
    let told = |world: &World| {
        let found = world.resources(ConnectionId(1), TypeUrl::ProxyConfig);
        let decoded = found.iter().map(|it| TrustConfig::decode(it.bytes()).unwrap());
        decoded.flat_map(|it| it.ca_certificates_pem).collect::<Vec<_>>()
    };
    assert_eq!(told(&world), [""; 0]);
    world.commit(Batch { roots: Some(pem("b")), ..Batch::default() });
    assert_eq!(told(&world), [pem("b")]);
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    caCertificates:\n    - pem: |\n        -----BEGIN CERTIFICATE-----\n        a\n        -----END CERTIFICATE-----\n";
    let changes = world.commit(batch(mesh));
    assert_eq!(changes.problems.unwrap_or_default(), []);
    assert_eq!(told(&world), [pem("a"), pem("b")]);
    let changes = world.commit(Batch { roots: Some(pem("b")), ..Batch::default() });
    assert!(changes.is_empty(), "what is told already is not told again");
    world.commit(Batch { roots: Some(pem("c")), ..Batch::default() });
    assert_eq!(told(&world), [pem("a"), pem("c")]);
    let mut again = World::new();
    again.commit(world.into_inputs());
    assert_eq!(told(&again), [pem("a"), pem("c")]);
}
