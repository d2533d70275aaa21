//! What the proxy's container has in a sidecar and in a gateway: arguments, environment, mounts and volumes.

use super::annotation as a;
use super::input::Input;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, Lifecycle, LocalObjectReference, ObjectFieldSelector, Probe, ProjectedVolumeSource,
    ResourceFieldSelector, ResourceRequirements, SeccompProfile, SecretVolumeSource, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::collections::BTreeMap;

/// The user that the proxy runs as, and whose traffic is not redirected.
pub(super) const PROXY_USER: i64 = 1337;

const TOKEN_SECONDS: i64 = 43_200;

pub(super) fn args(input: &Input<'_>, role: &str) -> Vec<String> {
    let values = &input.config.values;
    let domain = values.text("global.proxy.clusterDomain", "cluster.local");
    let log_level = input.setting(a::LOG_LEVEL, "global.proxy.logLevel", "warning");
    let component_level = input.setting(a::COMPONENT_LOG_LEVEL, "global.proxy.componentLogLevel", "misc:error");
    let mut args = vec![
        "proxy".into(),
        role.into(),
        "--domain".into(),
        format!("$(POD_NAMESPACE).svc.{domain}"),
        format!("--proxyLogLevel={log_level}"),
        format!("--proxyComponentLogLevel={component_level}"),
        format!("--log_output_level={}", agent_log_level(input)),
    ];
    if let Some(port) = values.filled("global.sts.servicePort").filter(|it| it != "0") {
        args.push(format!("--stsPort={port}"));
    }
    if values.is("global.logAsJson") {
        args.push("--log_as_json".into());
    }
    args
}

pub(super) fn agent_log_level(input: &Input<'_>) -> String {
    input.setting(a::AGENT_LOG_LEVEL, "global.logging.level", "default:info")
}

