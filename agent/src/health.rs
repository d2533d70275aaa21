//! Whether the application is well, as a WorkloadGroup's probe asks: kubelet asks nobody outside of Kubernetes. What
//! changes is told to the control plane on Envoy's stream (`istio.v1.HealthInformation`).

use std::net::IpAddr;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::watch;

use crate::status::probe::{self, Action, Probe, Scheme};

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    /// And why.
    Unhealthy(String),
}

/// A probe, and how often it counts; what is not said is Kubernetes' default.
#[derive(Debug, PartialEq)]
pub(crate) struct Check {
    ask: Ask,
    timeout: Duration,
    initial_delay: Duration,
    period: Duration,
    /// So many in a row make a change.
    successes: u32,
    failures: u32,
}

#[derive(Debug, PartialEq)]
enum Ask {
    /// Of `host`, or of this workload itself.
    Probe {
        action: Action,
        host: Option<String>,
        headers: HeaderMap,
    },
    Exec(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    initial_delay_seconds: u32,
    #[serde(default)]
    timeout_seconds: u32,
    #[serde(default)]
    period_seconds: u32,
    #[serde(default)]
    success_threshold: u32,
    #[serde(default)]
    failure_threshold: u32,
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    exec: Option<Exec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    host: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct TcpSocket {
    port: u16,
    #[serde(default)]
    host: String,
}

#[derive(Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: String,
}

#[derive(Deserialize)]
struct Exec {
    command: Vec<String>,
}

impl Check {
    /// Reads `readinessProbe` of a ProxyConfig.
    pub(crate) fn parse(probe: &Value) -> Result<Self, String> {
        let wire = Wire::deserialize(probe).map_err(|error| error.to_string())?;
        let ask = match (wire.http_get, wire.tcp_socket, wire.grpc, wire.exec) {
            (Some(http), None, None, None) => http.ask()?,
            (None, Some(tcp), None, None) => probe_of(Action::Tcp { port: tcp.port }, &tcp.host, HeaderMap::new()),
            (None, None, Some(grpc), None) => {
                probe_of(Action::Grpc { port: grpc.port, service: grpc.service }, "", HeaderMap::new())
            }
            (None, None, None, Some(exec)) if !exec.command.is_empty() => Ask::Exec(exec.command),
            _ => return Err("exactly one of httpGet, tcpSocket, grpc and exec is needed".into()),
        };
        let or = |said: u32, default: u32| if said == 0 { default } else { said };
        let seconds = |said: u32, default: u32| Duration::from_secs(or(said, default).into());
        Ok(Self {
            ask,
            timeout: seconds(wire.timeout_seconds, 1),
            initial_delay: Duration::from_secs(wire.initial_delay_seconds.into()),
            period: seconds(wire.period_seconds, 10),
            successes: or(wire.success_threshold, 1),
            failures: or(wire.failure_threshold, 3),
        })
    }

    /// Asks for ever. `own` is the workload's address.
    pub(crate) async fn keep(self, own: IpAddr, told: watch::Sender<Option<Health>>) {
        tokio::time::sleep(self.initial_delay).await;
        let mut ticks = tokio::time::interval(self.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut successes, mut failures) = (0, 0);
        loop {
            ticks.tick().await;
            let answer = self.once(own).await;
            (successes, failures) = match answer {
                Ok(()) => (successes + 1, 0),
                Err(_) => (0, failures + 1),
            };
            let health = match answer {
                Ok(()) if successes >= self.successes => Health::Healthy,
                Err(why) if failures >= self.failures => Health::Unhealthy(why),
                _ => continue,
            };
            told.send_if_modified(|old| {
                let same = matches!(
                    (&*old, &health),
                    (Some(Health::Healthy), Health::Healthy) | (Some(Health::Unhealthy(_)), Health::Unhealthy(_))
                );
                if !same {
                    tracing::info!(?health, "the application's health changed");
                    *old = Some(health);
                }
                !same
            });
        }
    }

