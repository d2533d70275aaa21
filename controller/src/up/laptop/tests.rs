//! Small folders in, and what is added to them.

use super::*;
use crds::networking::CaptureMode;

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: main}
  - {name: tcp-raw, port: 7000}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web, version: v1}
      annotations: {navarch.dev/command: ./serve}
    spec:
      containers:
      - name: main
        image: nginx
        ports: [{name: main, containerPort: 80}, {name: metrics, containerPort: 9090}]
        env: [{name: COLOR, value: red}]
";

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*']
  - port: {number: 9999, name: http-2, protocol: HTTP}
    bind: 127.0.0.9
    hosts: ['*']
";

fn folder(texts: &[&str]) -> Objects {
    let mut objects = Objects::new();
    for document in texts.iter().flat_map(|it| crds::yaml::documents(it)) {
        for decoded in crds::decode::objects(document.content.unwrap().value) {
            let object = decoded.into_object().unwrap();
            objects.insert(object.key.clone(), object);
        }
    }
    objects
}

fn on_laptop() -> Setup {
    Setup {
        network: Network::Loopback { block: 9, ingress: Some(Ipv4Addr::LOCALHOST) },
        low_ports: LowPorts::Raised,
        readiness: Readiness::All,
    }
}

fn planned(texts: &[&str]) -> Plan {
    plan(&folder(texts), &on_laptop(), &mut Seats::default())
}

fn pod(namespace: &str, name: &str) -> PodKey {
    PodKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn spec(plan: &Plan, kind: Kind, name: &str) -> Spec {
    plan.objects[&ObjectKey::new(kind, "shop", name)].spec.clone()
}

fn sidecar_of(plan: &Plan, pod: &str) -> crds::networking::Sidecar {
    let Spec::Sidecar(sidecar) = spec(plan, Kind::Sidecar, &format!("navarch-{pod}")) else { panic!("not a Sidecar") };
    *sidecar
}

fn said(plan: &Plan) -> Vec<String> {
    plan.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn each_replica_is_a_pod_with_three_addresses_of_its_own() {
    let plan = planned(&[WEB]);
    let web = |name: &str| &plan.workloads[&pod("shop", name)];
    assert_eq!(web("web-0").addresses.pod, Ipv4Addr::new(127, 9, 0, 1));
    assert_eq!(web("web-0").http_proxy().to_string(), "127.9.0.2:15002");
    assert_eq!(web("web-0").admin().to_string(), "127.9.0.2:15000");
    assert_eq!(web("web-1").addresses.app, Ipv4Addr::new(127, 9, 0, 7));
    assert_eq!(web("web-0").labels[POD_LABEL], "web-0");
    assert_eq!(web("web-0").command.as_deref(), Some("./serve"));
    let Spec::Pod(found) = spec(&plan, Kind::Pod, "web-1") else { panic!("not a Pod") };
    assert_eq!(found.status.ips[0], Some(Ipv4Addr::new(127, 9, 0, 5).into()));
}

#[test]
fn a_program_serves_its_containers_ports_and_low_ones_are_raised() {
    let listen = &planned(&[WEB]).workloads[&pod("shop", "web-0")].listen;
    assert_eq!(*listen, BTreeMap::from([(10_080, Speaks::Http), (9090, Speaks::Http), (7000, Speaks::Tcp)]));
    let setup = Setup { low_ports: LowPorts::Bindable, ..on_laptop() };
    let plan = plan(&folder(&[WEB]), &setup, &mut Seats::default());
    assert!(plan.workloads[&pod("shop", "web-0")].listen.contains_key(&80));
}

#[test]
fn a_programs_environment_has_its_services_and_its_own_variables() {
    let environment = &planned(&[WEB]).workloads[&pod("shop", "web-1")].environment;
    assert_eq!(environment["WEB_SERVICE_HOST"], "127.9.0.6");
    assert_eq!(environment["WEB_SERVICE_PORT"], "80");
    assert_eq!(environment["COLOR"], "red");
}

#[test]
fn an_envoy_is_what_the_mesh_proxy_configs_and_the_annotation_say() {
    let config = |namespace: &str, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {{name: a, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let root = config("istio-system", "{concurrency: 2, environmentVariables: {ISTIO_META_A: root, OTHER: x}}");
    let own = config(
        "shop",
        "{selector: {matchLabels: {app: web}}, concurrency: 3, environmentVariables: {ISTIO_META_B: own}}",
    );
    let annotated = WEB.replace(
        "{navarch.dev/command: ./serve}",
        "{proxy.istio.io/config: '{concurrency: 0, proxyMetadata: {ISTIO_META_B: pod}}'}",
    );
    for (texts, threads, metadata) in [
        (&[WEB][..], Threads::One, &[][..]),
        (&[WEB, &root], Threads::Exactly(2), &[("A", "root")]),
        (&[WEB, &root, &own], Threads::Exactly(3), &[("A", "root"), ("B", "own")]),
        (&[&annotated, &own], Threads::OfMachine, &[("B", "pod")]),
    ] {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(planned(texts).workloads[&pod("shop", "web-0")].proxy, ProxySettings { threads, metadata });
    }
}

#[test]
fn services_get_endpoint_slices_with_named_ports_resolved() {
    let plan = planned(&[WEB]);
    let Spec::EndpointSlice(slice) = spec(&plan, Kind::EndpointSlice, "web-0") else { panic!("not a slice") };
    let ports: Vec<_> = slice.ports.iter().map(|it| (it.name.clone().unwrap(), it.port.unwrap())).collect();
    assert_eq!(ports, [("http".to_owned(), 10_080), ("tcp-raw".to_owned(), 7000)]);
    let addresses: Vec<_> = slice.endpoints.iter().map(|it| it.addresses[0].as_str()).collect();
    assert_eq!(addresses, ["127.9.0.1", "127.9.0.5"]);
    assert_eq!(slice.endpoints[0].target_ref.as_ref().unwrap().name, "web-0");
    assert_eq!(said(&plan), Vec::<String>::new());
}

#[test]
fn slices_that_the_folder_brings_are_left_alone() {
    let own = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: http, port: 80}]
";
    let plan = planned(&[WEB, own]);
    let slices: Vec<_> = plan.objects.keys().filter(|it| it.kind == Kind::EndpointSlice).map(|it| &*it.name).collect();
    assert_eq!(slices, ["mine"]);
}

#[test]
fn only_ready_pods_get_traffic() {
    let ready = BTreeSet::from([pod("shop", "web-1")]);
    let setup = Setup { readiness: Readiness::Of(ready), ..on_laptop() };
    let plan = plan(&folder(&[WEB]), &setup, &mut Seats::default());
    let Spec::EndpointSlice(slice) = spec(&plan, Kind::EndpointSlice, "web-0") else { panic!("not a slice") };
    assert_eq!(slice.endpoints.iter().map(|it| it.conditions.ready).collect::<Vec<_>>(), [Some(false), Some(true)]);
}

#[test]
fn selectors_and_port_names_that_reach_nothing_are_said() {
    let lost = "
apiVersion: v1
kind: Service
metadata: {name: lost, namespace: shop}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: typo, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: mian}]}
";
    let said = said(&planned(&[WEB, lost]));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("shop/lost: spec.selector"), "{said:?}");
    assert!(said[1].contains("shop/typo: spec.ports[0].targetPort"), "{said:?}");
}

