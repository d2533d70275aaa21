//! Who gets which address, and who keeps it.

use super::*;
use crds::Kind;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ServiceEntry, "n", name)
}

/// An entry of one host, `NAME.example.com`; `status` are its addresses.
fn entry(name: &str, created: &str, status: &[&str]) -> (ObjectKey, Meta, ServiceEntry) {
    let host = format!("{name}.example.com");
    let mut spec = ServiceEntry { hosts: vec![host.clone()], resolution: Resolution::Dns, ..Default::default() };
    let address = |ip: &&str| ServiceEntryAddress { value: ip.to_string(), host: host.clone() };
    spec.status.addresses = status.iter().map(address).collect();
    let meta = Meta { name: name.into(), namespace: "n".into(), creation_timestamp: created.into(), ..Meta::default() };
    (key(name), meta, spec)
}

fn put(allocator: &mut Allocator, entries: &[(ObjectKey, Meta, ServiceEntry)]) -> Vec<(ObjectKey, Option<Allocation>)> {
    allocator.apply(entries.iter().map(|(key, meta, spec)| (key, Some((meta, spec)))))
}

fn had(allocator: &Allocator, name: &str) -> Vec<String> {
    let entry = allocator.entries.get(&key(name));
    entry.into_iter().flat_map(|it| it.allocated.values().flatten()).map(ToString::to_string).collect()
}

#[test]
fn a_host_gets_one_address_of_each_family_whatever_the_order() {
    let entries: Vec<_> = (0..2000).map(|at| entry(&format!("e{at}"), "", &[])).collect();
    let mut at_once = Allocator::default();
    assert_eq!(put(&mut at_once, &entries).len(), 2000);
    let all: BTreeSet<String> = entries.iter().flat_map(|it| had(&at_once, &it.0.name)).collect();
    assert_eq!(all.len(), 4000, "no two have the same");
    assert!(all.iter().all(|it| is_ours(&it.parse().unwrap())));
    let first = had(&at_once, "e0");
    let mut alone = Allocator::default();
    put(&mut alone, &entries[..1]);
    assert_eq!(had(&alone, "e0"), first, "found again by who knows less");
    assert!(first[0].starts_with("240.240.") && first[1].starts_with("2001:2::f0f0:"), "{first:?}");
    assert_eq!(put(&mut at_once, &entries), [], "nothing changes");
    assert_eq!(at_once.unwritten().len(), 2000);
}

#[test]
fn only_hosts_that_need_addresses_get_some() {
    let (key, meta, spec) = entry("e", "", &[]);
    let labelled = |value: &str| {
        let labels = std::sync::Arc::new([(LABEL.to_owned(), value.to_owned())].into());
        Meta { labels, ..meta.clone() }
    };
    let none = ServiceEntry { resolution: Resolution::None, ..spec.clone() };
    let wildcard = ServiceEntry { hosts: vec!["*.a.com".into(), "b.com".into(), "b.com".into()], ..spec.clone() };
    let own = ServiceEntry { addresses: vec!["10.0.0.1".into()], ..spec.clone() };
    for (meta, spec, hosts) in [
        (&meta, &spec, 1),
        (&labelled("true"), &spec, 1),
        (&labelled("False"), &spec, 0),
        (&meta, &none, 0),
        (&meta, &wildcard, 1),
        (&meta, &own, 0),
    ] {
        let mut allocator = Allocator::default();
        let made = allocator.apply([(&key, Some((meta, spec)))]);
        assert_eq!(made.iter().flat_map(|it| &it.1).map(BTreeMap::len).sum::<usize>(), hosts, "{spec:?}");
        assert_eq!(allocator.unwritten().len(), hosts.min(1));
    }
}

#[test]
fn what_the_status_says_is_kept_and_nothing_is_to_be_written() {
    let mut allocator = Allocator::default();
    put(&mut allocator, &[entry("a", "2", &["240.240.0.1"]), entry("b", "1", &[])]);
    assert_eq!(had(&allocator, "a"), ["240.240.0.1"], "also if it is of one family");
    assert_eq!(allocator.unwritten().keys().collect::<Vec<_>>(), [&key("b")]);
    let written: Vec<_> = allocator.unwritten()[&key("b")].iter().map(|it| it.value.clone()).collect();
    assert_eq!(written, had(&allocator, "b"));
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    assert_eq!(put(&mut allocator, &[entry("b", "1", &written)]), []);
    assert!(allocator.unwritten().is_empty());
    // A status that somebody took away is written again.
    assert_eq!(put(&mut allocator, &[entry("a", "2", &[])]), []);
    assert_eq!(allocator.unwritten()[&key("a")][0].value, "240.240.0.1");
}

#[test]
fn an_address_has_one_owner() {
    let mut allocator = Allocator::default();
    put(&mut allocator, &[entry("young", "2", &["240.240.0.9"])]);
    let changed = put(&mut allocator, &[entry("old", "1", &["240.240.0.9"])]);
    assert_eq!(changed.len(), 2, "the younger moves");
    assert_eq!(had(&allocator, "old"), ["240.240.0.9"]);
    assert_eq!(had(&allocator, "young").len(), 2);
    assert!(!had(&allocator, "young").contains(&"240.240.0.9".to_owned()));
    // What was only computed yields to what is written, whoever is older.
    let computed = had(&allocator, "young")[0].clone();
    put(&mut allocator, &[entry("new", "3", &[&computed])]);
    assert_eq!(had(&allocator, "new"), std::slice::from_ref(&computed));
    assert!(!had(&allocator, "young").contains(&computed));
    // And everything yields to what a user has written.
    let (name, meta, mut spec) = entry("own", "4", &[]);
    spec.addresses = vec!["240.240.0.9".into()];
    put(&mut allocator, &[(name.clone(), meta, spec)]);
    assert!(!had(&allocator, "old").contains(&"240.240.0.9".to_owned()));
    let moved = had(&allocator, "old");
    allocator.apply([(&name, None)]);
    assert_eq!(put(&mut allocator, &[entry("old", "1", &moved.iter().map(String::as_str).collect::<Vec<_>>())]), []);
}

#[test]
fn what_goes_is_free_again() {
    let mut allocator = Allocator::default();
    put(&mut allocator, &[entry("a", "", &["240.240.0.1"])]);
    assert_eq!(allocator.apply([(&key("a"), None)]), [(key("a"), None)]);
    assert!(allocator.taken.is_empty() && allocator.entries.is_empty() && allocator.unwritten().is_empty());
}
