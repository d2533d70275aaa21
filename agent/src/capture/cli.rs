//! The verb `istio-iptables`.

/// Flags of `istio-iptables`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// Sets up, checks or removes the rules.
///
/// # Errors
/// A bad flag, or a tool that failed.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Args {} = args;
    Ok(())
}
