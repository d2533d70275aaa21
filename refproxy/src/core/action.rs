//! What a matched route does: forward (to which cluster, rewritten how), redirect, or answer.
//!
//! `config.route.v3.RouteAction`; `RouteEntryImplBase::finalizeRequestHeaders` for the order of rewrites.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, data_source};
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier as WeightHost;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, WeightedCluster, route,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::call::Request;
use super::http::Arrived;
use super::outcome::{Forward, HeaderMutation, HostFromEndpoint, Mirror, Outcome, Stop, rejected, unsupported};
use super::path::without_query;
use super::route::is_grpc;
use super::{Walk, cluster, index_at, matcher, redirect, regex, weighted_index};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
const DIRECT_RESPONSE_BYTES_MAX_DEFAULT: u32 = 4096;

/// A matched route with all that surrounds it.
struct Scope<'a> {
    configuration: &'a RouteConfiguration,
    host: &'a VirtualHost,
    route: &'a Route,
    arrived: &'a Arrived,
    path: String,
}

pub(super) fn take(
    walk: &mut Walk<'_>,
    configuration: &RouteConfiguration,
    host: &VirtualHost,
    route: &Route,
    arrived: &Arrived,
) -> Result<Outcome, Stop> {
    let path = format!(
        "route_configuration[{}].virtual_hosts[{}].routes[{}]",
        configuration.name,
        host.name,
        walk.at.route.as_deref().unwrap_or_default()
    );
    if !route.route_specifiers.is_empty() {
        return Err(unsupported(format!("{path}.route_specifiers")));
    }
    let scope = Scope { configuration, host, route, arrived, path };
    match &route.action {
        Some(route::Action::Route(action)) => forward(walk, &scope, action),
        Some(route::Action::Redirect(action)) => redirect::outcome(route, action, arrived, &scope.path),
        Some(route::Action::DirectResponse(action)) => direct_response(&scope, action),
        Some(route::Action::FilterAction(_)) => Err(unsupported(format!("{}.filter_action", scope.path))),
        Some(route::Action::NonForwardingAction(_)) => {
            Err(unsupported(format!("{}.non_forwarding_action", scope.path)))
        }
        None => Err(rejected(format!("{}.action", scope.path), "is required")),
    }
}

fn direct_response(scope: &Scope<'_>, action: &DirectResponseAction) -> Result<Outcome, Stop> {
    let path = format!("{}.direct_response", scope.path);
    if action.body_format.is_some() {
        return Err(unsupported(format!("{path}.body_format")));
    }
    let body = match action.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        None => String::new(),
        Some(data_source::Specifier::InlineString(text)) => text.clone(),
        Some(data_source::Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(_) => return Err(unsupported(format!("{path}.body"))),
    };
    let configured = scope.configuration.max_direct_response_body_size_bytes;
    let bytes_max = configured.map_or(DIRECT_RESPONSE_BYTES_MAX_DEFAULT, |limit| limit.value);
    if body.len() > bytes_max as usize {
        return Err(rejected(format!("{path}.body"), format!("{} bytes, the limit is {bytes_max}", body.len())));
    }
    match u16::try_from(action.status) {
        Ok(status) if (200..600).contains(&status) => Ok(Outcome::DirectResponse { status, body }),
        _ => Err(rejected(format!("{path}.status"), "must be within 200 and 599")),
    }
}

