//! What Kubernetes and an operator would add to a folder of YAML so that it can run on a laptop: Pods with addresses,
//! EndpointSlices, an ingress gateway, and Sidecars in interception mode NONE. Pure: objects in, objects out.
//!
//! Translation never learns that it runs on a laptop. Where Istio captures traffic with iptables, here every workload
//! has loopback addresses of its own and its Sidecar says which address each listener binds: Istio's own semantics
//! for hosts without capture (`captureMode: NONE`), and nothing that needs root.

mod address;
mod gateway;
mod port;
mod proxy;
mod sidecar;
mod slice;

pub use address::{Addresses, Network, Seats};
pub use port::LowPorts;
pub use proxy::{ProxySettings, Threads};

use crate::envoy::bootstrap::Role;
use crate::service::Speaks;
use crds::kube::{Deployment, Pod, PodSpec, PodStatus, Service, ServiceType};
use crds::{Kind, Meta, Object, ObjectKey, Problem, Reason, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

pub type Objects = BTreeMap<ObjectKey, Object>;

/// On every pod, so that a Sidecar can select one pod alone.
pub const POD_LABEL: &str = "navarch.dev/pod";

/// The pod annotation that names the program to run.
pub const COMMAND_ANNOTATION: &str = "navarch.dev/command";

/// The port of every sidecar's outbound HTTP proxy, on the workload's sidecar address.
pub const HTTP_PROXY_PORT: u16 = 15002;

pub const ADMIN_PORT: u16 = 15000;

/// Each is an Envoy of some 50 MB and a program: more would bring a laptop to its knees by a typo in `replicas`.
const WORKLOADS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
}

/// How the folder is laid out.
#[derive(Clone, Debug)]
pub struct Setup {
    pub network: Network,
    pub low_ports: LowPorts,
    pub readiness: Readiness,
}

#[derive(Clone, Debug)]
pub enum Readiness {
    /// Offline: as if everything ran.
    All,
    /// Only these get traffic.
    Of(BTreeSet<PodKey>),
}

/// The mesh to run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What the control plane is given in the folder's place.
    pub objects: Objects,
    pub workloads: BTreeMap<PodKey, Workload>,
    /// Objects that were made from a user's: problems of the former are the latter's.
    pub origins: BTreeMap<ObjectKey, ObjectKey>,
    pub problems: Vec<Problem>,
    /// Where the ingress gateway will listen.
    pub ingress: Vec<SocketAddr>,
}

/// One pod: a program and its Envoy.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub key: PodKey,
    pub role: Role,
    pub deployment: String,
    pub labels: BTreeMap<String, String>,
    pub service_account: String,
    /// Of the first container.
    pub image: String,
    pub environment: BTreeMap<String, String>,
    pub command: Option<String>,
    pub addresses: Addresses,
    /// What the program serves, on the application address.
    pub listen: BTreeMap<u16, Speaks>,
    pub proxy: ProxySettings,
}

impl Workload {
    pub fn admin(&self) -> SocketAddr {
        (self.addresses.sidecar, ADMIN_PORT).into()
    }

    pub fn http_proxy(&self) -> SocketAddr {
        (self.addresses.sidecar, HTTP_PROXY_PORT).into()
    }

    /// The application's own sockets.
    pub fn listens(&self) -> Vec<(SocketAddr, Speaks)> {
        self.listen.iter().map(|(port, speaks)| ((self.addresses.app, *port).into(), *speaks)).collect()
    }
}

impl Plan {
    /// The problem as its user knows it: said of the object in the folder, not of one made from it.
    pub fn at_origin(&self, mut problem: Problem) -> Problem {
        if let Some(origin) = self.origins.get(&problem.object) {
            problem.object = origin.clone();
        }
        problem
    }
}

/// MeshConfig from elsewhere takes the place of what the folder says, in whatever namespace it says it.
pub fn put_mesh_config(folder: &mut Objects, object: Object) {
    folder.retain(|key, it| !(key.kind == Kind::ConfigMap && crds::mesh_config::is_mesh_config_map(&it.meta)));
    folder.insert(object.key.clone(), object);
}

/// Lays out the folder. `seats` remembers which address a pod has, from one call to the next.
pub fn plan(folder: &Objects, setup: &Setup, seats: &mut Seats) -> Plan {
    let mut plan = Plan { objects: folder.clone(), ..Plan::default() };
    gateway::complete(&mut plan, setup.network);
    port::raise(&mut plan.objects, setup.low_ports);
    pods(&mut plan, setup, seats);
    slice::endpoint_slices(&mut plan, setup);
    if let Network::Loopback { .. } = setup.network {
        sidecar::sidecars(&mut plan, setup.low_ports);
        gateway::bind(&mut plan);
    }
    plan.problems.sort();
    plan.problems.dedup();
    plan
}

