//! The client's side of a stream without the stream.

use crate::{Protocol, Request, TypeUrl, envoy, wire};
use bytes::Bytes;
use envoy::{hcm::http_connection_manager::RouteSpecifier, listener::filter::ConfigType};
use prost::{Message, Name};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a client has asked for and what it was given.
#[derive(Clone, Debug)]
pub struct Session {
    protocol: Protocol,
    node: envoy::core::Node,
    types: BTreeMap<TypeUrl, Type>,
    /// The node goes with the first request only.
    has_spoken: bool,
}

#[derive(Clone, Debug, Default)]
struct Type {
    wildcard: bool,
    names: BTreeSet<String>,
    known: BTreeMap<String, Known>,
    version: String,
    nonce: String,
}

/// A resource as a client holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Empty on a state-of-the-world stream, which has none for a single resource.
    pub version: String,
    pub bytes: Bytes,
}

/// A response, not yet accepted or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `None`: a type that this client does not know.
    pub kind: Option<TypeUrl>,
    pub type_url: String,
    pub nonce: String,
    pub version: String,
    pub resources: Vec<(String, Known)>,
    pub removed: Vec<String>,
    /// What is not in it is gone.
    pub is_everything: bool,
}

impl Session {
    pub fn new(protocol: Protocol, node: envoy::core::Node) -> Self {
        Self { protocol, node, types: BTreeMap::new(), has_spoken: false }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What the client has of a type.
    pub fn known(&self, kind: TypeUrl) -> impl Iterator<Item = (&str, &Known)> {
        self.types.get(&kind).into_iter().flat_map(|state| &state.known).map(|(name, known)| (name.as_str(), known))
    }

    /// One resource, decoded. `None` if it is not there or not an `M`.
    pub fn get<M: Message + Default>(&self, kind: TypeUrl, name: &str) -> Option<M> {
        M::decode(self.types.get(&kind)?.known.get(name)?.bytes.clone()).ok()
    }

    /// Asks for everything of a type.
    pub fn subscribe_all(&mut self, kind: TypeUrl) -> Request {
        self.types.entry(kind).or_default().wildcard = true;
        let delta = envoy::DeltaDiscoveryRequest { resource_names_subscribe: vec!["*".into()], ..Default::default() };
        self.request(kind, delta, None)
    }

    /// Asks for exactly these names; `None` if they are what it has asked for already.
    pub fn subscribe(&mut self, kind: TypeUrl, names: BTreeSet<String>) -> Option<Request> {
        let state = self.types.entry(kind).or_default();
        if state.names == names {
            return None;
        }
        let more = names.difference(&state.names).cloned().collect();
        let fewer: Vec<String> = state.names.difference(&names).cloned().collect();
        if !state.wildcard {
            fewer.iter().for_each(|name| drop(state.known.remove(name)));
        }
        state.names = names;
        let delta = envoy::DeltaDiscoveryRequest {
            resource_names_subscribe: more,
            resource_names_unsubscribe: fewer,
            ..Default::default()
        };
        Some(self.request(kind, delta, None))
    }

    /// The first requests on a new stream: everything asked for so far, and what of it is here already.
    pub fn reconnect(&mut self) -> Vec<Request> {
        self.has_spoken = false;
        let kinds: Vec<TypeUrl> = self.types.keys().copied().collect();
        let again = |kind| {
            let state = self.types.entry(kind).or_default();
            state.nonce.clear();
            let all = state.wildcard.then(|| "*".to_owned());
            let versions = state.known.iter().map(|(name, known)| (name.clone(), known.version.clone()));
            let delta = envoy::DeltaDiscoveryRequest {
                resource_names_subscribe: all.into_iter().chain(state.names.iter().cloned()).collect(),
                initial_resource_versions: versions.collect::<HashMap<_, _>>(),
                ..Default::default()
            };
            self.request(kind, delta, None)
        };
        kinds.into_iter().map(again).collect()
    }

    pub fn sotw(&self, response: envoy::DiscoveryResponse) -> Received {
        let kind = TypeUrl::from_url(&response.type_url);
        let known = |any: envoy::Any| (name(&any.value), Known { version: String::new(), bytes: any.value.into() });
        Received {
            kind,
            is_everything: matches!(kind, Some(TypeUrl::Cluster | TypeUrl::Listener)),
            type_url: response.type_url,
            nonce: response.nonce,
            version: response.version_info,
            resources: response.resources.into_iter().map(known).collect(),
            removed: Vec::new(),
        }
    }

    pub fn delta(&self, response: envoy::DeltaDiscoveryResponse) -> Received {
        let known = |resource: envoy::discovery::Resource| {
            let bytes = resource.resource.unwrap_or_default().value.into();
            (resource.name, Known { version: resource.version, bytes })
        };
        Received {
            kind: TypeUrl::from_url(&response.type_url),
            is_everything: false,
            type_url: response.type_url,
            nonce: response.nonce,
            version: response.system_version_info,
            resources: response.resources.into_iter().map(known).collect(),
            removed: response.removed_resources,
        }
    }

    /// Takes over what was received. Returns the ACK, then requests for what clusters and listeners name.
    pub fn accept(&mut self, received: &Received) -> Vec<Request> {
        let mut requests: Vec<Request> = self.acknowledge(received).into_iter().collect();
        let (kind, follows) = match received.kind {
            Some(kind @ TypeUrl::Cluster) => (kind, TypeUrl::Endpoint),
            Some(kind @ TypeUrl::Listener) => (kind, TypeUrl::Route),
            _ => return requests,
        };
        let names: BTreeSet<String> =
            self.types[&kind].known.values().flat_map(|known| references(kind, &known.bytes)).collect();
        if self.types.contains_key(&follows) || !names.is_empty() {
            requests.extend(self.subscribe(follows, names));
        }
        requests
    }

    /// Takes over what was received. Returns the ACK; `None` for a type that this client does not know.
    pub fn acknowledge(&mut self, received: &Received) -> Option<Request> {
        let kind = received.kind?;
        let state = self.types.entry(kind).or_default();
        if received.is_everything {
            state.known.clear();
        }
        // Written before the server had heard that they are not wanted any more.
        let wanted = |(name, _): &&(String, Known)| state.wildcard || state.names.contains(name);
        let wanted: Vec<_> = received.resources.iter().filter(wanted).cloned().collect();
        state.known.extend(wanted);
        received.removed.iter().for_each(|name| drop(state.known.remove(name)));
        state.version.clone_from(&received.version);
        state.nonce.clone_from(&received.nonce);
        let ack = envoy::DeltaDiscoveryRequest { response_nonce: received.nonce.clone(), ..Default::default() };
        Some(self.request(kind, ack, None))
    }

    /// Leaves everything as it was. Returns the NACK.
    pub fn refuse(&mut self, received: &Received, reason: &str) -> Option<Request> {
        let kind = received.kind?;
        let error = envoy::rpc::Status {
            code: tonic::Code::InvalidArgument as i32,
            message: reason.into(),
            ..Default::default()
        };
        let nack = envoy::DeltaDiscoveryRequest { response_nonce: received.nonce.clone(), ..Default::default() };
        self.types.entry(kind).or_default().nonce.clone_from(&received.nonce);
        Some(self.request(kind, nack, Some(error)))
    }

    /// A request of a type: the given delta request, or what says the same in the other protocol.
    fn request(
        &mut self,
        kind: TypeUrl,
        delta: envoy::DeltaDiscoveryRequest,
        error: Option<envoy::rpc::Status>,
    ) -> Request {
        let node = (!std::mem::replace(&mut self.has_spoken, true)).then(|| self.node.clone());
        let type_url = kind.url().to_owned();
        match self.protocol {
            Protocol::Delta => {
                Request::Delta(envoy::DeltaDiscoveryRequest { node, type_url, error_detail: error, ..delta })
            }
            Protocol::Sotw => {
                let state = &self.types[&kind];
                let all = state.wildcard.then(|| "*".to_owned());
                Request::Sotw(envoy::DiscoveryRequest {
                    node,
                    type_url,
                    version_info: state.version.clone(),
                    response_nonce: state.nonce.clone(),
                    resource_names: all.into_iter().chain(state.names.iter().cloned()).collect(),
                    error_detail: error,
                    ..Default::default()
                })
            }
        }
    }
}

/// Every type has its name in field 1.
fn name(message: &[u8]) -> String {
    let name = wire::bytes_of(message, 1).map(|range| String::from_utf8_lossy(&message[range]).into_owned());
    name.unwrap_or_default()
}

/// The endpoints that a cluster takes from EDS, the routes that a listener takes from RDS.
fn references(kind: TypeUrl, bytes: &[u8]) -> Vec<String> {
    match kind {
        TypeUrl::Cluster => crate::resource::endpoint_name(bytes).map(|name| name.to_string()).into_iter().collect(),
        TypeUrl::Listener => envoy::Listener::decode(bytes).map_or_else(|_| Vec::new(), |listener| routes(&listener)),
        _ => Vec::new(),
    }
}

fn routes(listener: &envoy::Listener) -> Vec<String> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let typed = chains.flat_map(|chain| &chain.filters).filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url == envoy::HttpConnectionManager::type_url() => {
            Some(&any.value)
        }
        _ => None,
    });
    typed
        .filter_map(|value| match envoy::HttpConnectionManager::decode(&**value).ok()?.route_specifier? {
            RouteSpecifier::Rds(rds) => Some(rds.route_config_name),
            _ => None,
        })
        .collect()
}