fn forward(walk: &mut Walk<'_>, scope: &Scope<'_>, action: &RouteAction) -> Result<Outcome, Stop> {
    let path = format!("{}.route", scope.path);
    if has_grpc_timeout(action) && is_grpc(scope.arrived) {
        return Err(unsupported(format!("{path}.max_grpc_timeout")));
    }
    let (name, weight) = choose_cluster(walk, scope, action, &path)?;
    let found = cluster::find(walk, &name, Some(&scope.arrived.request))?;
    let matches_metadata =
        action.metadata_match.is_some() || weight.is_some_and(|weight| weight.metadata_match.is_some());
    if matches_metadata && found.subsets {
        return Err(unsupported(format!("{path}.metadata_match with cluster[{name}].lb_subset_config")));
    }
    let retries = action.retry_policy.as_ref().or(scope.host.retry_policy.as_ref()).cloned();
    let extension = action.retry_policy_typed_config.is_some() || scope.host.retry_policy_typed_config.is_some();
    if retries.is_none() && extension {
        return Err(unsupported(format!("{path}.retry_policy_typed_config")));
    }
    let request_headers = request_headers(scope, weight);
    let (host, host_from_endpoint) = rewritten_host(scope, action, weight, &request_headers, &path)?;
    walk.trace.note(format!("to cluster {name}"));
    Ok(Outcome::Cluster(Box::new(Forward {
        listener: walk.at.listener.clone().unwrap_or_default(),
        filter_chain: walk.at.filter_chain.clone().unwrap_or_default(),
        virtual_host: walk.at.virtual_host.clone(),
        route: walk.at.route.clone(),
        cluster: name,
        discovery: found.discovery,
        endpoints: found.endpoints,
        path: rewritten_path(scope, action, &path)?,
        host,
        host_from_endpoint,
        timeout: timeout(action, &path)?,
        retries,
        mirrors: mirrors(scope, action),
        request_headers,
        response_headers: response_headers(scope, weight),
    })))
}

#[allow(deprecated)] // honoured by Envoy unless max_stream_duration is set
fn has_grpc_timeout(action: &RouteAction) -> bool {
    action.max_grpc_timeout.is_some() && action.max_stream_duration.is_none()
}

fn choose_cluster<'a>(
    walk: &mut Walk<'_>,
    scope: &Scope<'_>,
    action: &'a RouteAction,
    path: &str,
) -> Result<(String, Option<&'a ClusterWeight>), Stop> {
    let from_header = |name: &str| scope.arrived.request.first(name).unwrap_or_default().to_owned();
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok((name.clone(), None)),
        Some(ClusterSpecifier::ClusterHeader(header)) => {
            let name = from_header(header);
            walk.trace.note(format!("cluster_header {header}: {name:?}"));
            Ok((name, None))
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let chosen =
                choose_weight(weighted, &scope.arrived.request, walk.call.roll, &format!("{path}.weighted_clusters"))?;
            let name = if chosen.name.is_empty() { from_header(&chosen.cluster_header) } else { chosen.name.clone() };
            walk.trace.note(format!("weighted clusters, roll {}: {name}", walk.call.roll));
            Ok((name, Some(chosen)))
        }
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => {
            Err(unsupported(format!("{path}.cluster_specifier_plugin")))
        }
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            Err(unsupported(format!("{path}.inline_cluster_specifier_plugin")))
        }
        None => Err(rejected(format!("{path}.cluster_specifier"), "is required")),
    }
}

fn choose_weight<'a>(
    weighted: &'a WeightedCluster,
    request: &Request,
    roll: f64,
    path: &str,
) -> Result<&'a ClusterWeight, Stop> {
    let mut weights = Vec::with_capacity(weighted.clusters.len());
    for cluster in &weighted.clusters {
        if cluster.name.is_empty() == cluster.cluster_header.is_empty() {
            return Err(rejected(path, "one and only one of name or cluster_header must be specified"));
        }
        weights.push(cluster.weight.ok_or_else(|| rejected(path, "weight is required"))?.value);
    }
    let real_choice = weights.iter().filter(|weight| **weight > 0).count() > 1;
    let index = match &weighted.random_value_specifier {
        Some(RandomValueSpecifier::UseHashPolicy(wanted)) if real_choice && wanted.value => {
            return Err(unsupported(format!("{path}.use_hash_policy")));
        }
        // The header counts only if it is one number; otherwise the random number does.
        Some(RandomValueSpecifier::HeaderName(name)) => {
            match request.header(name).and_then(|value| value.parse::<u64>().ok()) {
                Some(number) => index_at(&weights, |total| number % total),
                None => weighted_index(&weights, roll),
            }
        }
        _ => weighted_index(&weights, roll),
    };
    index
        .and_then(|index| weighted.clusters.get(index))
        .ok_or_else(|| rejected(path, "sum of weights in the weighted_cluster must be greater than 0"))
}

