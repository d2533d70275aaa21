//! The names that an agent answers DNS queries for (NDS), so that a workload gets an address that its sidecar captures
//! even where nobody else knows the name (`istio.md` 4.4).
//!
//! The message is Istio's `istio.networking.nds.v1.NameTable`. Agents expand a Kubernetes Service's short names
//! themselves, by its name and namespace.

use crate::listener::outbound::KnownAddresses;
use crate::name;
use model::{Address, Endpoints, Health, Registry, Resolution, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All names of one proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameTable {
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
}

/// Addresses of a name, and what is needed to expand it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameInfo {
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// `Kubernetes` or `External`.
    #[prost(string, tag = "2")]
    pub registry: String,
    /// A Service's name, or `POD.SERVICE`.
    #[prost(string, tag = "3")]
    pub shortname: String,
    #[prost(string, tag = "4")]
    pub namespace: String,
}

/// The field of [`NameTable`] that holds its entries.
pub const TABLE: u32 = 1;

/// An entry of a [`NameTable`], as protobuf has those of maps.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameEntry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<NameInfo>,
}

impl prost::Name for NameEntry {
    const NAME: &'static str = "NameTable.TableEntry";
    const PACKAGE: &'static str = "istio.networking.nds.v1";
}

/// The names of one service: its host and, where it is headless, its pods'. A host without addresses is left to whoever
/// else can resolve it.
pub fn names(service: &Service, endpoints: Option<&Endpoints>, known: KnownAddresses) -> Vec<NameEntry> {
    let single = service.addresses.iter().filter(|it| it.prefix_len() == it.max_prefix_len());
    let own: Vec<IpAddr> =
        single.map(|it| it.addr()).chain(service.allocated.iter().copied().filter(|ip| known.has(ip))).collect();
    let mut entries = vec![];
    let mut found: BTreeSet<IpAddr> = own.iter().copied().collect();
    if service.addresses.is_empty() && service.resolution == Resolution::Passthrough {
        for (pod, ips) in pods(endpoints) {
            found.extend(ips.iter().copied());
            entries.extend(pod.and_then(|pod| pod_entry(service, pod, &ips)));
        }
    }
    // As written, where it is written.
    let ips: Vec<IpAddr> = if own.is_empty() { found.into_iter().collect() } else { own };
    if !ips.is_empty() {
        let short = if service.registry == Registry::Kubernetes { name::service_name(service) } else { "" };
        entries.push(entry(service, service.key.host.to_string(), short.to_owned(), &ips));
    }
    entries
}

/// Addresses of endpoints, by the name of the pod that has one.
fn pods(endpoints: Option<&Endpoints>) -> BTreeMap<Option<&str>, BTreeSet<IpAddr>> {
    let mut pods: BTreeMap<Option<&str>, BTreeSet<IpAddr>> = BTreeMap::new();
    let all = endpoints.into_iter().flat_map(|it| it.by_port.values().flatten());
    for endpoint in all.filter(|it| it.health != Health::Draining) {
        if let Address::Ip(ip) = endpoint.address {
            pods.entry(endpoint.hostname.as_deref()).or_default().insert(ip);
        }
    }
    pods
}

/// `POD.SERVICE.NAMESPACE.svc.DOMAIN`, as Kubernetes' own DNS has it.
fn pod_entry(service: &Service, pod: &str, ips: &BTreeSet<IpAddr>) -> Option<NameEntry> {
    let (short, _) = service.key.host.as_str().split_once('.')?;
    let ips: Vec<IpAddr> = ips.iter().copied().collect();
    Some(entry(service, format!("{pod}.{}", service.key.host), format!("{pod}.{short}"), &ips))
}

