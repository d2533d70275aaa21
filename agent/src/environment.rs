//! What the agent is told: flags, variables and the files of the downward API, read once into types that cannot be
//! wrong. Pure: the variables come as pairs, files through a function.

pub mod proxy_config;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ca::key::KeyKind;
use ca::spiffe::Identity;

pub use proxy_config::{ControlPlaneAuth, ProxyConfig, ProxyConfigError, StatsMatcher};

/// What kind of proxy this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// `proxy`'s flags that decide something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// sidecar or router
    pub role: Role,
    /// `--domain`
    pub domain: String,
    /// `--meshConfig`
    pub mesh_config: String,
    /// `--serviceCluster`
    pub service_cluster: String,
    /// `--concurrency`, deprecated; 0 is "not said".
    pub concurrency: u32,
    /// `--proxyLogLevel`
    pub log_level: String,
    /// `--proxyComponentLogLevel`
    pub component_log_level: String,
    /// `--outlierLogPath`
    pub outlier_log_path: String,
    /// `--templateFile`: a bootstrap of the user's own, taken as it is.
    pub template_file: String,
}

/// Everything the agent is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// The flags as they came.
    pub flags: Flags,
    /// Pod.
    pub pod: Pod,
    /// Settings of this proxy.
    pub proxy_config: ProxyConfig,
    /// How certificates are had.
    pub certificate: Certificates,
    /// How configuration is had.
    pub discovery: Discovery,
    /// How Envoy ends.
    pub drain: Drain,
    /// 15021
    pub envoy_status_port: u16,
    /// 15090
    pub envoy_prometheus_port: u16,
    /// `DNS_PROXY_ADDR`, if the DNS proxy is to run.
    pub dns: Option<Option<String>>,
    /// `DISABLE_ENVOY`
    pub envoy: Envoy,
    /// Worker threads of Envoy, after all sources.
    pub concurrency: Option<u32>,
    /// `ISTIO_BOOTSTRAP_OVERRIDE`
    pub bootstrap_override: Option<PathBuf>,
    /// `WORKLOAD_IDENTITY_SOCKET_FILE`, of somebody else (SPIRE).
    pub foreign_socket: Option<String>,
    /// All variables, those of proxyMetadata included.
    pub variables: BTreeMap<String, String>,
}

/// Whether Envoy runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envoy {
    /// As a child of the agent.
    Run,
    /// `DISABLE_ENVOY=true`
    Disabled,
}

/// Where the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `POD_NAME`
    pub name: String,
    /// `POD_NAMESPACE`
    pub namespace: String,
    /// `SERVICE_ACCOUNT`
    pub service_account: String,
    /// `INSTANCE_IP` first; never empty.
    pub ips: Vec<IpAddr>,
    /// From the downward API.
    pub labels: BTreeMap<String, String>,
    /// From the downward API.
    pub annotations: BTreeMap<String, String>,
    /// `ISTIO_META_CLUSTER_ID`
    pub cluster_id: String,
}

impl Pod {
    /// The pod's first address, which decides the family of everything local.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// Where trust comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// A file, read anew for each connection.
    File(PathBuf),
    /// `SYSTEM`: what the machine trusts.
    System,
}

/// A server of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `host:port`
    pub address: String,
    /// What its certificate must say.
    pub name: String,
    /// Who must have signed it.
    pub roots: Roots,
    /// Plaintext or TLS.
    pub auth: ControlPlaneAuth,
}

/// How certificates are had.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificates {
    /// `CA_ADDR`
    pub server: Server,
    /// Whose.
    pub identity: Identity,
    /// The token's file.
    pub token: PathBuf,
    /// `SECRET_TTL`
    pub ttl: Duration,
    /// `SECRET_GRACE_PERIOD_RATIO`
    pub grace_ratio: f64,
    /// `SECRET_GRACE_PERIOD_RATIO_JITTER`
    pub grace_jitter: f64,
    /// P-256 unless `ECC_…` or `WORKLOAD_RSA_KEY_SIZE` say otherwise.
    pub key: KeyKind,
    /// `OUTPUT_CERTS`
    pub output: Option<PathBuf>,
    /// `FILE_MOUNTED_CERTS`
    pub source: CertificateSource,
    /// `ISTIO_META_CERT_SIGNER`
    pub signer: Option<String>,
}

