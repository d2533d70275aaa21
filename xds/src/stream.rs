//! One proxy's session, as a plain struct: requests and snapshots in, responses out. No clock, no sockets.
//!
//! The rules it keeps, and where each is tested: `docs/ads.md`. In short:
//! * one response in flight a type; what changes meanwhile is sent when that one is answered, newest state only;
//! * make before break: clusters, their endpoints, listeners, routes, each after what it refers to is there;
//!   a cluster goes when the routes without it have been accepted;
//! * a proxy is sent what differs from what it has, and nothing else.

use crate::{
    Node, NodeError, Resource, Response, Snapshot, TypeUrl, envoy,
    subscription::{Have, InFlight, NAMES_MAX, Settled, Subscription},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Which of the two aggregated methods the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Sotw,
    Delta,
}

/// What a proxy says.
#[derive(Clone, Debug)]
pub enum Request {
    Sotw(envoy::DiscoveryRequest),
    Delta(envoy::DeltaDiscoveryRequest),
}

/// What a request told besides what it asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    Ack {
        kind: TypeUrl,
        version: String,
        nonce: String,
    },
    Nack {
        kind: TypeUrl,
        version: String,
        nonce: String,
        reason: String,
        names: Vec<Arc<str>>,
    },
    /// It wants resources of a type that is not served.
    UnknownType {
        type_url: String,
        /// `error_detail` of the request: of some types it is all that is said.
        error: Option<String>,
    },
}

/// Why a stream must end. Every one is the client's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("node.id changed from {from:?} to {to:?} within a stream")]
    NodeChanged { from: String, to: String },
    #[error("type_url is empty: on an aggregated stream every request must have one")]
    NoType,
    #[error("a request of the other protocol variant")]
    OtherProtocol,
    #[error("more than {NAMES_MAX} names in one type's subscription")]
    TooManyNames,
}

/// One session.
///
/// ```
/// use xds::{Layer, Layers, Protocol, Request, Resource, Snapshot, Stream, TypeUrl, envoy};
/// let mut stream = Stream::new(Protocol::Delta);
/// let request = envoy::DeltaDiscoveryRequest {
///     node: Some(envoy::core::Node { id: "proxy".into(), ..Default::default() }),
///     type_url: TypeUrl::Cluster.url().into(),
///     ..Default::default()
/// };
/// stream.request(Request::Delta(request)).unwrap();
/// assert!(stream.responses().is_empty());
///
/// let cluster = Resource::whole("a", &envoy::Cluster { name: "a".into(), ..Default::default() });
/// let layers = Layers::new(vec![Layer::unit("a".into(), Some(cluster.into()))]);
/// stream.snapshot(Snapshot::new([(TypeUrl::Cluster, layers)].into()));
/// assert_eq!(*stream.responses()[0].names, ["a".into()]);
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    protocol: Protocol,
    node: Option<Node>,
    snapshot: Option<Snapshot>,
    subscriptions: BTreeMap<TypeUrl, Subscription>,
    /// Names asked for in types that are not served.
    unknown: BTreeMap<String, BTreeSet<Arc<str>>>,
    nonces: u64,
    /// Endpoints without which clusters just sent do not work yet.
    fresh: BTreeSet<Arc<str>>,
    /// Whether listeners and routes still wait for `fresh` and for the last clusters to be accepted.
    patient: bool,
    /// State of the world: clusters that are to go, but which routes that the proxy has may refer to.
    leaving: BTreeMap<Arc<str>, Arc<Resource>>,
    /// Within one round of responses: something that was due has been found to need none.
    look_again: bool,
}

