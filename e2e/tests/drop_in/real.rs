//! Where the names of the contract are looked up: each function returns what navarch really has of one kind of name.

use super::{INJECTION_KEYS, ISTIOD_VARIABLES_WITHOUT_EFFECT, METRICS, contract, split};
use agent::environment::{Environment, Flags, Role};
use clap::{Arg, CommandFactory};
use crds::mesh_config::MeshConfig;
use deploy::manifest::{self, Request};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use translate::name::{OutboundCluster, OutboundSni};
use webhook::inject::{self, Config, Outcome, Texts};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is a folder of the repository").to_owned()
}

pub(super) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn subcommand(path: &[&str]) -> clap::Command {
    let mut command = controller::args::Args::command();
    for name in path {
        command = command.find_subcommand(name).unwrap_or_else(|| panic!("no verb {name}")).clone();
    }
    command
}

/// `--flag`, `--flag=DEFAULT` and `-f`.
pub(super) fn flags(path: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for argument in subcommand(path).get_arguments() {
        all.extend(argument.get_short().map(|it| format!("-{it}")));
        let Some(long) = argument.get_long() else { continue };
        let defaults = argument.get_default_values().iter().map(|it| it.to_string_lossy().into_owned());
        all.extend([format!("--{long}"), format!("--{long}={}", defaults.collect::<Vec<_>>().join(","))]);
    }
    all
}

pub(super) fn verbs() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = subcommand(&[]).get_subcommands().map(|it| it.get_name().to_owned()).collect();
    all.extend(subcommand(&["agent"]).get_subcommands().map(|it| format!("agent {}", it.get_name())));
    let proxy = subcommand(&["agent", "proxy"]);
    let roles = proxy.get_positionals().flat_map(Arg::get_possible_values);
    all.extend(roles.map(|it| format!("agent proxy {}", it.get_name())));
    all
}

/// The names by which the program knows what to be, tried with a verb that only that one has.
pub(super) fn names() -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let tried = [
        ("pilot-discovery", ["discovery", "--help"]),
        ("pilot-agent", ["istio-iptables", "--help"]),
        ("istioctl", ["proxy-status", "--help"]),
    ];
    let works = tried.into_iter().filter(|(name, arguments)| {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(e2e::navarch::program(), &link).expect("a link");
        Command::new(&link).args(arguments).output().is_ok_and(|it| it.status.success())
    });
    works.map(|(name, _)| name.to_owned()).collect()
}

/// Variables that `navarch discovery` reads: its flags', and those that `Environment::read` asks for by name.
pub(super) fn variables_read() -> Vec<String> {
    let discovery = subcommand(&["discovery"]);
    let of_flags = discovery.get_arguments().filter_map(Arg::get_env).map(|it| it.to_string_lossy().into_owned());
    let source = text("controller/src/discovery/environment.rs");
    let read = source.split("of.").skip(1).filter_map(|it| it.split_once("(\"")).filter_map(|(call, rest)| {
        let is_call = call.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        rest.split('"').next().filter(|name| is_call && name.chars().all(|it| it.is_ascii_uppercase() || it == '_'))
    });
    of_flags.chain(read.map(str::to_owned)).collect()
}

/// Those whose field of `Environment` somebody looks at.
pub(super) fn variables_used() -> BTreeSet<String> {
    let users = ["process", "core", "http", "injector", "door"];
    let users = users.map(|it| text(&format!("controller/src/discovery/{it}.rs"))).concat();
    let words: Vec<&str> = users.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').collect();
    let words: Vec<&str> = words.into_iter().filter(|it| !it.is_empty()).collect();
    let source = text("controller/src/discovery/environment.rs");
    let used = source.lines().filter_map(|line| {
        let (field, call) = line.split_once(": ").or_else(|| line.split_once(" = "))?;
        let field = field.trim().trim_start_matches("let ");
        let name = call.split_once("of.")?.1.split('"').nth(1)?;
        words.windows(2).any(|it| it == ["environment", field]).then(|| name.to_owned())
    });
    used.collect()
}

pub(super) fn variables_said() -> BTreeSet<String> {
    variables_said_of(&split(ISTIOD_VARIABLES_WITHOUT_EFFECT).collect::<Vec<_>>())
}

