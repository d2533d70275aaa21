//! Traffic capture with the kernel's own netfilter: a pod and a neighbour in two network namespaces, real connections,
//! every tool that works on this machine. Needs root and network namespaces; where they are not permitted this says so
//! and passes, except with `CI=true`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::capture::apply::{Backend, Force, Outcome, Tools, Wish};
use agent::capture::check::{Check, CheckFamily};
use agent::capture::config::{Config, Dns, Families, Inbound, Mode, Outbound};
use rustix::net as socket;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const LIMIT: Duration = Duration::from_secs(5);
/// Set in the copies of this program that play a client of some user.
const CLIENT: &str = "NAVARCH_CAPTURE_CLIENT";
const APPLICATION: u32 = 1000;
const ENVOY: u32 = 1337;

const POD: &str = "10.77.0.2";
const NEIGHBOUR: &str = "10.77.0.1";

/// Who connects where, and who must answer: `pod:PORT` or `neighbour:PORT` is the listener that was reached.
struct Call {
    says: &'static str,
    from: Place,
    user: u32,
    to: &'static str,
    answers: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Pod,
    Neighbour,
}

const fn call(says: &'static str, from: Place, user: u32, to: &'static str, answers: &'static str) -> Call {
    Call { says, from, user, to, answers }
}

const CALLS: &[Call] = &[
    call("outbound is captured", Place::Pod, APPLICATION, "tcp 10.77.0.1:80", "pod:15001"),
    call("Envoy's own is not", Place::Pod, ENVOY, "tcp 10.77.0.1:80", "neighbour:80"),
    call("an excluded port is not", Place::Pod, APPLICATION, "tcp 10.77.0.1:3306", "neighbour:3306"),
    call("an excluded range is not", Place::Pod, APPLICATION, "tcp 10.77.9.1:80", "neighbour:80"),
    call("localhost is not", Place::Pod, APPLICATION, "tcp 127.0.0.1:8080", "pod:8080"),
    call("the pod's own address is not", Place::Pod, APPLICATION, "tcp 10.77.0.2:8080", "pod:8080"),
    call("Envoy to the pod's own address comes back in", Place::Pod, ENVOY, "tcp 10.77.0.2:8080", "pod:15006"),
    call("from 127.0.0.6 it goes to the application", Place::Pod, ENVOY, "tcp 10.77.0.2:8080 127.0.0.6", "pod:8080"),
    call("inbound is captured", Place::Neighbour, APPLICATION, "tcp 10.77.0.2:8080", "pod:15006"),
    call("an excluded inbound port is not", Place::Neighbour, APPLICATION, "tcp 10.77.0.2:15020", "pod:15020"),
    call("the tunnel's port is not", Place::Neighbour, APPLICATION, "tcp 10.77.0.2:15008", "pod:15008"),
    call("DNS goes to the agent", Place::Pod, APPLICATION, "udp 10.77.0.1:53", "pod:15053"),
    call("DNS over TCP too", Place::Pod, APPLICATION, "tcp 10.77.0.1:53", "pod:15053"),
    call("the agent's own DNS does not", Place::Pod, ENVOY, "udp 10.77.0.1:53", "neighbour:53"),
    call("IPv6: outbound is captured", Place::Pod, APPLICATION, "tcp [fd77::1]:80", "pod:15001"),
    call("IPv6: Envoy's own is not", Place::Pod, ENVOY, "tcp [fd77::1]:80", "neighbour:80"),
    call("IPv6: an excluded port is not", Place::Pod, APPLICATION, "tcp [fd77::1]:3306", "neighbour:3306"),
    call("IPv6: inbound is captured", Place::Neighbour, APPLICATION, "tcp [fd77::2]:8080", "pod:15006"),
    call("IPv6: Envoy to the pod comes back in", Place::Pod, ENVOY, "tcp [fd77::2]:8080", "pod:15006"),
    call("IPv6: from ::6 it goes to the application", Place::Pod, ENVOY, "tcp [fd77::2]:8080 ::6", "pod:8080"),
];

