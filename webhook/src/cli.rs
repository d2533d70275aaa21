//! `navarch kube-inject`: arguments and what they do.

use crate::inject::{Config, NativeSidecars, Options, Texts};
use crate::kube_inject;
use anyhow::Context as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    /// Of objects that do not say theirs
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
    /// The proxy as an init container that keeps running (Kubernetes 1.33 and later)
    #[arg(long = "nativeSidecars", num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub native_sidecars: bool,
}

/// Reads, injects, writes. What is left alone, and why, goes to standard error.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let read = |path: &Option<PathBuf>| -> anyhow::Result<Option<String>> { path.as_deref().map(text).transpose() };
    let (injector, values, mesh) =
        (read(&args.inject_config_file)?, read(&args.values_file)?, read(&args.mesh_config_file)?);
    let texts = Texts { config: injector.as_deref(), values: values.as_deref(), mesh: mesh.as_deref() };
    let native_sidecars = if args.native_sidecars { NativeSidecars::Native } else { NativeSidecars::Container };
    let options = Options { revision: args.revision.clone(), native_sidecars, ..Options::default() };
    let config = Config::new(texts, options)?;
    let injected = kube_inject::file(&text(&args.file)?, &args.namespace, &config)?;
    for remark in &injected.remarks {
        writeln!(std::io::stderr(), "{remark}")?;
    }
    match &args.output {
        Some(path) => std::fs::write(path, &injected.text).with_context(|| path.display().to_string()),
        None => Ok(std::io::stdout().write_all(injected.text.as_bytes())?),
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let read =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    read.with_context(|| path.display().to_string())
}
