//! From what is wanted to the rules that do it: Istio's rules in Istio's order
//! (`tools/istio-iptables/pkg/capture/run.go`). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::config::{Config, Dns, Families, Inbound, Invalid, Mode, Outbound, Owner, OwnerGroups};
use super::rule::{Chain, Family, Match, Protocol, Rule, Table, Target};

/// Where the agent's DNS proxy listens.
const DNS_PROXY_PORT: u16 = 15053;
const DNS_PORT: u16 = 53;
/// Mark of what Envoy sends to the application by the pod's own address, so that TPROXY takes it in (TPROXY mode).
const OUTBOUND_MARK: u32 = 1338;
/// conntrack zone of DNS between the agent and the real servers.
const ZONE_UPSTREAM: u16 = 1;
/// conntrack zone of DNS between applications and the agent. Two zones, or replies of the one are taken for the other's.
const ZONE_CLIENT: u16 = 2;
/// Source address of what Envoy's inbound side sends to the application.
const PASSTHROUGH_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
pub(super) const PASSTHROUGH_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

const TCP: Match = Match::Protocol(Protocol::Tcp);
const UDP: Match = Match::Protocol(Protocol::Udp);

/// All rules, in order.
#[must_use]
pub fn rules(config: &Config) -> Vec<Rule> {
    let mut plan = Plan { config, rules: Vec::new() };
    plan.interfaces();
    plan.invalid();
    plan.entrances();
    plan.inbound();
    plan.outbound();
    if config.mode == Mode::Tproxy {
        plan.tproxy_marks();
    }
    let families = config.families;
    plan.rules.retain(|rule| rule.family != Family::V6 || families == Families::V4AndV6);
    plan.rules
}

/// A user or a group: the same rules in two spellings.
#[derive(Clone, Copy)]
enum Who<'a> {
    User(&'a Owner),
    Group(&'a Owner),
}

impl Who<'_> {
    fn is(self) -> Match {
        match self {
            Who::User(owner) => Match::User(owner.clone()),
            Who::Group(owner) => Match::Group(owner.clone()),
        }
    }

    fn is_not(self) -> Match {
        match self {
            Who::User(owner) => Match::NotUser(owner.clone()),
            Who::Group(owner) => Match::NotGroup(owner.clone()),
        }
    }
}

