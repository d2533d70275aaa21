//! Certificates from an in-process authority, with time that stands still unless it is waited for.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ca::authority::{Authority, Options};
use ca::bundle::Bundle;
use ca::clock::Clock;
use ca::key::{KeyKind, KeyPem};
use tokio::sync::watch;
use tokio::time::Instant;

use super::files::{Files, INTERVAL};
use super::issue::{IssueError, keep};
use super::*;
use crate::environment::Role;
use crate::environment::tests::environment;
use crate::metrics::Metrics;

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn authority(now: SystemTime) -> Authority {
    let life = Duration::from_secs(10 * 365 * 24 * 3600);
    Authority::new(Bundle::self_signed(KeyKind::P256, life, "cluster.local", now).unwrap(), Options::default())
}

pub(crate) fn workload(authority: &Authority, ttl: Duration, now: SystemTime) -> Workload {
    let identity = ca::spiffe::Identity::new("cluster.local", "books", "bookinfo-reviews");
    let (key, csr) = ca::csr::request(&identity, KeyKind::P256).unwrap();
    let issued = authority.sign(&csr, &identity, Some(ttl), now).unwrap();
    Workload::from_answer(&issued.chain, key).unwrap()
}

/// A wall clock that goes with tokio's.
fn clock() -> Clock {
    let zero = Instant::now();
    Clock::from_fn(move || start() + zero.elapsed())
}

#[test]
fn an_answer_is_split_into_chain_and_roots() {
    let workload = workload(&authority(start()), Duration::from_secs(3600), start());
    assert_eq!(workload.chain.matches("BEGIN").count(), 1);
    assert_eq!(workload.roots.matches("BEGIN").count(), 1);
    let left = workload.not_after.duration_since(start()).unwrap();
    assert_eq!(left, Duration::from_secs(3600));
    assert!(!format!("{workload:?}").contains("PRIVATE"));
}

#[test]
fn an_answer_for_another_key_is_refused() {
    let (authority, ttl) = (authority(start()), Duration::from_secs(60));
    let (one, other) = (workload(&authority, ttl, start()), workload(&authority, ttl, start()));
    assert_eq!(Workload::from_files(&one.chain, other.key, &one.roots), Err(WorkloadError::OtherKey));
    let key = || KeyPem::new(one.key.expose().to_owned());
    assert!(Workload::from_answer(&[], key()).is_err());
    assert_eq!(Workload::from_answer(std::slice::from_ref(&one.chain), key()), Err(WorkloadError::Roots));
    assert!(Workload::from_answer(&["garbage".to_owned()], key()).is_err());
}

