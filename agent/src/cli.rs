//! `navarch agent …`, in images `pilot-agent …`: the verbs and flags of Istio's agent.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use ca::clock::Clock;
use clap::builder::BoolishValueParser;
use http_body_util::Empty;
use tokio::time::Instant;

use crate::environment::{Environment, Flags, Role};
use crate::envoy::{self, Launcher};
use crate::proxy;
use crate::status::client::{self, Way};

/// The agent's command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the agent can do.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Run Envoy and what it needs
    Proxy(Box<Proxy>),
    /// Wait until the proxy is ready
    Wait(Wait),
    /// Send a request to Envoy's admin, as there is no curl in the image
    Request(Request),
    /// Set up traffic capture
    #[command(name = "istio-iptables")]
    Capture(Box<Capture>),
    /// Take traffic capture away
    #[command(name = "istio-clean-iptables")]
    CleanCapture(Box<Capture>),
    /// Print the version
    Version(Version),
    /// Become a program that dies with its parent
    #[command(name = envoy::EXEC, hide = true)]
    Exec {
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Flags of `proxy`.
#[derive(Debug, Clone, clap::Args)]
pub struct Proxy {
    /// What kind of proxy this is
    #[arg(value_enum, default_value = "sidecar")]
    pub role: Role,
    /// DNS domain of the proxy; default NAMESPACE.svc.cluster.local
    #[arg(long, default_value = "")]
    pub domain: String,
    /// File with the mesh's configuration
    #[arg(long = "meshConfig", default_value = "./etc/istio/config/mesh")]
    pub mesh_config: String,
    /// Port of the token exchange, which is not there
    #[arg(long = "stsPort", default_value_t = 0, hide = true)]
    pub sts_port: u16,
    /// Name of the token exchange's plugin, which is not there
    #[arg(long = "tokenManagerPlugin", default_value = "", hide = true)]
    pub token_manager_plugin: String,
    /// Service cluster of the proxy
    #[arg(long = "serviceCluster", default_value = "")]
    pub service_cluster: String,
    /// Envoy's log level
    #[arg(long = "proxyLogLevel", default_value = "warning,misc:error")]
    pub proxy_log_level: String,
    /// Envoy's log levels by component
    #[arg(long = "proxyComponentLogLevel", default_value = "")]
    pub proxy_component_log_level: String,
    /// Worker threads of Envoy; 0 is not said (use ProxyConfig)
    #[arg(long, default_value_t = 0)]
    pub concurrency: u32,
    /// A bootstrap of your own instead of the agent's, in JSON
    #[arg(long = "templateFile", default_value = "")]
    pub template_file: String,
    /// Where Envoy logs ejected hosts
    #[arg(long = "outlierLogPath", default_value = "")]
    pub outlier_log_path: String,
    /// Accepted, as Istio's
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
          value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, hide = true)]
    pub profiling: bool,
    #[command(flatten)]
    pub log: Log,
}

/// Flags of `istio-iptables` and its reverse.
#[derive(Debug, Clone, clap::Args)]
pub struct Capture {
    #[command(flatten)]
    pub args: crate::capture::cli::Args,
    #[command(flatten)]
    pub log: Log,
}

/// How the agent logs.
#[derive(Debug, Clone, clap::Args)]
pub struct Log {
    /// Levels, as default:info or all:debug
    #[arg(long = "log_output_level", default_value = "default:info")]
    pub level: String,
    /// Log in JSON
    #[arg(long = "log_as_json", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub json: bool,
}

/// Flags of `wait`.
#[derive(Debug, Clone, clap::Args)]
pub struct Wait {
    /// What must answer 200
    #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
    pub url: http::Uri,
    /// How long to wait
    #[arg(long = "timeoutSeconds", default_value_t = 60)]
    pub timeout_seconds: u64,
    /// Between two requests
    #[arg(long = "periodMillis", default_value_t = 500)]
    pub period_millis: u64,
    /// For one request
    #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
    pub request_timeout_millis: u64,
}

/// Flags of `request`.
#[derive(Debug, Clone, clap::Args)]
pub struct Request {
    /// GET, POST, …
    pub method: http::Method,
    /// Such as /stats or config_dump?resource=x
    pub path: String,
    /// Port on localhost: 15000 is Envoy's admin, 15020 the agent
    #[arg(long = "debug-port", default_value_t = 15000)]
    pub debug_port: u16,
}

