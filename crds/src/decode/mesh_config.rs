//! MeshConfig, field by field: a bad field keeps its last good value and is reported, the others go on; a field that
//! is removed is Istio's default again (`pkg/config/mesh/mesh.go`). Istio itself keeps the whole old MeshConfig when one field is bad, so
//! that a typo silently freezes all others.

use super::typed::{self, Unknown};
use crate::mesh_config::{MeshConfig, ProxyConfig};
use crate::validate::mesh_config as check;
use crate::{Object, ObjectKey, Problem, Reason, Spec, yaml};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The ConfigMap's key that holds MeshConfig.
const MESH: &str = "mesh";

/// MeshConfig of the ConfigMap `istio`: the YAML under its key `mesh`.
pub fn mesh_config_map(object: &Object, last_good: &MeshConfig) -> (MeshConfig, Vec<Problem>) {
    let text = match &object.spec {
        Spec::ConfigMap(map) => map.data.get(MESH),
        _ => None,
    };
    match text {
        Some(text) => mesh_config_text(text, last_good, &object.key),
        None => {
            let reason = Reason::Malformed(format!("key {MESH} is missing, the last good MeshConfig stays in force"));
            (last_good.clone(), vec![Problem::new(&object.key, "data", reason)])
        }
    }
}

/// As [`mesh_config`], from YAML. What is not YAML changes nothing.
pub fn mesh_config_text(text: &str, last_good: &MeshConfig, object: &ObjectKey) -> (MeshConfig, Vec<Problem>) {
    match yaml::value(text) {
        Ok(value) => mesh_config(value, last_good, object),
        Err(error) => (last_good.clone(), vec![Problem::new(object, MESH, Reason::Malformed(error.to_string()))]),
    }
}

/// Decodes MeshConfig. `object` is what problems are reported of.
pub fn mesh_config(value: Value, last_good: &MeshConfig, object: &ObjectKey) -> (MeshConfig, Vec<Problem>) {
    let map = match value {
        Value::Null => Map::new(),
        Value::Object(map) => map,
        _ => {
            let reason = Reason::Malformed("MeshConfig must be a mapping; the last good one stays in force".into());
            return (last_good.clone(), vec![Problem::new(object, MESH, reason)]);
        }
    };
    let mut problems = Vec::new();
    let mut config = MeshConfig::default();
    let mut fields = Fields { map, path: "", object, problems: &mut problems };
    macro_rules! fields {
        ($($name:literal $field:ident $check:expr;)*) => {
            $(fields.read($name, &mut config.$field, &last_good.$field, $check);)*
        };
    }
    fields! {
        "rootNamespace" root_namespace check::namespace;
        "trustDomain" trust_domain check::trust_domain;
        "trustDomainAliases" trust_domain_aliases check::trust_domains;
        "proxyListenPort" proxy_listen_port check::port;
        "proxyInboundListenPort" proxy_inbound_listen_port check::port;
        "proxyHttpPort" proxy_http_port check::any;
        "connectTimeout" connect_timeout check::connect_timeout;
        "protocolDetectionTimeout" protocol_detection_timeout check::whole_millis;
        "dnsRefreshRate" dns_refresh_rate check::duration;
        "tcpKeepalive" tcp_keepalive check::any;
        "h2UpgradePolicy" h2_upgrade_policy check::any;
        "outboundTrafficPolicy" outbound_traffic_policy check::any;
        "inboundTrafficPolicy" inbound_traffic_policy check::any;
        "defaultServiceExportTo" default_service_export_to check::export_to;
        "defaultVirtualServiceExportTo" default_virtual_service_export_to check::export_to;
        "defaultDestinationRuleExportTo" default_destination_rule_export_to check::export_to;
        "localityLbSetting" locality_lb_setting check::locality_lb_setting;
        "defaultHttpRetryPolicy" default_http_retry_policy check::http_retry;
        "defaultTrafficPolicy" default_traffic_policy check::default_traffic_policy;
        "pathNormalization" path_normalization check::any;
        "accessLogFile" access_log_file check::any;
        "accessLogFormat" access_log_format check::any;
        "accessLogEncoding" access_log_encoding check::any;
        "disableEnvoyListenerLog" disable_envoy_listener_log check::any;
        "enableAutoMtls" enable_auto_mtls check::any;
        "meshMTLS" mesh_mtls check::any;
        "discoverySelectors" discovery_selectors check::any;
        "outboundClusterStatName" outbound_cluster_stat_name check::any;
        "inboundClusterStatName" inbound_cluster_stat_name check::any;
        "serviceSettings" service_settings check::service_settings;
        "ingressService" ingress_service check::any;
        "ingressSelector" ingress_selector check::any;
        "caCertificates" ca_certificates check::ca_certificates;
    }
    let default_config = fields.map.remove("defaultConfig");
    fields.rest();
    config.default_config = proxy_config(default_config, &last_good.default_config, object, &mut problems);
    (config, problems)
}

fn proxy_config(
    value: Option<Value>,
    last_good: &ProxyConfig,
    object: &ObjectKey,
    problems: &mut Vec<Problem>,
) -> ProxyConfig {
    const PATH: &str = "defaultConfig";
    let map = match value {
        None | Some(Value::Null) => return ProxyConfig::default(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            problems.push(Problem::new(object, PATH, Reason::Malformed("must be a mapping".into())));
            return last_good.clone();
        }
    };
    let mut config = ProxyConfig::default();
    let mut fields = Fields { map, path: PATH, object, problems };
    fields.read("interceptionMode", &mut config.interception_mode, &last_good.interception_mode, check::any);
    fields.read("proxyMetadata", &mut config.proxy_metadata, &last_good.proxy_metadata, check::any);
    fields.read("concurrency", &mut config.concurrency, &last_good.concurrency, check::any);
    fields.read("statNameLength", &mut config.stat_name_length, &last_good.stat_name_length, check::any);
    fields.read("drainDuration", &mut config.drain_duration, &last_good.drain_duration, check::whole_seconds);
    fields.read("discoveryAddress", &mut config.discovery_address, &last_good.discovery_address, check::any);
    fields.read("gatewayTopology", &mut config.gateway_topology, &last_good.gateway_topology, check::any);
    fields.rest();
    config
}