fn entry(service: &Service, key: String, shortname: String, ips: &[IpAddr]) -> NameEntry {
    let (registry, namespace) = match service.registry {
        Registry::Kubernetes => ("Kubernetes", service.key.namespace.to_string()),
        Registry::External => ("External", String::new()),
    };
    let ips = ips.iter().map(ToString::to_string).collect();
    NameEntry { key, value: Some(NameInfo { ips, registry: registry.to_owned(), shortname, namespace }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::service as external;
    use model::{Endpoint, Location, TlsMode};

    fn endpoint(ip: &str, hostname: Option<&str>, health: Health) -> Endpoint {
        Endpoint {
            address: Address::Ip(ip.parse().unwrap()),
            port: 80,
            labels: Default::default(),
            locality: Default::default(),
            weight: 1,
            health,
            node: None,
            workload: None,
            service_account: None,
            tls: TlsMode::Disabled,
            hostname: hostname.map(Into::into),
        }
    }

    fn shown(service: &Service, endpoints: Option<&Endpoints>) -> Vec<String> {
        let line = |it: NameEntry| {
            let info = it.value.unwrap();
            format!("{} {} {}/{} [{}]", it.key, info.registry, info.namespace, info.shortname, info.ips.join(" "))
        };
        names(service, endpoints, KnownAddresses::V4).into_iter().map(line).collect()
    }

    fn kube(addresses: &[&str]) -> Service {
        let key = model::ServiceKey { host: model::Hostname::kube_service("db", "data"), namespace: "data".into() };
        Service {
            object: crds::ObjectKey::new(crds::Kind::Service, "data", "db"),
            key,
            registry: Registry::Kubernetes,
            location: Location::Mesh,
            headless: addresses.is_empty(),
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            ..external("TCP", if addresses.is_empty() { "NONE" } else { "STATIC" })
        }
    }

    #[test]
    fn a_service_is_known_by_its_addresses() {
        assert_eq!(
            shown(&kube(&["10.0.0.1/32", "fd00::1/128"]), None),
            ["db.data.svc.cluster.local Kubernetes data/db [10.0.0.1 fd00::1]"]
        );
        let entry = |addresses: &[&str]| Service {
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            ..external("HTTP", "DNS")
        };
        assert_eq!(shown(&entry(&["240.0.0.1/32"]), None), ["api.example.com External / [240.0.0.1]"]);
        // Networks are no addresses, and what has none is somebody else's to resolve.
        assert_eq!(shown(&entry(&["10.0.0.0/8"]), None), [""; 0]);
        assert_eq!(shown(&entry(&[]), None), [""; 0]);
    }

    #[test]
    fn allocated_addresses_are_those_that_the_client_can_call() {
        let both = vec!["240.240.0.1".parse().unwrap(), "2001:2::1".parse().unwrap()];
        let service = Service { allocated: both, addresses: vec![], ..external("TCP", "DNS") };
        let ips =
            |known| names(&service, None, known).into_iter().flat_map(|it| it.value.unwrap().ips).collect::<Vec<_>>();
        assert_eq!(ips(KnownAddresses::V4), ["240.240.0.1"]);
        assert_eq!(ips(KnownAddresses::All), ["240.240.0.1", "2001:2::1"]);
        assert_eq!(ips(KnownAddresses::None), [""; 0]);
    }

    #[test]
    fn a_headless_service_is_its_pods_each_with_a_name_of_its_own() {
        let list = vec![
            endpoint("10.1.0.2", Some("db-1"), Health::Healthy),
            endpoint("10.1.0.1", Some("db-0"), Health::Healthy),
            endpoint("10.1.0.3", None, Health::Unhealthy),
            endpoint("10.1.0.4", Some("db-9"), Health::Draining),
        ];
        let endpoints = Endpoints { by_port: [("main".into(), list)].into() };
        assert_eq!(
            shown(&kube(&[]), Some(&endpoints)),
            [
                "db-0.db.data.svc.cluster.local Kubernetes data/db-0.db [10.1.0.1]",
                "db-1.db.data.svc.cluster.local Kubernetes data/db-1.db [10.1.0.2]",
                "db.data.svc.cluster.local Kubernetes data/db [10.1.0.1 10.1.0.2 10.1.0.3]",
            ]
        );
        assert_eq!(shown(&kube(&[]), None), [""; 0]);
    }
}
