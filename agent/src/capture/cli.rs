//! The verbs `istio-iptables` and `istio-clean-iptables`, with pilot-agent's flags and environment variables.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::BoolishValueParser;

use super::apply::{Force, Outcome, Tools, Wish};
use super::check::{Check, CheckFamily};
use super::config::{
    Config, ConfigError, Dns, Families, Inbound, Invalid, Mode, OWNER_GROUPS_MAX, Outbound, OwnerGroups, list,
    parse_list,
};
use super::{iptables, nftables, plan, rule};
use crate::dns::ResolvConf;

/// Flags of `istio-iptables`. Names, short names and environment variables are pilot-agent's.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Port of Envoy to which outbound TCP traffic is redirected
    #[arg(short = 'p', long, default_value_t = 15001)]
    pub envoy_port: u16,
    /// Port of Envoy to which inbound TCP traffic is redirected
    #[arg(short = 'z', long, env = "INBOUND_CAPTURE_PORT", default_value_t = 15006)]
    pub inbound_capture_port: u16,
    /// Port of the tunnel listener, never captured
    #[arg(short = 'e', long, env = "INBOUND_TUNNEL_PORT", default_value_t = 15008)]
    pub inbound_tunnel_port: u16,
    /// Users (comma separated) whose traffic is not captured: the proxy's
    #[arg(short = 'u', long, env = "PROXY_UID", default_value = "")]
    pub proxy_uid: String,
    /// Groups (comma separated) whose traffic is not captured; default: as the users
    #[arg(short = 'g', long, env = "PROXY_GID", default_value = "")]
    pub proxy_gid: String,
    /// How inbound connections reach Envoy: REDIRECT or TPROXY
    #[arg(short = 'm', long, env = "ISTIO_INBOUND_INTERCEPTION_MODE", default_value = "")]
    pub istio_inbound_interception_mode: String,
    /// Inbound ports to capture, comma separated; * for all, empty for none
    #[arg(short = 'b', long, env = "ISTIO_INBOUND_PORTS", default_value = "")]
    pub istio_inbound_ports: String,
    /// Inbound ports not to capture when all others are
    #[arg(short = 'd', long, env = "ISTIO_LOCAL_EXCLUDE_PORTS", default_value = "")]
    pub istio_local_exclude_ports: String,
    /// Network interfaces whose traffic is left alone
    #[arg(short = 'c', long, env = "ISTIO_EXCLUDE_INTERFACES", default_value = "")]
    pub istio_exclude_interfaces: String,
    /// Outbound IP ranges to capture, comma separated; * for all, empty for none
    #[arg(short = 'i', long, env = "ISTIO_SERVICE_CIDR", default_value = "")]
    pub istio_service_cidr: String,
    /// Outbound IP ranges not to capture when all others are
    #[arg(short = 'x', long, env = "ISTIO_SERVICE_EXCLUDE_CIDR", default_value = "")]
    pub istio_service_exclude_cidr: String,
    /// Outbound ports to capture whatever the destination
    #[arg(short = 'q', long, env = "ISTIO_OUTBOUND_PORTS", default_value = "")]
    pub istio_outbound_ports: String,
    /// Outbound ports not to capture
    #[arg(short = 'o', long, env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", default_value = "")]
    pub istio_local_outbound_ports_exclude: String,
    /// Interfaces of virtual machines whose inbound traffic counts as outbound
    #[arg(short = 'k', long, env = "KUBE_VIRT_INTERFACES", default_value = "")]
    pub kube_virt_interfaces: String,
    /// Mark of inbound packets in TPROXY mode
    #[arg(short = 't', long, env = "ISTIO_INBOUND_TPROXY_MARK", default_value_t = 1337)]
    pub istio_inbound_tproxy_mark: u32,
    /// Route table of marked packets in TPROXY mode
    #[arg(short = 'r', long, env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE", default_value_t = 133)]
    pub istio_inbound_tproxy_route_table: u32,
    /// Print the rules and change nothing
    #[arg(short = 'n', long, env = "DRY_RUN", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub dry_run: bool,
    /// Port nobody listens on, used by --run-validation
    #[arg(long, env = "IPTABLES_PROBE_PORT", default_value_t = 15002)]
    pub iptables_probe_port: u16,
    /// How long --run-validation may take, as 5s or 500ms
    #[arg(long, env = "PROBE_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub probe_timeout: Duration,
    /// Set up no rules
    #[arg(long, env = "SKIP_RULE_APPLY", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub skip_rule_apply: bool,
    /// Prove with a connection that the rules bite
    #[arg(long, env = "RUN_VALIDATION", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub run_validation: bool,
    /// Send DNS to the agent (also ISTIO_META_DNS_CAPTURE)
    #[arg(long, env = "REDIRECT_DNS", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub redirect_dns: bool,
    /// Send all of port 53, not only that of resolv.conf's servers
    #[arg(long, env = "CAPTURE_ALL_DNS", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub capture_all_dns: bool,
    /// Drop packets that conntrack calls invalid (also INVALID_DROP)
    #[arg(long, env = "DROP_INVALID", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub drop_invalid: bool,
    /// Capture IPv6 as soon as the pod has any IPv6 address (also ISTIO_DUAL_STACK)
    #[arg(long, env = "DUAL_STACK", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub dual_stack: bool,
    /// Network namespace to work in (a file)
    #[arg(long, env = "NETWORK_NAMESPACE")]
    pub network_namespace: Option<PathBuf>,
    /// Accepted for Istio's sake: the namespace is entered either way
    #[arg(long, env = "CNI_MODE", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub cni_mode: bool,
    /// Accepted for Istio's sake: older rules of ours are always replaced
    #[arg(long, env = "RECONCILE", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub reconcile: bool,
    /// Remove our rules and set up none
    #[arg(long, env = "CLEANUP_ONLY", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub cleanup_only: bool,
    /// Write the rules again though they are in force
    #[arg(long, env = "FORCE_APPLY", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub force_apply: bool,
    /// Use nft instead of iptables
    #[arg(long, env = "NATIVE_NFTABLES", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub native_nftables: bool,
    /// Which iptables: legacy or nft
    #[arg(long, env = "FORCE_IPTABLES_BINARY", default_value = "", value_parser = ["", "legacy", "nft"])]
    pub force_iptables_binary: String,
}

