//! Runs the tools: `iptables-restore` and `ip6tables-restore`, or `nft`. Applying twice changes nothing; applying other
//! rules replaces ours in one transaction a table, so there is no moment without capture.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::config::{Config, Families, Inbound, Mode};
use super::rule::{Family, Rule};
use super::{iptables, netlink, nftables, plan};

/// A tool failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The program could not be run.
    #[error("{program}: {error}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// The program refused.
    #[error("{program} failed ({status}): {stderr}\n{input}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
        /// What it was given.
        input: String,
    },
    /// There is no tool at all.
    #[error("neither iptables nor nft works here: {0}")]
    NoTool(String),
}

/// How long iptables waits for another program's lock.
const LOCK_WAIT: &str = "--wait=30";

/// Which tool, and where it is run.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The tool.
    pub backend: Backend,
    /// A network namespace to enter first (a file, as under /proc/PID/ns/net).
    pub namespace: Option<PathBuf>,
}

/// The tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// iptables; the ending of its programs' names: empty, `-nft` or `-legacy`.
    Iptables(&'static str),
    /// nft
    Nftables,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Iptables(ending) => write!(f, "iptables{ending}"),
            Self::Nftables => f.write_str("nft"),
        }
    }
}

/// Which tool the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// iptables if it works, nft otherwise.
    Any,
    /// `--force-iptables-binary`
    Iptables(&'static str),
    /// `--native-nftables`
    Nftables,
}

/// What applying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The rules are new, or in the place of older ones of ours.
    Changed,
    /// They were there.
    Unchanged,
}

