//! What is to be captured, in types that cannot be wrong. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Everything the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Envoy's outbound listener (15001).
    pub outbound_port: u16,
    /// Envoy's inbound listener (15006).
    pub inbound_port: u16,
    /// The tunnel listener (15008), never captured.
    pub tunnel_port: u16,
    /// Users whose traffic is Envoy's own.
    pub users: Vec<Owner>,
    /// Groups whose traffic is Envoy's own.
    pub groups: Vec<Owner>,
    /// How inbound connections reach Envoy.
    pub mode: Mode,
    /// Mark of inbound packets in TPROXY mode.
    pub tproxy_mark: u32,
    /// Route table of marked packets.
    pub tproxy_table: u32,
    /// Inbound ports captured.
    pub inbound: Inbound,
    /// Outbound ports captured whatever their destination.
    pub outbound_ports_included: Vec<u16>,
    /// Outbound ports never captured.
    pub outbound_ports_excluded: Vec<u16>,
    /// Destinations captured.
    pub outbound: Outbound,
    /// Destinations never captured.
    pub outbound_excluded: Vec<IpNet>,
    /// Whose outbound traffic is captured.
    pub owner_groups: OwnerGroups,
    /// Interfaces left alone in both directions.
    pub interfaces_excluded: Vec<Interface>,
    /// Interfaces of virtual machines, whose inbound traffic counts as outbound.
    pub virtual_interfaces: Vec<Interface>,
    /// DNS sent to the agent.
    pub dns: Dns,
    /// What happens to packets conntrack calls invalid.
    pub invalid: Invalid,
    /// Address families with rules.
    pub families: Families,
    /// The destinations on `lo` that are between containers of the pod.
    pub loopback: Ipv4Net,
}

/// How inbound connections reach Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// NAT to the inbound port; the source address is kept, the destination is asked of conntrack.
    Redirect,
    /// Transparent proxying; both addresses are kept.
    Tproxy,
}

/// Inbound ports captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// None.
    Nothing,
    /// Every port but these.
    AllBut(Vec<u16>),
    /// These only.
    Only(Vec<u16>),
}

/// Outbound destinations captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// All.
    All,
    /// These only; an empty list captures nothing.
    Only(Vec<IpNet>),
}

/// Whose outbound traffic is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerGroups {
    /// Every group but these.
    AllBut(Vec<Owner>),
    /// These only.
    Only(Vec<Owner>),
}

/// DNS sent to the agent's proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// None.
    Nothing,
    /// All of port 53.
    All,
    /// Port 53 of these servers (those of resolv.conf). Never empty.
    Servers(Vec<IpAddr>),
}

/// What happens to packets conntrack calls invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Nothing.
    Kept,
    /// They are dropped.
    Dropped,
}

/// Address families with rules. IPv4 is always captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4.
    V4,
    /// IPv4 and IPv6.
    V4AndV6,
}

/// A user or group, by number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(String);

/// A network interface's name; a trailing `+` stands for any ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(String);

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {value:?} {reason}")]
pub struct ConfigError {
    /// The flag without its dashes.
    pub setting: &'static str,
    /// What was given.
    pub value: String,
    /// Why not.
    pub reason: String,
}

/// netfilter takes no longer rules than this many matches on all distributions.
pub const OWNER_GROUPS_MAX: usize = 64;

/// The kernel's own limit is 15 bytes and a terminator.
const INTERFACE_BYTES_MAX: usize = 15;

impl Default for Config {
    fn default() -> Self {
        Self {
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            users: vec![Owner("1337".to_owned())],
            groups: vec![Owner("1337".to_owned())],
            mode: Mode::Redirect,
            tproxy_mark: 1337,
            tproxy_table: 133,
            inbound: Inbound::Nothing,
            outbound_ports_included: Vec::new(),
            outbound_ports_excluded: Vec::new(),
            outbound: Outbound::Only(Vec::new()),
            outbound_excluded: Vec::new(),
            owner_groups: OwnerGroups::AllBut(Vec::new()),
            interfaces_excluded: Vec::new(),
            virtual_interfaces: Vec::new(),
            dns: Dns::Nothing,
            invalid: Invalid::Kept,
            families: Families::V4,
            loopback: Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32),
        }
    }
}

impl Outbound {
    /// Whether a loopback range is captured by name, which lifts the exception for the pod's own containers.
    #[must_use]
    pub fn names_loopback(&self) -> bool {
        matches!(self, Self::Only(ranges) if ranges.iter().any(|range| range.addr().is_loopback()))
    }
}

impl FromStr for Owner {
    type Err = String;

    /// These words end up in a rule file, so only what user and group names are made of is let through.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) {
            return Err("is neither a number nor a name".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | ':');
        let name = text.strip_suffix('+').unwrap_or(text);
        if text.is_empty() || text.len() > INTERFACE_BYTES_MAX || text.starts_with('-') || !name.chars().all(plain) {
            return Err("is not the name of a network interface".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Interface {
    /// As iptables writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The words of a comma separated list; empty ones are passed over, as Istio does.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Parses every word of a list.
///
/// # Errors
/// The first word that does not fit.
pub fn parse_list<T>(setting: &'static str, text: &str) -> Result<Vec<T>, ConfigError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    list(text)
        .map(|word| {
            word.parse().map_err(|error: T::Err| ConfigError {
                setting,
                value: word.to_owned(),
                reason: format!("cannot be used: {error}"),
            })
        })
        .collect()
}
