//! What the user sees: a screen that is drawn anew, lines, or lines of JSON.

use super::laptop::PodKey;
use super::locate::Line;
use super::status::{Split, Status};
use super::supervisor::{Report, State};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use tokio::time::Instant;

/// Something happened that a user may want to know.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    Workload {
        pod: String,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Connected {
        proxy: String,
    },
    Disconnected {
        proxy: String,
    },
    Ack {
        proxy: String,
        #[serde(rename = "type")]
        kind: &'static str,
        version: String,
    },
    Nack {
        proxy: String,
        #[serde(rename = "type")]
        kind: &'static str,
        reason: String,
        resources: Vec<String>,
    },
    /// All there are now.
    Problems {
        problems: Vec<Line>,
    },
    /// Everything runs and has its configuration.
    Ready {
        proxies: usize,
        ingress: Vec<SocketAddr>,
    },
    /// Requests of the last seconds, by service and subset.
    Splits {
        splits: BTreeMap<String, Split>,
    },
    Stopping,
}

#[derive(Debug)]
pub enum View {
    Screen,
    Lines { splits: BTreeMap<String, Split> },
    Json { splits: BTreeMap<String, Split> },
    Silent,
}

impl Notice {
    pub fn workload(report: &Report) -> Self {
        let (state, reason) = match &report.state {
            State::Starting => ("starting", None),
            State::Ready => ("ready", None),
            State::Down(why) => ("down", Some(why.clone())),
            State::Failed(why) => ("failed", Some(why.clone())),
            State::Stopped => ("stopped", None),
        };
        Self::Workload { pod: report.pod.to_string(), state, reason }
    }
}

impl View {
    pub fn lines() -> Self {
        Self::Lines { splits: BTreeMap::new() }
    }

    pub fn json() -> Self {
        Self::Json { splits: BTreeMap::new() }
    }

    pub fn say(&self, notice: &Notice) {
        match self {
            // Every change ends in several ACKs: too much for people.
            Self::Lines { .. } if !matches!(notice, Notice::Ack { .. }) => print(&notice.to_string()),
            Self::Json { .. } => print(&serde_json::to_string(notice).unwrap_or_default()),
            Self::Screen | Self::Lines { .. } | Self::Silent => {}
        }
    }

    /// Said when they change.
    pub fn splits(&mut self, now: &BTreeMap<String, Split>) {
        let (Self::Lines { splits } | Self::Json { splits }) = self else { return };
        if splits != now {
            splits.clone_from(now);
            self.say(&Notice::Splits { splits: now.clone() });
        }
    }

    pub fn draw(&self, status: &Status) {
        if let Self::Screen = self {
            // Home, then clear what is below: no flicker, and no terminal library.
            print(&format!("\x1b[H\x1b[J{}", screen(status)));
        }
    }
}

/// A closed pipe (`navarch up | head`) is no reason to end badly.
fn print(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").ok();
}

fn screen(status: &Status) -> String {
    let mut lines = vec![match (status.ready, &status.ingress[..]) {
        (false, _) => "navarch up: starting".to_owned(),
        (true, []) => "navarch up".to_owned(),
        (true, ingress) => {
            let all: Vec<String> = ingress.iter().map(|it| format!("http://{it}")).collect();
            format!("navarch up: {}", all.join("  "))
        }
    }];
    lines.push(String::new());
    lines.push(format!("{:<36} {:<10} {:<10} LAST ACK", "PROXY", "STATE", "CONNECTED"));
    lines.extend(status.workloads.iter().map(|(key, workload)| proxy(key, workload)));
    for (key, workload) in &status.workloads {
        if let Some((kind, reason)) = &workload.nack {
            lines.push(format!("NACK {key} {kind}: {reason}"));
        }
        if let Some(State::Down(why) | State::Failed(why)) = &workload.state {
            lines.push(format!("DOWN {key}: {why}"));
        }
    }
    if !status.splits.is_empty() {
        lines.push(String::new());
        lines.push("REQUESTS OF THE LAST 5 SECONDS".to_owned());
        lines.extend(status.splits.iter().map(|(service, split)| format!("{service}  {split}")));
    }
    if !status.problems.is_empty() {
        lines.push(String::new());
        lines.extend(status.problems.iter().map(ToString::to_string));
    }
    lines.push(String::new());
    lines.push("Ctrl-C ends everything.".to_owned());
    lines.join("\n")
}

