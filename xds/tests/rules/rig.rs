//! A world of small resources and both ends of a stream in memory.

use bytes::Bytes;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use xds::{Layer, Layers, Observed, Protocol, Request, Resource, Response, Snapshot, Stream, TypeUrl, envoy};

/// A resource whose content is `text`. Clusters called `eds…` take endpoints of their own name from EDS.
pub(crate) fn resource(kind: TypeUrl, name: &str, text: &str) -> Resource {
    let text = text.to_owned();
    let owned = name.to_owned();
    match kind {
        TypeUrl::Cluster => Resource::whole(name, &cluster(name, text)),
        TypeUrl::Endpoint => {
            let locality = Some(envoy::Locality { zone: text, ..Default::default() });
            let endpoints = vec![envoy::LocalityLbEndpoints { locality, ..Default::default() }];
            Resource::whole(
                name,
                &envoy::ClusterLoadAssignment { cluster_name: owned, endpoints, ..Default::default() },
            )
        }
        TypeUrl::Listener => {
            Resource::whole(name, &envoy::Listener { name: owned, stat_prefix: text, ..Default::default() })
        }
        TypeUrl::Route => {
            let internal_only_headers = vec![text];
            Resource::whole(
                name,
                &envoy::RouteConfiguration { name: owned, internal_only_headers, ..Default::default() },
            )
        }
        TypeUrl::VirtualHost => {
            Resource::whole(name, &envoy::VirtualHost { name: owned, domains: vec![text], ..Default::default() })
        }
        TypeUrl::Secret => Resource::whole(name, &envoy::Secret { name: owned, ..Default::default() }),
        TypeUrl::Extension => {
            let typed_config = Some(envoy::Any { type_url: text, value: Vec::new() });
            Resource::whole(name, &envoy::TypedExtensionConfig { name: owned, typed_config })
        }
        // What is in them is none of the protocol's business.
        TypeUrl::NameTable | TypeUrl::ProxyConfig => Resource::encoded(kind, name, text.into_bytes()),
    }
}

fn cluster(name: &str, text: String) -> envoy::Cluster {
    use envoy::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = name.starts_with("eds").then_some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
    envoy::Cluster { name: name.into(), alt_stat_name: text, cluster_discovery_type: kind, ..Default::default() }
}

/// What should be, in one layer a type.
#[derive(Clone, Default)]
pub(crate) struct World(BTreeMap<TypeUrl, Layer>);

impl World {
    pub(crate) fn of(resources: &[(TypeUrl, &str, &str)]) -> Self {
        let mut world = Self::default();
        resources.iter().for_each(|(kind, name, text)| world.put(*kind, name, text));
        world
    }

    pub(crate) fn put(&mut self, kind: TypeUrl, name: &str, text: &str) {
        let resource = Some(Arc::new(resource(kind, name, text)));
        self.0.entry(kind).or_default().insert(name.into(), resource);
    }

    pub(crate) fn remove(&mut self, kind: TypeUrl, name: &str) {
        self.0.entry(kind).or_default().remove(name);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.0.iter().map(|(kind, layer)| (*kind, Layers::new(vec![layer.clone()]))).collect())
    }
}

/// A response as the client reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) kind: Option<TypeUrl>,
    pub(crate) url: String,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) names: Vec<String>,
    /// In delta only.
    pub(crate) versions: Vec<String>,
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) removed: Vec<String>,
}

pub(crate) fn node() -> Option<envoy::core::Node> {
    Some(envoy::core::Node { id: "proxy~1".into(), ..Default::default() })
}

pub(crate) fn delta(kind: TypeUrl) -> envoy::DeltaDiscoveryRequest {
    envoy::DeltaDiscoveryRequest { node: node(), type_url: kind.url().into(), ..Default::default() }
}

pub(crate) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(crate) fn error(reason: &str) -> Option<envoy::rpc::Status> {
    Some(envoy::rpc::Status { code: 3, message: reason.into(), ..Default::default() })
}

/// A stream that is spoken to word for word.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) world: World,
    protocol: Protocol,
    /// What a state-of-the-world client lists of each type.
    listed: BTreeMap<TypeUrl, Vec<String>>,
}

impl Wire {
    pub(crate) fn new(protocol: Protocol, resources: &[(TypeUrl, &str, &str)]) -> Self {
        let world = World::of(resources);
        let mut stream = Stream::new(protocol);
        stream.snapshot(world.snapshot());
        Self { stream, world, protocol, listed: BTreeMap::new() }
    }

    pub(crate) fn delta(resources: &[(TypeUrl, &str, &str)]) -> Self {
        Self::new(Protocol::Delta, resources)
    }

    pub(crate) fn sotw(resources: &[(TypeUrl, &str, &str)]) -> Self {
        Self::new(Protocol::Sotw, resources)
    }

    pub(crate) fn put(&mut self, kind: TypeUrl, name: &str, text: &str) {
        self.world.put(kind, name, text);
        self.stream.snapshot(self.world.snapshot());
    }

    pub(crate) fn remove(&mut self, kind: TypeUrl, name: &str) {
        self.world.remove(kind, name);
        self.stream.snapshot(self.world.snapshot());
    }

