use super::kernel::{Version, parse_hierarchies};
use super::local::Local;
use super::plan::{Addresses, CLUSTERS_MAX, Name};
use super::process::{RECORDED, Record, wait_until};
use super::*;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// A process that records itself and then waits for the end of its input, so it ends with this test.
fn recorded(file: &Path) -> (Child, Record) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", RECORDED]).arg(file).arg("cat").stdin(Stdio::piped()).stdout(Stdio::null());
    let child = command.spawn().unwrap();
    assert!(wait_until(LIMIT, || Record::read(file).is_some()));
    let record = Record::read(file).unwrap();
    assert_eq!(record.pid, Pid::from_child(&child));
    (child, record)
}

#[test]
fn a_process_writes_its_own_record_and_is_known_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, record) = recorded(&folder.path().join("it"));
    assert!(record.is_alive());
    assert_eq!(Record::of(record.pid), Some(record.clone()));
    record.signal(Signal::KILL).unwrap();
    // Not waited for yet, so a zombie: that is no life.
    assert!(record.wait(LIMIT));
    child.wait().unwrap();
    assert!(!record.is_alive());
    // Once more is no error.
    record.signal(Signal::KILL).unwrap();
}

#[test]
fn a_reused_id_is_never_signalled() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, record) = recorded(&folder.path().join("it"));
    let text = std::fs::read_to_string(folder.path().join("it")).unwrap();
    // The same id, of a process that started at another time, or before the machine was started again.
    let (head, tail) = text.split_once(") ").unwrap();
    let mut fields: Vec<String> = tail.split(' ').map(str::to_owned).collect();
    fields[19] = "1".to_owned();
    let earlier = Record::parse(&format!("{head}) {}", fields.join(" "))).unwrap();
    let (stat, _) = text.trim_end().split_once('\n').unwrap();
    let other_boot = Record::parse(&format!("{stat}\n00000000-0000-0000-0000-000000000000\n")).unwrap();
    for stale in [earlier, other_boot] {
        assert_eq!(stale.pid, record.pid);
        assert!(!stale.is_alive() && stale.children().is_empty());
        stale.signal(Signal::KILL).unwrap();
    }
    assert!(record.is_alive());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "it ended by itself");
}

#[test]
fn a_record_that_was_not_written_to_its_end_is_none() {
    assert_eq!(Record::parse(""), None);
    assert_eq!(Record::parse("12 (sh) S 1 12"), None);
    assert_eq!(Record::parse("12 (sh) S 1 12\nboot\n"), None);
    let line = "12 (a) b (c) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 998877 1 2\nboot-id\n";
    assert_eq!(Record::parse(line).map(|it| it.pid.as_raw_nonzero().get()), Some(12));
}

