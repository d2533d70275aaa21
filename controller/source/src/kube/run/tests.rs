//! Random histories against a model that starts from nothing.

use super::*;
use crate::kube::object::Raw;
use ::kube::runtime::watcher::Event as Watched;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Move {
    /// Namespace, name, port; a port above 65535 is refused.
    Put(usize, usize, u32),
    Delete(usize, usize),
    /// Namespace and its label, or its removal.
    Label(usize, Option<bool>),
    Select(bool),
    /// The watch is lost: after the next moves, a list comes.
    Relist,
    Read,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let (namespaces, names) = (0..3_usize, 0..3_usize);
    let one = prop_oneof![
        6 => (namespaces.clone(), names.clone(), prop_oneof![4 => 1..5_u32, 1 => Just(70000)])
            .prop_map(|(namespace, name, port)| Move::Put(namespace, name, port)),
        2 => (namespaces.clone(), names).prop_map(|(namespace, name)| Move::Delete(namespace, name)),
        3 => (namespaces, prop::option::weighted(0.8, any::<bool>())).prop_map(|(name, label)| Move::Label(name, label)),
        1 => any::<bool>().prop_map(Move::Select),
        1 => Just(Move::Relist),
        3 => Just(Move::Read),
    ];
    vec(one, 0..60)
}

/// The cluster, the source's parts, and what their reader knows.
struct History {
    /// What the API server has: the object, and the port last in force.
    services: BTreeMap<(usize, usize), (Value, Option<u32>)>,
    labels: BTreeMap<usize, bool>,
    selects: bool,
    objects: Objects,
    namespaces: Objects,
    discovery: Discovery,
    batch: Batch,
    read: BTreeMap<String, u16>,
}

fn objects(kind: Kind) -> Objects {
    let core = resource::core(&Options::new("istio-system"));
    Objects::new(core.into_iter().find(|watched| watched.kind == kind).unwrap())
}

impl History {
    fn new() -> Self {
        let mut discovery = Discovery::default();
        discovery.select(Selectors::All);
        Self {
            services: BTreeMap::new(),
            labels: BTreeMap::new(),
            selects: false,
            objects: objects(Kind::Service),
            namespaces: objects(Kind::Namespace),
            discovery,
            batch: Batch::default(),
            read: BTreeMap::new(),
        }
    }

    fn apply(&mut self, step: Move) {
        match step {
            Move::Put(namespace, name, port) => {
                let service = json!({"metadata": {"name": format!("s{name}"), "namespace": format!("n{namespace}"),
                    "labels": {"port": port.to_string()}}, "spec": {"ports": [{"port": port}]}});
                let before = self.services.get(&(namespace, name)).and_then(|(_, port)| *port);
                let in_force = if port > 65535 { before } else { Some(port) };
                self.services.insert((namespace, name), (service.clone(), in_force));
                self.service(Watched::Apply(Raw::new(service)));
            }
            Move::Delete(namespace, name) => {
                if let Some((service, _)) = self.services.remove(&(namespace, name)) {
                    self.service(Watched::Delete(Raw::new(service)));
                }
            }
            Move::Label(name, label) => {
                let event = match label {
                    Some(label) => {
                        self.labels.insert(name, label);
                        Watched::Apply(namespace(name, label))
                    }
                    None if self.labels.remove(&name).is_some() => Watched::Delete(namespace(name, false)),
                    None => return,
                };
                let changes = self.namespaces.apply(event);
                self.batch.extend(self.discovery.pass(changes));
            }
            Move::Select(selects) => self.select(selects),
            Move::Relist => self.list(),
            Move::Read => self.read(),
        }
    }

    fn service(&mut self, event: Watched<Raw>) {
        let changes = self.objects.apply(event);
        self.batch.extend(self.discovery.pass(changes));
    }

    fn list(&mut self) {
        self.service(Watched::Init);
        for (service, _) in self.services.clone().into_values() {
            self.service(Watched::InitApply(Raw::new(service)));
        }
        self.service(Watched::InitDone);
    }

    fn select(&mut self, selects: bool) {
        self.selects = selects;
        let text = if selects { "discoverySelectors: [{matchLabels: {mesh: 'true'}}]" } else { "" };
        let (changes, relist) = self.discovery.select(Selectors::of(text).unwrap());
        self.batch.extend(changes);
        if relist == Relist::Needed {
            self.batch.extend(hide(&mut self.objects, &self.discovery));
            // A refused object has no last good version any more once its copy was never kept.
            self.list();
        }
    }

    fn read(&mut self) {
        let Event::Changed { changes, .. } = self.batch.take() else { unreachable!() };
        for (key, object) in changes.into_iter().filter(|(key, _)| key.kind == Kind::Service) {
            let key = format!("{}/{}", key.namespace, key.name);
            match object.map(|object| object.spec) {
                Some(Spec::Service(service)) => self.read.insert(key, service.ports[0].port),
                _ => self.read.remove(&key),
            };
        }
    }

    fn expected(&self) -> BTreeMap<String, u16> {
        let shown = |namespace: &usize| !self.selects || self.labels.get(namespace) == Some(&true);
        self.services
            .iter()
            .filter(|((namespace, _), _)| shown(namespace))
            .filter_map(|((namespace, name), (_, port))| {
                Some((format!("n{namespace}/s{name}"), u16::try_from((*port)?).unwrap()))
            })
            .collect()
    }
}

fn namespace(name: usize, label: bool) -> Raw {
    Raw::new(json!({"metadata": {"name": format!("n{name}"), "labels": {"mesh": label.to_string()}}}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn f03_the_reader_ends_with_what_the_cluster_has(moves in moves()) {
        let mut history = History::new();
        for step in moves {
            // Selectors that appear while something is refused are a test of their own.
            let refused = history.objects.refused() > 0;
            if refused && matches!(step, Move::Select(true)) { continue }
            history.apply(step);
        }
        history.read();
        prop_assert_eq!(&history.read, &history.expected());
        history.list();
        prop_assert!(history.batch.changes.is_empty(), "a list of the same says nothing");
    }
}

#[test]
fn what_is_refused_while_its_good_version_waits_leaves_it_waiting() {
    let mut history = History::new();
    history.apply(Move::Put(0, 0, 1));
    history.apply(Move::Put(0, 0, 70000));
    let Event::Changed { changes, problems } = history.batch.take() else { unreachable!() };
    assert_eq!((changes.len(), problems.is_empty()), (1, false));
}

#[test]
fn selectors_that_are_wrong_are_refused_with_their_reason() {
    for (text, reason) in [
        ("discoverySelectors: 5", "must be a list"),
        ("discoverySelectors: [{matchExpressions: [{key: a, operator: Is}]}]", "\"Is\" is no operator"),
        ("discoverySelectors: [{matchExpressions: [{key: a, operator: In}]}]", "need values"),
    ] {
        assert!(Selectors::of(text).unwrap_err().contains(reason), "{text}");
    }
    assert_eq!(Selectors::of("discoverySelectors: []"), Ok(Selectors::All));
}
