//! The loop.

use super::discovery::{Discovery, Relist, Selectors};
use super::resource::{self, Definitions, Need, Settled, Watched};
use super::state::{Change, Now, Objects};
use super::stream::{Step, Trouble, steps};
use super::transport::{Pulse, Server};
use super::{Error, Event, Health, KindHealth, Options};
use crds::{Kind, ObjectKey, Spec};
use futures::StreamExt;
use futures::stream::{AbortHandle, BoxStream, SelectAll, abortable};
use kube::Client;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

/// How often the health is told while nothing happens.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);

/// Watches until nobody reads `events` any more. No fault of the API server ends it.
///
/// While the reader is busy, changes add up to one per object.
pub async fn watch(client: Client, options: Options, events: mpsc::Sender<Event>) -> Result<Infallible, Error> {
    let mut source = Source::new(client, options);
    let mut tick = interval(HEALTH_PERIOD);
    loop {
        let due = source.due();
        let is_due = due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            Some((id, step)) = source.streams.next() => source.step(id, step),
            permit = events.reserve(), if is_due => match permit {
                Ok(permit) => permit.send(source.next_event()),
                Err(_) => return Err(Error::NoReader),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !is_due => {}
            _ = tick.tick() => source.tell_health(),
            () = events.closed() => return Err(Error::NoReader),
        }
    }
}

/// Of one watch. A kind that is watched anew gets another one, so that what is left of the old stream is not heard.
type Id = u64;

struct Source {
    client: Client,
    options: Options,
    server: Server,
    streams: SelectAll<BoxStream<'static, (Id, Step)>>,
    last_id: Id,
    definitions: Definitions,
    definitions_watch: Running,
    kinds: BTreeMap<Kind, (Running, Objects)>,
    discovery: Discovery,
    batch: Batch,
    phase: Phase,
}

/// One watch and how it is.
struct Running {
    id: Id,
    abort: AbortHandle,
    pulse: Pulse,
    is_listed: bool,
    trouble: Option<(Instant, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Some kind's first list is missing: nothing is handed on (F9).
    Listing,
    /// The first batch has been handed on, and [`Event::Synced`] has not.
    Announcing,
    Following,
}

impl Source {
    fn new(client: Client, options: Options) -> Self {
        let mut streams = SelectAll::new();
        let server = Server::default();
        let definitions_watch = Running::start(&client, &options, &server, resource::definitions(), 0, &mut streams);
        let mut source = Self {
            client,
            options,
            server,
            streams,
            last_id: 0,
            definitions: Definitions::default(),
            definitions_watch,
            kinds: BTreeMap::new(),
            discovery: Discovery::default(),
            batch: Batch::default(),
            phase: Phase::Listing,
        };
        for watched in resource::core(&source.options) {
            source.start(watched);
        }
        if let Some(text) = source.options.mesh_config.clone() {
            source.select(&text);
        }
        source
    }

    fn start(&mut self, watched: Watched) {
        let running = self.running(&watched);
        self.kinds.insert(watched.kind, (running, Objects::new(watched)));
    }

    fn running(&mut self, watched: &Watched) -> Running {
        self.last_id += 1;
        Running::start(&self.client, &self.options, &self.server, watched.clone(), self.last_id, &mut self.streams)
    }

