//! What runs beside Envoy in a pod: its bootstrap, its certificates, its way to the control plane, traffic capture.

pub mod capture;
pub mod dns;
pub mod status;