/// Which of these the real program remarks on when it starts. It ends at once: there is no API server.
pub(super) fn variables_said_of(names: &[&str]) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(e2e::navarch::program())
        .arg("discovery")
        .env_clear()
        .env("HOME", folder.path())
        .envs(names.iter().map(|name| (name, "neither-istiods-default-nor-empty")))
        .output()
        .expect("navarch runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no kubeconfig"), "{said}");
    let about = |name: &&&str| said.contains(&format!(" {name}: istiod knows it"));
    names.iter().filter(about).map(|it| (*it).to_owned()).collect()
}

const INJECTED: &[(&str, &str)] = &[
    ("POD_NAME", "reviews-1"),
    ("POD_NAMESPACE", "books"),
    ("INSTANCE_IP", "10.0.0.5"),
    ("SERVICE_ACCOUNT", "reviews"),
    ("PROXY_CONFIG", "{}"),
];

fn agent_environment(more: &[(&str, &str)]) -> Result<Environment, String> {
    let variables: BTreeMap<&str, &str> = INJECTED.iter().chain(more).copied().collect();
    let variables = variables.into_iter().filter(|(_, value)| *value != UNSET);
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Environment::new(agent_flags(), variables, &|_| None).map_err(|error| error.to_string())
}

const UNSET: &str = "(unset)";

fn agent_flags() -> Flags {
    Flags {
        role: Role::Sidecar,
        domain: String::new(),
        mesh_config: "./etc/istio/config/mesh".into(),
        service_cluster: String::new(),
        concurrency: 0,
        log_level: "warning".into(),
        component_log_level: "misc:error".into(),
        outlier_log_path: String::new(),
        template_file: String::new(),
    }
}

/// Everything that the agent makes of its variables, but not the variables.
fn agent_result(more: &[(&str, &str)]) -> String {
    let Ok(mut environment) = agent_environment(more) else { return "refused".to_owned() };
    let sockets = agent::bootstrap::Sockets { secrets: "s", discovery: "d" };
    let bootstrap = agent::bootstrap::bootstrap(&environment, sockets);
    environment.variables.clear();
    format!("{environment:?} {bootstrap}")
}

pub(super) fn agent_follows(name: &str, values: &[&str], with: &[(&str, &str)]) -> bool {
    let before = agent_result(with);
    values.iter().any(|value| {
        let all: Vec<_> = with.iter().copied().chain([(name, *value)]).collect();
        agent_result(&all) != before
    })
}

/// Values that are no defaults; for one variable or another, one of them is right.
const VALUES: &[&str] =
    &["true", "false", "7s", "0.3", "4096", "P384", "ECDSA", "first-party-jwt", "kubernetes", "x", "10.9.9.9"];

pub(super) fn agent_variables() -> BTreeSet<String> {
    let with = |name: &str| match name {
        "MINIMUM_DRAIN_DURATION" => vec![("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true")],
        "DNS_PROXY_ADDR" => vec![("ISTIO_META_DNS_CAPTURE", "true")],
        "ECC_CURVE" => vec![("ECC_SIGNATURE_ALGORITHM", "ECDSA")],
        _ => vec![],
    };
    let values = |name: &str| match name {
        "PROXY_CONFIG" => vec!["{\"statusPort\": 15999}"],
        "CA_ADDR" => vec!["ca.example.com:443"],
        _ => VALUES.to_vec(),
    };
    let followed = contract("the agent's variable").filter(|name| agent_follows(name, &values(name), &with(name)));
    followed.map(str::to_owned).collect()
}

pub(super) fn agent_defaults() -> BTreeSet<String> {
    let unset = agent_environment(&[]).expect("what is injected is enough");
    let same = |name: &str, value: &str| {
        let with: &[(&str, &str)] = match name {
            "MINIMUM_DRAIN_DURATION" => &[("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true")],
            _ => &[],
        };
        let set: Vec<_> = with.iter().copied().chain([(name, value)]).collect();
        agent_result(&set) == agent_result(with)
    };
    let pairs = contract("default of the agent's variable").filter_map(|it| it.split_once('='));
    let mut all: BTreeSet<String> =
        pairs.filter(|(name, value)| same(name, value)).map(|(name, value)| format!("{name}={value}")).collect();
    if unset.certificate.key == ca::key::KeyKind::P256 {
        all.insert("WORKLOAD_RSA_KEY_SIZE unset: P-256".to_owned());
    }
    all
}

