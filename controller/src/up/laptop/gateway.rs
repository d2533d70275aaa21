//! The ingress gateway: added when the folder has Gateways but nobody to run them, and told where to bind.

use super::{Network, Plan, Workload, meta, port};
use crate::envoy::bootstrap::Role;
use crds::kube::{
    Container, Deployment, IntOrString, LabelSelector, PodSpec, PodTemplate, Service, ServicePort, TemplateMeta,
};
use crds::{Kind, Meta, ObjectKey, Problem, Reason, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

const NAME: &str = "istio-ingressgateway";
const NAMESPACE: &str = "istio-system";

/// As Istio's injector and charts mark them: the gateway template, the proxy's own image (or `auto`, which the
/// injector replaces by it), or the well-known `istio` label.
pub(super) fn is_gateway(deployment: &Deployment) -> bool {
    let template = &deployment.template;
    let injected = template.metadata.annotations.get("inject.istio.io/templates");
    let image = template.spec.containers.first().map_or("", |it| it.image.as_str());
    injected.is_some_and(|it| it.split(',').any(|it| it.trim() == "gateway"))
        || image == "auto"
        || image.rsplit('/').next().is_some_and(|it| it.starts_with("proxyv2"))
        || matches!(template.metadata.labels.get("istio").map(String::as_str), Some("ingressgateway" | "egressgateway"))
}

pub(super) fn is_ingress(deployment: &Deployment) -> bool {
    deployment.template.metadata.labels.get("istio").is_some_and(|it| it == "ingressgateway")
}

/// Adds Istio's default ingress gateway, as its chart installs it, unless the folder brings one.
pub(super) fn complete(plan: &mut Plan, network: Network) {
    let brought = plan.objects.values().any(|it| matches!(&it.spec, Spec::Deployment(it) if is_ingress(it)));
    let needed = plan.objects.values().any(|it| matches!(it.spec, Spec::Gateway(_)));
    if brought || !needed {
        return;
    }
    let labels =
        BTreeMap::from([("app", NAME), ("istio", "ingressgateway")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let deployment = Deployment {
        replicas: Some(1),
        selector: LabelSelector { match_labels: labels.clone() },
        template: PodTemplate {
            metadata: TemplateMeta { labels: labels.clone(), annotations: BTreeMap::new() },
            spec: PodSpec {
                service_account_name: format!("{NAME}-service-account").into(),
                containers: vec![Container { name: "istio-proxy".to_owned(), ..Container::default() }].into(),
                ..PodSpec::default()
            },
        },
    };
    let with_labels = || Meta { labels: labels.clone().into(), ..meta(NAMESPACE, NAME) };
    plan.insert(Kind::Deployment, with_labels(), Spec::Deployment(Box::new(deployment)));
    let service_key = ObjectKey::new(Kind::Service, NAMESPACE, NAME);
    if plan.objects.contains_key(&service_key) {
        return;
    }
    let service_port = |name: &str, port, target| ServicePort {
        name: name.to_owned(),
        port,
        target_port: Some(IntOrString::Int(target)),
        ..ServicePort::default()
    };
    let ports = vec![service_port("http2", 80, 8080), service_port("https", 443, 8443)];
    let service = Service { ports, selector: labels.clone(), ..Service::default() };
    let mut service_meta = with_labels();
    if let Network::Loopback { .. } = network {
        // In a cluster everybody sees it. Here every sidecar would have to bind 80 and 443, which takes root, for a
        // Service that nobody inside calls.
        Arc::make_mut(&mut service_meta.annotations).insert("networking.istio.io/exportTo".to_owned(), ".".to_owned());
    }
    plan.insert(Kind::Service, service_meta, Spec::Service(service));
}

/// Servers without a `bind` would listen on every address of the machine; here they get their gateway's.
pub(super) fn bind(plan: &mut Plan) {
    let gateways: Vec<Workload> = plan.workloads.values().filter(|it| it.role == Role::Gateway).cloned().collect();
    let mut ingress = BTreeSet::new();
    let mut problems = vec![];
    let objects = std::mem::take(&mut plan.objects);
    // Ports are resolved by Services, which stay as they are; a copy of the Gateways is bound.
    plan.objects.clone_from(&objects);
    for (key, object) in objects {
        let Spec::Gateway(mut gateway) = object.spec.clone() else { continue };
        let selected: Vec<_> =
            gateways.iter().filter(|it| model::label::selects(&gateway.selector, &it.labels)).collect();
        let Some(workload) = selected.first() else {
            let reason = Reason::Ineffective("no gateway workload has the selector's labels".to_owned());
            problems.push(Problem::new(&key, "spec.selector", reason));
            continue;
        };
        if selected.len() > 1 {
            let reason = format!("selects several gateways; navarch up binds it at {} alone", workload.key);
            problems.push(Problem::new(&key, "spec.selector", Reason::Ineffective(reason)));
        }
        for server in &mut gateway.servers {
            if matches!(server.bind.as_str(), "" | "0.0.0.0") {
                server.bind = workload.addresses.pod.to_string();
            }
            if let Ok(address) = server.bind.parse() {
                ingress.insert(SocketAddr::new(address, listener_port(plan, workload, server.port.number)));
            }
        }
        plan.insert(Kind::Gateway, object.meta, Spec::Gateway(gateway));
    }
    plan.ingress = ingress.into_iter().collect();
    plan.problems.extend(problems);
}

/// A Service of the gateway with this port says where the pod listens (`istio.md` 1.8), else it is the number itself.
fn listener_port(plan: &Plan, workload: &Workload, number: u32) -> u16 {
    let number = u16::try_from(number).unwrap_or_default();
    port::services_of(plan, &workload.key.namespace, &workload.labels)
        .flat_map(|(_, service)| port::tcp_ports(service))
        .find(|it| it.port == number)
        .and_then(|it| match it.target_port {
            Some(IntOrString::Int(target)) => Some(target),
            _ => None,
        })
        .unwrap_or(number)
}
