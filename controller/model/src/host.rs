//! Host names as Istio's configuration uses them: exact (`reviews.default.svc.cluster.local`), wildcard
//! (`*.example.com`, `*`) and short (`reviews`, meaning the Service of that name in the object's namespace).

use std::fmt;
use std::sync::Arc;

/// The DNS domain of Kubernetes Services.
pub const DOMAIN: &str = "cluster.local";

/// A lower-case host name or wildcard (`*` or `*.suffix`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

impl Hostname {
    pub fn new(name: &str) -> Self {
        match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Self(name.to_ascii_lowercase().into()),
            false => Self(name.into()),
        }
    }

    /// A name without a dot is short for the Service of that name in `namespace`
    /// (<https://istio.io/latest/docs/reference/config/networking/virtual-service/#Destination>).
    pub fn resolve(name: &str, namespace: &str) -> Self {
        match name.contains(['.', '*']) || name.is_empty() {
            true => Self::new(name),
            false => Self::kube_service(name, namespace),
        }
    }

    pub fn kube_service(name: &str, namespace: &str) -> Self {
        Self::new(&format!("{name}.{namespace}.svc.{DOMAIN}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether every name that `other` stands for is one that `self` stands for.
    pub fn covers(&self, other: &Self) -> bool {
        match self.0.strip_prefix('*') {
            None => self == other,
            Some("") => true,
            Some(suffix) => match other.0.strip_prefix('*') {
                Some(other_suffix) => other_suffix.ends_with(suffix),
                None => other.0.len() > suffix.len() && other.0.ends_with(suffix),
            },
        }
    }

    /// Whether some name is meant by both (`host.Matches` in Istio).
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// This name, then each wildcard that covers it, from the longest to `*`: the order of "most specific wins".
    pub fn patterns(&self) -> impl Iterator<Item = Self> + '_ {
        let own = std::iter::once(self.clone());
        let rest = self.0.strip_prefix("*.").unwrap_or(&self.0);
        let suffixes = rest.match_indices('.').map(move |(at, _)| Self(format!("*{}", &rest[at..]).into()));
        let any = (&*self.0 != "*").then(|| Self("*".into()));
        own.chain(suffixes).chain(any)
    }

    /// `(name, namespace)` of a Kubernetes Service's host.
    pub fn kube_name(&self) -> Option<(&str, &str)> {
        let mut parts = self.0.splitn(3, '.');
        let (name, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
        (rest.strip_prefix("svc.") == Some(DOMAIN)).then_some((name, namespace))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::new(name)
    }

    #[test]
    fn short_names_mean_the_service_in_the_objects_namespace() {
        assert_eq!(Hostname::resolve("reviews", "books").as_str(), "reviews.books.svc.cluster.local");
        assert_eq!(Hostname::resolve("Reviews.prod", "books").as_str(), "reviews.prod");
        assert_eq!(Hostname::resolve("*", "books").as_str(), "*");
    }

    #[test]
    fn wildcards_cover_names_and_narrower_wildcards() {
        for (a, b, covers) in [
            ("*", "a.b", true),
            ("*", "*", true),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("*.b", "*.a.b", true),
            ("*.a.b", "*.b", false),
            ("a.b", "*.b", false),
            ("a.b", "a.b", true),
        ] {
            assert_eq!(host(a).covers(&host(b)), covers, "{a} covers {b}");
        }
        assert!(host("a.b").overlaps(&host("*.b")));
    }

    #[test]
    fn patterns_go_from_the_most_specific_to_any() {
        let of = |name: &str| host(name).patterns().map(|h| h.to_string()).collect::<Vec<_>>();
        assert_eq!(of("a.b.c"), ["a.b.c", "*.b.c", "*.c", "*"]);
        assert_eq!(of("*.b.c"), ["*.b.c", "*.c", "*"]);
        assert_eq!(of("*"), ["*"]);
        for pattern in host("a.b.c").patterns() {
            assert!(pattern.covers(&host("a.b.c")));
        }
    }

    #[test]
    fn kube_names_are_read_back() {
        assert_eq!(host("reviews.books.svc.cluster.local").kube_name(), Some(("reviews", "books")));
        assert_eq!(host("reviews.books.svc.example.com").kube_name(), None);
        assert_eq!(host("example.com").kube_name(), None);
    }
}
