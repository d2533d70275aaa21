//! istiod's environment variables, as far as they change what this program does. One that istiod knows and navarch
//! does not is said so once: silence would be taken for obedience.

use ca::key::KeyKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the environment asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Environment {
    pub pod_name: String,
    /// Empty: the default revision.
    pub revision: String,
    pub xds_auth: bool,
    pub identity_check: bool,
    pub ca_server: bool,
    pub leader_election: bool,
    pub token_audiences: Vec<String>,
    pub workload_ttl_default: Duration,
    pub workload_ttl_max: Duration,
    /// Of a root that is made: RSA where Istio's variable asks for it.
    pub root_key: KeyKind,
    pub root_ttl: Duration,
    pub root_grace_percentile: u32,
    pub root_ca_dir: String,
    pub custom_hosts: Vec<String>,
    pub injection_webhook: String,
    pub validation_webhook: String,
    pub native_sidecars: NativeSidecars,
    pub debug_on_http: bool,
    pub registration: bool,
    pub registration_grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NativeSidecars {
    /// Where every kubelet is new enough.
    Auto,
    Always,
    Never,
}

const DAY: u64 = 24 * 3600;

impl Environment {
    /// Also returns one sentence for each variable that is wrong (its default counts) or has no effect.
    pub(super) fn read(variables: impl Iterator<Item = (String, String)>) -> (Self, Vec<String>) {
        let mut of = Reader { variables: variables.collect(), remarks: vec![] };
        let revision = match of.text("REVISION", "").as_str() {
            "default" => String::new(),
            other => other.to_owned(),
        };
        let environment = Self {
            pod_name: of.text("POD_NAME", "istiod"),
            revision,
            xds_auth: of.is("XDS_AUTH", true),
            identity_check: of.is("PILOT_ENABLE_XDS_IDENTITY_CHECK", true),
            ca_server: of.is("ENABLE_CA_SERVER", true),
            leader_election: of.is("ENABLE_LEADER_ELECTION", true),
            token_audiences: of.list("TOKEN_AUDIENCES", "istio-ca"),
            workload_ttl_default: of.duration("DEFAULT_WORKLOAD_CERT_TTL", DAY),
            workload_ttl_max: of.duration("MAX_WORKLOAD_CERT_TTL", 90 * DAY),
            root_key: of.rsa("CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE"),
            root_ttl: of.duration("CITADEL_SELF_SIGNED_CA_CERT_TTL", 3650 * DAY),
            root_grace_percentile: of.number("CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", 20),
            root_ca_dir: of.text("ROOT_CA_DIR", "./etc/cacerts"),
            custom_hosts: of.list("ISTIOD_CUSTOM_HOST", ""),
            injection_webhook: of.text("INJECTION_WEBHOOK_CONFIG_NAME", "istio-sidecar-injector"),
            validation_webhook: of.text("VALIDATION_WEBHOOK_CONFIG_NAME", "istio-validator-istio-system"),
            native_sidecars: of.native_sidecars("ENABLE_NATIVE_SIDECARS"),
            debug_on_http: of.is("ENABLE_DEBUG_ON_HTTP", true),
            registration: of.is("PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", true),
            registration_grace: of.duration("PILOT_WORKLOAD_ENTRY_GRACE_PERIOD", 10),
        };
        of.unused();
        (environment, of.remarks)
    }
}

struct Reader {
    variables: BTreeMap<String, String>,
    remarks: Vec<String>,
}

impl Reader {
    fn take<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Option<T>, what: &str) -> T {
        let Some(text) = self.variables.remove(name).filter(|it| !it.is_empty()) else { return default };
        parse(&text).unwrap_or_else(|| {
            self.remarks.push(format!("{name}={text:?} is not {what}; its default counts"));
            default
        })
    }

    fn text(&mut self, name: &str, default: &str) -> String {
        self.take(name, default.to_owned(), |it| Some(it.to_owned()), "text")
    }

    fn list(&mut self, name: &str, default: &str) -> Vec<String> {
        let text = self.text(name, default);
        text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    fn is(&mut self, name: &str, default: bool) -> bool {
        self.take(
            name,
            default,
            |it| match it.to_lowercase().as_str() {
                "1" | "t" | "true" => Some(true),
                "0" | "f" | "false" => Some(false),
                _ => None,
            },
            "true or false",
        )
    }

    fn number(&mut self, name: &str, default: u32) -> u32 {
        self.take(name, default, |it| it.parse().ok(), "a number")
    }

    fn rsa(&mut self, name: &str) -> KeyKind {
        let kind = |bits: &str| match bits {
            "2048" => Some(KeyKind::Rsa2048),
            "3072" => Some(KeyKind::Rsa3072),
            "4096" => Some(KeyKind::Rsa4096),
            _ => None,
        };
        self.take(name, KeyKind::P256, kind, "one of 2048, 3072 and 4096")
    }

    fn native_sidecars(&mut self, name: &str) -> NativeSidecars {
        let choice = |text: &str| match text {
            "auto" => Some(NativeSidecars::Auto),
            "true" => Some(NativeSidecars::Always),
            "false" => Some(NativeSidecars::Never),
            _ => None,
        };
        self.take(name, NativeSidecars::Auto, choice, "one of auto, true and false")
    }

    fn duration(&mut self, name: &str, default_seconds: u64) -> Duration {
        let parse = |it: &str| crds::Duration::parse(it).ok().map(|it| it.0);
        self.take(name, Duration::from_secs(default_seconds), parse, "a duration such as 24h")
    }

    fn unused(&mut self) {
        let prefixes = ["PILOT_", "CITADEL_", "ISTIO_", "ISTIOD_"];
        let known = |name: &str| NO_EFFECT.contains(&name) || prefixes.iter().any(|it| name.starts_with(it));
        // Kubernetes sets these for every Service in the namespace.
        let links = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_TCP", "_PROTO", "_ADDR"];
        let link = |name: &str| links.iter().any(|it| name.contains(it));
        let as_it_is = |name: &str, value: &str| AS_IT_IS.contains(&(name, value));
        let remarks = self
            .variables
            .iter()
            .filter(|(name, value)| known(name) && !link(name) && !value.is_empty() && !as_it_is(name, value));
        let remarks: Vec<String> =
            remarks.map(|(name, _)| format!("{name}: istiod knows it, navarch does not act on it")).collect();
        self.remarks.extend(remarks);
    }
}

/// What istiod's chart sets, and navarch does anyway.
const AS_IT_IS: &[(&str, &str)] = &[
    ("PILOT_CERT_PROVIDER", "istiod"),
    ("PILOT_ENABLE_ANALYSIS", "false"),
    ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false"),
    ("PILOT_TRACE_SAMPLING", "1"),
];

/// Variables of istiod without one of its prefixes, which would change what it does.
const NO_EFFECT: &[&str] = &[
    "BLOCKED_CIDRS_IN_JWKS_URIS",
    "CA_TRUSTED_NODE_ACCOUNTS",
    "CERT_SIGNER_DOMAIN",
    "COMPLIANCE_POLICY",
    "DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES",
    "ENABLE_CLUSTER_TRUST_BUNDLE_API",
    "ENABLE_DEBUG_ENDPOINT_AUTH",
    "ENABLE_ENHANCED_DESTINATIONRULE_MERGE",
    "ENABLE_MCS_HOST",
    "ENABLE_MCS_SERVICE_DISCOVERY",
    "EXTERNAL_CA",
    "EXTERNAL_ISTIOD",
    "INJECT_ENABLED",
    "JWT_RULE",
    "K8S_SIGNER",
    "SHARED_MESH_CONFIG",
    "TRUSTED_GATEWAY_CIDR",
    "UNSAFE_ENABLE_ADMIN_ENDPOINTS",
    "USE_CACERTS_FOR_SELF_SIGNED_CA",
    "XDS_AUTH_PLAINTEXT",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Environment, Vec<String>) {
        Environment::read(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn nothing_set_gives_istiod_s_defaults() {
        let (it, remarks) = read(&[]);
        assert_eq!((it.workload_ttl_default.as_secs(), it.token_audiences), (DAY, vec!["istio-ca".to_owned()]));
        assert!(it.xds_auth && it.identity_check && it.ca_server && it.leader_election);
        assert!(remarks.is_empty(), "{remarks:?}");
    }

    #[test]
    fn what_is_wrong_or_without_effect_is_said_and_links_of_services_are_not() {
        let (it, remarks) = read(&[
            ("REVISION", "default"),
            ("DEFAULT_WORKLOAD_CERT_TTL", "2m"),
            ("XDS_AUTH", "maybe"),
            ("CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE", "4096"),
            ("PILOT_HTTP10", "true"),
            ("ISTIOD_SERVICE_HOST", "10.0.0.1"),
            ("ISTIOD_PORT_15012_TCP_ADDR", "10.0.0.1"),
            ("HOME", "/"),
        ]);
        assert_eq!((it.revision.as_str(), it.workload_ttl_default.as_secs(), it.xds_auth), ("", 120, true));
        assert_eq!(it.root_key, KeyKind::Rsa4096);
        assert_eq!(
            remarks,
            [
                "XDS_AUTH=\"maybe\" is not true or false; its default counts",
                "PILOT_HTTP10: istiod knows it, navarch does not act on it",
            ]
        );
    }
}