/// All objects that `navarch manifest generate` prints.
fn objects(set: &[&str]) -> Vec<Value> {
    let request = Request { set: set.iter().map(|it| (*it).to_owned()).collect(), ..Request::default() };
    let (installation, _) = request.installation().expect("valid values");
    manifest::components(&installation).expect("it renders").into_iter().flat_map(|it| it.objects).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn ports() -> BTreeSet<String> {
    let objects = objects(&[]);
    let istiod = find(&objects, "Deployment", "istiod");
    let containers = list(istiod, "/spec/template/spec/containers/0/ports");
    let mut all: BTreeSet<String> = containers.map(|it| format!("istiod {}", it["containerPort"])).collect();
    let gateways = self::objects(&["gateways.istio-ingressgateway.networkGateway=network1"]);
    let services = [
        ("istiod", find(&objects, "Service", "istiod")),
        ("gateway", find(&objects, "Service", "istio-ingressgateway")),
        ("gateway", find(&gateways, "Service", "istio-ingressgateway")),
    ];
    for (who, service) in services {
        all.extend(
            list(service, "/spec/ports").map(|it| format!("Service {who} {} {}", it["port"], word(&it["name"]))),
        );
    }
    let environment = agent_environment(&[]).expect("what is injected is enough");
    let proxy = &environment.proxy_config;
    all.extend([format!("proxy {} admin", proxy.admin_port), format!("proxy {} agent", proxy.status_port)]);
    all.insert(format!("proxy {} health", environment.envoy_status_port));
    let pod = injected(&pod(), &config());
    let exposed = list(&pod, "/spec/containers").flat_map(|it| list(it, "/ports"));
    all.extend(exposed.map(|it| format!("proxy {} {}", it["containerPort"], word(&it["name"]))));
    let capture = flags(&["agent", "istio-iptables"]);
    for (flag, what) in [("envoy-port", "outbound"), ("inbound-capture-port", "inbound")] {
        let port = capture.iter().find_map(|it| it.strip_prefix(&format!("--{flag}=")));
        all.extend(port.map(|port| format!("proxy {port} {what}")));
    }
    // The rules send DNS where the agent listens.
    if text("agent/src/capture/plan.rs").contains("DNS_PROXY_PORT: u16 = 15053")
        && text("agent/src/dns/serve.rs").contains("\"localhost:15053\"")
    {
        all.insert("proxy 15053 DNS".to_owned());
    }
    all
}

pub(super) fn files() -> BTreeSet<String> {
    let objects = objects(&[]);
    let istiod = find(&objects, "Deployment", "istiod");
    let mounts = list(istiod, "/spec/template/spec/containers/0/volumeMounts");
    let mut all: BTreeSet<String> = mounts.map(|it| format!("istiod {}", word(&it["mountPath"]))).collect();
    let pod = injected(&pod(), &config());
    let mounts = list(&pod, "/spec/containers").flat_map(|it| list(it, "/volumeMounts"));
    all.extend(mounts.map(|it| format!("proxy {}", word(&it["mountPath"]))));
    // What the agent opens, as it asks for it.
    let asked = RefCell::new(BTreeSet::new());
    let variables = INJECTED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let read = |path: &Path| {
        asked.borrow_mut().insert(path.display().to_string());
        None
    };
    let environment = Environment::new(agent_flags(), variables, &read).expect("what is injected is enough");
    let mut agent = asked.into_inner();
    agent.insert(environment.certificate.token.display().to_string());
    if let agent::environment::Roots::File(path) = &environment.certificate.server.roots {
        agent.insert(path.display().to_string());
    }
    agent.extend(
        [&environment.proxy_config.binary_path, &environment.proxy_config.config_path].map(ToString::to_string),
    );
    let source = text("agent/src/proxy.rs");
    let constants = source.lines().filter(|it| it.starts_with("const ")).filter_map(|it| it.split('"').nth(1));
    agent.extend(constants.map(str::to_owned));
    all.extend(agent.into_iter().map(|it| format!("agent {it}")));
    all
}

pub(super) fn installation() -> BTreeSet<String> {
    let default = objects(&[]);
    let canary = objects(&["revision=canary", "revisionTags={prod}"]);
    let mut all = BTreeSet::new();
    for object in default.iter().chain(&canary) {
        let (kind, name) = (word(&object["kind"]), word(&object["metadata"]["name"]));
        let keys = object["data"].as_object().into_iter().flatten();
        all.extend(keys.map(|(key, _)| format!("{kind} {name} {key}")));
        all.insert(format!("{kind} {name}"));
        for webhook in list(object, "/webhooks") {
            let path = word(&webhook["clientConfig"]["service"]["path"]);
            all.insert(format!("webhook {} {path}", word(&webhook["name"])));
            for selector in ["namespaceSelector", "objectSelector"] {
                let keys = list(&webhook[selector], "/matchExpressions").map(|it| word(&it["key"]));
                all.extend(keys.map(|key| format!("{selector} {key}")));
            }
        }
    }
    let istiod = find(&default, "Deployment", "istiod");
    for labels in [&istiod["metadata"]["labels"], &istiod["spec"]["template"]["metadata"]["labels"]] {
        let labels = labels.as_object().into_iter().flatten();
        all.extend(labels.map(|(key, value)| format!("label {key}={}", word(value))));
    }
    let container = &istiod["spec"]["template"]["spec"]["containers"][0];
    all.insert(format!("container {}", word(&container["name"])));
    let probe = &container["readinessProbe"]["httpGet"];
    all.insert(format!("probe {} {}", word(&probe["path"]), probe["port"]));
    all
}

pub(super) fn written() -> BTreeSet<String> {
    use source::lease::Election;
    let mut all = BTreeSet::from([
        format!("ConfigMap {} {}", ca::roots::CONFIG_MAP, ca::roots::CONFIG_MAP_KEY),
        format!("Lease {}", Election::STATUS),
        format!("Lease {}", Election::NAMESPACES),
    ]);
    // What it has no right to, it does not use.
    let objects = objects(&[]);
    for rule in list(find(&objects, "Role", "istiod"), "/rules").filter(|it| it["resources"] == json!(["secrets"])) {
        let mut names = list(rule, "/resourceNames").map(word);
        all.extend(names.by_ref().map(|it| format!("Secret {it}")));
    }
    all
}

/// A pod that has everything injection may act on.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "reviews-1",
            "namespace": "shop",
            "labels": { "app": "reviews", "version": "v1" },
            "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": "9080" },
        },
        "spec": {
            "containers": [{
                "name": "app",
                "image": "app",
                "ports": [{ "containerPort": 9080 }],
                "readinessProbe": { "httpGet": { "path": "/ready", "port": 9080 } },
            }],
        },
    })
}

