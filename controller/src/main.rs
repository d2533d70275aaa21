//! The one program of navarch; see the library for what it does.

use clap::Parser;
use controller::args::{Args, Command};
use controller::log::{self, Format};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A control plane lists a whole cluster and keeps a small part of it: with glibc's allocator most of what the list took
/// stays with the process (measured: `cargo xtask bench memory`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse_from(spelled_out(std::env::args_os().collect()));
    match &args.command {
        Command::Discovery(it) => {
            log::start(&it.log_output_level, if it.log_as_json { Format::Json } else { Format::Text });
        }
        // It has flags of its own for that.
        Command::Agent(_) => {}
        _ => log::start("info", Format::Text),
    }
    controller::run::run(args)
}

/// In images the program has the names that pods call, too: `pilot-agent` is `navarch agent`. `pilot-discovery` needs
/// nothing: its first argument is the verb already.
fn spelled_out(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|it| Path::new(it).file_name().map(ToOwned::to_owned));
    if name.is_some_and(|it| it == "pilot-agent") {
        arguments.insert(1, "agent".into());
    }
    arguments
}