impl Stream {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            node: None,
            snapshot: None,
            subscriptions: BTreeMap::new(),
            unknown: BTreeMap::new(),
            nonces: 0,
            fresh: BTreeSet::new(),
            patient: true,
            leaving: BTreeMap::new(),
            look_again: false,
        }
    }

    /// Who is on the other end, from the first request on.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Takes a request. After an error the stream must be closed.
    pub fn request(&mut self, request: Request) -> Result<Option<Observed>, ProtocolError> {
        let (node, type_url) = match &request {
            Request::Sotw(request) => (&request.node, &request.type_url),
            Request::Delta(request) => (&request.node, &request.type_url),
        };
        self.identify(node.as_ref())?;
        if type_url.is_empty() {
            return Err(ProtocolError::NoType);
        }
        let Some(kind) = TypeUrl::from_url(type_url) else { return self.unknown_type(request) };
        match (self.protocol, request) {
            (Protocol::Sotw, Request::Sotw(request)) => self.sotw_request(kind, request),
            (Protocol::Delta, Request::Delta(request)) => self.delta_request(kind, request),
            _ => Err(ProtocolError::OtherProtocol),
        }
    }

    /// What the proxy should have from now on.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        let Some(old) = &mut self.snapshot else {
            self.snapshot = Some(snapshot);
            return TypeUrl::ALL.into_iter().for_each(|kind| self.begin(kind));
        };
        for (kind, subscription) in &mut self.subscriptions {
            let (before, after) = (old.layers(*kind), snapshot.layers(*kind));
            if before.same(after) {
                continue;
            }
            before.diff(after, |name, before, after| {
                subscription.changed(name, before);
                if *kind == TypeUrl::Cluster && subscription.wants(name) {
                    cluster_changed(&mut self.fresh, &mut self.leaving, before, after);
                }
            });
        }
        *old = snapshot;
    }

    /// The responses due now, in the order in which they must be sent.
    pub fn responses(&mut self) -> Vec<Response> {
        let Some(snapshot) = self.snapshot.clone() else { return Vec::new() };
        let mut responses = self.unknown_responses();
        self.look_again = true;
        // A type that turns out to need no response may be what an earlier one was waiting for.
        while std::mem::replace(&mut self.look_again, false) {
            for kind in TypeUrl::ALL {
                if self.subscriptions.contains_key(&kind) {
                    responses.extend(self.response(kind, &snapshot));
                }
            }
        }
        responses
    }

    /// Whether something is held back until endpoints have followed their clusters.
    pub fn is_waiting(&self) -> bool {
        let due =
            |kind| self.subscriptions.get(kind).is_some_and(|s| s.in_flight.is_none() && (s.full || !s.due.is_empty()));
        self.is_unsettled() && [TypeUrl::Listener, TypeUrl::Route, TypeUrl::VirtualHost].iter().any(due)
    }

    /// Gives up waiting. Whoever drives the stream has the clock: a client that never asks for the endpoints of
    /// the clusters it was sent must not be without listeners for ever.
    pub fn stop_waiting(&mut self) {
        self.fresh.clear();
        self.patient = false;
    }

    /// A subscription to everything begins as soon as there is a snapshot to begin with.
    fn begin(&mut self, kind: TypeUrl) {
        let (Some(snapshot), Some(subscription)) = (&self.snapshot, self.subscriptions.get_mut(&kind)) else { return };
        if subscription.start.is_some() {
            subscription.begin(snapshot.layers(kind));
            if kind == TypeUrl::VirtualHost {
                self.release_tables(&snapshot.clone());
            }
        }
    }

    fn identify(&mut self, node: Option<&envoy::core::Node>) -> Result<(), ProtocolError> {
        match (&self.node, node) {
            (None, node) => self.node = Some(Node::parse(node.ok_or(NodeError::NoId)?)?),
            (Some(known), Some(node)) if !node.id.is_empty() && node.id != known.id => {
                return Err(ProtocolError::NodeChanged { from: known.id.clone(), to: node.id.clone() });
            }
            _ => {}
        }
        Ok(())
    }

    fn unknown_type(&mut self, request: Request) -> Result<Option<Observed>, ProtocolError> {
        let (type_url, subscribe, error) = match request {
            Request::Sotw(request) => {
                let error = request.error_detail.map(|it| it.message);
                return Ok(Some(Observed::UnknownType { type_url: request.type_url, error }));
            }
            Request::Delta(request) => {
                (request.type_url, request.resource_names_subscribe, request.error_detail.map(|it| it.message))
            }
        };
        let names: BTreeSet<Arc<str>> = subscribe.into_iter().filter(|name| name != "*").map(Into::into).collect();
        if self.unknown.len() >= UNKNOWN_TYPES_MAX || names.len() > NAMES_MAX {
            return Err(ProtocolError::TooManyNames);
        }
        if !names.is_empty() {
            self.unknown.entry(type_url.clone()).or_default().extend(names);
        }
        Ok(Some(Observed::UnknownType { type_url, error }))
    }

    fn delta_request(
        &mut self,
        kind: TypeUrl,
        request: envoy::DeltaDiscoveryRequest,
    ) -> Result<Option<Observed>, ProtocolError> {
        let subscribe = self.shared_names(kind, &request.resource_names_subscribe);
        let unsubscribe = self.shared_names(kind, &request.resource_names_unsubscribe);
        let is_first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_insert_with(|| Subscription::new(kind));
        let settled = subscription.settle(&request.response_nonce, request.error_detail.is_some());
        if is_first {
            let initial = request.initial_resource_versions.into_iter();
            let initial = initial.map(|(name, version)| (name.into(), version.parse().ok())).collect();
            subscription.first(&subscribe, &unsubscribe, initial, &self.fresh);
        } else {
            // Whatever the nonce: it only says which response is meant (rule X62).
            subscription.later(&subscribe, &unsubscribe);
        }
        let too_many = subscription.names.len() > NAMES_MAX;
        if kind == TypeUrl::Endpoint {
            unsubscribe.iter().for_each(|name| {
                self.fresh.remove(name);
            });
        }
        if too_many {
            return Err(ProtocolError::TooManyNames);
        }
        self.begin(kind);
        Ok(settled.map(|settled| self.settled(kind, settled, request.error_detail)))
    }

    fn sotw_request(
        &mut self,
        kind: TypeUrl,
        request: envoy::DiscoveryRequest,
    ) -> Result<Option<Observed>, ProtocolError> {
        if request.resource_names.len() > NAMES_MAX {
            return Err(ProtocolError::TooManyNames);
        }
        let names = self.shared_names(kind, &request.resource_names);
        let is_first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_insert_with(|| Subscription::new(kind));
        // A first request is one whatever nonce it carries from an earlier stream (rule X20).
        if !is_first && !subscription.is_current(&request.response_nonce) {
            return Ok(None);
        }
        let settled = subscription.settle(&request.response_nonce, request.error_detail.is_some());
        let repeats = !is_first && settled.is_none() && subscription.in_flight.is_none();
        subscription.all(&names, repeats);
        if kind == TypeUrl::Endpoint && !subscription.wildcard {
            let subscription = &self.subscriptions[&kind];
            // Names that were dropped are waited for no longer; those not yet asked for still are.
            let dropped = |settled: &Settled, name: &Arc<str>| {
                settled.response.names.contains(name) && !subscription.names.contains(name)
            };
            if let Some(settled) = &settled {
                self.fresh.retain(|name| !dropped(settled, name));
            }
        }
        self.begin(kind);
        Ok(settled.map(|settled| self.settled(kind, settled, request.error_detail)))
    }

    /// The names of a request in the spelling that is shared with the snapshot.
    fn shared_names(&self, kind: TypeUrl, names: &[String]) -> Vec<Arc<str>> {
        let share = |name: &String| {
            self.snapshot.as_ref().map_or_else(|| name.as_str().into(), |snapshot| snapshot.layers(kind).name(name))
        };
        names.iter().map(share).collect()
    }

    fn settled(&mut self, kind: TypeUrl, settled: Settled, error: Option<envoy::rpc::Status>) -> Observed {
        let InFlight { nonce, version, names } = settled.response;
        match kind {
            TypeUrl::Endpoint => names.iter().for_each(|name| {
                self.fresh.remove(name);
            }),
            // Its endpoints may never be asked for; other types go on (rule X46).
            TypeUrl::Cluster if settled.refused => self.fresh.clear(),
            _ => {}
        }
        match error {
            Some(error) => Observed::Nack { kind, version, nonce, reason: error.message, names },
            None => Observed::Ack { kind, version, nonce },
        }
    }

    fn unknown_responses(&mut self) -> Vec<Response> {
        let unknown = std::mem::take(&mut self.unknown).into_iter();
        unknown
            .map(|(type_url, names)| {
                let nonce = self.nonce();
                Response::delta(Cow::Owned(type_url), nonce, 0, &[], names.into_iter().collect())
            })
            .collect()
    }

    fn nonce(&mut self) -> String {
        self.nonces += 1;
        self.nonces.to_string()
    }

    /// The last clusters may not work yet.
    fn is_unsettled(&self) -> bool {
        let sent = |s: &Subscription| s.in_flight.is_some();
        self.patient && (!self.fresh.is_empty() || self.subscriptions.get(&TypeUrl::Cluster).is_some_and(sent))
    }

    /// Something of this type is to be sent that could not be: a removal that waits does not count.
    fn has_more(&self, kind: TypeUrl, snapshot: &Snapshot) -> bool {
        let present = |s: &Subscription| s.full || s.due.keys().any(|name| snapshot.get(kind, name).is_some());
        self.subscriptions.get(&kind).is_some_and(present)
    }

    fn must_wait(&self, kind: TypeUrl, snapshot: &Snapshot) -> bool {
        match kind {
            TypeUrl::Cluster | TypeUrl::Secret | TypeUrl::Extension | TypeUrl::NameTable | TypeUrl::ProxyConfig => {
                false
            }
            TypeUrl::Endpoint => self.has_more(TypeUrl::Cluster, snapshot),
            TypeUrl::Listener => self.is_unsettled(),
            TypeUrl::Route => self.is_unsettled() || self.has_more(TypeUrl::Listener, snapshot),
            // Envoy accepts and loses a virtual host that comes before its table.
            TypeUrl::VirtualHost => self.is_unsettled() || self.has_more(TypeUrl::Route, snapshot),
        }
    }

    /// Nothing of this type is on its way, and the last was accepted.
    fn is_quiet(&self, kind: TypeUrl) -> bool {
        let quiet = |s: &Subscription| s.in_flight.is_none() && s.due.is_empty() && !s.full && s.doubtful.is_empty();
        self.subscriptions.get(&kind).is_none_or(quiet)
    }

    /// What refers to this type is as it should be, so what nothing refers to may go.
    fn removal(&self, kind: TypeUrl) -> Removal {
        let referrers: &[TypeUrl] = match kind {
            TypeUrl::Cluster => &[TypeUrl::Listener, TypeUrl::Route, TypeUrl::VirtualHost],
            TypeUrl::Endpoint => &[TypeUrl::Cluster, TypeUrl::Listener, TypeUrl::Route, TypeUrl::VirtualHost],
            TypeUrl::Route => &[TypeUrl::Listener],
            TypeUrl::Listener | TypeUrl::VirtualHost | TypeUrl::NameTable | TypeUrl::ProxyConfig => &[],
            // Envoy has no way to live without a secret or filter that it still asks for (envoy#32832, #32823).
            TypeUrl::Secret | TypeUrl::Extension => return Removal::Never,
        };
        if referrers.iter().all(|kind| self.is_quiet(*kind)) { Removal::Now } else { Removal::Later }
    }

    fn response(&mut self, kind: TypeUrl, snapshot: &Snapshot) -> Option<Response> {
        let subscription = &self.subscriptions[&kind];
        if subscription.in_flight.is_some() || (subscription.due.is_empty() && !subscription.full) {
            return None;
        }
        if self.must_wait(kind, snapshot) {
            return None;
        }
        let removal = self.removal(kind);
        let subscription = self.subscriptions.get_mut(&kind)?;
        let due = subscription.due.len();
        let Content { must_answer, sent, removed, asked } = content(subscription, snapshot, self.protocol, removal);
        if kind == TypeUrl::Cluster {
            self.leaving.retain(|name, _| subscription.due.contains_key(name));
        }
        let resources: Vec<&Arc<Resource>> = match self.protocol {
            Protocol::Sotw if subscription.is_full_state() => {
                world(subscription, snapshot, (kind == TypeUrl::Cluster).then_some(&self.leaving))
            }
            _ => sent.clone(),
        };
        let is_due = match self.protocol {
            Protocol::Delta => must_answer || !sent.is_empty() || !removed.is_empty(),
            Protocol::Sotw if subscription.is_full_state() => must_answer || !sent.is_empty() || !removed.is_empty(),
            Protocol::Sotw => !sent.is_empty(),
        };
        if kind == TypeUrl::Endpoint && self.protocol == Protocol::Sotw {
            // State of the world cannot say "there is none"; there is nothing to wait for.
            removed.iter().for_each(|name| {
                self.fresh.remove(name);
            });
        }
        if !is_due {
            self.look_again |= subscription.due.len() < due;
            return None;
        }
        self.nonces += 1;
        let (nonce, url) = (self.nonces.to_string(), Cow::Borrowed(kind.url()));
        let response = match self.protocol {
            Protocol::Delta => Response::delta(url, nonce, subscription.nacks, &resources, removed.clone()),
            Protocol::Sotw => Response::sotw(url, nonce, subscription.nacks, &resources),
        };
        subscription.sent(&response, removed);
        self.follow_up(kind, snapshot, &sent, &asked);
        Some(response)
    }

    /// What a response of this type makes due in other types.
    fn follow_up(&mut self, kind: TypeUrl, snapshot: &Snapshot, sent: &[&Arc<Resource>], asked: &[Arc<str>]) {
        let mut warm = |kind| {
            if let Some(subscription) = self.subscriptions.get_mut(&kind) {
                subscription.warming = true;
            }
        };
        match kind {
            TypeUrl::Cluster => {
                [TypeUrl::Endpoint, TypeUrl::Secret].into_iter().for_each(&mut warm);
                self.clusters_sent(sent);
            }
            TypeUrl::Listener => [TypeUrl::Route, TypeUrl::Secret].into_iter().for_each(&mut warm),
            TypeUrl::Route => asked.iter().for_each(|table| self.table_sent(table, snapshot)),
            _ => {}
        }
    }

    /// Envoy waits for the endpoints of a cluster that it was sent, even of one that it had (rules X42, X65).
    fn clusters_sent(&mut self, sent: &[&Arc<Resource>]) {
        self.patient = true;
        let mut endpoints = self.subscriptions.get_mut(&TypeUrl::Endpoint);
        for name in sent.iter().filter_map(|cluster| cluster.endpoints()) {
            self.fresh.insert(name.clone());
            if let Some(subscription) = endpoints.as_deref_mut().filter(|subscription| subscription.wants(name)) {
                subscription.due.insert(name.clone(), Have::Asked);
            }
        }
    }

    /// Envoy does not ask for the virtual hosts of a table that it has asked for (docs/ads.md, "Virtual hosts").
    fn table_sent(&mut self, table: &str, snapshot: &Snapshot) {
        let Some(subscription) = self.subscriptions.get_mut(&TypeUrl::VirtualHost).filter(|s| s.wildcard) else {
            return;
        };
        let prefix = format!("{table}/");
        let mut hosts: Vec<Arc<str>> =
            snapshot.layers(TypeUrl::VirtualHost).starting_with(&prefix).map(|host| host.name.clone()).collect();
        if hosts.is_empty() {
            // An answer without any name does not end Envoy's wait, one with a name of the table does.
            hosts.push(format!("{prefix}none").into());
        }
        subscription.due.extend(hosts.into_iter().map(|host| (host, Have::Asked)));
    }

    /// The same for the tables that were sent before virtual hosts were asked for.
    fn release_tables(&mut self, snapshot: &Snapshot) {
        let Some(tables) = self.subscriptions.get(&TypeUrl::Route) else { return };
        let hosts = snapshot.layers(TypeUrl::VirtualHost);
        let is_empty = |table: &Arc<str>| hosts.starting_with(&format!("{table}/")).next().is_none();
        let empty: Vec<Arc<str>> = tables.names.iter().filter(|table| is_empty(table)).cloned().collect();
        empty.iter().for_each(|table| self.table_sent(table, snapshot));
    }
}

