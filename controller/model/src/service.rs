//! A service: a host with ports, from a Kubernetes Service or a ServiceEntry.

use crate::{Hostname, Namespace, Protocol, Visibility};
use crds::mesh_config::MeshConfig;
use crds::{Meta, ObjectKey, kube, networking as n};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Two namespaces may define a service of the same host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub host: Hostname,
    pub namespace: Namespace,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub key: ServiceKey,
    /// The object that defines it; of several ServiceEntries the oldest.
    pub object: ObjectKey,
    /// Sorts services from the oldest: creation time, then name and namespace.
    pub age: Age,
    pub registry: Registry,
    pub location: Location,
    pub resolution: Resolution,
    /// Virtual IPs; empty for headless Services and ServiceEntries without addresses (`0.0.0.0` in Istio).
    /// Single addresses are /32 or /128.
    pub addresses: Vec<IpNet>,
    /// Of a ServiceEntry without addresses: for those whose agent answers DNS ([`crate::allocation`]).
    pub allocated: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    pub visibility: Visibility,
    /// Kubernetes `spec.selector`, or a ServiceEntry's `workloadSelector`.
    pub selector: BTreeMap<String, String>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Not-ready endpoints are sent as UNHEALTHY instead of being left out (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Hosts of ExternalName Services that point here: more domains of the same virtual host.
    pub aliases: Vec<Hostname>,
    pub subject_alt_names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    pub created: Arc<str>,
    pub name: Arc<str>,
    pub namespace: Namespace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    Kubernetes,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    Mesh,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficDistribution {
    /// `PreferSameZone`, and its older name `PreferClose`.
    PreferSameZone,
    PreferSameNode,
}

/// How endpoints are found; decides the Envoy cluster type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// EDS.
    Endpoints,
    /// ORIGINAL_DST (headless, ServiceEntry `NONE`). Gateways use EDS for headless Services.
    Passthrough,
    /// STRICT_DNS.
    Dns,
    /// LOGICAL_DNS.
    DnsRoundRobin,
    /// By the name in each request: a wildcard host has no address of its own.
    DynamicDns,
    /// ExternalName: no cluster of its own; this host is an alias of the target.
    Alias(Hostname),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub number: u16,
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// ServiceEntry `targetPort` (with `NONE`: the port override of the original destination).
    pub target_port: Option<u16>,
}

impl Service {
    /// Its addresses and networks, and what was allocated to it.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr).chain(self.allocated.iter().copied())
    }

    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}