    /// When there is something to hand on.
    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Listing => self.is_listed().then(Instant::now),
            Phase::Announcing => Some(Instant::now()),
            Phase::Following => self.batch.since.map(|since| since + self.options.timing.batch),
        }
    }

    fn is_listed(&self) -> bool {
        let all_kinds = self.kinds.values().all(|(running, _)| running.is_listed);
        self.definitions_watch.is_listed && all_kinds && self.discovery.is_known()
    }

    fn next_event(&mut self) -> Event {
        match self.phase {
            Phase::Listing => self.phase = Phase::Announcing,
            Phase::Announcing => {
                self.phase = Phase::Following;
                self.tell_health();
                return Event::Synced;
            }
            Phase::Following => {}
        }
        self.batch.take()
    }

    fn step(&mut self, id: Id, step: Step) {
        if id == self.definitions_watch.id {
            return self.definitions_step(step);
        }
        let Some((running, objects)) = self.kinds.values_mut().find(|(running, _)| running.id == id) else { return };
        match step {
            Step::Trouble(trouble) => {
                let watched = objects.watched();
                if trouble == Trouble::Forbidden && watched.need == Need::IfPermitted {
                    running.is_listed = true;
                }
                running.note(trouble, watched);
                let is_config_map = watched.kind == Kind::ConfigMap;
                self.tell_health();
                if is_config_map && self.kinds[&Kind::ConfigMap].0.is_listed && !self.discovery.is_known() {
                    self.discover(Selectors::All);
                }
            }
            Step::Event(event) => {
                let kind = objects.watched().kind;
                let is_done = matches!(event, kube::runtime::watcher::Event::InitDone);
                let changes = objects.apply(event);
                running.is_listed |= is_done;
                if kind == Kind::ConfigMap && self.options.mesh_config.is_none() {
                    self.mesh_config(&changes);
                }
                let changes = self.discovery.pass(changes);
                self.batch.extend(changes);
                if is_done {
                    self.tell_health();
                }
            }
        }
    }

    fn definitions_step(&mut self, step: Step) {
        match step {
            Step::Trouble(trouble) => {
                self.definitions_watch.note(trouble, &resource::definitions());
                self.tell_health();
            }
            Step::Event(event) => {
                if self.definitions.apply(event) == Settled::Yes {
                    self.definitions_watch.is_listed = true;
                    self.reconcile();
                }
            }
        }
    }

    /// Watches what is defined, and no more: a kind that is not defined any more has no objects.
    fn reconcile(&mut self) {
        let defined: BTreeMap<Kind, Watched> = self
            .definitions
            .all()
            .filter_map(|definition| {
                let now = self.kinds.get(&definition.kind).map(|(_, objects)| objects.watched());
                Some((definition.kind, definition.choose(now)?.clone()))
            })
            .collect();
        let own: Vec<Kind> = resource::core(&self.options).iter().map(|watched| watched.kind).collect();
        let gone: Vec<Kind> =
            self.kinds.keys().filter(|kind| !own.contains(kind) && !defined.contains_key(kind)).copied().collect();
        for kind in gone {
            tracing::info!(%kind, "is not defined any more");
            if let Some((running, mut objects)) = self.kinds.remove(&kind) {
                running.abort.abort();
                let changes = self.discovery.pass(objects.clear());
                self.batch.extend(changes);
            }
        }
        for (kind, watched) in defined {
            match self.kinds.get(&kind) {
                None => self.start(watched),
                Some((_, objects)) if *objects.watched() != watched => self.restart(kind, Some(watched)),
                Some(_) => {}
            }
        }
        self.tell_health();
    }

    /// Another watch of a kind. What is in force stays until its list is in, and is compared with it.
    fn restart(&mut self, kind: Kind, other: Option<Watched>) {
        let Some((running, mut objects)) = self.kinds.remove(&kind) else { return };
        running.abort.abort();
        let watched = other.unwrap_or_else(|| objects.watched().clone());
        objects.rewatch(watched.clone());
        let mut next = self.running(&watched);
        next.is_listed = running.is_listed;
        self.kinds.insert(kind, (next, objects));
    }

    /// The ConfigMap with the MeshConfig has been listed or has changed.
    fn mesh_config(&mut self, changes: &[Change]) {
        let is_listed = self.kinds.get(&Kind::ConfigMap).is_some_and(|(running, _)| running.is_listed);
        match changes.last().map(|change| &change.now) {
            Some(Now::Set(object)) => {
                let Spec::ConfigMap(map) = &object.spec else { return };
                let text = map.data.get("mesh").cloned().unwrap_or_default();
                self.select(&text);
            }
            Some(Now::Gone) => self.discover(Selectors::All),
            Some(Now::Kept) | None if is_listed && !self.discovery.is_known() => self.discover(Selectors::All),
            Some(Now::Kept) | None => {}
        }
    }

    fn select(&mut self, mesh_config: &str) {
        match Selectors::of(mesh_config) {
            Ok(selectors) => self.discover(selectors),
            Err(error) => {
                tracing::warn!(error, "discovery selectors stay as they are");
                if !self.discovery.is_known() {
                    self.discover(Selectors::All);
                }
            }
        }
    }

    fn discover(&mut self, selectors: Selectors) {
        let (changes, relist) = self.discovery.select(selectors);
        self.batch.extend(changes);
        if relist == Relist::No {
            return;
        }
        let namespaced: Vec<Kind> =
            self.kinds.keys().filter(|kind| !kind.is_cluster_scoped() && **kind != Kind::ConfigMap).copied().collect();
        for kind in namespaced {
            if let Some((_, objects)) = self.kinds.get_mut(&kind) {
                self.batch.extend(hide(objects, &self.discovery));
            }
            self.restart(kind, None);
        }
    }

    fn tell_health(&self) {
        let definitions = resource::definitions();
        let mut kinds: BTreeMap<String, KindHealth> = self
            .kinds
            .iter()
            .map(|(kind, (running, objects))| {
                let health = running.health(objects.len(), objects.lists, objects.refused());
                (kind.name().to_owned(), health)
            })
            .collect();
        let health = self.definitions_watch.health(self.definitions.len(), 1, 0);
        kinds.insert(definitions.kind.name().to_owned(), health);
        let health = Health { kinds, is_synced: self.phase == Phase::Following };
        self.options.health.send_if_modified(|old| {
            let is_new = *old != health;
            *old = health;
            is_new
        });
    }
}