struct Plan<'a> {
    config: &'a Config,
    rules: Vec<Rule>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, table: Table, chain: Chain, matches: Vec<Match>, target: Target) {
        self.rules.push(Rule::append(table, chain, matches, target));
    }

    fn nat(&mut self, chain: Chain, matches: Vec<Match>, target: Target) {
        self.add(Table::Nat, chain, matches, target);
    }

    fn mangle(&mut self, chain: Chain, matches: Vec<Match>, target: Target) {
        self.add(Table::Mangle, chain, matches, target);
    }

    /// One rule for each family, with the family's address in it.
    fn for_each(
        &mut self,
        (v4, v6): (IpNet, IpNet),
        table: Table,
        chain: Chain,
        target: Target,
        matches: impl Fn(IpNet) -> Vec<Match>,
    ) {
        self.rules.push(Rule::append(table, chain, matches(v4), target).of(Family::V4));
        self.rules.push(Rule::append(table, chain, matches(v6), target).of(Family::V6));
    }

    fn loopback(&self) -> (IpNet, IpNet) {
        (IpNet::V4(self.config.loopback), host(IpAddr::V6(Ipv6Addr::LOCALHOST)))
    }

    fn owners(&self) -> Vec<Who<'a>> {
        let config = self.config;
        config.users.iter().map(Who::User).chain(config.groups.iter().map(Who::Group)).collect()
    }

    fn interfaces(&mut self) {
        let config = self.config;
        let tables: &[Table] = match config.mode {
            Mode::Redirect => &[Table::Nat],
            Mode::Tproxy => &[Table::Nat, Table::Mangle],
        };
        for &table in tables {
            for interface in &config.interfaces_excluded {
                self.add(table, Chain::Prerouting, vec![Match::In(interface.clone())], Target::Return);
                self.add(table, Chain::Output, vec![Match::Out(interface.clone())], Target::Return);
            }
        }
        for interface in &config.virtual_interfaces {
            let matches = vec![Match::In(interface.clone())];
            self.rules.push(Rule::append(Table::Nat, Chain::Prerouting, matches, Target::Return).at(1));
        }
    }

    fn invalid(&mut self) {
        if self.config.invalid == Invalid::Dropped {
            let invalid = vec![Match::State(super::rule::State::Invalid)];
            self.mangle(Chain::Prerouting, invalid, Target::Jump(Chain::Drop));
            self.mangle(Chain::Drop, vec![], Target::Drop);
        }
    }

    fn entrances(&mut self) {
        let config = self.config;
        let tunnel = vec![TCP, Match::ToPort(Protocol::Tcp, config.tunnel_port)];
        self.nat(Chain::Inbound, tunnel, Target::Return);
        self.nat(Chain::Redirect, vec![TCP], Target::Redirect(config.outbound_port));
        self.nat(Chain::InRedirect, vec![TCP], Target::Redirect(config.inbound_port));
    }

    fn inbound(&mut self) {
        let config = self.config;
        let (table, capture) = match config.mode {
            Mode::Redirect => (Table::Nat, Chain::InRedirect),
            Mode::Tproxy => (Table::Mangle, Chain::Tproxy),
        };
        if config.inbound == Inbound::Nothing {
            return;
        }
        if config.mode == Mode::Tproxy {
            self.mangle(Chain::Divert, vec![], Target::SetMark(config.tproxy_mark));
            self.mangle(Chain::Divert, vec![], Target::Accept);
            let target = Target::Tproxy { port: config.inbound_port, mark: config.tproxy_mark };
            self.for_each(self.loopback(), Table::Mangle, Chain::Tproxy, target, |loopback| {
                vec![Match::NotTo(loopback), TCP]
            });
        }
        self.add(table, Chain::Prerouting, vec![TCP], Target::Jump(Chain::Inbound));
        let ports: Vec<Vec<Match>> = match &config.inbound {
            Inbound::Nothing => Vec::new(),
            Inbound::AllBut(excluded) => {
                for &port in excluded {
                    self.add(table, Chain::Inbound, vec![TCP, Match::ToPort(Protocol::Tcp, port)], Target::Return);
                }
                vec![vec![TCP]]
            }
            Inbound::Only(ports) => ports.iter().map(|&port| vec![TCP, Match::ToPort(Protocol::Tcp, port)]).collect(),
        };
        for matches in ports {
            if config.mode == Mode::Tproxy {
                let mut known = matches.clone();
                known.push(Match::State(super::rule::State::Known));
                self.mangle(Chain::Inbound, known, Target::Jump(Chain::Divert));
            }
            self.add(table, Chain::Inbound, matches, Target::Jump(capture));
        }
    }

    fn outbound(&mut self) {
        let config = self.config;
        self.nat(Chain::Output, vec![], Target::Jump(Chain::OutputOurs));
        // Before connections to oneself are looked at.
        for &port in &config.outbound_ports_excluded {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let matches = vec![Match::Protocol(protocol), Match::ToPort(protocol, port)];
                self.nat(Chain::OutputOurs, matches, Target::Return);
            }
        }
        let passthrough = (host(IpAddr::V4(PASSTHROUGH_V4)), host(IpAddr::V6(PASSTHROUGH_V6)));
        self.for_each(passthrough, Table::Nat, Chain::OutputOurs, Target::Return, |address| {
            vec![Match::OutLoopback, Match::From(address)]
        });
        for who in self.owners() {
            self.own_traffic(who);
        }
        self.owner_groups();
        self.dns();
        self.for_each(self.loopback(), Table::Nat, Chain::OutputOurs, Target::Return, |loopback| {
            vec![Match::To(loopback)]
        });
        for range in in_family_order(&config.outbound_excluded) {
            let rule = Rule::append(Table::Nat, Chain::OutputOurs, vec![Match::To(range)], Target::Return);
            self.rules.push(rule.of(Family::of(range.addr())));
        }
        for &port in &config.outbound_ports_included {
            let matches = vec![TCP, Match::ToPort(Protocol::Tcp, port)];
            self.nat(Chain::OutputOurs, matches, Target::Jump(Chain::Redirect));
        }
        self.outbound_ranges();
    }

    /// What Envoy itself sends: back in when it goes to the pod's own address, out untouched otherwise.
    fn own_traffic(&mut self, who: Who<'a>) {
        let config = self.config;
        // A DNS server at an address of the pod is asked by the agent, not by way of Envoy's inbound side. Istio has the
        // exception for users only.
        let not_ports = match (&config.dns, who) {
            (Dns::All | Dns::Servers(_), Who::User(_)) => {
                Match::NotToPorts(Protocol::Tcp, vec![DNS_PORT, config.tunnel_port])
            }
            _ => Match::NotToPort(Protocol::Tcp, config.tunnel_port),
        };
        let target = Target::Jump(Chain::InRedirect);
        self.for_each(self.loopback(), Table::Nat, Chain::OutputOurs, target, |loopback| {
            vec![Match::OutLoopback, Match::NotTo(loopback), TCP, not_ports.clone(), who.is()]
        });
        // From one container of the pod to another.
        if !config.outbound.names_loopback() {
            let matches = match config.dns {
                Dns::Nothing => vec![Match::OutLoopback, who.is_not()],
                // A DNS server on localhost is captured all the same.
                Dns::All | Dns::Servers(_) => {
                    vec![Match::OutLoopback, TCP, Match::NotToPort(Protocol::Tcp, DNS_PORT), who.is_not()]
                }
            };
            self.nat(Chain::OutputOurs, matches, Target::Return);
        }
        self.nat(Chain::OutputOurs, vec![who.is()], Target::Return);
    }

    fn owner_groups(&mut self) {
        match &self.config.owner_groups {
            OwnerGroups::AllBut(groups) => {
                for group in groups {
                    self.nat(Chain::OutputOurs, vec![Match::Group(group.clone())], Target::Return);
                }
            }
            OwnerGroups::Only(groups) => {
                let matches = groups.iter().cloned().map(Match::NotGroup).collect();
                self.nat(Chain::OutputOurs, matches, Target::Return);
            }
        }
    }

    fn outbound_ranges(&mut self) {
        let config = self.config;
        let target = Target::Jump(Chain::Redirect);
        match &config.outbound {
            Outbound::All => {
                self.nat(Chain::OutputOurs, vec![], target);
                for interface in &config.virtual_interfaces {
                    let matches = vec![Match::In(interface.clone())];
                    self.rules.push(Rule::append(Table::Nat, Chain::Prerouting, matches, target).at(1));
                }
            }
            Outbound::Only(ranges) => {
                for range in in_family_order(ranges) {
                    let family = Family::of(range.addr());
                    for interface in &config.virtual_interfaces {
                        let matches = vec![Match::In(interface.clone()), Match::To(range)];
                        let rule = Rule::append(Table::Nat, Chain::Prerouting, matches, target);
                        self.rules.push(rule.at(1).of(family));
                    }
                    let rule = Rule::append(Table::Nat, Chain::OutputOurs, vec![Match::To(range)], target);
                    self.rules.push(rule.of(family));
                }
            }
        }
    }

    fn dns(&mut self) {
        let servers = match &self.config.dns {
            Dns::Nothing => return,
            Dns::All => vec![None],
            Dns::Servers(servers) => in_family_order_of_addresses(servers).into_iter().map(Some).collect(),
        };
        self.add(Table::Raw, Chain::Output, vec![], Target::Jump(Chain::OutputDns));
        let families = families_of(&servers);
        for &family in &families {
            let jump = Rule::append(Table::Nat, Chain::OutputOurs, vec![], Target::Jump(Chain::OutputDns));
            self.rules.push(jump.of(family));
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for &server in &servers {
                let mut matches = vec![Match::Protocol(protocol), Match::ToPort(protocol, DNS_PORT)];
                matches.extend(server.map(|server| Match::To(host(server))));
                let rule = Rule::append(Table::Nat, Chain::OutputDns, matches, Target::Redirect(DNS_PROXY_PORT));
                self.rules.push(rule.of(family_of(server)));
            }
        }
        self.dns_zones(&servers, &families);
    }

    fn dns_zones(&mut self, servers: &[Option<IpAddr>], families: &[Family]) {
        for who in self.owners() {
            let to_servers = vec![UDP, Match::ToPort(Protocol::Udp, DNS_PORT), who.is()];
            self.add(Table::Raw, Chain::OutputDns, to_servers, Target::Zone(ZONE_UPSTREAM));
            let to_clients = vec![UDP, Match::FromPort(Protocol::Udp, DNS_PROXY_PORT), who.is()];
            self.add(Table::Raw, Chain::OutputDns, to_clients, Target::Zone(ZONE_CLIENT));
        }
        for &family in families {
            let jump = Rule::append(Table::Raw, Chain::Prerouting, vec![], Target::Jump(Chain::Inbound));
            self.rules.push(jump.of(family));
        }
        for &server in servers {
            let mut asked = vec![UDP, Match::ToPort(Protocol::Udp, DNS_PORT)];
            asked.extend(server.map(|server| Match::To(host(server))));
            let rule = Rule::append(Table::Raw, Chain::OutputDns, asked, Target::Zone(ZONE_CLIENT));
            self.rules.push(rule.of(family_of(server)));
            let mut answered = vec![UDP, Match::FromPort(Protocol::Udp, DNS_PORT)];
            answered.extend(server.map(|server| Match::From(host(server))));
            let rule = Rule::append(Table::Raw, Chain::Inbound, answered, Target::Zone(ZONE_UPSTREAM));
            self.rules.push(rule.of(family_of(server)));
        }
    }

    /// TPROXY keeps the client's address as source, so replies are found by marks.
    fn tproxy_marks(&mut self) {
        let mark = self.config.tproxy_mark;
        // Envoy's original_src filter has set it.
        self.mangle(Chain::Prerouting, vec![TCP, Match::Mark(mark)], Target::SaveMark);
        self.mangle(Chain::Output, vec![TCP, Match::OutLoopback, Match::Mark(mark)], Target::Return);
        for who in self.owners() {
            let target = Target::SetMark(OUTBOUND_MARK);
            self.for_each(self.loopback(), Table::Mangle, Chain::Output, target, |loopback| {
                vec![Match::NotTo(loopback), TCP, Match::OutLoopback, who.is()]
            });
        }
        self.mangle(Chain::Output, vec![TCP, Match::ConnectionMark(mark)], Target::RestoreMark);
        let inbound = |matches| Rule::append(Table::Mangle, Chain::Inbound, matches, Target::Return);
        // No packet goes round twice.
        self.rules.push(inbound(vec![TCP, Match::Mark(mark)]).at(1));
        for address in [IpAddr::V4(PASSTHROUGH_V4), IpAddr::V6(PASSTHROUGH_V6)] {
            let matches = vec![TCP, Match::From(host(address)), Match::InLoopback];
            self.rules.push(inbound(matches).at(2).of(Family::of(address)));
        }
        // From the application to itself by the pod's address.
        self.rules.push(inbound(vec![TCP, Match::InLoopback, Match::NotMark(OUTBOUND_MARK)]).at(3));
    }
}

/// One address as a range.
fn host(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::from(address)),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::from(address)),
    }
}

fn in_family_order(ranges: &[IpNet]) -> Vec<IpNet> {
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|range| range.addr().is_ipv6());
    ranges
}

fn in_family_order_of_addresses(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

fn family_of(server: Option<IpAddr>) -> Family {
    server.map_or(Family::Any, Family::of)
}

fn families_of(servers: &[Option<IpAddr>]) -> Vec<Family> {
    let mut families: Vec<Family> = servers.iter().map(|&server| family_of(server)).collect();
    families.dedup();
    families
}