/// Host rewrites: the route's over the weighted cluster's, after the header mutations, before the path is rewritten.
fn rewritten_host(
    scope: &Scope<'_>,
    action: &RouteAction,
    weight: Option<&ClusterWeight>,
    mutations: &[HeaderMutation],
    path: &str,
) -> Result<(String, HostFromEndpoint), Stop> {
    let request = &scope.arrived.request;
    let of_weight = weight.and_then(|weight| weight.host_rewrite_specifier.as_ref()).map(|rewrite| match rewrite {
        WeightHost::HostRewriteLiteral(literal) => literal.as_str(),
    });
    let fallback = of_weight.filter(|literal| !literal.is_empty()).unwrap_or(&request.authority).to_owned();
    let rewritten = match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(literal)) => literal.clone(),
        Some(HostRewriteSpecifier::HostRewriteHeader(header)) => {
            let touched = mutations.iter().any(|mutation| match mutation {
                HeaderMutation::Remove(name) | HeaderMutation::Add { name, .. } => name.eq_ignore_ascii_case(header),
            });
            if touched {
                return Err(unsupported(format!("{path}.host_rewrite_header: {header} is mutated by the same route")));
            }
            request.first(header).unwrap_or_default().to_owned()
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            regex::replace_all(rewrite, without_query(&request.path), &format!("{path}.host_rewrite_path_regex"))?
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(wanted)) if wanted.value => {
            return Ok((fallback, HostFromEndpoint::AutoHostRewrite));
        }
        Some(HostRewriteSpecifier::HostRewrite(_)) => return Err(unsupported(format!("{path}.host_rewrite"))),
        Some(HostRewriteSpecifier::AutoHostRewrite(_)) | None => String::new(),
    };
    Ok((if rewritten.is_empty() { fallback } else { rewritten }, HostFromEndpoint::No))
}

fn rewritten_path(scope: &Scope<'_>, action: &RouteAction, path: &str) -> Result<String, Stop> {
    let own = scope.arrived.request.path.as_str();
    if action.path_rewrite_policy.is_some() || !action.path_rewrite.is_empty() {
        return Err(unsupported(format!("{path}.path_rewrite_policy or path_rewrite")));
    }
    match (&action.regex_rewrite, action.prefix_rewrite.as_str()) {
        (Some(_), prefix) if !prefix.is_empty() => {
            Err(rejected(path, "specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy"))
        }
        (Some(rewrite), _) => regex_rewritten(rewrite, own, &format!("{path}.regex_rewrite")),
        (None, "") => Ok(own.to_owned()),
        (None, prefix) => Ok(prefix_rewritten(scope.route, own, prefix)),
    }
}

/// `prefix_rewrite` replaces what was matched: a prefix or path by its length, otherwise the path up to the query.
pub(super) fn prefix_rewritten(route: &Route, target: &str, rewrite: &str) -> String {
    let matched = match route.r#match.as_ref().and_then(|matches| matches.path_specifier.as_ref()) {
        Some(
            PathSpecifier::Prefix(matched) | PathSpecifier::Path(matched) | PathSpecifier::PathSeparatedPrefix(matched),
        ) => matched.len(),
        _ => without_query(target).len(),
    };
    format!("{rewrite}{}", target.get(matched..).unwrap_or_default())
}

/// `regex_rewrite` works on the path, whatever part of it was matched; the query stays.
pub(super) fn regex_rewritten(rewrite: &RegexMatchAndSubstitute, target: &str, path: &str) -> Result<String, Stop> {
    let only_path = without_query(target);
    Ok(regex::replace_all(rewrite, only_path, path)? + &target[only_path.len()..])
}

