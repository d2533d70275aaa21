//! `--run-validation`: proves that rules bite, by a connection that would reach nobody without them. Listens where Envoy
//! will, connects to a port of 127.0.0.6 where nobody listens, and wants to meet the connection on Envoy's port with its
//! original destination kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Envoy's outbound port.
    pub outbound_port: u16,
    /// Envoy's inbound port.
    pub inbound_port: u16,
    /// A port nobody listens on (15002).
    pub probe_port: u16,
    /// The family of the pod's own address.
    pub family: CheckFamily,
    /// How long it may take.
    pub timeout: Duration,
}

/// Which loopback is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFamily {
    /// 127.0.0.1
    V4,
    /// ::1
    V6,
}

/// The rules do not bite.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Neither of Envoy's ports could be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// No connection was redirected in time.
    #[error("a connection to {0} was not redirected to Envoy's ports within {1:?}: {2}")]
    NotRedirected(SocketAddr, Duration, String),
}

/// How long one connection may take; a refused one returns at once.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

impl Check {
    /// Tries until a connection is redirected, or the time is over.
    ///
    /// # Errors
    /// When none was.
    pub fn run(&self) -> Result<(), CheckError> {
        let (own, target) = match self.family {
            CheckFamily::V4 => (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6))),
            CheckFamily::V6 => (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))),
        };
        let target = SocketAddr::new(target, self.probe_port);
        let listeners = [self.outbound_port, self.inbound_port].map(|port| listen(SocketAddr::new(own, port)));
        let listeners: Vec<TcpListener> = match listeners {
            [Err((address, error)), Err(_)] => return Err(CheckError::Listen(address, error)),
            listeners => listeners.into_iter().filter_map(Result::ok).collect(),
        };
        let end = Instant::now() + self.timeout;
        let mut problem = "no connection came".to_owned();
        while Instant::now() < end {
            // The backlog takes the connection, so one thread is enough.
            match TcpStream::connect_timeout(&target, ATTEMPT) {
                Err(error) => problem = error.to_string(),
                Ok(_connection) => match met(&listeners, self.probe_port) {
                    Ok(()) => return Ok(()),
                    Err(reason) => problem = reason,
                },
            }
            pause();
        }
        Err(CheckError::NotRedirected(target, self.timeout, problem))
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing tells that another program's rules have come into force")]
fn pause() {
    std::thread::sleep(PAUSE);
}

fn listen(address: SocketAddr) -> Result<TcpListener, (SocketAddr, io::Error)> {
    let listener = TcpListener::bind(address).map_err(|error| (address, error))?;
    listener.set_nonblocking(true).map_err(|error| (address, error))?;
    Ok(listener)
}

/// Whether a connection to `port` is waiting.
fn met(listeners: &[TcpListener], port: u16) -> Result<(), String> {
    let mut problem = "it reached another program".to_owned();
    for listener in listeners {
        while let Ok((connection, _)) = listener.accept() {
            let original = match connection.local_addr() {
                Ok(SocketAddr::V6(_)) => sockopt::ipv6_original_dst(&connection).map(SocketAddr::V6),
                _ => sockopt::ip_original_dst(&connection).map(SocketAddr::V4),
            };
            match original {
                Ok(original) if original.port() == port => return Ok(()),
                Ok(original) => problem = format!("its original destination is {original}"),
                Err(error) => problem = format!("its original destination is not known: {error}"),
            }
        }
    }
    Err(problem)
}
