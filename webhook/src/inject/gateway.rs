//! The built-in template `gateway`: a pod that is nothing but a proxy. The user's Deployment has a container
//! `istio-proxy` with image `auto`; what it says of itself wins.

use super::annotation as a;
use super::container::{self as c, PROXY_USER};
use super::input::Input;
use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSecurityContext, PodSpec, SecurityContext, Sysctl};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) fn gateway(input: &Input<'_>) -> Pod {
    let (labels, annotations) = c::identity(input);
    let values = &input.config.values;
    let mut env = c::env(input);
    c::add_env(&mut env, c::metadata_env(input));
    let number = |path: &str, default: i32| values.scalar(path).and_then(|it| it.parse().ok()).unwrap_or(default);
    let readiness = c::ready(
        number("global.proxy.readinessInitialDelaySeconds", 0),
        number("global.proxy.readinessPeriodSeconds", 15),
        number("global.proxy.readinessFailureThreshold", 4),
    );
    let proxy = Container {
        name: super::PROXY.into(),
        image: Some(input.proxy_image()),
        image_pull_policy: values.filled("global.imagePullPolicy"),
        ports: Some(vec![c::prometheus_port()]),
        args: Some(c::args(input, "router")),
        lifecycle: c::lifecycle(input),
        env: Some(env),
        readiness_probe: Some(readiness),
        security_context: Some(security(input)),
        resources: own_resources(input),
        volume_mounts: Some(c::mounts(input)),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![proxy],
        security_context: Some(pod_security(input)),
        volumes: Some(c::volumes(input)),
        image_pull_secrets: c::image_pull_secrets(input),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() };
    Pod { metadata, spec: Some(spec), status: None }
}

/// Istio sets user and group alone; the rest is what the `restricted` Pod Security level asks for (S46).
fn security(input: &Input<'_>) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(PROXY_USER),
        run_as_group: Some(PROXY_USER),
        seccomp_profile: c::seccomp_profile(input),
        ..SecurityContext::default()
    }
}

/// Of the values, or what lets any user open ports 80 and 443.
fn pod_security(input: &Input<'_>) -> PodSecurityContext {
    let given = input
        .config
        .values
        .get("gateways.securityContext")
        .filter(|it| it.as_object().is_some_and(|it| !it.is_empty()));
    let given = given.and_then(|it| serde_json::from_value(it.clone()).ok());
    given.unwrap_or_else(|| {
        let sysctl = Sysctl { name: "net.ipv4.ip_unprivileged_port_start".into(), value: "0".into() };
        PodSecurityContext { sysctls: Some(vec![sysctl]), ..PodSecurityContext::default() }
    })
}

/// A gateway's Deployment has its own; only what annotations ask for comes from here.
fn own_resources(input: &Input<'_>) -> Option<k8s_openapi::api::core::v1::ResourceRequirements> {
    let asked =
        [a::PROXY_CPU, a::PROXY_CPU_LIMIT, a::PROXY_MEMORY, a::PROXY_MEMORY_LIMIT].iter().any(|it| input.has(it));
    asked.then(|| c::resources(input)).flatten()
}