/// 15 s unless set; 0 switches it off.
fn timeout(action: &RouteAction, path: &str) -> Result<Option<Duration>, Stop> {
    let Some(timeout) = action.timeout else { return Ok(Some(TIMEOUT_DEFAULT)) };
    match (u64::try_from(timeout.seconds), u32::try_from(timeout.nanos)) {
        (Ok(0), Ok(0)) => Ok(None),
        (Ok(seconds), Ok(nanos)) => Ok(Some(Duration::from_secs(seconds) + Duration::from_nanos(nanos.into()))),
        _ => Err(rejected(format!("{path}.timeout"), "must not be negative")),
    }
}

/// The most specific non-empty list; a mirror whose fraction is 0 is none.
fn mirrors(scope: &Scope<'_>, action: &RouteAction) -> Vec<Mirror> {
    let lists = [
        &action.request_mirror_policies,
        &scope.host.request_mirror_policies,
        &scope.configuration.request_mirror_policies,
    ];
    let own = lists.into_iter().find(|list| !list.is_empty());
    let mirror = |policy: &RequestMirrorPolicy| {
        let from_header = scope.arrived.request.first(&policy.cluster_header).unwrap_or_default();
        let cluster = if policy.cluster.is_empty() { from_header } else { &policy.cluster };
        let parts_per_million = matcher::parts_per_million(policy.runtime_fraction.as_ref());
        Mirror { cluster: cluster.to_owned(), parts_per_million }
    };
    own.into_iter().flatten().map(mirror).filter(|mirror| mirror.parts_per_million > 0).collect()
}

fn request_headers(scope: &Scope<'_>, weight: Option<&ClusterWeight>) -> Vec<HeaderMutation> {
    let (route, host, global) = (scope.route, scope.host, scope.configuration);
    let of_weight = weight.map(|weight| (&weight.request_headers_to_add, &weight.request_headers_to_remove));
    let levels = [
        (&route.request_headers_to_add, &route.request_headers_to_remove),
        (&host.request_headers_to_add, &host.request_headers_to_remove),
        (&global.request_headers_to_add, &global.request_headers_to_remove),
    ];
    mutations(of_weight, levels, scope.configuration)
}

fn response_headers(scope: &Scope<'_>, weight: Option<&ClusterWeight>) -> Vec<HeaderMutation> {
    let (route, host, global) = (scope.route, scope.host, scope.configuration);
    let of_weight = weight.map(|weight| (&weight.response_headers_to_add, &weight.response_headers_to_remove));
    let levels = [
        (&route.response_headers_to_add, &route.response_headers_to_remove),
        (&host.response_headers_to_add, &host.response_headers_to_remove),
        (&global.response_headers_to_add, &global.response_headers_to_remove),
    ];
    mutations(of_weight, levels, scope.configuration)
}

type Level<'a> = (&'a Vec<HeaderValueOption>, &'a Vec<String>);

/// The weighted cluster first, then most to least specific, or with `most_specific_header_mutations_wins` the other way
/// round, as later mutations win. Within one level removals precede additions.
fn mutations(weight: Option<Level<'_>>, mut levels: [Level<'_>; 3], of: &RouteConfiguration) -> Vec<HeaderMutation> {
    if of.most_specific_header_mutations_wins {
        levels.reverse();
    }
    let mut all = Vec::new();
    for (add, remove) in weight.into_iter().chain(levels) {
        all.extend(remove.iter().map(|name| HeaderMutation::Remove(name.clone())));
        all.extend(add.iter().filter_map(addition));
    }
    all
}

#[allow(deprecated)] // `append` still decides where it is set
fn addition(option: &HeaderValueOption) -> Option<HeaderMutation> {
    let header = option.header.as_ref()?;
    let value = if header.raw_value.is_empty() {
        header.value.clone()
    } else {
        String::from_utf8_lossy(&header.raw_value).into_owned()
    };
    if value.is_empty() && !option.keep_empty_value {
        return None;
    }
    let action = match option.append {
        Some(append) if append.value => HeaderAppendAction::AppendIfExistsOrAdd,
        Some(_) => HeaderAppendAction::OverwriteIfExistsOrAdd,
        None => HeaderAppendAction::try_from(option.append_action).unwrap_or_default(),
    };
    Some(HeaderMutation::Add { name: header.key.clone(), value, action })
}
