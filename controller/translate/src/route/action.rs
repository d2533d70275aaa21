//! Where a rule sends requests, and how (`applyHTTPRouteDestination`).

use super::cors::hundredths;
use super::destination::{Rules, Target, target};
use super::header::{self, Operations};
use super::note::{Flaw, Notes, header_text, regex, time};
use super::retry;
use crate::message;
use crds::Duration;
use crds::networking::{Destination, HttpRetry, HttpRewrite, HttpRoute, HttpRouteDestination, Percent};
use xds::envoy::route::route_action::{ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy};
use xds::envoy::route::weighted_cluster::{ClusterWeight, cluster_weight};
use xds::envoy::{Route, RouteAction, RuntimeFractionalPercent, WeightedCluster, matcher};

/// Completes a route that forwards. `authority`: from the rule's own headers. The result is the only destination.
pub(super) fn apply(
    context: &Rules<'_>,
    route: &mut Route,
    from: &HttpRoute,
    authority: Option<String>,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<(RouteAction, Option<Target>), Flaw> {
    let timeout = from.timeout.map(|it| time(it, &format!("{field}.timeout"))).transpose()?;
    let mut action = with_timeout(timeout.unwrap_or(Duration::ZERO));
    let mut authority = authority;
    if let Some(rewrite) = &from.rewrite {
        apply_rewrite(&mut action, rewrite, &format!("{field}.rewrite"))?;
        let own = header_text(&rewrite.authority, &format!("{field}.rewrite.authority"))?;
        authority = Some(own.to_owned()).filter(|it| !it.is_empty()).or(authority);
    }
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    action.request_mirror_policies = mirrors(context, from, field, notes)?;
    let only = match from.route.as_slice() {
        [] => return Err(Flaw::invalid(field, "there is no route, redirect or directResponse")),
        [only] => Some(apply_single(context, route, &mut action, only, &format!("{field}.route[0]"), notes)?),
        several => {
            apply_weighted(context, &mut action, several, &format!("{field}.route"), notes)?;
            None
        }
    };
    let hashed = only.as_ref().is_some_and(|it| !it.hash_policy.is_empty());
    let hosts = if hashed { retry::Hosts::Hashed } else { retry::Hosts::Any };
    if let Some(retries) = &from.retries {
        check_retries(retries, &format!("{field}.retries"))?;
    }
    action.retry_policy =
        retry::policy(from.retries.as_ref().or(context.mesh.default_http_retry_policy.as_ref()), hosts);
    Ok((action, only))
}

/// Zero is no limit. Without a limit of its own for gRPC, Envoy would not look at `grpc-timeout`.
pub(super) fn with_timeout(timeout: Duration) -> RouteAction {
    let timeout = message::duration(timeout);
    // `max_grpc_timeout` is deprecated for `max_stream_duration`, but Istio stays with it for that one's regressions.
    #[expect(deprecated)]
    RouteAction { timeout, max_grpc_timeout: timeout, ..RouteAction::default() }
}

fn apply_rewrite(action: &mut RouteAction, from: &HttpRewrite, field: &str) -> Result<(), Flaw> {
    if let Some(rewrite) = &from.uri_regex_rewrite {
        let field = format!("{field}.uriRegexRewrite");
        regex(&rewrite.r#match, &format!("{field}.match"))?;
        action.regex_rewrite = Some(matcher::RegexMatchAndSubstitute {
            pattern: Some(message::regex(&rewrite.r#match)),
            substitution: header_text(&rewrite.rewrite, &format!("{field}.rewrite"))?.to_owned(),
        });
    } else {
        action.prefix_rewrite = header_text(&from.uri, &format!("{field}.uri"))?.to_owned();
    }
    Ok(())
}

fn check_retries(from: &HttpRetry, field: &str) -> Result<(), Flaw> {
    for (value, key) in [(from.per_try_timeout, "perTryTimeout"), (from.backoff, "backoff")] {
        value.map(|it| time(it, &format!("{field}.{key}"))).transpose()?;
    }
    Ok(())
}

/// The destination's headers are the route's own.
fn apply_single(
    context: &Rules<'_>,
    route: &mut Route,
    action: &mut RouteAction,
    from: &HttpRouteDestination,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<Target, Flaw> {
    let target = target(context, &from.destination, &format!("{field}.destination"), notes)?;
    action.cluster_specifier = Some(ClusterSpecifier::Cluster(target.cluster.clone()));
    action.hash_policy.clone_from(&target.hash_policy);
    let headers = header::operations(&from.headers, &format!("{field}.headers"))?;
    if action.host_rewrite_specifier.is_none() {
        action.host_rewrite_specifier = headers.authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    }
    route.request_headers_to_add.extend(headers.request_add);
    route.request_headers_to_remove.extend(headers.request_remove);
    route.response_headers_to_add.extend(headers.response_add);
    route.response_headers_to_remove.extend(headers.response_remove);
    Ok(target)
}

fn apply_weighted(
    context: &Rules<'_>,
    action: &mut RouteAction,
    from: &[HttpRouteDestination],
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<(), Flaw> {
    let (mut clusters, mut sum) = (vec![], 0u32);
    for (at, from) in from.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let Ok(weight) = u32::try_from(from.weight) else {
            return Err(Flaw::invalid(format!("{field}.weight"), format!("the weight {} is negative", from.weight)));
        };
        if weight == 0 {
            continue;
        }
        sum = sum
            .checked_add(weight)
            .ok_or_else(|| Flaw::invalid(format!("{field}.weight"), "the sum of the weights exceeds 4294967295"))?;
        let target = target(context, &from.destination, &format!("{field}.destination"), notes)?;
        action.hash_policy.extend(target.hash_policy);
        let headers = header::operations(&from.headers, &format!("{field}.headers"))?;
        clusters.push(cluster_weight(target.cluster, weight, headers));
    }
    if sum == 0 {
        return Err(Flaw::invalid(field, "the sum of the weights is 0"));
    }
    let weighted = WeightedCluster { clusters, ..WeightedCluster::default() };
    action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(weighted));
    Ok(())
}

fn cluster_weight(name: String, weight: u32, headers: Operations) -> ClusterWeight {
    ClusterWeight {
        name,
        weight: message::uint32(weight),
        request_headers_to_add: headers.request_add,
        request_headers_to_remove: headers.request_remove,
        response_headers_to_add: headers.response_add,
        response_headers_to_remove: headers.response_remove,
        host_rewrite_specifier: headers.authority.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..ClusterWeight::default()
    }
}

/// `mirror`, then `mirrors`; none of a percentage of zero.
fn mirrors(
    context: &Rules<'_>,
    from: &HttpRoute,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<Vec<RequestMirrorPolicy>, Flaw> {
    let single = from.mirror.iter().map(|it| (it, mirror_percent(from), format!("{field}.mirror")));
    let several = from.mirrors.iter().enumerate().map(|(at, it)| {
        (&it.destination, fraction(it.percentage.as_ref()), format!("{field}.mirrors[{at}].destination"))
    });
    let mut policies = vec![];
    for (destination, fraction, field) in single.chain(several) {
        let Some(fraction) = fraction else { continue };
        policies.push(mirror_policy(context, destination, fraction, &field, notes)?);
    }
    Ok(policies)
}

fn mirror_policy(
    context: &Rules<'_>,
    destination: &Destination,
    fraction: RuntimeFractionalPercent,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<RequestMirrorPolicy, Flaw> {
    Ok(RequestMirrorPolicy {
        cluster: target(context, destination, field, notes)?.cluster,
        runtime_fraction: Some(fraction),
        trace_sampled: message::boolean(false),
        // Istio's default: the mirrored request keeps its host, without `-shadow`.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    })
}

fn mirror_percent(from: &HttpRoute) -> Option<RuntimeFractionalPercent> {
    match (&from.mirror_percentage, from.mirror_percent) {
        (None, Some(0)) => None,
        (None, Some(percent)) => Some(hundredths(percent)),
        (percentage, _) => fraction(percentage.as_ref()),
    }
}

/// Absent is all.
fn fraction(from: Option<&Percent>) -> Option<RuntimeFractionalPercent> {
    match from {
        None => Some(hundredths(100)),
        Some(percent) if percent.value > 0.0 => message::runtime_fractional_percent(percent.value),
        Some(_) => None,
    }
}
