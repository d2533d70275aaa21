//! What the webhooks count, under Istio's names (`pkg/kube/inject/monitoring.go`,
//! `pkg/webhooks/validation/server/monitoring.go`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets of `sidecar_injection_time_seconds`; istiod's.
const TIME_BUCKETS_SECONDS: [f64; 7] = [0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0];

/// Kinds and reasons come from requests: past this many sets of labels, they are counted as `other`.
const LABEL_SETS_MAX: usize = 200;

#[derive(Debug, Default)]
pub struct Metrics {
    pub(super) injection_requests: AtomicU64,
    pub(super) injection_success: AtomicU64,
    pub(super) injection_failure: AtomicU64,
    pub(super) injection_skip: AtomicU64,
    time_buckets: [AtomicU64; TIME_BUCKETS_SECONDS.len()],
    time_count: AtomicU64,
    time_sum_microseconds: AtomicU64,
    validation_passed: Family,
    validation_failed: Family,
    validation_http_error: Family,
}

/// One counter for each set of labels; the key is the labels as Prometheus writes them.
#[derive(Debug, Default)]
struct Family(Mutex<BTreeMap<String, u64>>);

impl Family {
    fn add(&self, labels: &[(&str, &str)]) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = text(labels);
        if !counters.contains_key(&key) && counters.len() >= LABEL_SETS_MAX {
            let other: Vec<_> = labels.iter().map(|(name, _)| (*name, "other")).collect();
            key = text(&other);
        }
        *counters.entry(key).or_default() += 1;
    }
}

fn text(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    labels.join(",")
}

impl Metrics {
    pub(super) fn add(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn injection_took(&self, time: Duration) {
        for (bucket, upper) in self.time_buckets.iter().zip(TIME_BUCKETS_SECONDS) {
            if time.as_secs_f64() <= upper {
                self.add(bucket);
            }
        }
        self.add(&self.time_count);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.time_sum_microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    pub(super) fn passed(&self, resource: &Resource<'_>) {
        self.validation_passed.add(&resource.labels());
    }

    pub(super) fn failed(&self, resource: &Resource<'_>, reason: &str) {
        let [group, version, name] = resource.labels();
        self.validation_failed.add(&[group, version, name, ("reason", reason)]);
    }

    pub(super) fn http_error(&self, status: u16) {
        self.validation_http_error.add(&[("status", &status.to_string())]);
    }

    /// Prometheus' text format, to be joined with the process's other metrics.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let plain = [
            ("sidecar_injection_requests_total", "Requests to inject a proxy.", &self.injection_requests),
            ("sidecar_injection_success_total", "Requests to inject that were answered well.", &self.injection_success),
            ("sidecar_injection_failure_total", "Requests to inject that failed.", &self.injection_failure),
            ("sidecar_injection_skip_total", "Pods that were left alone.", &self.injection_skip),
        ];
        for (name, help, counter) in plain {
            head(&mut out, name, help, "counter");
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        self.render_time(&mut out);
        let labelled = [
            ("galley_validation_passed", "Objects found valid.", &self.validation_passed),
            ("galley_validation_failed", "Objects found invalid.", &self.validation_failed),
            ("galley_validation_http_error", "Reviews that could not be read.", &self.validation_http_error),
        ];
        for (name, help, family) in labelled {
            head(&mut out, name, help, "counter");
            for (labels, count) in family.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = writeln!(out, "{name}{{{labels}}} {count}");
            }
        }
        out
    }

    fn render_time(&self, out: &mut String) {
        let name = "sidecar_injection_time_seconds";
        head(out, name, "Time to inject a proxy.", "histogram");
        for (bucket, upper) in self.time_buckets.iter().zip(TIME_BUCKETS_SECONDS) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{upper}\"}} {}", bucket.load(Ordering::Relaxed));
        }
        let count = self.time_count.load(Ordering::Relaxed);
        let sum_microseconds = self.time_sum_microseconds.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", Duration::from_micros(sum_microseconds).as_secs_f64());
        let _ = writeln!(out, "{name}_count {count}");
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// What a review is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) resource: &'a str,
}

impl Resource<'_> {
    fn labels(&self) -> [(&'static str, &str); 3] {
        [("group", self.group), ("version", self.version), ("resource", self.resource)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_from_requests_are_escaped_and_bounded() {
        let metrics = Metrics::default();
        for i in 0..2 * LABEL_SETS_MAX {
            let resource = format!("a\"b\n{i}");
            metrics.passed(&Resource { resource: &resource, ..Resource::default() });
        }
        let text = metrics.render();
        assert!(text.contains(r#"galley_validation_passed{group="",version="",resource="a\"b\n7"} 1"#), "{text}");
        assert!(text.contains(r#"resource="other"} 200"#), "{text}");
        assert!(text.lines().count() < LABEL_SETS_MAX + 40);
    }
}
