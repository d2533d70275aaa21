//! What Envoy checks of a resource beyond the rules of single fields: it would refuse the whole of it.

use prost::{Message, Name};
use std::collections::BTreeSet;
use xds::envoy::listener::{Filter, FilterChain, filter::ConfigType};
use xds::envoy::pb::envoy::extensions::filters::http::router::v3::Router;
use xds::envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
};
use xds::envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use xds::envoy::{Listener, RouteConfiguration};

pub(super) fn listener(listener: &Listener) -> Result<(), String> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    for chain in chains {
        filter_chain(chain).map_err(|why| format!("filter chain {:?}: {why}", chain.name))?;
    }
    let mut matches = vec![];
    for chain in &listener.filter_chains {
        let own = chain.filter_chain_match.clone().unwrap_or_default();
        if matches.contains(&own) {
            return Err(format!("filter chain {:?}: another one matches the same connections", chain.name));
        }
        matches.push(own);
    }
    Ok(())
}

/// What takes a connection comes last, and nothing else does.
fn filter_chain(chain: &FilterChain) -> Result<(), String> {
    let ends = [HttpConnectionManager::type_url(), TcpProxy::type_url()];
    let position = chain.filters.iter().position(|it| typed(it).is_some_and(|it| ends.contains(&it.type_url)));
    if let Some(at) = position.filter(|at| at + 1 != chain.filters.len()) {
        return Err(format!("network filter {:?} must be the last one", chain.filters[at].name));
    }
    for filter in &chain.filters {
        let Some(any) = typed(filter).filter(|it| it.type_url == HttpConnectionManager::type_url()) else { continue };
        let manager = HttpConnectionManager::decode(&*any.value).map_err(|error| error.to_string())?;
        http_filters(&manager.http_filters)?;
        if let Some(RouteSpecifier::RouteConfig(it)) = &manager.route_specifier {
            routes(it)?;
        }
    }
    Ok(())
}

fn typed(filter: &Filter) -> Option<&xds::envoy::Any> {
    match filter.config_type.as_ref()? {
        ConfigType::TypedConfig(any) => Some(any),
        ConfigType::ConfigDiscovery(_) => None,
    }
}

fn http_filters(filters: &[HttpFilter]) -> Result<(), String> {
    let is_router = |filter: &HttpFilter| match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(any)) => any.type_url == Router::type_url(),
        _ => false,
    };
    match filters.iter().position(is_router) {
        Some(at) if at + 1 == filters.len() => Ok(()),
        Some(_) => Err("the router must be the last HTTP filter; INSERT_BEFORE envoy.filters.http.router puts a \
                        filter before it"
            .into()),
        None => Err("there is no router among the HTTP filters".into()),
    }
}

pub(super) fn routes(routes: &RouteConfiguration) -> Result<(), String> {
    let mut domains = BTreeSet::new();
    for host in &routes.virtual_hosts {
        for domain in &host.domains {
            if !domains.insert(domain.to_ascii_lowercase()) {
                return Err(format!("virtual host {:?}: another one has the domain {domain:?}", host.name));
            }
        }
    }
    Ok(())
}
