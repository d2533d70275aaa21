//! One question, one answer. Pure: no socket, no clock, no randomness.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::table::{Addresses, Table};

/// How long an answer may be kept, in seconds: Istio's.
pub const TTL_SECONDS: u32 = 30;
/// A UDP answer's size without EDNS.
const UDP_BYTES_MIN: usize = 512;
/// A UDP answer is never larger, whatever the client allows: loopback takes it in one packet.
const UDP_BYTES_MAX: usize = 4096;
const HEADER_BYTES: usize = 12;

/// How the question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP: the answer's size is limited.
    Udp,
    /// TCP
    Tcp,
}

/// What to do with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask the resolvers of resolv.conf.
    Forward,
    /// Say nothing: it was no question.
    Silence,
}

/// Answers `packet`. `turn` is any number that grows: addresses rotate with it, so that clients which take the first
/// spread out.
#[must_use]
pub fn answer(packet: &[u8], table: &Table, transport: Transport, turn: usize) -> Answer {
    let Ok(query) = Message::from_vec(packet) else { return unreadable(packet) };
    if query.metadata.message_type != MessageType::Query {
        return Answer::Silence;
    }
    let Some(question) = query.queries.first() else { return refuse(&query, ResponseCode::ServFail) };
    if query.metadata.op_code != OpCode::Query {
        return Answer::Forward;
    }
    if !table.is_received() {
        // Nothing is known yet; "no such name" would be kept by the client.
        return refuse(&query, ResponseCode::ServFail);
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let Some(found) = table.lookup(&name) else { return Answer::Forward };
    if question.query_class() != DNSClass::IN {
        return Answer::Forward;
    }
    let asked = question.name().clone();
    let alias = found.alias_of.and_then(|alias| Name::from_ascii(alias).ok());
    let owner = alias.clone().unwrap_or_else(|| asked.clone());
    let Some(addresses) = records(&owner, question.query_type(), found.addresses, turn) else {
        return Answer::Forward;
    };
    let mut reply = reply(&query);
    reply.metadata.authoritative = true;
    // With no address of the family, no alias either: an empty answer says the name exists.
    if let Some(alias) = alias.filter(|_| !addresses.is_empty()) {
        reply.add_answer(Record::from_rdata(asked, TTL_SECONDS, RData::CNAME(CNAME(alias))));
    }
    reply.add_answers(addresses);
    match encode(reply, limit(&query, transport)) {
        Some(bytes) => Answer::Reply(bytes),
        None => refuse(&query, ResponseCode::ServFail),
    }
}

/// The answer when no resolver answered.
#[must_use]
pub fn failure(packet: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(packet).ok()?;
    match refuse(&query, ResponseCode::ServFail) {
        Answer::Reply(bytes) => Some(bytes),
        Answer::Forward | Answer::Silence => None,
    }
}

/// Makes a resolver's answer fit the way back to the client.
#[must_use]
pub fn fit(query: &[u8], response: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
    let limit = limit(&Message::from_vec(query).ok()?, transport);
    if response.len() <= limit {
        return Some(response);
    }
    encode(Message::from_vec(&response).ok()?, limit)
}

/// Whether `response` is an answer to `query`: same number, same question.
#[must_use]
pub fn belongs(query: &[u8], response: &[u8]) -> bool {
    if response.len() < HEADER_BYTES || query.get(..2) != response.get(..2) {
        return false;
    }
    let (Ok(query), Ok(response)) = (Message::from_vec(query), Message::from_vec(response)) else { return false };
    response.metadata.message_type == MessageType::Response
        && (response.queries.is_empty() || response.queries == query.queries)
}

/// Whether a resolver's answer was cut off, so that it must be asked again over TCP.
#[must_use]
pub fn is_truncated(response: &[u8]) -> bool {
    const TRUNCATED: u8 = 0b10;
    response.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// Something with a header is told that it cannot be read; anything else gets no answer.
fn unreadable(packet: &[u8]) -> Answer {
    const RESPONSE: u8 = 0x80;
    match packet {
        [high, low, flags, ..] if packet.len() >= HEADER_BYTES && flags & RESPONSE == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            let message = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            message.to_vec().map_or(Answer::Silence, Answer::Reply)
        }
        _ => Answer::Silence,
    }
}

fn reply(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(UDP_BYTES_MAX).unwrap_or(u16::MAX));
        reply.set_edns(edns);
    }
    reply
}

fn refuse(query: &Message, code: ResponseCode) -> Answer {
    let mut reply = reply(query);
    reply.metadata.response_code = code;
    reply.to_vec().map_or(Answer::Silence, Answer::Reply)
}

/// Addresses of the family asked for; `None` for other kinds of records, which are not ours to deny.
fn records(owner: &Name, kind: RecordType, addresses: &Addresses, turn: usize) -> Option<Vec<Record>> {
    let mut data: Vec<RData> = match kind {
        RecordType::A => addresses.v4.iter().map(|ip| RData::A(A(*ip))).collect(),
        RecordType::AAAA => addresses.v6.iter().map(|ip| RData::AAAA(AAAA(*ip))).collect(),
        _ => return None,
    };
    if !data.is_empty() {
        let first = turn % data.len();
        data.rotate_left(first);
    }
    Some(data.into_iter().map(|data| Record::from_rdata(owner.clone(), TTL_SECONDS, data)).collect())
}

fn limit(query: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => usize::from(query.max_payload()).clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
    }
}

/// Leaves records out, and says so, until the message fits.
fn encode(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        message.metadata.truncation = true;
        if message.additionals.pop().is_some() || message.authorities.pop().is_some() {
            continue;
        }
        let keep = message.answers.len() * limit / bytes.len();
        if message.answers.is_empty() {
            return None;
        }
        message.answers.truncate(keep.min(message.answers.len() - 1));
    }
}
