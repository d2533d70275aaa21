//! A toy mesh with every kind of table and every kind of read, and a log of what was computed.

use imbl::{OrdMap, OrdSet};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use tables::{Commit, Dump, Reads, Shared, Table, TableDump, keys_from};

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Pod {
    pub(crate) app: u8,
    pub(crate) address: u32,
    /// Nobody downstream looks at it.
    pub(crate) noise: u32,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Proxy {
    pub(crate) apps: Vec<u8>,
    pub(crate) port: u16,
}

#[derive(PartialEq, Debug)]
pub(crate) struct Route {
    pub(crate) app: u8,
    pub(crate) endpoints: Shared<Vec<u32>>,
    pub(crate) weight: Option<u32>,
}

type RouteKey = (u8, u16);
type RouteTable = OrdMap<u8, Shared<Route>>;

#[derive(PartialEq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) routes: RouteTable,
    pub(crate) weights: u32,
    pub(crate) peers: Vec<u32>,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Batch {
    pub(crate) pods: Vec<(u32, Option<Pod>)>,
    pub(crate) rules: Vec<(u8, Option<u32>)>,
    pub(crate) proxies: Vec<(u32, Option<Proxy>)>,
}

#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<String>>);

pub(crate) struct World {
    pub(crate) commit: Commit,
    pub(crate) log: Log,
    pub(crate) pods: Table<u32, Pod>,
    pub(crate) rules: Table<u8, u32>,
    pub(crate) proxies: Table<u32, Proxy>,
    pub(crate) pods_by_app: Table<u8, OrdSet<u32>>,
    pub(crate) proxies_by_app: Table<u8, OrdSet<u32>>,
    pub(crate) endpoints: Table<u8, Vec<u32>>,
    pub(crate) routes: Table<RouteKey, Route>,
    pub(crate) route_tables: Table<u16, RouteTable>,
    pub(crate) weights: Table<(), u32>,
    pub(crate) snapshots: Table<u32, Snapshot>,
}

impl World {
    pub(crate) fn new(threads: usize) -> Self {
        let mut commit = Commit::with_threads(NonZeroUsize::new(threads).unwrap());
        Self {
            pods: commit.table("pods"),
            rules: commit.table("rules"),
            proxies: commit.table("proxies"),
            pods_by_app: commit.table("pods_by_app"),
            proxies_by_app: commit.table("proxies_by_app"),
            endpoints: commit.table("endpoints"),
            routes: commit.table("routes"),
            route_tables: commit.table("route_tables"),
            weights: commit.table("weights"),
            snapshots: commit.table("snapshots"),
            log: Log::default(),
            commit,
        }
    }

    pub(crate) fn commit(&mut self, batch: Batch) {
        let c = &mut self.commit;
        self.log.0.get_mut().unwrap().clear();
        c.input(&mut self.pods, batch.pods);
        c.input(&mut self.rules, batch.rules);
        c.input(&mut self.proxies, batch.proxies);
        c.group(&mut self.pods_by_app, &self.pods, |_, pod| vec![pod.app]);
        c.group(&mut self.proxies_by_app, &self.proxies, |_, proxy| proxy.apps.clone());
        c.derive(
            &mut self.endpoints,
            &[&keys_from(&self.pods_by_app, |app, _| [*app])],
            (&self.log, &self.pods_by_app, &self.pods),
            endpoints,
        );
        c.derive(
            &mut self.routes,
            &[&keys_from(&self.proxies, |_, it| it.apps.iter().map(|app| (*app, it.port)).collect::<Vec<_>>())],
            (&self.log, &self.endpoints, &self.rules),
            route,
        );
        // Apps that differ by five have the same name.
        c.collect(&mut self.route_tables, &self.routes, |(app, port), route| Some((*port, app % 5, route.clone())));
        c.derive(&mut self.weights, &[&keys_from(&self.proxies, |_, _| [()])], (&self.log, &self.rules), weights);
        c.derive(
            &mut self.snapshots,
            &[&keys_from(&self.proxies, |id, _| [*id])],
            (&self.log, &self.proxies, &self.proxies_by_app, &self.route_tables, &self.weights),
            snapshot,
        );
    }

    pub(crate) fn tables(&self) -> [&dyn Dump; 10] {
        let (a, b, c, d, e) = (&self.pods, &self.rules, &self.proxies, &self.pods_by_app, &self.proxies_by_app);
        [a, b, c, d, e, &self.endpoints, &self.routes, &self.route_tables, &self.weights, &self.snapshots]
    }

    pub(crate) fn dump(&self) -> Vec<TableDump> {
        self.tables().iter().map(|table| table.dump()).collect()
    }

    /// What the last commit computed, in order of text.
    pub(crate) fn computed(&self) -> Vec<String> {
        let mut log = self.log.0.lock().unwrap().clone();
        log.sort();
        log
    }

    /// A batch that brings an empty world to the same inputs.
    pub(crate) fn inputs(&self) -> Batch {
        fn all<K: tables::Key, V: Clone>(table: &Table<K, V>) -> Vec<(K, Option<V>)> {
            table.rows().into_iter().map(|(key, value)| (key, Some(value.clone()))).collect()
        }
        Batch { pods: all(&self.pods), rules: all(&self.rules), proxies: all(&self.proxies) }
    }

    pub(crate) fn rebuilt(&self) -> Self {
        let mut world = Self::new(1);
        world.commit(self.inputs());
        world
    }
}

impl Log {
    fn push(&self, row: String) {
        self.0.lock().unwrap().push(row);
    }
}

type EndpointTables<'t> = (&'t Log, &'t Table<u8, OrdSet<u32>>, &'t Table<u32, Pod>);
fn endpoints(reads: &mut Reads, (log, by_app, pods): EndpointTables<'_>, app: &u8) -> Option<Vec<u32>> {
    log.push(format!("endpoints {app}"));
    Some(reads.members(by_app, pods, app).map(|(_, pod)| pod.address).collect())
}

