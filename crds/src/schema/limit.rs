//! What the API server refuses at once, beside unknown types and enum values: limits, required fields and CEL rules,
//! as Istio's definitions have them. Texts of rules are what users read when an object is refused.

use serde_json::{Value, json};

/// By the name of a message, wherever it stands.
pub(super) fn of_messages() -> Vec<(&'static str, Value)> {
    let mut limits = traffic_policy();
    limits.extend(virtual_service());
    limits.extend(workload());
    limits.extend(server());
    limits.extend(attachment());
    limits
}

/// By place, where a message has limits that it does not have elsewhere.
pub(super) fn of_places() -> Vec<(&'static str, Value)> {
    vec![
        // A waypoint's routes are matched by name alone.
        ("EnvoyFilter.configPatches[].match.waypoint.route", json!({"properties": {"action": null}})),
        ("Gateway.servers[].port", json!({"required": ["number", "protocol", "name"]})),
        (
            "ServiceEntry.ports[]",
            json!({
                "required": ["number", "name"],
                "properties": {
                    "name": {"maxLength": 256},
                    "number": port(),
                    "protocol": {"maxLength": 256},
                    "targetPort": port(),
                },
            }),
        ),
        ("ServiceEntry.endpoints[]", rules(&[ADDRESS_IS_REQUIRED, NO_PORTS_OF_UDS])),
        ("WorkloadEntry", rules(&[ADDRESS_IS_REQUIRED, NO_PORTS_OF_UDS])),
        ("WorkloadGroup.template", rules(&[NO_PORTS_OF_UDS])),
    ]
}

fn traffic_policy() -> Vec<(&'static str, Value)> {
    let nullable = json!({"nullable": true});
    let percent = json!({"minimum": 0, "maximum": 100, "nullable": true});
    let any_duration = json!({"x-kubernetes-validations": null});
    vec![
        ("DestinationRule", json!({"required": ["host"]})),
        ("Subset", json!({"required": ["name"]})),
        ("TrafficPolicy", json!({"properties": {"portLevelSettings": {"maxItems": 4096}}})),
        ("TcpSettings", json!({"properties": {"idleTimeout": any_duration}})),
        ("LoadBalancer", one_of(&["simple", "consistentHash", "backendUtilization"])),
        (
            "BackendUtilization",
            json!({"properties": {
                "weightExpirationPeriod": any_duration,
                "weightStabilizationPeriod": any_duration,
                "weightUpdatePeriod": any_duration,
            }}),
        ),
        (
            "ConsistentHash",
            json!({"allOf": [
                one_of(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"]),
                one_of(&["ringHash", "maglev"]),
            ]}),
        ),
        ("HttpCookie", json!({"required": ["name"], "properties": {"ttl": any_duration}})),
        ("CookieAttribute", json!({"required": ["name"]})),
        ("LocalityLbSetting", json!({"properties": {"enabled": nullable}})),
        (
            "ZoneAwareLbSetting",
            json!({"properties": {
                "enabled": nullable,
                "minClusterSize": {"minimum": 1, "maximum": u32::MAX, "nullable": true},
            }}),
        ),
        (
            "Warmup",
            json!({
                "required": ["duration"],
                "properties": {"aggression": {"minimum": 0, "nullable": true}, "minimumPercent": percent},
            }),
        ),
        (
            "OutlierDetection",
            json!({"properties": {
                "consecutive5xxErrors": nullable,
                "consecutiveGatewayErrors": nullable,
                "consecutiveLocalOriginFailures": nullable,
                "outlierDetectionHttpErrorCodes": {"items": {"minimum": 100, "maximum": 599}},
            }}),
        ),
        ("ClientTls", json!({"properties": {"insecureSkipVerify": nullable}})),
        ("Tunnel", json!({"required": ["targetHost", "targetPort"]})),
        ("ProxyProtocol", json!({"properties": {"version": {"enum": ["V1", "V2"]}}})),
        ("RetryBudget", json!({"properties": {"percent": percent, "budgetInterval": any_duration}})),
    ]
}

fn virtual_service() -> Vec<(&'static str, Value)> {
    let nullable = json!({"nullable": true});
    // Protobuf's own name of the field is a field of the schema, too.
    let mirror_percent = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX, "nullable": true});
    vec![
        ("Destination", json!({"required": ["host"]})),
        ("HttpRouteDestination", json!({"required": ["destination"]})),
        ("RouteDestination", json!({"required": ["destination"]})),
        ("HttpMirrorPolicy", json!({"required": ["destination"]})),
        ("HttpRoute", json!({"properties": {"mirrorPercent": nullable, "mirror_percent": mirror_percent}})),
        ("TlsRoute", json!({"required": ["match"]})),
        ("TlsMatchAttributes", json!({"required": ["sniHosts"]})),
        ("StringMatch", one_of(&["exact", "prefix", "regex"])),
        ("HttpRedirect", one_of(&["port", "derivePort"])),
        ("HttpDirectResponse", json!({"required": ["status"]})),
        ("HttpBody", with(one_of(&["string", "bytes"]), json!({"properties": {"bytes": {"format": "byte"}}}))),
        ("FaultDelay", one_of(&["fixedDelay", "exponentialDelay"])),
        ("FaultAbort", one_of(&["httpStatus", "grpcStatus", "http2Error"])),
        ("CorsPolicy", json!({"properties": {"allowCredentials": nullable}})),
        ("HttpRetry", json!({"properties": {"retryIgnorePreviousHosts": nullable, "retryRemoteLocalities": nullable}})),
    ]
}

