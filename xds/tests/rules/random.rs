//! X86, X87: whatever happens in whatever order, the client ends up with what it asked for.

use crate::rig::{World, node};
use proptest::prelude::*;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use xds::{Layer, Layers, Protocol, Request, Snapshot, Stream, TypeUrl, client, envoy};

const KINDS: [TypeUrl; 4] = [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Listener, TypeUrl::Route];
const NAMES: [&str; 5] = ["a", "b", "c", "eds1", "eds2"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u8),
    Remove(usize, usize),
    Publish,
    Subscribe(usize, u8),
    SubscribeAll(usize),
    /// The server is asked for what is due.
    Respond,
    /// The client reads the next response and takes it, or does not.
    Read {
        accept: bool,
    },
    /// The server reads what the client has sent.
    Deliver,
    Reconnect,
    WaitEnough,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_usize, 0..5_usize, 0..3_u8).prop_map(|(kind, name, text)| Step::Put(kind, name, text)),
        3 => (0..4_usize, 0..5_usize).prop_map(|(kind, name)| Step::Remove(kind, name)),
        5 => Just(Step::Publish),
        4 => (0..4_usize, 0..32_u8).prop_map(|(kind, mask)| Step::Subscribe(kind, mask)),
        2 => (0..4_usize).prop_map(Step::SubscribeAll),
        8 => Just(Step::Respond),
        10 => (0..8_u8).prop_map(|dice| Step::Read { accept: dice != 0 }),
        8 => Just(Step::Deliver),
        1 => Just(Step::Reconnect),
        1 => Just(Step::WaitEnough),
    ]
}

/// Both ends and what is on the way between them.
struct Rig {
    protocol: Protocol,
    world: World,
    published: Snapshot,
    server: Stream,
    client: client::Session,
    asked: BTreeMap<TypeUrl, (bool, BTreeSet<String>)>,
    requests: VecDeque<Request>,
    responses: VecDeque<xds::Response>,
    /// Per type: sent and not answered.
    in_flight: BTreeMap<String, usize>,
}

