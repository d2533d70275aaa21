//! The proxy's sockets: one UDP socket and one TCP listener for each address.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::answer::{self, Answer, Transport};
use super::forward::{self, Asking};
use super::metrics::{Metrics, Upstream};
use super::resolv_conf::ResolvConf;
use super::table::Table;

/// Questions under way at once. One more over UDP is dropped: its client asks again.
pub const QUERIES_MAX: usize = 1024;
/// TCP connections at once.
pub const CONNECTIONS_MAX: usize = 256;
/// A TCP connection without a question is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// After an error of accept (no file descriptors left), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Both sockets of an address have one port; with port 0 the second may find it taken.
const PORT_ATTEMPTS: usize = 16;

/// Settings of the DNS proxy.
#[derive(Debug, Clone)]
pub struct Options {
    /// `DNS_PROXY_ADDR`; one UDP socket and one TCP listener for each. Port 0 for any.
    pub addresses: Vec<SocketAddr>,
    /// Who is asked for names the mesh does not know.
    pub servers: Vec<SocketAddr>,
    /// `DNS_FORWARD_PARALLEL`
    pub asking: Asking,
    /// `DNS_FORWARD_TIMEOUT`, for each server.
    pub timeout: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Options {
    /// pilot-agent's defaults for a pod with this resolv.conf; `address` is `DNS_PROXY_ADDR` (`localhost:15053` when
    /// unset), where `localhost` means 127.0.0.1, ::1 or both, as the servers are.
    ///
    /// # Errors
    /// When `address` is no address and port.
    pub fn new(address: Option<&str>, resolv_conf: &ResolvConf) -> io::Result<Self> {
        let address = address.filter(|text| !text.is_empty()).unwrap_or("localhost:15053");
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("DNS_PROXY_ADDR {address:?} is no host:port"));
        let addresses = match address.strip_prefix("localhost:") {
            None => vec![address.parse().map_err(|_| wrong())?],
            Some(port) => {
                let port: u16 = port.parse().map_err(|_| wrong())?;
                let v6 = resolv_conf.servers.iter().any(SocketAddr::is_ipv6);
                let v4 = resolv_conf.servers.iter().any(SocketAddr::is_ipv4) || !v6;
                let v4 = v4.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let v6 = v6.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
                v4.into_iter().chain(v6).map(|ip| SocketAddr::new(ip, port)).collect()
            }
        };
        Ok(Self {
            addresses,
            servers: resolv_conf.servers.clone(),
            asking: Asking::InTurn,
            timeout: Duration::from_secs(5),
            metrics: Arc::default(),
        })
    }
}

/// Binds, then returns the bound addresses and the future that serves; dropping it ends all of it.
///
/// # Errors
/// When an address cannot be bound.
pub async fn serve(
    table: watch::Receiver<Arc<Table>>,
    options: Options,
) -> io::Result<(Vec<SocketAddr>, impl Future<Output = ()> + Send + 'static)> {
    let mut sockets = Vec::new();
    for &address in &options.addresses {
        sockets.push(bind(address).await?);
    }
    let bound = sockets.iter().map(|(udp, _)| udp.local_addr()).collect::<io::Result<Vec<_>>>()?;
    // A resolv.conf that names the proxy itself would make it ask itself for ever.
    let servers = options.servers.iter().copied().filter(|server| !bound.contains(server)).collect();
    let proxy = Arc::new(Proxy {
        table,
        options: Options { servers, ..options },
        turn: AtomicUsize::new(0),
        queries: Arc::new(Semaphore::new(QUERIES_MAX)),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    });
    let mut tasks = JoinSet::new();
    for (udp, tcp) in sockets {
        tasks.spawn(Arc::clone(&proxy).serve_udp(Arc::new(udp)));
        tasks.spawn(Arc::clone(&proxy).serve_tcp(tcp));
    }
    Ok((bound, async move { while tasks.join_next().await.is_some() {} }))
}

async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 0;
    loop {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if address.port() != 0 || attempt == PORT_ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

struct Proxy {
    table: watch::Receiver<Arc<Table>>,
    options: Options,
    turn: AtomicUsize,
    queries: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Proxy {
    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            while tasks.try_join_next().is_some() {}
            // Errors here are of earlier answers (a client gone); the socket itself stays.
            let Ok((size, client)) = socket.recv_from(&mut buffer).await else { continue };
            self.options.metrics.request();
            let packet = &buffer[..size];
            let reply = match self.answer(packet, Transport::Udp) {
                Answer::Reply(reply) => reply,
                Answer::Silence => continue,
                Answer::Forward => {
                    let Ok(permit) = Arc::clone(&self.queries).try_acquire_owned() else {
                        self.options.metrics.dropped();
                        continue;
                    };
                    let (proxy, socket, packet) = (Arc::clone(&self), Arc::clone(&socket), packet.to_vec());
                    tasks.spawn(async move {
                        if let Some(reply) = proxy.upstream(&packet, Transport::Udp, permit).await {
                            let _ = socket.send_to(&reply, client).await;
                        }
                    });
                    continue;
                }
            };
            let _ = socket.send_to(&reply, client).await;
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            // The backlog holds clients while too many are here.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let proxy = Arc::clone(&self);
                    tasks.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = proxy.serve_connection(stream).await {
                            tracing::trace!(%error, "a DNS connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a DNS connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let packet = tokio::time::timeout(IDLE, forward::read_message(&mut stream)).await??;
            self.options.metrics.request();
            let reply = match self.answer(&packet, Transport::Tcp) {
                Answer::Reply(reply) => Some(reply),
                Answer::Silence => return Ok(()),
                Answer::Forward => match Arc::clone(&self.queries).acquire_owned().await {
                    Ok(permit) => self.upstream(&packet, Transport::Tcp, permit).await,
                    Err(_) => return Ok(()),
                },
            };
            let Some(reply) = reply else { return Ok(()) };
            tokio::time::timeout(IDLE, forward::write_message(&mut stream, &reply)).await??;
        }
    }

    fn answer(&self, packet: &[u8], transport: Transport) -> Answer {
        let table = Arc::clone(&self.table.borrow());
        answer::answer(packet, &table, transport, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    async fn upstream(&self, packet: &[u8], transport: Transport, _permit: OwnedSemaphorePermit) -> Option<Vec<u8>> {
        let begun = Instant::now();
        let (servers, turn) = (&self.options.servers, self.turn.load(Ordering::Relaxed));
        let response = forward::forward(packet, servers, self.options.asking, self.options.timeout, turn).await;
        let outcome = if response.is_some() { Upstream::Answered } else { Upstream::Failed };
        self.options.metrics.upstream(begun.elapsed(), outcome);
        match response {
            Some(response) => answer::fit(packet, response, transport),
            None => answer::failure(packet),
        }
    }
}
