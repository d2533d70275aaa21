//! Sidecar objects: which one rules a workload, and what its egress listeners import.

use crate::service::Age;
use crate::{Hostname, Namespace, label};
use crds::ObjectKey;
use crds::networking::{EgressListener, Sidecar};
use std::collections::BTreeMap;

/// The Sidecar for a workload: of its namespace one whose selector matches, else the one without a selector, else
/// the root namespace's without a selector; the oldest of several
/// (<https://istio.io/latest/docs/reference/config/networking/sidecar/>).
pub fn select<'a>(
    own: &[(&'a ObjectKey, Age, &'a Sidecar)],
    root: &[(&'a ObjectKey, Age, &'a Sidecar)],
    labels: &BTreeMap<String, String>,
) -> Option<&'a ObjectKey> {
    let oldest = |list: &[(&'a ObjectKey, Age, &'a Sidecar)], matches: &dyn Fn(&Sidecar) -> bool| {
        list.iter().filter(|(_, _, spec)| matches(spec)).min_by_key(|(_, age, _)| age.clone()).map(|(key, ..)| *key)
    };
    let selected = |spec: &Sidecar| {
        spec.workload_selector.as_ref().is_some_and(|it| !it.labels.is_empty() && label::selects(&it.labels, labels))
    };
    let unselective = |spec: &Sidecar| spec.workload_selector.as_ref().is_none_or(|it| it.labels.is_empty());
    oldest(own, &selected).or_else(|| oldest(own, &unselective)).or_else(|| oldest(root, &unselective))
}

/// What one egress listener imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imports {
    take: Vec<(Option<Namespace>, Hostname)>,
    leave: Vec<(Option<Namespace>, Hostname)>,
}

impl Imports {
    /// `*/*`.
    pub fn everything() -> Self {
        Self { take: vec![(None, Hostname::new("*"))], leave: vec![] }
    }

    /// `ns/host` entries: `*` any namespace, `.` the Sidecar's own, `~` nothing; `~ns/host` leaves out.
    pub fn new(listener: &EgressListener, own: &Namespace) -> Self {
        let (mut take, mut leave) = (vec![], vec![]);
        for entry in &listener.hosts {
            let (namespace, host) = entry.split_once('/').unwrap_or(("*", entry));
            let (list, namespace) = match namespace.strip_prefix('~') {
                Some("") => continue,
                Some(rest) => (&mut leave, rest),
                None => (&mut take, namespace),
            };
            let namespace = match namespace {
                "*" => None,
                "." => Some(own.clone()),
                name => Some(name.into()),
            };
            list.push((namespace, Hostname::new(host)));
        }
        Self { take, leave }
    }

    /// Whether a service of `namespace` and `host` is imported.
    pub fn service(&self, namespace: &str, host: &Hostname) -> bool {
        let hit = |(of, pattern): &(Option<Namespace>, Hostname)| {
            of.as_deref().is_none_or(|it| it == namespace) && pattern.covers(host)
        };
        self.take.iter().any(hit) && !self.leave.iter().any(hit)
    }

    /// Whether a VirtualService of `namespace` is imported: one of its hosts and one of the listener's overlap.
    pub fn rules(&self, namespace: &str, hosts: &[Hostname]) -> bool {
        self.take.iter().any(|(of, pattern)| {
            of.as_deref().is_none_or(|it| it == namespace) && hosts.iter().any(|host| pattern.overlaps(host))
        })
    }

    /// Every host pattern that is imported; a narrow list lets callers look up instead of walking everything.
    pub fn patterns(&self) -> impl Iterator<Item = &Hostname> {
        self.take.iter().map(|(_, host)| host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::networking::WorkloadSelector;
    use crds::{Kind, Meta};

    fn imports(hosts: &[&str]) -> Imports {
        let hosts = hosts.iter().map(|it| it.to_string()).collect();
        Imports::new(&EgressListener { hosts, ..Default::default() }, &"own".into())
    }

    #[test]
    fn hosts_name_a_namespace_and_a_pattern() {
        for (hosts, namespace, host, expected) in [
            (&["*/*"][..], "a", "x.y", true),
            (&["./*"], "own", "x.y", true),
            (&["./*"], "a", "x.y", false),
            (&["a/x.y"], "a", "x.y", true),
            (&["a/x.y"], "b", "x.y", false),
            (&["~/*"], "a", "x.y", false),
            (&["*/*", "~a/*"], "a", "x.y", false),
            (&["*/*.y"], "a", "x.y", true),
        ] {
            assert_eq!(
                imports(hosts).service(namespace, &Hostname::new(host)),
                expected,
                "{hosts:?} {namespace}/{host}"
            );
        }
        assert!(imports(&["*/a.com"]).rules("n", &[Hostname::new("*.com")]), "wildcards match in both directions");
    }

    #[test]
    fn the_most_specific_then_the_oldest_sidecar_wins() {
        let key = |name: &str| ObjectKey::new(Kind::Sidecar, "n", name);
        let selective = |label: &str| Sidecar {
            workload_selector: Some(WorkloadSelector { labels: [("app".to_owned(), label.to_owned())].into() }),
            ..Default::default()
        };
        let age = |name: &str| Age::new(&Meta { name: name.into(), ..Meta::default() });
        let (a, b, c, d) = (key("a"), key("b"), key("c"), key("d"));
        let (any, x, y) = (Sidecar::default(), selective("x"), selective("y"));
        let own = [(&a, age("a"), &any), (&b, age("b"), &x), (&c, age("c"), &x)];
        let root = [(&d, age("d"), &any)];
        let labels = |app: &str| [("app".to_owned(), app.to_owned())].into();
        assert_eq!(select(&own, &root, &labels("x")), Some(&b));
        assert_eq!(select(&own, &root, &labels("z")), Some(&a));
        assert_eq!(select(&[(&b, age("b"), &y)], &root, &labels("z")), Some(&d));
        assert_eq!(select(&[(&b, age("b"), &y)], &[], &labels("z")), None);
    }
}
