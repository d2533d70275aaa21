//! Rendered manifests as values: names, ports, rights, webhooks, security, revisions, order.

use deploy::chart::{self, Chart, Release};
use deploy::manifest::{self, Installation, Request};
use deploy::value;
use serde_json::{Value, json};
use std::path::Path;

fn installation(set: &[&str]) -> Installation {
    let request = Request { set: set.iter().map(|&argument| argument.to_owned()).collect(), ..Request::default() };
    let (installation, warnings) = request.installation().expect("valid values");
    assert_eq!(warnings, [], "{set:?}");
    installation
}

/// All objects of an installation of the default profile with these values.
fn objects(set: &[&str]) -> Vec<Value> {
    let components = manifest::components(&installation(set)).expect("it renders");
    components.into_iter().flat_map(|component| component.objects).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn names<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a str> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| object["metadata"]["name"].as_str().expect("a name")).collect()
}

#[test]
fn the_service_has_istios_ports_and_selects_istios_pods() {
    let objects = objects(&[]);
    let service = find(&objects, "Service", "istiod");
    assert_eq!(service["metadata"]["namespace"], "istio-system");
    assert_eq!(service["spec"]["selector"], json!({"app": "istiod", "istio": "pilot"}));
    let ports = service["spec"]["ports"].as_array().expect("ports").iter();
    let ports: Vec<_> = ports.map(|p| json!([p["name"], p["port"], p["targetPort"]])).collect();
    assert_eq!(
        ports,
        [
            json!(["grpc-xds", 15010, null]),
            json!(["https-dns", 15012, null]),
            json!(["https-webhook", 443, 15017]),
            json!(["http-monitoring", 15014, null]),
        ]
    );
}

#[test]
fn the_deployment_runs_discovery_as_istios_does() {
    let objects = objects(&["meshConfig.accessLogFile=/dev/stdout", "env.A=1", "global.logAsJson=true"]);
    let deployment = find(&objects, "Deployment", "istiod");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], json!({"app": "istiod", "istio": "pilot"}));
    assert_eq!(deployment["spec"].get("replicas"), None, "the autoscaler's");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "discovery");
    assert_eq!(container["image"], format!("navarch/pilot:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        container["args"],
        json!([
            "discovery",
            "--monitoringAddr=:15014",
            "--log_output_level=default:info",
            "--log_as_json",
            "--domain",
            "cluster.local",
            "--keepaliveMaxServerConnectionAge",
            "30m"
        ])
    );
    assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/ready", "port": 8080}));
    let ports: Vec<_> = container["ports"].as_array().expect("ports").iter().map(|p| &p["containerPort"]).collect();
    assert_eq!(ports, [8080, 15010, 15012, 15014, 15017]);
    let env = container["env"].as_array().expect("env").iter();
    let env: Vec<_> =
        env.map(|e| (e["name"].as_str().expect("name"), e["value"].as_str().unwrap_or("(field)"))).collect();
    assert_eq!(
        env,
        [
            ("POD_NAME", "(field)"),
            ("POD_NAMESPACE", "(field)"),
            ("SERVICE_ACCOUNT", "(field)"),
            ("CLUSTER_ID", "Kubernetes"),
            ("KUBECONFIG", "/var/run/secrets/remote/config"),
            ("PILOT_CERT_PROVIDER", "istiod"),
            ("PILOT_ENABLE_ANALYSIS", "false"),
            ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false"),
            ("PILOT_TRACE_SAMPLING", "1"),
            ("REVISION", "default"),
            ("A", "1"),
        ]
    );
    let mounts = container["volumeMounts"].as_array().expect("mounts").iter();
    let mut mounts: Vec<_> = mounts.map(|m| (m["mountPath"].as_str(), m["name"].as_str())).collect();
    mounts.sort_unstable();
    assert_eq!(
        mounts,
        [
            ("/etc/cacerts", "cacerts"),
            ("/etc/istio/config", "config-volume"),
            ("/var/lib/istio/inject", "inject"),
            ("/var/run/secrets/istio-dns", "local-certs"),
            ("/var/run/secrets/istiod/ca", "istio-csr-ca-configmap"),
            ("/var/run/secrets/istiod/tls", "istio-csr-dns-cert"),
            ("/var/run/secrets/remote", "istio-kubeconfig"),
            ("/var/run/secrets/tokens", "istio-token"),
        ]
        .map(|(path, name)| (Some(path), Some(name)))
    );
    let volumes = pod["volumes"].as_array().expect("volumes");
    assert_eq!(volumes.len(), mounts.len());
    assert!(mounts.iter().all(|(_, name)| volumes.iter().any(|volume| volume["name"].as_str() == *name)));
}

