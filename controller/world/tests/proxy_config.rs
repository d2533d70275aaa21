//! ProxyConfigs decide nothing here; the world keeps them for injection, and says which never come to bear.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use crds::ObjectKey;
use world::{Batch, World};

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