impl Tools {
    /// Finds a tool that works here: a program may be there and the kernel have no part for it.
    ///
    /// # Errors
    /// When none works.
    pub fn find(wish: Wish, namespace: Option<PathBuf>) -> Result<Self, ApplyError> {
        let candidates: &[Backend] = match wish {
            Wish::Any => {
                &[Backend::Iptables(""), Backend::Iptables("-nft"), Backend::Iptables("-legacy"), Backend::Nftables]
            }
            Wish::Iptables(ending) => &[Backend::Iptables(ending)],
            Wish::Nftables => &[Backend::Nftables],
        };
        let mut problems = Vec::new();
        for backend in candidates {
            let tools = Self { backend: backend.clone(), namespace: namespace.clone() };
            let tried = match backend {
                Backend::Iptables(ending) => {
                    tools.run(&format!("iptables{ending}"), &[LOCK_WAIT, "-t", "nat", "-S", "OUTPUT"], "")
                }
                Backend::Nftables => tools.run("nft", &["list", "tables"], ""),
            };
            match tried {
                Ok(_) => return Ok(tools),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Err(ApplyError::NoTool(problems.join("; ")))
    }

    /// Brings the rules into force.
    ///
    /// # Errors
    /// When a tool fails. What was there before is then still there, in each table that failed.
    pub fn apply(&self, config: &Config, force: Force) -> Result<Outcome, ApplyError> {
        let rules = plan::rules(config);
        match &self.backend {
            Backend::Nftables => {
                self.run("nft", &["-f", "-"], &nftables::script(&rules, config.families))?;
                Ok(Outcome::Changed)
            }
            Backend::Iptables(ending) => {
                let mut outcome = Outcome::Unchanged;
                for family in families(config.families) {
                    if self.apply_family(&rules, *family, ending, force)? == Outcome::Changed {
                        outcome = Outcome::Changed;
                    }
                }
                Ok(outcome)
            }
        }
    }

    /// Removes every rule of ours, of both families.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn remove(&self, config: &Config) -> Result<(), ApplyError> {
        match &self.backend {
            Backend::Nftables => self.run("nft", &["-f", "-"], &nftables::remove()).map(drop),
            Backend::Iptables(ending) => {
                let rules = plan::rules(config);
                for family in families(config.families) {
                    let found = self.found(*family, ending)?;
                    let present = self.present(&rules, *family, ending, |rule| rule.chain.is_builtin());
                    let present: Vec<&Rule> = present.into_iter().filter(|rule| !is_jump(rule)).collect();
                    self.restore(&iptables::replace(&[], *family, &found, &present), *family, ending)?;
                }
                Ok(())
            }
        }
    }

    fn apply_family(&self, rules: &[Rule], family: Family, ending: &str, force: Force) -> Result<Outcome, ApplyError> {
        let found = self.found(family, ending)?;
        if found == iptables::Found::default() {
            self.restore(&iptables::restore(rules, family), family, ending)?;
            return Ok(Outcome::Changed);
        }
        let mine: Vec<&Rule> = rules.iter().filter(|rule| rule.family.includes(family)).collect();
        let same_shape = found.chains == iptables::expected(rules, family);
        let present = self.present(rules, family, ending, |rule| same_shape || rule.chain.is_builtin());
        if same_shape && present.len() == mine.len() && force == Force::No {
            return Ok(Outcome::Unchanged);
        }
        let own: Vec<&Rule> = present.into_iter().filter(|rule| rule.chain.is_builtin() && !is_jump(rule)).collect();
        self.restore(&iptables::replace(rules, family, &found, &own), family, ending)?;
        Ok(Outcome::Changed)
    }

    fn found(&self, family: Family, ending: &str) -> Result<iptables::Found, ApplyError> {
        let save = self.run(&format!("{}{ending}-save", program(family)), &[], "")?;
        Ok(iptables::found(&save))
    }

    /// The rules that are in force, asked one by one as the kernel shows them in other words than it was told.
    fn present<'a>(
        &self,
        rules: &'a [Rule],
        family: Family,
        ending: &str,
        which: impl Fn(&Rule) -> bool,
    ) -> Vec<&'a Rule> {
        let asked = rules.iter().filter(|rule| rule.family.includes(family) && which(rule));
        asked
            .filter(|rule| {
                let question = iptables::question(rule);
                let words: Vec<&str> = [LOCK_WAIT].into_iter().chain(question.iter().map(String::as_str)).collect();
                self.run(&format!("{}{ending}", program(family)), &words, "").is_ok()
            })
            .collect()
    }

    fn restore(&self, text: &str, family: Family, ending: &str) -> Result<(), ApplyError> {
        if text.is_empty() {
            return Ok(());
        }
        let program = format!("{}{ending}-restore", program(family));
        self.run(&program, &["--noflush", LOCK_WAIT], text).map(drop)
    }

    /// Routes and addresses the rules need: marked packets to `lo` (TPROXY), `::6` as a source address (IPv6 has only
    /// `::1` on `lo`, IPv4 all of 127/8).
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that they are there.
    pub fn routes(&self, config: &Config) -> Result<(), ApplyError> {
        let fails = |error| ApplyError::Run { program: "setting up addresses and routes".to_owned(), error };
        let Some(namespace) = &self.namespace else { return set_routes(config).map_err(fails) };
        // A thread of its own enters the namespace and ends there.
        let file = std::fs::File::open(namespace).map_err(fails)?;
        let inside = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                set_routes(config)
            });
            work.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread inside the namespace panicked")))
        });
        inside.map_err(fails)
    }

    /// Takes back what [`Self::routes`] did, as far as it is there.
    pub fn remove_routes(&self, config: &Config) {
        let (mark, table) = (config.tproxy_mark.to_string(), config.tproxy_table.to_string());
        for flag in ["-4", "-6"] {
            let _ = self.run("ip", &[flag, "rule", "del", "fwmark", &mark, "lookup", &table], "");
            let _ = self.run("ip", &[flag, "route", "flush", "table", &table], "");
        }
        let _ = self.run("ip", &["-6", "addr", "del", "::6/128", "dev", "lo"], "");
    }

    fn run(&self, program: &str, words: &[&str], input: &str) -> Result<String, ApplyError> {
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut net = OsString::from("--net=");
                net.push(namespace);
                let mut command = Command::new("nsenter");
                command.arg(net).arg(program);
                command
            }
        };
        let fails = |error| ApplyError::Run { program: program.to_owned(), error };
        let command = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(fails)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading says why on stderr; that is the error worth showing.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(fails)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(ApplyError::Failed {
            program: format!("{program} {}", words.join(" ")),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            input: input.to_owned(),
        })
    }
}

fn set_routes(config: &Config) -> std::io::Result<()> {
    if config.families == Families::V4AndV6 {
        netlink::add_loopback_address(plan::PASSTHROUGH_V6)?;
    }
    if config.mode == Mode::Redirect || config.inbound == Inbound::Nothing {
        return Ok(());
    }
    for family in families(config.families) {
        netlink::add_rule(*family, config.tproxy_mark, config.tproxy_table)?;
        netlink::add_local_route(*family, config.tproxy_table)?;
    }
    Ok(())
}

/// Whether rules already in force are written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They are left alone.
    No,
    /// `--force-apply`
    Yes,
}

fn is_jump(rule: &Rule) -> bool {
    matches!(rule.target, super::rule::Target::Jump(_))
}

fn program(family: Family) -> &'static str {
    if family == Family::V6 { "ip6tables" } else { "iptables" }
}

fn families(families: Families) -> &'static [Family] {
    match families {
        Families::V4 => &[Family::V4],
        Families::V4AndV6 => &[Family::V4, Family::V6],
    }
}
