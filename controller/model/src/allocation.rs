//! Virtual addresses for ServiceEntries that have none, so that an agent's DNS has something to answer and plain TCP
//! to different hosts of one port can be told apart
//! (<https://istio.io/latest/docs/ops/configuration/traffic-management/dns-proxy/#address-auto-allocation>).
//!
//! An address is first sought where a hash of the entry's name and host says, so that replicas that know the same
//! entries agree before anything is written. What stands in an entry's status is kept, and so is what it once got.

use crate::Hostname;
use crate::service::Age;
use crds::networking::{Resolution, ServiceEntry, ServiceEntryAddress};
use crds::{Meta, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of each host of an entry: one of each family, or what its status says.
pub type Allocation = BTreeMap<Hostname, Vec<IpAddr>>;

/// Who has which address.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    entries: BTreeMap<ObjectKey, Entry>,
    taken: BTreeMap<IpAddr, Owner>,
    unwritten: BTreeMap<ObjectKey, Vec<ServiceEntryAddress>>,
}

#[derive(Clone, Debug)]
struct Entry {
    age: Age,
    /// Those that want addresses.
    hosts: Vec<Hostname>,
    written: Allocation,
    allocated: Allocation,
    /// Users' own addresses, which nobody else may get.
    own: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Owner {
    users: BTreeSet<ObjectKey>,
    entry: Option<ObjectKey>,
}

/// Those whose status says an address come before others, the oldest first.
type Turn = (bool, Age, ObjectKey);
type Waiting = BTreeSet<Turn>;

/// The label by which an entry wants none.
const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

impl Allocator {
    /// Takes changed entries (`None`: gone), and returns the allocations that changed, of whichever entries.
    pub fn apply<'a>(
        &mut self,
        changes: impl IntoIterator<Item = (&'a ObjectKey, Option<(&'a Meta, &'a ServiceEntry)>)>,
    ) -> Vec<(ObjectKey, Option<Allocation>)> {
        let mut before: BTreeMap<ObjectKey, Allocation> = BTreeMap::new();
        let mut waiting = Waiting::new();
        for (key, new) in changes {
            let old = self.remove(key);
            let allocated = old.map(|it| it.allocated).unwrap_or_default();
            before.entry(key.clone()).or_insert_with(|| allocated.clone());
            if let Some((meta, spec)) = new {
                self.insert(key, Entry::new(meta, spec, allocated), &mut waiting);
            }
        }
        // Nobody has been evicted before, so whoever is now still has what it had.
        let mut note = |key: &ObjectKey, had: &Allocation| _ = before.entry(key.clone()).or_insert_with(|| had.clone());
        while let Some((.., key)) = waiting.pop_first() {
            if let Some(entry) = self.entries.get(&key) {
                note(&key, &entry.allocated);
                self.allocate(&key, &mut waiting);
            }
        }
        let after = |key: &ObjectKey| self.entries.get(key).map(|it| it.allocated.clone()).unwrap_or_default();
        let changed: Vec<_> = before.into_iter().map(|(key, old)| (after(&key), key, old)).collect();
        for (_, key, _) in &changed {
            self.note_unwritten(key);
        }
        let changed = changed.into_iter().filter(|(new, _, old)| new != old);
        changed.map(|(new, key, _)| (key, Some(new).filter(|it| !it.is_empty()))).collect()
    }

