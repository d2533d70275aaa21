//! Pods in, pods out: a folder of `webhook/testdata` is a case, made to be read. `UPDATE=1` writes what comes out.

use super::*;
use crate::yaml;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    cases.sort();
    cases
}

/// `request.yaml` of a case: what comes with the pod, and how the control plane was started.
fn setting(case: &Path) -> (Request, Config) {
    let read = |name: &str| std::fs::read_to_string(case.join(name)).ok();
    let (config, values, mesh) = (read("config.yaml"), read("values.yaml"), read("mesh.yaml"));
    let texts = Texts { config: config.as_deref(), values: values.as_deref(), mesh: mesh.as_deref() };
    let with = crds::yaml::value(&read("request.yaml").unwrap_or_default()).unwrap();
    let native = with["native"] == true;
    let options = Options {
        revision: with["revision"].as_str().unwrap_or_default().to_owned(),
        native_sidecars: if native { NativeSidecars::Native } else { NativeSidecars::Container },
        ..Options::default()
    };
    let environment = input::map(&with, "/environment");
    let request = Request { namespace: "shop".into(), environment, workload: None };
    let objects = crds::yaml::documents(&read("proxy-config.yaml").unwrap_or_default()).into_iter();
    let decoded = objects.flat_map(|it| crds::decode::checked(it.content.unwrap().value));
    let configs = decoded.filter_map(|it| match it.into_object().unwrap() {
        crds::Object { meta, spec: crds::Spec::ProxyConfig(config), .. } => Some((meta, config)),
        _ => None,
    });
    let configs = std::sync::Arc::new(ProxyConfigs::new(configs));
    (request, Config::new(texts, options).unwrap().with_proxy_configs(configs))
}

fn injected(pod: &Value, request: &Request, config: &Config) -> Value {
    match inject(pod, request, config) {
        Ok(Outcome::Injected(pod)) => pod,
        other => panic!("not injected: {other:?}"),
    }
}

