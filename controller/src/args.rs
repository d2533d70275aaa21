//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use xds::TypeUrl;

/// A drop-in replacement for Istio's control plane, driving stock upstream Envoy.
#[derive(Debug, Parser)]
#[command(name = "navarch", version, about)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole mesh of a folder of YAML on this machine: control plane, workloads, one Envoy each
    Up(Up),
    /// Print what an Envoy would get, without running anything
    Translate(Translate),
    /// Run the control plane in Kubernetes, in place of istiod
    Discovery(Box<crate::discovery::Discovery>),
    /// What runs beside Envoy in a pod, in place of pilot-agent
    Agent(agent::cli::Args),
    #[command(flatten)]
    Deploy(deploy::cli::Command),
    KubeInject(webhook::cli::Args),
    /// Ask a part of this pod over HTTP: what `kubectl exec` has instead of curl
    #[command(hide = true)]
    Request(Request),
    /// One of the services of the examples, as a program
    #[command(hide = true)]
    Service(Service),
    /// Become another program that ends with its parent
    #[command(name = crate::up::process::EXEC, hide = true)]
    Exec(Exec),
}

#[derive(Debug, clap::Args)]
pub struct Up {
    /// Folder of kubectl YAML
    #[arg(default_value = "examples/bookinfo")]
    pub dir: PathBuf,
    /// The Envoy to run; else $NAVARCH_ENVOY, envoy on PATH, the cache, or the pinned download
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Loopback address of the ingress gateway [default: 127.0.0.1; with --check one of the run's own]
    #[arg(long, value_name = "ADDRESS")]
    pub ingress: Option<Ipv4Addr>,
    /// MeshConfig from this file instead of the ConfigMap named istio; followed while it changes
    #[arg(long, value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// Run a copy of DIR, load it and shift its weights; the exit code says whether all went well
    #[arg(long)]
    pub check: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Keep bootstraps and logs in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Translate {
    /// Folder of kubectl YAML
    pub dir: PathBuf,
    /// A pod, Deployment or gateway: NAME or NAME.NAMESPACE
    #[arg(long)]
    pub proxy: String,
    /// Only this type [possible values: cds, eds, lds, rds]
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    pub kind: Option<TypeUrl>,
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub output: Output,
    /// MeshConfig from this file instead of the ConfigMap named istio
    #[arg(long, value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// As under `navarch up`: addresses on loopback, nothing captured
    #[arg(long)]
    pub up: bool,
    /// Instead of the configuration: the tables it is made of, or the rows of one
    #[arg(long, value_name = "TABLE", num_args = 0..=1, default_missing_value = "")]
    pub tables: Option<String>,
    /// With --tables TABLE: the rows whose key contains TEXT, what they read and who read them
    #[arg(long, value_name = "TEXT", requires = "tables")]
    pub row: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Yaml,
    Json,
}

#[derive(Debug, clap::Args)]
pub struct Request {
    pub method: RequestMethod,
    /// `/debug/syncz`
    pub path: String,
    #[arg(long = "debug-port", default_value_t = 8080)]
    pub port: u16,
}

/// There are no pages that change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RequestMethod {
    #[value(name = "GET", alias = "get")]
    Get,
}

#[derive(Debug, clap::Args)]
pub struct Service {
    /// Whose part to play: a Bookinfo image's name; an echo for all others
    #[arg(long, default_value = "echo")]
    pub image: String,
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9080")]
    pub http: Vec<std::net::SocketAddr>,
    /// An echo of bytes
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub tcp: Vec<std::net::SocketAddr>,
}

#[derive(Debug, clap::Args)]
pub struct Exec {
    pub program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// The types of issue; a sidecar or gateway has no other.
pub const KINDS: [TypeUrl; 4] = [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Listener, TypeUrl::Route];

fn kind(text: &str) -> Result<TypeUrl, String> {
    let known = KINDS.into_iter().find(|kind| kind.short() == text);
    known.ok_or_else(|| "one of cds, eds, lds, rds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn up_runs_bookinfo_by_default_and_types_have_their_short_names() {
        let Command::Up(up) = Args::parse_from(["navarch", "up"]).command else { panic!("not up") };
        assert_eq!(up.dir, PathBuf::from("examples/bookinfo"));
        let arguments = ["navarch", "translate", "d", "--proxy", "p", "--type", "rds", "-o", "json"];
        let Command::Translate(it) = Args::parse_from(arguments).command else { panic!("not translate") };
        assert_eq!((it.kind, it.output), (Some(TypeUrl::Route), Output::Json));
        assert!(Args::try_parse_from(["navarch", "translate", "d", "--proxy", "p", "--type", "sds"]).is_err());
    }

    #[test]
    fn programs_keep_their_own_flags() {
        let arguments = ["navarch", "exec-child", "--", "sh", "-c", "--", "x"];
        let Command::Exec(it) = Args::parse_from(arguments).command else { panic!("not exec") };
        assert_eq!((it.program, it.arguments), ("sh".into(), vec!["-c".into(), "--".into(), "x".into()]));
    }
}
