//! The three things `ip` would be needed for, said to the kernel directly: images with a proxy have no `ip`.
//! Message layouts: linux/rtnetlink.h, linux/if_addr.h, linux/fib_rules.h.

use std::io;
use std::net::Ipv6Addr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, bind, recv, sendto, socket};

use super::rule::Family;

const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;
/// REQUEST, ACK, EXCL and CREATE: what is there is answered with "exists", which is fine.
const FLAGS: u16 = 0x1 | 0x4 | 0x200 | 0x400;
const HEADER_BYTES: usize = 16;
const ERROR: u16 = 2;
const INET: u8 = 2;
const INET6: u8 = 10;
/// The loopback interface is number 1 in every network namespace.
const LOOPBACK: u32 = 1;

/// Gives `lo` an IPv6 address of its own.
///
/// # Errors
/// When the kernel refuses, except because it is there.
pub(super) fn add_loopback_address(address: Ipv6Addr) -> io::Result<()> {
    let mut body = vec![INET6, 128, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    for kind in [1_u16, 2] {
        attribute(&mut body, kind, &address.octets());
    }
    ask(NEW_ADDRESS, &body)
}

/// Sends packets with `mark` to route table `table`.
///
/// # Errors
/// When the kernel refuses, except because it is there.
pub(super) fn add_rule(family: Family, mark: u32, table: u32) -> io::Result<()> {
    const TO_TABLE: u8 = 1;
    // Just before the main table. Left to itself the kernel gives a second, equal rule another place, and both stay.
    const PLACE: u32 = 32765;
    let mut body = vec![number(family), 0, 0, 0, 0, 0, 0, TO_TABLE];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, 6, &PLACE.to_ne_bytes());
    attribute(&mut body, 10, &mark.to_ne_bytes());
    attribute(&mut body, 15, &table.to_ne_bytes());
    ask(NEW_RULE, &body)
}

/// Makes everything in route table `table` local.
///
/// # Errors
/// When the kernel refuses, except because it is there.
pub(super) fn add_local_route(family: Family, table: u32) -> io::Result<()> {
    const BOOT: u8 = 3;
    const HOST: u8 = 254;
    const LOCAL: u8 = 2;
    let mut body = vec![number(family), 0, 0, 0, 0, BOOT, HOST, LOCAL];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, 4, &LOOPBACK.to_ne_bytes());
    attribute(&mut body, 15, &table.to_ne_bytes());
    ask(NEW_ROUTE, &body)
}

fn number(family: Family) -> u8 {
    if family == Family::V6 { INET6 } else { INET }
}

/// Values here are multiples of four bytes, so no padding is needed.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

fn ask(kind: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0_u8; 1024];
    let (size, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match answer.get(..size) {
        // The header's kind at 4, the error number at 16, negative; 0 is the acknowledgement.
        Some([_, _, _, _, low, high, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..])
            if u16::from_ne_bytes([*low, *high]) == ERROR =>
        {
            match i32::from_ne_bytes([*a, *b, *c, *d]) {
                0 => Ok(()),
                number => match io::Error::from_raw_os_error(-number) {
                    error if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    error => Err(error),
                },
            }
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
