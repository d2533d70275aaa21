//! The parts of resolv.conf that matter here. Pure.

use std::net::{IpAddr, SocketAddr};

/// Servers and search list. Unknown lines are passed over, as resolvers do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver`, port 53.
    pub servers: Vec<SocketAddr>,
    /// `search`, the last line counts; without dots at the end.
    pub search: Vec<String>,
}

const DNS_PORT: u16 = 53;

impl ResolvConf {
    /// Reads the file's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A zone (fe80::1%eth0) has no number here; such a server cannot be asked by address alone.
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    parsed.servers.extend(server.map(|ip| SocketAddr::new(ip, DNS_PORT)));
                }
                Some("search" | "domain") => {
                    parsed.search = words.map(|word| word.trim_end_matches('.').to_ascii_lowercase()).collect();
                }
                _ => {}
            }
        }
        parsed
    }
}