/// One Pod for each replica of each Deployment.
fn pods(plan: &mut Plan, setup: &Setup, seats: &mut Seats) {
    let deployments: Vec<(Meta, Deployment)> = plan
        .objects
        .values()
        .filter_map(|object| match &object.spec {
            Spec::Deployment(deployment) => Some((object.meta.clone(), (**deployment).clone())),
            _ => None,
        })
        .collect();
    let ingress = deployments
        .iter()
        .filter(|(_, deployment)| gateway::is_gateway(deployment))
        .min_by_key(|(_, deployment)| !gateway::is_ingress(deployment))
        .map(|(meta, _)| (meta.namespace.clone(), meta.name.clone()));
    let proxies = proxy::Origin::new(plan);
    for (meta, deployment) in &deployments {
        let key = ObjectKey::new(Kind::Deployment, meta.namespace.clone(), meta.name.clone());
        for index in 0..replicas(plan, &key, deployment) {
            if plan.workloads.len() >= WORKLOADS_MAX {
                let reason =
                    Reason::Invalid(format!("navarch up runs at most {WORKLOADS_MAX} workloads; this one is left out"));
                plan.problems.push(Problem::new(&key, "spec.replicas", reason));
                break;
            }
            let pod = PodKey { namespace: meta.namespace.to_string(), name: format!("{}-{index}", meta.name) };
            let is_ingress = ingress.as_ref() == Some(&(meta.namespace.clone(), meta.name.clone()));
            let addresses = setup.network.addresses(seats.seat(&pod), is_ingress);
            let mut workload = workload(plan, setup, pod, meta, deployment, addresses);
            let annotations = &deployment.template.metadata.annotations;
            workload.proxy = proxies.settings(&workload.key.namespace, &workload.labels, annotations);
            plan.insert_pod(&workload, deployment, setup);
            plan.workloads.insert(workload.key.clone(), workload);
        }
    }
}

/// A gateway's listeners bind the one address that the Gateway names, so it has one replica.
fn replicas(plan: &mut Plan, key: &ObjectKey, deployment: &Deployment) -> u16 {
    let wanted = deployment.replicas.unwrap_or(1);
    if gateway::is_gateway(deployment) && wanted > 1 {
        let reason = Reason::Ineffective("navarch up runs one replica of a gateway".to_owned());
        plan.problems.push(Problem::new(key, "spec.replicas", reason));
        return 1;
    }
    wanted
}

fn workload(
    plan: &Plan,
    setup: &Setup,
    key: PodKey,
    meta: &Meta,
    deployment: &Deployment,
    addresses: Addresses,
) -> Workload {
    let template = &deployment.template;
    let mut labels = template.metadata.labels.clone();
    labels.insert(POD_LABEL.to_owned(), key.name.clone());
    let role = if gateway::is_gateway(deployment) { Role::Gateway } else { Role::Sidecar };
    let containers = &template.spec.containers;
    let mut environment = plan.service_variables(&key.namespace, addresses.sidecar);
    environment.extend(containers.iter().take(1).flat_map(|it| &it.env).map(|it| (it.name.clone(), it.value.clone())));
    Workload {
        role,
        deployment: meta.name.to_string(),
        service_account: match &*template.spec.service_account_name {
            "" => "default".to_owned(),
            name => name.to_owned(),
        },
        image: containers.first().map(|it| it.image.clone()).unwrap_or_default(),
        command: template.metadata.annotations.get(COMMAND_ANNOTATION).filter(|it| !it.trim().is_empty()).cloned(),
        listen: match role {
            Role::Gateway => BTreeMap::new(),
            Role::Sidecar => port::listen(plan, &key.namespace, &labels, containers, setup.low_ports),
        },
        key,
        labels,
        environment,
        addresses,
        proxy: ProxySettings::default(),
    }
}

impl Plan {
    fn insert_pod(&mut self, workload: &Workload, deployment: &Deployment, setup: &Setup) {
        let pod = Pod {
            spec: PodSpec {
                service_account_name: workload.service_account.as_str().into(),
                ..deployment.template.spec.clone()
            },
            status: PodStatus {
                ips: [Some(workload.addresses.pod.into()), None],
                is_ready: setup.readiness.has(&workload.key),
            },
        };
        let meta = Meta {
            labels: workload.labels.clone().into(),
            annotations: deployment.template.metadata.annotations.clone().into(),
            ..meta(&workload.key.namespace, &workload.key.name)
        };
        self.insert(Kind::Pod, meta, Spec::Pod(pod));
    }

    fn insert(&mut self, kind: Kind, meta: Meta, spec: Spec) -> ObjectKey {
        let key = ObjectKey::new(kind, meta.namespace.clone(), meta.name.clone());
        self.objects.insert(key.clone(), Object { key: key.clone(), meta, spec });
        key
    }

    /// Services that select pods by labels, in the order of their keys.
    fn selecting_services(&self) -> impl Iterator<Item = (&ObjectKey, &Service)> {
        self.objects.iter().filter_map(|(key, object)| match &object.spec {
            Spec::Service(service) if !service.selector.is_empty() && service.r#type != ServiceType::ExternalName => {
                Some((key, service))
            }
            _ => None,
        })
    }

    /// Kubernetes' `REVIEWS_SERVICE_HOST` and `REVIEWS_SERVICE_PORT` for Services of the namespace. The sidecar stands
    /// for all of them: its outbound listeners tell them apart by port.
    fn service_variables(&self, namespace: &str, sidecar: Ipv4Addr) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for object in self.objects.values().filter(|it| &*it.key.namespace == namespace) {
            let Spec::Service(service) = &object.spec else { continue };
            let Some(port) = service.ports.first() else { continue };
            let name = object.key.name.to_uppercase().replace(['-', '.'], "_");
            variables.insert(format!("{name}_SERVICE_HOST"), sidecar.to_string());
            variables.insert(format!("{name}_SERVICE_PORT"), port.port.to_string());
        }
        variables
    }
}

impl Readiness {
    fn has(&self, pod: &PodKey) -> bool {
        match self {
            Self::All => true,
            Self::Of(ready) => ready.contains(pod),
        }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

fn meta(namespace: &str, name: &str) -> Meta {
    Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() }
}

#[cfg(test)]
mod tests;
