//! LISTENER, LISTENER_FILTER, FILTER_CHAIN, NETWORK_FILTER and HTTP_FILTER patches.

use super::cluster::merge_socket;
use super::list::{by_class, edit, lists, merge_any};
use super::{Done, Patch, Patched, Selected, Tally, matching, route, structure};
use crate::extension;
use crds::networking::{ApplyTo, Operation};
use prost::{Message, Name};
use xds::TypeUrl;
use xds::envoy::listener::{Filter, FilterChain, filter::ConfigType};
use xds::envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
};
use xds::envoy::{Any, Listener};
use xds::merge::{Lists, merge_into};

/// Filters that Istio's own Envoy has and stock Envoy has not. Users name them to say where theirs goes: before what
/// comes last.
const ANCHORS: &[&str] = &["istio.stats", "istio.metadata_exchange", "istio.alpn"];

impl Patched for Listener {
    const KIND: TypeUrl = TypeUrl::Listener;
    const APPLY_TO: &'static [ApplyTo] = &[
        ApplyTo::Listener,
        ApplyTo::ListenerFilter,
        ApplyTo::FilterChain,
        ApplyTo::NetworkFilter,
        ApplyTo::HttpFilter,
        // Inbound routes stand in their listeners.
        ApplyTo::RouteConfiguration,
        ApplyTo::VirtualHost,
        ApplyTo::HttpRoute,
    ];

    fn name(&self) -> &str {
        &self.name
    }

    fn patch(mut self, patches: &Selected<'_>, tally: &mut Tally) -> Option<Self> {
        tally.hits.extend(extension::apply(&mut self, patches.context, &patches.patches.extensions));
        for patch in patches.of(ApplyTo::Listener).filter(|it| it.operation != Operation::Add) {
            if !matching::listener(patch, &self) {
                continue;
            }
            if patch.operation == Operation::Remove {
                tally.note(patch, Ok(true));
                return None;
            }
            if let Some(lists) = lists(patch) {
                tally.note(patch, merged(&mut self, patch, lists));
            }
        }
        listener_filters(&mut self, patches, tally);
        filter_chains(&mut self, patches, tally);
        Some(self)
    }

    fn check(&self) -> Result<(), String> {
        structure::listener(self)
    }
}

fn merged<M: Message + Name + Default>(message: &mut M, patch: &Patch, lists: Lists) -> Done {
    merge_into(message, &patch.value, lists).map(|()| true).map_err(|error| error.to_string())
}

fn listener_filters(listener: &mut Listener, patches: &Selected<'_>, tally: &mut Tally) {
    for patch in patches.of(ApplyTo::ListenerFilter) {
        if !matching::listener(patch, listener) {
            continue;
        }
        let asked = matching::listener_filter(patch);
        let list = &mut listener.listener_filters;
        let at = asked.map(|name| list.iter().position(|it| it.name == name));
        match (lists(patch), at) {
            (Some(lists), Some(Some(at))) => tally.note(patch, merged(&mut list[at], patch, lists)),
            (Some(_), _) => false,
            (None, at) => {
                let done = edit(list, patch, at);
                tally.note(patch, Ok(done))
            }
        };
    }
}

fn filter_chains(listener: &mut Listener, patches: &Selected<'_>, tally: &mut Tally) {
    let chains = std::mem::take(&mut listener.filter_chains);
    let patched = chains.into_iter().filter_map(|chain| filter_chain(listener, chain, patches, tally)).collect();
    listener.filter_chains = patched;
    if let Some(chain) = listener.default_filter_chain.take() {
        listener.default_filter_chain = filter_chain(listener, chain, patches, tally);
    }
    for patch in patches.of(ApplyTo::FilterChain).filter(|it| it.operation == Operation::Add) {
        if matching::listener(patch, listener) {
            listener.filter_chains.push(patch.message());
            tally.note(patch, Ok(true));
        }
    }
}

/// `listener` is without its chains.
fn filter_chain(
    listener: &Listener,
    mut chain: FilterChain,
    patches: &Selected<'_>,
    tally: &mut Tally,
) -> Option<FilterChain> {
    let is_of = |patch: &Patch, chain: &FilterChain| {
        matching::listener(patch, listener) && matching::filter_chain(patch, listener, chain)
    };
    for patch in patches.of(ApplyTo::FilterChain).filter(|it| it.operation != Operation::Add) {
        if !is_of(patch, &chain) {
            continue;
        }
        if patch.operation == Operation::Remove {
            tally.note(patch, Ok(true));
            return None;
        }
        if let Some(lists) = lists(patch) {
            tally.note(patch, merged_chain(&mut chain, patch, lists));
        }
    }
    for patch in patches.of(ApplyTo::NetworkFilter) {
        if is_of(patch, &chain) {
            network_filter(&mut chain, patch, tally);
        }
    }
    let http: Vec<&Patch> = patches.of(ApplyTo::HttpFilter).filter(|patch| is_of(patch, &chain)).collect();
    let has_routes = !patches.is_empty(&[ApplyTo::RouteConfiguration, ApplyTo::VirtualHost, ApplyTo::HttpRoute]);
    if !http.is_empty() || has_routes {
        for filter in &mut chain.filters {
            connection_manager(filter, &http, patches, tally);
        }
    }
    (!chain.filters.is_empty()).then_some(chain)
}

