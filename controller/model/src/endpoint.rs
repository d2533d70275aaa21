//! Where a service runs: addresses with the labels, locality and health that policy looks at.

use crate::peer_authentication::{Mode, Policies};
use crate::{Labels, Namespace, Resolution, Service};
use crds::{Meta, kube, networking as n};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Of one service: endpoints by service port name. Sorted, so that equal sets compare equal.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Endpoints {
    pub by_port: BTreeMap<Arc<str>, Vec<Endpoint>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub address: Address,
    /// 0 for Unix sockets.
    pub port: u16,
    pub labels: Labels,
    pub locality: Arc<Locality>,
    /// At least 1.
    pub weight: u32,
    pub health: Health,
    pub node: Option<Arc<str>>,
    pub workload: Option<Arc<Workload>>,
    pub service_account: Option<Arc<str>>,
    pub tls: TlsMode,
    /// Of a pod of a headless Service: its own name below the Service's.
    pub hostname: Option<Arc<str>>,
}

/// Whether something that terminates the mesh's mutual TLS stands before a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TlsMode {
    #[default]
    Disabled,
    Istio,
}

/// What the injector labels pods with that have a sidecar, and users WorkloadEntries.
const TLS_MODE: &str = "security.istio.io/tlsMode";

impl TlsMode {
    fn of(labels: &BTreeMap<String, String>) -> Self {
        match labels.get(TLS_MODE).map(String::as_str) {
            Some("istio") => Self::Istio,
            _ => Self::Disabled,
        }
    }

    /// A machine with an identity has a sidecar, unless its label says otherwise (Istio's `getTLSModeFromWorkloadEntry`).
    fn of_entry(entry: &n::WorkloadEntry, labels: &BTreeMap<String, String>) -> Self {
        match labels.contains_key(TLS_MODE) || entry.service_account.is_empty() {
            true => Self::of(labels),
            false => Self::Istio,
        }
    }
}

/// Who is at the other end of a service: what clients that speak mutual TLS to it must know. Changes far less often
/// than the endpoints that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Peers {
    /// Service accounts of the endpoints, all of the service's namespace.
    pub service_accounts: std::collections::BTreeSet<Arc<str>>,
    /// Ports (by name) of which every endpoint takes mutual TLS.
    pub mutual_ports: std::collections::BTreeSet<Arc<str>>,
}

impl Endpoints {
    pub fn peers(&self) -> Peers {
        let all = |list: &Vec<Endpoint>| !list.is_empty() && list.iter().all(|it| it.tls == TlsMode::Istio);
        Peers {
            service_accounts: self.by_port.values().flatten().filter_map(|it| it.service_account.clone()).collect(),
            mutual_ports: self.by_port.iter().filter(|(_, list)| all(list)).map(|(port, _)| port.clone()).collect(),
        }
    }

