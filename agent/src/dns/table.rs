//! istiod's names, indexed under every name by which a program in this pod may ask for them. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::wire::{NameInfo, NameTable};

/// istiod's word for Kubernetes Services.
const KUBERNETES: &str = "Kubernetes";

/// Where the pod is: short names depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `POD_NAMESPACE`
    pub namespace: String,
    /// `--domain`, with or without the namespace: `default.svc.cluster.local` or `svc.cluster.local`.
    pub domain: String,
    /// resolv.conf's search list.
    pub search: Vec<String>,
}

/// The names the mesh knows, ready to be asked. `Table::default()` is that no table has come yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    names: Option<Arc<NameTable>>,
    entries: BTreeMap<String, Entry>,
}

/// Addresses by family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4
    pub v4: Vec<Ipv4Addr>,
    /// IPv6
    pub v6: Vec<Ipv6Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Known(Arc<Addresses>),
    /// The name with the first search domain behind it, which a resolver with `ndots:5` asks for first.
    Searched {
        suffix_bytes: usize,
        addresses: Arc<Addresses>,
    },
}

/// What a name is.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The name its addresses belong to, when it is another one (a CNAME).
    pub alias_of: Option<&'a str>,
    /// Its addresses.
    pub addresses: &'a Addresses,
}

impl Table {
    /// From istiod's table (type URL `wire::TYPE_URL`).
    ///
    /// ```
    /// use agent::dns::{Place, Table, wire};
    /// let mut names = wire::NameTable::default();
    /// let reviews = wire::NameInfo {
    ///     ips: vec!["10.0.0.9".to_owned()],
    ///     registry: "Kubernetes".to_owned(),
    ///     shortname: "reviews".to_owned(),
    ///     namespace: "default".to_owned(),
    ///     ..wire::NameInfo::default()
    /// };
    /// names.table.insert("reviews.default.svc.cluster.local".to_owned(), reviews);
    /// let place = Place { namespace: "default".to_owned(), domain: "svc.cluster.local".to_owned(), search: vec![] };
    /// assert!(Table::new(names, &place).lookup("reviews.").is_some());
    /// ```
    #[must_use]
    pub fn new(names: NameTable, place: &Place) -> Self {
        let mut entries = BTreeMap::new();
        let mut searched = Vec::new();
        for (hostname, info) in &names.table {
            let addresses = Arc::new(addresses(info));
            if addresses.v4.is_empty() && addresses.v6.is_empty() {
                continue;
            }
            for name in names_of(hostname, info, place) {
                searched.extend(with_search(&name, place).map(|(name, suffix_bytes)| {
                    (name, Entry::Searched { suffix_bytes, addresses: Arc::clone(&addresses) })
                }));
                entries.insert(name, Entry::Known(Arc::clone(&addresses)));
            }
        }
        // A name that is somebody's own is never somebody else's with a search domain behind it.
        for (name, entry) in searched {
            entries.entry(name).or_insert(entry);
        }
        Self { names: Some(Arc::new(names)), entries }
    }

    /// Whether istiod's table has come.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.names.is_some()
    }

    /// istiod's table as it came.
    #[must_use]
    pub fn names(&self) -> Option<&NameTable> {
        self.names.as_deref()
    }

    /// Looks a name up: lower case, with the dot at its end. The nearest wildcard answers for a name not there itself.
    #[must_use]
    pub fn lookup<'a>(&'a self, name: &'a str) -> Option<Found<'a>> {
        let entry = self.entries.get(name).or_else(|| self.wildcard(name))?;
        Some(match entry {
            Entry::Known(addresses) => Found { alias_of: None, addresses },
            Entry::Searched { suffix_bytes, addresses } => {
                Found { alias_of: name.get(..name.len().saturating_sub(*suffix_bytes)), addresses }
            }
        })
    }

    fn wildcard(&self, name: &str) -> Option<&Entry> {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if parent.is_empty() {
                return None;
            }
            if let Some(entry) = self.entries.get(&format!("*.{parent}")) {
                return Some(entry);
            }
            rest = parent;
        }
        None
    }
}

fn addresses(info: &NameInfo) -> Addresses {
    let mut addresses = Addresses::default();
    for ip in &info.ips {
        match ip.parse() {
            Ok(IpAddr::V4(ip)) => addresses.v4.push(ip),
            Ok(IpAddr::V6(ip)) => addresses.v6.push(ip),
            Err(_) => tracing::debug!(ip, "an address in the name table is not one"),
        }
    }
    addresses
}

/// Every name by which a host is asked for without a search list, lower case and with the dot at its end.
fn names_of(hostname: &str, info: &NameInfo, place: &Place) -> Vec<String> {
    let dotted = |name: &str| format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
    let mut names = vec![dotted(hostname)];
    let domain = domain(place);
    if info.registry != KUBERNETES || domain.is_empty() || !hostname.ends_with(domain) {
        return names;
    }
    let (short, namespace) = (info.shortname.as_str(), info.namespace.as_str());
    let first = domain.split('.').next().unwrap_or_default();
    names.push(dotted(&format!("{short}.{namespace}")));
    names.push(dotted(&format!("{short}.{namespace}.{first}")));
    if namespace == place.namespace {
        names.push(dotted(short));
    }
    names.extend(info.alt_hosts.iter().map(|host| dotted(host)));
    names
}

/// The domain without the namespace.
fn domain(place: &Place) -> &str {
    let rest = place.domain.strip_prefix(&place.namespace).and_then(|rest| rest.strip_prefix('.'));
    rest.unwrap_or(&place.domain)
}

/// The name with the first search domain behind it, and how many bytes were put behind.
fn with_search(name: &str, place: &Place) -> Option<(String, usize)> {
    let search = place.search.first().filter(|search| !search.is_empty())?;
    let suffix = format!("{}.", search.to_ascii_lowercase());
    (!name.ends_with(&suffix)).then(|| (format!("{name}{suffix}"), suffix.len()))
}
