//! What a cluster has of the kernel: a set of namespaces, held by one process, and a cgroup subtree.
//!
//! Killing the process that is 1 in the process namespace ends every component, shim and container at once, and with
//! the last process the network and all mounts are gone. So there is nothing else to clean up, after a crash neither.

use super::Unsupported;
use super::process::{Record, wait_until};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The namespaces of a cluster. The user's and the cgroups' are the machine's.
pub(super) const UNSHARE: &[&str] = &["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"];
pub(super) const ENTER: &[&str] = &["--mount", "--net", "--pid", "--ipc", "--uts"];

/// # Errors
/// [`Unsupported`] with the reason when this user or this machine may not make namespaces or cgroups.
pub(super) fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(Unsupported("the local backend makes namespaces, mounts and cgroups: run it as root".to_owned()));
    }
    let tried = Command::new("unshare").args(UNSHARE).args(["mount", "-t", "proc", "proc", "/proc"]).output();
    let tried = tried.map_err(|error| Unsupported(format!("unshare (package util-linux): {error}")))?;
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        bail!(Unsupported(format!("namespaces are not permitted: {why}")));
    }
    let cgroup = format!("navarch-check-{}", std::process::id());
    let made = make_cgroups(&cgroup);
    remove_cgroups(&cgroup)?;
    made.map_err(|error| Unsupported(format!("cgroups cannot be made: {error:#}")).into())
}

/// The process that is 1 inside, as seen from outside, of the one that called `unshare`.
pub(super) fn first_inside(holder: &Record) -> Option<Record> {
    holder.children().into_iter().next()
}

/// Ends everything inside.
pub(super) fn end(holder: &Record) -> Result<()> {
    for inside in holder.children() {
        inside.signal(Signal::KILL)?;
        // It stays a while as long as others inside are ending.
        if !inside.wait(END_MAX) {
            bail!("process {} does not end", inside.pid);
        }
    }
    holder.signal(Signal::KILL)?;
    if !holder.wait(END_MAX) {
        bail!("process {} does not end", holder.pid);
    }
    Ok(())
}

const END_MAX: Duration = Duration::from_secs(20);

/// Where cgroups are mounted: one place, or one for each controller (version 1).
fn hierarchies() -> Result<Vec<(PathBuf, Version)>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    Ok(parse_hierarchies(&text))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

pub(super) fn parse_hierarchies(mountinfo: &str) -> Vec<(PathBuf, Version)> {
    let of_line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let version = match right.split(' ').next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        Some((PathBuf::from(left.split(' ').nth(4)?), version))
    };
    mountinfo.lines().filter_map(of_line).collect()
}

/// A subtree of this name in every hierarchy; the kubelet wants it to be there.
pub(super) fn make_cgroups(name: &str) -> Result<()> {
    for (root, version) in hierarchies()? {
        let folder = root.join(name);
        if version == Version::Two {
            delegate(&root);
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        match version {
            Version::Two => delegate(&folder),
            // Empty in a new cgroup, and then nothing can run below it.
            Version::One => {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(value) = std::fs::read_to_string(root.join(file)) {
                        std::fs::write(folder.join(file), value.trim()).with_context(|| file.to_owned())?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Controllers for what is below, as many as there are.
fn delegate(folder: &Path) {
    let controllers = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        std::fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).ok();
    }
}

/// The subtree of this name, everywhere; its processes have to be gone.
pub(super) fn remove_cgroups(name: &str) -> Result<()> {
    for (root, _) in hierarchies()? {
        let folder = root.join(name);
        // The kernel lets go of a cgroup a moment after its last process.
        if !wait_until(END_MAX, || remove_tree(&folder)) {
            bail!("{} cannot be removed", folder.display());
        }
    }
    Ok(())
}

/// Folders only: the files in them are the kernel's.
fn remove_tree(folder: &Path) -> bool {
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    std::fs::remove_dir(folder).is_ok() || !folder.exists()
}

/// Runs this on a thread of its own that is in a network namespace.
pub(super) fn inside(network: File, work: Box<dyn FnOnce() + Send>) -> Result<()> {
    let worker = std::thread::spawn(move || -> Result<()> {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        work();
        Ok(())
    });
    match worker.join() {
        Ok(outcome) => outcome.context("cannot enter the cluster's network"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
