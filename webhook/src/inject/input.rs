//! One pod on its way to being injected: what the templates read, with every default settled in one place.

use super::annotation as a;
use super::config::{Config, NativeSidecars, Tree};
use super::{Refusal, Request, Workload, proxy_config, strategic};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) struct Input<'a> {
    pub(super) config: &'a Config,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// The pod without what an earlier injection added.
    pub(super) spec: PodSpec,
    pub(super) workload: Workload,
    /// The mesh's `defaultConfig`, under the ProxyConfigs that apply, under the pod's own.
    pub(super) proxy: Tree,
    pub(super) native: NativeSidecars,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interception {
    Redirect,
    Tproxy,
    None,
}

pub(super) fn map(pod: &Value, pointer: &str) -> BTreeMap<String, String> {
    let fields = pod.pointer(pointer).and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    fields.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

impl<'a> Input<'a> {
    /// `pod` is stripped of earlier injections, and its annotations are valid.
    pub(super) fn new(pod: &Value, request: &Request, config: &'a Config) -> Result<Self, Refusal> {
        let spec = pod.get("spec").cloned().unwrap_or_default();
        let spec = serde_json::from_value(spec).map_err(|error| Refusal::Pod(format!("spec: {error}")))?;
        let (labels, annotations) = (map(pod, "/metadata/labels"), map(pod, "/metadata/annotations"));
        let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).filter(|it| !it.is_empty());
        let namespace = namespace.unwrap_or(&request.namespace).to_owned();
        let mut proxy = config.mesh.get("defaultConfig").cloned().unwrap_or_else(|| Value::Object(Default::default()));
        let root = config.mesh.filled("rootNamespace").unwrap_or_else(|| "istio-system".into());
        for over in config.proxy_configs.of(&root, &namespace, &labels) {
            strategic::merge(&mut proxy, &proxy_config::fields(over));
        }
        if let Some(own) = annotations.get(a::PROXY_CONFIG) {
            let own = crds::yaml::value(own).map_err(|error| a::refusal(a::PROXY_CONFIG, error.to_string()))?;
            if own.is_object() {
                strategic::merge(&mut proxy, &own);
            }
        }
        if let Some(address) = annotations.get(a::DISCOVERY_ADDRESS) {
            proxy["discoveryAddress"] = address.as_str().into();
        }
        let native = match annotations.get(a::NATIVE_SIDECAR).map(String::as_str) {
            Some("false") => NativeSidecars::Container,
            Some(_) => NativeSidecars::Native,
            None => config.options.native_sidecars,
        };
        Ok(Self {
            config,
            namespace,
            name: pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            labels,
            annotations,
            spec,
            workload: request.workload.clone().unwrap_or_else(|| super::workload::of_pod(pod)),
            proxy: Tree(proxy),
            native,
        })
    }

    /// The annotation, or a scalar of the values, or the default.
    pub(super) fn setting(&self, annotation: &str, path: &str, default: &str) -> String {
        match self.annotations.get(annotation) {
            Some(value) => value.clone(),
            None => self.config.values.text(path, default),
        }
    }

    pub(super) fn number(&self, annotation: &str, path: &str, default: i32) -> i32 {
        self.setting(annotation, path, "").parse().unwrap_or(default)
    }

    pub(super) fn has(&self, annotation: &str) -> bool {
        self.annotations.contains_key(annotation)
    }

    /// Containers of the application: all but the proxy.
    pub(super) fn applications(&self) -> impl Iterator<Item = &Container> {
        self.spec.containers.iter().filter(|it| it.name != super::PROXY)
    }

    pub(super) fn interception_mode(&self) -> String {
        self.annotations
            .get(a::INTERCEPTION_MODE)
            .cloned()
            .or_else(|| self.proxy.filled("interceptionMode"))
            .unwrap_or_else(|| "REDIRECT".into())
    }

    pub(super) fn interception(&self) -> Interception {
        match self.interception_mode().as_str() {
            "TPROXY" => Interception::Tproxy,
            "NONE" => Interception::None,
            _ => Interception::Redirect,
        }
    }

    /// Of the mesh, and not of the pod's own configuration: metrics and probes are redirected to it (as istiod does).
    pub(super) fn mesh_status_port(&self) -> i32 {
        self.config.mesh.scalar("defaultConfig.statusPort").and_then(|it| it.parse().ok()).unwrap_or(15020)
    }

    /// Where probes are sent: the pod may have its own.
    pub(super) fn status_port(&self) -> i32 {
        let own = self.annotations.get(a::STATUS_PORT).and_then(|it| it.trim().parse().ok());
        own.unwrap_or_else(|| self.mesh_status_port())
    }

    pub(super) fn holds_application(&self) -> bool {
        self.proxy.is("holdApplicationUntilProxyStarts")
            || self.config.values.is("global.proxy.holdApplicationUntilProxyStarts")
    }

    pub(super) fn trust_domain(&self) -> String {
        let mesh = self.config.mesh.filled("trustDomain");
        mesh.or_else(|| self.config.values.filled("global.trustDomain")).unwrap_or_else(|| "cluster.local".into())
    }

    pub(super) fn proxy_image(&self) -> String {
        let asked = self.setting(a::PROXY_IMAGE, "global.proxy.image", "");
        if asked.contains('/') {
            return asked;
        }
        let image_type = self.proxy.filled("image.imageType");
        self.image(&self.config.values.filled("global.proxy.image").unwrap_or_else(|| "proxyv2".into()), image_type)
    }

    pub(super) fn init_image(&self) -> String {
        let asked = self.setting(a::PROXY_IMAGE, "global.proxy_init.image", "");
        if asked.contains('/') {
            return asked;
        }
        self.image(&self.config.values.filled("global.proxy_init.image").unwrap_or_else(|| "proxyv2".into()), None)
    }

    /// `HUB/NAME:TAG[-TYPE]`; a type that the tag already has is replaced.
    fn image(&self, name: &str, image_type: Option<String>) -> String {
        let values = &self.config.values;
        let hub = values.filled("global.hub").unwrap_or_else(|| "navarch".into());
        let tag = values.filled("global.tag").unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
        let image_type = self.annotations.get(a::PROXY_IMAGE_TYPE).cloned().or(image_type);
        let image_type = image_type.or_else(|| values.filled("global.variant")).unwrap_or_default();
        let bare = || tag.strip_suffix("-distroless").or_else(|| tag.strip_suffix("-debug")).unwrap_or(&tag);
        match image_type.as_str() {
            "" => format!("{hub}/{name}:{tag}"),
            "default" => format!("{hub}/{name}:{}", bare()),
            image_type => format!("{hub}/{name}:{}-{image_type}", bare()),
        }
    }
}