/// Flags of `version`.
#[derive(Debug, Clone, clap::Args)]
pub struct Version {
    /// The number alone
    #[arg(long, short)]
    pub short: bool,
}

/// Does it.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    match dispatch(args.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Proxy(flags) => return proxy(*flags),
        Verb::Wait(flags) => small_runtime()?.block_on(wait(&flags))?,
        Verb::Request(flags) => small_runtime()?.block_on(request(&flags))?,
        Verb::Capture(flags) => {
            log(&flags.log);
            crate::capture::cli::run(flags.args)?;
        }
        Verb::CleanCapture(flags) => {
            log(&flags.log);
            crate::capture::cli::clean(flags.args)?;
        }
        Verb::Version(flags) => version(&flags),
        Verb::Exec { command } => {
            let (program, arguments) = command.split_first().context("no program is named")?;
            return Err(envoy::exec(program, arguments)).with_context(|| format!("{}", program.to_string_lossy()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Frames are forwarded and a certificate is made twice a day: two threads are plenty beside Envoy.
const WORKERS: usize = 2;

fn proxy(of: Proxy) -> Result<ExitCode> {
    log(&of.log);
    let directory = PathBuf::from(".");
    let flags = of.flags();
    if of.sts_port != 0 {
        tracing::warn!("--stsPort is recognised, but there is no token exchange");
    }
    let read = |path: &Path| proxy::read_file(&directory, path);
    let variables = std::env::vars_os();
    let variables = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = Environment::new(flags, variables, &read)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = crate::node::id(&environment), "agent");
    let options = proxy::Options { directory, launcher: Launcher::of_this_program(), clock: Clock::system() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let code = runtime.block_on(proxy::run(environment, options));
    runtime.shutdown_background();
    Ok(ExitCode::from(code?))
}

impl Proxy {
    fn flags(&self) -> Flags {
        // Istio takes `warning,misc:error` in one flag.
        let mut components: Vec<&str> = self.proxy_component_log_level.split(',').filter(|it| !it.is_empty()).collect();
        let mut level = "warning";
        for part in self.proxy_log_level.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part.contains(':') { components.push(part) } else { level = part }
        }
        Flags {
            role: self.role,
            domain: self.domain.clone(),
            mesh_config: self.mesh_config.clone(),
            service_cluster: self.service_cluster.clone(),
            concurrency: self.concurrency,
            log_level: if level == "none" { "off".to_owned() } else { level.to_owned() },
            component_log_level: components.join(","),
            outlier_log_path: self.outlier_log_path.clone(),
            template_file: self.template_file.clone(),
        }
    }
}

fn log(of: &Log) {
    let filter = tracing_subscriber::EnvFilter::new(filter(&of.level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Somebody who set up logging before knows better.
    if of.json {
        subscriber.json().try_init().ok()
    } else {
        subscriber.with_ansi(false).try_init().ok()
    };
}

/// Istio's `SCOPE:LEVEL,…`: the level of `default` or `all`; its other scopes are not ours.
fn filter(text: &str) -> String {
    let mut level = "info";
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once(':') {
            None => level = part,
            Some(("default" | "all", named)) => level = named,
            Some(_) => {}
        }
    }
    match level {
        "none" => "off",
        "fatal" => "error",
        "trace" | "debug" | "info" | "warn" | "error" => level,
        _ => "info",
    }
    .to_owned()
}

async fn wait(of: &Wait) -> Result<()> {
    let port = of.url.port_u16().unwrap_or(80);
    let host = of.url.host().context("--url names no host")?.trim_matches(['[', ']']);
    let path = of.url.path_and_query().map_or("/", |path| path.as_str());
    let end = Instant::now() + Duration::from_secs(of.timeout_seconds);
    loop {
        let timeout = Duration::from_millis(of.request_timeout_millis);
        // Names are looked up within that time, too.
        let asked = tokio::time::timeout(timeout, ask(host, port, path, timeout)).await;
        let why = match asked.unwrap_or_else(|_| Err(anyhow!("no answer within {timeout:?}"))) {
            Ok(()) => {
                println!("{} is ready", of.url);
                return Ok(());
            }
            Err(why) => why,
        };
        if Instant::now() >= end {
            bail!("{} was not ready within {} s: {why}", of.url, of.timeout_seconds);
        }
        tokio::time::sleep(Duration::from_millis(of.period_millis)).await;
    }
}

/// At any of the host's addresses: `localhost` has two.
async fn ask(host: &str, port: u16, path: &str, timeout: Duration) -> Result<()> {
    let mut why = anyhow!("{host} has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match client::get(address, path, timeout, BODY_BYTES_MAX).await {
            Ok(_) => return Ok(()),
            Err(error) => why = error.into(),
        }
    }
    Err(why)
}

/// A config dump of a large mesh.
const BODY_BYTES_MAX: usize = 512 * 1024 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

async fn request(of: &Request) -> Result<()> {
    use std::io::Write as _;
    let path = format!("/{}", of.path.trim_start_matches('/'));
    let mut failure = anyhow!("localhost has no address");
    let localhost: Vec<SocketAddr> = tokio::net::lookup_host(("localhost", of.debug_port)).await?.collect();
    for address in localhost {
        let request = http::Request::builder()
            .method(of.method.clone())
            .uri(&path)
            .header(http::header::HOST, format!("localhost:{}", of.debug_port))
            .body(Empty::<Bytes>::new())?;
        let way = Way { address, source: None, tls: None };
        match client::send(request, way, REQUEST_TIMEOUT, BODY_BYTES_MAX).await {
            Ok(answer) => {
                std::io::stdout().write_all(&answer.body)?;
                if answer.status.is_client_error() || answer.status.is_server_error() {
                    bail!("received unsuccessful status code {}", answer.status);
                }
                return Ok(());
            }
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn version(of: &Version) {
    if of.short {
        println!("{}", crate::node::VERSION);
    } else {
        let version = env!("CARGO_PKG_VERSION");
        println!("navarch agent {version}, compatible with Istio {}", crate::node::ISTIO_VERSION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Verb {
        let words = std::iter::once("pilot-agent").chain(words.split_whitespace());
        Program::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args.verb
    }

    #[test]
    fn the_injectors_arguments_are_taken() {
        let verb = parse(
            "proxy sidecar --domain $(POD_NAMESPACE).svc.cluster.local --proxyLogLevel=warning \
             --proxyComponentLogLevel=misc:error --log_output_level=default:info --concurrency 2 --profiling=false \
             --stsPort=15463 --log_as_json --outlierLogPath=/dev/stdout",
        );
        let Verb::Proxy(proxy) = verb else { panic!() };
        let flags = proxy.flags();
        assert_eq!(flags.role, Role::Sidecar);
        assert_eq!((flags.log_level.as_str(), flags.component_log_level.as_str()), ("warning", "misc:error"));
        assert_eq!((flags.concurrency, proxy.log.json, proxy.profiling), (2, true, false));
        let Verb::Proxy(proxy) = parse("proxy router") else { panic!() };
        assert_eq!((proxy.role, proxy.flags().component_log_level.as_str()), (Role::Router, "misc:error"));
    }

    #[test]
    fn the_other_verbs_are_taken() {
        let Verb::Request(request) = parse("request --debug-port=15020 POST drain") else { panic!() };
        assert_eq!((request.method, request.debug_port, request.path.as_str()), (http::Method::POST, 15020, "drain"));
        let Verb::Wait(wait) = parse("wait --timeoutSeconds 5 --periodMillis=10") else { panic!() };
        assert_eq!((wait.timeout_seconds, wait.url.port_u16()), (5, Some(15021)));
        let Verb::Exec { command } = parse("exec-child -- envoy -c x") else { panic!() };
        assert_eq!(command, ["envoy", "-c", "x"]);
        assert!(matches!(
            parse("istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x= -b * -d 15090,15021,15020"),
            Verb::Capture(_)
        ));
    }

    #[test]
    fn log_levels_are_istios() {
        for (text, expected) in [
            ("default:info", "info"),
            ("debug", "debug"),
            ("dns:debug,all:warn", "warn"),
            ("none", "off"),
            ("x", "info"),
        ] {
            assert_eq!(filter(text), expected, "{text}");
        }
    }
}
