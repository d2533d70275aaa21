//! What a proxy has asked for of one type, what it was sent, and what it is still due.
//!
//! One for both protocols. They differ in how a request names things (all of them, or more and fewer) and in
//! how an answer looks; what is wanted and what has changed is the same.
//!
//! Nothing is kept per resource that the proxy has: it has what the snapshot last acted upon says, except for
//! the names in `due` (not sent yet) and in `doubtful` (sent and refused).

use crate::{Resource, TypeUrl, Version, snapshot::Layers};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Bound on the names that a proxy may ask for, a type. Envoy names its clusters in EDS: as many as services.
pub(crate) const NAMES_MAX: usize = 200_000;

const WILDCARD: &str = "*";

#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) kind: TypeUrl,
    pub(crate) wildcard: bool,
    pub(crate) names: BTreeSet<Arc<str>>,
    /// Once a client has named something, an empty list means nothing and no longer everything.
    named: bool,
    /// The names whose resource may have to be sent, and what the client has instead.
    pub(crate) due: BTreeMap<Arc<str>, Have>,
    /// Everything is due, but for these versions, of which the client said that it has them.
    pub(crate) start: Option<Start>,
    /// State of the world: the next response is due even if nothing changed.
    pub(crate) full: bool,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) last_nonce: String,
    /// What was in a refused response. Envoy may have taken all, some or none of it.
    pub(crate) doubtful: BTreeSet<Arc<str>>,
    pub(crate) nacks: u64,
    /// Something that refers to this type was sent since the last response: a repeated request is no repeated
    /// ACK but a new watcher that waits (rule X44).
    pub(crate) warming: bool,
}

/// What the client has of a resource that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Have {
    Nothing,
    This(Version),
    /// It does not matter: it asked, so it gets an answer.
    Asked,
    /// It refused a response that had it.
    Doubtful,
}

#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// What the client says that it has.
    held: BTreeMap<Arc<str>, Option<Version>>,
    /// What it has of everything else.
    rest: Have,
}

#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) names: Vec<Arc<str>>,
}

/// How an answer ended.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) response: InFlight,
    pub(crate) refused: bool,
}

impl Subscription {
    pub(crate) fn new(kind: TypeUrl) -> Self {
        Self {
            kind,
            wildcard: false,
            names: BTreeSet::new(),
            named: false,
            due: BTreeMap::new(),
            start: None,
            full: false,
            in_flight: None,
            last_nonce: String::new(),
            doubtful: BTreeSet::new(),
            nacks: 0,
            warming: false,
        }
    }

    /// Takes the response with this nonce as answered. `error_detail` alone tells a NACK (rule X17).
    pub(crate) fn settle(&mut self, nonce: &str, refused: bool) -> Option<Settled> {
        let response = self.in_flight.take_if(|response| response.nonce == nonce)?;
        if refused {
            self.nacks += 1;
            // What it has given back meanwhile concerns nobody, and may have been what was wrong.
            let wanted: Vec<_> = response.names.iter().filter(|name| self.wants(name)).cloned().collect();
            let is_moot = wanted.len() < response.names.len();
            self.doubtful.extend(wanted);
            if is_moot || response.names.iter().any(|name| self.due.contains_key(name)) {
                self.retry_doubtful();
            }
        } else {
            response.names.iter().for_each(|name| {
                self.doubtful.remove(name);
            });
        }
        Some(Settled { response, refused })
    }

    /// The next snapshot differs from the last in this name.
    pub(crate) fn changed(&mut self, name: &Arc<str>, before: Option<&Arc<Resource>>) {
        if !self.wants(name) {
            return;
        }
        if self.doubtful.contains(name) {
            self.retry_doubtful();
        }
        self.due
            .entry(name.clone())
            .or_insert_with(|| before.map_or(Have::Nothing, |before| Have::This(before.version)));
    }

