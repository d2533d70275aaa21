//! Child processes that do not outlive navarch: each leads a process group that is ended as a whole, and on Linux the
//! kernel ends it even if navarch itself is killed.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// What starts a child so that it dies with its parent. Only the child itself can ask the kernel for that, between
/// fork and exec, which takes unsafe code; so navarch starts itself, asks, and becomes the program.
#[derive(Clone, Debug, Default)]
pub struct Launcher {
    /// The navarch program, whose hidden subcommand [`EXEC`] does that. `None` starts programs directly.
    pub shim: Option<PathBuf>,
}

/// `navarch exec-child -- PROGRAM ARGUMENT…`.
pub const EXEC: &str = "exec-child";

/// A running program; dropping it kills its group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Option<Pid>,
}

impl Launcher {
    pub fn of_this_program() -> Self {
        // Still right after the file was replaced by a new build.
        let shim = if cfg!(target_os = "linux") { Some("/proc/self/exe".into()) } else { None };
        Self { shim }
    }

    pub fn start(
        &self,
        program: &Path,
        arguments: &[OsString],
        environment: &[(String, String)],
        directory: &Path,
        log: &Path,
    ) -> Result<Process> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = match &self.shim {
            Some(shim) => {
                let mut command = Command::new(shim);
                command.arg(EXEC).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Process { child, group })
    }
}

/// The hidden subcommand: asks to die with the parent, then becomes the program. Returns only if it cannot.
pub fn exec(program: &OsString, arguments: &[OsString]) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    #[cfg(target_os = "linux")]
    if let Err(why) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return why.into();
    }
    std::process::Command::new(program).args(arguments).exec()
}

impl Process {
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill_group();
        status
    }

    /// Asks, waits, and then insists.
    pub async fn stop(mut self, patience: Duration) {
        if let Some(group) = self.group {
            kill_process_group(group, Signal::TERM).ok();
        }
        tokio::time::timeout(patience, self.child.wait()).await.ok();
        self.kill_group();
        self.child.wait().await.ok();
    }

    /// Once: after the leader is reaped its number may be given to others.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn line_of(path: &Path) -> String {
        let limit = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ if tokio::time::Instant::now() > limit => panic!("nothing in {}", path.display()),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Whether a process is there and not a zombie.
    fn lives(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
    }

    async fn gone(id: &str) -> bool {
        let limit = tokio::time::Instant::now() + Duration::from_secs(10);
        while lives(id) && tokio::time::Instant::now() < limit {
            tokio::task::yield_now().await;
        }
        !lives(id)
    }

    fn shell(script: &str, directory: &Path) -> Process {
        let log = directory.join("log");
        let environment = [("COLOR".to_owned(), "red".to_owned())];
        Launcher::default()
            .start(Path::new("sh"), &["-c".into(), script.into()], &environment, directory, &log)
            .unwrap()
    }

    #[tokio::test]
    async fn a_program_has_its_environment_directory_and_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell("echo $COLOR in $(pwd)", directory.path());
        assert!(process.wait().await.unwrap().success());
        let place = directory.path().canonicalize().unwrap();
        assert_eq!(line_of(&directory.path().join("log")).await, format!("red in {}", place.display()));
    }

    #[tokio::test]
    async fn stopping_and_dropping_end_grandchildren_too() {
        for drop_it in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let process = shell("trap '' TERM; sleep 600 & echo $!; wait", directory.path());
            let grandchild = line_of(&directory.path().join("log")).await;
            assert!(lives(&grandchild));
            if drop_it {
                drop(process);
            } else {
                process.stop(Duration::from_millis(50)).await;
            }
            assert!(gone(&grandchild).await, "{grandchild} lives");
        }
    }
}