#[test]
fn mesh_config_is_the_charts_with_the_users_over_it() {
    let objects = objects(&[
        "meshConfig.accessLogFile=/dev/stdout",
        "meshConfig.enablePrometheusMerge=false",
        "meshConfig.defaultConfig.holdApplicationUntilProxyStarts=true",
        "global.meshNetworks.n1.endpoints[0].fromRegistry=Kubernetes",
    ]);
    let data = &find(&objects, "ConfigMap", "istio")["data"];
    assert_eq!(
        embedded(&data["mesh"]),
        json!({
            "accessLogFile": "/dev/stdout",
            "defaultConfig": {"discoveryAddress": "istiod.istio-system.svc:15012", "holdApplicationUntilProxyStarts": true},
            "defaultProviders": {"metrics": ["prometheus"]},
            "enablePrometheusMerge": false,
            "rootNamespace": "istio-system",
            "trustDomain": "cluster.local",
        })
    );
    assert_eq!(
        embedded(&data["meshNetworks"]),
        json!({"networks": {"n1": {"endpoints": [{"fromRegistry": "Kubernetes"}]}}})
    );
}

#[test]
fn the_injectors_config_map_has_what_injection_needs() {
    let objects = objects(&[
        "sidecarInjectorWebhook.templates.mine=metadata: {}",
        "global.proxy.logLevel=debug",
        "istio_cni.enabled=true",
    ]);
    let data = &find(&objects, "ConfigMap", "istio-sidecar-injector")["data"];
    assert_eq!(
        embedded(&data["config"]),
        json!({
            "alwaysInjectSelector": [],
            "defaultTemplates": ["sidecar"],
            "injectedAnnotations": {},
            "neverInjectSelector": [],
            "policy": "enabled",
            "templates": {"mine": "metadata: {}"},
        })
    );
    let values: Value = serde_json::from_str(data["values"].as_str().expect("text")).expect("JSON");
    assert_eq!(values["global"]["proxy"]["logLevel"], "debug");
    assert_eq!(values["global"]["proxy"]["statusPort"], 15020);
    assert_eq!(values["global"]["hub"], "navarch");
    assert_eq!(values["global"]["sds"]["token"]["aud"], "istio-ca");
    assert_eq!(values["pilot"]["cni"]["enabled"], true);
    assert_eq!(values["sidecarInjectorWebhook"]["rewriteAppHTTPProbe"], true);
    assert_eq!(values["revision"], "");
}

fn embedded(text: &Value) -> Value {
    crds::yaml::value(text.as_str().expect("text")).expect("YAML")
}

/// The webhooks of a configuration: short name, namespaceSelector, objectSelector, each as text.
fn webhooks(configuration: &Value) -> Vec<(String, String, String)> {
    let hooks = configuration["webhooks"].as_array().expect("webhooks");
    let name = |hook: &Value| hook["name"].as_str().expect("name").replace(".sidecar-injector.istio.io", "");
    hooks
        .iter()
        .map(|hook| (name(hook), selector(&hook["namespaceSelector"]), selector(&hook["objectSelector"])))
        .collect()
}

fn selector(selector: &Value) -> String {
    let terms = selector["matchExpressions"].as_array().expect("expressions").iter().map(|term| {
        let values: Vec<_> = term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let key = term["key"].as_str().expect("key").replace("kubernetes.io/metadata.name", "name");
        let key = key.replace("sidecar.istio.io/inject", "inject").replace("istio.io/rev", "rev");
        format!(
            "{key} {}{}",
            term["operator"].as_str().expect("operator"),
            if values.is_empty() { String::new() } else { format!(" [{}]", values.join(" ")) }
        )
    });
    terms.collect::<Vec<_>>().join(" & ")
}

const OWN: &str = "name NotIn [kube-system kube-public kube-node-lease local-path-storage istio-system]";
const SYSTEM: &str = "name NotIn [kube-system kube-public kube-node-lease]";

/// What the injector of a revision (or tag) is asked about: the first two rows, and for the default one all.
fn matrix(value: &str) -> Vec<(String, String, String)> {
    [
        (
            "rev.namespace",
            format!("rev In [{value}] & istio-injection DoesNotExist & {OWN}"),
            "inject NotIn [false]".into(),
        ),
        (
            "rev.object",
            format!("rev DoesNotExist & istio-injection DoesNotExist & {SYSTEM}"),
            format!("inject NotIn [false] & rev In [{value}]"),
        ),
        ("namespace", format!("istio-injection In [enabled] & {OWN}"), "inject NotIn [false]".into()),
        (
            "object",
            format!("istio-injection DoesNotExist & rev DoesNotExist & {SYSTEM}"),
            "inject In [true] & rev DoesNotExist".into(),
        ),
        (
            "auto",
            format!("istio-injection DoesNotExist & rev DoesNotExist & {OWN}"),
            "inject DoesNotExist & rev DoesNotExist".into(),
        ),
    ]
    .map(|(name, namespaces, pods)| (name.to_owned(), namespaces, pods))
    .into()
}