#[test]
fn a_workload_without_a_sidecar_of_its_own_sees_everything_and_binds_its_addresses() {
    let sidecar = sidecar_of(&planned(&[WEB]), "web-0");
    assert_eq!(sidecar.workload_selector.unwrap().labels[POD_LABEL], "web-0");
    let ingress: Vec<_> = sidecar
        .ingress
        .iter()
        .map(|it| (it.port.number, it.port.protocol.as_str(), it.bind.as_str(), it.default_endpoint.as_str()))
        .collect();
    assert_eq!(
        ingress,
        [(7000, "TCP", "127.9.0.1", "127.9.0.3:7000"), (10_080, "HTTP", "127.9.0.1", "127.9.0.3:10080")]
    );
    let [proxy, rest] = &sidecar.egress[..] else { panic!("{:?}", sidecar.egress) };
    let port = proxy.port.as_ref().unwrap();
    assert_eq!((port.number, port.protocol.as_str(), proxy.bind.as_str()), (15002, "HTTP_PROXY", "127.9.0.2"));
    assert_eq!((rest.bind.as_str(), rest.port.is_none(), rest.capture_mode), ("127.9.0.2", true, CaptureMode::None));
    assert_eq!((&proxy.hosts[..], &rest.hosts[..]), (&["*/*".to_owned()][..], &["*/*".to_owned()][..]));
}