/// Bound on the types not served that one stream may ask for between two rounds of responses.
const UNKNOWN_TYPES_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Now,
    Later,
    Never,
}

/// What is to be said of one type.
struct Content<'a> {
    /// Say it even if it is nothing.
    must_answer: bool,
    sent: Vec<&'a Arc<Resource>>,
    removed: Vec<Arc<str>>,
    /// Of those sent, the names that the client did not have or asked for again.
    asked: Vec<Arc<str>>,
}

/// Takes out of `due` what can be settled now.
fn content<'a>(
    subscription: &mut Subscription,
    snapshot: &'a Snapshot,
    protocol: Protocol,
    removal: Removal,
) -> Content<'a> {
    let mut content = Content {
        must_answer: std::mem::take(&mut subscription.full),
        sent: Vec::new(),
        removed: Vec::new(),
        asked: Vec::new(),
    };
    let layers = snapshot.layers(subscription.kind);
    // State of the world has no word for "it is gone" in most types.
    let is_silent = protocol == Protocol::Sotw && !subscription.is_full_state();
    for (name, have) in std::mem::take(&mut subscription.due) {
        // Envoy refuses a response whole: a filter that it cannot load must not take others along.
        if subscription.kind == TypeUrl::Extension && !content.sent.is_empty() {
            subscription.due.insert(name, have);
            continue;
        }
        match (layers.get(&name), have) {
            (Some(resource), Have::This(version)) if version == resource.version => {}
            (Some(resource), have) => {
                if matches!(have, Have::Nothing | Have::Asked) {
                    content.asked.push(name);
                }
                content.sent.push(resource);
            }
            (None, Have::This(_) | Have::Doubtful) if removal == Removal::Later => {
                subscription.due.insert(name, have);
            }
            (None, have) => {
                let is_told = have == Have::Asked || (have != Have::Nothing && removal == Removal::Now);
                if !is_told || is_silent {
                    // No answer to come will settle it.
                    subscription.doubtful.remove(&name);
                }
                if is_told {
                    content.removed.push(name);
                }
            }
        }
    }
    if protocol == Protocol::Sotw && subscription.is_full_state() && content.must_answer {
        content.sent = world(subscription, snapshot, None);
    }
    content
}