#[test]
fn children_are_found_and_only_those() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, record) = recorded(&folder.path().join("it"));
    let us = Record::of(rustix::process::getpid()).unwrap();
    assert!(us.children().contains(&record));
    assert_eq!(record.children(), []);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "mesh", "mesh-2", "abcdefghijklmnopqrst"] {
        assert_eq!(Name::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a/b", "..", "abcdefghijklmnopqrstu"] {
        assert!(Name::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_two_clusters_share_an_address() {
    let mut taken = BTreeSet::new();
    let mut ranges = BTreeSet::new();
    for index in 0..CLUSTERS_MAX {
        let it = Addresses::first_free(&taken).unwrap();
        assert_eq!(it.index(), index);
        taken.insert(index);
        assert!(ranges.insert(it.services()) && ranges.insert(it.pods()) && ranges.insert(it.node().to_string()));
        assert_eq!(it.services(), it.apiserver().to_string().replace(".0.1", ".0.0/16"));
    }
    assert!(Addresses::first_free(&taken).is_err());
    taken.remove(&3);
    assert_eq!(Addresses::first_free(&taken).unwrap().index(), 3);
    assert_eq!(Addresses::of_index(0).unwrap().dns().to_string(), "10.96.0.10");
    assert_eq!(Addresses::of_index(CLUSTERS_MAX), None);
}

#[test]
fn cgroups_are_found_wherever_they_are_mounted() {
    let text = "25 1 0:22 / /sys rw - sysfs sysfs rw\n\
        30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
    assert_eq!(
        parse_hierarchies(text),
        [("/sys/fs/cgroup/cpu".into(), Version::One), ("/sys/fs/cgroup/unified".into(), Version::Two)]
    );
}

#[test]
fn what_is_not_up_says_so() {
    let root = tempfile::tempdir().unwrap();
    let cluster = Local::below(&root.path().join("clusters"), Name::parse("none").unwrap());
    assert_eq!(cluster.status().unwrap().state, State::Absent);
    for error in [
        cluster.kubeconfig().unwrap_err(),
        cluster.kubectl().unwrap_err(),
        cluster.command(Path::new("true")).unwrap_err(),
        cluster.load_image(Path::new("x.tar")).unwrap_err(),
        cluster.nodes().unwrap_err(),
    ] {
        assert!(format!("{error:#}").contains("cluster none is not up"), "{error:#}");
    }
    cluster.down().unwrap();
    assert!(!root.path().join("clusters").exists());
}

fn hierarchies() -> Vec<(PathBuf, Version)> {
    parse_hierarchies(&std::fs::read_to_string("/proc/self/mountinfo").unwrap())
}

/// A failed test leaves no process: with `unshare` ends all that is inside.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().ok();
    }
}

/// Whatever was written before the crash: a folder with records of processes that live on, and of one whose id is
/// somebody else's now.
#[test]
fn down_after_a_crash_ends_what_was_recorded_and_nothing_else() {
    if let Err(why) = kernel::check() {
        assert!(why.downcast_ref::<Unsupported>().is_some(), "{why:#}");
        eprintln!("skipped: {why:#}");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let name = format!("t{}", std::process::id());
    let cluster = Local::below(root.path(), Name::parse(&name).unwrap());
    let pids = cluster.folder().join("pids");
    std::fs::create_dir_all(&pids).unwrap();
    std::fs::create_dir_all(cluster.folder().join("kubelet/pods")).unwrap();
    kernel::make_cgroups(&format!("navarch-{name}")).unwrap();
    for (hierarchy, _) in hierarchies() {
        std::fs::create_dir_all(hierarchy.join(format!("navarch-{name}/kubepods/burstable"))).unwrap();
    }
    // A holder as `up` starts it, and in it a process that does not end by itself.
    let mut holder = Command::new("/bin/sh");
    holder.args(["-c", RECORDED]).arg(pids.join("namespaces")).arg("unshare").args(kernel::UNSHARE);
    let script = "cat /proc/self/status >/dev/null; trap '' TERM; tail -f /dev/null";
    holder.args(["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut holder = Guard(holder.spawn().unwrap());
    let first = || Record::read(&pids.join("namespaces")).and_then(|it| kernel::first_inside(&it));
    assert!(wait_until(LIMIT, || first().is_some_and(|it| !it.children().is_empty())));
    let (first, second) = (first().unwrap(), first().unwrap().children().remove(0));
    // The component's recorded id is another process's by now.
    let (mut bystander, alive) = recorded(&root.path().join("bystander"));
    let text = std::fs::read_to_string(root.path().join("bystander")).unwrap();
    let (stat, _) = text.split_once('\n').unwrap();
    std::fs::write(pids.join("etcd"), format!("{stat}\n00000000-0000-0000-0000-000000000000\n")).unwrap();
    assert_eq!(cluster.status().unwrap().state, State::Broken);
    cluster.down().unwrap();
    assert!(!first.is_alive() && !second.is_alive());
    assert!(alive.is_alive());
    assert!(!cluster.folder().exists());
    assert!(hierarchies().iter().all(|(root, _)| !root.join(format!("navarch-{name}")).exists()));
    holder.0.wait().unwrap();
    drop(bystander.stdin.take());
    bystander.wait().unwrap();
}