    /// Several changes at once.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.stream.snapshot(self.world.snapshot());
    }

    pub(crate) fn send(&mut self, request: envoy::DeltaDiscoveryRequest) -> Option<Observed> {
        self.stream.request(Request::Delta(request)).unwrap()
    }

    /// Delta: subscribes to these.
    pub(crate) fn sub(&mut self, kind: TypeUrl, names: &[&str]) {
        self.send(envoy::DeltaDiscoveryRequest { resource_names_subscribe: strings(names), ..delta(kind) });
    }

    pub(crate) fn unsub(&mut self, kind: TypeUrl, names: &[&str]) {
        self.send(envoy::DeltaDiscoveryRequest { resource_names_unsubscribe: strings(names), ..delta(kind) });
    }

    /// State of the world: lists exactly these, under this nonce.
    pub(crate) fn list(&mut self, kind: TypeUrl, names: &[&str], nonce: &str) -> Option<Observed> {
        self.list_with(kind, names, nonce, None)
    }

    pub(crate) fn list_with(
        &mut self,
        kind: TypeUrl,
        names: &[&str],
        nonce: &str,
        error: Option<envoy::rpc::Status>,
    ) -> Option<Observed> {
        self.listed.insert(kind, strings(names));
        let request = envoy::DiscoveryRequest {
            node: node(),
            type_url: kind.url().into(),
            resource_names: strings(names),
            response_nonce: nonce.into(),
            error_detail: error,
            ..Default::default()
        };
        self.stream.request(Request::Sotw(request)).unwrap()
    }

    /// Asks for names, or for everything if there are none, in either protocol.
    pub(crate) fn ask(&mut self, kind: TypeUrl, names: &[&str]) {
        match self.protocol {
            Protocol::Delta => self.sub(kind, names),
            Protocol::Sotw => drop(self.list(kind, names, "")),
        }
    }

    pub(crate) fn said(&mut self) -> Vec<Said> {
        let protocol = self.protocol;
        self.stream.responses().iter().map(|response| read(protocol, response)).collect()
    }

    /// The only response that is due.
    pub(crate) fn one(&mut self) -> Said {
        let mut said = self.said();
        assert_eq!(said.len(), 1, "{said:#?}");
        said.remove(0)
    }

    pub(crate) fn silent(&mut self) {
        assert_eq!(self.said(), []);
    }

    pub(crate) fn ack(&mut self, said: &Said) -> Option<Observed> {
        self.answer(said, None)
    }

    pub(crate) fn nack(&mut self, said: &Said, reason: &str) -> Option<Observed> {
        self.answer(said, error(reason))
    }

    fn answer(&mut self, said: &Said, error_detail: Option<envoy::rpc::Status>) -> Option<Observed> {
        let kind = said.kind.unwrap();
        match self.protocol {
            Protocol::Delta => self.send(envoy::DeltaDiscoveryRequest {
                response_nonce: said.nonce.clone(),
                error_detail,
                ..delta(kind)
            }),
            Protocol::Sotw => {
                let names = self.listed.get(&kind).cloned().unwrap_or_default();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.list_with(kind, &names, &said.nonce, error_detail)
            }
        }
    }

    /// Acknowledges whatever comes until nothing does. Returns it all.
    pub(crate) fn settle(&mut self) -> Vec<Said> {
        let mut all = Vec::new();
        loop {
            let mut said = self.said();
            if said.is_empty() && self.stream.is_waiting() {
                self.stream.stop_waiting();
                said = self.said();
            }
            if said.is_empty() {
                return all;
            }
            said.iter().for_each(|said| drop(self.ack(said)));
            all.extend(said);
            assert!(all.len() < 1000, "no end of responses");
        }
    }
}

pub(crate) fn kinds(said: &[Said]) -> Vec<TypeUrl> {
    said.iter().filter_map(|said| said.kind).collect()
}

pub(crate) fn read(protocol: Protocol, response: &Response) -> Said {
    let said = match protocol {
        Protocol::Delta => {
            let message = envoy::DeltaDiscoveryResponse::decode(response.bytes()).unwrap();
            assert!(message.resources.iter().all(|resource| resource.ttl.is_none()), "rule X70: a TTL is never set");
            assert!(message.resource_errors.is_empty(), "rule X72: errors are not sent");
            let bodies = message.resources.iter().map(|r| r.resource.clone().unwrap_or_default().value.into());
            Said {
                kind: TypeUrl::from_url(&message.type_url),
                bodies: bodies.collect(),
                versions: message.resources.iter().map(|resource| resource.version.clone()).collect(),
                names: message.resources.iter().map(|resource| resource.name.clone()).collect(),
                url: message.type_url,
                nonce: message.nonce,
                version: message.system_version_info,
                removed: message.removed_resources,
            }
        }
        Protocol::Sotw => {
            let message = envoy::DiscoveryResponse::decode(response.bytes()).unwrap();
            assert!(
                message.resources.iter().all(|any| any.type_url == message.type_url),
                "rule X71: nothing is wrapped"
            );
            assert!(message.resource_errors.is_empty(), "rule X72: errors are not sent");
            Said {
                kind: TypeUrl::from_url(&message.type_url),
                bodies: message.resources.iter().map(|any| Bytes::from(any.value.clone())).collect(),
                versions: Vec::new(),
                names: response.names.iter().map(ToString::to_string).collect(),
                url: message.type_url,
                nonce: message.nonce,
                version: message.version_info,
                removed: Vec::new(),
            }
        }
    };
    let distinct: BTreeSet<&String> = said.names.iter().chain(&said.removed).collect();
    assert_eq!(distinct.len(), said.names.len() + said.removed.len(), "rules X31, X56: a name comes once");
    assert!(!said.nonce.is_empty() && !said.version.is_empty(), "rule X12");
    assert_eq!(response.bytes().len(), response.length());
    said
}
