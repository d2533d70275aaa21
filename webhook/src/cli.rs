//! `navarch kube-inject`: arguments and what they do.

use std::path::PathBuf;

/// Adds proxies to the workloads in a YAML file, as the webhook does to pods
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The workloads; `-` is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub file: PathBuf,
    /// Where the result goes, instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// `config` of the injector's ConfigMap; absent: the built-in templates
    #[arg(long = "injectConfigFile", value_name = "FILE")]
    pub inject_config_file: Option<PathBuf>,
    /// `values` of the injector's ConfigMap
    #[arg(long = "valuesFile", value_name = "FILE")]
    pub values_file: Option<PathBuf>,
    /// MeshConfig
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    pub mesh_config_file: Option<PathBuf>,
    /// The control plane's revision
    #[arg(short = 'r', long, default_value = "")]
    pub revision: String,
    /// The proxy as an init container that keeps running (Kubernetes 1.33 and later)
    #[arg(long = "nativeSidecars", env = "ENABLE_NATIVE_SIDECARS", num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub native_sidecars: bool,
}

/// Reads, injects, writes. What is skipped, and why, goes to standard error.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let _ = args;
    anyhow::bail!("kube-inject is not there yet")
}
