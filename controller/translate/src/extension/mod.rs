//! WasmPlugin and TrafficExtension: users' filters in the chains of their proxies (`istio.md` 1.13).
//!
//! An object is compiled once ([`Extension::new`]), whoever it is for. Its filter in a listener is a name and says
//! that the configuration comes by ECDS: what Envoy cannot load there is refused alone, and its listeners stay.

mod wasm;

use crate::envoy_filter::{Context, port};
use crate::{message, name};
use crds::extensions::{Lua, Phase, PluginType, TrafficExtension, TrafficSelector, WorkloadMode};
use crds::{ObjectKey, Problem, Reason};
use prost::{Message, Name};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use xds::envoy::core::{ExtensionConfigSource, TypedExtensionConfig};
use xds::envoy::listener::{Filter, FilterChain, filter};
use xds::envoy::pb::envoy::config::core::v3::data_source::Specifier;
use xds::envoy::pb::envoy::extensions::filters::http::{lua::v3 as lua, rbac::v3::Rbac, wasm::v3 as http_wasm};
use xds::envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use xds::envoy::pb::envoy::extensions::filters::network::{rbac::v3 as network_rbac, wasm::v3 as network_wasm};
use xds::envoy::{DataSource, Listener};
use xds::{Resource, Version};

/// An extension whose filter is Envoy's message already.
#[derive(Debug)]
pub struct Extension {
    /// Equal for equal extensions of the same object.
    pub id: Arc<str>,
    owner: ObjectKey,
    phase: Phase,
    priority: i32,
    matching: Vec<TrafficSelector>,
    layer: Layer,
    source: ExtensionConfigSource,
    /// For ECDS.
    resource: Arc<Resource>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layer {
    Http,
    Network,
}

impl PartialEq for Extension {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Extension {
    /// `owner` is what the user wrote, a TrafficExtension or a WasmPlugin.
    pub fn new(owner: &ObjectKey, from: &TrafficExtension) -> Option<Self> {
        let name = name::extension(owner);
        let (layer, config, types) = match (&from.wasm, &from.lua) {
            // Nobody would fetch it: a remark says so.
            (Some(wasm), None) if wasm.is_remote() => return None,
            (Some(wasm), None) if wasm.r#type == PluginType::Network => {
                let config = network_wasm::Wasm { config: Some(wasm::plugin(owner, wasm)) };
                (Layer::Network, message::any(&config), vec![url::<network_wasm::Wasm>(), url::<network_rbac::Rbac>()])
            }
            (Some(wasm), None) => {
                let config = http_wasm::Wasm { config: Some(wasm::plugin(owner, wasm)) };
                (Layer::Http, message::any(&config), vec![url::<http_wasm::Wasm>(), url::<Rbac>()])
            }
            (None, Some(code)) => (Layer::Http, message::any(&script(code)), vec![url::<lua::Lua>()]),
            _ => return None,
        };
        let config = TypedExtensionConfig { name: name.clone(), typed_config: Some(config) };
        let id = Version::of(format!("{from:?}").as_bytes());
        Some(Self {
            id: format!("{owner}@{id}").into(),
            owner: owner.clone(),
            phase: from.phase,
            priority: from.priority.unwrap_or(i32::MIN),
            matching: from.r#match.clone(),
            layer,
            source: ExtensionConfigSource {
                config_source: Some(message::ads()),
                type_urls: types,
                ..Default::default()
            },
            resource: Arc::new(Resource::whole(name, &config)),
        })
    }

    /// By this they are sorted, and then by where they come from.
    pub fn order(&self) -> (Phase, Reverse<i32>) {
        (self.phase, Reverse(self.priority))
    }

    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// Whether it is for traffic on that side at all. Gateways are clients.
    pub fn is_for(&self, context: Context) -> bool {
        self.matching.is_empty() || self.matching.iter().any(|it| is_side(it, context))
    }

    /// Nothing of any proxy that it selects matched it.
    pub fn unmatched(&self) -> Problem {
        let why = match self.layer {
            Layer::Http => "finds no HTTP traffic of these ports and directions in the proxies that it selects",
            Layer::Network => "finds no ports and directions like these in the proxies that it selects",
        };
        Problem::new(&self.owner, "spec.match", Reason::Ineffective(why.into()))
    }

