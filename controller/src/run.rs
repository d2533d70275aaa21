//! From the command line to an exit code: 0 all is well, 1 something failed, 2 the call or the folder is wrong.

use crate::args::{Args, Command, Up};
use crate::client::Client;
use crate::envoy::find::{self, Search};
use crate::up::check::{Unfit, check};
use crate::up::mesh::{Mesh, Options};
use crate::up::process::{self, Launcher};
use crate::up::view::View;
use anyhow::{Context, Result};
use source::files::LoadError;
use source::mesh_config::MissingMeshConfig;
use std::io::IsTerminal;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

pub fn run(args: Args) -> ExitCode {
    let done = match args.command {
        // Wrong input is all that can go wrong with these.
        Command::Translate(args) => {
            crate::translate::run(&args).map(|()| ExitCode::SUCCESS).map_err(|why| (why, USAGE))
        }
        Command::Exec(it) => {
            let why = process::exec(&it.program, &it.arguments);
            Err((anyhow::Error::new(why).context(format!("cannot start {}", it.program.display())), FAILED))
        }
        Command::Discovery(args) => discovery(*args).map_err(|why| (why, FAILED)),
        Command::Agent(args) => Ok(agent::cli::run(args)),
        Command::Deploy(command) => deploy(&command).map_err(|why| (why, FAILED)),
        Command::KubeInject(args) => webhook::cli::run(&args).map(|()| ExitCode::SUCCESS).map_err(|why| (why, USAGE)),
        Command::Request(args) => request(&args).map_err(|why| (why, FAILED)),
        Command::Service(args) => service(&args).map_err(|why| (why, FAILED)),
        Command::Up(args) => up(args).map_err(|why| {
            let is_input = why.is::<LoadError>() || why.is::<MissingMeshConfig>() || why.is::<Unfit>();
            (why, if is_input { USAGE } else { FAILED })
        }),
    };
    done.unwrap_or_else(|(why, code)| {
        eprintln!("navarch: {why:#}");
        code.into()
    })
}

fn discovery(args: crate::discovery::Discovery) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { crate::discovery::run(args, stop()?).await })?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn deploy(command: &deploy::cli::Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(deploy::cli::run(command, &mut std::io::stdout(), &mut std::io::stderr()))?;
    Ok(ExitCode::SUCCESS)
}

fn request(args: &crate::args::Request) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("http://127.0.0.1:{}/{}", args.port, args.path.trim_start_matches('/'));
    let answer = runtime.block_on(Client::direct().get(&url, &http::HeaderMap::new()))?;
    println!("{}", answer.body());
    anyhow::ensure!(answer.status().is_success(), "{url} answered {}", answer.status());
    Ok(ExitCode::SUCCESS)
}

fn service(args: &crate::args::Service) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { crate::service::run(args, stop()?).await })?;
    Ok(ExitCode::SUCCESS)
}

fn up(args: Up) -> Result<ExitCode> {
    let envoy = find::find(&Search::from_environment(args.envoy.clone()))?;
    let scratch = tempfile::Builder::new().prefix("navarch-up-").tempdir()?;
    let run_dir = match &args.run_dir {
        None => scratch.path().to_owned(),
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            dir.canonicalize()?
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let stop = stop()?;
        match args.check {
            true => check_folder(args, envoy, run_dir, stop).await,
            false => run_folder(args, envoy, run_dir, stop).await.map(|()| ExitCode::SUCCESS),
        }
    });
    // Whatever is still blocked (a look at the folder) must not hold up the end.
    runtime.shutdown_background();
    done
}

async fn run_folder(args: Up, envoy: find::Envoy, run_dir: PathBuf, stop: impl Future<Output = ()>) -> Result<()> {
    let view = match (args.json, std::io::stdout().is_terminal()) {
        (true, _) => View::json(),
        (false, true) => View::Screen,
        (false, false) => View::lines(),
    };
    let options = Options {
        folder: args.dir,
        mesh_config: args.mesh_config,
        ingress: Some(args.ingress.unwrap_or(Ipv4Addr::LOCALHOST)),
        envoy,
        launcher: Launcher::of_this_program(),
        run_dir,
    };
    let (mesh, _status) = Mesh::prepare(options, view).await?;
    mesh.run(stop).await
}

async fn check_folder(
    args: Up,
    envoy: find::Envoy,
    run_dir: PathBuf,
    stop: impl Future<Output = ()>,
) -> Result<ExitCode> {
    let options = Options {
        folder: args.dir,
        mesh_config: args.mesh_config,
        ingress: args.ingress,
        envoy,
        launcher: Launcher::of_this_program(),
        run_dir,
    };
    let verdict = check(options, stop, |step| eprintln!("{step}")).await?;
    for reason in &verdict.reasons {
        eprintln!("not ok: {reason}");
    }
    match args.json {
        true => println!("{}", serde_json::to_string(&verdict)?),
        false => println!("{verdict}"),
    }
    Ok(if verdict.ok { ExitCode::SUCCESS } else { FAILED.into() })
}

/// Ends when the user, or whoever started this, asks for it.
fn stop() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
