//! The repository's commands, as `cargo xtask VERB`: what CI runs and what a laptop runs are the same.
//!
//! Each step is one cargo invocation, so that what fails can be run again by hand.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, Stdio};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Runs what the repository needs")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything: formatting, lints, every test; ends with one line of totals
    Test {
        /// Passed on to `cargo test --workspace`, e.g. a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Benchmarks
    #[command(subcommand)]
    Bench(Bench),
    /// `navarch up --check`: the main job on real Envoys, under load, judged
    Check {
        /// Passed on to `navarch up`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A Kubernetes for tests: `cluster --help`
    #[command(disable_help_flag = true)]
    Cluster {
        /// Passed on to the program `cluster` of the crate `e2e`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Suites that need more than this machine's own processes
    #[command(subcommand)]
    E2e(E2e),
    /// navarch's images, without Docker and without a registry
    #[command(subcommand)]
    Image(Image),
}

#[derive(Subcommand)]
enum E2e {
    /// Live cases on real Envoys: `e2e traffic --help`
    #[command(disable_help_flag = true)]
    Traffic {
        /// Passed on to the program `traffic` of the crate `e2e`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// In a real Kubernetes, from an empty cluster to one that is empty again: `e2e kubernetes --help`
    #[command(disable_help_flag = true)]
    Kubernetes {
        /// Passed on to the program `kubernetes` of the crate `e2e`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Image {
    /// Builds navarch and writes pilot.tar and proxyv2.tar
    Build {
        /// dev or release
        #[arg(long, default_value = "release")]
        profile: String,
        #[arg(long, default_value = "target/image")]
        out: String,
        /// Passed on to the program `image` of the crate `e2e`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// What istiod's memory grows by for each pod, with 20,000 pods in a real Kubernetes
    Memory {
        /// Passed on to the program `kubernetes` of the crate `e2e`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The incremental engine with real translation: what a commit costs, and how much memory it all takes
    Engine {
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Test { arguments } => test(&arguments),
        Verb::Bench(Bench::Engine { arguments }) => {
            run(&["run", "--release", "--package", "world", "--example", "engine_bench", "--"], &arguments)
        }
        Verb::Bench(Bench::Memory { mut arguments }) => {
            if !arguments.iter().any(|it| it.starts_with("--pods")) {
                arguments.extend(["--pods".to_owned(), "20000".to_owned()]);
            }
            kubernetes(&arguments)
        }
        Verb::Cluster { arguments } => {
            program(&["run", "--quiet", "--package", "e2e", "--bin", "cluster", "--"], &arguments)
        }
        Verb::E2e(E2e::Kubernetes { arguments }) => kubernetes(&arguments),
        Verb::E2e(E2e::Traffic { arguments }) => traffic(&arguments),
        Verb::Image(Image::Build { profile, out, arguments }) => image(&profile, &out, &arguments),
        Verb::Check { arguments } => run(&["run", "--release", "--", "up", "--check", "--json"], &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[String]) -> Result<()> {
    step("formatting", &["fmt", "--all", "--check"])?;
    step("lints", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    // cargo builds a program for the tests of its own package only; e2e's tests start it, too.
    step("navarch for the end-to-end tests", &["build", "--package", "controller"])?;
    eprintln!("xtask: tests");
    let mut total = counted(&["test", "--workspace", "--no-fail-fast"], arguments)?;
    // Who asks for some tests by name does not ask for a cluster.
    if arguments.is_empty() {
        eprintln!("xtask: the suite in Kubernetes");
        let shorter = ["--outage-seconds".to_owned(), TEST_OUTAGE_SECONDS.to_owned()];
        total += counted(&kubernetes_arguments("dev", &navarch("debug")), &shorter)?;
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// How long the API server is away in `test`: longer than a renewal of certificates in the suite, shorter than the five
/// minutes of `e2e kubernetes`.
const TEST_OUTAGE_SECONDS: &str = "75";

/// Runs cargo, shows what it prints, and adds up the results in it.
fn counted(arguments: &[&str], more: &[String]) -> Result<Totals> {
    let mut cargo = cargo(arguments).args(more).stdout(Stdio::piped()).spawn()?;
    let output = cargo.stdout.take().context("cargo's output is piped")?;
    let mut total = Totals::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo's output")?;
        println!("{line}");
        total += Totals::of_line(&line).unwrap_or_default();
    }
    let status = cargo.wait()?;
    if !status.success() {
        eprintln!("xtask: cargo {} ended with {status}", arguments.join(" "));
    }
    // A test binary that dies prints no result of its own, and must not look like success.
    total.failed = total.failed.max(u64::from(!status.success()));
    Ok(total)
}

/// The release build, as its users have it; the suite is built likewise, so that what both depend on is built once.
fn kubernetes(arguments: &[String]) -> Result<()> {
    let packages = ["--package", "controller", "--package", "e2e"];
    step("navarch and the suite", &[&["build", "--release", "--bins"][..], &packages].concat())?;
    program(&kubernetes_arguments("release", &navarch("release")), arguments)
}

/// As `cargo xtask test` builds everything.
fn traffic(arguments: &[String]) -> Result<()> {
    step("navarch", &["build", "--package", "controller"])?;
    program(&["run", "--quiet", "--package", "e2e", "--bin", "traffic", "--"], arguments)
}

fn kubernetes_arguments<'a>(profile: &'a str, navarch: &'a str) -> [&'a str; 11] {
    ["run", "--quiet", "--profile", profile, "--package", "e2e", "--bin", "kubernetes", "--", "--navarch", navarch]
}

/// The program, as cargo built it.
fn navarch(folder: &str) -> String {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    format!("{target}/{folder}/navarch")
}

fn image(profile: &str, out: &str, arguments: &[String]) -> Result<()> {
    step("navarch", &["build", "--package", "controller", "--profile", profile])?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let navarch = navarch(folder);
    let build = ["run", "--quiet", "--package", "e2e", "--bin", "image", "--", "build", "--navarch", &navarch];
    run(&[&build[..], &["--out", out]].concat(), arguments)
}

/// A program whose exit status says something of its own: a status that is not success is no error of ours.
fn program(arguments: &[&str], more: &[String]) -> Result<()> {
    let status = cargo(arguments).args(more).status().context("cannot run cargo")?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

fn step(what: &str, arguments: &[&str]) -> Result<()> {
    eprintln!("xtask: {what}");
    run(arguments, &[])
}

fn run(arguments: &[&str], more: &[String]) -> Result<()> {
    let status = cargo(arguments).args(more).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// The cargo that runs us, at the root of the repository.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Asked at run time: a program built in another checkout must not go back there.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    command.args(arguments).current_dir(std::path::Path::new(&here).join("../.."));
    command
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Totals {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut totals = Self::default();
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let field = match what {
                "passed" => &mut totals.passed,
                "failed" => &mut totals.failed,
                "ignored" => &mut totals.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
        }
        Some(totals)
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_summed_and_other_lines_are_not() {
        let mut total = Totals::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "test result_is_kept ... ok",
        ] {
            total += Totals::of_line(line).unwrap_or_default();
        }
        assert_eq!(total, Totals { passed: 4, failed: 2, skipped: 1 });
    }
}