    /// Where a policy turns mutual TLS off, clients must not speak it.
    pub fn apply(&mut self, policies: &Policies) {
        for endpoint in self.by_port.values_mut().flatten().filter(|it| it.tls == TlsMode::Istio) {
            if policies.mode(&endpoint.labels, endpoint.port) == Mode::Disable {
                endpoint.tls = TlsMode::Disabled;
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    Ip(IpAddr),
    /// Resolved by Envoy (DNS resolutions only).
    Name(Arc<str>),
    /// An absolute path, or `@name` for an abstract socket.
    Unix(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    Healthy,
    Unhealthy,
    Draining,
}

/// `istio.workload` endpoint metadata.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    pub name: Arc<str>,
    pub namespace: Namespace,
    pub canonical_name: Arc<str>,
    pub canonical_revision: Arc<str>,
    pub kube_cluster: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub subzone: String,
}

impl Locality {
    /// `region/zone/subzone`, later parts optional.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(String::from);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        for (part, rest) in
            [(&self.zone, !self.zone.is_empty() || !self.subzone.is_empty()), (&self.subzone, !self.subzone.is_empty())]
        {
            if rest {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// A pod, as far as its endpoints need it.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub name: Arc<str>,
    pub namespace: Namespace,
    pub labels: Labels,
    pub locality: Arc<Locality>,
    pub node: Option<Arc<str>>,
    pub service_account: Option<Arc<str>>,
    pub ips: [Option<IpAddr>; 2],
    pub is_ready: bool,
}

/// The cluster id of a single-cluster mesh.
pub const KUBE_CLUSTER: &str = "Kubernetes";

impl PodFacts {
    /// `node` is the locality of the node the pod runs on; the pod's label `istio-locality` wins.
    pub fn new(meta: &Meta, pod: &kube::Pod, node: Option<&Arc<Locality>>) -> Self {
        let labels = meta.labels.clone();
        let own = labels.get("topology.istio.io/locality").or_else(|| labels.get("istio-locality"));
        let locality = own.map(|text| Arc::new(Locality::parse(&text.replace('.', "/"))));
        let text = |text: &Arc<str>| Some(text).filter(|it| !it.is_empty()).cloned();
        Self {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            locality: locality.or_else(|| node.cloned()).unwrap_or_default(),
            node: text(&pod.spec.node_name),
            // The API server fills it in; files may leave it out.
            service_account: text(&pod.spec.service_account_name).or_else(|| Some("default".into())),
            ips: pod.status.ips,
            is_ready: pod.status.is_ready,
            labels,
        }
    }
}

/// The workloads of the pods behind one service: those of a Deployment follow each other, and share theirs. Nothing of
/// it is kept with the pods, of which there are many more than of services that anybody calls.
#[derive(Default)]
struct Workloads(Option<(Labels, Arc<Workload>)>);

impl Workloads {
    fn of(&mut self, pod: &PodFacts) -> Arc<Workload> {
        let name = workload_name(&pod.name, &pod.labels);
        match &self.0 {
            Some((labels, last)) if Arc::ptr_eq(labels, &pod.labels) && *last.name == *name => last.clone(),
            _ => {
                let workload = Arc::new(Workload::new(name, &pod.namespace, &pod.labels));
                self.0 = Some((pod.labels.clone(), workload.clone()));
                workload
            }
        }
    }
}

impl Workload {
    /// Canonical name and revision as Istio derives them from labels
    /// (<https://istio.io/latest/docs/ops/deployment/application-requirements/>).
    pub fn new(name: &str, namespace: &Namespace, labels: &BTreeMap<String, String>) -> Self {
        let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).map(|it| Arc::from(it.as_str()));
        let names = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let revisions = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
        Self {
            name: name.into(),
            namespace: namespace.clone(),
            canonical_name: first(&names).unwrap_or_else(|| name.into()),
            canonical_revision: first(&revisions).unwrap_or_else(|| "latest".into()),
            kube_cluster: KUBE_CLUSTER.into(),
        }
    }
}

/// A Deployment's pods are named `DEPLOYMENT-HASH-SUFFIX`, and carry the hash in a label.
fn workload_name<'a>(pod: &'a str, labels: &BTreeMap<String, String>) -> &'a str {
    let hash = labels.get("pod-template-hash");
    let deployment = hash.and_then(|hash| pod.rsplit_once(&format!("-{hash}-")).map(|(name, _)| name));
    deployment.unwrap_or(pod)
}

/// Locality of a Node (`topology.kubernetes.io/*`, `topology.istio.io/subzone`).
pub fn node_locality(meta: &Meta) -> Locality {
    let label = |key: &str| meta.labels.get(key).cloned().unwrap_or_default();
    Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    }
}

/// Endpoints of a Kubernetes Service from its slices. `pod` finds the pod that an endpoint refers to.
pub fn from_slices<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a kube::EndpointSlice>,
    mut pod: impl FnMut(&kube::TargetRef) -> Option<PodFacts>,
) -> Endpoints {
    let mut endpoints = Endpoints::default();
    let mut workloads = Workloads::default();
    for slice in slices.filter(|slice| slice.address_type != "FQDN") {
        for endpoint in &slice.endpoints {
            let Some(health) = health(&endpoint.conditions, service.publish_not_ready) else { continue };
            let facts = endpoint.target_ref.as_ref().filter(|it| it.kind == "Pod").and_then(&mut pod);
            let workload = facts.as_ref().map(|it| workloads.of(it));
            for address in endpoint.addresses.iter().filter_map(|it| it.parse().ok()) {
                for port in &slice.ports {
                    let (Some(number), name) = (port.port, port.name.as_deref().unwrap_or_default()) else { continue };
                    let made = slice_endpoint(address, number, health, endpoint, facts.as_ref().zip(workload.as_ref()));
                    endpoints.add(name, made);
                }
            }
        }
    }
    endpoints.sort();
    endpoints
}

/// Kubernetes: absent `ready` and `serving` are true. Not ready and not published: left out.
fn health(conditions: &kube::Conditions, publish_not_ready: bool) -> Option<Health> {
    let ready = conditions.ready.unwrap_or(true);
    match (ready, conditions.terminating.unwrap_or(false) && conditions.serving.unwrap_or(true)) {
        (true, _) => Some(Health::Healthy),
        (false, true) if publish_not_ready => Some(Health::Draining),
        (false, _) => publish_not_ready.then_some(Health::Unhealthy),
    }
}

