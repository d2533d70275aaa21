//! Ports that the proxy itself uses, and so cannot serve.

/// Admin, outbound, inbound, HBONE, agent, readiness, DNS, Prometheus (`istio.md` 2.11).
pub const RESERVED: [u16; 8] = [15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090];