fn config() -> Config {
    Config::new(Texts::default(), inject::Options::default()).expect("defaults")
}

fn injected(pod: &Value, config: &Config) -> Value {
    match inject::inject(pod, &inject::Request::default(), config) {
        Ok(Outcome::Injected(pod)) => pod,
        other => panic!("not injected: {other:?}"),
    }
}

pub(super) fn injected_parts() -> BTreeSet<String> {
    let pod = injected(&pod(), &config());
    let mut all = BTreeSet::new();
    for (what, pointer) in [("label", "/metadata/labels"), ("annotation", "/metadata/annotations")] {
        for (key, value) in pod.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
            all.extend([format!("{what} {key}"), format!("{what} {key}={}", word(value))]);
        }
    }
    all.extend(list(&pod, "/spec/volumes").map(|it| format!("volume {}", word(&it["name"]))));
    let sources = list(&pod, "/spec/volumes").flat_map(|it| list(it, "/projected/sources"));
    all.extend(sources.map(|it| format!("audience {}", word(&it["serviceAccountToken"]["audience"]))));
    for container in list(&pod, "/spec/containers").chain(list(&pod, "/spec/initContainers")) {
        all.insert(format!("container {}", word(&container["name"])));
        all.extend(list(container, "/env").map(|it| format!("variable {}", word(&it["name"]))));
        let arguments: Vec<String> = list(container, "/args").map(word).collect();
        let mode = arguments.windows(2).find(|it| it[0] == "-m").map(|it| format!("mode {}", it[1]));
        all.extend(mode);
        let context = &container["securityContext"];
        all.extend([format!("uid {}", context["runAsUser"]), format!("gid {}", context["runAsGroup"])]);
        let probe = &container["readinessProbe"]["httpGet"];
        all.insert(format!("probe {} {}", word(&probe["path"]), probe["port"]));
    }
    all
}