#[test]
fn s24_output_certs_writes_the_key_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let workload = workload(&authority(start()), Duration::from_secs(60), start());
    for _ in 0..2 {
        workload.write(directory.path()).unwrap();
    }
    let key = directory.path().join("key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), workload.key.expose());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

/// Which attempt of a row was made when, in seconds.
async fn attempts(
    settings: &[(&str, &str)],
    ttl: Duration,
    fails: impl Fn(usize) -> bool,
    count: usize,
) -> Vec<(u32, f64)> {
    let told = environment(Role::Sidecar, settings, &[]).unwrap().certificate;
    let (clock, authority, zero) = (clock(), authority(start()), Instant::now());
    let publish = watch::Sender::new(None);
    let seen = RefCell::new(Vec::new());
    let issue = |attempt| {
        let number = seen.borrow().len();
        seen.borrow_mut().push((attempt, zero.elapsed().as_secs_f64()));
        let result = if fails(number) { Err(IssueError::Timeout) } else { Ok(workload(&authority, ttl, clock.now())) };
        std::future::ready(result)
    };
    let metrics = Metrics::default();
    let keeping = keep(&told, &clock, &metrics, &publish, issue);
    let enough = async {
        while seen.borrow().len() < count {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = keeping => {}
        () = enough => {}
    }
    seen.into_inner()
}

#[tokio::test(start_paused = true)]
async fn f28_a_certificate_of_two_minutes_is_renewed_every_minute() {
    let seen = attempts(&[], Duration::from_secs(120), |_| false, 4).await;
    for (index, (attempt, at)) in seen.iter().enumerate() {
        assert_eq!(*attempt, 0);
        let expected = 60.0 * f64::from(u32::try_from(index).unwrap());
        assert!((at - expected).abs() <= 2.0 * f64::from(u32::try_from(index).unwrap()), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f33_retries_come_at_most_eight_seconds_apart_and_count_up() {
    let seen = attempts(&[], Duration::from_secs(120), |number| number < 10, 11).await;
    assert_eq!(seen.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
    assert!(seen.windows(2).all(|pair| pair[1].1 - pair[0].1 <= 8.1), "{seen:?}");
    assert!(seen[1].1 <= 0.6, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn f34_the_old_certificate_stays_while_there_is_no_new_one() {
    let told = environment(Role::Sidecar, &[], &[]).unwrap().certificate;
    let (clock, authority) = (clock(), authority(start()));
    let publish = watch::Sender::new(None);
    let mut published = publish.subscribe();
    let calls = RefCell::new(0);
    let issue = |_| {
        *calls.borrow_mut() += 1;
        let first = *calls.borrow() == 1;
        let made = first.then(|| workload(&authority, Duration::from_secs(120), clock.now()));
        std::future::ready(made.ok_or(IssueError::Timeout))
    };
    let metrics = Metrics::default();
    let keeping = keep(&told, &clock, &metrics, &publish, issue);
    tokio::select! {
        () = keeping => {}
        () = tokio::time::sleep(Duration::from_secs(100)) => {}
    }
    assert!(*calls.borrow() > 3);
    assert!(published.borrow_and_update().is_some());
    assert!(!published.has_changed().unwrap());
    let text = metrics.text(published.borrow().as_ref().map(|it| it.not_after), clock.now());
    assert!(text.contains("istio_agent_cert_expiry_seconds{resource_name=\"default\"} 20"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn files_are_followed_through_a_swap_and_bad_ones_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority(start());
    let version = |name: &str, ttl: u64| {
        let workload = workload(&authority, Duration::from_secs(ttl), start());
        let folder = directory.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("cert-chain.pem"), &workload.chain).unwrap();
        std::fs::write(folder.join("key.pem"), workload.key.expose()).unwrap();
        std::fs::write(folder.join("root-cert.pem"), &workload.roots).unwrap();
        workload
    };
    let swap = |name: &str| {
        let (next, data) = (directory.path().join("..next"), directory.path().join("..data"));
        std::os::unix::fs::symlink(name, &next).unwrap();
        std::fs::rename(next, data).unwrap();
    };
    let (one, two) = (version("..1", 60), version("..2", 120));
    version("..3", 180);
    std::fs::write(directory.path().join("..3/key.pem"), one.key.expose()).unwrap();
    std::fs::create_dir(directory.path().join("etc")).unwrap();
    std::os::unix::fs::symlink("../..data", directory.path().join("etc/certs")).unwrap();
    swap("..1");
    let files = Files::mounted(directory.path());
    assert!(files.exist());
    let publish = watch::Sender::new(None);
    let mut published = publish.subscribe();
    let story = async {
        let current = published.wait_for(|it| it.as_deref() == Some(&one)).await.map(|it| it.is_some());
        assert_eq!(current.ok(), Some(true));
        swap("..2");
        published.wait_for(|it| it.as_deref() == Some(&two)).await.unwrap();
        swap("..3");
        tokio::time::sleep(INTERVAL * 3).await;
        assert_eq!(published.borrow().as_deref(), Some(&two));
    };
    tokio::select! {
        () = files.keep(&publish) => {}
        () = story => {}
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let one = Arc::new(workload(&authority(start()), Duration::from_secs(60), start()));
    assert!(!format!("{one:?} {:?}", one.key).contains(&one.key.expose()[40..60]));
}