    async fn once(&self, own: IpAddr) -> Result<(), String> {
        let timeout = self.timeout;
        match &self.ask {
            Ask::Exec(command) => {
                let status = Command::new(&command[0]).args(&command[1..]).kill_on_drop(true).status();
                match tokio::time::timeout(timeout, status).await {
                    Ok(Ok(status)) if status.success() => Ok(()),
                    Ok(Ok(status)) => Err(format!("{}: {status}", command[0])),
                    Ok(Err(error)) => Err(format!("{}: {error}", command[0])),
                    Err(_) => Err(format!("{}: no end within {timeout:?}", command[0])),
                }
            }
            Ask::Probe { action, host, headers } => {
                let to = match host {
                    Some(host) => resolve(host).await?,
                    None => own,
                };
                let probe = Probe { action: action.clone(), timeout };
                let status = probe::answer(&probe, to, headers, 0).await?.status;
                let is_well = status.is_success() || status.is_redirection();
                if is_well { Ok(()) } else { Err(format!("HTTP status {}", StatusCode::as_u16(&status))) }
            }
        }
    }
}

impl HttpGet {
    fn ask(self) -> Result<Ask, String> {
        let mut headers = HeaderMap::new();
        for Header { name, value } in &self.http_headers {
            let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
            let value: HeaderValue = value.parse().map_err(|_| format!("{value:?} is no value of a header"))?;
            headers.append(name, value);
        }
        if !self.host.is_empty() && !headers.contains_key(HOST) {
            headers.insert(HOST, self.host.parse().map_err(|_| format!("{:?} is no host", self.host))?);
        }
        let path = if self.path.starts_with('/') { self.path } else { format!("/{}", self.path) };
        let scheme = if self.scheme.eq_ignore_ascii_case("https") { Scheme::Https } else { Scheme::Http };
        Ok(probe_of(Action::Http { port: self.port, path, scheme }, &self.host, headers))
    }
}

fn probe_of(action: Action, host: &str, headers: HeaderMap) -> Ask {
    Ask::Probe { action, host: Some(host.to_owned()).filter(|it| !it.is_empty()), headers }
}

async fn resolve(host: &str) -> Result<IpAddr, String> {
    let mut found = tokio::net::lookup_host((host, 0)).await.map_err(|error| format!("{host}: {error}"))?;
    found.next().map(|it| it.ip()).ok_or_else(|| format!("{host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::net::TcpListener;

    #[test]
    fn a_probe_is_one_of_four_with_kubernetes_defaults() {
        let check = Check::parse(&json!({"tcpSocket": {"port": 5}})).unwrap();
        assert_eq!((check.period, check.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        assert_eq!((check.successes, check.failures, check.initial_delay), (1, 3, Duration::ZERO));
        let http = json!({"httpGet": {"path": "x", "port": 80, "host": "h", "scheme": "HTTPS",
                          "httpHeaders": [{"name": "A", "value": "b"}]}, "periodSeconds": 2, "failureThreshold": 1});
        let check = Check::parse(&http).unwrap();
        let Ask::Probe { action, host, headers } = &check.ask else { panic!("{check:?}") };
        assert_eq!(*action, Action::Http { port: 80, path: "/x".into(), scheme: Scheme::Https });
        assert_eq!(
            (host.as_deref(), &headers["a"], &headers["host"]),
            (Some("h"), &"b".parse().unwrap(), &"h".parse().unwrap())
        );
        for bad in [
            json!({}),
            json!({"exec": {"command": []}}),
            json!({"tcpSocket": {"port": 1}, "grpc": {"port": 2}}),
            json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a b"}]}}),
        ] {
            assert!(Check::parse(&bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_changes_is_told_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut check = Check::parse(&json!({"tcpSocket": {"port": address.port()}, "failureThreshold": 2})).unwrap();
        check.period = Duration::from_millis(5);
        let (told, mut seen) = watch::channel(None);
        let task = tokio::spawn(check.keep(address.ip(), told));
        let mut next = async || {
            tokio::time::timeout(Duration::from_secs(10), seen.changed()).await.unwrap().unwrap();
            seen.borrow_and_update().clone()
        };
        assert_eq!(next().await, Some(Health::Healthy));
        drop(listener);
        assert!(matches!(next().await, Some(Health::Unhealthy(_))));
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(next().await, Some(Health::Healthy));
        task.abort();
    }

    #[tokio::test]
    async fn a_command_is_well_if_it_says_so_in_time() {
        let once = async |script: &str| {
            let check = Check::parse(&json!({"exec": {"command": ["/bin/sh", "-c", script]}})).unwrap();
            check.once("127.0.0.1".parse().unwrap()).await
        };
        assert_eq!(once("true").await, Ok(()));
        assert_eq!(once("exit 3").await, Err("/bin/sh: exit status: 3".into()));
        assert_eq!(once("exec sleep 60").await, Err("/bin/sh: no end within 1s".into()));
    }
}