/// The fields of one message that are not read yet.
struct Fields<'a> {
    map: Map<String, Value>,
    path: &'a str,
    object: &'a ObjectKey,
    problems: &'a mut Vec<Problem>,
}

impl Fields<'_> {
    /// Reads a field if it is set. When it does not decode, or `check` refuses it, it takes the last good value.
    fn read<T>(&mut self, name: &str, field: &mut T, last_good: &T, check: fn(&T) -> Result<(), String>)
    where
        T: DeserializeOwned + Clone,
    {
        let Some(value) = self.map.remove(name).filter(|value| !value.is_null()) else { return };
        let path = typed::join(self.path, name);
        let read = typed::read::<T>(value, &path, Unknown::Report, self.object);
        self.problems.extend(read.problems.into_iter().filter_map(known));
        let Some(value) = read.value else {
            *field = last_good.clone();
            return;
        };
        match check(&value) {
            Ok(()) => *field = value,
            Err(why) => {
                *field = last_good.clone();
                self.problems.push(Problem::new(self.object, path, Reason::Invalid(why)));
            }
        }
    }

    /// Reports what no [`Self::read`] asked for.
    fn rest(self) {
        let set = self.map.iter().filter(|(_, value)| !value.is_null());
        let paths = set.map(|(name, _)| typed::join(self.path, name));
        self.problems.extend(paths.filter_map(|path| known(Problem::new(self.object, path, Reason::UnknownField))));
    }
}

/// Tells fields that Istio knows from those that nobody knows. Harmless ones are no problem at all.
fn known(problem: Problem) -> Option<Problem> {
    let of = |(parent, names): &(&str, &[&str])| names.iter().any(|name| problem.field == typed::join(parent, name));
    match problem.reason {
        Reason::UnknownField if HARMLESS.iter().any(|(path, _)| problem.field == *path) => None,
        Reason::UnknownField if NOT_TRANSLATED.iter().any(of) => {
            Some(Problem { reason: Reason::NotTranslated, ..problem })
        }
        _ => Some(problem),
    }
}

/// Fields whose absence from the translation no user can notice, and why.
const HARMLESS: &[(&str, &str)] = &[
    ("certificates", "deprecated, no effect in Istio either"),
    ("verifyCertificateAtClient", "deprecated, no effect in Istio either"),
    ("configSources", "says where istiod reads from; navarch's sources are given on its command line"),
    ("enablePrometheusMerge", "steers the agent beside the application, not Envoy"),
    ("ingressClass", "Ingress objects are passed over, and counted as such"),
    ("ingressControllerMode", "Ingress objects are passed over, and counted as such"),
    ("defaultConfig.availabilityZone", "deprecated, no effect in Istio either"),
    ("defaultConfig.binaryPath", "where pilot-agent finds Envoy; navarch finds its own"),
    ("defaultConfig.configPath", "where pilot-agent writes the bootstrap"),
    ("defaultConfig.controlPlaneAuthPolicy", "deprecated, no effect in Istio either"),
    ("defaultConfig.discoveryRefreshDelay", "deprecated, no effect in Istio either"),
    ("defaultConfig.envoyMetricsServiceAddress", "deprecated, no effect in Istio either"),
    ("defaultConfig.holdApplicationUntilProxyStarts", "read by the injector"),
    ("defaultConfig.image", "read by the injector"),
    ("defaultConfig.readinessProbe", "read by the agent of virtual machines"),
    ("defaultConfig.sds", "deprecated, no effect in Istio either"),
];

/// Fields that Istio reads and this version does not: message, names. Translating one means deleting it here.
const NOT_TRANSLATED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "hboneIdleTimeout",
            "enableTracing",
            "enableEnvoyAccessLogService",
            "caCertificates",
            "zoneAwareLbSetting",
            "serviceScopeConfigs",
            "ca",
            "extensionProviders",
            "defaultProviders",
            "defaultInboundHttpRetryPolicy",
            "tlsDefaults",
            "serviceEntryVisibility",
        ],
    ),
    ("meshMTLS", &["cipherSuites", "ecdhCurves"]),
    ("outboundTrafficPolicy", &["tls"]),
    (
        "defaultConfig",
        &[
            "serviceCluster",
            "tracingServiceName",
            "zipkinAddress",
            "statsdUdpAddress",
            "proxyAdminPort",
            "customConfigFile",
            "proxyBootstrapTemplatePath",
            "tracing",
            "envoyAccessLogService",
            "envoyMetricsService",
            "runtimeValues",
            "statusPort",
            "extraStatTags",
            "terminationDrainDuration",
            "meshId",
            "proxyStatsMatcher",
            "caCertificatesPem",
            "privateKeyProvider",
            "proxyHeaders",
            "fileFlushInterval",
            "fileFlushMinSizeKb",
            "statsCompression",
            "connectionSettings",
        ],
    ),
    ("defaultConfig.gatewayTopology", &["forwardClientCertDetails", "proxyProtocol"]),
];
