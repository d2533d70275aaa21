//! A running `navarch up`, as its user sees it: a folder, lines of JSON, an address to send requests to.
//!
//! Nothing here sleeps: whoever waits, waits for a line, for the end, or for the answer to a request, with a limit.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Starting eight Envoys on two busy cores takes seconds; a minute says that it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// For one request: more than any timeout on its way.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Lines that wait to be read; navarch waits when there are more, as at any slow terminal.
const LINES_MAX: usize = 10_000;

/// The port of the example's Gateway.
const INGRESS_PORT: u16 = 8080;

pub struct Navarch {
    pid: Pid,
    lines: Receiver<Value>,
    ended: Receiver<ExitStatus>,
    /// What it reads; a copy.
    pub folder: PathBuf,
    /// Its `TMPDIR`.
    temporary: PathBuf,
    errors: PathBuf,
    pub ingress: SocketAddr,
    /// Every refusal by an Envoy so far.
    pub nacks: Vec<Value>,
    /// Last: all of the above is in it.
    _home: tempfile::TempDir,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// The program, built beside this test, or this program.
///
/// # Panics
/// If it is not there: cargo builds programs for the tests of their own package only.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/PROFILE/PROGRAM, target/PROFILE/deps/TEST
    let folder = test.parent().expect("a program is in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = profile.join("navarch");
    assert!(
        program.is_file(),
        "{} is not there: run `cargo xtask test`, or `cargo build --package controller` before this test",
        program.display()
    );
    program
}

impl Navarch {
    /// `navarch up --json` on a copy of a folder, on addresses that no other run uses.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn up(folder: &Path) -> Result<Self> {
        let envoy = crate::validate::envoy()?;
        let home = tempfile::Builder::new().prefix("navarch-e2e-").tempdir()?;
        let (copy, temporary, errors) = (home.path().join("mesh"), home.path().join("tmp"), home.path().join("stderr"));
        std::fs::create_dir(&temporary)?;
        copy_folder(folder, &copy)?;
        let ingress = SocketAddr::from((ingress(), INGRESS_PORT));
        let mut command = Command::new(program());
        command.arg("up").arg(&copy).arg("--json").arg("--envoy").arg(&envoy.path);
        command.args(["--ingress", &ingress.ip().to_string()]).env("TMPDIR", &temporary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&errors)?).process_group(0);
        let child = command.spawn().context("cannot start navarch")?;
        let pid = Pid::from_child(&child);
        let (lines, ended) = watch(child)?;
        Ok(Self { pid, lines, ended, folder: copy, temporary, errors, ingress, nacks: vec![], _home: home })
    }

    /// The next line of which this is true; lines before it are passed over.
    ///
    /// # Errors
    /// When it does not come in time, with what navarch said to stderr.
    pub fn next(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let limit = Instant::now() + LIMIT;
        let mut last = Value::Null;
        loop {
            match self.line(limit.saturating_duration_since(Instant::now())) {
                Ok(line) if is_it(&line) => return Ok(line),
                Ok(line) => last = line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {what} within {LIMIT:?}; last line: {last}; stderr:\n{}", self.stderr())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("navarch ended without {what}; last line: {last}; stderr:\n{}", self.stderr())
                }
            }
        }
    }

    /// Everything runs and has its configuration.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn ready(&mut self) -> Result<()> {
        self.next("ready", |line| line["event"] == "ready").map(|_| ())
    }

    /// Writes a file of the folder as editors do: beside it, then over it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, name: &str, text: &str) -> Result<()> {
        let fresh = self.folder.join(format!(".{name}.fresh"));
        std::fs::write(&fresh, text)?;
        Ok(std::fs::rename(fresh, self.folder.join(name))?)
    }

    /// # Errors
    /// Those of the file system.
    pub fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.folder.join(name)).with_context(|| name.to_owned())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not come.
    pub fn end(&mut self) -> Result<ExitStatus> {
        self.ended.recv_timeout(LIMIT).with_context(|| format!("navarch does not end; stderr:\n{}", self.stderr()))
    }

    /// SIGTERM, and what comes of it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        kill_process(self.pid, Signal::TERM).context("navarch is gone already")?;
        // Its output has to be read for it to go on.
        while self.line(LIMIT).is_ok() {}
        self.end()
    }

    fn line(&mut self, limit: Duration) -> Result<Value, RecvTimeoutError> {
        let line = self.lines.recv_timeout(limit)?;
        if line["event"] == "nack" {
            self.nacks.push(line.clone());
        }
        Ok(line)
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Files that are left in its `TMPDIR`.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.temporary).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// Processes that it started, directly or not: they inherit its `TMPDIR`, or are told a path in it.
    pub fn processes(&self) -> Vec<String> {
        let mark = self.temporary.to_string_lossy().into_owned();
        let has_mark = |file: PathBuf| std::fs::read(file).is_ok_and(|it| String::from_utf8_lossy(&it).contains(&mark));
        let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let ours = entries.filter(|path| has_mark(path.join("environ")) || has_mark(path.join("cmdline")));
        ours.map(|path| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            format!("{}: {}", path.display(), String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
    }

    /// A request through the ingress gateway.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        get(self.ingress, path)
    }
}

impl Drop for Navarch {
    /// A failed test leaves nothing behind, either: the group is navarch's own.
    fn drop(&mut self) {
        kill_process(self.pid, Signal::TERM).ok();
        while self.lines.recv_timeout(REQUEST_MAX).is_ok() {}
        kill_process_group(self.pid, Signal::KILL).ok();
    }
}

/// A GET on a connection of its own.
///
/// # Errors
/// When there is no HTTP answer.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_MAX)?;
    stream.set_read_timeout(Some(REQUEST_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the headers")?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).context("no status")?;
    Ok(Answer { status, body: body.to_owned() })
}

fn watch(mut child: Child) -> Result<(Receiver<Value>, Receiver<ExitStatus>)> {
    let output = child.stdout.take().context("its output is piped")?;
    let (line, lines) = sync_channel(LINES_MAX);
    let (end, ended) = sync_channel(1);
    std::thread::spawn(move || {
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            if line.send(value).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || child.wait().map(|status| end.send(status)));
    Ok((lines, ended))
}

/// An address that no other test of this run uses, nor another run's: above all blocks that `up` claims.
fn ingress() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 255, high ^ low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// # Errors
/// Those of the file system.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
