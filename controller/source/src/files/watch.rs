//! Looks again whenever the folder changes.
//!
//! Events say when to look, not what to believe: every look compares the folder with what was last read. A lost event
//! therefore costs time (the next poll), never a change.

use super::scan::Leaves;
use super::{Folder, Outcome};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// After the last event, before a look: a save is several events.
const QUIET: Duration = Duration::from_millis(30);

/// The same, while a file was written to and not closed yet: it is half-written.
const QUIET_WRITING: Duration = Duration::from_millis(250);

/// Longest delay of a look, however many events come.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// A look without any event: network file systems send none, and a replaced folder takes its watch with it.
const POLL: Duration = Duration::from_secs(2);

/// The same, when the last look left out files that were being written.
const POLL_WRITING: Duration = Duration::from_millis(50);

/// Events that wait to be looked at. When it is full the next look sees their files anyway, as all looks see all.
const EVENTS_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the look at the folder did not end")]
    Stopped(#[from] tokio::task::JoinError),
}

impl Folder {
    /// Sends an outcome for every change, until the receiver is gone. While the receiver is busy, changes add up.
    pub async fn watch(mut self, sender: mpsc::Sender<Outcome>) -> Result<(), WatchError> {
        let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
        let mut watch = Watch::new(self.dir(), &events_in);
        // What changed between the load and the watch has no event.
        let mut touched = BTreeSet::new();
        loop {
            let (folder, outcome) = tokio::task::spawn_blocking(move || {
                let outcome = self.rescan(&touched);
                (self, outcome)
            })
            .await?;
            self = folder;
            if let Some(outcome) = outcome
                && sender.send(outcome).await.is_err()
            {
                return Ok(());
            }
            watch.renew(self.dir(), &events_in);
            let poll = match self.scanner.leaves() {
                Leaves::Nothing => POLL,
                Leaves::Files => POLL_WRITING,
            };
            tokio::select! {
                () = sender.closed() => return Ok(()),
                changed = next_change(&mut events, poll) => touched = changed,
            }
        }
    }
}

/// Waits for a burst of events to end, or for the next poll. Returns the files of the burst.
async fn next_change(events: &mut mpsc::Receiver<Event>, poll: Duration) -> BTreeSet<PathBuf> {
    let mut burst = Burst::default();
    let poll = Instant::now() + poll;
    loop {
        match timeout_at(poll, events.recv()).await {
            Ok(Some(event)) => {
                if burst.add(event) {
                    break;
                }
            }
            // The sender's owner is the caller, so only the poll ends the wait.
            Ok(None) | Err(_) => return burst.touched,
        }
    }
    let latest = Instant::now() + DELAY_MAX;
    loop {
        let quiet = if burst.writing.is_empty() { QUIET } else { QUIET_WRITING };
        match timeout_at(latest.min(Instant::now() + quiet), events.recv()).await {
            Ok(Some(event)) => {
                burst.add(event);
            }
            Ok(None) | Err(_) => return burst.touched,
        }
    }
}

#[derive(Default)]
struct Burst {
    touched: BTreeSet<PathBuf>,
    /// Files that were written to and not closed.
    writing: BTreeSet<PathBuf>,
}

impl Burst {
    /// Whether the event is a change. Reading a file is none, and this program reads them all.
    fn add(&mut self, event: Event) -> bool {
        let is_closed = matches!(event.kind, EventKind::Access(AccessKind::Close(AccessMode::Write)));
        if matches!(event.kind, EventKind::Access(_)) && !is_closed {
            return false;
        }
        for path in event.paths {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => self.writing.insert(path.clone()),
                _ => self.writing.remove(&path),
            };
            self.touched.insert(path);
        }
        true
    }
}

/// The operating system's watch, and the folder it stands for.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    identity: Option<(u64, u64)>,
}

impl Watch {
    fn new(dir: &Path, events: &mpsc::Sender<Event>) -> Self {
        let identity = std::fs::metadata(dir).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let events = events.clone();
        let handler = move |event: notify::Result<Event>| match event {
            // Full: the coming look sees what this event is about.
            Ok(event) => drop(events.try_send(event)),
            Err(error) => tracing::warn!(%error, "watching the folder"),
        };
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        if let (Err(error), Some(_)) = (&watcher, identity) {
            tracing::warn!(%error, dir = %dir.display(), "no watch on the folder, looking every {POLL:?} instead");
        }
        Self { watcher: watcher.ok(), identity }
    }

    /// A folder that was removed and made again is another one, and needs another watch.
    fn renew(&mut self, dir: &Path, events: &mpsc::Sender<Event>) {
        let identity = std::fs::metadata(dir).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if identity != self.identity || (identity.is_some() && self.watcher.is_none()) {
            *self = Self::new(dir, events);
        }
    }
}
