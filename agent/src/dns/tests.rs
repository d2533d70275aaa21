//! Tables of questions and answers, garbage, and the proxy over loopback with a resolver made for the test.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use super::forward::{read_message, write_message};
use super::*;
use answer::{Answer, Transport, answer};

const LIMIT: Duration = Duration::from_secs(10);

fn info(ips: &[&str], kubernetes: Option<(&str, &str)>) -> wire::NameInfo {
    let (shortname, namespace) = kubernetes.unwrap_or_default();
    wire::NameInfo {
        ips: ips.iter().map(|ip| (*ip).to_owned()).collect(),
        registry: if kubernetes.is_some() { "Kubernetes" } else { "External" }.to_owned(),
        shortname: shortname.to_owned(),
        namespace: namespace.to_owned(),
        alt_hosts: Vec::new(),
    }
}

fn names() -> wire::NameTable {
    let many: Vec<String> = (0..64).map(|number| format!("10.9.0.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let table = [
        ("reviews.default.svc.cluster.local", info(&["10.0.0.1"], Some(("reviews", "default")))),
        ("ratings.other.svc.cluster.local", info(&["10.0.0.2", "fd00::2"], Some(("ratings", "other")))),
        ("Pod-0.db.default.svc.cluster.local", info(&["10.0.0.3"], Some(("pod-0.db", "default")))),
        ("www.example.com", info(&["1.1.1.1", "1.1.1.2"], None)),
        ("*.wild.example", info(&["2.2.2.2"], None)),
        ("exact.wild.example", info(&["2.2.2.3"], None)),
        ("nothing.example", info(&[], None)),
        ("six.example", info(&["fd00::6"], None)),
        ("many.example", info(&many, None)),
    ];
    wire::NameTable { table: table.into_iter().map(|(host, info)| (host.to_owned(), info)).collect() }
}

fn table() -> Table {
    let place = Place {
        namespace: "default".to_owned(),
        domain: "default.svc.cluster.local".to_owned(),
        search: ["default.svc.cluster.local", "svc.cluster.local"].map(str::to_owned).to_vec(),
    };
    Table::new(names(), &place)
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("a message")
}

/// An answer in one line: code, then records.
fn show(answer: &Answer) -> String {
    let Answer::Reply(bytes) = answer else { return format!("{answer:?}") };
    let message = Message::from_vec(bytes).expect("a message");
    assert_eq!((message.metadata.id, message.metadata.message_type), (4711, MessageType::Response));
    let mut words = vec![format!("{:?}", message.metadata.response_code)];
    words.extend(message.answers.iter().map(|record| {
        assert_eq!(record.ttl, 30);
        format!("{} {}", record.name, record.data)
    }));
    words.join("; ")
}

#[test]
fn names_are_answered_as_istios_proxy_does() {
    use RecordType::{A, AAAA, TXT};
    let table = table();
    for (name, kind, expected) in [
        ("reviews.default.svc.cluster.local.", A, "NoError; reviews.default.svc.cluster.local. 10.0.0.1"),
        ("reviews.", A, "NoError; reviews. 10.0.0.1"),
        ("reviews.default.", A, "NoError; reviews.default. 10.0.0.1"),
        ("reviews.default.svc.", A, "NoError; reviews.default.svc. 10.0.0.1"),
        ("ReViews.Default.", A, "NoError; ReViews.Default. 10.0.0.1"),
        // Of another namespace: not by the short name alone.
        ("ratings.", A, "Forward"),
        ("ratings.other.", A, "NoError; ratings.other. 10.0.0.2"),
        ("ratings.other.", AAAA, "NoError; ratings.other. fd00::2"),
        // Known, but not in this family: it exists and has nothing.
        ("reviews.", AAAA, "NoError"),
        ("six.example.", A, "NoError"),
        // Other kinds of records are not ours to deny.
        ("reviews.", TXT, "Forward"),
        ("pod-0.db.default.svc.cluster.local.", A, "NoError; pod-0.db.default.svc.cluster.local. 10.0.0.3"),
        ("pod-0.db.", A, "NoError; pod-0.db. 10.0.0.3"),
        ("a.wild.example.", A, "NoError; a.wild.example. 2.2.2.2"),
        ("a.b.wild.example.", A, "NoError; a.b.wild.example. 2.2.2.2"),
        ("exact.wild.example.", A, "NoError; exact.wild.example. 2.2.2.3"),
        ("wild.example.", A, "Forward"),
        ("nothing.example.", A, "Forward"),
        ("unknown.example.", A, "Forward"),
        // With the first search domain behind it, as resolvers with ndots:5 ask first.
        (
            "www.example.com.default.svc.cluster.local.",
            A,
            "NoError; www.example.com.default.svc.cluster.local. www.example.com.; www.example.com. 1.1.1.1; www.example.com. 1.1.1.2",
        ),
        (
            "a.wild.example.default.svc.cluster.local.",
            A,
            "NoError; a.wild.example.default.svc.cluster.local. a.wild.example.; a.wild.example. 2.2.2.2",
        ),
        ("www.example.com.default.svc.cluster.local.", AAAA, "NoError"),
        ("www.example.com.svc.cluster.local.", A, "Forward"),
        (".", A, "Forward"),
    ] {
        let answered = answer(&query(name, kind), &table, Transport::Udp, 0);
        assert_eq!(show(&answered), expected, "{name} {kind}");
    }
}

#[test]
fn f24_before_the_first_table_nothing_is_denied() {
    let answered = answer(&query("reviews.", RecordType::A), &Table::default(), Transport::Udp, 0);
    assert_eq!(show(&answered), "ServFail");
}

#[test]
fn addresses_take_turns() {
    let first = |turn| {
        let answered = show(&answer(&query("www.example.com.", RecordType::A), &table(), Transport::Udp, turn));
        answered.split("; ").nth(1).map(str::to_owned)
    };
    assert_ne!(first(0), first(1));
    assert_eq!(first(0), first(2));
}

#[test]
fn an_answer_too_large_for_udp_is_cut_off_and_says_so() {
    let read = |packet: &[u8], transport| match answer(packet, &table(), transport, 0) {
        Answer::Reply(bytes) => (bytes.len(), Message::from_vec(&bytes).expect("a message")),
        other => panic!("{other:?}"),
    };
    let plain = query("many.example.", RecordType::A);
    let (size, message) = read(&plain, Transport::Udp);
    assert!(size <= 512 && message.metadata.truncation && !message.answers.is_empty(), "{size}");
    let (_, message) = read(&plain, Transport::Tcp);
    assert_eq!((message.answers.len(), message.metadata.truncation), (64, false));
    let mut large = Message::from_vec(&plain).expect("a message");
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    large.set_edns(edns);
    let (_, message) = read(&large.to_vec().expect("a message"), Transport::Udp);
    assert_eq!((message.answers.len(), message.metadata.truncation), (64, false));
    assert!(message.edns.is_some());
}

#[test]
fn what_is_no_question_gets_no_answer_or_an_error() {
    let table = table();
    let mut response = query("reviews.", RecordType::A);
    response[2] |= 0x80;
    assert_eq!(answer(&response, &table, Transport::Udp, 0), Answer::Silence);
    assert_eq!(answer(b"", &table, Transport::Udp, 0), Answer::Silence);
    assert_eq!(answer(b"short", &table, Transport::Udp, 0), Answer::Silence);
    let no_question = Message::new(4711, MessageType::Query, OpCode::Query).to_vec().expect("a message");
    assert_eq!(show(&answer(&no_question, &table, Transport::Udp, 0)), "ServFail");
    let cut = &query("reviews.", RecordType::A)[..14];
    assert_eq!(show(&answer(cut, &table, Transport::Udp, 0)), "FormErr");
}

/// A small generator: the test needs many inputs, not good randomness.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn garbage_never_panics() {
    let table = table();
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let good = query("a.b.wild.example.default.svc.cluster.local.", RecordType::A);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=next(&mut state) % 6 {
            let place = usize::try_from(next(&mut state)).expect("64 bits") % bytes.len();
            bytes[place] = next(&mut state).to_le_bytes()[0];
        }
        bytes.truncate(usize::try_from(next(&mut state)).expect("64 bits") % (bytes.len() + 1));
        let turn = usize::try_from(next(&mut state)).expect("64 bits");
        for transport in [Transport::Udp, Transport::Tcp] {
            let _ = answer(&bytes, &table, transport, turn);
        }
        let _ = answer::fit(&good, bytes.clone(), Transport::Udp);
        let _ = answer::belongs(&good, &bytes);
        let _ = answer::failure(&bytes);
    }
}

