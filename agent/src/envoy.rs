//! Envoy as a child process that does not outlive the agent, and what is asked of its admin.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::environment::Environment;
use crate::status::client::{self, ClientError, Way};

/// What starts a child so that it dies with its parent. Only the child itself can ask the kernel for that, between fork
/// and exec, which takes unsafe code; so the agent starts itself, asks, and becomes the program.
#[derive(Debug, Clone, Default)]
pub struct Launcher {
    /// The program that has the hidden verb [`EXEC`], and the words before it. `None` starts programs directly.
    pub shim: Option<(PathBuf, Vec<OsString>)>,
}

/// `navarch agent exec-child -- PROGRAM ARGUMENT…`.
pub const EXEC: &str = "exec-child";

/// A running Envoy; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    id: Option<Pid>,
}

/// Envoy ends on SIGTERM at once; then it is made to.
const PATIENCE: Duration = Duration::from_secs(5);

impl Launcher {
    /// For the program `navarch`, under whatever name it was started.
    #[must_use]
    pub fn of_this_program() -> Self {
        let shim = cfg!(target_os = "linux").then(|| ("/proc/self/exe".into(), vec!["agent".into()]));
        Self { shim }
    }

    /// Starts a program with this process' environment, output and directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, program: &Path, arguments: &[OsString], directory: &Path) -> io::Result<Process> {
        let mut command = match &self.shim {
            Some((shim, words)) => {
                let mut command = Command::new(shim);
                // The first word is how the program knows which of its names it was called by.
                command.arg0("navarch").args(words).arg(EXEC).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        let child = command.args(arguments).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Process { child, id })
    }
}

/// The hidden verb: asks to die with the parent, then becomes the program. Returns only if it cannot.
#[must_use]
pub fn exec(program: &OsString, arguments: &[OsString]) -> io::Error {
    use std::os::unix::process::CommandExt as _;
    #[cfg(target_os = "linux")]
    if let Err(why) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return why.into();
    }
    std::process::Command::new(program).args(arguments).exec()
}

impl Process {
    /// Until it ends by itself.
    ///
    /// # Errors
    /// When the system cannot say.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks, waits, and then insists.
    pub async fn stop(mut self) {
        if let Some(id) = self.id {
            kill_process(id, Signal::TERM).ok();
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await.ok();
        }
    }
}

/// Envoy's arguments, as Istio's agent gives them.
#[must_use]
pub fn arguments(of: &Environment, bootstrap: &Path, overlay: Option<&str>) -> Vec<OsString> {
    let version = if of.pod.ip().is_ipv6() { "v6" } else { "v4" };
    let mut all: Vec<OsString> = vec!["-c".into(), bootstrap.into()];
    let mut say = |words: &[&str]| all.extend(words.iter().map(OsString::from));
    say(&["--drain-time-s", &of.proxy_config.drain_duration.as_secs().to_string()]);
    say(&["--drain-strategy", "immediate", "--local-address-ip-version", version]);
    say(&["--file-flush-interval-msec", "1000", "--disable-hot-restart", "--allow-unknown-static-fields"]);
    say(&["-l", &of.flags.log_level]);
    if !of.flags.component_log_level.is_empty() {
        say(&["--component-log-level", &of.flags.component_log_level]);
    }
    if of.variables.get("ENVOY_SKIP_DEPRECATED_LOGS").is_none_or(|text| text != "false") {
        say(&["--skip-deprecated-logs"]);
    }
    // 0 is one thread for each CPU, which is Envoy's own default.
    if let Some(threads) = of.concurrency.filter(|threads| *threads > 0) {
        say(&["--concurrency", &threads.to_string()]);
    }
    if let Some(overlay) = overlay {
        say(&["--config-yaml", overlay]);
    }
    all
}

/// For one question to the admin, which answers from memory.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);
const ADMIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// `POST` to the admin.
///
/// # Errors
/// Anything but 200.
pub async fn post(admin: SocketAddr, path: &str) -> Result<(), ClientError> {
    let request = http::Request::post(path)
        .header(http::header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| ClientError::Http(error.to_string()))?;
    let way = Way { address: admin, source: None, tls: None };
    let answer = client::send(request, way, ADMIN_TIMEOUT, ADMIN_BYTES_MAX).await?;
    if answer.status == http::StatusCode::OK { Ok(()) } else { Err(ClientError::Status(answer.status)) }
}

/// Connections of users that Envoy has; `None` if it does not say.
pub async fn connections(admin: SocketAddr, own_ports: &[u16]) -> Option<u64> {
    let path = "/stats?usedonly&filter=downstream_cx_active$";
    let answer = client::get(admin, path, ADMIN_TIMEOUT, ADMIN_BYTES_MAX).await.ok()?;
    Some(active(&String::from_utf8_lossy(&answer.body), own_ports))
}

/// Listeners count each connection once; the admin and the proxy's own ports are nobody's business.
fn active(stats: &str, own_ports: &[u16]) -> u64 {
    let count = |line: &str| {
        let (name, count) = line.split_once(": ")?;
        let listener = name.strip_prefix("listener.")?.strip_suffix(".downstream_cx_active")?;
        let own = own_ports.iter().any(|port| listener.ends_with(&format!("_{port}")));
        // The same connections again, by thread and by HTTP manager.
        let again = [".worker_", ".main_thread", ".http.", "admin"].iter().any(|part| listener.contains(part));
        if own || again { None } else { count.trim().parse::<u64>().ok() }
    };
    stats.lines().filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Role;
    use crate::environment::tests::environment;

    #[test]
    fn envoys_arguments_are_istios() {
        let told = environment(Role::Sidecar, &[("ISTIO_CPU_LIMIT", "2")], &[]).unwrap();
        let words = arguments(&told, Path::new("b.json"), Some("a: 1"));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words.join(" "),
            "-c b.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 \
             --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning \
             --component-log-level misc:error --skip-deprecated-logs --concurrency 2 --config-yaml a: 1"
        );
    }

    #[test]
    fn only_users_connections_count() {
        let stats = "http.inbound_0.0.0.0_80;.downstream_cx_active: 9\n\
            listener.0.0.0.0_15006.downstream_cx_active: 2\nlistener.0.0.0.0_15006.worker_0.downstream_cx_active: 2\n\
            listener.0.0.0.0_15021.downstream_cx_active: 4\nlistener.admin.downstream_cx_active: 1\n\
            listener.admin.main_thread.downstream_cx_active: 1\nlistener.10.0.0.1_443.downstream_cx_active: 3\nnonsense\n";
        assert_eq!(active(stats, &[15021, 15090]), 5);
    }

    #[tokio::test]
    async fn a_program_is_ended_and_its_end_is_seen() {
        let launcher = Launcher::default();
        let words = |script: &str| [OsString::from("-c"), script.into()];
        let mut process = launcher.start(Path::new("sh"), &words("exit 7"), Path::new(".")).unwrap();
        assert_eq!(process.wait().await.unwrap().code(), Some(7));
        let process = launcher.start(Path::new("sh"), &words("exec sleep 1000"), Path::new(".")).unwrap();
        process.stop().await;
    }
}
