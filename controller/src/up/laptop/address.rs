//! Who has which address. A run owns one block 127.B.0.0/16, so that runs and tests go side by side; in it each pod
//! has three addresses, one for each side that would otherwise fight over a port.

use super::PodKey;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The pod's IP: inbound listeners, and what EndpointSlices show.
    pub pod: Ipv4Addr,
    /// Outbound listeners, the HTTP proxy and the admin interface.
    pub sidecar: Ipv4Addr,
    /// Where the program listens on its own ports.
    pub app: Ipv4Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// `navarch up`. `ingress`, if any, is the pod address of the ingress gateway.
    Loopback { block: u8, ingress: Option<Ipv4Addr> },
    /// `navarch translate`: the usual pod network of a cluster; nothing is bound.
    Cluster,
}

impl Network {
    pub(super) fn addresses(self, seat: u16, is_ingress: bool) -> Addresses {
        match self {
            Self::Loopback { block, ingress } => {
                // Four to a seat, the first unused: 127.B.0.0 looks like a network to people.
                let part =
                    |part: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, block, 0, 0)) + 4 * u32::from(seat) + part);
                let pod = ingress.filter(|_| is_ingress).unwrap_or_else(|| part(1));
                Addresses { pod, sidecar: part(2), app: part(3) }
            }
            Self::Cluster => {
                let [high, low] = (seat + 2).to_be_bytes();
                let pod = Ipv4Addr::new(10, 244, high, low);
                Addresses { pod, sidecar: Ipv4Addr::LOCALHOST, app: Ipv4Addr::LOCALHOST }
            }
        }
    }

    /// The control plane's own address, above every seat.
    pub fn control_plane(block: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, block, 255, 254)
    }
}

/// Numbers for pods, in the order in which they were first seen. A pod keeps its number for good: one that comes back
/// finds its address, and a new one never gets the address of one that still drains.
#[derive(Clone, Debug, Default)]
pub struct Seats(BTreeMap<PodKey, u16>);

impl Seats {
    /// Below 16,000, so that `control_plane` is never a pod's.
    const COUNT: u16 = 16_000;

    pub(super) fn seat(&mut self, pod: &PodKey) -> u16 {
        let next = self.0.len() as u16 % Self::COUNT;
        *self.0.entry(pod.clone()).or_insert(next)
    }
}
