//! What the proxy counts, under Istio's names.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of the DNS proxy.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: AtomicU64,
    upstream_requests: AtomicU64,
    upstream_failures: AtomicU64,
    dropped: AtomicU64,
    upstream_microseconds: AtomicU64,
}

impl Metrics {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn upstream(&self, took: Duration, outcome: Upstream) {
        self.upstream_requests.fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.upstream_microseconds.fetch_add(microseconds, Ordering::Relaxed);
        if outcome == Upstream::Failed {
            self.upstream_failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let requests = self.upstream_requests.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("dns_requests_total", "DNS requests.", self.requests.load(Ordering::Relaxed)),
            ("dns_upstream_requests_total", "DNS requests handed to upstream servers.", requests),
            (
                "dns_upstream_failures_total",
                "DNS requests no upstream server answered.",
                self.upstream_failures.load(Ordering::Relaxed),
            ),
            (
                "dns_dropped_total",
                "DNS requests dropped because too many were under way.",
                self.dropped.load(Ordering::Relaxed),
            ),
        ] {
            let _ = writeln!(
                text,
                "# HELP istio_agent_{name} {help}\n# TYPE istio_agent_{name} counter\nistio_agent_{name} {value}"
            );
        }
        let name = "istio_agent_dns_upstream_request_duration_seconds";
        let micros = self.upstream_microseconds.load(Ordering::Relaxed);
        let _ = writeln!(
            text,
            "# HELP {name} Time upstream servers took.\n# TYPE {name} summary\n{name}_sum {}.{:06}\n{name}_count {requests}",
            micros / 1_000_000,
            micros % 1_000_000
        );
        text
    }
}

/// How an upstream request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    Answered,
    Failed,
}
