//! What the agent counts, under Istio's names.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Counters of the agent.
#[derive(Debug, Default)]
pub struct Metrics {
    certificate_requests: AtomicU64,
    certificate_failures: AtomicU64,
    discovery_requests: AtomicU64,
    discovery_responses: AtomicU64,
    connections_ended_by_envoy: AtomicU64,
    connections_ended_by_istiod: AtomicU64,
    connections_failed: AtomicU64,
}

impl Metrics {
    pub(crate) fn certificate_request(&self) {
        add(&self.certificate_requests);
    }

    pub(crate) fn certificate_failure(&self) {
        add(&self.certificate_failures);
    }

    pub(crate) fn discovery_request(&self) {
        add(&self.discovery_requests);
    }

    pub(crate) fn discovery_response(&self) {
        add(&self.discovery_responses);
    }

    pub(crate) fn ended_by_envoy(&self) {
        add(&self.connections_ended_by_envoy);
    }

    pub(crate) fn ended_by_istiod(&self) {
        add(&self.connections_ended_by_istiod);
    }

    pub(crate) fn connection_failed(&self) {
        add(&self.connections_failed);
    }

    /// In Prometheus' text format; `expiry` is the workload certificate's end.
    #[must_use]
    pub fn text(&self, expiry: Option<SystemTime>, now: SystemTime) -> String {
        let mut text = String::new();
        let counters = [
            ("num_outgoing_requests", "{request_type=\"csr\"}", "Requests to the CA.", &self.certificate_requests),
            (
                "num_failed_outgoing_requests",
                "{request_type=\"csr\"}",
                "Requests to the CA that failed.",
                &self.certificate_failures,
            ),
            ("xds_proxy_requests", "", "Messages of Envoy to the control plane.", &self.discovery_requests),
            ("xds_proxy_responses", "", "Messages of the control plane.", &self.discovery_responses),
            ("envoy_connection_terminations", "", "Streams that Envoy ended.", &self.connections_ended_by_envoy),
            (
                "istiod_connection_terminations",
                "",
                "Streams that the control plane ended.",
                &self.connections_ended_by_istiod,
            ),
            ("istiod_connection_failures", "", "Streams that could not be opened.", &self.connections_failed),
        ];
        for (name, labels, help, value) in counters {
            let name = format!("istio_agent_{name}");
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name}{labels} {value}");
        }
        if let Some(expiry) = expiry {
            let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let left = i128::from(seconds(expiry)) - i128::from(seconds(now));
            let name = "istio_agent_cert_expiry_seconds";
            let _ = writeln!(
                text,
                "# HELP {name} Until the workload's certificate ends; negative afterwards.\n# TYPE {name} gauge\n{name}{{resource_name=\"default\"}} {left}"
            );
        }
        text
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
