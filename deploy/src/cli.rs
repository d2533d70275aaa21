//! `navarch install|upgrade|uninstall` and `navarch manifest generate`: arguments, and what they do.

use crate::install::{self, InstallError, Owner, Progress, Removal};
use crate::manifest::{self, ManifestError, Request};
use crate::value::ValueError;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// The verbs, to be flattened into the program's own.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Installs the control plane and its gateways, and waits until they are ready
    Install(InstallArgs),
    /// Brings an installation to these values and this version, and removes what it has no more
    Upgrade(InstallArgs),
    /// Removes what `install` installed
    Uninstall(UninstallArgs),
    /// Manifests without a cluster
    Manifest {
        #[command(subcommand)]
        command: ManifestCommand,
    },
}

/// What and where to install.
#[derive(Clone, Debug, clap::Args)]
pub struct InstallArgs {
    #[command(flatten)]
    pub values: ValuesArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How long to wait for everything to be ready, in seconds or as 5m, 90s
    #[arg(long, value_parser = duration, default_value = "5m")]
    pub readiness_timeout: Duration,
    /// Show what would be applied, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Taken for istioctl's sake: installing never asks
    #[arg(short = 'y', long)]
    pub skip_confirmation: bool,
}

/// What to remove.
#[derive(Clone, Debug, clap::Args)]
pub struct UninstallArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The revision to remove
    #[arg(short, long, default_value = "")]
    pub revision: String,
    /// The control plane's namespace
    #[arg(short = 'n', long = "namespace", visible_alias = "istioNamespace", default_value = "istio-system")]
    pub namespace: String,
    /// Remove Istio's kinds with all configuration, and the signing key, too
    #[arg(long)]
    pub purge: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    pub skip_confirmation: bool,
}

/// What to do with manifests.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ManifestCommand {
    /// Write what `install` would apply, as YAML for `kubectl apply -f -`
    Generate(ValuesArgs),
}

/// What to install.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ValuesArgs {
    /// Values, or an IstioOperator; may be given several times, the last wins
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// One value, for example meshConfig.accessLogFile=/dev/stdout
    #[arg(short = 's', long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// One value that is text whatever it looks like
    #[arg(long = "set-string", value_name = "NAME=VALUE")]
    pub set_text: Vec<String>,
    /// default, minimal or demo
    #[arg(long)]
    pub profile: Option<String>,
    /// Name of a control plane beside others
    #[arg(short, long)]
    pub revision: Option<String>,
    /// The control plane's namespace (default istio-system)
    #[arg(short = 'n', long = "namespace", visible_alias = "istioNamespace")]
    pub namespace: Option<String>,
}

/// Which cluster, and how to tell of it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterArgs {
    /// The cluster's kubeconfig (default: KUBECONFIG, ~/.kube/config, or the pod's own account)
    #[arg(long, short = 'c', value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long)]
    pub context: Option<String>,
    /// Progress as lines for people, or as one JSON object a line
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// Does what the verb says. The result goes to `out`; of `manifest`, warnings go to `problems`.
pub async fn run(
    command: &Command,
    out: &mut (dyn Write + Send),
    problems: &mut (dyn Write + Send),
) -> Result<(), InstallError> {
    match command {
        Command::Install(args) | Command::Upgrade(args) => install(args, out).await,
        Command::Uninstall(args) => uninstall(args, out).await,
        Command::Manifest { command } => manifest(command, out, problems),
    }
}

/// Installs or upgrades; both are the same thing.
async fn install(args: &InstallArgs, out: &mut (dyn Write + Send)) -> Result<(), InstallError> {
    let (installation, warnings) = request(&args.values)?.installation().map_err(ManifestError::from)?;
    let output = args.cluster.output;
    for warning in warnings {
        if args.dry_run {
            let _ = writeln!(out, "# warning: {warning}");
        } else {
            tell(out, output, &Progress::Warning(warning));
        }
    }
    if args.dry_run {
        let _ = out.write_all(manifest::generate(&installation)?.as_bytes());
        return Ok(());
    }
    let components = manifest::components(&installation)?;
    let owner = Owner { namespace: installation.namespace, revision: installation.revision };
    let client = client(&args.cluster).await?;
    let mut tell_all = |progress: Progress| tell(out, output, &progress);
    install::install(&client, &components, &owner, args.readiness_timeout, &mut tell_all).await
}

/// Removes an installation.
async fn uninstall(args: &UninstallArgs, out: &mut (dyn Write + Send)) -> Result<(), InstallError> {
    let owner = Owner { namespace: args.namespace.clone(), revision: args.revision.clone() };
    let removal = if args.purge { Removal::Purge } else { Removal::Installation };
    if !args.skip_confirmation && io::stdin().is_terminal() && !confirm(&owner, removal) {
        return Ok(());
    }
    let client = client(&args.cluster).await?;
    let output = args.cluster.output;
    install::uninstall(&client, &owner, removal, &mut |progress| tell(out, output, &progress)).await
}