#[test]
fn f36_the_injector_is_asked_by_istios_matrix_and_never_about_what_it_needs_itself() {
    let default = objects(&[]);
    assert_eq!(
        webhooks(find(&default, "MutatingWebhookConfiguration", "istio-sidecar-injector")),
        matrix("default")[..4]
    );
    let everywhere = objects(&["sidecarInjectorWebhook.enableNamespacesByDefault=true"]);
    assert_eq!(
        webhooks(find(&everywhere, "MutatingWebhookConfiguration", "istio-sidecar-injector")),
        matrix("default")
    );
    let canary = objects(&["revision=canary", "revisionTags={prod,default}"]);
    assert_eq!(
        names(&canary, "MutatingWebhookConfiguration"),
        ["istio-revision-tag-default", "istio-revision-tag-prod", "istio-sidecar-injector-canary"]
    );
    let hooks = |name: &str| webhooks(find(&canary, "MutatingWebhookConfiguration", name));
    assert_eq!(hooks("istio-sidecar-injector-canary"), matrix("canary")[..2]);
    assert_eq!(hooks("istio-revision-tag-prod"), matrix("prod")[..2]);
    assert_eq!(hooks("istio-revision-tag-default"), matrix("default")[..4]);
    for objects in [&default, &canary] {
        for configuration in objects.iter().filter(|object| object["kind"] == "MutatingWebhookConfiguration") {
            for hook in configuration["webhooks"].as_array().expect("webhooks") {
                assert_eq!((&hook["failurePolicy"], &hook["reinvocationPolicy"]), (&json!("Fail"), &json!("Never")));
                assert!(hook["timeoutSeconds"].as_i64() <= Some(10));
                assert_eq!(hook["clientConfig"].get("caBundle"), None, "the control plane's to put in");
            }
        }
    }
    let pods = &find(&default, "Deployment", "istiod")["spec"]["template"]["metadata"];
    assert_eq!(pods["labels"]["sidecar.istio.io/inject"], "false");
}

#[test]
fn f37_validators_begin_lenient_and_judge_their_own_revision() {
    let objects = objects(&[]);
    assert_eq!(
        names(&objects, "ValidatingWebhookConfiguration"),
        ["istiod-default-validator", "istio-validator-istio-system"]
    );
    for (name, hook, expected) in [
        ("istiod-default-validator", "validation.istio.io", "rev DoesNotExist"),
        ("istio-validator-istio-system", "rev.validation.istio.io", "rev In [default]"),
    ] {
        let hooks = &find(&objects, "ValidatingWebhookConfiguration", name)["webhooks"];
        assert_eq!(hooks[0]["name"], hook);
        assert_eq!(hooks[0]["failurePolicy"], "Ignore");
        assert_eq!(hooks[0]["sideEffects"], "None");
        assert_eq!(
            hooks[0]["clientConfig"]["service"],
            json!({"name": "istiod", "namespace": "istio-system", "path": "/validate", "port": 443})
        );
        assert_eq!(selector(&hooks[0]["objectSelector"]), expected);
        assert_eq!(hooks[0]["rules"][0]["operations"], json!(["CREATE", "UPDATE"]));
    }
}

#[test]
fn s43_s44_rights_are_named_one_by_one() {
    let mut rules: Vec<(String, Value)> = Vec::new();
    for set in [&[][..], &["rbac.gatewayDeployment=true", "global.enableReaderRBAC=true"]] {
        for object in objects(set) {
            if ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap_or_default()) {
                let name = deploy::kind::describe(&object);
                rules
                    .extend(object["rules"].as_array().expect("rules").iter().map(|rule| (name.clone(), rule.clone())));
            }
        }
    }
    for (role, rule) in &rules {
        let text = rule.to_string();
        for forbidden in ["\"*\"", "pods/exec", "escalate", "bind", "impersonate", "deletecollection"] {
            assert!(!text.contains(forbidden), "{role}: {text}");
        }
        let has = |field: &str, value: &str| rule[field].as_array().into_iter().flatten().any(|entry| entry == value);
        if has("resources", "secrets") {
            assert!(role.starts_with("Role "), "{role}: Secrets of every namespace");
        }
        if has("resources", "configmaps") && (has("verbs", "update") || has("verbs", "patch")) {
            assert_eq!(rule["resourceNames"], json!(["istio-ca-root-cert"]), "{role}");
        }
        if text.contains("webhookconfigurations") && has("verbs", "patch") {
            assert!(rule["resourceNames"].is_array(), "{role}: {text}");
        }
    }
    let deployments = |set: &[&str]| {
        let roles = objects(set);
        roles.iter().any(|role| role["kind"] == "ClusterRole" && role.to_string().contains("\"deployments\""))
    };
    assert!(!deployments(&[]));
    assert!(deployments(&["rbac.gatewayDeployment=true"]));
}