impl Service {
    /// A Kubernetes Service (`istio.md` 1.3). `aliases` are the hosts of ExternalName Services that point here.
    pub fn from_kube(
        key: &ObjectKey,
        meta: &Meta,
        spec: &kube::Service,
        aliases: Vec<Hostname>,
        mesh: &MeshConfig,
    ) -> Self {
        let external_name = spec.external_name.as_deref().filter(|_| spec.r#type == kube::ServiceType::ExternalName);
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let export_to: Vec<String> = meta.annotations.get("networking.istio.io/exportTo").map_or(vec![], |list| {
            list.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
        });
        let distribution = spec.traffic_distribution.as_deref();
        let distribution = distribution.or_else(|| meta.annotations.get(TRAFFIC_DISTRIBUTION).map(String::as_str));
        Self {
            key: ServiceKey {
                host: Hostname::kube_service(&key.name, &key.namespace),
                namespace: key.namespace.clone(),
            },
            object: key.clone(),
            age: Age::new(meta),
            registry: Registry::Kubernetes,
            location: Location::Mesh,
            resolution: match external_name {
                Some(target) => Resolution::Alias(Hostname::new(target.trim_end_matches('.'))),
                None if headless => Resolution::Passthrough,
                None => Resolution::Endpoints,
            },
            addresses: kube_addresses(spec),
            allocated: vec![],
            ports: spec.ports.iter().map(ServicePort::from_kube).collect(),
            visibility: Visibility::new(&export_to, &mesh.default_service_export_to, &key.namespace),
            selector: spec.selector.clone(),
            headless,
            publish_not_ready: spec.publish_not_ready_addresses,
            node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            traffic_distribution: distribution.and_then(TrafficDistribution::parse),
            aliases,
            subject_alt_names: vec![],
        }
    }

    /// One host of the ServiceEntries of a namespace that name it; the oldest defines it (`istio.md` 1.4).
    pub fn from_entry(
        host: &Hostname,
        key: &ObjectKey,
        meta: &Meta,
        spec: &n::ServiceEntry,
        mesh: &MeshConfig,
    ) -> Self {
        let ports = spec.ports.iter().filter_map(ServicePort::from_entry).collect();
        Self {
            key: ServiceKey { host: host.clone(), namespace: key.namespace.clone() },
            object: key.clone(),
            age: Age::new(meta),
            registry: Registry::External,
            location: match spec.location {
                n::Location::MeshExternal => Location::External,
                n::Location::MeshInternal => Location::Mesh,
            },
            resolution: match spec.resolution {
                n::Resolution::None => Resolution::Passthrough,
                n::Resolution::Static => Resolution::Endpoints,
                n::Resolution::Dns => Resolution::Dns,
                n::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
                n::Resolution::DynamicDns => Resolution::DynamicDns,
            },
            addresses: spec.addresses.iter().filter_map(|text| parse_net(text)).collect(),
            allocated: vec![],
            ports,
            visibility: Visibility::new(&spec.export_to, &mesh.default_service_export_to, &key.namespace),
            selector: spec.workload_selector.as_ref().map(|it| it.labels.clone()).unwrap_or_default(),
            headless: false,
            publish_not_ready: false,
            node_local: false,
            traffic_distribution: meta
                .annotations
                .get(TRAFFIC_DISTRIBUTION)
                .and_then(|text| TrafficDistribution::parse(text)),
            aliases: vec![],
            subject_alt_names: spec.subject_alt_names.clone(),
        }
    }
}

/// On a Service, a ServiceEntry, or for all of a Namespace.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

impl Service {
    /// With what the annotations of its namespace say for services that say nothing themselves.
    pub fn within(mut self, annotations: Option<&BTreeMap<String, String>>) -> Self {
        let inherited = annotations.and_then(|it| it.get(TRAFFIC_DISTRIBUTION));
        self.traffic_distribution =
            self.traffic_distribution.or_else(|| inherited.and_then(|text| TrafficDistribution::parse(text)));
        self
    }
}

impl Age {
    pub fn new(meta: &Meta) -> Self {
        Self { created: meta.creation_timestamp.clone(), name: meta.name.clone(), namespace: meta.namespace.clone() }
    }
}

impl TrafficDistribution {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "PreferClose" | "PreferSameZone" => Some(Self::PreferSameZone),
            "PreferSameNode" => Some(Self::PreferSameNode),
            _ => None,
        }
    }
}

impl ServicePort {
    fn from_kube(port: &kube::ServicePort) -> Self {
        let protocol = match port.protocol {
            kube::TransportProtocol::Tcp => Protocol::of_port(port.port, &port.name, port.app_protocol.as_deref()),
            kube::TransportProtocol::Udp | kube::TransportProtocol::Sctp => Protocol::Udp,
        };
        Self { number: port.port, name: port.name.as_str().into(), protocol, target_port: None }
    }

    /// `None`: a port number outside 1–65535, which validation reports.
    fn from_entry(port: &n::Port) -> Option<Self> {
        let number = u16::try_from(port.number).ok().filter(|it| *it != 0)?;
        Some(Self {
            number,
            name: port.name.as_str().into(),
            protocol: Protocol::parse(&port.protocol).unwrap_or_else(|| Protocol::of_port(number, &port.name, None)),
            target_port: port.target_port.and_then(|it| u16::try_from(it).ok()).filter(|it| *it != 0),
        })
    }
}