fn slice_endpoint(
    address: IpAddr,
    port: u16,
    health: Health,
    endpoint: &kube::SliceEndpoint,
    pod: Option<(&PodFacts, &Arc<Workload>)>,
) -> Endpoint {
    let (pod, workload) = (pod.map(|it| it.0), pod.map(|it| it.1));
    let zone = || Locality { zone: endpoint.zone.clone().unwrap_or_default(), ..Locality::default() };
    Endpoint {
        address: Address::Ip(address),
        port,
        labels: pod.map_or_else(Labels::default, |it| it.labels.clone()),
        locality: pod.map_or_else(|| Arc::new(zone()), |it| it.locality.clone()),
        weight: 1,
        health,
        node: endpoint.node_name.as_deref().map(Arc::from).or_else(|| pod.and_then(|it| it.node.clone())),
        workload: workload.cloned(),
        service_account: pod.and_then(|it| it.service_account.clone()),
        tls: pod.map_or(TlsMode::Disabled, |it| TlsMode::of(&it.labels)),
        hostname: endpoint.hostname.as_deref().filter(|it| !it.is_empty()).map(Arc::from),
    }
}

/// An endpoint of each port for a WorkloadEntry. Address priority for the port: Unix socket, then
/// `ports[name]`, then the service port's `targetPort`, then its number (`istio.md` 1.4).
pub fn add_workload_entry(endpoints: &mut Endpoints, service: &Service, entry: &n::WorkloadEntry, meta: Option<&Meta>) {
    let mut labels = entry.labels.clone();
    labels.extend(meta.map(|it| (*it.labels).clone()).unwrap_or_default());
    let labels = Arc::new(labels);
    let locality = match entry.locality.is_empty() {
        false => Locality::parse(&entry.locality),
        true => labels.get("istio-locality").map(|it| Locality::parse(&it.replace('.', "/"))).unwrap_or_default(),
    };
    let locality = Arc::new(locality);
    let name = meta.map_or_else(|| service.object.name.clone(), |it| it.name.clone());
    let workload = Arc::new(Workload::new(&name, &service.key.namespace, &labels));
    for port in &service.ports {
        let (address, number) = match entry.address.strip_prefix("unix://") {
            Some(path) => (Address::Unix(path.into()), 0),
            None => {
                let own = entry.ports.get(&*port.name).and_then(|it| u16::try_from(*it).ok());
                let number = own.or(port.target_port).unwrap_or(port.number);
                (
                    entry.address.parse().map_or_else(|_| Address::Name(entry.address.as_str().into()), Address::Ip),
                    number,
                )
            }
        };
        // Envoy finds only DNS clusters' endpoints by name.
        if matches!(address, Address::Name(_)) && service.resolution == Resolution::Endpoints {
            continue;
        }
        let endpoint = Endpoint {
            address,
            port: number,
            labels: labels.clone(),
            locality: locality.clone(),
            weight: entry.weight.max(1),
            health: Health::Healthy,
            node: None,
            workload: Some(workload.clone()),
            service_account: Some(entry.service_account.as_str()).filter(|it| !it.is_empty()).map(Arc::from),
            tls: TlsMode::of_entry(entry, &labels),
            hostname: None,
        };
        endpoints.add(&port.name, endpoint);
    }
}