pub(super) fn prometheus_port() -> ContainerPort {
    ContainerPort {
        container_port: 15090,
        name: Some("http-envoy-prom".into()),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// The environment of the proxy, in Istio's order: a later variable may refer to an earlier one.
pub(super) fn env(input: &Input<'_>) -> Vec<EnvVar> {
    let values = &input.config.values;
    let mut env = vec![
        value("PILOT_CERT_PROVIDER", cert_provider(input)),
        value("CA_ADDR", ca_address(input)),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        resource("ISTIO_CPU_LIMIT", "limits.cpu"),
        value("PROXY_CONFIG", format!("{}\n", proxy_config(&input.proxy.0))),
        value("ISTIO_META_POD_PORTS", pod_ports(input)),
        value(
            "ISTIO_META_APP_CONTAINERS",
            input.applications().map(|it| it.name.as_str()).collect::<Vec<_>>().join(","),
        ),
        resource("GOMEMLIMIT", "limits.memory"),
    ];
    let policy = &input.config.options.compliance_policy;
    if !policy.is_empty() {
        env.push(value("COMPLIANCE_POLICY", policy.clone()));
    }
    let cluster = values.filled("global.multiCluster.clusterName").unwrap_or_else(|| "Kubernetes".into());
    env.push(value("ISTIO_META_CLUSTER_ID", cluster));
    env.push(field("ISTIO_META_NODE_NAME", "spec.nodeName"));
    env.push(value("ISTIO_META_INTERCEPTION_MODE", input.interception_mode()));
    if let Some(network) = values.filled("global.network") {
        env.push(value("ISTIO_META_NETWORK", network));
    }
    let workload = &input.workload;
    let name = input.labels.get("service.istio.io/workload-name").filter(|it| !it.is_empty()).unwrap_or(&workload.name);
    if !name.is_empty() {
        env.push(value("ISTIO_META_WORKLOAD_NAME", name.clone()));
    }
    if !workload.api_version.is_empty() && !workload.name.is_empty() {
        let namespace = if input.namespace.is_empty() { "default" } else { &input.namespace };
        let (version, kind) = (&workload.api_version, workload.kind.to_lowercase());
        let owner = format!("kubernetes://apis/{version}/namespaces/{namespace}/{kind}s/{}", workload.name);
        env.push(value("ISTIO_META_OWNER", owner));
    }
    if input.has(a::BOOTSTRAP_OVERRIDE) {
        env.push(value("ISTIO_BOOTSTRAP_OVERRIDE", "/etc/istio/custom-bootstrap/custom_bootstrap.json"));
    }
    env.push(value("ISTIO_META_MESH_ID", values.filled("global.meshID").unwrap_or_else(|| input.trust_domain())));
    env.push(value("TRUST_DOMAIN", input.trust_domain()));
    env
}

/// `proxyMetadata`, which may replace any variable above it.
pub(super) fn metadata_env(input: &Input<'_>) -> Vec<EnvVar> {
    let metadata = input.proxy.get("proxyMetadata").and_then(Value::as_object);
    let sorted: BTreeMap<_, _> = metadata.into_iter().flatten().collect();
    let text = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    sorted.into_iter().filter(|(_, it)| !it.is_null()).map(|(name, it)| value(name, text(it))).collect()
}

/// No name twice: the API server's own merge could not tell them apart.
pub(super) fn add_env(env: &mut Vec<EnvVar>, more: Vec<EnvVar>) {
    for variable in more {
        match env.iter_mut().find(|it| it.name == variable.name) {
            Some(there) => *there = variable,
            None => env.push(variable),
        }
    }
}

pub(super) fn value(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

fn field(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector { field_path: path.into(), ..ObjectFieldSelector::default() });
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { field_ref, ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

fn resource(name: &str, resource: &str) -> EnvVar {
    let selector =
        ResourceFieldSelector { resource: resource.into(), divisor: Some(Quantity("1".into())), container_name: None };
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { resource_field_ref: Some(selector), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

fn cert_provider(input: &Input<'_>) -> String {
    input.config.values.filled("global.pilotCertProvider").unwrap_or_else(|| "istiod".into())
}

fn ca_address(input: &Input<'_>) -> String {
    let values = &input.config.values;
    values.filled("global.caAddress").unwrap_or_else(|| {
        let revision = values.filled("revision").map_or_else(String::new, |it| format!("-{it}"));
        format!("istiod{revision}.{}.svc:15012", values.text("global.istioNamespace", "istio-system"))
    })
}

/// The proxy's configuration without what is Istio's default anyway: pods stay readable.
pub(super) fn proxy_config(config: &Value) -> String {
    let defaults = [
        ("configPath", "./etc/istio/proxy"),
        ("binaryPath", "/usr/local/bin/envoy"),
        ("controlPlaneAuthPolicy", "MUTUAL_TLS"),
        ("serviceCluster", "istio-proxy"),
        ("drainDuration", "45s"),
        ("terminationDrainDuration", "5s"),
        ("discoveryAddress", "istiod.istio-system.svc:15012"),
        ("proxyAdminPort", "15000"),
        ("statNameLength", "189"),
        ("statusPort", "15020"),
        ("proxyMetadata", "{}"),
        ("interceptionMode", "REDIRECT"),
        ("holdApplicationUntilProxyStarts", "false"),
    ];
    let mut config = config.clone();
    if let Value::Object(fields) = &mut config {
        fields.retain(|name, value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            !value.is_null() && !defaults.contains(&(name.as_str(), text.as_str()))
        });
        fields.sort_keys();
    }
    config.to_string()
}

fn pod_ports(input: &Input<'_>) -> String {
    let ports = input.spec.containers.iter().flat_map(|it| it.ports.iter().flatten());
    let ports: Vec<_> = ports.filter_map(|it| serde_json::to_string(it).ok()).collect();
    format!("[{}]", ports.join(","))
}

pub(super) fn resources(input: &Input<'_>) -> Option<ResourceRequirements> {
    let own = |cpu: &str, memory: &str| -> Option<BTreeMap<String, Quantity>> {
        let named = [("cpu", cpu), ("memory", memory)];
        let of = |(name, annotation): &(&str, &str)| {
            Some(((*name).to_owned(), Quantity(input.annotations.get(*annotation)?.clone())))
        };
        Some(named.iter().filter_map(of).collect::<BTreeMap<_, _>>()).filter(|it| !it.is_empty())
    };
    let requests = own(a::PROXY_CPU, a::PROXY_MEMORY);
    let limits = own(a::PROXY_CPU_LIMIT, a::PROXY_MEMORY_LIMIT);
    if requests.is_some() || limits.is_some() {
        return Some(ResourceRequirements { requests, limits, claims: None });
    }
    if let Some(given) = input.config.values.get("global.proxy.resources") {
        let mut clean = Value::Null;
        super::strategic::merge(&mut clean, given);
        return serde_json::from_value(clean).ok();
    }
    let quantities = |cpu: &str, memory: &str| {
        Some(BTreeMap::from([("cpu".to_owned(), Quantity(cpu.into())), ("memory".to_owned(), Quantity(memory.into()))]))
    };
    let (requests, limits) = (quantities("100m", "128Mi"), quantities("2000m", "1024Mi"));
    Some(ResourceRequirements { requests, limits, claims: None })
}

/// Of the values; otherwise what the `restricted` Pod Security level asks for (S46), which Istio leaves unset.
pub(super) fn seccomp_profile(input: &Input<'_>) -> Option<SeccompProfile> {
    let given = input.config.values.get("global.proxy.seccompProfile");
    let given = given.and_then(|it| serde_json::from_value::<SeccompProfile>(it.clone()).ok());
    given.filter(|it| !it.type_.is_empty()).or_else(|| Some(runtime_default()))
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }
}

pub(super) fn lifecycle(input: &Input<'_>) -> Option<Lifecycle> {
    serde_json::from_value(input.config.values.get("global.proxy.lifecycle")?.clone()).ok()
}

pub(super) fn ready(initial_delay_seconds: i32, period_seconds: i32, failure_threshold: i32) -> Probe {
    let port = IntOrString::Int(15021);
    Probe {
        http_get: Some(HTTPGetAction { path: Some("/healthz/ready".into()), port, ..HTTPGetAction::default() }),
        initial_delay_seconds: Some(initial_delay_seconds),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

pub(super) fn mounts(input: &Input<'_>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        mount("credential-socket", "/var/run/secrets/credential-uds"),
        mount("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
    ];
    if cert_provider(input) == "istiod" {
        mounts.push(mount("istiod-ca-cert", "/var/run/secrets/istio"));
        mounts.push(mount("istio-ca-crl", "/var/run/secrets/istio/crl"));
    }
    mounts.push(mount("istio-data", "/var/lib/istio/data"));
    if input.has(a::BOOTSTRAP_OVERRIDE) {
        mounts.push(mount("custom-bootstrap-volume", "/etc/istio/custom-bootstrap"));
    }
    mounts.push(mount("istio-envoy", "/etc/istio/proxy"));
    mounts.push(mount("istio-token", "/var/run/secrets/tokens"));
    if input.config.values.is("global.mountMtlsCerts") {
        mounts.push(VolumeMount { read_only: Some(true), ..mount("istio-certs", "/etc/certs/") });
    }
    mounts.push(mount("istio-podinfo", "/etc/istio/pod"));
    mounts
}

pub(super) fn volumes(input: &Input<'_>) -> Vec<Volume> {
    let values = &input.config.values;
    let named = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    let empty = |name: &str, medium: Option<&str>| Volume {
        empty_dir: Some(EmptyDirVolumeSource { medium: medium.map(str::to_owned), size_limit: None }),
        ..named(name)
    };
    let config_map = |name: &str, of: String, optional: Option<bool>| Volume {
        config_map: Some(ConfigMapVolumeSource { name: of, optional, ..ConfigMapVolumeSource::default() }),
        ..named(name)
    };
    let mut volumes =
        vec![empty("workload-socket", None), empty("credential-socket", None), empty("workload-certs", None)];
    if let Some(of) = input.annotations.get(a::BOOTSTRAP_OVERRIDE) {
        volumes.push(config_map("custom-bootstrap-volume", of.clone(), None));
    }
    volumes.push(empty("istio-envoy", Some("Memory")));
    volumes.push(empty("istio-data", None));
    volumes.push(Volume { downward_api: Some(pod_info()), ..named("istio-podinfo") });
    let audience = values.text("global.sds.token.aud", "istio-ca");
    volumes.push(Volume { projected: Some(token(audience)), ..named("istio-token") });
    if cert_provider(input) == "istiod" {
        let bundle = values.filled("global.trustBundleName").unwrap_or_else(|| "istio-ca-root-cert".into());
        volumes.push(config_map("istiod-ca-cert", bundle, None));
        let crl = values.filled("pilot.crlConfigMapName").unwrap_or_else(|| "istio-ca-crl".into());
        volumes.push(config_map("istio-ca-crl", crl, Some(true)));
    }
    if values.is("global.mountMtlsCerts") {
        let account = input.spec.service_account_name.as_deref().filter(|it| !it.is_empty()).unwrap_or("default");
        let secret_name = Some(format!("istio.{account}"));
        let secret = SecretVolumeSource { secret_name, optional: Some(true), ..SecretVolumeSource::default() };
        volumes.push(Volume { secret: Some(secret), ..named("istio-certs") });
    }
    volumes
}

fn pod_info() -> DownwardAPIVolumeSource {
    let item = |name: &str| DownwardAPIVolumeFile {
        path: name.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.{name}"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    DownwardAPIVolumeSource { items: Some(vec![item("labels"), item("annotations")]), default_mode: None }
}

fn token(audience: String) -> ProjectedVolumeSource {
    let token = ServiceAccountTokenProjection {
        audience: Some(audience),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "istio-token".into(),
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    ProjectedVolumeSource { sources: Some(vec![source]), default_mode: None }
}

pub(super) fn image_pull_secrets(input: &Input<'_>) -> Option<Vec<LocalObjectReference>> {
    let names = input.config.values.get("global.imagePullSecrets")?.as_array()?;
    let names: Vec<_> =
        names.iter().filter_map(Value::as_str).map(|it| LocalObjectReference { name: it.into() }).collect();
    (!names.is_empty()).then_some(names)
}

/// Labels and annotations that say what the pod is, and which of its containers people mean.
pub(super) fn identity(input: &Input<'_>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let first =
        |names: [&str; 3]| names.iter().find_map(|it| input.labels.get(*it).filter(|it| !it.is_empty())).cloned();
    let name = first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
        .unwrap_or_else(|| input.workload.name.clone());
    let name: String = name.chars().take(63).collect();
    let name = name.trim_matches(['-', '_', '.']).to_owned();
    let revision = first(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let labels = BTreeMap::from([
        ("service.istio.io/canonical-name".to_owned(), name),
        ("service.istio.io/canonical-revision".to_owned(), revision.unwrap_or_else(|| "latest".into())),
    ]);
    let revision = Some(input.config.options.revision.clone()).filter(|it| !it.is_empty());
    let mut annotations = BTreeMap::from([("istio.io/rev".to_owned(), revision.unwrap_or_else(|| "default".into()))]);
    if let Some(first) = input.applications().next() {
        for name in ["kubectl.kubernetes.io/default-logs-container", "kubectl.kubernetes.io/default-container"] {
            if !input.has(name) {
                annotations.insert(name.to_owned(), first.name.clone());
            }
        }
    }
    (labels, annotations)
}
