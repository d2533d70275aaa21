//! The built-in template `sidecar`: a proxy beside the application, and what redirects the pod's traffic to it.

use super::annotation as a;
use super::config::NativeSidecars;
use super::container::{self as c, PROXY_USER};
use super::input::{Input, Interception};
use super::{Refusal, function};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ExecAction, Lifecycle, LifecycleHandler, Pod, PodSpec, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// What the pod gets.
pub(super) fn sidecar(input: &Input<'_>) -> Result<Pod, Refusal> {
    let (mut labels, mut annotations) = c::identity(input);
    let keep = |name: &str, default: &str| {
        let value = input.labels.get(name).filter(|it| !it.is_empty()).cloned();
        (name.to_owned(), value.unwrap_or_else(|| default.to_owned()))
    };
    labels.extend([keep("security.istio.io/tlsMode", "istio")]);
    if input.proxy.is("proxyMetadata.ISTIO_META_ENABLE_HBONE") {
        labels.extend([keep("networking.istio.io/tunnel", "http")]);
    }
    if uses_cni(input) {
        annotations.extend(for_cni(input));
    }
    let proxy = proxy(input)?;
    let mut init_containers: Vec<Container> = redirection(input).into_iter().collect();
    let mut containers = vec![];
    match input.native {
        NativeSidecars::Native => init_containers.push(proxy),
        NativeSidecars::Container => containers.push(proxy),
    }
    let mut volumes = c::volumes(input);
    volumes.extend(user_volumes(input)?);
    let spec = PodSpec {
        containers,
        init_containers: Some(init_containers),
        volumes: Some(volumes),
        image_pull_secrets: c::image_pull_secrets(input),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() };
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

fn uses_cni(input: &Input<'_>) -> bool {
    input.config.values.is("pilot.cni.enabled")
}

/// Whether the proxy itself has to run as root: it marks packets, or opens low ports.
fn needs_root(input: &Input<'_>) -> bool {
    input.interception() == Interception::Tproxy || binds_low_ports(input)
}

fn binds_low_ports(input: &Input<'_>) -> bool {
    input.setting(a::CAP_NET_BIND_SERVICE, "global.proxy.capNetBindService", "") == "true"
}

fn is_privileged(input: &Input<'_>) -> bool {
    input.config.values.is("global.proxy.privileged")
}

/// `istio-init`, or with CNI the check that the node did its part.
fn redirection(input: &Input<'_>) -> Option<Container> {
    let mode = input.interception();
    if mode == Interception::None {
        return None;
    }
    let cni = uses_cni(input);
    let capabilities = |add: &[&str]| Capabilities {
        add: (!add.is_empty()).then(|| add.iter().map(|it| (*it).to_owned()).collect()),
        drop: Some(vec!["ALL".into()]),
    };
    let user = if cni { PROXY_USER } else { 0 };
    let security = SecurityContext {
        allow_privilege_escalation: Some(is_privileged(input)),
        privileged: Some(is_privileged(input)),
        capabilities: Some(capabilities(if cni { &[] } else { &["NET_ADMIN", "NET_RAW"] })),
        read_only_root_filesystem: Some(cni),
        run_as_user: Some(user),
        run_as_group: Some(user),
        run_as_non_root: Some(cni),
        seccomp_profile: c::seccomp_profile(input),
        ..SecurityContext::default()
    };
    let env = c::metadata_env(input);
    Some(Container {
        name: if cni { super::VALIDATION } else { super::INIT }.into(),
        image: Some(input.init_image()),
        image_pull_policy: input.config.values.filled("global.imagePullPolicy"),
        args: Some(redirection_args(input)),
        env: (!env.is_empty()).then_some(env),
        resources: c::resources(input),
        security_context: Some(security),
        ..Container::default()
    })
}

fn redirection_args(input: &Input<'_>) -> Vec<String> {
    let (values, mesh) = (&input.config.values, &input.config.mesh);
    let excluded = excluded_inbound_ports(input);
    let excluded = if excluded.is_empty() { "15090,15021".to_owned() } else { format!("15090,15021,{excluded}") };
    let mut args: Vec<String> = vec!["istio-iptables".into()];
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    let port = |name: &str, default: &str| mesh.filled(name).filter(|it| it != "0").unwrap_or_else(|| default.into());
    flag("-p", port("proxyListenPort", "15001"));
    flag("-z", port("proxyInboundListenPort", "15006"));
    flag("-u", PROXY_USER.to_string());
    flag("-m", input.interception_mode());
    flag("-i", input.setting(a::INCLUDE_OUTBOUND_IP_RANGES, "global.proxy.includeIPRanges", "*"));
    flag("-x", input.setting(a::EXCLUDE_OUTBOUND_IP_RANGES, "global.proxy.excludeIPRanges", ""));
    flag("-b", input.setting(a::INCLUDE_INBOUND_PORTS, "global.proxy.includeInboundPorts", "*"));
    flag("-d", excluded);
    let optional = [
        ("-q", a::INCLUDE_OUTBOUND_PORTS, "global.proxy.includeOutboundPorts"),
        ("-o", a::EXCLUDE_OUTBOUND_PORTS, "global.proxy.excludeOutboundPorts"),
    ];
    for (name, annotation, path) in optional {
        let value = input.setting(annotation, path, "");
        if input.has(annotation) || !value.is_empty() {
            flag(name, value);
        }
    }
    let interfaces = [a::REROUTE_INTERFACES, a::KUBEVIRT_INTERFACES].iter().find_map(|it| input.annotations.get(*it));
    if let Some(interfaces) = interfaces {
        flag("-k", interfaces.clone());
    }
    if let Some(interfaces) = input.annotations.get(a::EXCLUDE_INTERFACES) {
        flag("-c", interfaces.clone());
    }
    args.push(format!("--log_output_level={}", c::agent_log_level(input)));
    let switches = [
        ("--log_as_json", values.is("global.logAsJson")),
        ("--run-validation", uses_cni(input)),
        ("--skip-rule-apply", uses_cni(input)),
        ("--force-apply", !uses_cni(input) && values.is("global.proxy_init.forceApplyIptables")),
        ("--native-nftables", values.is("global.nativeNftables")),
    ];
    args.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()));
    args
}

