//! A resource: a name, a version that is a hash of its content, and bytes that all streams share.

use crate::{TypeUrl, canonical, envoy};
use bytes::{BufMut, Bytes};
use prost::{Message, Name, encoding};
use std::{fmt, str::FromStr, sync::Arc};
use twox_hash::XxHash3_128;

/// The hash of a resource's canonical bytes: the same in every process, so that a proxy may move from one
/// replica to another and be sent only what differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u128);

impl Version {
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    /// A version made of two.
    pub(crate) fn and(self, other: Self) -> Self {
        let mut both = [0; 32];
        both[..16].copy_from_slice(&self.0.to_le_bytes());
        both[16..].copy_from_slice(&other.0.to_le_bytes());
        Self::of(&both)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// One resource as it is sent. Two are equal if name and version are.
///
/// ```
/// use xds::{Resource, envoy};
/// let cluster = envoy::Cluster { name: "a".into(), ..Default::default() };
/// let resource = Resource::whole("a", &cluster);
/// assert_eq!(resource, Resource::whole("a", &cluster.clone()));
/// assert_ne!(resource.version, Resource::whole("a", &envoy::Cluster::default()).version);
/// ```
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: Arc<str>,
    pub version: Version,
    pub body: Body,
    /// The resource as an element of a delta response, up to the body (`Body::Joined`) or with it (`Body::Whole`).
    entry: Bytes,
    /// Where the same element of a state-of-the-world response begins in `entry`; see [`entry`].
    any_at: usize,
    /// For a cluster that takes endpoints from EDS: under what name.
    endpoints: Option<Arc<str>>,
}

/// The encoded message of a resource.
#[derive(Clone, Debug)]
pub enum Body {
    Whole(Bytes),
    /// A message of which a repeated field is kept in pieces: a table of 10,000 virtual hosts differs between
    /// namespaces by a few, and changes by one.
    Joined {
        head: Bytes,
        pieces: imbl::OrdMap<Arc<str>, Arc<Piece>>,
        length: usize,
    },
}

/// An element of a repeated field, with its tag and length before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub version: Version,
    pub bytes: Bytes,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version && self.name == other.name
    }
}

impl Eq for Resource {}

impl Resource {
    pub fn whole<M: Message + Name>(name: impl Into<Arc<str>>, message: &M) -> Self {
        let bytes = canonical::encode(message);
        let url = M::type_url();
        Self::with_url(name.into(), &url, bytes)
    }

    /// A resource from bytes that are canonical already.
    pub fn encoded(kind: TypeUrl, name: impl Into<Arc<str>>, bytes: Vec<u8>) -> Self {
        Self::with_url(name.into(), kind.url(), bytes)
    }

    fn with_url(name: Arc<str>, url: &str, bytes: Vec<u8>) -> Self {
        let version = Version::of(&bytes);
        let endpoints = (url == TypeUrl::Cluster.url()).then(|| endpoint_name(&bytes)).flatten();
        let (mut entry, any_at) = entry(&name, version, url, bytes.len());
        let body_at = entry.len();
        entry.extend_from_slice(&bytes);
        let entry = Bytes::from(entry);
        Self { name, version, body: Body::Whole(entry.slice(body_at..)), entry, any_at, endpoints }
    }

    /// A message whose repeated field is kept in pieces: `head` is everything else, encoded.
    pub fn joined(kind: TypeUrl, name: impl Into<Arc<str>>, head: impl Into<Bytes>, pieces: &Pieces) -> Self {
        let (name, head) = (name.into(), head.into());
        let version = Version::of(&head).and(Version(pieces.sum));
        let length = head.len() + pieces.length;
        let (entry, any_at) = entry(&name, version, kind.url(), length);
        let body = Body::Joined { head, pieces: pieces.map.clone(), length };
        Self { name, version, body, entry: entry.into(), any_at, endpoints: None }
    }

    /// How long the encoded message is.
    pub fn length(&self) -> usize {
        match &self.body {
            Body::Whole(bytes) => bytes.len(),
            Body::Joined { length, .. } => *length,
        }
    }