/// What the level `restricted` of Pod Security would say of a pod; empty: it may run.
fn restricted(pod: &Value) -> Vec<String> {
    const VOLUMES: &[&str] =
        &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    const SYSCTLS: &[&str] =
        &["net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_keepalive_time", "net.ipv4.ping_group_range"];
    let mut problems = Vec::new();
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[host] == true {
            problems.push(host.to_owned());
        }
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let types = volume.as_object().expect("a volume").keys().filter(|key| *key != "name");
        problems.extend(types.filter(|kind| !VOLUMES.contains(&kind.as_str())).map(|kind| format!("volume {kind}")));
    }
    for sysctl in pod["securityContext"]["sysctls"].as_array().into_iter().flatten() {
        if !SYSCTLS.contains(&sysctl["name"].as_str().unwrap_or_default()) {
            problems.push(format!("sysctl {}", sysctl["name"]));
        }
    }
    let all = ["initContainers", "containers"].into_iter().flat_map(|f| pod[f].as_array().into_iter().flatten());
    for container in all {
        let name = container["name"].as_str().unwrap_or_default();
        let (own, pods) = (&container["securityContext"], &pod["securityContext"]);
        let either = |field: &str| if own[field].is_null() { pods[field].clone() } else { own[field].clone() };
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                problems.push(format!("{name}: {what}"));
            }
        };
        demand(either("runAsNonRoot") == true, "runAsNonRoot");
        demand(either("runAsUser") != 0, "runAsUser 0");
        demand(own["privileged"] != true, "privileged");
        demand(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        demand(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        demand(own["capabilities"]["drop"] == json!(["ALL"]), "capabilities.drop");
        demand(own["capabilities"].get("add").is_none(), "capabilities.add");
        demand(
            ["RuntimeDefault", "Localhost"].contains(&either("seccompProfile")["type"].as_str().unwrap_or_default()),
            "seccompProfile",
        );
        demand(
            container["ports"].as_array().into_iter().flatten().all(|port| port.get("hostPort").is_none()),
            "hostPort",
        );
        demand(container["resources"]["limits"]["memory"].is_string(), "limits.memory");
    }
    problems
}

#[test]
fn s46_pods_pass_the_level_restricted() {
    let mut pods = 0;
    for object in objects(&["profile=demo"]) {
        if object["kind"] == "Deployment" {
            pods += 1;
            assert_eq!(
                restricted(&object["spec"]["template"]["spec"]),
                Vec::<String>::new(),
                "{}",
                object["metadata"]["name"]
            );
        }
    }
    assert_eq!(pods, 3);
    let wrong = json!({"hostNetwork": true, "containers": [{"name": "c", "securityContext": {"privileged": true}}]});
    assert_eq!(restricted(&wrong).len(), 8, "{:?}", restricted(&wrong));
}

#[test]
fn s47_network_policies_are_offered() {
    assert_eq!(names(&objects(&[]), "NetworkPolicy"), [""; 0]);
    let objects = objects(&["global.networkPolicy.enabled=true"]);
    assert_eq!(names(&objects, "NetworkPolicy"), ["istiod", "istio-ingressgateway"]);
    let ports = find(&objects, "NetworkPolicy", "istiod")["spec"]["ingress"][0]["ports"].as_array().expect("ports");
    assert_eq!(ports.iter().map(|port| &port["port"]).collect::<Vec<_>>(), [15012, 15014, 15017]);
}

