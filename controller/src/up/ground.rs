//! The run's own piece of 127.0.0.0/8, and what may be bound on it.

use super::laptop::{LowPorts, Network};
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// As istiod's plain-text xDS port; on an address of the run's own.
const XDS_PORT: u16 = 15010;

/// A block of addresses that no other run has. Owning its xDS socket is owning the block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) number: u8,
    pub(super) xds: TcpListener,
    pub(super) low_ports: LowPorts,
}

impl Block {
    /// Starts at a number that differs from run to run, so that runs seldom meet.
    pub(super) async fn claim() -> Result<Self> {
        let start = std::process::id();
        let mut last = None;
        for step in 0..254 {
            let number = 1 + u8::try_from(start.wrapping_mul(7).wrapping_add(step) % 254).expect("below 254");
            let address = Network::control_plane(number);
            match TcpListener::bind((address, XDS_PORT)).await {
                Ok(xds) => return Ok(Self { number, xds, low_ports: low_ports(address).await }),
                Err(why) => last = Some(why),
            }
        }
        let why = last.map(|it| it.to_string()).unwrap_or_default();
        bail!("no block 127.B.0.0/16 is free: port {XDS_PORT} cannot be bound on any 127.B.255.254 ({why})")
    }
}

/// Found out by trying: who may bind them depends on user, capabilities and `net.ipv4.ip_unprivileged_port_start`.
async fn low_ports(address: Ipv4Addr) -> LowPorts {
    match TcpListener::bind((address, 80)).await {
        Err(why) if why.kind() == ErrorKind::PermissionDenied => LowPorts::Raised,
        _ => LowPorts::Bindable,
    }
}

/// Before anything is started: the one place where a mesh meets what else runs on this machine.
pub(super) async fn check_ingress(ingress: &[SocketAddr]) -> Result<()> {
    for address in ingress {
        TcpListener::bind(address).await.with_context(|| {
            format!(
                "the ingress gateway cannot listen on {address}: is port {} taken? Stop what uses it, or give the \
                 gateway another address with --ingress (127.0.0.2, for example)",
                address.port()
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_runs_have_different_blocks() {
        let (one, two) = (Block::claim().await.unwrap(), Block::claim().await.unwrap());
        assert_ne!(one.number, two.number);
        assert_eq!(one.xds.local_addr().unwrap().ip(), Network::control_plane(one.number));
    }

    #[tokio::test]
    async fn a_taken_ingress_port_is_an_error_that_names_the_port_and_the_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let why = format!("{:#}", check_ingress(&[address]).await.unwrap_err());
        assert!(why.contains(&address.to_string()) && why.contains("--ingress"), "{why}");
    }
}