/// What the rules depend on besides the flags.
pub struct Surroundings<'a> {
    /// Environment variables without a flag.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The pod's addresses, loopback and link-local ones left out.
    pub addresses: &'a [IpAddr],
    /// resolv.conf's servers.
    pub dns_servers: &'a [IpAddr],
}

/// Sets up, checks or removes the rules.
///
/// # Errors
/// A bad flag, or a tool that failed.
pub fn run(args: Args) -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let addresses = local_addresses();
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let dns_servers: Vec<IpAddr> =
        ResolvConf::parse(&resolv_conf).servers.iter().map(std::net::SocketAddr::ip).collect();
    let surroundings = Surroundings { variable: &variable, addresses: &addresses, dns_servers: &dns_servers };
    let config = args.config(&surroundings)?;
    if args.dry_run {
        print!("{}", args.preview(&config));
        return Ok(());
    }
    if !args.skip_rule_apply {
        args.apply(&config)?;
    }
    if args.run_validation && !args.cleanup_only {
        let family = match addresses.first() {
            Some(IpAddr::V6(_)) => CheckFamily::V6,
            _ => CheckFamily::V4,
        };
        let check = Check {
            outbound_port: config.outbound_port,
            inbound_port: config.inbound_port,
            probe_port: args.iptables_probe_port,
            family,
            timeout: args.probe_timeout,
        };
        check.run().context("the pod's traffic is not captured; it must not start")?;
        println!("validation passed: connections are redirected to Envoy");
    }
    Ok(())
}

/// Removes every rule of ours (`istio-clean-iptables`).
///
/// # Errors
/// A bad flag, or a tool that failed.
pub fn clean(args: Args) -> anyhow::Result<()> {
    run(Args { cleanup_only: true, run_validation: false, ..args })
}