/// All of the resources of a subscription, and those that may not go yet.
fn world<'a>(
    subscription: &Subscription,
    snapshot: &'a Snapshot,
    leaving: Option<&'a BTreeMap<Arc<str>, Arc<Resource>>>,
) -> Vec<&'a Arc<Resource>> {
    let layers = snapshot.layers(subscription.kind);
    let mut all: Vec<&Arc<Resource>> = match subscription.wildcard {
        true => layers.iter().collect(),
        false => subscription.names.iter().filter_map(|name| layers.get(name)).collect(),
    };
    let still = |(name, _): &(&Arc<str>, &Arc<Resource>)| subscription.due.contains_key(*name);
    all.extend(leaving.into_iter().flatten().filter(still).map(|(_, resource)| resource));
    all
}

fn cluster_changed(
    fresh: &mut BTreeSet<Arc<str>>,
    leaving: &mut BTreeMap<Arc<str>, Arc<Resource>>,
    before: Option<&Arc<Resource>>,
    after: Option<&Arc<Resource>>,
) {
    let endpoints = |resource: Option<&Arc<Resource>>| resource.and_then(|resource| resource.endpoints()).cloned();
    if let Some(old) = endpoints(before)
        && endpoints(after).as_ref() != Some(&old)
    {
        fresh.remove(&old);
    }
    match (before, after) {
        (Some(before), None) => leaving.insert(before.name.clone(), before.clone()),
        (_, Some(after)) => leaving.remove(&after.name),
        (None, None) => None,
    };
}

impl Subscription {
    /// `gone` is in the response as `removed_resources`, or by its absence.
    fn sent(&mut self, response: &Response, gone: Vec<Arc<str>>) {
        self.warming = false;
        self.last_nonce.clone_from(&response.nonce);
        let names = response.names.iter().cloned().chain(gone).collect();
        self.in_flight = Some(InFlight { nonce: response.nonce.clone(), version: response.version.clone(), names });
    }
}
