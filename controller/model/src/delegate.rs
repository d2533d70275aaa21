//! Rules that a VirtualService delegates to others (`mergeVirtualServicesIfNeeded`,
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#Delegate>).

use crate::{Hostname, RouteRules, Visibility};
use crds::networking::{Destination, Headers, HttpMatchRequest, HttpRoute, VirtualService};
use crds::{Kind, ObjectKey, Problem, Reason, StringMatch};
use std::collections::BTreeMap;

/// A rule, and where it is written: for delegated rules in another VirtualService than the one that has the hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    pub object: ObjectKey,
    /// In the object's `spec.http`.
    pub at: usize,
    pub route: HttpRoute,
}

/// A VirtualService that another one delegates to.
#[derive(Clone, Debug)]
pub struct DelegateView<'a> {
    pub visibility: Visibility,
    pub spec: &'a VirtualService,
}

/// Those that exist.
pub type Delegates<'a> = BTreeMap<ObjectKey, DelegateView<'a>>;

/// The VirtualServices that a root names.
pub fn names(root: &ObjectKey, spec: &VirtualService) -> impl Iterator<Item = ObjectKey> {
    spec.http.iter().filter_map(|route| name(root, route))
}

fn name(root: &ObjectKey, route: &HttpRoute) -> Option<ObjectKey> {
    let delegate = route.delegate.as_ref()?;
    let namespace = Some(delegate.namespace.as_str()).filter(|it| !it.is_empty()).unwrap_or(&root.namespace);
    Some(ObjectKey::new(Kind::VirtualService, namespace, delegate.name.as_str()))
}

/// The rules of a VirtualService, with those that it delegates in their place.
pub(crate) fn rules(
    root: &ObjectKey,
    spec: &VirtualService,
    delegates: &Delegates<'_>,
) -> (Vec<HttpRule>, Vec<Problem>) {
    let (mut rules, mut problems) = (vec![], vec![]);
    for (at, route) in spec.http.iter().enumerate() {
        let Some(name) = name(root, route) else {
            rules.push(HttpRule { object: root.clone(), at, route: route.clone() });
            continue;
        };
        let mut problem = |why: String| {
            problems.push(Problem::new(root, format!("spec.http[{at}].delegate"), Reason::Ineffective(why)));
        };
        match delegate(root, &name, delegates) {
            Ok(spec) => delegated(root, route, (&name, spec), &mut rules, &mut problem),
            Err(why) => problem(why),
        }
    }
    (rules, problems)
}

fn delegate<'a>(root: &ObjectKey, name: &ObjectKey, delegates: &Delegates<'a>) -> Result<&'a VirtualService, String> {
    let Some(found) = delegates.get(name) else { return Err(format!("{name} does not exist")) };
    if !found.spec.hosts.is_empty() {
        return Err(format!("{name} has hosts of its own; only one without can be delegated to"));
    }
    if !found.visibility.allows(&root.namespace) {
        return Err(format!("{name} is not exported to namespace {}", root.namespace));
    }
    Ok(found.spec)
}

fn delegated(
    root: &ObjectKey,
    from: &HttpRoute,
    (name, spec): (&ObjectKey, &VirtualService),
    rules: &mut Vec<HttpRule>,
    problem: &mut impl FnMut(String),
) {
    for (at, route) in spec.http.iter().enumerate() {
        if route.delegate.is_some() {
            problem(format!("{name} delegates spec.http[{at}] itself, which only a VirtualService with hosts may"));
            continue;
        }
        let (above, mut route) = (resolved(from, &root.namespace), resolved(route, &name.namespace));
        match matches(&above.r#match, &route.r#match) {
            Some(merged) => route.r#match = merged,
            None => {
                problem(format!("spec.http[{at}] of {name} is left out: it matches what this rule does not"));
                continue;
            }
        }
        rules.push(HttpRule { object: name.clone(), at, route: filled(route, above) });
    }
}

/// Names as they are meant in the namespace where they are written.
fn resolved(route: &HttpRoute, namespace: &str) -> HttpRoute {
    let mut route = route.clone();
    let full = |it: &mut Destination| it.host = Hostname::resolve(&it.host, namespace).to_string();
    route.route.iter_mut().for_each(|it| full(&mut it.destination));
    route.mirror.iter_mut().for_each(full);
    route.mirrors.iter_mut().for_each(|it| full(&mut it.destination));
    let gateways = route.r#match.iter_mut().flat_map(|it| &mut it.gateways);
    gateways.for_each(|it| *it = RouteRules::gateway(it, namespace));
    route
}