#[test]
fn resolv_conf_is_read_as_resolvers_do() {
    let text = "# comment\nnameserver 10.96.0.10\nnameserver fd00::a ; second\nnameserver fe80::1%eth0\nsearch a.svc.cluster.local svc.cluster.local. Example.COM\noptions ndots:5\n";
    let parsed = ResolvConf::parse(text);
    let servers: Vec<String> = parsed.servers.iter().map(SocketAddr::to_string).collect();
    assert_eq!(servers, ["10.96.0.10:53", "[fd00::a]:53"]);
    assert_eq!(parsed.search, ["a.svc.cluster.local", "svc.cluster.local", "example.com"]);
    let addresses = |address| Options::new(address, &parsed).expect("good settings").addresses;
    assert_eq!(
        addresses(None).iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
        ["127.0.0.1:15053", "[::1]:15053"]
    );
    assert_eq!(addresses(Some("0.0.0.0:53")).len(), 1);
    assert!(Options::new(Some("nonsense"), &parsed).is_err());
}

#[test]
fn the_table_is_istios_on_the_wire() {
    use prost::Message as _;
    // table { key: "a" value { ips: "1.2.3.4" registry: "R" shortname: "s" namespace: "n" } }
    let bytes = b"\x0a\x17\x0a\x01a\x12\x12\x0a\x071.2.3.4\x12\x01R\x1a\x01s\x22\x01n";
    let names = wire::NameTable::decode(&bytes[..]).expect("a name table");
    assert_eq!(names.table["a"].ips, ["1.2.3.4"]);
    assert_eq!((names.table["a"].shortname.as_str(), names.table["a"].namespace.as_str()), ("s", "n"));
    assert_eq!(names.encode_to_vec(), bytes);
}

