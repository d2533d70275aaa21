//! Routes: which cluster answers an HTTP request, and what happens to it on the way.
//!
//! Sidecars have one route table per outbound port with one virtual host per service; gateways have one per HTTP
//! server port ([`gateway`]); inbound tables stand inside their listener. The rules are Istio's
//! (`pilot/pkg/networking/core/{httproute,gateway}.go`, `core/route/route.go`). Envoy refuses a whole table for one bad
//! route, so a route that it would refuse is left out alone, with a problem.

mod action;
mod command;
mod cors;
mod destination;
mod domain;
mod fault;
pub mod gateway;
mod header;
mod inbound;
mod matcher;
mod note;
mod operation;
mod redirect;
mod retry;
mod rule;
#[cfg(test)]
mod tests;

pub use domain::{DomainForm, domains};
pub use inbound::inbound;

use crate::{Translated, message, name};
use crds::mesh_config::MeshConfig;
use crds::networking::{OutboundTrafficPolicy, OutboundTrafficPolicyMode};
use crds::{Duration, Problem};
use destination::Rules;
use model::{Destinations, Hostname, ProxyKind, RouteRules, Service, ServicePort, traffic_policy};
use note::Notes;
use std::collections::BTreeMap;
use xds::envoy::route::{route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier};
use xds::envoy::{Decorator, DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost};

/// Who asks: what `gateways`, `sourceLabels` and `sourceNamespace` of a match are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// `mesh` or `namespace/gateway`.
    pub gateway: &'a str,
    pub namespace: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub kind: ProxyKind,
}

#[derive(Clone, Debug)]
pub struct VirtualHostInput<'a> {
    pub name: String,
    pub domains: Vec<String>,
    /// `None`: a host that only a VirtualService knows.
    pub service: Option<(&'a Service, &'a ServicePort)>,
    pub rules: Option<&'a RouteRules>,
    /// What the rules' destinations are to the client; also the service itself, for its hash policy.
    pub destinations: &'a Destinations<'a>,
    pub client: &'a Client<'a>,
    pub listener_port: u16,
    pub mesh: &'a MeshConfig,
}

/// The virtual host of a service port, or of a host that only a VirtualService knows. Rules of which none applies to
/// the client and port leave a service its default route, and another host none at all.
pub fn virtual_host(input: &VirtualHostInput<'_>) -> Translated<VirtualHost> {
    let (mut routes, mut problems) = (vec![], vec![]);
    if let Some(rules) = input.rules {
        (routes, problems) = rule_routes(input, rules);
    }
    if let (true, Some((service, port))) = (routes.is_empty(), input.service) {
        routes.push(default_route(input, service, port));
    }
    let resource = VirtualHost {
        name: input.name.clone(),
        domains: input.domains.clone(),
        routes,
        include_request_attempt_count: true,
        ..VirtualHost::default()
    };
    Translated { resource, problems }
}

fn rule_routes(input: &VirtualHostInput<'_>, rules: &RouteRules) -> (Vec<Route>, Vec<Problem>) {
    let context = Rules {
        rules,
        destinations: input.destinations,
        client: input.client,
        port: input.listener_port,
        mesh: input.mesh,
        scheme: "http",
    };
    let mut notes = Notes::new(&rules.object);
    let routes = rule::routes(&context, &mut notes);
    (routes, notes.problems())
}

/// Everything goes to the service's own cluster.
fn default_route(input: &VirtualHostInput<'_>, service: &Service, port: &ServicePort) -> Route {
    let host = &service.key.host;
    let cluster = name::OutboundCluster { port: port.number, subset: None, host }.to_string();
    let rule = input.destinations.get(host).and_then(|it| it.rule);
    let policy = traffic_policy::policy(rule, port.number, None, input.mesh);
    let action = RouteAction {
        retry_policy: retry::policy(input.mesh.default_http_retry_policy.as_ref(), retry::Hosts::Any),
        hash_policy: crate::cluster::hash_policies(&policy),
        ..unlimited(cluster)
    };
    forwarding(name::DEFAULT_ROUTE, name::Operation { host: host.as_str(), port: port.number }, action)
}

/// Forwards everything to a cluster, without time limits.
fn unlimited(cluster: String) -> RouteAction {
    RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)), ..action::with_timeout(Duration::ZERO) }
}

fn forwarding(name: &str, operation: name::Operation<'_>, action: RouteAction) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(everything()),
        decorator: Some(Decorator { operation: operation.to_string(), ..Decorator::default() }),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..RouteMatch::default() }
}

/// The virtual host for hosts that nothing else knows: onward to where the client wanted, or to where the host's name
/// leads, to the egress proxy, or 502.
pub fn catch_all(policy: &OutboundTrafficPolicy) -> VirtualHost {
    let (name, action) = match policy.mode {
        OutboundTrafficPolicyMode::RegistryOnly => {
            (name::BLOCK_ALL, Action::DirectResponse(DirectResponseAction { status: 502, ..Default::default() }))
        }
        OutboundTrafficPolicyMode::AllowAny => (name::ALLOW_ANY, Action::Route(unlimited(egress_cluster(policy)))),
        OutboundTrafficPolicyMode::AllowAnyDynamicDns => {
            let cluster = name::ALLOW_ANY_DYNAMIC_DNS_CLUSTER.to_owned();
            (name::ALLOW_ANY_DYNAMIC_DNS, Action::Route(unlimited(cluster)))
        }
    };
    let route = Route { name: name.to_owned(), r#match: Some(everything()), action: Some(action), ..Route::default() };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".into()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

/// Where unknown traffic goes. An egress proxy's host is always a full name (Istio's validation).
fn egress_cluster(policy: &OutboundTrafficPolicy) -> String {
    let Some(proxy) = &policy.egress_proxy else { return name::PASSTHROUGH_CLUSTER.to_owned() };
    let port = proxy.port.as_ref().and_then(|it| u16::try_from(it.number).ok()).unwrap_or_default();
    let subset = Some(proxy.subset.as_str()).filter(|it| !it.is_empty());
    name::OutboundCluster { port, subset, host: &Hostname::new(&proxy.host) }.to_string()
}

/// The head of a sidecar's outbound route table: all but its virtual hosts.
pub fn route_configuration(name: &str) -> RouteConfiguration {
    RouteConfiguration { ignore_port_in_host_matching: name != name::HTTP_PROXY_ROUTE, ..head(name) }
}

/// The same for an HTTP proxy's table under another name (a Sidecar's egress listener of protocol HTTP_PROXY): there
/// the port of the request's host chooses the virtual host ([`DomainForm::WithPort`]), and Envoy must not strip it.
pub fn http_proxy_configuration(name: &str) -> RouteConfiguration {
    head(name)
}

fn head(name: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        // A route may name a cluster that is still on its way; Envoy answers 503 until then.
        validate_clusters: message::boolean(false),
        max_direct_response_body_size_bytes: message::uint32(redirect::BODY_BYTES_MAX),
        ..RouteConfiguration::default()
    }
}