/// The first selectors: what is outside of them disappears, and all else will be handed on again, because nothing was
/// kept of it.
fn hide(objects: &mut Objects, discovery: &Discovery) -> Vec<Change> {
    let hidden = objects.keys().filter(|key| !discovery.shows(&key.namespace));
    let gone = hidden.map(|key| Change { key: key.clone(), now: Now::Gone, problems: Vec::new() }).collect();
    objects.forget();
    gone
}

impl Running {
    fn start(
        client: &Client,
        options: &Options,
        server: &Server,
        watched: Watched,
        id: Id,
        streams: &mut SelectAll<BoxStream<'static, (Id, Step)>>,
    ) -> Self {
        let pulse = Pulse::new();
        let (steps, abort) = abortable(steps(client, watched, options.timing, &pulse, server));
        streams.push(steps.map(move |step| (id, step)).boxed());
        Self { id, abort, pulse, is_listed: false, trouble: None }
    }

    /// Warns when the trouble is a new one.
    fn note(&mut self, trouble: Trouble, watched: &Watched) {
        let resource = &watched.resource;
        let text = match trouble {
            Trouble::Forbidden => {
                let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
                format!("forbidden: needs get, list and watch of {}{group}", resource.plural)
            }
            Trouble::NotServed => format!("{} {} is not served", resource.api_version, resource.plural),
            Trouble::Failed(why) => why,
        };
        if self.trouble().is_none_or(|old| old != text) {
            tracing::warn!(kind = resource.kind, trouble = text, "watching; what is known stays in force");
        }
        self.trouble = Some((Instant::now(), text));
    }

    /// Trouble ends with the next answer.
    fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().filter(|(since, _)| self.pulse.last() <= *since).map(|(_, text)| text.as_str())
    }

    fn health(&self, objects: usize, lists: u64, refused: usize) -> KindHealth {
        let trouble = self.trouble().map(str::to_owned);
        KindHealth { is_listed: self.is_listed, progress: self.pulse.last(), trouble, objects, lists, refused }
    }
}

/// Changes that wait for their reader: the last of each object.
#[derive(Default)]
struct Batch {
    changes: BTreeMap<ObjectKey, Change>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Batch {
    fn extend(&mut self, changes: impl IntoIterator<Item = Change>) {
        for mut change in changes {
            self.since.get_or_insert_with(Instant::now);
            // What was refused leaves in force what it found, and that may still be waiting here.
            if change.now == Now::Kept
                && let Some(waiting) = self.changes.remove(&change.key)
            {
                change.now = waiting.now;
            }
            self.changes.insert(change.key.clone(), change);
        }
    }

    fn take(&mut self) -> Event {
        self.since = None;
        let mut changes = Vec::new();
        let mut problems = Vec::new();
        for (key, change) in std::mem::take(&mut self.changes) {
            problems.extend(change.problems);
            match change.now {
                Now::Set(object) => changes.push((key, Some(*object))),
                Now::Gone => changes.push((key, None)),
                Now::Kept => {}
            }
        }
        Event::Changed { changes, problems }
    }
}

#[cfg(test)]
mod tests;