fn proxy(key: &PodKey, workload: &super::status::Workload) -> String {
    let state = match workload.state {
        None | Some(State::Starting) => "starting",
        Some(State::Ready) => "ready",
        Some(State::Down(_)) => "down",
        Some(State::Failed(_)) => "failed",
        Some(State::Stopped) => "stopped",
    };
    let now = Instant::now();
    let acks: Vec<String> = workload
        .acks
        .iter()
        .map(|(kind, (version, at))| {
            let short: String = version.chars().take(8).collect();
            format!("{kind} {short} {}s", now.duration_since(*at).as_secs())
        })
        .collect();
    let connected = if workload.connections > 0 { "yes" } else { "no" };
    format!("{:<36} {state:<10} {connected:<10} {}", key.to_string(), acks.join("  "))
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.keys().map(|subset| format!("{subset} {:.1} %", self.share(subset))).collect();
        write!(f, "{} ({} requests)", shares.join("  "), self.total())
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { pod, state, reason: None } => write!(f, "{pod}: {state}"),
            Self::Workload { pod, state, reason: Some(reason) } => write!(f, "{pod}: {state}: {reason}"),
            Self::Connected { proxy } => write!(f, "{proxy}: connected"),
            Self::Disconnected { proxy } => write!(f, "{proxy}: disconnected"),
            Self::Ack { proxy, kind, version } => write!(f, "{proxy}: ACK {kind} {version}"),
            Self::Nack { proxy, kind, reason, resources } => {
                write!(f, "{proxy}: NACK {kind}: {reason} (sent: {})", resources.join(", "))
            }
            Self::Problems { problems } if problems.is_empty() => f.write_str("no problems any more"),
            Self::Problems { problems } => {
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&all.join("\n"))
            }
            Self::Ready { proxies, ingress } => {
                let all: Vec<String> = ingress.iter().map(|it| format!(" http://{it}")).collect();
                write!(f, "ready: {proxies} proxies{}", all.concat())
            }
            Self::Splits { splits } => {
                let all: Vec<String> = splits.iter().map(|(service, split)| format!("{service}  {split}")).collect();
                f.write_str(&all.join("\n"))
            }
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let mut status = Status::default();
        let workload = super::super::status::Workload {
            state: Some(State::Down("its Envoy ended".into())),
            connections: 1,
            acks: BTreeMap::from([(xds::TypeUrl::Route, ("0123456789abcdef".into(), Instant::now()))]),
            nack: Some((xds::TypeUrl::Listener, "port taken".into())),
        };
        status.workloads.insert(PodKey { namespace: "default".into(), name: "web-0".into() }, workload);
        status.splits.insert("reviews:9080".into(), Split(BTreeMap::from([("v1".into(), 9), ("v2".into(), 1)])));
        status
    }

    #[test]
    fn the_screen_shows_acks_nacks_splits_and_what_is_down() {
        let screen = screen(&status());
        for part in [
            "web-0.default",
            "rds 01234567 0s",
            "NACK web-0.default lds: port taken",
            "DOWN web-0.default: its Envoy ended",
            "v1 90.0 %  v2 10.0 % (10 requests)",
        ] {
            assert!(screen.contains(part), "{part} is missing in {screen}");
        }
    }

    #[test]
    fn json_lines_name_their_event() {
        let nack = Notice::Nack { proxy: "a.b".into(), kind: "lds", reason: "no".into(), resources: vec!["x".into()] };
        let value = serde_json::to_value(nack).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"event": "nack", "proxy": "a.b", "type": "lds", "reason": "no", "resources": ["x"]})
        );
        let splits = Notice::Splits { splits: status().splits };
        assert_eq!(serde_json::to_value(splits).unwrap()["splits"]["reviews:9080"]["v1"], 9);
    }
}
