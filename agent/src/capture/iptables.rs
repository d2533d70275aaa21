//! Rules in the language of `iptables-restore --noflush`. The order of rules and words is Istio's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::rule::{Chain, Family, Match, Place, Protocol, Rule, State, Table, Target};

/// What our chains are called all start with this.
const PREFIX: &str = "ISTIO_";

/// What `iptables-save` shows of chains of ours, and of jumps into them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By table and chain: how many rules.
    pub chains: BTreeMap<(String, String), usize>,
    /// By table: rules of the kernel's chains that jump into ours, as words after `-A`.
    pub jumps: BTreeMap<String, Vec<String>>,
}

/// The text that sets the rules of a family up where none are. Empty when there are none to set up.
#[must_use]
pub fn restore(rules: &[Rule], family: Family) -> String {
    let mut text = String::new();
    for table in [Table::Mangle, Table::Nat, Table::Raw] {
        let rules: Vec<&Rule> = of(rules, table, family).collect();
        if rules.is_empty() {
            continue;
        }
        let _ = writeln!(text, "* {}", table.name());
        for chain in chains(&rules) {
            let _ = writeln!(text, "-N {}", chain_name(chain));
        }
        for rule in rules {
            let _ = writeln!(text, "{}", line(rule, Verb::Add));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// The text that puts the rules in the place of what was found, one transaction a table. No rules: removes all of ours.
/// `present` are the rules of the kernel's own chains that are there today.
#[must_use]
pub fn replace(rules: &[Rule], family: Family, found: &Found, present: &[&Rule]) -> String {
    let mut text = String::new();
    for table in [Table::Mangle, Table::Nat, Table::Raw] {
        let wanted: Vec<&Rule> = of(rules, table, family).collect();
        let old = found.chains.keys().filter(|(name, _)| name == table.name()).map(|(_, chain)| chain.as_str());
        let new: BTreeSet<&str> = chains(&wanted).into_iter().map(chain_name).collect();
        let old: BTreeSet<&str> = old.collect();
        let jumps = found.jumps.get(table.name()).map(Vec::as_slice).unwrap_or_default();
        let present: Vec<&&Rule> = present.iter().filter(|rule| rule.table == table).collect();
        if wanted.is_empty() && old.is_empty() && jumps.is_empty() && present.is_empty() {
            continue;
        }
        let _ = writeln!(text, "*{}", table.name());
        // Under --noflush, declaring a chain that exists empties it.
        for chain in old.union(&new) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for jump in jumps {
            let _ = writeln!(text, "-D {jump}");
        }
        for rule in present {
            let _ = writeln!(text, "{}", line(rule, Verb::Delete));
        }
        for rule in wanted {
            let _ = writeln!(text, "{}", line(rule, Verb::Add));
        }
        for chain in old.difference(&new) {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Reads `iptables-save`.
#[must_use]
pub fn found(save: &str) -> Found {
    let mut found = Found::default();
    let mut table = "";
    for line in save.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if chain.starts_with(PREFIX) {
                found.chains.entry((table.to_owned(), chain.to_owned())).or_default();
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            if chain.starts_with(PREFIX) {
                *found.chains.entry((table.to_owned(), chain.to_owned())).or_default() += 1;
            } else if rule.contains(" -j ISTIO_") {
                found.jumps.entry(table.to_owned()).or_default().push(rule.to_owned());
            }
        }
    }
    found
}

/// What `found` would say if exactly these rules were in force.
#[must_use]
pub fn expected(rules: &[Rule], family: Family) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for table in [Table::Mangle, Table::Nat, Table::Raw] {
        let rules: Vec<&Rule> = of(rules, table, family).collect();
        for chain in chains(&rules) {
            let count = rules.iter().filter(|rule| rule.chain == chain).count();
            counts.insert((table.name().to_owned(), chain_name(chain).to_owned()), count);
        }
    }
    counts
}

/// The arguments of `iptables` that ask whether a rule is there.
#[must_use]
pub fn question(rule: &Rule) -> Vec<String> {
    let words = line(rule, Verb::Check);
    ["-t", rule.table.name()].into_iter().chain(words.split(' ')).map(str::to_owned).collect()
}

/// What a line does.
#[derive(Clone, Copy)]
enum Verb {
    Add,
    Delete,
    Check,
}

fn of(rules: &[Rule], table: Table, family: Family) -> impl Iterator<Item = &Rule> {
    rules.iter().filter(move |rule| rule.table == table && rule.family.includes(family))
}

/// Our chains in the order Istio declares them: those with rules, then those only jumped to.
fn chains(rules: &[&Rule]) -> Vec<Chain> {
    let with_rules = rules.iter().map(|rule| rule.chain);
    let jumped_to = rules.iter().filter_map(|rule| match rule.target {
        Target::Jump(chain) => Some(chain),
        _ => None,
    });
    let mut seen = Vec::new();
    for chain in with_rules.chain(jumped_to).filter(|chain| !chain.is_builtin()) {
        if !seen.contains(&chain) {
            seen.push(chain);
        }
    }
    seen
}

fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "PREROUTING",
        Chain::Output => "OUTPUT",
        Chain::Inbound => "ISTIO_INBOUND",
        Chain::Redirect => "ISTIO_REDIRECT",
        Chain::InRedirect => "ISTIO_IN_REDIRECT",
        Chain::OutputOurs => "ISTIO_OUTPUT",
        Chain::OutputDns => "ISTIO_OUTPUT_DNS",
        Chain::Divert => "ISTIO_DIVERT",
        Chain::Tproxy => "ISTIO_TPROXY",
        Chain::Drop => "ISTIO_DROP",
    }
}

fn line(rule: &Rule, verb: Verb) -> String {
    let chain = chain_name(rule.chain);
    let start = match (verb, rule.place) {
        (Verb::Add, Place::Append) => format!("-A {chain}"),
        (Verb::Add, Place::Insert(number)) => format!("-I {chain} {number}"),
        (Verb::Delete, _) => format!("-D {chain}"),
        (Verb::Check, _) => format!("-C {chain}"),
    };
    let mut words = vec![start];
    words.extend(rule.matches.iter().map(condition));
    words.push(format!("-j {}", target(rule)));
    words.join(" ")
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::In(interface) => format!("-i {}", interface.as_str()),
        Match::Out(interface) => format!("-o {}", interface.as_str()),
        Match::InLoopback => "-i lo".to_owned(),
        Match::OutLoopback => "-o lo".to_owned(),
        Match::Protocol(Protocol::Tcp) => "-p tcp".to_owned(),
        Match::Protocol(Protocol::Udp) => "-p udp".to_owned(),
        Match::ToPort(_, port) => format!("--dport {port}"),
        Match::NotToPort(_, port) => format!("! --dport {port}"),
        Match::NotToPorts(_, ports) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("-m multiport ! --dports {}", ports.join(","))
        }
        Match::FromPort(_, port) => format!("--sport {port}"),
        Match::To(range) => format!("-d {range}"),
        Match::NotTo(range) => format!("! -d {range}"),
        Match::From(range) => format!("-s {range}"),
        Match::User(owner) => format!("-m owner --uid-owner {owner}"),
        Match::NotUser(owner) => format!("-m owner ! --uid-owner {owner}"),
        Match::Group(owner) => format!("-m owner --gid-owner {owner}"),
        Match::NotGroup(owner) => format!("-m owner ! --gid-owner {owner}"),
        Match::State(State::Known) => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
        Match::State(State::Invalid) => "-m conntrack --ctstate INVALID".to_owned(),
        Match::Mark(mark) => format!("-m mark --mark {mark}"),
        Match::NotMark(mark) => format!("-m mark ! --mark {mark}"),
        Match::ConnectionMark(mark) => format!("-m connmark --mark {mark}"),
    }
}

fn target(rule: &Rule) -> String {
    match rule.target {
        Target::Return => "RETURN".to_owned(),
        Target::Accept => "ACCEPT".to_owned(),
        Target::Drop => "DROP".to_owned(),
        Target::Jump(chain) => chain_name(chain).to_owned(),
        // Istio spells the option differently for UDP; both are the same to iptables.
        Target::Redirect(port) if rule.matches.contains(&Match::Protocol(Protocol::Udp)) => {
            format!("REDIRECT --to-port {port}")
        }
        Target::Redirect(port) => format!("REDIRECT --to-ports {port}"),
        Target::SetMark(mark) => format!("MARK --set-mark {mark}"),
        Target::SaveMark => "CONNMARK --save-mark".to_owned(),
        Target::RestoreMark => "CONNMARK --restore-mark".to_owned(),
        Target::Zone(zone) => format!("CT --zone {zone}"),
        Target::Tproxy { port, mark } => format!("TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}"),
    }
}