/// Who makes certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSource {
    /// The CA.
    Authority,
    /// Somebody puts them into files.
    Files,
}

/// How configuration is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// `discoveryAddress`
    pub server: Server,
    /// The token's file.
    pub token: PathBuf,
    /// `ISTIO_DELTA_XDS`
    pub protocol: Protocol,
}

/// How Envoy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Only what changed.
    Delta,
    /// The state of the world.
    State,
}

/// How Envoy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// After this time.
    After(Duration),
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`: when nobody is connected any more, at least this time later.
    WhenIdle {
        /// `MINIMUM_DRAIN_DURATION`
        minimum: Duration,
    },
}

/// A setting nothing can be started with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable.
    #[error("{name}={value:?} is not {expected}")]
    Variable {
        /// Its name.
        name: String,
        /// What it holds.
        value: String,
        /// What it should.
        expected: &'static str,
    },
    /// A variable that must be there.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// ProxyConfig.
    #[error(transparent)]
    ProxyConfig(#[from] ProxyConfigError),
}

/// Reads a file, relative to the agent's directory; `None` if it is not there.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Option<String>;

const TOKEN: &str = "./var/run/secrets/tokens/istio-token";
const TOKEN_OF_KUBERNETES: &str = "./var/run/secrets/kubernetes.io/serviceaccount/token";
const ROOT: &str = "./var/run/secrets/istio/root-cert.pem";
const ROOT_OF_KUBERNETES: &str = "./var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const ROOT_CUSTOM: &str = "./etc/certs/root-cert.pem";
const LABELS: &str = "./etc/istio/pod/labels";
const ANNOTATIONS: &str = "./etc/istio/pod/annotations";
const ANNOTATION: &str = "proxy.istio.io/config";

impl Environment {
    /// Reads it all.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(
        flags: Flags,
        variables: impl IntoIterator<Item = (String, String)>,
        read: ReadFile<'_>,
    ) -> Result<Self, EnvironmentError> {
        let mut variables: BTreeMap<String, String> = variables.into_iter().collect();
        let podinfo = |path| text::podinfo(&read(Path::new(path)).unwrap_or_default()).collect::<BTreeMap<_, _>>();
        let (labels, annotations) = (podinfo(LABELS), podinfo(ANNOTATIONS));
        let proxy_config = proxy_config(&flags, &variables, &annotations, read)?;
        for (name, value) in &proxy_config.metadata {
            variables.insert(name.clone(), value.clone());
        }
        let settings = Settings(&variables);
        let pod = pod(&settings, labels, annotations)?;
        let first_party = settings.text("JWT_POLICY") == Some("first-party-jwt");
        let token = PathBuf::from(if first_party { TOKEN_OF_KUBERNETES } else { TOKEN });
        let drain = if settings.boolean("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false)? {
            Drain::WhenIdle { minimum: settings.duration("MINIMUM_DRAIN_DURATION", Duration::from_secs(5))? }
        } else {
            let seconds = settings.number("TERMINATION_DRAIN_DURATION_SECONDS")?;
            Drain::After(seconds.map_or(proxy_config.termination_drain_duration, Duration::from_secs))
        };
        let asked = settings.boolean("ISTIO_META_DNS_CAPTURE", false)?
            || settings.boolean("ISTIO_META_ENABLE_DNS_SERVER", false)?;
        // Nothing is captured for a gateway, and istiod sends it no names.
        let dns = asked && flags.role == Role::Sidecar;
        let path = |name| settings.text(name).map(PathBuf::from);
        Ok(Self {
            certificate: certificates(&settings, &pod, &proxy_config, token.clone())?,
            discovery: Discovery {
                server: server(&settings, &proxy_config, &proxy_config.discovery_address, "XDS_ROOT_CA")?,
                token,
                protocol: if settings.boolean("ISTIO_DELTA_XDS", true)? { Protocol::Delta } else { Protocol::State },
            },
            drain,
            envoy_status_port: settings.port("ENVOY_STATUS_PORT", 15021)?,
            envoy_prometheus_port: settings.port("ENVOY_PROMETHEUS_PORT", 15090)?,
            dns: dns.then(|| settings.text("DNS_PROXY_ADDR").map(str::to_owned)),
            envoy: if settings.boolean("DISABLE_ENVOY", false)? { Envoy::Disabled } else { Envoy::Run },
            concurrency: concurrency(&flags, &proxy_config, &settings)?,
            bootstrap_override: path("ISTIO_BOOTSTRAP_OVERRIDE"),
            foreign_socket: settings.text("WORKLOAD_IDENTITY_SOCKET_FILE").map(str::to_owned),
            flags,
            pod,
            proxy_config,
            variables,
        })
    }
}

fn proxy_config(
    flags: &Flags,
    variables: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    read: ReadFile<'_>,
) -> Result<ProxyConfig, ProxyConfigError> {
    let mesh = read(Path::new(&flags.mesh_config)).unwrap_or_default();
    let mesh = proxy_config::object("the mesh's configuration", &mesh)?["defaultConfig"].clone();
    let mesh = if mesh.is_null() { String::new() } else { mesh.to_string() };
    let variable = variables.get("PROXY_CONFIG").map(String::as_str).unwrap_or_default();
    let annotation = annotations.get(ANNOTATION).map(String::as_str).unwrap_or_default();
    ProxyConfig::new(&[
        ("the mesh's defaultConfig", &mesh),
        ("PROXY_CONFIG", variable),
        ("annotation proxy.istio.io/config", annotation),
    ])
}

fn pod(
    settings: &Settings<'_>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> Result<Pod, EnvironmentError> {
    let required = |name| settings.text(name).map(str::to_owned).ok_or(EnvironmentError::Missing(name));
    let mut ips = Vec::new();
    for name in ["INSTANCE_IP", "ISTIO_META_INSTANCE_IPS"] {
        for text in settings.text(name).unwrap_or_default().split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let ip = text.parse().map_err(|_| settings.error(name, "an IP address"))?;
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
    }
    if ips.is_empty() {
        return Err(EnvironmentError::Missing("INSTANCE_IP"));
    }
    Ok(Pod {
        name: required("POD_NAME")?,
        namespace: required("POD_NAMESPACE")?,
        service_account: settings.text("SERVICE_ACCOUNT").unwrap_or("default").to_owned(),
        ips,
        labels,
        annotations,
        cluster_id: settings.text("ISTIO_META_CLUSTER_ID").unwrap_or("Kubernetes").to_owned(),
    })
}

fn certificates(
    settings: &Settings<'_>,
    pod: &Pod,
    proxy_config: &ProxyConfig,
    token: PathBuf,
) -> Result<Certificates, EnvironmentError> {
    let address = settings.text("CA_ADDR").unwrap_or(&proxy_config.discovery_address);
    let trust_domain = settings.text("TRUST_DOMAIN").unwrap_or("cluster.local");
    let ratio = |name, default| match settings.text(name) {
        None => Ok(default),
        Some(text) => {
            let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
            number.ok_or_else(|| settings.error(name, "a number from 0 to 1"))
        }
    };
    let ttl = settings.duration("SECRET_TTL", Duration::from_secs(24 * 3600))?;
    if ttl.is_zero() {
        return Err(settings.error("SECRET_TTL", "longer than nothing"));
    }
    let files = settings.boolean("FILE_MOUNTED_CERTS", false)?;
    Ok(Certificates {
        server: server(settings, proxy_config, address, "CA_ROOT_CA")?,
        identity: Identity::new(trust_domain, pod.namespace.as_str(), pod.service_account.as_str()),
        token,
        ttl,
        grace_ratio: ratio("SECRET_GRACE_PERIOD_RATIO", 0.5)?,
        grace_jitter: ratio("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01)?,
        key: key_kind(settings)?,
        output: settings.text("OUTPUT_CERTS").map(PathBuf::from),
        source: if files { CertificateSource::Files } else { CertificateSource::Authority },
        signer: settings.text("ISTIO_META_CERT_SIGNER").map(str::to_owned),
    })
}

/// Istio makes RSA-2048 keys unless `ECC_SIGNATURE_ALGORITHM=ECDSA`; ours are P-256 unless a size is asked for.
fn key_kind(settings: &Settings<'_>) -> Result<KeyKind, EnvironmentError> {
    match (settings.text("ECC_SIGNATURE_ALGORITHM"), settings.text("ECC_CURVE")) {
        (Some("ECDSA"), None | Some("P256")) => return Ok(KeyKind::P256),
        (Some("ECDSA"), Some("P384")) => return Ok(KeyKind::P384),
        (Some("ECDSA"), Some(_)) => return Err(settings.error("ECC_CURVE", "P256 or P384")),
        (Some(_), _) => return Err(settings.error("ECC_SIGNATURE_ALGORITHM", "ECDSA")),
        (None, _) => {}
    }
    match settings.text("WORKLOAD_RSA_KEY_SIZE") {
        None => Ok(KeyKind::P256),
        Some("2048") => Ok(KeyKind::Rsa2048),
        Some("3072") => Ok(KeyKind::Rsa3072),
        Some("4096") => Ok(KeyKind::Rsa4096),
        Some(_) => Err(settings.error("WORKLOAD_RSA_KEY_SIZE", "2048, 3072 or 4096")),
    }
}

fn server(
    settings: &Settings<'_>,
    proxy_config: &ProxyConfig,
    address: &str,
    root_variable: &str,
) -> Result<Server, EnvironmentError> {
    let wrong = || EnvironmentError::Variable {
        name: "the control plane's address".to_owned(),
        value: address.to_owned(),
        expected: "host:port",
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong());
    }
    let roots = match (settings.text(root_variable), settings.text("PILOT_CERT_PROVIDER")) {
        (Some("SYSTEM"), _) => Roots::System,
        (Some(path), _) => Roots::File(path.into()),
        (None, Some("kubernetes")) => Roots::File(ROOT_OF_KUBERNETES.into()),
        (None, Some("custom" | "none")) => Roots::File(ROOT_CUSTOM.into()),
        (None, Some("system")) => Roots::System,
        (None, _) => Roots::File(ROOT.into()),
    };
    // 15010 is istiod's plaintext port: TLS there can only fail.
    let plaintext = proxy_config.control_plane_auth == ControlPlaneAuth::None || port == 15010;
    Ok(Server {
        address: address.to_owned(),
        name: settings.text("ISTIOD_SAN").unwrap_or(host).to_owned(),
        roots,
        auth: if plaintext { ControlPlaneAuth::None } else { ControlPlaneAuth::MutualTls },
    })
}

fn concurrency(
    flags: &Flags,
    proxy_config: &ProxyConfig,
    settings: &Settings<'_>,
) -> Result<Option<u32>, EnvironmentError> {
    if flags.concurrency > 0 {
        return Ok(Some(flags.concurrency));
    }
    if proxy_config.concurrency.is_some() {
        return Ok(proxy_config.concurrency);
    }
    let limit = settings.number("ISTIO_CPU_LIMIT")?.filter(|cpus| *cpus > 0);
    Ok(limit.map(|cpus| u32::try_from(cpus).unwrap_or(u32::MAX)))
}

struct Settings<'a>(&'a BTreeMap<String, String>);

impl Settings<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn error(&self, name: &str, expected: &'static str) -> EnvironmentError {
        let value = self.0.get(name).cloned().unwrap_or_default();
        EnvironmentError::Variable { name: name.to_owned(), value, expected }
    }

    fn parsed<T>(
        &self,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, EnvironmentError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| self.error(name, expected))
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool, EnvironmentError> {
        Ok(self.parsed(name, "true or false", text::boolean)?.unwrap_or(default))
    }

    fn duration(&self, name: &str, default: Duration) -> Result<Duration, EnvironmentError> {
        Ok(self.parsed(name, "a duration such as 5s", text::duration)?.unwrap_or(default))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, EnvironmentError> {
        self.parsed(name, "a number from 0", |text| text.parse().ok())
    }

    fn port(&self, name: &str, default: u16) -> Result<u16, EnvironmentError> {
        let parsed = self.parsed(name, "a port", |text| text.parse().ok().filter(|port| *port > 0))?;
        Ok(parsed.unwrap_or(default))
    }
}