/// ServiceEntry, WorkloadEntry and WorkloadGroup.
fn workload() -> Vec<(&'static str, Value)> {
    let no_less_than_0 = json!({"minimum": 0});
    vec![
        (
            "ProxyConfig",
            json!({"properties": {
                "concurrency": {"minimum": 0, "nullable": true},
                "environmentVariables": {"additionalProperties": {"maxLength": 2048}},
            }}),
        ),
        (
            "ServiceEntry",
            with(
                json!({
                    "required": ["hosts"],
                    "properties": {
                        "addresses": {"maxItems": 256, "items": {"maxLength": 64}},
                        "endpoints": {"maxItems": 4096},
                        "hosts": with(
                            json!({"minItems": 1, "maxItems": 256}),
                            json!({"items": rules(&[("hostname cannot be wildcard", r#"self != "*""#)])}),
                        ),
                        "ports": with(
                            json!({"maxItems": 256, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
                            rules(&[(
                                "port number cannot be duplicated",
                                "self.all(l1, self.exists_one(l2, l1.number == l2.number))",
                            )]),
                        ),
                    },
                }),
                rules(&SERVICE_ENTRY),
            ),
        ),
        ("WorkloadEntry", workload_entry()),
        ("WorkloadGroup", json!({"required": ["template"]})),
        (
            "WorkloadGroupMetadata",
            json!({"properties": {"annotations": {"maxProperties": 256}, "labels": {"maxProperties": 256}}}),
        ),
        (
            "ReadinessProbe",
            with(
                one_of(&["httpGet", "tcpSocket", "exec", "grpc"]),
                json!({"properties": {
                    "failureThreshold": no_less_than_0,
                    "initialDelaySeconds": no_less_than_0,
                    "periodSeconds": no_less_than_0,
                    "successThreshold": no_less_than_0,
                    "timeoutSeconds": no_less_than_0,
                }}),
            ),
        ),
        (
            "HttpHealthCheck",
            json!({
                "required": ["port"],
                "properties": {
                    "port": port(),
                    "scheme": rules(&[("scheme must be one of [HTTP, HTTPS]", r#"self in ["", "HTTP", "HTTPS"]"#)]),
                },
            }),
        ),
        ("HttpHeader", json!({"properties": {"name": {"pattern": "^[-_A-Za-z0-9]+$"}}})),
        ("TcpHealthCheck", json!({"required": ["port"], "properties": {"port": port()}})),
        ("ExecHealthCheck", json!({"required": ["command"], "properties": {"command": {"items": {"minLength": 1}}}})),
        ("GrpcHealthCheck", json!({"properties": {"port": port()}})),
    ]
}

fn workload_entry() -> Value {
    let address = [
        (
            "UDS must be an absolute path or abstract socket",
            r#"self.startsWith("unix://") ? (self.substring(7, 8) == "/" || self.substring(7, 8) == "@") : true"#,
        ),
        ("UDS may not be a dir", r#"self.startsWith("unix://") ? !self.endsWith("/") : true"#),
    ];
    let port_name = (
        "port name must be valid",
        r#"self.all(key, size(key) < 63 && key.matches("^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$"))"#,
    );
    json!({"properties": {
        "address": with(json!({"maxLength": 256}), rules(&address)),
        "labels": {"maxProperties": 256},
        "locality": {"maxLength": 2048},
        "network": {"maxLength": 2048},
        "ports": with(json!({"maxProperties": 128, "additionalProperties": port()}), rules(&[port_name])),
        "serviceAccount": {"maxLength": 253},
    }})
}

/// Servers of Gateways and listeners of Sidecars.
fn server() -> Vec<(&'static str, Value)> {
    let certificates = json!({"minItems": 1, "maxItems": 2});
    vec![
        ("Server", json!({"required": ["port", "hosts"]})),
        (
            "ServerTls",
            with(
                json!({"properties": {
                    "credentialNames": certificates,
                    "insecureSkipVerify": {"nullable": true},
                    "tlsCertificates": certificates,
                }}),
                rules(&SERVER_TLS),
            ),
        ),
        ("IngressListener", json!({"required": ["port"]})),
        ("EgressListener", json!({"required": ["hosts"]})),
        // The third value is MeshConfig's.
        ("OutboundTrafficPolicy", json!({"properties": {"mode": {"enum": ["REGISTRY_ONLY", "ALLOW_ANY"]}}})),
    ]
}

/// What an object applies to, and the kinds that are all of that: EnvoyFilter and those of security.
fn attachment() -> Vec<(&'static str, Value)> {
    let in_key = [
        ("wildcard not allowed in label key match", r#"self.all(key, !key.contains("*"))"#),
        ("key must not be empty", "self.all(key, key.size() != 0)"),
    ];
    let in_value = ("wildcard not allowed in label value match", r#"!self.contains("*")"#);
    let labels = ("wildcard is not supported in selector", r#"!self.contains("*")"#);
    let value = |rule| with(json!({"maxLength": 63}), rules(&[rule]));
    let of_mesh = ("cross namespace referencing is not currently supported", "self.size() == 0");
    vec![
        (
            "MatchLabels",
            json!({"properties": {"matchLabels": with(
                json!({"maxProperties": 4096, "additionalProperties": value(in_value)}),
                rules(&in_key),
            )}}),
        ),
        (
            "WorkloadSelector",
            json!({"properties": {"labels": {"maxProperties": 256, "additionalProperties": value(labels)}}}),
        ),
        (
            "TargetReference",
            json!({
                "required": ["kind", "name"],
                "properties": {
                    "group": {"maxLength": 253, "pattern": GROUP},
                    "kind": {"minLength": 1, "maxLength": 63, "pattern": "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"},
                    "name": {"minLength": 1, "maxLength": 253},
                    "namespace": rules(&[of_mesh]),
                },
            }),
        ),
        (
            "EnvoyFilter",
            with(
                json!({"properties": {"targetRefs": {"maxItems": 16}}}),
                rules(&[(
                    "only one of targetRefs or workloadSelector can be set",
                    "(has(self.workloadSelector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
                )]),
            ),
        ),
        (
            "ObjectMatch",
            with(
                one_of(&["listener", "routeConfiguration", "cluster", "waypoint"]),
                rules(&[("only support waypointMatch when context is WAYPOINT", WAYPOINT_MATCH)]),
            ),
        ),
        ("WaypointMatch", json!({"properties": {"portNumber": port()}})),
        (
            "PeerAuthentication",
            with(
                json!({"properties": {"portLevelMtls": with(
                    json!({"minProperties": 1}),
                    rules(&[("port must be between 1-65535", "self.all(key, 0 < int(key) && int(key) <= 65535)")]),
                )}}),
                rules(&[("portLevelMtls requires selector", PORT_LEVEL_MTLS)]),
            ),
        ),
    ]
}

/// What users read, and the rule in CEL.
type Rule = (&'static str, &'static str);

fn rules(rules: &[Rule]) -> Value {
    let rules = rules.iter().map(|(message, rule)| json!({"message": message, "rule": rule}));
    json!({"x-kubernetes-validations": rules.collect::<Vec<_>>()})
}

/// At most one of the fields.
fn one_of(fields: &[&str]) -> Value {
    let mut each: Vec<_> = fields.iter().map(|field| json!({"required": [field]})).collect();
    each.insert(0, json!({"not": {"anyOf": each}}));
    json!({"oneOf": each})
}

fn port() -> Value {
    rules(&[("port must be between 1-65535", "0 < self && self <= 65535")])
}

fn with(mut limits: Value, more: Value) -> Value {
    super::merge(&mut limits, more);
    limits
}

const GROUP: &str = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const ADDRESS_IS_REQUIRED: Rule = ("Address is required", "has(self.address) || has(self.network)");
const NO_PORTS_OF_UDS: Rule = (
    "UDS may not include ports",
    r#"(has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true"#,
);
const WAYPOINT_MATCH: &str = r#"has(self.context) ? ((self.context == "WAYPOINT") ? has(self.waypoint) : !has(self.waypoint)) : !has(self.waypoint)"#;
const PORT_LEVEL_MTLS: &str = "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true";
const SERVICE_ENTRY: [Rule; 4] = [
    (
        "only one of WorkloadSelector or Endpoints can be set",
        "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1",
    ),
    (
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
        r#"!((has(self.addresses) ? self.addresses : []).exists(k, k.contains("/")) && !((has(self.resolution) ? self.resolution : "NONE") in ["STATIC", "NONE"]))"#,
    ),
    (
        "NONE mode cannot set endpoints",
        r#"((has(self.resolution) ? self.resolution : "NONE") == "NONE") ? !has(self.endpoints) : true"#,
    ),
    (
        "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
        r#"((has(self.resolution) ? self.resolution : "") == "DNS_ROUND_ROBIN") ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true"#,
    ),
];
// The third says less than its text, in Istio, too: what is refused there and what is accepted there is the same here.
const SERVER_TLS: [Rule; 3] = [
    (
        "only one of credentialNames or tlsCertificates can be set",
        "(has(self.tlsCertificates) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
    ),
    (
        "only one of credentialName or credentialNames can be set",
        "(has(self.credentialName) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
    ),
    (
        "only one of credentialName or tlsCertificates can be set",
        "(has(self.credentialNames) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1",
    ),
];
