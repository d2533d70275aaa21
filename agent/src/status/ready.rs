//! Whether Envoy is ready, from its own counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::client;

/// How long Envoy's admin may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The answer is a handful of lines.
const BYTES_MAX: usize = 64 * 1024;

const UPDATES: &str = r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$";
const STATE: &str = r"^(server\.state|listener_manager\.workers_started)";

/// What Envoy's counters say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has clusters and listeners, is live, and its workers run.
    Ready,
    /// Not yet, and why.
    NotYet(String),
}

/// Asks Envoy. The two questions are Istio's, asked as one.
pub async fn ask(admin: SocketAddr) -> Verdict {
    let filter = format!("{UPDATES}|{STATE}");
    let path = format!("/stats?usedonly&filter={}", escape(&filter));
    match client::get(admin, &path, TIMEOUT, BYTES_MAX).await {
        Ok(response) => judge(&String::from_utf8_lossy(&response.body)),
        Err(error) => Verdict::NotYet(format!("Envoy's admin does not answer: {error}")),
    }
}

/// Reads lines of `name: value`. Pure.
#[must_use]
pub fn judge(stats: &str) -> Verdict {
    let stats: BTreeMap<&str, u64> = stats
        .lines()
        .filter_map(|line| line.rsplit_once(':'))
        .filter_map(|(name, value)| Some((name.trim(), value.trim().parse().ok()?)))
        .collect();
    let count = |name: &str| stats.get(name).copied().unwrap_or(0);
    let (clusters, listeners) =
        (count("cluster_manager.cds.update_success"), count("listener_manager.lds.update_success"));
    let rejected = (count("cluster_manager.cds.update_rejected"), count("listener_manager.lds.update_rejected"));
    let counts = format!(
        "cds updates: {clusters} successful, {} rejected; lds updates: {listeners} successful, {} rejected",
        rejected.0, rejected.1
    );
    if clusters == 0 && listeners == 0 {
        return Verdict::NotYet(format!("config not received from XDS server (is Istiod running?): {counts}"));
    }
    if clusters == 0 || listeners == 0 {
        let what = if rejected == (0, 0) { "not fully received" } else { "received but rejected" };
        return Verdict::NotYet(format!("config {what}: {counts}"));
    }
    match (stats.get("server.state"), stats.get("listener_manager.workers_started")) {
        (Some(0), Some(1)) => Verdict::Ready,
        (None, _) | (_, None) => Verdict::NotYet("Envoy has not said its state".to_owned()),
        (Some(0), Some(_)) => Verdict::NotYet("Envoy's workers have not started".to_owned()),
        (Some(state), _) => Verdict::NotYet(format!("Envoy is not live, its state is {}", state_name(*state))),
    }
}

fn state_name(state: u64) -> &'static str {
    match state {
        1 => "DRAINING",
        2 => "PRE_INITIALIZING",
        3 => "INITIALIZING",
        _ => "unknown",
    }
}

/// Percent-encodes what may not stand in a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_config_a_live_server_and_workers() {
        let full = "cluster_manager.cds.update_success: 2\nlistener_manager.lds.update_success: 1\nserver.state: 0\nlistener_manager.workers_started: 1\n";
        assert_eq!(judge(full), Verdict::Ready);
        for (from, to, says) in [
            ("cds.update_success: 2", "cds.update_success: 0", "not fully received"),
            ("lds.update_success: 1", "lds.update_rejected: 1", "rejected"),
            ("server.state: 0", "server.state: 2", "PRE_INITIALIZING"),
            ("server.state: 0", "", "state"),
            ("started: 1", "started: 0", "workers"),
        ] {
            match judge(&full.replace(from, to)) {
                Verdict::NotYet(reason) => assert!(reason.contains(says), "{from} → {to}: {reason}"),
                Verdict::Ready => panic!("{from} → {to}"),
            }
        }
        assert!(matches!(judge(""), Verdict::NotYet(reason) if reason.contains("is Istiod running")));
    }
}
