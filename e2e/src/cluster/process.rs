//! Processes by id and start time: an id that the kernel has given to somebody else is never signalled.

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::{Duration, Instant};

/// A process that was running when this was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub pid: Pid,
    /// In clock ticks since the machine's start.
    start: u64,
    /// Which start of the machine.
    boot: String,
}

/// What a process writes about itself before it becomes the program: `$0` is the file, `$@` the program. A crash of
/// whoever starts it leaves no process without a record.
pub const RECORDED: &str =
    r#"cat /proc/$$/stat /proc/sys/kernel/random/boot_id >"$0.partial" && mv "$0.partial" "$0" && exec "$@""#;

impl Record {
    /// `None` when there is no such file, or nobody wrote it to its end.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(path).ok()?)
    }

    /// The first line is that of `/proc/PID/stat`, the second the kernel's boot id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (stat, boot) = text.trim_end().split_once('\n')?;
        let stat = Stat::parse(stat)?;
        Some(Self { pid: stat.pid, start: stat.start, boot: boot.trim().to_owned() })
    }

    /// The process of this id, now.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, start: stat.start, boot: boot_id() })
    }

    /// Still the same process, and not a zombie.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let same = |stat: Stat| stat.start == self.start && stat.runs;
        self.boot == boot_id() && Stat::read(self.pid).is_some_and(same)
    }

    /// # Errors
    /// When it may not be signalled. A process that is gone is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The descriptor is of one process for good; whether it is ours is asked after it is held.
        let Ok(held) = pidfd_open(self.pid, PidfdFlags::empty()) else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(held, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Whether it was gone in time.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        wait_until(limit, || !self.is_alive())
    }

    /// Its children.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let pids = entries.filter_map(|it| Pid::from_raw(it.file_name().to_str()?.parse().ok()?));
        let stats = pids.filter_map(Stat::read).filter(|it| it.parent == self.pid.as_raw_nonzero().get() && it.runs);
        let found = stats.map(|it| Self { pid: it.pid, start: it.start, boot: self.boot.clone() }).collect();
        if self.is_alive() { found } else { vec![] }
    }
}

/// Asks again and again, first at once.
#[expect(clippy::disallowed_methods, reason = "this is how a condition is waited for, with a limit")]
pub fn wait_until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(50);

struct Stat {
    pid: Pid,
    parent: i32,
    start: u64,
    runs: bool,
}

impl Stat {
    fn read(pid: Pid) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `PID (NAME) STATE PARENT …`, the start time being the 22nd; the name may hold spaces and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let pid = line.split(' ').next()?.parse().ok().and_then(Pid::from_raw)?;
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let runs = !matches!(*fields.first()?, "Z" | "X");
        Some(Self { pid, runs, parent: fields.get(1)?.parse().ok()?, start: fields.get(19)?.parse().ok()? })
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