pub(super) fn injection_followed() -> BTreeSet<String> {
    let values = |name: &str| match name {
        "inject.istio.io/templates" => "gateway",
        "proxy.istio.io/config" => "{\"concurrency\": 3}",
        "proxy.istio.io/overrides" => {
            "{\"containers\":[{\"name\":\"istio-proxy\",\"resources\":{\"requests\":{\"cpu\":\"7m\"}}}]}"
        }
        "prometheus.istio.io/merge-metrics" | "sidecar.istio.io/rewriteAppHTTPProbers" => "false",
        "sidecar.istio.io/capNetBindService" | "sidecar.istio.io/nativeSidecar" => "true",
        "sidecar.istio.io/interceptionMode" => "TPROXY",
        "sidecar.istio.io/discoveryAddress" => "istiod.other.svc:15012",
        "sidecar.istio.io/proxyImageType" => "distroless",
        "sidecar.istio.io/userVolume" => "{\"v\": {\"emptyDir\": {}}}",
        "sidecar.istio.io/userVolumeMount" => "{\"v\": {\"mountPath\": \"/v\"}}",
        "sidecar.istio.io/bootstrapOverride" => "a-config-map",
        "traffic.sidecar.istio.io/excludeOutboundIPRanges" | "traffic.sidecar.istio.io/includeOutboundIPRanges" => {
            "10.9.0.0/16"
        }
        "traffic.sidecar.istio.io/excludeInterfaces"
        | "traffic.sidecar.istio.io/kubevirtInterfaces"
        | "istio.io/reroute-virtual-interfaces" => "net1",
        "sidecar.istio.io/agentLogLevel" => "default:debug",
        "sidecar.istio.io/componentLogLevel" => "http:debug",
        "sidecar.istio.io/logLevel" => "debug",
        "sidecar.istio.io/proxyImage" => "example.com/proxy:1",
        _ => "77",
    };
    let mut all: BTreeSet<String> = split(INJECTION_KEYS)
        .filter(|name| !name.ends_with("sidecar.istio.io/inject") && injection_follows(name, values(name)))
        .map(str::to_owned)
        .collect();
    for (name, field) in [("label sidecar.istio.io/inject", "labels"), ("sidecar.istio.io/inject", "annotations")] {
        let mut pod = pod();
        pod["metadata"][field]["sidecar.istio.io/inject"] = json!("false");
        if let Ok(Outcome::Skipped(_)) = inject::inject(&pod, &inject::Request::default(), &config()) {
            all.insert(name.to_owned());
        }
    }
    all
}

/// Whether the pod becomes another one by this annotation, apart from the annotation itself.
pub(super) fn injection_follows(name: &str, value: &str) -> bool {
    // Networks matter where a CNI plugin is one of them.
    let values = (name == "k8s.v1.cni.cncf.io/networks").then_some(MULTUS);
    let config = Config::new(Texts { values, ..Texts::default() }, inject::Options::default()).expect("valid");
    let mut with = pod();
    with["metadata"]["annotations"][name] = json!(value);
    let (before, mut after) = (injected(&pod(), &config), injected(&with, &config));
    if let Some(annotations) = after["metadata"]["annotations"].as_object_mut() {
        annotations.remove(name);
    }
    before != after
}

const MULTUS: &str = "{pilot: {cni: {enabled: true, provider: multus}}}";

/// All texts that these sources have between quotes.
pub(super) fn literals(files: &[&str]) -> BTreeSet<String> {
    let code = files.iter().map(|it| text(it)).map(|it| it.split("#[cfg(test)]\nmod tests").next().map(str::to_owned));
    code.flatten().flat_map(|it| it.split('"').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Every file of the goldens with this name.
fn goldens(name: &str) -> String {
    let mut all = String::new();
    let mut folders = vec![root().join("controller/world/testdata")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of goldens").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if entry.file_name() == name => {
                    all.push_str(
                        &std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())),
                    );
                }
                _ => {}
            }
        }
    }
    all
}

pub(super) fn golden_inputs_say(part: &str) -> BTreeSet<String> {
    let inputs = goldens("input.yaml");
    contract(part).filter(|it| inputs.contains(it)).map(str::to_owned).collect()
}

/// Names in what the goldens say Envoy gets, and in the bootstrap.
pub(super) fn envoy_names() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for file in ["cds.yaml", "lds.yaml", "rds.yaml"] {
        for line in goldens(file).lines() {
            let line = line.trim_start().trim_start_matches("- ");
            let name = ["name: ", "route_config_name: ", "sni: "].iter().find_map(|it| line.strip_prefix(it));
            all.extend(name.map(|it| it.trim_matches(['"', '\'']).to_owned()));
        }
    }
    let host = model::host::Hostname::new("reviews.default.svc.cluster.local");
    all.insert(OutboundSni(OutboundCluster { port: 9080, subset: None, host: &host }).to_string());
    let environment = agent_environment(&[]).expect("what is injected is enough");
    let sockets = agent::bootstrap::Sockets { secrets: "s", discovery: "d" };
    let bootstrap = agent::bootstrap::bootstrap(&environment, sockets);
    all.extend(list(&bootstrap, "/static_resources/clusters").map(|it| word(&it["name"])));
    all
}

