//! `cargo xtask cluster`: a Kubernetes for tests, by hand.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use e2e::cluster::{Backend, Cluster, State, open, program};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(bin_name = "cargo xtask cluster", about = "A Kubernetes for tests")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[arg(long, value_enum, default_value = "local", global = true)]
    backend: Kind,
    #[arg(long, default_value = "navarch", global = true)]
    name: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Real components as processes, in namespaces of their own; needs root, and no Docker
    Local,
    /// By `kind`, in Docker
    Kind,
}

#[derive(Subcommand)]
enum Verb {
    /// Only finds or builds the local backend's programs, so that a later `up` is quick
    Install,
    /// Starts a cluster, and cleans up after a crash; nothing to do when it runs
    Up,
    /// Removes all of it
    Down,
    /// What of it runs
    Status,
    /// Prints the path of the administrator's kubeconfig, for programs under `run`
    Kubeconfig,
    /// Images as `docker save` or `cargo xtask image build` write them
    LoadImage {
        tars: Vec<PathBuf>,
    },
    /// Collects all logs in a folder
    Logs {
        into: PathBuf,
    },
    /// Runs a program in the cluster's network, with KUBECONFIG set: `run -- kubectl get pods`
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Ends the API server; all else goes on
    StopApiserver,
    StartApiserver,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn run(arguments: &Arguments) -> Result<ExitCode> {
    let backend = match arguments.backend {
        Kind::Local => Backend::Local,
        Kind::Kind => Backend::Kind,
    };
    let started = Instant::now();
    let name = &arguments.name;
    let tell = |text: &str| eprintln!("cluster {name}: {:5.1} s  {text}", started.elapsed().as_secs_f32());
    let cluster = open(backend, name)?;
    match &arguments.verb {
        Verb::Install => _ = program::install(&tell)?,
        Verb::Up => cluster.up(&tell).map(|()| tell("up"))?,
        Verb::Down => cluster.down().map(|()| tell("down"))?,
        Verb::Status => return status(cluster.as_ref()),
        Verb::Kubeconfig => println!("{}", cluster.kubeconfig()?.display()),
        Verb::LoadImage { tars } => {
            for tar in tars {
                cluster.load_image(tar)?;
                tell(&format!("loaded {}", tar.display()));
            }
        }
        Verb::Logs { into } => cluster.logs(into)?,
        Verb::Run { command } => return inside(cluster.as_ref(), command),
        Verb::StopApiserver => cluster.stop_apiserver()?,
        Verb::StartApiserver => cluster.start_apiserver()?,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn status(cluster: &dyn Cluster) -> Result<ExitCode> {
    let status = cluster.status()?;
    println!("{}: {:?}", cluster.name(), status.state);
    for (component, runs) in &status.components {
        println!("  {component}: {}", if *runs { "runs" } else { "does not run" });
    }
    Ok(if status.state == State::Running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn inside(cluster: &dyn Cluster, words: &[String]) -> Result<ExitCode> {
    let (program, arguments) = words.split_first().context("a program is required")?;
    // Its own kubectl, whose version is the server's.
    let mut command = if program == "kubectl" { cluster.kubectl()? } else { cluster.command(program.as_ref())? };
    let status = command.args(arguments).status().with_context(|| format!("cannot run {program}"))?;
    Ok(ExitCode::from(status.code().and_then(|it| u8::try_from(it).ok()).unwrap_or(1)))
}
