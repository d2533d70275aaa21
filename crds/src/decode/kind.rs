//! Which kinds exist, and what navarch does with each: reads it, warns that it is not translated, passes over it, or
//! says that there is no such kind. Group decides, version only has to be served.

use crate::object::Kind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Read(Kind),
    /// Istio or the Gateway API define it, and it would change traffic or policy. Never passed over in silence.
    NotTranslated(Kind),
    /// Says nothing of traffic to navarch.
    Skipped,
    /// No such kind: the text says what was found, and what was probably meant.
    Unknown(String),
}

/// The kinds that are read: group, versions that are served, kind.
const READ: &[(&str, &[&str], Kind)] = &[
    ("", &["v1"], Kind::ConfigMap),
    ("", &["v1"], Kind::Namespace),
    ("", &["v1"], Kind::Node),
    ("", &["v1"], Kind::Pod),
    ("", &["v1"], Kind::Service),
    ("apps", &["v1"], Kind::Deployment),
    ("discovery.k8s.io", &["v1"], Kind::EndpointSlice),
    (EXTENSIONS, &["v1alpha1"], Kind::TrafficExtension),
    (EXTENSIONS, &["v1alpha1"], Kind::WasmPlugin),
    (NETWORKING, ISTIO_VERSIONS, Kind::DestinationRule),
    (NETWORKING, &["v1alpha3"], Kind::EnvoyFilter),
    (NETWORKING, ISTIO_VERSIONS, Kind::Gateway),
    (NETWORKING, &["v1beta1"], Kind::ProxyConfig),
    (NETWORKING, ISTIO_VERSIONS, Kind::ServiceEntry),
    (NETWORKING, ISTIO_VERSIONS, Kind::Sidecar),
    (NETWORKING, ISTIO_VERSIONS, Kind::VirtualService),
    (NETWORKING, ISTIO_VERSIONS, Kind::WorkloadEntry),
    (NETWORKING, ISTIO_VERSIONS, Kind::WorkloadGroup),
    (SECURITY, &["v1", "v1beta1"], Kind::PeerAuthentication),
];

const EXTENSIONS: &str = "extensions.istio.io";
const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// Kinds of Istio and the Gateway API that later versions translate. Translating one means deleting its line.
const NOT_TRANSLATED: &[(&str, &str)] = &[
    (SECURITY, "AuthorizationPolicy"),
    (SECURITY, "RequestAuthentication"),
    ("telemetry.istio.io", "Telemetry"),
    ("install.istio.io", "IstioOperator"),
    ("gateway.networking.k8s.io", "BackendTLSPolicy"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("gateway.networking.k8s.io", "GRPCRoute"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("gateway.networking.k8s.io", "ListenerSet"),
    ("gateway.networking.k8s.io", "ReferenceGrant"),
    ("gateway.networking.k8s.io", "TCPRoute"),
    ("gateway.networking.k8s.io", "TLSRoute"),
    ("gateway.networking.k8s.io", "UDPRoute"),
    ("gateway.networking.x-k8s.io", "XBackend"),
    ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy"),
    ("gateway.networking.x-k8s.io", "XListenerSet"),
    ("inference.networking.k8s.io", "InferencePool"),
    ("multicluster.x-k8s.io", "ServiceExport"),
    ("multicluster.x-k8s.io", "ServiceImport"),
];

/// The other kinds of the groups whose kinds are read, so that `Servce` is a mistake and `Secret` is not. Ingress is
/// here too: a Kubernetes kind, passed over.
const SKIPPED: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Binding",
            "ComponentStatus",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "ServiceAccount",
        ],
    ),
    ("apps", &["ControllerRevision", "DaemonSet", "ReplicaSet", "StatefulSet"]),
];

pub(super) fn is_istio(kind: Kind) -> bool {
    READ.iter().any(|(group, _, read)| [EXTENSIONS, NETWORKING, SECURITY].contains(group) && *read == kind)
}

pub(super) fn find(api_version: &str, name: &str) -> Known {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if let Some((_, versions, kind)) = READ.iter().find(|(g, _, kind)| *g == group && kind.name() == name) {
        return match versions.contains(&version) {
            true => Known::Read(*kind),
            false => Known::Unknown(format!("{api_version} {name} (served versions: {})", versions.join(", "))),
        };
    }
    if let Some((_, kind)) = NOT_TRANSLATED.iter().find(|(g, kind)| *g == group && *kind == name) {
        return Known::NotTranslated(Kind::Unread(kind));
    }
    let is_known_group = READ.iter().any(|(g, ..)| *g == group) || NOT_TRANSLATED.iter().any(|(g, _)| *g == group);
    let is_skipped = SKIPPED.iter().any(|(g, kinds)| *g == group && kinds.contains(&name));
    let is_istio = group == "istio.io" || group.ends_with(".istio.io");
    if is_skipped || (!is_known_group && !is_istio) {
        return Known::Skipped;
    }
    Known::Unknown(format!("{api_version} {name}{}", suggestion(name)))
}

/// The kind of that name in another group, or the nearest name.
fn suggestion(name: &str) -> String {
    let read = READ.iter().map(|(group, versions, kind)| (*group, versions[0], kind.name()));
    let others = NOT_TRANSLATED.iter().map(|(group, kind)| (*group, "v1", *kind));
    let nearest = read.chain(others).map(|(group, version, kind)| (distance(name, kind), group, version, kind)).min();
    match nearest {
        Some((0..=2, "", version, kind)) => format!(", did you mean {version} {kind}?"),
        Some((0..=2, group, version, kind)) => format!(", did you mean {group}/{version} {kind}?"),
        _ => String::new(),
    }
}

/// Levenshtein's edit distance, letter case ignored.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}