pub(super) fn mesh_defaults() -> BTreeSet<String> {
    let mesh = MeshConfig::default();
    let proxy = agent_environment(&[]).expect("what is injected is enough").proxy_config.json;
    let mut all = BTreeSet::from([
        format!("connectTimeout {}s", mesh.connect_timeout.0.as_secs()),
        format!("dnsRefreshRate {}s", mesh.dns_refresh_rate.0.as_secs()),
        format!("protocolDetectionTimeout {}s", mesh.protocol_detection_timeout.0.as_secs()),
        format!("enableAutoMtls {}", mesh.enable_auto_mtls),
        format!("outboundTrafficPolicy {:?}", mesh.outbound_traffic_policy.mode),
        format!("inboundTrafficPolicy {:?}", mesh.inbound_traffic_policy.mode),
        format!("rootNamespace {}", mesh.root_namespace),
        format!("trustDomain {}", mesh.trust_domain),
        format!("proxyListenPort {}", mesh.proxy_listen_port),
        format!("proxyInboundListenPort {}", mesh.proxy_inbound_listen_port),
        format!("ingressService {}", mesh.ingress_service),
    ]);
    all.extend(proxy.as_object().into_iter().flatten().map(|(key, value)| format!("{key} {}", word(value))));
    // By default an application's own metrics are merged into the proxy's.
    let merged = injected(&pod(), &config());
    if list(&merged, "/spec/containers").any(|it| it["env"].to_string().contains("ISTIO_PROMETHEUS_ANNOTATIONS")) {
        all.insert("enablePrometheusMerge true".to_owned());
    }
    all
}

pub(super) fn pages() -> BTreeSet<String> {
    let of = |who: &str, file: &str| {
        let source = text(file);
        let paths = source.split(".route(").skip(1).filter_map(|it| it.split('"').nth(1));
        paths.map(|path| format!("{who} {path}")).collect::<Vec<_>>()
    };
    let all = [
        of("istiod", "controller/src/discovery/http.rs"),
        of("webhook", "webhook/src/serve.rs"),
        of("agent", "agent/src/status.rs"),
    ];
    all.into_iter().flatten().collect()
}

/// Names of series: rendered where that is public, else the literals of what renders them.
pub(super) fn metrics() -> BTreeSet<String> {
    let mut text_form = String::new();
    ca::metrics::Metrics::default().render(&mut text_form);
    text_form.push_str(&webhook::serve::metrics::Metrics::default().render());
    let now = std::time::SystemTime::now();
    text_form.push_str(&agent::metrics::Metrics::default().text(Some(now), now));
    let types = text_form.lines().filter_map(|it| it.strip_prefix("# TYPE ")).filter_map(|it| it.split(' ').next());
    let mut all: BTreeSet<String> = types.map(str::to_owned).collect();
    for file in ["controller/src/discovery/metrics.rs", "agent/src/status/metrics.rs", "agent/src/dns/metrics.rs"] {
        let source = text(file);
        let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for word in code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            all.insert(if word.starts_with("dns_") { format!("istio_agent_{word}") } else { word.to_owned() });
        }
    }
    // Envoy's own statistics would be in the configuration that it gets.
    let envoys = goldens("lds.yaml");
    all.extend(split(METRICS).filter(|it| envoys.contains(it)).map(str::to_owned));
    all
}

pub(super) fn versions() -> BTreeSet<String> {
    let istios = |it: &str| it.split('.').next() == Some("1");
    let mut all = BTreeSet::new();
    if istios(agent::node::ISTIO_VERSION) {
        all.insert("the agent's begins with Istio's".to_owned());
    }
    let shown = istios(agent::node::VERSION);
    for (file, name) in [
        ("controller/src/discovery/http.rs", "/version begins with Istio's"),
        ("controller/src/discovery/metrics.rs", "istio_build begins with Istio's"),
    ] {
        if shown && text(file).contains("agent::node::VERSION") {
            all.insert(name.to_owned());
        }
    }
    all
}