impl Args {
    /// The wanted rules' configuration. Pure.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn config(&self, surroundings: &Surroundings<'_>) -> Result<Config, ConfigError> {
        let variable = |name: &str| (surroundings.variable)(name);
        let switched_on = |name: &str| variable(name).is_some_and(|text| matches!(text.trim(), "true" | "1" | "True"));
        let users = if self.proxy_uid.is_empty() { "1337" } else { &self.proxy_uid };
        let groups = if self.proxy_gid.is_empty() { users } else { &self.proxy_gid };
        let dual = self.dual_stack || switched_on("ISTIO_DUAL_STACK");
        let dns = if self.redirect_dns || switched_on("ISTIO_META_DNS_CAPTURE") {
            match (self.capture_all_dns, surroundings.dns_servers) {
                (true, _) => Dns::All,
                (false, []) => Dns::Nothing,
                (false, servers) => Dns::Servers(servers.to_vec()),
            }
        } else {
            Dns::Nothing
        };
        let invalid = if self.drop_invalid || switched_on("INVALID_DROP") { Invalid::Dropped } else { Invalid::Kept };
        Ok(Config {
            outbound_port: self.envoy_port,
            inbound_port: self.inbound_capture_port,
            tunnel_port: self.inbound_tunnel_port,
            users: parse_list("proxy-uid", users)?,
            groups: parse_list("proxy-gid", groups)?,
            mode: mode(&self.istio_inbound_interception_mode)?,
            tproxy_mark: self.istio_inbound_tproxy_mark,
            tproxy_table: self.istio_inbound_tproxy_route_table,
            inbound: self.inbound()?,
            outbound_ports_included: parse_list("istio-outbound-ports", &self.istio_outbound_ports)?,
            outbound_ports_excluded: parse_list(
                "istio-local-outbound-ports-exclude",
                &self.istio_local_outbound_ports_exclude,
            )?,
            outbound: match self.istio_service_cidr.as_str() {
                "*" => Outbound::All,
                ranges => Outbound::Only(parse_list("istio-service-cidr", ranges)?),
            },
            outbound_excluded: parse_list("istio-service-exclude-cidr", &self.istio_service_exclude_cidr)?,
            owner_groups: owner_groups(
                variable("ISTIO_OUTBOUND_OWNER_GROUPS").as_deref().unwrap_or("*"),
                variable("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE").as_deref().unwrap_or_default(),
            )?,
            interfaces_excluded: parse_list("istio-exclude-interfaces", &self.istio_exclude_interfaces)?,
            virtual_interfaces: parse_list("kube-virt-interfaces", &self.kube_virt_interfaces)?,
            dns,
            invalid,
            families: families(surroundings.addresses, dual),
            loopback: loopback(variable("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"))?,
        })
    }

    fn inbound(&self) -> Result<Inbound, ConfigError> {
        Ok(match self.istio_inbound_ports.as_str() {
            "" => Inbound::Nothing,
            "*" => Inbound::AllBut(parse_list("istio-local-exclude-ports", &self.istio_local_exclude_ports)?),
            ports => Inbound::Only(parse_list("istio-inbound-ports", ports)?),
        })
    }

    fn wish(&self) -> Wish {
        match (self.native_nftables, self.force_iptables_binary.as_str()) {
            (true, _) => Wish::Nftables,
            (false, "legacy") => Wish::Iptables("-legacy"),
            (false, "nft") => Wish::Iptables("-nft"),
            (false, _) => Wish::Any,
        }
    }

    fn preview(&self, config: &Config) -> String {
        let rules = plan::rules(config);
        if self.native_nftables {
            return nftables::script(&rules, config.families);
        }
        let mut text = iptables::restore(&rules, rule::Family::V4);
        if config.families == Families::V4AndV6 {
            text.push_str("# ip6tables-restore\n");
            text.push_str(&iptables::restore(&rules, rule::Family::V6));
        }
        text
    }

    fn apply(&self, config: &Config) -> anyhow::Result<()> {
        let tools = Tools::find(self.wish(), self.network_namespace.clone())?;
        if self.cleanup_only {
            tools.remove(config)?;
            tools.remove_routes(config);
            println!("traffic capture removed ({:?})", tools.backend);
            return Ok(());
        }
        let force = if self.force_apply { Force::Yes } else { Force::No };
        let outcome = tools.apply(config, force)?;
        tools.routes(config)?;
        match outcome {
            Outcome::Changed => println!("traffic capture set up by {}", tools.backend),
            Outcome::Unchanged => println!("traffic capture is in force already ({:?})", tools.backend),
        }
        Ok(())
    }
}

fn mode(text: &str) -> Result<Mode, ConfigError> {
    match text {
        "" | "REDIRECT" => Ok(Mode::Redirect),
        "TPROXY" => Ok(Mode::Tproxy),
        _ => Err(ConfigError {
            setting: "istio-inbound-interception-mode",
            value: text.to_owned(),
            reason: "is neither REDIRECT nor TPROXY".to_owned(),
        }),
    }
}

