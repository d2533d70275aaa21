//! Traffic capture: the netfilter rules that send a pod's traffic through its Envoy (`istio-iptables`).

pub mod cli;