    /// What should stand in entries' status and does not yet.
    pub fn unwritten(&self) -> &BTreeMap<ObjectKey, Vec<ServiceEntryAddress>> {
        &self.unwritten
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Entry> {
        let old = self.entries.remove(key)?;
        for ip in old.allocated.values().flatten().chain(&old.own) {
            let Some(owner) = self.taken.get_mut(ip) else { continue };
            owner.users.remove(key);
            owner.entry.take_if(|it| it == key);
            if owner.users.is_empty() && owner.entry.is_none() {
                self.taken.remove(ip);
            }
        }
        Some(old)
    }

    fn insert(&mut self, key: &ObjectKey, entry: Entry, waiting: &mut Waiting) {
        for ip in &entry.own {
            let owner = self.taken.entry(*ip).or_default();
            owner.users.insert(key.clone());
            let other = owner.entry.clone();
            waiting.extend(other.and_then(|it| self.turn(&it)));
        }
        // What it had it has, until its turn comes.
        for ip in entry.allocated.values().flatten() {
            self.taken.entry(*ip).or_default().entry = Some(key.clone());
        }
        self.entries.insert(key.clone(), entry);
        waiting.extend(self.turn(key));
    }

    fn turn(&self, key: &ObjectKey) -> Option<Turn> {
        self.entries.get(key).map(|it| (it.written.is_empty(), it.age.clone(), key.clone()))
    }

    fn allocate(&mut self, key: &ObjectKey, waiting: &mut Waiting) {
        let Some(mut entry) = self.remove(key) else { return };
        for ip in &entry.own {
            self.taken.entry(*ip).or_default().users.insert(key.clone());
        }
        let had = std::mem::take(&mut entry.allocated);
        for host in &entry.hosts {
            let known = entry.written.get(host).or_else(|| had.get(host));
            let ips = match known.filter(|it| it.iter().all(|ip| self.may_have(key, &entry, *ip))) {
                Some(known) => known.clone(),
                None => self.free(key, host),
            };
            for ip in &ips {
                let evicted = self.taken.entry(*ip).or_default().entry.replace(key.clone());
                waiting.extend(evicted.filter(|it| it != key).and_then(|it| self.turn(&it)));
            }
            entry.allocated.insert(host.clone(), ips);
        }
        self.entries.insert(key.clone(), entry);
    }

    /// Users' own addresses are theirs; of two entries whose status says the same the older keeps it.
    fn may_have(&self, key: &ObjectKey, entry: &Entry, ip: IpAddr) -> bool {
        let Some(owner) = self.taken.get(&ip) else { return true };
        if !owner.users.is_empty() {
            return false;
        }
        let other = owner.entry.as_ref().filter(|it| *it != key).and_then(|it| self.entries.get(it));
        let rank = |it: &Entry| (!it.written.values().flatten().any(|it| *it == ip), it.age.clone());
        other.is_none_or(|it| rank(entry) < rank(it))
    }

    /// The first free one of each family from where the hash points to.
    fn free(&self, key: &ObjectKey, host: &Hostname) -> Vec<IpAddr> {
        let start = hash(&format!("{}/{}/{host}", key.namespace, key.name)) % ADDRESSES;
        let families: [fn(u16) -> IpAddr; 2] = [v4, v6];
        let first_free = |family: fn(u16) -> IpAddr| {
            let all = (0..ADDRESSES).map(|step| ((start + step) % ADDRESSES + 1) as u16).map(family);
            all.into_iter().find(|ip| !self.taken.contains_key(ip))
        };
        families.into_iter().filter_map(first_free).collect()
    }

    fn note_unwritten(&mut self, key: &ObjectKey) {
        let entry = self.entries.get(key).filter(|it| !it.hosts.is_empty() && it.written != it.allocated);
        let addresses = entry.map(|it| {
            let of = |(host, ips): (&Hostname, &Vec<IpAddr>)| {
                let address = |ip: &IpAddr| ServiceEntryAddress { value: ip.to_string(), host: host.to_string() };
                ips.iter().map(address).collect::<Vec<_>>()
            };
            it.allocated.iter().flat_map(of).collect()
        });
        match addresses {
            Some(addresses) => _ = self.unwritten.insert(key.clone(), addresses),
            None => _ = self.unwritten.remove(key),
        }
    }
}

impl Entry {
    fn new(meta: &Meta, spec: &ServiceEntry, allocated: Allocation) -> Self {
        let opted_out = meta.labels.get(LABEL).is_some_and(|it| it.eq_ignore_ascii_case("false"));
        let wants = spec.resolution != Resolution::None && !opted_out && spec.addresses.is_empty();
        let hosts: BTreeSet<Hostname> = match wants {
            true => spec.hosts.iter().map(|it| Hostname::new(it)).filter(|it| !it.is_wildcard()).collect(),
            false => BTreeSet::new(),
        };
        let allocated = allocated.into_iter().filter(|(host, _)| hosts.contains(host)).collect();
        let mut written = Allocation::new();
        for address in spec.status.addresses.iter().filter(|_| wants) {
            if let Ok(ip) = address.value.parse() {
                written.entry(Hostname::new(&address.host)).or_default().push(ip);
            }
        }
        let own = spec.addresses.iter().filter_map(|it| it.parse().ok()).filter(is_ours).collect();
        Self { age: Age::new(meta), hosts: hosts.into_iter().collect(), written, allocated, own }
    }
}

/// Those of 240.240.0.0/16 but its first and last; of 2001:2::/48 as many, which end alike.
const ADDRESSES: u64 = 0xfffe;

fn v4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(240, 240, high, low).into()
}

fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, number).into()
}

fn is_ours(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[240, 240]),
        IpAddr::V6(ip) => ip.segments().starts_with(&[0x2001, 2, 0]),
    }
}

/// FNV-1a: the same everywhere and for ever.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