fn config() -> Config {
    Config {
        inbound: Inbound::AllBut(vec![15090, 15021, 15020]),
        outbound: Outbound::All,
        outbound_excluded: vec!["10.77.9.0/24".parse().expect("a range")],
        outbound_ports_excluded: vec![3306],
        dns: Dns::Servers(vec![NEIGHBOUR.parse().expect("an address")]),
        families: Families::V4AndV6,
        ..Config::default()
    }
}

#[test]
fn traffic_of_a_pod_is_captured_by_every_tool() {
    if let Ok(order) = std::env::var(CLIENT) {
        return client(&order);
    }
    let missing = ["ip", "iptables", "nft"].into_iter().filter(|program| !exists(program)).count();
    if missing > 0 {
        install();
    }
    if let Err(reason) = permitted() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "network namespaces are needed: {reason}");
        println!("skipped: network namespaces are not permitted here: {reason}");
        return;
    }
    let mut worked = Vec::new();
    for (name, wish) in
        [("iptables", Wish::Iptables("")), ("iptables-legacy", Wish::Iptables("-legacy")), ("nft", Wish::Nftables)]
    {
        let mut net = Net::new();
        match Tools::find(wish, Some(net.file(Place::Pod))) {
            Ok(tools) => {
                captured(&mut net, &tools);
                worked.push(name);
            }
            // A kernel without the legacy tables is common; one of the two families of tools is what is needed.
            Err(error) => println!("{name} does not work here: {error}"),
        }
    }
    println!("tools that work here: {worked:?}");
    assert!(worked.contains(&"nft") && worked.contains(&"iptables"), "{worked:?}");
}

fn captured(net: &mut Net, tools: &Tools) {
    let config = config();
    assert!(net.check().is_err(), "nothing is captured, and the check says it is");
    assert_eq!(tools.apply(&config, Force::No).expect("rules"), Outcome::Changed);
    tools.routes(&config).expect("addresses");
    net.check().expect("the check finds the rules");
    net.listen();
    net.calls(CALLS, "first");

    let again = tools.apply(&config, Force::No).expect("rules");
    if tools.backend != Backend::Nftables {
        assert_eq!(again, Outcome::Unchanged, "a second run finds everything in place");
    }
    tools.routes(&config).expect("addresses that are there are no error");
    net.calls(CALLS, "applied twice");
    tools.apply(&config, Force::Yes).expect("rules");
    net.calls(CALLS, "forced");

    let other = Config { outbound_ports_excluded: vec![80], dns: Dns::Nothing, ..config.clone() };
    assert_eq!(tools.apply(&other, Force::No).expect("rules"), Outcome::Changed);
    let replaced = [
        call("now excluded", Place::Pod, APPLICATION, "tcp 10.77.0.1:80", "neighbour:80"),
        call("no longer excluded", Place::Pod, APPLICATION, "tcp 10.77.0.1:3306", "pod:15001"),
        call("DNS is left alone", Place::Pod, APPLICATION, "udp 10.77.0.1:53", "neighbour:53"),
    ];
    net.calls(&replaced, "replaced");

    tools.remove(&other).expect("removed");
    let free = [
        call("outbound is free", Place::Pod, APPLICATION, "tcp 10.77.0.1:3306", "neighbour:3306"),
        call("inbound is free", Place::Neighbour, APPLICATION, "tcp 10.77.0.2:8080", "pod:8080"),
    ];
    net.calls(&free, "removed");
    assert_eq!(net.leftovers(tools), "");

    let tproxy = Config { mode: Mode::Tproxy, ..config };
    tools.apply(&tproxy, Force::No).expect("TPROXY rules");
    tools.routes(&tproxy).expect("TPROXY routes");
    tools.apply(&tproxy, Force::No).expect("TPROXY rules, twice");
    tools.routes(&tproxy).expect("TPROXY routes, twice");
    let outbound = [call("TPROXY: outbound", Place::Pod, APPLICATION, "tcp 10.77.0.1:80", "pod:15001")];
    net.calls(&outbound, "TPROXY");
    let shown = net.inside(Place::Pod, || {
        let rules = ["-4", "-6"].map(|family| run("ip", &[family, "rule", "show"]).expect("rules"));
        let routes = ["-4", "-6"].map(|family| run("ip", &[family, "route", "show", "table", "133"]).expect("routes"));
        (rules, routes)
    });
    for (rules, routes) in std::iter::zip(shown.0, shown.1) {
        assert_eq!(rules.matches("fwmark 0x539 lookup 133").count(), 1, "{rules}");
        assert!(routes.starts_with("local default dev lo"), "{routes}");
    }
    tools.remove(&tproxy).expect("removed");
    tools.remove_routes(&tproxy);
    assert_eq!(net.leftovers(tools), "");
}