#[test]
fn pods_are_injected_as_written_down() {
    let update = std::env::var_os("UPDATE").is_some();
    for case in cases() {
        let (request, config) = setting(&case);
        let pod = crds::yaml::value(&std::fs::read_to_string(case.join("pod.yaml")).unwrap()).unwrap();
        let out = injected(&pod, &request, &config);
        let text = yaml::text(&out);
        let golden = case.join("injected.yaml");
        if update {
            std::fs::write(&golden, &text).unwrap();
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(text == want, "{} differs; UPDATE=1 writes it:\n{text}", golden.display());
    }
}

#[test]
fn s52_injecting_twice_is_injecting_once() {
    for case in cases() {
        let (request, config) = setting(&case);
        let pod = crds::yaml::value(&std::fs::read_to_string(case.join("pod.yaml")).unwrap()).unwrap();
        let once = injected(&pod, &request, &config);
        let twice = injected(&once, &request, &config);
        assert_eq!(yaml::text(&twice), yaml::text(&once), "{}", case.display());
    }
}

#[test]
fn s52_what_others_add_between_two_injections_stays() {
    let config = Config::new(Texts::default(), Options::default()).unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app"}]}});
    let mut once = injected(&pod, &Request::default(), &config);
    let proxy = pod::proxy_mut(&mut once).unwrap();
    pod::array(&mut proxy["env"]).push(json!({"name": "THEIRS", "value": "1"}));
    pod::array(&mut proxy["volumeMounts"]).push(json!({"name": "kube-api-access", "mountPath": "/var/run/secrets/k"}));
    pod::containers_mut(&mut once, "containers")
        .insert(0, json!({"name": "late", "readinessProbe": {"httpGet": {"path": "/", "port": 1}}}));
    let twice = injected(&once, &Request::default(), &config);
    let proxy = pod::proxy(&twice).unwrap();
    assert_eq!(pod::env(proxy, "THEIRS"), Some("1"));
    assert_eq!(pod::env(proxy, "ISTIO_META_APP_CONTAINERS"), Some("late,app"));
    assert!(pod::env(proxy, probe::PROBERS).unwrap().contains("/app-health/late/readyz"));
    assert!(proxy["volumeMounts"].as_array().unwrap().iter().any(|it| it["name"] == "kube-api-access"));
    let thrice = injected(&twice, &Request::default(), &config);
    assert_eq!(yaml::text(&thrice), yaml::text(&twice));
}

#[test]
fn f36_istiod_and_pods_of_the_node_are_left_alone_and_unknown_fields_pass() {
    let config = Config::new(Texts::default(), Options::default()).unwrap();
    let pod = json!({"metadata": {"labels": {"app": "istiod"}}, "spec": {"containers": []}});
    assert_eq!(inject(&pod, &Request::default(), &config).unwrap(), Outcome::Skipped(Skip::ControlPlane));
    let pod = json!({"spec": {"fromTheFuture": {"a": [1]}, "containers": [{"name": "a", "alsoNew": true}]}});
    let out = injected(&pod, &Request::default(), &config);
    assert_eq!(out["spec"]["fromTheFuture"], json!({"a": [1]}));
    assert_eq!(out["spec"]["containers"][0]["alsoNew"], true);
    let request = Request { namespace: "kube-system".into(), ..Request::default() };
    assert_eq!(inject(&pod, &request, &config).unwrap(), Outcome::Skipped(Skip::SystemNamespace));
}

#[test]
fn what_cannot_be_injected_says_why() {
    let config = Config::new(Texts::default(), Options::default()).unwrap();
    let refused = |pod: Value| inject(&pod, &Request::default(), &config).unwrap_err().to_string();
    assert_eq!(refused(json!({"metadata": {}})), "the pod cannot be read: it has no spec");
    assert!(refused(json!({"spec": {"containers": 1}})).starts_with("the pod cannot be read: spec: "));
    let annotated = |name: &str, value: &str| {
        refused(json!({"metadata": {"annotations": {name: value}}, "spec": {"containers": [{"name": "a"}]}}))
    };
    assert_eq!(
        annotated(annotation::TEMPLATES, "sidecar, mine"),
        "template mine: there is none of that name, only gateway, sidecar"
    );
    assert_eq!(
        annotated("prometheus.io/port", "15090"),
        "annotation prometheus.io/port: port 15090 is the proxy's own"
    );
    assert_eq!(
        annotated(annotation::USER_VOLUME, r#"{"istio-token":{"emptyDir":{}}}"#),
        "annotation sidecar.istio.io/userVolume: \"istio-token\" is the name of a volume of the proxy"
    );
}

#[test]
fn a_template_whose_conditions_all_fail_leaves_the_pod_as_it_is() {
    for text in ["{{ if false }}spec: {}{{ end }}", "metadata:\nspec:\n"] {
        let config = json!({"templates": {"empty": text}}).to_string();
        let texts = Texts { config: Some(&config), ..Texts::default() };
        let config = Config::new(texts, Options::default()).unwrap();
        let pod = json!({"metadata": {"annotations": {annotation::TEMPLATES: "empty"}}, "spec": {"containers": [{"name": "a"}]}});
        let out = injected(&pod, &Request::default(), &config);
        assert_eq!(out["spec"], pod["spec"], "{text}");
    }
}

#[test]
fn s46_the_proxy_fits_the_restricted_level() {
    let config = Config::new(Texts::default(), Options::default()).unwrap();
    for templates in ["sidecar", "gateway"] {
        let pod = json!({"metadata": {"annotations": {annotation::TEMPLATES: templates}},
                         "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}});
        let out = injected(&pod, &Request::default(), &config);
        let security = &pod::proxy(&out).unwrap()["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    }
}

/// All annotations and labels that injection reads, with whatever text.
fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    let names = prop::sample::select(vec![
        annotation::AGENT_LOG_LEVEL,
        annotation::BOOTSTRAP_OVERRIDE,
        annotation::CAP_NET_BIND_SERVICE,
        annotation::COMPONENT_LOG_LEVEL,
        annotation::DISCOVERY_ADDRESS,
        annotation::EXCLUDE_INBOUND_PORTS,
        annotation::EXCLUDE_INTERFACES,
        annotation::INCLUDE_OUTBOUND_PORTS,
        annotation::INTERCEPTION_MODE,
        annotation::LOG_LEVEL,
        annotation::MULTUS_NETWORKS,
        annotation::NATIVE_SIDECAR,
        annotation::OVERRIDES,
        annotation::PROXY_CONFIG,
        annotation::PROXY_CPU,
        annotation::PROXY_IMAGE,
        annotation::PROXY_IMAGE_TYPE,
        annotation::PROXY_MEMORY_LIMIT,
        annotation::READINESS_PERIOD,
        annotation::STATUS,
        annotation::STATUS_PORT,
        annotation::TEMPLATES,
        annotation::USER_VOLUME,
        annotation::USER_VOLUME_MOUNT,
        "prometheus.io/port",
        "kubectl.kubernetes.io/default-container",
        "app",
        "service.istio.io/canonical-name",
        "service.istio.io/workload-name",
        "topology.istio.io/network",
        "security.istio.io/tlsMode",
    ]);
    let values = prop_oneof![
        "\\PC{0,40}",
        "[\n\r\t\"'{}:\\[\\]]{0,12}",
        Just("\"\n    securityContext:\n      privileged: true\n    x: \"".to_owned()),
        Just("{{ .Values }}{{ template \"x\" }}".to_owned()),
        Just(r#"{"containers":[{"name":"istio-proxy","securityContext":{"privileged":true,"capabilities":{"add":["SYS_ADMIN"]}}}]}"#.to_owned()),
        Just(r#"{"containers":["app","istio-proxy"],"initContainers":["istio-init"],"volumes":["v"]}"#.to_owned()),
        Just(r#"{"v":{"hostPath":{"path":"/"}}}"#.to_owned()),
        Just(r#"{"v":{"emptyDir":{}}}"#.to_owned()),
        Just(r#"{"v":{"mountPath":"/v"}}"#.to_owned()),
        Just("x".repeat(256 << 10)),
        Just("proxyMetadata: {A: \"b\\n- name: c\"}".to_owned()),
        prop::sample::select(vec!["TPROXY", "NONE", "true", "false", "0", "15020", "100m", "gateway", "sidecar,gateway", "8080"])
            .prop_map(str::to_owned),
    ];
    prop::collection::btree_map(names.prop_map(str::to_owned), values, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing that a user writes into annotations or labels gives a container, a volume of the node, or a right that
    /// the template does not have; and the pod stays a pod.
    #[test]
    fn s50_annotations_and_labels_bring_no_rights(annotations in texts(), labels in texts(), native: bool) {
        let native_sidecars = if native { NativeSidecars::Native } else { NativeSidecars::Container };
        let options = Options { native_sidecars, ..Options::default() };
        let config = Config::new(Texts::default(), options).unwrap();
        let pod = json!({"metadata": {"name": "p", "labels": labels, "annotations": annotations},
                         "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
        let Ok(Outcome::Injected(out)) = inject(&pod, &Request::default(), &config) else { return Ok(()) };
        let typed: k8s_openapi::api::core::v1::PodSpec = serde_json::from_value(out["spec"].clone()).unwrap();
        prop_assert!(typed.service_account_name.is_none() && typed.host_network.is_none() && typed.host_pid.is_none());
        let tproxy = annotations.get(annotation::INTERCEPTION_MODE).is_some_and(|it| it == "TPROXY");
        let binds = annotations.get(annotation::CAP_NET_BIND_SERVICE).is_some_and(|it| it == "true");
        for container in typed.containers.iter().chain(typed.init_containers.iter().flatten()) {
            prop_assert!(["app", PROXY, INIT].contains(&container.name.as_str()), "{}", container.name);
            let Some(security) = &container.security_context else { continue };
            prop_assert_ne!(security.privileged, Some(true));
            prop_assert_ne!(security.allow_privilege_escalation, Some(true));
            let added = security.capabilities.iter().flat_map(|it| it.add.iter().flatten());
            for capability in added {
                let allowed: &[&str] = match container.name.as_str() {
                    INIT => &["NET_ADMIN", "NET_RAW"],
                    _ if tproxy && binds => &["NET_ADMIN", "NET_BIND_SERVICE"],
                    _ if tproxy => &["NET_ADMIN"],
                    _ if binds => &["NET_BIND_SERVICE"],
                    _ => &[],
                };
                prop_assert!(allowed.contains(&capability.as_str()), "{capability}");
            }
        }
        for volume in typed.volumes.iter().flatten() {
            prop_assert!(volume.host_path.is_none());
            let ours = volume.name.starts_with("istio") || ["workload-socket", "credential-socket", "workload-certs",
                "custom-bootstrap-volume"].contains(&volume.name.as_str());
            prop_assert!(ours || volume.name == "v", "{}", volume.name);
        }
        let again = injected(&out, &Request::default(), &config);
        prop_assert_eq!(yaml::text(&again), yaml::text(&out));
        prop_assert!(crate::patch::diff(&pod, &out).is_ok());
    }
}