    /// The encoded message in one piece, for dumps and tests.
    pub fn bytes(&self) -> Bytes {
        match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Joined { head, pieces, length } => {
                let mut joined = Vec::with_capacity(*length);
                joined.extend_from_slice(head);
                pieces.values().for_each(|piece| joined.extend_from_slice(&piece.bytes));
                joined.into()
            }
        }
    }

    /// The name under which a cluster's endpoints come, if it takes them from EDS.
    pub fn endpoints(&self) -> Option<&Arc<str>> {
        self.endpoints.as_ref()
    }

    /// Adds this resource to a delta response (`DeltaDiscoveryResponse.resources`), sharing its bytes.
    pub(crate) fn delta_parts(&self, parts: &mut Vec<Bytes>) {
        self.parts(0, parts);
    }

    /// Adds this resource to a state-of-the-world response (`DiscoveryResponse.resources`), sharing its bytes.
    pub(crate) fn sotw_parts(&self, parts: &mut Vec<Bytes>) {
        self.parts(self.any_at, parts);
    }

    fn parts(&self, from: usize, parts: &mut Vec<Bytes>) {
        parts.push(self.entry.slice(from..));
        if let Body::Joined { head, pieces, .. } = &self.body {
            parts.push(head.clone());
            parts.extend(pieces.values().map(|piece| piece.bytes.clone()));
        }
    }
}

/// Everything of a response's element that comes before the message itself, and where its `Any` begins.
///
/// `DeltaDiscoveryResponse.resources`, `DiscoveryResponse.resources` and `Resource.resource` are all field 2,
/// so the tail of an element of the one is an element of the other: one buffer serves both protocols.
fn entry(name: &str, version: Version, url: &str, body: usize) -> (Vec<u8>, usize) {
    const LENGTH_MAX: usize = 10;
    let any = field_length(ANY_TYPE_URL, url.len()) + field_length(ANY_VALUE, body);
    let version = version.to_string();
    let wrapper = field_length(RESOURCE_NAME, name.len())
        + field_length(RESOURCE_VERSION, version.len())
        + field_length(RESOURCES, any);
    let mut out = Vec::with_capacity(wrapper - body + 2 * LENGTH_MAX);
    field(RESOURCES, wrapper, &mut out);
    field(RESOURCE_NAME, name.len(), &mut out);
    out.put_slice(name.as_bytes());
    field(RESOURCE_VERSION, version.len(), &mut out);
    out.put_slice(version.as_bytes());
    let any_at = out.len();
    field(RESOURCES, any, &mut out);
    field(ANY_TYPE_URL, url.len(), &mut out);
    out.put_slice(url.as_bytes());
    field(ANY_VALUE, body, &mut out);
    (out, any_at)
}

const RESOURCES: u32 = 2;
const RESOURCE_NAME: u32 = 3;
const RESOURCE_VERSION: u32 = 1;
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

fn field(tag: u32, length: usize, out: &mut Vec<u8>) {
    encoding::encode_key(tag, encoding::WireType::LengthDelimited, out);
    encoding::encode_varint(length as u64, out);
}

fn field_length(tag: u32, length: usize) -> usize {
    encoding::key_len(tag) + encoding::encoded_len_varint(length as u64) + length
}

/// Reads two fields of an encoded cluster and its name; decoding it whole would cost more than encoding it did.
pub(crate) fn endpoint_name(cluster: &[u8]) -> Option<Arc<str>> {
    #[derive(Clone, PartialEq, Message)]
    struct Glance {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(int32, tag = "2")]
        discovery: i32,
        #[prost(message, optional, tag = "3")]
        eds: Option<Eds>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Eds {
        #[prost(string, tag = "2")]
        service_name: String,
    }
    let glance = Glance::decode(cluster).ok()?;
    if glance.discovery != envoy::cluster::cluster::DiscoveryType::Eds as i32 {
        return None;
    }
    let service_name = glance.eds.map(|eds| eds.service_name).filter(|name| !name.is_empty());
    Some(service_name.unwrap_or(glance.name).into())
}

/// The pieces of a joined resource, with version and length kept up to date as pieces come and go.
///
/// A copy shares its pieces with the original, so a namespace's table is made from the mesh's at the cost of
/// what differs:
/// ```
/// use xds::{Piece, Pieces, envoy};
/// let host = |name: &str| Piece::field(2, &envoy::VirtualHost { name: name.into(), ..Default::default() });
/// let mut mesh = Pieces::default();
/// mesh.insert("a".into(), host("a"));
/// let mut namespace = mesh.clone();
/// namespace.insert("b".into(), host("b"));
/// namespace.remove("b");
/// assert_eq!(mesh, namespace);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    map: imbl::OrdMap<Arc<str>, Arc<Piece>>,
    /// Of the versions: whatever the order of changes, the same pieces give the same sum.
    sum: u128,
    length: usize,
}