    fn matches(&self, context: Context, port: u32) -> bool {
        let is_port = |it: &TrafficSelector| it.ports.is_empty() || it.ports.iter().any(|it| it.number == port);
        self.matching.is_empty() || self.matching.iter().any(|it| is_side(it, context) && is_port(it))
    }
}

fn is_side(selector: &TrafficSelector, context: Context) -> bool {
    match selector.mode {
        WorkloadMode::Undefined | WorkloadMode::ClientAndServer => true,
        WorkloadMode::Client => context != Context::Inbound,
        WorkloadMode::Server => context == Context::Inbound,
    }
}

fn script(Lua { inline_code }: &Lua) -> lua::Lua {
    let code = DataSource { specifier: Some(Specifier::InlineString(inline_code.clone())), ..Default::default() };
    lua::Lua { default_source_code: Some(code), ..Default::default() }
}

fn url<M: Name>() -> String {
    M::type_url()
}

/// Puts filters into the chains that their extensions match; says which did. `extensions` are in order.
pub(crate) fn apply(listener: &mut Listener, context: Context, extensions: &[Arc<Extension>]) -> BTreeSet<Arc<str>> {
    let mut hits = BTreeSet::new();
    // What leaves the mesh unknown has no chain of its own.
    if listener.name == name::VIRTUAL_OUTBOUND {
        return hits;
    }
    let own = (listener.name != name::VIRTUAL_INBOUND).then(|| port(listener)).flatten();
    for chain in listener.filter_chains.iter_mut().filter(|it| it.name != name::VIRTUAL_INBOUND_BLACK_HOLE) {
        let destination = chain.filter_chain_match.as_ref().and_then(|it| it.destination_port);
        let port = own.or_else(|| destination.map(|it| it.value)).unwrap_or(0);
        let matching = |layer| extensions.iter().filter(move |it| it.layer == layer && it.matches(context, port));
        network_filters(chain, matching(Layer::Network), &mut hits);
        http_filters(chain, &matching(Layer::Http).collect::<Vec<_>>(), &mut hits);
    }
    hits
}

fn network_filters<'a>(
    chain: &mut FilterChain,
    extensions: impl Iterator<Item = &'a Arc<Extension>>,
    hits: &mut BTreeSet<Arc<str>>,
) {
    let mut least = 0;
    for extension in extensions {
        let names = chain.filters.iter().map(|it| it.name.as_str());
        let at = place(extension.phase, names, &NETWORK).max(least);
        let config = filter::ConfigType::ConfigDiscovery(extension.source.clone());
        let filter = Filter { name: extension.resource.name.to_string(), config_type: Some(config) };
        chain.filters.insert(at, filter);
        least = at + 1;
        hits.insert(extension.id.clone());
    }
}

fn http_filters(chain: &mut FilterChain, extensions: &[&Arc<Extension>], hits: &mut BTreeSet<Arc<str>>) {
    if extensions.is_empty() {
        return;
    }
    for filter in &mut chain.filters {
        let Some(filter::ConfigType::TypedConfig(own)) = &mut filter.config_type else { continue };
        if own.type_url != HttpConnectionManager::type_url() {
            continue;
        }
        let Ok(mut manager) = HttpConnectionManager::decode(&*own.value) else { continue };
        let list = &mut manager.http_filters;
        let mut least = 0;
        for extension in extensions {
            let at = place(extension.phase, list.iter().map(|it| it.name.as_str()), &HTTP).max(least);
            let config = http_filter::ConfigType::ConfigDiscovery(extension.source.clone());
            let name = extension.resource.name.to_string();
            list.insert(at, HttpFilter { name, config_type: Some(config), ..Default::default() });
            least = at + 1;
            hits.insert(extension.id.clone());
        }
        *own = message::any(&manager);
    }
}

/// Filters of other policies, in the order in which they stand: those whom somebody else authorizes (CUSTOM), what
/// authenticates, what authorizes. Everything that comes after them comes after extensions, too.
struct Order {
    custom: &'static str,
    authenticates: &'static str,
    authorizes: &'static str,
}

const HTTP: Order = Order {
    custom: "envoy.filters.http.ext_authz",
    authenticates: "envoy.filters.http.jwt_authn",
    authorizes: "envoy.filters.http.rbac",
};

const NETWORK: Order = Order {
    custom: "envoy.filters.network.ext_authz",
    // What proves a client at this layer is the handshake, before all filters.
    authenticates: "envoy.filters.network.ext_authz",
    authorizes: "envoy.filters.network.rbac",
};

/// After the last of the filters that come before the phase.
fn place<'a>(phase: Phase, names: impl Iterator<Item = &'a str>, order: &Order) -> usize {
    let before: &[&str] = match phase {
        Phase::Authn => &[order.custom],
        Phase::Authz => &[order.custom, order.authenticates],
        Phase::Stats | Phase::Unspecified => &[order.custom, order.authenticates, order.authorizes],
    };
    let found = names.enumerate().filter(|(_, name)| before.contains(name));
    found.last().map_or(0, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests;