/// Two namespaces with a cable between them. Everything goes with it.
struct Net {
    names: [String; 2],
    folder: tempfile::TempDir,
    agent: Option<Child>,
}

impl Net {
    fn new() -> Self {
        let names = ["pod", "out"].map(|end| format!("navarch-{}-{end}", std::process::id()));
        let folder = tempfile::tempdir().expect("a folder");
        let net = Self { names, folder, agent: None };
        let [pod, out] = &net.names;
        for words in [
            format!("netns add {pod}"),
            format!("netns add {out}"),
            format!("-n {pod} link add eth0 type veth peer name eth0 netns {out}"),
            format!("-n {pod} addr add {POD}/24 dev eth0"),
            format!("-n {out} addr add {NEIGHBOUR}/24 dev eth0"),
            format!("-n {pod} addr add fd77::2/64 dev eth0 nodad"),
            format!("-n {out} addr add fd77::1/64 dev eth0 nodad"),
            format!("-n {pod} link set lo up"),
            format!("-n {out} link set lo up"),
            format!("-n {pod} link set eth0 up"),
            format!("-n {out} link set eth0 up"),
            format!("-n {out} addr add 10.77.9.1/32 dev lo"),
            format!("-n {pod} route add 10.77.9.0/24 via {NEIGHBOUR}"),
        ] {
            run("ip", &words.split(' ').collect::<Vec<_>>()).expect("the network");
        }
        // Other users must be able to run it.
        let copy = net.program();
        std::fs::copy(std::env::current_exe().expect("this program"), &copy).expect("a copy of this program");
        for path in [net.folder.path(), copy.as_path()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        net
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("client")
    }

    fn file(&self, place: Place) -> PathBuf {
        let name = match place {
            Place::Pod => &self.names[0],
            Place::Neighbour => &self.names[1],
        };
        Path::new("/run/netns").join(name)
    }

    /// Runs something on a thread inside a namespace; sockets it opens stay there.
    fn inside<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.file(place)).expect("the namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
                work()
            });
            thread.join().expect("the thread inside")
        })
    }

    fn listen(&mut self) {
        self.inside(Place::Pod, || {
            for port in [8080, 15001, 15006, 15008, 15020] {
                answer_tcp(SocketAddr::new("::".parse().expect("any"), port), "pod");
            }
        });
        self.inside(Place::Neighbour, || {
            for port in [53, 80, 3306] {
                answer_tcp(SocketAddr::new("::".parse().expect("any"), port), "neighbour");
            }
            answer_udp(SocketAddr::new(NEIGHBOUR.parse().expect("an address"), 53), "neighbour");
        });
        // Whose socket it is decides about its answers, so the DNS proxy is a program of Envoy's user.
        let mut command = self.client(ENVOY, "dns");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut agent = self.inside(Place::Pod, || command.spawn()).expect("the DNS proxy");
        let said = BufReader::new(agent.stdout.take().expect("its output")).lines();
        self.agent = Some(agent);
        assert!(said.map_while(Result::ok).any(|line| line.contains("answer=")), "the DNS proxy listens");
    }

    fn client(&self, user: u32, order: &str) -> Command {
        let mut command = Command::new(self.program());
        command.args(["--exact", "traffic_of_a_pod_is_captured_by_every_tool", "--nocapture", "--test-threads=1"]);
        command.env(CLIENT, order).uid(user).gid(user).current_dir("/");
        command
    }

    fn calls(&self, calls: &[Call], when: &str) {
        let wrong: Vec<String> = calls
            .iter()
            .filter_map(|call| {
                let answered = self.ask(call.from, call.user, call.to);
                (answered != call.answers).then(|| {
                    format!(
                        "{} ({}, uid {}): {answered:?} answered, not {:?}",
                        call.says, call.to, call.user, call.answers
                    )
                })
            })
            .collect();
        assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
    }

    /// What a client of that user is answered.
    fn ask(&self, from: Place, user: u32, order: &str) -> String {
        let mut command = self.client(user, order);
        let output = self.inside(from, || command.output()).expect("the client");
        let text = String::from_utf8_lossy(&output.stdout);
        let answer = text.lines().find_map(|line| line.split_once("answer=").map(|(_, answer)| answer.to_owned()));
        answer.unwrap_or_else(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn check(&self) -> Result<(), String> {
        match self.ask(Place::Pod, ENVOY, "check").as_str() {
            "good" => Ok(()),
            other => Err(other.to_owned()),
        }
    }

    /// Rules of ours that are still there.
    fn leftovers(&self, tools: &Tools) -> String {
        let shown: Vec<String> = match &tools.backend {
            Backend::Nftables => vec![self.inside(Place::Pod, || run("nft", &["list", "tables"])).expect("nft")],
            Backend::Iptables(ending) => ["iptables", "ip6tables"]
                .map(|program| self.inside(Place::Pod, || run(&format!("{program}{ending}-save"), &[])).expect("save"))
                .to_vec(),
        };
        let ours = |line: &&str| line.contains("ISTIO_") || line.contains("istio-") || line.contains("1337");
        shown.iter().flat_map(|text| text.lines()).filter(ours).collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for name in &self.names {
            let _ = run("ip", &["netns", "del", name]);
        }
    }
}

fn answer_tcp(address: SocketAddr, whose: &'static str) {
    let listener = TcpListener::bind(address).expect("a listener");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = write!(stream, "{whose}:{}", address.port());
        }
    });
}

