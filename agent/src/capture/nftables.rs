//! Rules as an `nft -f` script: the tables `istio-proxy-nat`, `-mangle` and `-raw` of the family `inet`, each replaced as
//! a whole. nft takes a file as one transaction, so there is no moment without rules.

use std::fmt::Write as _;

use super::config::{Families, Interface};
use super::rule::{Chain, Family, Match, Place, Protocol, Rule, State, Table, Target};

/// All tables of ours.
const TABLES: [Table; 3] = [Table::Nat, Table::Mangle, Table::Raw];

/// The script that puts the rules in the place of whatever is in our tables.
#[must_use]
pub fn script(rules: &[Rule], families: Families) -> String {
    let mut text = remove();
    for table in TABLES {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.table == table && wanted(rule, families)).collect();
        if !rules.is_empty() {
            self::table(&mut text, table, &rules, families);
        }
    }
    text
}

/// The script that removes our tables, there or not.
#[must_use]
pub fn remove() -> String {
    let mut text = String::new();
    for table in TABLES {
        let name = table_name(table);
        // Deleting what is not there is an error, adding what is there is none.
        let _ = writeln!(text, "add table inet {name}\ndelete table inet {name}");
    }
    text
}

fn wanted(rule: &Rule, families: Families) -> bool {
    rule.family != Family::V6 || families == Families::V4AndV6
}

fn table(text: &mut String, table: Table, rules: &[&Rule], families: Families) {
    let name = table_name(table);
    let _ = writeln!(text, "add table inet {name}");
    let mut chains: Vec<Chain> = Vec::new();
    for rule in rules {
        let jumped_to = match rule.target {
            Target::Jump(chain) => Some(chain),
            _ => None,
        };
        for chain in [Some(rule.chain), jumped_to].into_iter().flatten() {
            if !chains.contains(&chain) {
                chains.push(chain);
            }
        }
    }
    for &chain in &chains {
        let _ = writeln!(text, "add chain inet {name} {}{}", chain_name(chain), hook(table, chain));
        // iptables without ip6tables leaves IPv6 alone; a table of the family inet would not.
        if chain.is_builtin() && families == Families::V4 {
            let _ = writeln!(text, "add rule inet {name} {} meta nfproto ipv6 counter accept", chain_name(chain));
        }
    }
    for chain in chains {
        for rule in in_order(rules, chain) {
            let _ = writeln!(text, "add rule inet {name} {} {}", chain_name(chain), statement(rule));
        }
    }
}

/// The rules of a chain as they will stand, insertions done.
fn in_order<'a>(rules: &[&'a Rule], chain: Chain) -> Vec<&'a Rule> {
    let mut standing = Vec::new();
    for &rule in rules.iter().filter(|rule| rule.chain == chain) {
        match rule.place {
            Place::Append => standing.push(rule),
            Place::Insert(number) => standing.insert(number.saturating_sub(1).min(standing.len()), rule),
        }
    }
    standing
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Nat => "istio-proxy-nat",
        Table::Mangle => "istio-proxy-mangle",
        Table::Raw => "istio-proxy-raw",
    }
}

fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        Chain::Inbound => "istio-inbound",
        Chain::Redirect => "istio-redirect",
        Chain::InRedirect => "istio-in-redirect",
        Chain::OutputOurs => "istio-output",
        Chain::OutputDns => "istio-output-dns",
        Chain::Divert => "istio-divert",
        Chain::Tproxy => "istio-tproxy",
        Chain::Drop => "istio-drop",
    }
}

/// Where the kernel calls a base chain; the priorities are those of iptables' tables.
fn hook(table: Table, chain: Chain) -> &'static str {
    match (table, chain) {
        (Table::Nat, Chain::Prerouting) => " { type nat hook prerouting priority -100 ; }",
        (Table::Nat, Chain::Output) => " { type nat hook output priority -100 ; }",
        (Table::Mangle, Chain::Prerouting) => " { type filter hook prerouting priority -150 ; }",
        // `route`, because a mark set here must be looked at by the routing that follows.
        (Table::Mangle, Chain::Output) => " { type route hook output priority -150 ; }",
        (Table::Raw, Chain::Prerouting) => " { type filter hook prerouting priority -300 ; }",
        (Table::Raw, Chain::Output) => " { type filter hook output priority -300 ; }",
        _ => "",
    }
}