#[test]
fn the_users_most_specific_sidecar_is_kept_but_for_addresses() {
    let root = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec: {egress: [{hosts: ['root/*']}]}
";
    let namespaced = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
";
    let selected = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec:
  workloadSelector: {labels: {app: web}}
  ingress:
  - {port: {number: 8000, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8001'}
  - {port: {number: 9000, protocol: HTTP, name: uds}, defaultEndpoint: 'unix:///run/a.sock'}
  egress:
  - {port: {number: 3306, protocol: MYSQL, name: db}, hosts: ['db/*']}
  - {hosts: ['./*']}
";
    let hosts = |texts: &[&str]| sidecar_of(&planned(texts), "web-0").egress.pop().unwrap().hosts;
    assert_eq!(hosts(&[WEB, root]), ["root/*"]);
    assert_eq!(hosts(&[WEB, root, namespaced]), ["./*"]);
    let plan = planned(&[WEB, root, namespaced, selected]);
    let sidecar = sidecar_of(&plan, "web-0");
    let endpoints: Vec<_> = sidecar.ingress.iter().map(|it| it.default_endpoint.as_str()).collect();
    assert_eq!(endpoints, ["127.9.0.3:8001", "unix:///run/a.sock"]);
    assert_eq!(sidecar.ingress[0].bind, "127.9.0.1");
    let egress: Vec<_> =
        sidecar.egress.iter().map(|it| (it.port.as_ref().map(|it| it.number), it.hosts.join(","))).collect();
    assert_eq!(
        egress,
        [(Some(3306), "db/*".to_owned()), (Some(15002), "./*,db/*".to_owned()), (None, "./*".to_owned())]
    );
    // The user's own makes room, and is still who is said to be wrong.
    let own = ObjectKey::new(Kind::Sidecar, "shop", "web");
    assert!(!plan.objects.contains_key(&own));
    let made = ObjectKey::new(Kind::Sidecar, "shop", "navarch-web-0");
    assert_eq!(plan.at_origin(Problem::new(&made, "spec", Reason::NotTranslated)).object, own);
}

#[test]
fn a_folder_with_gateways_gets_an_ingress_gateway_bound_to_its_address() {
    let plan = planned(&[WEB, GATEWAY]);
    let gateway = &plan.workloads[&pod("istio-system", "istio-ingressgateway-0")];
    assert_eq!((gateway.role, gateway.addresses.pod), (Role::Gateway, Ipv4Addr::LOCALHOST));
    let Spec::Gateway(front) = spec(&plan, Kind::Gateway, "front") else { panic!("not a Gateway") };
    assert_eq!(front.servers.iter().map(|it| it.bind.as_str()).collect::<Vec<_>>(), ["127.0.0.1", "127.0.0.9"]);
    let service = &plan.objects[&ObjectKey::new(Kind::Service, "istio-system", "istio-ingressgateway")];
    assert_eq!(service.meta.annotations["networking.istio.io/exportTo"], ".");
    // 80 by the Service's targetPort, 9999 as it is.
    let ingress: Vec<_> = plan.ingress.iter().map(ToString::to_string).collect();
    assert_eq!(ingress, ["127.0.0.1:8080", "127.0.0.9:9999"]);
    assert!(planned(&[WEB]).workloads.values().all(|it| it.role == Role::Sidecar));
}

#[test]
fn a_gateway_deployment_of_the_folder_is_used_and_has_one_replica() {
    let own = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge, namespace: shop}
spec:
  replicas: 3
  template:
    metadata:
      labels: {istio: ingressgateway}
      annotations: {inject.istio.io/templates: gateway}
    spec: {containers: [{name: istio-proxy, image: auto}]}
";
    let plan = planned(&[WEB, GATEWAY, own]);
    let gateways: Vec<_> =
        plan.workloads.values().filter(|it| it.role == Role::Gateway).map(|it| it.key.to_string()).collect();
    assert_eq!(gateways, ["edge-0.shop"]);
    assert!(said(&plan)[0].contains("spec.replicas"), "{:?}", said(&plan));
}

#[test]
fn a_gateway_that_selects_nobody_is_said() {
    let plan = planned(&[WEB, &GATEWAY.replace("istio: ingressgateway", "istio: other")]);
    assert!(said(&plan).iter().any(|it| it.contains("Gateway shop/front: spec.selector")), "{:?}", said(&plan));
}

#[test]
fn pods_keep_their_addresses_when_others_come_and_go() {
    let mut seats = Seats::default();
    let first = plan(&folder(&[WEB]), &on_laptop(), &mut seats);
    let other = WEB.replace("name: web", "name: api");
    let second = plan(&folder(&[WEB, &other]), &on_laptop(), &mut seats);
    let key = pod("shop", "web-0");
    assert_eq!(first.workloads[&key].addresses, second.workloads[&key].addresses);
    let all: BTreeSet<_> = second.workloads.values().map(|it| it.addresses.pod).collect();
    assert_eq!(all.len(), second.workloads.len());
}

#[test]
fn offline_the_pod_network_is_a_clusters_and_nothing_is_bound() {
    let setup = Setup { network: Network::Cluster, low_ports: LowPorts::Bindable, readiness: Readiness::All };
    let plan = plan(&folder(&[WEB, GATEWAY]), &setup, &mut Seats::default());
    assert!(plan.objects.keys().all(|it| it.kind != Kind::Sidecar));
    let Spec::Gateway(front) = spec(&plan, Kind::Gateway, "front") else { panic!("not a Gateway") };
    assert_eq!(front.servers[0].bind, "");
    assert!(plan.workloads.values().all(|it| it.addresses.pod.octets()[0] == 10));
}

#[test]
fn too_many_replicas_are_cut_and_said() {
    let plan = planned(&[&WEB.replace("replicas: 2", "replicas: 60000")]);
    assert_eq!(plan.workloads.len(), WORKLOADS_MAX);
    assert!(said(&plan)[0].contains("at most 128"), "{:?}", said(&plan));
}