fn answer_udp(address: SocketAddr, whose: &'static str) {
    let listener = UdpSocket::bind(address).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, client)) = listener.recv_from(&mut buffer) {
            let _ = listener.send_to(format!("{whose}:{}", address.port()).as_bytes(), client);
        }
    });
}

/// The other side of `ask`: `check`, `dns` (serves until its input ends), or `PROTOCOL ADDRESS [SOURCE]`.
fn client(order: &str) {
    if order == "check" {
        let check = Check {
            outbound_port: 15001,
            inbound_port: 15006,
            probe_port: 15002,
            family: CheckFamily::V4,
            timeout: Duration::from_millis(500),
        };
        println!("answer={}", check.run().map_or_else(|error| error.to_string(), |()| "good".to_owned()));
        return;
    }
    if order == "dns" {
        answer_tcp((Ipv4Addr::LOCALHOST, 15053).into(), "pod");
        answer_udp((Ipv4Addr::LOCALHOST, 15053).into(), "pod");
        println!("answer=listening");
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return;
    }
    let words: Vec<&str> = order.split(' ').collect();
    let to: SocketAddr = words[1].parse().expect("an address");
    let source: Option<IpAddr> = words.get(2).map(|word| word.parse().expect("an address"));
    let answered = if words[0] == "udp" { ask_udp(to) } else { ask_tcp(to, source) };
    println!("answer={}", answered.unwrap_or_else(|error| error.to_string()));
}

fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let size = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
}

fn ask_tcp(to: SocketAddr, source: Option<IpAddr>) -> std::io::Result<String> {
    let mut stream = match source {
        None => TcpStream::connect_timeout(&to, LIMIT)?,
        Some(source) => {
            let family = if to.is_ipv4() { socket::AddressFamily::INET } else { socket::AddressFamily::INET6 };
            let made = socket::socket(family, socket::SocketType::STREAM, None)?;
            socket::bind(&made, &SocketAddr::new(source, 0))?;
            socket::connect(&made, &to)?;
            TcpStream::from(made)
        }
    };
    stream.set_read_timeout(Some(LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn install() {
    let words = ["install", "--yes", "--quiet=2", "--no-install-recommends", "iproute2", "iptables", "nftables"];
    let installed = run("apt-get", &words).or_else(|_| {
        run("apt-get", &["update", "--quiet=2"])?;
        run("apt-get", &words)
    });
    if let Err(error) = installed {
        println!("iptables and nftables cannot be installed: {error}");
    }
}

fn permitted() -> Result<(), String> {
    let name = format!("navarch-{}-try", std::process::id());
    run("ip", &["netns", "add", &name])?;
    run("ip", &["netns", "del", &name]).map(drop)
}

fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