/// A resolver that answers every question with 9.9.9.9: cut off over UDP for names that start with `cut`.
async fn resolver() -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().expect("bound");
    let reply = |packet: &[u8], over_udp: bool| {
        let mut message = Message::from_vec(packet).expect("a question").into_response();
        let name = message.queries[0].name().clone();
        if over_udp && name.to_ascii().starts_with("cut") {
            message.metadata.truncation = true;
        } else {
            message.add_answer(Record::from_rdata(name, 30, RData::A(A(Ipv4Addr::new(9, 9, 9, 9)))));
        }
        message.to_vec().expect("a message")
    };
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((size, client)) = udp.recv_from(&mut buffer).await {
            let _ = udp.send_to(&reply(&buffer[..size], true), client).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let packet = read_message(&mut stream).await.expect("a question");
            let _ = write_message(&mut stream, &reply(&packet, false)).await;
        }
    });
    address
}

async fn proxy(servers: Vec<SocketAddr>) -> SocketAddr {
    let options = Options {
        servers,
        timeout: Duration::from_millis(200),
        ..Options::new(Some("127.0.0.1:0"), &ResolvConf::default()).expect("good settings")
    };
    let (sender, receiver) = watch::channel(Arc::new(table()));
    let (addresses, serving) = serve(receiver, options).await.expect("bound");
    tokio::spawn(async move {
        let _sender = sender;
        serving.await;
    });
    addresses[0]
}

async fn over_udp(proxy: SocketAddr, name: &str) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    socket.send_to(&query(name, RecordType::A), proxy).await.expect("sent");
    let mut buffer = vec![0; 4096];
    let size = tokio::time::timeout(LIMIT, socket.recv(&mut buffer)).await.expect("in time").expect("an answer");
    buffer.truncate(size);
    show(&Answer::Reply(buffer))
}

async fn over_tcp(proxy: SocketAddr, names: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(proxy).await.expect("connected");
    let mut shown = Vec::new();
    for name in names {
        write_message(&mut stream, &query(name, RecordType::A)).await.expect("sent");
        let reply = tokio::time::timeout(LIMIT, read_message(&mut stream)).await.expect("in time").expect("an answer");
        shown.push(show(&Answer::Reply(reply)));
    }
    shown
}

#[tokio::test]
async fn the_proxy_answers_its_own_names_and_forwards_the_rest() {
    let proxy = proxy(vec![resolver().await]).await;
    assert_eq!(over_udp(proxy, "reviews.").await, "NoError; reviews. 10.0.0.1");
    assert_eq!(over_udp(proxy, "other.example.").await, "NoError; other.example. 9.9.9.9");
    // Cut off over UDP, so the proxy asks again over TCP.
    assert_eq!(over_udp(proxy, "cut.example.").await, "NoError; cut.example. 9.9.9.9");
    let shown = over_tcp(proxy, &["reviews.", "other.example."]).await;
    assert_eq!(shown, ["NoError; reviews. 10.0.0.1", "NoError; other.example. 9.9.9.9"]);
}

#[tokio::test]
async fn f24_a_dead_resolver_costs_its_time_and_no_more() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let dead = silent.local_addr().expect("bound");
    let with_second = proxy(vec![dead, resolver().await]).await;
    assert_eq!(over_udp(with_second, "other.example.").await, "NoError; other.example. 9.9.9.9");
    let alone = proxy(vec![dead]).await;
    assert_eq!(over_udp(alone, "other.example.").await, "ServFail");
    assert_eq!(over_udp(alone, "reviews.").await, "NoError; reviews. 10.0.0.1");
    let nobody = proxy(vec![]).await;
    assert_eq!(over_udp(nobody, "other.example.").await, "ServFail");
}

#[test]
fn only_answers_to_the_question_count() {
    let asked = query("a.example.", RecordType::A);
    let answered = Message::from_vec(&asked).expect("a message").into_response();
    let bytes = |message: &Message| message.to_vec().expect("a message");
    assert!(answer::belongs(&asked, &bytes(&answered)));
    let mut other_id = answered.clone();
    other_id.metadata.id = 1;
    let other_name = Message::from_vec(&query("b.example.", RecordType::A)).expect("a message").into_response();
    for wrong in [bytes(&other_id), bytes(&other_name), asked.clone(), Vec::new()] {
        assert!(!answer::belongs(&asked, &wrong));
    }
    assert_eq!(answered.metadata.response_code, ResponseCode::NoError);
}
