//! Rules as text. The golden files are Istio's rules in Istio's order; `UPDATE=1` writes them anew.

use std::net::IpAddr;
use std::path::Path;

use clap::Parser as _;

use super::config::Families;
use super::rule::{Family, Rule};
use super::{cli, iptables, nftables, plan};

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: cli::Args,
}

/// A case: flags, variables without a flag, resolv.conf's servers, and whether the pod has IPv6 alone.
struct Case {
    name: &'static str,
    flags: &'static str,
    variables: &'static [(&'static str, &'static str)],
    servers: &'static [&'static str],
    address: &'static str,
}

const V4: &str = "10.0.0.1";
const V6: &str = "fd00::1";

const fn case(name: &'static str, flags: &'static str) -> Case {
    Case { name, flags, variables: &[], servers: &[], address: V4 }
}

/// Istio's own cases (`tools/istio-iptables/pkg/capture/run_test.go`), as flags.
const CASES: &[Case] = &[
    case("empty", ""),
    case("inbound-ports-wildcard", "-b *"),
    case("inbound-ports-include", "-b 32000,31000"),
    case("inbound-ports-tproxy", "-b 32000,31000 -m TPROXY"),
    case("inbound-ports-wildcard-tproxy", "-b * -m TPROXY"),
    case("ipnets", "-i 10.0.0.0/8"),
    case("kube-virt-interfaces", "-k eth1,eth2 -i *"),
    case("ipnets-with-kube-virt-interfaces", "-k eth1,eth2 -i 10.0.0.0/8"),
    case("outbound-ports-include", "-q 32000,31000"),
    case("basic-exclude-nic", "-c not-istio-nic"),
    case("drop-invalid", "--drop-invalid"),
    Case { servers: &["127.0.0.53"], ..case("ip-range", "-x 1.1.0.0/16 -i 9.9.0.0/16 --redirect-dns -g 1,2 -u 3,4") },
    Case {
        servers: &["127.0.0.53"],
        ..case("loopback-outbound-iprange", "-i 127.1.2.3/32 --redirect-dns -g 1,2 -u 3,4")
    },
    Case {
        servers: &["127.0.0.53"],
        address: V6,
        ..case("tproxy", "-m TPROXY -b * -x 1.1.0.0/16 -i 9.9.0.0/16 --redirect-dns -c not-istio-nic")
    },
    Case {
        servers: &["127.0.0.53", "::127.0.0.53"],
        address: V6,
        ..case("dns-uid-gid", "--redirect-dns -g 1,2 -u 3,4")
    },
    Case { address: V6, ..case("ipv6-dns-uid-gid", "--redirect-dns -g 1,2 -u 3,4") },
    Case { address: V6, ..case("ipv6-empty-inbound-ports", "") },
    Case { address: V6, ..case("ipv6-inbound-ports", "-b 4000,5000") },
    Case { address: V6, ..case("ipv6-virt-interfaces", "-b 4000,5000 -k eth0,eth1") },
    Case {
        address: V6,
        ..case("ipv6-ipnets", "-b 4000,5000 -d 6000,7000, -k eth0,eth1 -x 2001:db8::/32 -i 2001:db8::/32")
    },
    Case {
        address: V6,
        ..case("ipv6-uid-gid", "-b 4000,5000 -d 6000,7000 -k eth0,eth1 -x 2001:db8::/32 -i 2001:db8::/32 -g 1,2 -u 3,4")
    },
    Case { address: V6, ..case("ipv6-outbound-ports", "-q 32000,31000") },
    Case { variables: &[("ISTIO_OUTBOUND_OWNER_GROUPS", "java,202")], ..case("outbound-owner-groups", "") },
    Case {
        variables: &[("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "888,ftp")],
        ..case("outbound-owner-groups-exclude", "")
    },
    Case {
        variables: &[("ISTIO_OUTBOUND_OWNER_GROUPS", "java,202")],
        address: V6,
        ..case("ipv6-dns-outbound-owner-groups", "--redirect-dns")
    },
    Case {
        variables: &[("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "888,ftp")],
        address: V6,
        ..case("ipv6-dns-outbound-owner-groups-exclude", "--redirect-dns")
    },
    Case { variables: &[("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.1/8")], ..case("host-ipv4-loopback-cidr", "") },
    // What the injector writes for an ordinary pod, and the same with all DNS captured.
    case("injected", "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020 -o 3306"),
    case("injected-all-dns", "-u 1337 -i * -b * -d 15090,15021,15020 --redirect-dns --capture-all-dns"),
];

fn parse(flags: &str) -> cli::Args {
    let words = flags.split(' ');
    let words = if flags.is_empty() { Vec::new() } else { words.collect() };
    Command::try_parse_from([&["istio-iptables"][..], &words].concat()).expect("flags").args
}

fn config(case: &Case) -> super::config::Config {
    let variable =
        |name: &str| case.variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let address: IpAddr = case.address.parse().expect("an address");
    let servers: Vec<IpAddr> = case.servers.iter().map(|server| server.parse().expect("an address")).collect();
    let surroundings = cli::Surroundings { variable: &variable, addresses: &[address], dns_servers: &servers };
    parse(case.flags).config(&surroundings).expect("good settings")
}

fn golden(name: &str, ending: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/capture/testdata/{name}.{ending}"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(&path, actual).expect("the golden file");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} (UPDATE=1 writes it)", path.display());
}

#[test]
fn rules_are_istios_in_istios_order() {
    for case in CASES {
        let config = config(case);
        let rules = plan::rules(&config);
        let mut text = iptables::restore(&rules, Family::V4);
        if config.families == Families::V4AndV6 {
            text.push_str(&iptables::restore(&rules, Family::V6));
        }
        golden(case.name, "iptables", &text);
        golden(case.name, "nft", &nftables::script(&rules, config.families));
    }
}

#[test]
fn both_tools_get_the_same_number_of_rules() {
    for case in CASES {
        let config = config(case);
        let rules = plan::rules(&config);
        let script = nftables::script(&rules, config.families);
        let guards = script.lines().filter(|line| line.ends_with("nfproto ipv6 counter accept")).count();
        let written = script.lines().filter(|line| line.starts_with("add rule")).count();
        assert_eq!(written - guards, rules.len(), "{}", case.name);
    }
}

#[test]
fn what_iptables_save_shows_is_found_and_replaced_in_one_transaction() {
    let save = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_OLD - [0:0]\n:KUBE-X - [0:0]\n\
        -A PREROUTING -p tcp -j KUBE-X\n-A PREROUTING -p tcp -j ISTIO_OLD\n-A ISTIO_OUTPUT -j RETURN\n-A ISTIO_OUTPUT -j RETURN\nCOMMIT\n";
    let found = iptables::found(save);
    let chain = |name: &str| ("nat".to_owned(), name.to_owned());
    assert_eq!(found.chains, [(chain("ISTIO_OLD"), 0), (chain("ISTIO_OUTPUT"), 2)].into());
    assert_eq!(found.jumps["nat"], ["PREROUTING -p tcp -j ISTIO_OLD"]);
    let rules = plan::rules(&config(&CASES[0]));
    let text = iptables::replace(&rules, Family::V4, &found, &[]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], *lines.last().expect("lines")), ("*nat", "COMMIT"));
    assert_eq!(lines.iter().filter(|line| **line == "COMMIT").count(), 1);
    assert!(lines.contains(&":ISTIO_OLD - [0:0]") && lines.contains(&"-X ISTIO_OLD"), "{text}");
    assert!(lines.contains(&"-D PREROUTING -p tcp -j ISTIO_OLD"), "{text}");
    assert!(!text.contains("KUBE-X"), "other programs' rules are left alone: {text}");
    let nothing = iptables::replace(&[], Family::V4, &found, &[]);
    assert!(nothing.contains("-X ISTIO_OUTPUT") && !nothing.contains("-A "), "{nothing}");
    assert_eq!(iptables::replace(&[], Family::V4, &iptables::Found::default(), &[]), "");
}

#[test]
fn rules_in_force_are_told_from_others_by_their_number_and_chains() {
    let case = &CASES[1];
    let rules: Vec<Rule> = plan::rules(&config(case));
    let mut save = iptables::restore(&rules, Family::V4).replace("* nat", "*nat");
    save = save.lines().map(|line| line.replace("-N ", ":")).collect::<Vec<_>>().join("\n");
    assert_eq!(iptables::found(&save).chains, iptables::expected(&rules, Family::V4));
    let less = save.replace("-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n", "");
    assert_ne!(iptables::found(&less).chains, iptables::expected(&rules, Family::V4));
}

#[test]
fn settings_that_could_smuggle_rules_in_are_refused() {
    for flags in [
        "-u 1337;reboot",
        "-c eth0\n-A",
        "-c a-name-that-is-too-long",
        "-b 80,x",
        "-b 70000",
        "-i 10.0.0.0/33",
        "-i 10.0.0.1",
        "-x *",
        "-m MAGIC",
        "-g -1",
    ] {
        let surroundings = cli::Surroundings { variable: &|_| None, addresses: &[], dns_servers: &[] };
        let refused =
            Command::try_parse_from([&["istio-iptables"][..], &flags.splitn(2, ' ').collect::<Vec<_>>()].concat())
                .map_or(true, |command| command.args.config(&surroundings).is_err());
        assert!(refused, "{flags:?}");
    }
}

#[test]
fn istios_spellings_of_switches_are_understood() {
    for (flags, expected) in
        [("--run-validation", true), ("--run-validation=true", true), ("--run-validation=false", false), ("", false)]
    {
        assert_eq!(parse(flags).run_validation, expected, "{flags}");
    }
    assert!(parse("-n").dry_run);
}