type RouteTables<'t> = (&'t Log, &'t Table<u8, Vec<u32>>, &'t Table<u8, u32>);
fn route(reads: &mut Reads, (log, endpoints, rules): RouteTables<'_>, key: &RouteKey) -> Option<Route> {
    log.push(format!("route {key:?}"));
    let endpoints = reads.get(endpoints, &key.0)?.clone();
    Some(Route { app: key.0, endpoints, weight: reads.get(rules, &key.0).map(|weight| **weight) })
}

fn weights(reads: &mut Reads, (log, rules): (&Log, &Table<u8, u32>), _: &()) -> Option<u32> {
    log.push("weights".to_owned());
    Some(reads.all(rules).map(|(_, weight)| **weight).fold(7, |sum, it| sum * 31 % 1_000_003 + it))
}

type SnapshotTables<'t> =
    (&'t Log, &'t Table<u32, Proxy>, &'t Table<u8, OrdSet<u32>>, &'t Table<u16, RouteTable>, &'t Table<(), u32>);
fn snapshot(
    reads: &mut Reads,
    (log, proxies, by_app, route_tables, weights): SnapshotTables<'_>,
    id: &u32,
) -> Option<Snapshot> {
    log.push(format!("snapshot {id}"));
    let proxy = reads.get(proxies, id)?.clone();
    let peers = proxy.apps.iter().flat_map(|app| reads.members(by_app, proxies, app).map(|(id, _)| *id)).collect();
    let routes = reads.get(route_tables, &proxy.port).map_or_else(OrdMap::new, |it| (**it).clone());
    Some(Snapshot { routes, weights: **reads.get(weights, &())?, peers })
}

/// xorshift64*: the same numbers in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32 % end
    }

    pub(crate) fn batch(&mut self, changes: u32) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..self.below(changes) + 1 {
            let gone = self.below(3) == 0;
            match self.below(8) {
                0..4 => {
                    let pod = Pod { app: self.below(12) as u8, address: self.below(50), noise: self.below(3) };
                    batch.pods.push((self.below(40), (!gone).then_some(pod)));
                }
                4..6 => {
                    let weight = self.below(3);
                    batch.rules.push((self.below(12) as u8, (!gone).then_some(weight)));
                }
                _ => {
                    let apps = (0..self.below(4)).map(|_| self.below(12) as u8).collect();
                    let proxy = Proxy { apps, port: 8000 + self.below(3) as u16 };
                    batch.proxies.push((self.below(8), (!gone).then_some(proxy)));
                }
            }
        }
        batch
    }
}

/// The values of a table's rows, without their keys' types.
pub(crate) fn texts(dump: &TableDump) -> BTreeMap<&str, Option<&str>> {
    dump.rows.iter().map(|row| (&*row.key, row.value.as_deref())).collect()
}