impl Piece {
    /// A message as an element of the repeated field with this number.
    pub fn field<M: Message + Name>(tag: u32, message: &M) -> Arc<Self> {
        let bytes = canonical::encode(message);
        let mut out = Vec::with_capacity(field_length(tag, bytes.len()));
        field(tag, bytes.len(), &mut out);
        out.extend_from_slice(&bytes);
        Arc::new(Self { version: Version::of(&out), bytes: out.into() })
    }
}

impl Pieces {
    pub fn map(&self) -> &imbl::OrdMap<Arc<str>, Arc<Piece>> {
        &self.map
    }

    pub fn insert(&mut self, name: Arc<str>, piece: Arc<Piece>) {
        self.sum = self.sum.wrapping_add(weight(&name, &piece));
        self.length += piece.bytes.len();
        if let Some(old) = self.map.insert(name.clone(), piece) {
            self.without(&name, &old);
        }
    }

    pub fn remove(&mut self, name: &str) {
        if let Some(old) = self.map.remove(name) {
            self.without(name, &old);
        }
    }

    fn without(&mut self, name: &str, old: &Piece) {
        self.sum = self.sum.wrapping_sub(weight(name, old));
        self.length -= old.bytes.len();
    }
}

/// The name counts because it decides the order of the pieces.
fn weight(name: &str, piece: &Piece) -> u128 {
    Version::of(name.as_bytes()).and(piece.version).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Response;

    fn host(name: &str, domain: &str) -> envoy::VirtualHost {
        envoy::VirtualHost { name: name.into(), domains: vec![domain.into()], ..Default::default() }
    }

    fn table(hosts: &[envoy::VirtualHost]) -> (Arc<Resource>, envoy::RouteConfiguration) {
        let head = envoy::RouteConfiguration { name: "80".into(), ..Default::default() };
        let mut pieces = Pieces::default();
        hosts.iter().for_each(|host| pieces.insert(host.name.as_str().into(), Piece::field(2, host)));
        let joined = Resource::joined(TypeUrl::Route, "80", canonical::encode(&head), &pieces);
        (joined.into(), envoy::RouteConfiguration { virtual_hosts: hosts.to_vec(), ..head })
    }

    #[test]
    fn a_joined_resource_is_the_whole_message_in_both_protocols() {
        let (resource, whole) = table(&[host("a", "1"), host("b", "2")]);
        assert_eq!(envoy::RouteConfiguration::decode(resource.bytes()).unwrap(), whole);
        assert_eq!(resource.length(), resource.bytes().len());
        let both = [&resource, &Arc::new(Resource::whole("c", &whole))];
        let url = std::borrow::Cow::Borrowed(TypeUrl::Route.url());
        let delta = Response::delta(url.clone(), "1".into(), 0, &both, vec!["gone".into()]);
        let delta = envoy::DeltaDiscoveryResponse::decode(delta.bytes()).unwrap();
        assert_eq!(delta.removed_resources, ["gone"]);
        for (sent, resource) in delta.resources.iter().zip(both) {
            assert_eq!((&*sent.name, &sent.version), (&*resource.name, &resource.version.to_string()));
            assert_eq!(sent.resource, Some(canonical::any(&whole)));
        }
        let sotw = envoy::DiscoveryResponse::decode(Response::sotw(url, "1".into(), 0, &both).bytes()).unwrap();
        assert_eq!(sotw.resources, [canonical::any(&whole), canonical::any(&whole)]);
    }

    #[test]
    fn the_version_of_a_joined_resource_is_that_of_its_pieces() {
        let (one, _) = table(&[host("a", "1"), host("b", "2")]);
        let (other, _) = table(&[host("b", "2"), host("x", "3"), host("a", "1")]);
        assert_ne!(one.version, other.version);
        assert_eq!(one.version, table(&[host("b", "2"), host("a", "1")]).0.version);
        assert_ne!(one.version, table(&[host("a", "2"), host("b", "1")]).0.version);
        assert_ne!(one.version, table(&[host("a", "1")]).0.version);
    }

    #[test]
    fn a_cluster_tells_where_its_endpoints_come_from() {
        use envoy::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
        let named = |kind: DiscoveryType, service: &str| {
            let cluster = envoy::Cluster {
                name: "a".into(),
                cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
                eds_cluster_config: Some(EdsClusterConfig { service_name: service.into(), ..Default::default() }),
                ..Default::default()
            };
            Resource::whole("a", &cluster).endpoints().map(ToString::to_string)
        };
        assert_eq!(named(DiscoveryType::Eds, "b"), Some("b".into()));
        assert_eq!(named(DiscoveryType::Eds, ""), Some("a".into()));
        assert_eq!(named(DiscoveryType::StrictDns, "b"), None);
    }
}