/// What the delegate leaves open, the root says.
fn filled(route: HttpRoute, root: HttpRoute) -> HttpRoute {
    HttpRoute {
        name: joined(&root.name, route.name),
        r#match: route.r#match,
        route: route.route,
        redirect: route.redirect,
        delegate: None,
        direct_response: route.direct_response.or(root.direct_response),
        rewrite: route.rewrite.or(root.rewrite),
        timeout: route.timeout.or(root.timeout),
        retries: route.retries.or(root.retries),
        fault: route.fault.or(root.fault),
        mirror: route.mirror.or(root.mirror),
        mirrors: if route.mirrors.is_empty() { root.mirrors } else { route.mirrors },
        mirror_percent: route.mirror_percent.or(root.mirror_percent),
        mirror_percentage: route.mirror_percentage.or(root.mirror_percentage),
        cors_policy: route.cors_policy.or(root.cors_policy),
        headers: if route.headers == Headers::default() { root.headers } else { route.headers },
    }
}

fn joined(root: &str, own: String) -> String {
    match (root.is_empty(), own.is_empty()) {
        (true, _) => own,
        (false, true) => root.to_owned(),
        (false, false) => format!("{root}-{own}"),
    }
}

/// Every match of the delegate within each match of the root that takes all of it. `None`: one is within none.
fn matches(root: &[HttpMatchRequest], own: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || own.is_empty() {
        return Some(if root.is_empty() { own } else { root }.to_vec());
    }
    let mut merged = vec![];
    for own in own {
        let before = merged.len();
        merged.extend(root.iter().filter(|root| takes(root, own)).map(|root| within(root, own.clone())));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn within(root: &HttpMatchRequest, own: HttpMatchRequest) -> HttpMatchRequest {
    fn both<V: Clone>(root: &BTreeMap<String, V>, own: BTreeMap<String, V>) -> BTreeMap<String, V> {
        root.clone().into_iter().chain(own).collect()
    }
    let text = |root: &String, own: String| if own.is_empty() { root.clone() } else { own };
    HttpMatchRequest {
        name: joined(&root.name, own.name),
        uri: own.uri.or_else(|| root.uri.clone()),
        scheme: own.scheme.or_else(|| root.scheme.clone()),
        method: own.method.or_else(|| root.method.clone()),
        authority: own.authority.or_else(|| root.authority.clone()),
        headers: both(&root.headers, own.headers),
        without_headers: both(&root.without_headers, own.without_headers),
        query_params: both(&root.query_params, own.query_params),
        source_labels: both(&root.source_labels, own.source_labels),
        port: own.port.filter(|it| *it != 0).or(root.port),
        gateways: if own.gateways.is_empty() { root.gateways.clone() } else { own.gateways },
        source_namespace: text(&root.source_namespace, own.source_namespace),
        stat_prefix: text(&root.stat_prefix, own.stat_prefix),
        ignore_uri_case: own.ignore_uri_case,
    }
}

/// Whether the root's match takes all that the delegate's does, as far as Istio looks.
fn takes(root: &HttpMatchRequest, own: &HttpMatchRequest) -> bool {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let maps = [
        (&root.headers, &own.headers),
        (&root.without_headers, &own.without_headers),
        (&root.query_params, &own.query_params),
    ];
    let same_name = |(root, own): (&BTreeMap<String, StringMatch>, &BTreeMap<String, StringMatch>)| {
        own.iter().all(|(name, own)| root.get(name).is_none_or(|root| text_takes(root, own)))
    };
    let set = |port: Option<u32>| port.filter(|it| *it != 0);
    let ports = set(root.port).zip(set(own.port));
    texts.into_iter().all(|(root, own)| root.as_ref().zip(own.as_ref()).is_none_or(|(root, own)| text_takes(root, own)))
        && maps.into_iter().all(same_name)
        && root.ignore_uri_case == own.ignore_uri_case
        && ports.is_none_or(|(root, own)| root == own)
        // A root's namespace must be said again, in Istio too.
        && (root.source_namespace.is_empty() || root.source_namespace == own.source_namespace)
        && own.source_labels.iter().all(|(name, own)| root.source_labels.get(name).is_none_or(|root| root == own))
        && (root.gateways.is_empty() || own.gateways.iter().all(|own| root.gateways.contains(own)))
}

/// Nobody compares a regex with anything, and "present" is not compared either.
fn text_takes(root: &StringMatch, own: &StringMatch) -> bool {
    match (root, own) {
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root == own,
        (StringMatch::Prefix(root), StringMatch::Prefix(own) | StringMatch::Exact(own)) => own.starts_with(root),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