/// A transport socket of the same name is merged, and then nothing else of the patch is applied: so does Istio.
fn merged_chain(chain: &mut FilterChain, patch: &Patch, lists: Lists) -> Done {
    let value: FilterChain = patch.message();
    match (&mut chain.transport_socket, &value.transport_socket) {
        (Some(own), Some(socket)) if own.name == socket.name => merge_socket(own, socket, lists),
        _ => merged(chain, patch, lists),
    }
}

fn network_filter(chain: &mut FilterChain, patch: &Patch, tally: &mut Tally) {
    let asked = matching::network_filter(patch);
    let list = &mut chain.filters;
    if let Some(lists) = lists(patch) {
        for filter in list.iter_mut().filter(|it| asked.is_none_or(|name| name == it.name)) {
            let value: Filter = patch.message();
            let config = match (&mut filter.config_type, value.config_type) {
                (Some(ConfigType::TypedConfig(own)), Some(ConfigType::TypedConfig(patch))) => {
                    merge_any(own, &patch, lists)
                }
                _ => Ok(true),
            };
            if tally.note(patch, config) && !value.name.is_empty() {
                filter.name = value.name;
            }
        }
        return;
    }
    let at = asked.map(|name| place(list.len(), patch, name, list.iter().map(|it| it.name.as_str())));
    let done = edit(list, patch, at);
    tally.note(patch, Ok(done));
}

/// Where the element of this name is. What goes before or after an [anchor](ANCHORS) goes before the last one.
fn place<'a>(len: usize, patch: &Patch, name: &str, mut names: impl Iterator<Item = &'a str>) -> Option<usize> {
    let at = names.position(|it| it == name);
    let last = len.checked_sub(1).filter(|_| ANCHORS.contains(&name));
    match patch.operation {
        Operation::InsertBefore => at.or(last),
        Operation::InsertAfter => at.or_else(|| last?.checked_sub(1)),
        _ => at,
    }
}

fn connection_manager(filter: &mut Filter, http: &[&Patch], patches: &Selected<'_>, tally: &mut Tally) {
    let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else { return };
    if any.type_url != HttpConnectionManager::type_url() {
        return;
    }
    let Ok(mut manager) = HttpConnectionManager::decode(&*any.value) else { return };
    let mut changed = false;
    let of_this = |patch: &&&Patch| matching::network_filter(patch).is_none_or(|name| name == filter.name);
    for patch in http.iter().filter(of_this).filter(|it| lists(it).is_none()) {
        changed |= http_filter(&mut manager.http_filters, patch, tally);
    }
    for (patch, lists) in http.iter().filter(of_this).filter_map(|it| Some((*it, lists(it)?))) {
        changed |= merged_http_filters(&mut manager.http_filters, patch, lists, tally);
    }
    if let Some(RouteSpecifier::RouteConfig(routes)) = &mut manager.route_specifier {
        changed |= route::configuration(routes, patches, tally);
    }
    if changed {
        *any = Any { type_url: any.type_url.clone(), value: xds::canonical::encode(&manager) };
    }
}

fn http_filter(list: &mut Vec<HttpFilter>, patch: &Patch, tally: &mut Tally) -> bool {
    if by_class(list, patch) {
        return tally.note(patch, Ok(true));
    }
    let asked = matching::http_filter(patch);
    let at = asked.map(|name| place(list.len(), patch, name, list.iter().map(|it| it.name.as_str())));
    let done = edit(list, patch, at);
    tally.note(patch, Ok(done))
}

fn merged_http_filters(list: &mut [HttpFilter], patch: &Patch, lists: Lists, tally: &mut Tally) -> bool {
    let asked = matching::http_filter(patch);
    let mut changed = false;
    for filter in list.iter_mut().filter(|it| asked.is_none_or(|name| name == it.name)) {
        let value: HttpFilter = patch.message();
        use http_filter::ConfigType;
        let config = match (&mut filter.config_type, value.config_type) {
            (Some(ConfigType::TypedConfig(own)), Some(ConfigType::TypedConfig(patch))) => merge_any(own, &patch, lists),
            _ => Ok(true),
        };
        changed |= tally.note(patch, config);
        if !value.name.is_empty() {
            filter.name = value.name;
        }
    }
    changed
}
