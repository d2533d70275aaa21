//! What `/metrics` shows of discovery, under istiod's names, so that its dashboards and alerts go on working
//! (`istio.md` Annex G). Nothing a user can name is a label (S23).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use xds::TypeUrl;

#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    proxies: AtomicU64,
    config_events: AtomicU64,
    commits: AtomicU64,
    commit_micros: AtomicU64,
    accepted: [AtomicU64; KINDS],
    refused: [AtomicU64; KINDS],
    authentication_failures: AtomicU64,
    streams_refused: [AtomicU64; REFUSALS.len()],
}

/// What a stream that passed the door may still be refused with.
const REFUSALS: [Code; 3] = [Code::InvalidArgument, Code::PermissionDenied, Code::Unavailable];

const KINDS: usize = TypeUrl::ALL.len();

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            proxies: AtomicU64::new(0),
            config_events: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            commit_micros: AtomicU64::new(0),
            accepted: Default::default(),
            refused: Default::default(),
            authentication_failures: AtomicU64::new(0),
            streams_refused: Default::default(),
        }
    }
}

fn of(counters: &[AtomicU64; KINDS], kind: TypeUrl) -> Option<&AtomicU64> {
    TypeUrl::ALL.iter().position(|it| *it == kind).and_then(|at| counters.get(at))
}

impl Metrics {
    pub(crate) fn proxies(&self, connected: usize) {
        self.proxies.store(connected as u64, Relaxed);
    }

    pub(crate) fn config_events(&self, changes: usize) {
        self.config_events.fetch_add(changes as u64, Relaxed);
    }

    pub(crate) fn commit(&self, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        self.commit_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn acked(&self, kind: TypeUrl) {
        of(&self.accepted, kind).map(|it| it.fetch_add(1, Relaxed));
    }

    pub(crate) fn refused(&self, kind: TypeUrl) {
        of(&self.refused, kind).map(|it| it.fetch_add(1, Relaxed));
    }

    pub(crate) fn authentication_failed(&self) {
        self.authentication_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn stream_refused(&self, code: Code) {
        self.refusals(code).map(|it| it.fetch_add(1, Relaxed));
    }

    #[cfg(test)]
    pub(crate) fn streams_refused(&self, code: Code) -> u64 {
        self.refusals(code).map_or(0, |it| it.load(Relaxed))
    }

    fn refusals(&self, code: Code) -> Option<&AtomicU64> {
        REFUSALS.iter().position(|it| *it == code).and_then(|at| self.streams_refused.get(at))
    }

    /// Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        let version = agent::node::VERSION;
        let mut gauge = |name: &str, labels: &str, help: &str, kind: &str, value: f64| {
            _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n");
        };
        let load = |it: &AtomicU64| it.load(Relaxed) as f64;
        let build = format!("{{component=\"pilot\",tag=\"{version}\"}}");
        gauge("istio_build", &build, "The build that runs.", "gauge", 1.0);
        gauge("pilot_info", &format!("{{version=\"{version}\"}}"), "The build that runs.", "gauge", 1.0);
        gauge("istiod_uptime_seconds", "", "Seconds since the start.", "gauge", self.started.elapsed().as_secs_f64());
        gauge("pilot_xds", &format!("{{version=\"{version}\"}}"), "Connected proxies.", "gauge", load(&self.proxies));
        gauge("pilot_inbound_updates", "{type=\"config\"}", "Changed objects.", "counter", load(&self.config_events));
        gauge("navarch_commits_total", "", "Batches of changes applied.", "counter", load(&self.commits));
        let seconds = load(&self.commit_micros) / 1e6;
        gauge("navarch_commit_seconds_total", "", "Time spent in applying them.", "counter", seconds);
        if let Some(process) = process() {
            let seconds = "Processor time in seconds.";
            gauge("process_cpu_seconds_total", "", seconds, "counter", process.cpu_seconds);
            gauge("process_resident_memory_bytes", "", "Resident memory.", "gauge", process.resident_bytes);
            let anonymous = "Resident memory that is not of a file, such as the program.";
            gauge("navarch_anonymous_memory_bytes", "", anonymous, "gauge", process.anonymous_bytes);
            gauge("process_virtual_memory_bytes", "", "Virtual memory.", "gauge", process.virtual_bytes);
        }
        let failures = load(&self.authentication_failures);
        gauge("navarch_xds_authentication_failures_total", "", "Streams refused at the door.", "counter", failures);
        let refused = "navarch_xds_streams_refused_total";
        _ = write!(out, "# HELP {refused} Streams ended for who they claim to be.\n# TYPE {refused} counter\n");
        for (code, count) in REFUSALS.iter().zip(&self.streams_refused) {
            _ = writeln!(out, "{refused}{{code=\"{code:?}\"}} {}", count.load(Relaxed));
        }
        by_kind(out, "pilot_xds_pushes", "Responses that proxies have answered.", |at| {
            load(&self.accepted[at]) + load(&self.refused[at])
        });
        by_kind(out, "pilot_total_xds_rejects", "Responses that proxies have refused.", |at| load(&self.refused[at]));
    }
}

/// What Prometheus' clients say of their process; `/proc/self/stat` and `status` are what a process that cannot
/// be dumped may read of itself.
struct ProcessFigures {
    cpu_seconds: f64,
    resident_bytes: f64,
    anonymous_bytes: f64,
    virtual_bytes: f64,
}

fn process() -> Option<ProcessFigures> {
    let process = procfs::process::Process::myself().ok()?;
    let (stat, status) = (process.stat().ok()?, process.status().ok()?);
    Some(ProcessFigures {
        cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
        resident_bytes: stat.rss as f64 * procfs::page_size() as f64,
        // kB.
        anonymous_bytes: status.rssanon.unwrap_or_default() as f64 * 1024.0,
        virtual_bytes: stat.vsize as f64,
    })
}

fn by_kind(out: &mut String, name: &str, help: &str, value: impl Fn(usize) -> f64) {
    _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
    for (at, kind) in TypeUrl::ALL.iter().enumerate() {
        _ = writeln!(out, "{name}{{type=\"{}\"}} {}", kind.short(), value(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_istiod_s_names_and_counts() {
        let metrics = Metrics::default();
        metrics.proxies(3);
        metrics.acked(TypeUrl::Cluster);
        metrics.refused(TypeUrl::Cluster);
        let mut text = String::new();
        metrics.render(&mut text);
        let tag = format!("{}-navarch.{}", agent::node::ISTIO_VERSION, env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&format!("pilot_xds{{version=\"{tag}\"}} 3\n")), "{text}");
        let resident = text.lines().find_map(|it| it.strip_prefix("process_resident_memory_bytes "));
        assert!(resident.is_some_and(|it| it.parse::<f64>().unwrap() > 1e6), "{text}");
        assert!(text.contains(&format!("istio_build{{component=\"pilot\",tag=\"{tag}\"}} 1\n")), "{text}");
        assert!(text.contains("pilot_xds_pushes{type=\"cds\"} 2\n"), "{text}");
        assert!(text.contains("pilot_total_xds_rejects{type=\"cds\"} 1\n"), "{text}");
    }
}
