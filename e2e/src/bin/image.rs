//! `cargo xtask image`: navarch's images as tars, without Docker and without a registry.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use controller::envoy::find::{Search, find};
use deploy::image::{Image, Programs, app, pilot, proxy, stripped};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(bin_name = "cargo xtask image", about = "Images without a registry")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Writes pilot.tar and proxyv2.tar
    Build {
        /// The program, as cargo built it
        #[arg(long)]
        navarch: PathBuf,
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
        tag: String,
        /// One that is on this machine; else it is looked for, and fetched
        #[arg(long)]
        envoy: Option<PathBuf>,
    },
    /// Writes an image of navarch under another name: `app IMAGE -- service --image IMAGE`
    App {
        reference: String,
        #[arg(long)]
        navarch: PathBuf,
        /// The tar
        #[arg(long)]
        out: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Build { navarch, out, tag, envoy } => {
            std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
            let envoy = find(&Search::from_environment(envoy))?;
            let (_scratch, navarch) = copy(&navarch)?;
            let programs = Programs::find(&navarch, &envoy.path)?;
            write(&pilot(&programs, &tag)?, &out.join("pilot.tar"))?;
            write(&proxy(&programs, &tag)?, &out.join("proxyv2.tar"))
        }
        Verb::App { reference, navarch, out, arguments } => {
            let (_scratch, navarch) = copy(&navarch)?;
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            write(&app(&reference, &navarch, &arguments)?, &out)
        }
    }
}

/// What is in the image has no debug information.
fn copy(navarch: &Path) -> Result<(tempfile::TempDir, PathBuf)> {
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("navarch");
    stripped(navarch, &path)?;
    Ok((scratch, path))
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn write(image: &Image, path: &Path) -> Result<()> {
    let id = image.write(path)?;
    let bytes = std::fs::metadata(path)?.len();
    println!("{}  {}  {} MB  sha256:{id}", path.display(), image.references.join(", "), bytes >> 20);
    Ok(())
}