#[test]
fn the_gateway_is_an_empty_proxy_that_the_injector_fills() {
    let objects = objects(&["gateways.istio-ingressgateway.service.type=NodePort"]);
    let labels = json!({"app": "istio-ingressgateway", "istio": "ingressgateway"});
    let deployment = find(&objects, "Deployment", "istio-ingressgateway");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels);
    let pod = &deployment["spec"]["template"];
    assert_eq!(pod["metadata"]["annotations"]["inject.istio.io/templates"], "gateway");
    assert_eq!(pod["metadata"]["labels"]["sidecar.istio.io/inject"], "true");
    assert_eq!(pod["spec"]["containers"][0]["image"], "auto");
    let service = find(&objects, "Service", "istio-ingressgateway");
    assert_eq!((&service["spec"]["type"], &service["spec"]["selector"]), (&json!("NodePort"), &labels));
    let ports = service["spec"]["ports"].as_array().expect("ports").iter();
    let ports: Vec<_> = ports.map(|p| json!([p["name"], p["port"], p["targetPort"]])).collect();
    assert_eq!(ports, [json!(["status-port", 15021, 15021]), json!(["http2", 80, 80]), json!(["https", 443, 443])]);
}

#[test]
fn a_revision_is_in_every_name_and_selector() {
    let objects = objects(&["revision=canary", "profile=minimal"]);
    for object in
        objects.iter().filter(|object| object["kind"] != "CustomResourceDefinition" && object["kind"] != "Namespace")
    {
        let name = object["metadata"]["name"].as_str().expect("a name");
        assert!(name.contains("-canary"), "{}", deploy::kind::describe(object));
        assert_eq!(object["metadata"]["labels"]["istio.io/rev"], "canary");
    }
    let deployment = &find(&objects, "Deployment", "istiod-canary")["spec"];
    assert_eq!(deployment["selector"]["matchLabels"], json!({"app": "istiod", "istio.io/rev": "canary"}));
    assert_eq!(deployment["template"]["metadata"]["labels"]["istio"], "istiod", "not the default Service's");
    let mesh = embedded(&find(&objects, "ConfigMap", "istio-canary")["data"]["mesh"]);
    assert_eq!(mesh["defaultConfig"]["discoveryAddress"], "istiod-canary.istio-system.svc:15012");
    let hook = &find(&objects, "MutatingWebhookConfiguration", "istio-sidecar-injector-canary")["webhooks"][0];
    assert_eq!(hook["clientConfig"]["service"]["name"], "istiod-canary");
}

#[test]
fn objects_stand_in_the_order_in_which_they_can_be_applied() {
    let components = manifest::components(&installation(&[])).expect("it renders");
    let order: Vec<String> = components
        .iter()
        .flat_map(|component| {
            let mut kinds: Vec<_> =
                component.objects.iter().map(|o| o["kind"].as_str().expect("kind").to_owned()).collect();
            kinds.dedup();
            kinds.into_iter().map(|kind| format!("{} {kind}", component.name))
        })
        .collect();
    assert_eq!(
        order,
        [
            "base Namespace",
            "base CustomResourceDefinition",
            "base ValidatingWebhookConfiguration",
            "istiod ServiceAccount",
            "istiod ClusterRole",
            "istiod ClusterRoleBinding",
            "istiod Role",
            "istiod RoleBinding",
            "istiod ConfigMap",
            "istiod Service",
            "istiod PodDisruptionBudget",
            "istiod Deployment",
            "istiod HorizontalPodAutoscaler",
            "istiod MutatingWebhookConfiguration",
            "istiod ValidatingWebhookConfiguration",
            "istio-ingressgateway ServiceAccount",
            "istio-ingressgateway Role",
            "istio-ingressgateway RoleBinding",
            "istio-ingressgateway Service",
            "istio-ingressgateway Deployment",
            "istio-ingressgateway HorizontalPodAutoscaler",
        ]
    );
}

#[test]
fn the_manifest_of_the_default_profile_is_the_golden_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/default.yaml");
    let text = manifest::generate(&installation(&[])).expect("it renders");
    assert_eq!(text, manifest::generate(&installation(&[])).expect("it renders"), "the same bytes again");
    // Definitions have a generated file of their own.
    let others = text.split("---\n").filter(|document| !document.contains("kind: CustomResourceDefinition\n"));
    let text = others.collect::<Vec<_>>().join("---\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        std::fs::write(&path, &text).expect("it can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{} is stale: UPDATE=1 cargo test -p deploy --test manifest", path.display());
}

#[test]
fn wrong_values_are_refused_with_the_file_at_fault() {
    let release = Release { name: "x".into(), namespace: "istio-system".into(), service: "navarch".into() };
    let error = chart::render(Chart::Istiod, &json!({"global": {"proxy": "text"}}), &release).expect_err("not a map");
    assert!(error.to_string().starts_with("chart istiod, "), "{error}");
    let error = value::parse("mine.yaml", "a: b: c").expect_err("not YAML");
    assert!(error.to_string().starts_with("mine.yaml: line 1"), "{error}");
}
