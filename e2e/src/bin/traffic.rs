//! `cargo xtask e2e traffic`: live cases on real Envoys.

use clap::{Parser, ValueEnum};
use e2e::traffic::{Verdict, folder, groups, run};
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask e2e traffic",
    about = "What becomes of requests in a mesh of real Envoys, case by case"
)]
struct Arguments {
    /// Only the cases with this in `KIND/NAME: CASE`
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// text, or a JSON object a line
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn tell(verdict: &Verdict, output: Output) {
    let Verdict { name, took, wrong } = verdict;
    match (output, wrong.is_empty()) {
        (Output::Json, ok) => {
            println!("{}", json!({"case": name, "ok": ok, "ms": took.as_millis() as u64, "wrong": wrong}))
        }
        (Output::Text, true) => println!("ok      {:6.2} s  {name}", took.as_secs_f32()),
        (Output::Text, false) => {
            println!("FAILED  {:6.2} s  {name}", took.as_secs_f32());
            wrong.iter().for_each(|why| println!("                  {why}"));
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let verdicts = groups(&folder(), arguments.only.as_deref())
        .and_then(|groups| run(groups, |verdict| tell(verdict, arguments.output)));
    let verdicts = match verdicts {
        Ok(verdicts) => verdicts,
        Err(why) => {
            eprintln!("traffic: {why:#}");
            return ExitCode::FAILURE;
        }
    };
    let failed = verdicts.iter().filter(|it| !it.wrong.is_empty()).count();
    let passed = verdicts.len() - failed;
    if arguments.output == Output::Json {
        println!("{}", json!({"passed": passed, "failed": failed, "seconds": started.elapsed().as_secs_f32()}));
    } else {
        let result = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "test result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {:.0} s",
            started.elapsed().as_secs_f32()
        );
    }
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