fn kube_addresses(spec: &kube::Service) -> Vec<IpNet> {
    let listed = match spec.cluster_ips.is_empty() {
        true => spec.cluster_ip.iter().collect::<Vec<_>>(),
        false => spec.cluster_ips.iter().collect(),
    };
    listed.into_iter().filter_map(|text| parse_net(text)).collect()
}

/// An address or a CIDR; a lone address becomes /32 or /128.
fn parse_net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Kind;

    fn mesh() -> MeshConfig {
        MeshConfig::default()
    }

    fn kube_service(spec: &kube::Service, annotations: &[(&str, &str)]) -> Service {
        let annotations = Arc::new(annotations.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        let meta = Meta { name: "a".into(), namespace: "n".into(), annotations, ..Meta::default() };
        Service::from_kube(&ObjectKey::new(Kind::Service, "n", "a"), &meta, spec, vec![], &mesh())
    }

    #[test]
    fn a_services_type_decides_how_its_endpoints_are_found() {
        let with_ip = kube::Service { cluster_ip: Some("10.0.0.1".into()), ..Default::default() };
        let service = kube_service(&with_ip, &[]);
        assert_eq!(service.resolution, Resolution::Endpoints);
        assert_eq!(service.addresses, ["10.0.0.1/32".parse::<IpNet>().unwrap()]);
        let headless = kube::Service { cluster_ip: Some("None".into()), ..Default::default() };
        let service = kube_service(&headless, &[]);
        assert_eq!((service.resolution, service.headless, service.addresses.len()), (Resolution::Passthrough, true, 0));
        let alias = kube::Service {
            r#type: kube::ServiceType::ExternalName,
            external_name: Some("b.n.svc.cluster.local".into()),
            ..Default::default()
        };
        assert_eq!(kube_service(&alias, &[]).resolution, Resolution::Alias(Hostname::new("b.n.svc.cluster.local")));
    }

    #[test]
    fn annotations_narrow_visibility_and_prefer_zones() {
        let service = kube_service(
            &kube::Service::default(),
            &[("networking.istio.io/exportTo", "., b"), ("networking.istio.io/traffic-distribution", "PreferClose")],
        );
        assert_eq!(service.visibility, Visibility::Only(["n".into(), "b".into()].into()));
        assert_eq!(service.traffic_distribution, Some(TrafficDistribution::PreferSameZone));
        let inherited = [(TRAFFIC_DISTRIBUTION.to_owned(), "PreferSameNode".to_owned())].into();
        assert_eq!(service.within(Some(&inherited)).traffic_distribution, Some(TrafficDistribution::PreferSameZone));
        let plain = kube_service(&kube::Service::default(), &[]);
        assert_eq!(plain.within(Some(&inherited)).traffic_distribution, Some(TrafficDistribution::PreferSameNode));
    }

    #[test]
    fn an_entrys_resolution_location_and_ports_are_read() {
        let spec = n::ServiceEntry {
            addresses: vec!["240.1.1.1".into(), "10.0.0.0/8".into(), "nonsense".into()],
            ports: vec![
                n::Port { number: 443, name: "tls".into(), protocol: "TLS".into(), target_port: Some(8443) },
                n::Port { number: 80, name: "http-x".into(), ..Default::default() },
                n::Port { number: 70000, name: "bad".into(), ..Default::default() },
            ],
            location: n::Location::MeshInternal,
            resolution: n::Resolution::Dns,
            ..Default::default()
        };
        let key = ObjectKey::new(Kind::ServiceEntry, "n", "e");
        let service = Service::from_entry(&Hostname::new("x.com"), &key, &Meta::default(), &spec, &mesh());
        assert_eq!((service.resolution, service.location), (Resolution::Dns, Location::Mesh));
        assert_eq!(service.addresses.len(), 2);
        let ports: Vec<_> = service.ports.iter().map(|p| (p.number, p.protocol, p.target_port)).collect();
        assert_eq!(ports, [(443, Protocol::Tls, Some(8443)), (80, Protocol::Http, None)]);
    }
}