/// Writes the manifest; warnings go to `problems`.
fn manifest(command: &ManifestCommand, out: &mut dyn Write, problems: &mut dyn Write) -> Result<(), InstallError> {
    let ManifestCommand::Generate(values) = command;
    let (installation, warnings) = request(values)?.installation().map_err(ManifestError::from)?;
    for warning in warnings {
        let _ = writeln!(problems, "warning: {warning}");
    }
    let _ = out.write_all(manifest::generate(&installation)?.as_bytes());
    Ok(())
}

fn request(args: &ValuesArgs) -> Result<Request, InstallError> {
    let mut files = Vec::new();
    for path in &args.files {
        let file = path.display().to_string();
        let text = if file == "-" { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
        let text = text.map_err(|error| {
            ManifestError::from(ValueError::File { file: file.clone(), message: error.to_string() })
        })?;
        files.push((file, text));
    }
    Ok(Request {
        profile: args.profile.clone(),
        revision: args.revision.clone(),
        namespace: args.namespace.clone(),
        files,
        set: args.set.clone(),
        set_text: args.set_text.clone(),
    })
}

async fn client(args: &ClusterArgs) -> Result<kube::Client, InstallError> {
    let options = kube::config::KubeConfigOptions { context: args.context.clone(), ..Default::default() };
    let connect = |error: &dyn std::fmt::Display| InstallError::Connect(error.to_string());
    let config = match (&args.kubeconfig, &args.context) {
        (Some(path), _) => {
            let file = kube::config::Kubeconfig::read_from(path).map_err(|error| connect(&error))?;
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|error| connect(&error))?
        }
        (None, Some(_)) => kube::Config::from_kubeconfig(&options).await.map_err(|error| connect(&error))?,
        (None, None) => kube::Config::infer().await.map_err(|error| connect(&error))?,
    };
    let client = kube::Client::try_from(config).map_err(|error| connect(&error))?;
    client.apiserver_version().await.map_err(|error| connect(&error))?;
    Ok(client)
}

fn confirm(owner: &Owner, removal: Removal) -> bool {
    let what = match removal {
        Removal::Installation => "the control plane and its gateways",
        Removal::Purge => "the control plane, its gateways, ALL OBJECTS of Istio's kinds and the signing key",
    };
    let _ = write!(io::stderr(), "Remove {what} of namespace {}? [y/N] ", owner.namespace);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// One line. A reader that has gone does not stop an installation.
fn tell(out: &mut dyn Write, output: Output, progress: &Progress) {
    let _ = match output {
        Output::Text => writeln!(out, "{}", line(progress)),
        Output::Json => writeln!(out, "{}", object(progress)),
    };
}

fn line(progress: &Progress) -> String {
    match progress {
        Progress::Warning(warning) => format!("warning: {warning}"),
        Progress::Applied { object, change } => format!("{object} {}", change_word(*change)),
        Progress::Waiting { object, state } => format!("{object} waiting: {state}"),
        Progress::Ready { object } => format!("{object} ready"),
        Progress::Removed { object } => format!("{object} removed"),
        Progress::Kept { object, reason } => format!("{object} kept: {reason}"),
    }
}

fn object(progress: &Progress) -> serde_json::Value {
    match progress {
        Progress::Warning(warning) => json!({"event": "warning", "message": warning.to_string()}),
        Progress::Applied { object, change } => json!({"event": change_word(*change), "object": object}),
        Progress::Waiting { object, state } => json!({"event": "waiting", "object": object, "message": state}),
        Progress::Ready { object } => json!({"event": "ready", "object": object}),
        Progress::Removed { object } => json!({"event": "removed", "object": object}),
        Progress::Kept { object, reason } => json!({"event": "kept", "object": object, "message": reason}),
    }
}

fn change_word(change: install::Change) -> &'static str {
    match change {
        install::Change::Created => "created",
        install::Change::Changed => "changed",
        install::Change::Unchanged => "unchanged",
    }
}

/// Go's notation as far as waiting needs it: `90`, `90s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1),
        Some('m') => (&text[..text.len() - 1], 60),
        Some('h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let seconds: u32 = digits.parse().map_err(|_| format!("{text:?} is no time; examples: 90s, 5m, 1h"))?;
    Ok(Duration::from_secs(u64::from(seconds) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser as _};

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn the_arguments_fit_together_and_are_istioctls() {
        Program::command().debug_assert();
        for line in [
            "navarch install -y --set profile=demo -f mine.yaml --revision canary --readiness-timeout 90s",
            "navarch upgrade --set-string a=1 -c kubeconfig --context x -o json",
            "navarch uninstall --purge -y --istioNamespace mesh",
            "navarch manifest generate -s hub=x --profile minimal -n mesh",
        ] {
            Program::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("soon").is_err());
    }

    #[tokio::test]
    async fn manifests_go_to_the_output_and_warnings_beside_it() {
        let line = "navarch manifest generate --profile minimal --set meshconfig.x=1";
        let program = Program::try_parse_from(line.split(' ')).expect("valid");
        let (mut out, mut problems) = (Vec::new(), Vec::new());
        run(&program.command, &mut out, &mut problems).await.expect("it renders");
        assert!(out.starts_with(b"apiVersion: v1\nkind: Namespace\n"));
        assert_eq!(problems, b"warning: there is no value meshconfig, did you mean meshConfig?\n");
    }
}