impl Rig {
    fn new(protocol: Protocol) -> Self {
        let mut server = Stream::new(protocol);
        server.snapshot(Snapshot::default());
        Self {
            protocol,
            world: World::default(),
            published: Snapshot::default(),
            server,
            client: client::Session::new(protocol, node().unwrap()),
            asked: BTreeMap::new(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            in_flight: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put(kind, name, text) => self.world.put(KINDS[kind], NAMES[name], &text.to_string()),
            Step::Remove(kind, name) => self.world.remove(KINDS[kind], NAMES[name]),
            Step::Publish => {
                self.published = self.world.snapshot();
                self.server.snapshot(self.published.clone());
            }
            Step::Subscribe(kind, mask) => self.subscribe(KINDS[kind], mask),
            Step::SubscribeAll(kind) => {
                let all = self.asked.entry(KINDS[kind]).or_default();
                if !std::mem::replace(&mut all.0, true) {
                    self.requests.push_back(self.client.subscribe_all(KINDS[kind]));
                }
            }
            Step::Respond => self.respond(),
            Step::Read { accept } => self.read(accept),
            Step::Deliver => self.deliver(),
            Step::Reconnect => self.reconnect(),
            Step::WaitEnough => self.server.stop_waiting(),
        }
    }

    fn subscribe(&mut self, kind: TypeUrl, mask: u8) {
        let names: BTreeSet<String> =
            NAMES.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, name)| name.to_string()).collect();
        // A first request without names would be one for everything.
        if names.is_empty() && !self.asked.contains_key(&kind) {
            return;
        }
        self.asked.entry(kind).or_default().1.clone_from(&names);
        self.requests.extend(self.client.subscribe(kind, names));
    }

    fn respond(&mut self) {
        for response in self.server.responses() {
            let count = self.in_flight.entry(response.type_url.clone().into_owned()).or_default();
            *count += 1;
            assert_eq!(*count, 1, "rule X47: one response in flight a type");
            self.check(&response);
            self.responses.push_back(response);
        }
    }

    /// A response brings the newest there is, or a cluster that is about to go.
    fn check(&self, response: &xds::Response) {
        let kind = TypeUrl::from_url(&response.type_url).unwrap();
        for name in &response.names {
            let exists = self.published.get(kind, name).is_some();
            let leaves = kind == TypeUrl::Cluster && self.protocol == Protocol::Sotw;
            assert!(exists || leaves, "{kind} {name} is sent but does not exist");
        }
        for name in &response.removed {
            assert!(self.published.get(kind, name).is_none(), "{kind} {name} is removed but exists");
        }
    }

    fn read(&mut self, accept: bool) {
        let Some(response) = self.responses.pop_front() else { return };
        let received = match self.protocol {
            Protocol::Sotw => self.client.sotw(envoy::DiscoveryResponse::decode(response.bytes()).unwrap()),
            Protocol::Delta => self.client.delta(envoy::DeltaDiscoveryResponse::decode(response.bytes()).unwrap()),
        };
        // Envoy refuses what it is given, not that something is gone; and what was given is replaced in the end.
        if accept || response.names.is_empty() {
            // The subscriptions here are the test's: only the ACK, not what would follow from it.
            let ack = self.client.acknowledge(&received);
            self.requests.extend(ack);
        } else {
            self.requests.extend(self.client.refuse(&received, "no"));
        }
    }

    fn deliver(&mut self) {
        let Some(request) = self.requests.pop_front() else { return };
        let url = match &request {
            Request::Sotw(request) => request.type_url.clone(),
            Request::Delta(request) => request.type_url.clone(),
        };
        if self.server.request(request).unwrap().is_some() {
            *self.in_flight.get_mut(&url).unwrap() -= 1;
        }
    }

    fn reconnect(&mut self) {
        self.requests.clear();
        self.responses.clear();
        self.in_flight.clear();
        self.server = Stream::new(self.protocol);
        self.server.snapshot(self.published.clone());
        self.requests.extend(self.client.reconnect());
    }

    /// Lets everything arrive and be accepted; refused content is replaced first.
    fn finish(&mut self) {
        for kind in KINDS {
            for name in NAMES {
                if self.world.snapshot().get(kind, name).is_some() {
                    self.world.put(kind, name, "last");
                }
            }
        }
        self.take(&Step::Publish);
        let mut rounds = 0;
        loop {
            self.respond();
            while !self.requests.is_empty() || !self.responses.is_empty() {
                self.deliver();
                self.read(true);
            }
            self.respond();
            if self.responses.is_empty() {
                if !self.server.is_waiting() {
                    return;
                }
                self.server.stop_waiting();
            }
            rounds += 1;
            assert!(rounds < 100, "it never ends");
        }
    }

    fn known(&self, kind: TypeUrl) -> BTreeMap<String, bytes::Bytes> {
        self.client.known(kind).map(|(name, known)| (name.to_owned(), known.bytes.clone())).collect()
    }

    fn expected(&self, kind: TypeUrl) -> BTreeMap<String, bytes::Bytes> {
        let (all, names) = self.asked.get(&kind).cloned().unwrap_or_default();
        let resources = self.published.layers(kind).iter();
        let wanted = resources.filter(|resource| all || names.contains(&*resource.name));
        wanted.map(|resource| (resource.name.to_string(), resource.bytes())).collect()
    }

    fn assert_converged(&self) {
        for kind in KINDS {
            let (mut known, expected) = (self.known(kind), self.expected(kind));
            if self.protocol == Protocol::Sotw && matches!(kind, TypeUrl::Endpoint | TypeUrl::Route) {
                // State of the world has no word for "this is gone" in these types (rule X30).
                known.retain(|name, _| expected.contains_key(name));
            }
            assert_eq!(known, expected, "{kind} over {:?}", self.protocol);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn x87_any_interleaving_converges(steps in prop::collection::vec(step(), 1..120), delta in any::<bool>()) {
        let mut rig = Rig::new(if delta { Protocol::Delta } else { Protocol::Sotw });
        steps.iter().for_each(|step| rig.take(step));
        rig.finish();
        rig.assert_converged();
    }

    #[test]
    fn x86_both_protocols_end_at_the_same(steps in prop::collection::vec(step(), 1..80)) {
        let ends = [Protocol::Sotw, Protocol::Delta].map(|protocol| {
            let mut rig = Rig::new(protocol);
            steps.iter().for_each(|step| rig.take(step));
            rig.finish();
            rig
        });
        for kind in KINDS {
            let [mut sotw, delta] = [ends[0].known(kind), ends[1].known(kind)];
            sotw.retain(|name, _| !matches!(kind, TypeUrl::Endpoint | TypeUrl::Route) || delta.contains_key(name));
            prop_assert_eq!(sotw, delta);
        }
    }

    /// What a diff of layers tells is what differs, whatever comes, goes, hides or moves.
    #[test]
    fn a_diff_of_layers_is_what_differs(layers in prop::collection::vec(prop::collection::vec((0..5_usize, 0..4_u8), 0..6), 0..8), cut in 0..8_usize) {
        let layer = |entries: &Vec<(usize, u8)>| -> Layer {
            let resource = |text: u8| (text > 0).then(|| Arc::new(crate::rig::resource(TypeUrl::Route, "r", &text.to_string())));
            entries.iter().map(|(name, text)| (Arc::<str>::from(NAMES[*name]), resource(*text))).collect()
        };
        let layers: Vec<Layer> = layers.iter().map(layer).collect();
        let cut = cut.min(layers.len());
        let (old, new) = (Layers::new(layers[..cut].to_vec()), Layers::new(layers[cut / 2..].to_vec()));
        let mut told = BTreeSet::new();
        old.diff(&new, |name, before, after| {
            assert_ne!(before, after);
            assert!(told.insert(name.to_string()), "{name} twice");
        });
        let differs: BTreeSet<String> = NAMES.iter().filter(|name| old.get(name) != new.get(name)).map(ToString::to_string).collect();
        prop_assert_eq!(told, differs);
        let listed: Vec<_> = new.iter().map(|resource| resource.version).collect();
        let looked_up: Vec<_> = NAMES.iter().filter_map(|name| new.get(name)).map(|resource| resource.version).collect();
        prop_assert_eq!(listed, looked_up);
    }
}