/// Whether calls may go to a WorkloadEntry. One of a WorkloadGroup with a probe is annotated, and not there until its
/// probe has succeeded.
pub fn is_healthy(entry: &n::WorkloadEntry, meta: &Meta) -> bool {
    /// As Go reads a boolean.
    const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
    let checked = meta.annotations.get("proxy.istio.io/health-checks-enabled");
    let checked = checked.is_some_and(|it| TRUE.contains(&it.as_str()));
    let healthy = entry.status.conditions.iter().find(|it| it.r#type == "Healthy");
    !checked || healthy.is_some_and(|it| it.status == "True")
}

/// A pod that a ServiceEntry's `workloadSelector` selects. As behind a Service, it has to be ready.
pub fn add_pod(endpoints: &mut Endpoints, service: &Service, pod: &PodFacts) {
    if !pod.is_ready {
        return;
    }
    let workload = Workloads::default().of(pod);
    for port in &service.ports {
        if let Some(ip) = pod.ips[0] {
            let endpoint = Endpoint {
                address: Address::Ip(ip),
                port: port.target_port.unwrap_or(port.number),
                labels: pod.labels.clone(),
                locality: pod.locality.clone(),
                weight: 1,
                health: Health::Healthy,
                node: pod.node.clone(),
                workload: Some(workload.clone()),
                service_account: pod.service_account.clone(),
                tls: TlsMode::of(&pod.labels),
                hostname: None,
            };
            endpoints.add(&port.name, endpoint);
        }
    }
}

/// A DNS service without endpoints is found under its own name.
pub fn add_own_host(endpoints: &mut Endpoints, service: &Service) {
    let entry = n::WorkloadEntry { address: service.key.host.to_string(), ..Default::default() };
    add_workload_entry(endpoints, service, &entry, None);
}

impl Endpoints {
    fn add(&mut self, port_name: &str, endpoint: Endpoint) {
        match self.by_port.get_mut(port_name) {
            Some(list) => list.push(endpoint),
            None => _ = self.by_port.insert(port_name.into(), vec![endpoint]),
        }
    }

    /// By address and port; the same address twice counts once (Kubernetes may repeat it across slices).
    pub fn sort(&mut self) {
        for list in self.by_port.values_mut() {
            list.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
            list.dedup_by(|a, b| (&a.address, a.port) == (&b.address, b.port));
        }
    }

    pub fn of(&self, port: &crate::ServicePort) -> &[Endpoint] {
        self.by_port.get(&port.name).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locality_text_goes_both_ways() {
        for text in ["", "r", "r/z", "r/z/s"] {
            assert_eq!(Locality::parse(text).to_string(), text);
        }
    }

    #[test]
    fn workload_names_lose_the_template_hash() {
        let labels = [("pod-template-hash", "5d9"), ("app", "reviews"), ("version", "v1")];
        let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let meta = Meta {
            name: "reviews-v1-5d9-xk2p".into(),
            namespace: "n".into(),
            labels: labels.into(),
            ..Meta::default()
        };
        let pod = PodFacts::new(&meta, &kube::Pod::default(), None);
        let mut workloads = Workloads::default();
        let workload = workloads.of(&pod);
        assert_eq!(&*workload.name, "reviews-v1");
        assert_eq!((&*workload.canonical_name, &*workload.canonical_revision), ("reviews", "v1"));
        let alike = PodFacts { name: "reviews-v1-5d9-abcd".into(), ..pod.clone() };
        assert!(Arc::ptr_eq(&workload, &workloads.of(&alike)));
        let other = PodFacts { name: "reviews-v2-5d9-abcd".into(), ..pod };
        assert_eq!(&*workloads.of(&other).name, "reviews-v2");
    }

    #[test]
    fn a_workload_that_is_probed_is_there_once_its_probe_has_succeeded() {
        for (annotation, status, expected) in [
            (None, None, true),
            (None, Some("False"), true),
            (Some("false"), Some("False"), true),
            (Some("no boolean"), Some("False"), true),
            (Some("true"), Some("True"), true),
            (Some("1"), Some("True"), true),
            (Some("true"), Some("False"), false),
            (Some("true"), Some("Unknown"), false),
            (Some("true"), None, false),
        ] {
            let condition = |it: &str| n::Condition { r#type: "Healthy".into(), status: it.into() };
            let mut entry = n::WorkloadEntry::default();
            entry.status.conditions = status.map(condition).into_iter().collect();
            let annotation = annotation.map(|it| ("proxy.istio.io/health-checks-enabled".to_owned(), it.to_owned()));
            let meta = Meta { annotations: Arc::new(annotation.into_iter().collect()), ..Meta::default() };
            assert_eq!(is_healthy(&entry, &meta), expected, "{annotation:?} {status:?}", annotation = meta.annotations);
        }
    }

    #[test]
    fn readiness_decides_health_only_where_unready_is_published() {
        let conditions = |ready, serving, terminating| kube::Conditions { ready, serving, terminating };
        for (conditions, published, expected) in [
            (conditions(None, None, None), false, Some(Health::Healthy)),
            (conditions(Some(false), None, None), false, None),
            (conditions(Some(false), None, None), true, Some(Health::Unhealthy)),
            (conditions(Some(false), Some(true), Some(true)), true, Some(Health::Draining)),
            (conditions(Some(false), Some(true), Some(true)), false, None),
        ] {
            assert_eq!(health(&conditions, published), expected, "{conditions:?} {published}");
        }
    }
}