/// The status port is never redirected: the kubelet asks it directly.
fn excluded_inbound_ports(input: &Input<'_>) -> String {
    let port = input.setting(a::STATUS_PORT, "global.proxy.statusPort", "15020");
    let excluded = input.setting(a::EXCLUDE_INBOUND_PORTS, "global.proxy.excludeInboundPorts", "");
    function::exclude_inbound_port(&port, &excluded)
}

/// With CNI the node redirects, and reads from annotations what `istio-init` has as arguments.
fn for_cni(input: &Input<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if input.config.values.text("pilot.cni.provider", "default") == "multus" {
        let there = input.annotations.get(a::MULTUS_NETWORKS).map_or("", String::as_str);
        all.insert(a::MULTUS_NETWORKS, function::append_multus_network(there, "default/istio-cni"));
    }
    all.insert(a::INTERCEPTION_MODE, input.interception_mode());
    all.insert(a::EXCLUDE_INBOUND_PORTS, excluded_inbound_ports(input));
    all.insert(
        a::INCLUDE_INBOUND_PORTS,
        input.setting(a::INCLUDE_INBOUND_PORTS, "global.proxy.includeInboundPorts", "*"),
    );
    let optional = [
        (a::INCLUDE_OUTBOUND_IP_RANGES, "global.proxy.includeIPRanges", "*"),
        (a::EXCLUDE_OUTBOUND_IP_RANGES, "global.proxy.excludeIPRanges", ""),
        (a::INCLUDE_OUTBOUND_PORTS, "global.proxy.includeOutboundPorts", ""),
        (a::EXCLUDE_OUTBOUND_PORTS, "global.proxy.excludeOutboundPorts", ""),
    ];
    for (name, path, default) in optional {
        let value = input.setting(name, path, default);
        if !value.is_empty() {
            all.insert(name, value);
        }
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn proxy(input: &Input<'_>) -> Result<Container, Refusal> {
    let values = &input.config.values;
    let mut args = c::args(input, "sidecar");
    if let Some(path) = values.filled("global.proxy.outlierLogPath") {
        args.push(format!("--outlierLogPath={path}"));
    }
    let mut env = vec![];
    let inbound = input.config.mesh.text("inboundTrafficPolicy.mode", "");
    if inbound == "LOCALHOST" {
        env.push(c::value("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true"));
    }
    env.extend(c::env(input));
    c::add_env(&mut env, c::metadata_env(input));
    let probed = input.setting(a::STATUS_PORT, "global.proxy.statusPort", "15020") != "0";
    let started = values.text("global.proxy.startupProbe.enabled", "true") == "true";
    let startup_failures = values.text("global.proxy.startupProbe.failureThreshold", "600").parse().unwrap_or(600);
    let readiness = c::ready(
        input.number(a::READINESS_INITIAL_DELAY, "global.proxy.readinessInitialDelaySeconds", 0),
        input.number(a::READINESS_PERIOD, "global.proxy.readinessPeriodSeconds", 15),
        input.number(a::READINESS_FAILURE_THRESHOLD, "global.proxy.readinessFailureThreshold", 4),
    );
    let mut mounts = c::mounts(input);
    mounts.extend(user_mounts(input)?);
    Ok(Container {
        name: super::PROXY.into(),
        image: Some(input.proxy_image()),
        image_pull_policy: values.filled("global.imagePullPolicy"),
        restart_policy: (input.native == NativeSidecars::Native).then(|| "Always".into()),
        ports: Some(vec![c::prometheus_port()]),
        args: Some(args),
        lifecycle: lifecycle(input),
        env: Some(env),
        startup_probe: (probed && started).then(|| c::ready(0, 1, startup_failures)),
        readiness_probe: probed.then_some(readiness),
        security_context: Some(security(input)),
        resources: c::resources(input),
        volume_mounts: Some(mounts),
        ..Container::default()
    })
}

fn lifecycle(input: &Input<'_>) -> Option<Lifecycle> {
    let exec = |command: &[&str]| LifecycleHandler {
        exec: Some(ExecAction { command: Some(command.iter().map(|it| (*it).to_owned()).collect()) }),
        ..LifecycleHandler::default()
    };
    if let Some(given) = c::lifecycle(input) {
        return Some(given);
    }
    match input.native {
        // The kubelet stops native sidecars last: until then, draining must not end the proxy.
        NativeSidecars::Native => {
            let port = input.setting(a::STATUS_PORT, "global.proxy.statusPort", "15020");
            let port = format!("--debug-port={port}");
            let pre_stop = exec(&["pilot-agent", "request", &port, "POST", "drain"]);
            Some(Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() })
        }
        // The kubelet starts the next container when this has returned.
        NativeSidecars::Container if input.holds_application() => {
            Some(Lifecycle { post_start: Some(exec(&["pilot-agent", "wait"])), ..Lifecycle::default() })
        }
        NativeSidecars::Container => None,
    }
}

fn security(input: &Input<'_>) -> SecurityContext {
    let mut add: Vec<String> = vec![];
    if input.interception() == Interception::Tproxy {
        add.push("NET_ADMIN".into());
    }
    if binds_low_ports(input) {
        add.push("NET_BIND_SERVICE".into());
    }
    let root = needs_root(input);
    let privileged = is_privileged(input);
    SecurityContext {
        allow_privilege_escalation: Some(privileged),
        privileged: Some(privileged),
        capabilities: Some(Capabilities { add: (!add.is_empty()).then_some(add), drop: Some(vec!["ALL".into()]) }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(!root),
        run_as_user: Some(if root { 0 } else { PROXY_USER }),
        run_as_group: Some(PROXY_USER),
        seccomp_profile: c::seccomp_profile(input),
        ..SecurityContext::default()
    }
}

fn user_volumes(input: &Input<'_>) -> Result<Vec<Volume>, Refusal> {
    let Some(text) = input.annotations.get(a::USER_VOLUME) else { return Ok(vec![]) };
    let typed =
        |(name, value): (String, _)| serde_json::from_value(a::with_name(&name, value)).map_err(|e| e.to_string());
    let volumes: Result<Vec<Volume>, String> = a::named(text).and_then(|all| all.into_iter().map(typed).collect());
    let mut volumes = volumes.map_err(|reason| a::refusal(a::USER_VOLUME, reason))?;
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let own = c::volumes(input);
    match volumes.iter().find(|it| own.iter().any(|own| own.name == it.name)) {
        Some(taken) => {
            Err(a::refusal(a::USER_VOLUME, format!("{:?} is the name of a volume of the proxy", taken.name)))
        }
        None => Ok(volumes),
    }
}

fn user_mounts(input: &Input<'_>) -> Result<Vec<VolumeMount>, Refusal> {
    let Some(text) = input.annotations.get(a::USER_VOLUME_MOUNT) else { return Ok(vec![]) };
    let typed =
        |(name, value): (String, _)| serde_json::from_value(a::with_name(&name, value)).map_err(|e| e.to_string());
    let mounts: Result<Vec<VolumeMount>, String> = a::named(text).and_then(|all| all.into_iter().map(typed).collect());
    let mut mounts = mounts.map_err(|reason| a::refusal(a::USER_VOLUME_MOUNT, reason))?;
    mounts.sort_by(|a, b| a.name.cmp(&b.name));
    let own = c::mounts(input);
    match mounts.iter().find(|it| own.iter().any(|own| own.mount_path == it.mount_path)) {
        Some(taken) => {
            let reason = format!("{:?} is where the proxy has its own", taken.mount_path);
            Err(a::refusal(a::USER_VOLUME_MOUNT, reason))
        }
        None => Ok(mounts),
    }
}
