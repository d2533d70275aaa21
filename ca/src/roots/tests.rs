//! The ConfigMap in every namespace: decided by values, then kept by the loop.
use super::*;
use crate::testing::{authority, now};
use futures::FutureExt as _;
use std::sync::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

fn namespace(name: &str) -> Event {
    Event::Namespace { name: name.to_owned(), phase: Phase::Active }
}

fn config_map(namespace: &str, root: &str) -> Event {
    Event::ConfigMap { namespace: namespace.to_owned(), root: Some(root.to_owned()) }
}

fn state(events: impl IntoIterator<Item = Event>) -> State {
    let mut state = State::default();
    for event in events {
        state.apply(event);
    }
    state
}

fn listed() -> [Event; 2] {
    [Event::Listed(Kind::Namespaces), Event::Listed(Kind::ConfigMaps)]
}

#[test]
fn s29_missing_and_edited_are_wrong_right_and_terminating_are_not() {
    let mut state = state([
        namespace("edited"),
        namespace("kube-system"),
        namespace("kube-public"),
        namespace("kube-node-lease"),
        namespace("local-path-storage"),
        namespace("missing"),
        namespace("right"),
        Event::Namespace { name: "terminating".to_owned(), phase: Phase::Terminating },
        config_map("edited", "evil"),
        config_map("right", "root"),
        config_map("namespace-not-seen-yet", "root"),
    ]);
    assert!(state.wrong("root").is_empty(), "before everything is listed nothing is known to be missing");
    listed().into_iter().for_each(|event| state.apply(event));
    assert_eq!(state.wrong("root"), ["edited", "kube-system", "missing"]);
    assert_eq!(state.wrong("next"), ["edited", "kube-system", "missing", "right"]);
    state.apply(Event::ConfigMap { namespace: "right".to_owned(), root: None });
    state.apply(Event::NamespaceGone { name: "missing".to_owned() });
    assert_eq!(state.wrong("root"), ["edited", "kube-system", "right"]);
}

#[test]
fn what_vanished_while_the_watch_was_broken_is_forgotten() {
    let mut state = state([namespace("a"), namespace("b"), config_map("a", "root"), config_map("b", "root")]);
    listed().into_iter().for_each(|event| state.apply(event));
    for event in [
        Event::Relisting(Kind::ConfigMaps),
        config_map("a", "root"),
        Event::Listed(Kind::ConfigMaps),
        Event::Relisting(Kind::Namespaces),
        namespace("b"),
        Event::Listed(Kind::Namespaces),
    ] {
        state.apply(event);
    }
    assert_eq!(state.wrong("root"), ["b"]);
    assert_eq!(state.namespaces.len(), 1);
}

/// Notes what is written; fails as often as told.
#[derive(Default)]
struct Notes {
    written: Mutex<Vec<(String, String)>>,
    failures: Mutex<usize>,
    changed: tokio::sync::Notify,
}

impl Notes {
    async fn wait(&self, count: usize) -> Vec<(String, String)> {
        let enough = async {
            loop {
                let changed = self.changed.notified();
                if self.written.lock().unwrap().len() >= count {
                    return self.written.lock().unwrap().clone();
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), enough).await.expect("written in time")
    }
}

impl Writer for Notes {
    fn write<'a>(&'a self, namespace: &'a str, root: &'a str) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err("told to fail".to_owned());
            }
            self.written.lock().unwrap().push((namespace.to_owned(), root.to_owned()));
            self.changed.notify_one();
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn s29_the_loop_creates_repairs_retries_and_follows_leader_and_root() {
    let notes = Arc::new(Notes::default());
    let (events, stream) = mpsc::channel(64);
    let first = Arc::new(authority(now()));
    let (roots, authority_now) = watch::channel(first.clone());
    let (leader, leading) = watch::channel(false);
    let running = run(ReceiverStream::new(stream), notes.clone(), authority_now, leading);
    let told = async {
        for event in [namespace("a")].into_iter().chain(listed()) {
            events.send(event).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(notes.written.lock().unwrap().is_empty(), "only the leader writes");
        *notes.failures.lock().unwrap() = 3;
        leader.send_replace(true);
        let root = first.roots_pem().to_string();
        assert_eq!(notes.wait(1).await, [("a".to_owned(), root.clone())], "after three failures");
        // Edited, then deleted: repaired at once.
        let began = Instant::now();
        events.send(config_map("a", "evil")).await.unwrap();
        notes.wait(2).await;
        events.send(Event::ConfigMapGone { namespace: "a".to_owned() }).await.unwrap();
        notes.wait(3).await;
        assert!(began.elapsed() < Duration::from_secs(10));
        let next = Arc::new(authority(now()));
        roots.send_replace(next.clone());
        assert_eq!(notes.wait(4).await[3], ("a".to_owned(), next.roots_pem().to_string()));
        leader.send_replace(false);
        events.send(namespace("b")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(notes.written.lock().unwrap().len(), 4);
        assert!(!notes.wait(1).await.iter().any(|(_, root)| root.contains("PRIVATE")));
        drop(events);
    };
    tokio::join!(running, told);
}