fn owner_groups(include: &str, exclude: &str) -> Result<OwnerGroups, ConfigError> {
    if list(include).any(|group| group == "*") {
        return Ok(OwnerGroups::AllBut(parse_list("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", exclude)?));
    }
    let groups: Vec<super::config::Owner> = parse_list("ISTIO_OUTBOUND_OWNER_GROUPS", include)?;
    if groups.len() > OWNER_GROUPS_MAX {
        return Err(ConfigError {
            setting: "ISTIO_OUTBOUND_OWNER_GROUPS",
            value: include.to_owned(),
            reason: format!("has {} groups, more than the {OWNER_GROUPS_MAX} that fit in one rule", groups.len()),
        });
    }
    Ok(OwnerGroups::Only(groups))
}

/// IPv6 is captured where the pod's first address is one (IPv4 addresses come first), with dual stack where any is.
fn families(addresses: &[IpAddr], dual: bool) -> Families {
    let v6 = addresses.iter().any(IpAddr::is_ipv6);
    let only_v6 = v6 && !addresses.iter().any(IpAddr::is_ipv4);
    if only_v6 || (dual && v6) { Families::V4AndV6 } else { Families::V4 }
}

fn loopback(setting: Option<String>) -> Result<ipnet::Ipv4Net, ConfigError> {
    let text = setting.unwrap_or_else(|| "127.0.0.1/32".to_owned());
    let error = |reason: &str| ConfigError {
        setting: "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        value: text.clone(),
        reason: reason.to_owned(),
    };
    let range: ipnet::Ipv4Net = text.parse().map_err(|_| error("is not an IPv4 range"))?;
    if !range.addr().is_loopback() || range.prefix_len() < 8 {
        return Err(error("is not within 127.0.0.0/8"));
    }
    Ok(range)
}

/// `5s`, `500ms`, `1m`, as Go writes them, one unit only.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration such as 5s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count * 60)),
        _ => Err(format!("{text:?} is not a duration such as 5s")),
    }
}

fn local_addresses() -> Vec<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    addresses(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"))
}

/// The machine's own addresses, IPv4 first, from the kernel's two tables; loopback and link-local ones are left out.
fn addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut last = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<std::net::Ipv4Addr>().ok();
        } else if line.contains("host LOCAL")
            && let Some(address) = last
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&IpAddr::V4(address))
        {
            found.push(IpAddr::V4(address));
        }
    }
    for line in if_inet6.lines() {
        let Some(Ok(bits)) = line.split(' ').next().map(|hex| u128::from_str_radix(hex, 16)) else { continue };
        let address = std::net::Ipv6Addr::from_bits(bits);
        // ::6 is on lo because an earlier run put it there.
        let ours = address.to_bits() == 6;
        if !address.is_loopback() && !address.is_unicast_link_local() && !ours {
            found.push(IpAddr::V6(address));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_kernels_tables() {
        let fib = "  |-- 127.0.0.1\n    /32 host LOCAL\n  |-- 10.1.2.3\n    /32 host LOCAL\n  |-- 10.1.2.255\n    /32 link BROADCAST\n";
        let inet6 = "00000000000000000000000000000001 01 80 10 80 lo\nfd000000000000000000000000000005 02 40 00 80 eth0\nfe800000000000000000000000000005 02 40 20 80 eth0\n00000000000000000000000000000006 01 80 10 80 lo\n";
        let found: Vec<String> = addresses(fib, inet6).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.1.2.3", "fd00::5"]);
    }

    #[test]
    fn ipv6_is_captured_where_it_is_the_pods_first_address_or_dual_stack_is_on() {
        let v4: IpAddr = "10.0.0.1".parse().expect("an address");
        let v6: IpAddr = "fd00::1".parse().expect("an address");
        for (addresses, dual, expected) in [
            (vec![v4], false, Families::V4),
            (vec![v4], true, Families::V4),
            (vec![v4, v6], false, Families::V4),
            (vec![v4, v6], true, Families::V4AndV6),
            (vec![v6], false, Families::V4AndV6),
        ] {
            assert_eq!(families(&addresses, dual), expected, "{addresses:?} {dual}");
        }
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("5").is_err());
        assert!(duration("").is_err());
    }
}
