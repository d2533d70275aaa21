//! Asks the resolvers of resolv.conf: UDP first, TCP when the answer was cut off.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::answer::{belongs, is_truncated};

/// Whether resolvers are asked in turn or at once (`DNS_FORWARD_PARALLEL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// The next only when one does not answer.
    InTurn,
    /// All; the first answer counts.
    AtOnce,
}

/// Asks until one answers; `None` when none does. `turn` says who is asked first.
pub async fn forward(
    query: &[u8],
    servers: &[SocketAddr],
    asking: Asking,
    timeout: Duration,
    turn: usize,
) -> Option<Vec<u8>> {
    let one = |server: SocketAddr| async move {
        match tokio::time::timeout(timeout, ask(query, server)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
        .inspect_err(|error| tracing::debug!(%server, %error, "a DNS server did not answer"))
    };
    match asking {
        Asking::AtOnce if !servers.is_empty() => {
            let all = servers.iter().map(|&server| Box::pin(one(server)));
            futures::future::select_ok(all).await.ok().map(|(response, _)| response)
        }
        Asking::AtOnce | Asking::InTurn => {
            for number in 0..servers.len() {
                let server = servers[(turn % servers.len() + number) % servers.len()];
                if let Ok(response) = one(server).await {
                    return Some(response);
                }
            }
            None
        }
    }
}

async fn ask(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let response = over_udp(query, server).await?;
    if !is_truncated(&response) {
        return Ok(response);
    }
    // A server without TCP is no reason to have nothing: the client sees that the answer is cut off.
    over_tcp(query, server).await.or(Ok(response))
}

async fn over_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A port of its own for each question: an answer to a guess must guess the port too.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if belongs(query, &buffer[..size]) {
            buffer.truncate(size);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    let response = read_message(&mut stream).await?;
    if belongs(query, &response) { Ok(response) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
}

/// Writes a message as DNS over TCP has it: two bytes of length first.
///
/// # Errors
/// When the connection fails, or the message is larger than two bytes can say.
pub async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

/// Reads a message as DNS over TCP has it.
///
/// # Errors
/// When the connection fails or ends.
pub async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
