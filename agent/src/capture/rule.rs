//! A netfilter rule as a value, with the words both tools share.

use std::net::IpAddr;

use ipnet::IpNet;

use super::config::{Interface, Owner};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it is.
    pub table: Table,
    /// In which chain.
    pub chain: Chain,
    /// At which place.
    pub place: Place,
    /// For which packets; order is iptables' order of words.
    pub matches: Vec<Match>,
    /// What is done with them.
    pub target: Target,
    /// For which address family.
    pub family: Family,
}

/// Address family of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Both.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// A table of netfilter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Marks.
    Mangle,
    /// Addresses and ports.
    Nat,
    /// Before connection tracking.
    Raw,
}

/// A chain: the kernel's two, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// What arrives.
    Prerouting,
    /// What local programs send.
    Output,
    /// Arriving, to be judged.
    Inbound,
    /// To Envoy's outbound listener.
    Redirect,
    /// To Envoy's inbound listener.
    InRedirect,
    /// Sent, to be judged.
    OutputOurs,
    /// DNS sent.
    OutputDns,
    /// Of a connection Envoy already has (TPROXY).
    Divert,
    /// Of a new connection (TPROXY).
    Tproxy,
    /// Invalid packets.
    Drop,
}

/// Where in its chain a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the end.
    Append,
    /// As number n, from 1.
    Insert(usize),
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Arrives on the interface.
    In(Interface),
    /// Leaves by the interface.
    Out(Interface),
    /// Arrives on `lo`.
    InLoopback,
    /// Leaves by `lo`.
    OutLoopback,
    /// Is of the protocol.
    Protocol(Protocol),
    /// Goes to the port.
    ToPort(Protocol, u16),
    /// Goes to another port.
    NotToPort(Protocol, u16),
    /// Goes to none of the ports.
    NotToPorts(Protocol, Vec<u16>),
    /// Comes from the port.
    FromPort(Protocol, u16),
    /// Goes to the range.
    To(IpNet),
    /// Goes elsewhere.
    NotTo(IpNet),
    /// Comes from the range.
    From(IpNet),
    /// Was sent by the user.
    User(Owner),
    /// Was sent by somebody else.
    NotUser(Owner),
    /// Was sent by the group.
    Group(Owner),
    /// Was sent by another group.
    NotGroup(Owner),
    /// Has the conntrack state.
    State(State),
    /// Has the mark.
    Mark(u32),
    /// Has another mark, or none.
    NotMark(u32),
    /// Its connection has the mark.
    ConnectionMark(u32),
}

/// conntrack's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// RELATED or ESTABLISHED
    Known,
    /// INVALID
    Invalid,
}

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Back to the calling chain.
    Return,
    /// On its way.
    Accept,
    /// Thrown away.
    Drop,
    /// Judged by a chain of ours.
    Jump(Chain),
    /// To a local port.
    Redirect(u16),
    /// Marked.
    SetMark(u32),
    /// The packet's mark becomes the connection's.
    SaveMark,
    /// The connection's mark becomes the packet's.
    RestoreMark,
    /// Tracked in a zone of its own.
    Zone(u16),
    /// To the local port, addresses kept, and marked.
    Tproxy {
        /// The local port.
        port: u16,
        /// The mark.
        mark: u32,
    },
}

impl Table {
    /// iptables' name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }
}

impl Chain {
    /// Whether the kernel has it already.
    #[must_use]
    pub fn is_builtin(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output)
    }
}

impl Family {
    /// Whether a rule of this family is one of `other`, which is V4 or V6.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == Self::Any || self == other
    }

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl Rule {
    /// A rule at the end of a chain, for both families.
    #[must_use]
    pub fn append(table: Table, chain: Chain, matches: Vec<Match>, target: Target) -> Self {
        Self { table, chain, place: Place::Append, matches, target, family: Family::Any }
    }

    /// The same rule at place `number`.
    #[must_use]
    pub fn at(self, number: usize) -> Self {
        Self { place: Place::Insert(number), ..self }
    }

    /// The same rule for one family.
    #[must_use]
    pub fn of(self, family: Family) -> Self {
        Self { family, ..self }
    }
}