    /// The fix for a refused response carries all of it again: nobody knows what was applied.
    fn retry_doubtful(&mut self) {
        for name in &self.doubtful {
            self.due.entry(name.clone()).or_insert(Have::Doubtful);
        }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Turns "everything" into names, once there is a snapshot to take them from.
    pub(crate) fn begin(&mut self, layers: &Layers) {
        let Some(Start { mut held, rest }) = self.start.take() else { return };
        for resource in layers.iter() {
            let have = match held.remove(&resource.name) {
                None => rest,
                Some(Some(version)) if version == resource.version => continue,
                Some(Some(version)) => Have::This(version),
                Some(None) => Have::Doubtful,
            };
            self.due.entry(resource.name.clone()).or_insert(have);
        }
        for (name, version) in held {
            self.due.entry(name).or_insert_with(|| version.map_or(Have::Doubtful, Have::This));
        }
    }

    fn is_wildcard_by_silence(&self) -> bool {
        match self.kind {
            TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::VirtualHost => true,
            // Agents ask for these as istiod answers them: an empty list means all there is.
            TypeUrl::NameTable | TypeUrl::ProxyConfig => true,
            TypeUrl::Endpoint | TypeUrl::Route | TypeUrl::Secret | TypeUrl::Extension => false,
        }
    }

    fn forget(&mut self, name: &str) {
        self.due.remove(name);
        if self.doubtful.remove(name) {
            self.retry_doubtful();
        }
    }
}

/// Delta: more names, fewer names.
impl Subscription {
    /// `initial` are the versions that the client says it has, and `asked_anew` names that it needs all the same:
    /// a cluster that is sent again waits for endpoints that it has forgotten (rule X65).
    pub(crate) fn first(
        &mut self,
        subscribe: &[Arc<str>],
        unsubscribe: &[Arc<str>],
        initial: BTreeMap<Arc<str>, Option<Version>>,
        asked_anew: &BTreeSet<Arc<str>>,
    ) {
        if subscribe.is_empty() && self.is_wildcard_by_silence() {
            self.wildcard = true;
            self.start = Some(Start { held: initial.clone(), rest: Have::Nothing });
            self.full = initial.is_empty();
        }
        self.more(subscribe, &initial, Have::Nothing);
        self.fewer(unsubscribe);
        for (name, version) in initial {
            if let Some(version) = version
                && self.names.contains(&name)
                && !asked_anew.contains(&name)
            {
                self.due.insert(name, Have::This(version));
            }
        }
    }

    pub(crate) fn later(&mut self, subscribe: &[Arc<str>], unsubscribe: &[Arc<str>]) {
        // It may have any of it by name, or by an earlier star.
        self.more(subscribe, &BTreeMap::new(), Have::Doubtful);
        self.fewer(unsubscribe);
    }

    fn more(&mut self, subscribe: &[Arc<str>], initial: &BTreeMap<Arc<str>, Option<Version>>, rest: Have) {
        for name in subscribe {
            if &**name == WILDCARD {
                self.wildcard = true;
                let mut held = initial.clone();
                // It arrives after the client has said this, so it may or may not be kept.
                held.extend(self.in_flight.iter().flat_map(|sent| &sent.names).map(|name| (name.clone(), None)));
                self.full = held.is_empty();
                self.start = Some(Start { held, rest });
            } else {
                // Also if it is there already: whoever asks is answered (rule X59).
                self.names.insert(name.clone());
                self.due.insert(name.clone(), Have::Asked);
            }
        }
    }

    fn fewer(&mut self, unsubscribe: &[Arc<str>]) {
        for name in unsubscribe {
            if &**name == WILDCARD {
                self.wildcard = false;
                self.start = None;
                self.full = false;
                self.due.retain(|name, _| self.names.contains(name));
                self.doubtful.retain(|name| self.names.contains(name));
            } else if self.names.remove(name) {
                if self.wildcard {
                    // The client has dropped it and does not know whether the wildcard covers it (rule X54).
                    self.due.insert(name.clone(), Have::Asked);
                } else {
                    self.forget(name);
                }
            }
        }
    }
}

/// State of the world: all names, every time.
impl Subscription {
    /// Whether a request with this nonce speaks of the present. One without a nonce was written before our first
    /// response had arrived.
    pub(crate) fn is_current(&self, nonce: &str) -> bool {
        nonce.is_empty() || nonce == self.last_nonce
    }

    /// `repeats`: it is neither the first request nor the answer to a response.
    pub(crate) fn all(&mut self, names: &[Arc<str>], repeats: bool) {
        let wildcard = names.iter().any(|name| &**name == WILDCARD)
            || (names.is_empty() && !self.named && self.is_wildcard_by_silence());
        self.named |= !names.is_empty();
        let names: BTreeSet<Arc<str>> = names.iter().filter(|name| &***name != WILDCARD).cloned().collect();
        let mut grew = wildcard && !self.wildcard;
        if grew {
            self.start = Some(Start { held: BTreeMap::new(), rest: Have::Doubtful });
        }
        self.wildcard = wildcard;
        let gone: Vec<Arc<str>> = self.names.difference(&names).filter(|_| !wildcard).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
        for name in &names {
            if !self.names.contains(name) {
                grew = true;
                self.due.insert(name.clone(), Have::Asked);
            }
        }
        self.names = names;
        if !wildcard {
            self.start = None;
            self.due.retain(|name, _| self.names.contains(name));
        }
        self.full |= grew && self.is_full_state();
        if repeats && !grew && std::mem::take(&mut self.warming) {
            self.ask_again();
        }
        if self.names.is_empty() && !self.wildcard {
            self.full = false;
        }
    }

    fn ask_again(&mut self) {
        self.full |= self.is_full_state();
        self.due.extend(self.names.iter().map(|name| (name.clone(), Have::Asked)));
    }

    /// Whether what a response does not have is thereby deleted.
    pub(crate) fn is_full_state(&self) -> bool {
        matches!(self.kind, TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::NameTable | TypeUrl::ProxyConfig)
    }
}