fn statement(rule: &Rule) -> String {
    let mut words: Vec<String> = Vec::new();
    let has_address =
        rule.matches.iter().any(|condition| matches!(condition, Match::To(_) | Match::NotTo(_) | Match::From(_)));
    match rule.family {
        Family::V4 if !has_address => words.push("meta nfproto ipv4".to_owned()),
        Family::V6 if !has_address => words.push("meta nfproto ipv6".to_owned()),
        Family::Any | Family::V4 | Family::V6 => {}
    }
    words.extend(rule.matches.iter().map(condition));
    words.push(target(rule));
    words.join(" ")
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::In(interface) => format!("iifname {}", quoted(interface)),
        Match::Out(interface) => format!("oifname {}", quoted(interface)),
        Match::InLoopback => "iifname \"lo\"".to_owned(),
        Match::OutLoopback => "oifname \"lo\"".to_owned(),
        Match::Protocol(protocol) => format!("meta l4proto {}", word(*protocol)),
        Match::ToPort(protocol, port) => format!("{} dport {port}", word(*protocol)),
        Match::NotToPort(protocol, port) => format!("{} dport != {port}", word(*protocol)),
        Match::NotToPorts(protocol, ports) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("{} dport != {{ {} }}", word(*protocol), ports.join(", "))
        }
        Match::FromPort(protocol, port) => format!("{} sport {port}", word(*protocol)),
        Match::To(range) => format!("{} daddr {range}", ip(range)),
        Match::NotTo(range) => format!("{} daddr != {range}", ip(range)),
        Match::From(range) => format!("{} saddr {range}", ip(range)),
        Match::User(owner) => format!("meta skuid {owner}"),
        Match::NotUser(owner) => format!("meta skuid != {owner}"),
        Match::Group(owner) => format!("meta skgid {owner}"),
        Match::NotGroup(owner) => format!("meta skgid != {owner}"),
        Match::State(State::Known) => "ct state related,established".to_owned(),
        Match::State(State::Invalid) => "ct state invalid".to_owned(),
        Match::Mark(mark) => format!("meta mark {mark}"),
        Match::NotMark(mark) => format!("meta mark != {mark}"),
        Match::ConnectionMark(mark) => format!("ct mark {mark}"),
    }
}

/// nft's wildcard is a star where iptables has a plus.
fn quoted(interface: &Interface) -> String {
    match interface.as_str().strip_suffix('+') {
        Some(start) => format!("\"{start}*\""),
        None => format!("\"{}\"", interface.as_str()),
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn ip(range: &ipnet::IpNet) -> &'static str {
    if range.addr().is_ipv4() { "ip" } else { "ip6" }
}

fn target(rule: &Rule) -> String {
    match rule.target {
        Target::Return => "counter return".to_owned(),
        Target::Accept => "counter accept".to_owned(),
        Target::Drop => "counter drop".to_owned(),
        Target::Jump(chain) => format!("counter jump {}", chain_name(chain)),
        Target::Redirect(port) => format!("counter redirect to :{port}"),
        Target::SetMark(mark) => format!("counter meta mark set {mark}"),
        Target::SaveMark => "counter ct mark set mark".to_owned(),
        Target::RestoreMark => "counter meta mark set ct mark".to_owned(),
        Target::Zone(zone) => format!("counter ct zone set {zone}"),
        Target::Tproxy { port, mark } => {
            let family = if rule.family == Family::V6 { "ip6" } else { "ip" };
            format!("tproxy {family} to :{port} meta mark set {mark} counter accept")
        }
    }
}
