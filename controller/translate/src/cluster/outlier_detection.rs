//! `outlierDetection`: which errors put an endpoint out of the rotation.

use super::http_protocol::HttpProtocol;
use super::remark::Remarks;
use crate::{endpoint, message};
use crds::{Duration, Reason, networking as n};
use model::Service;
use model::traffic_policy::{Origin, Policy};
use xds::envoy::pb::envoy::config::common::matcher::v3::{HttpHeadersMatch, MatchPredicate, match_predicate};
use xds::envoy::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as options;
use xds::envoy::route::header_matcher::HeaderMatchSpecifier;
use xds::envoy::{Cluster, HeaderMatcher, OutlierDetection};

pub(super) fn apply(
    cluster: &mut Cluster,
    protocol: &mut HttpProtocol,
    service: &Service,
    policy: &Policy<'_>,
    remarks: &mut Remarks<'_>,
) {
    let Some(written) = policy.outlier_detection else { return };
    let origin = policy.origins.outlier_detection;
    cluster.outlier_detection = Some(outlier_detection(written, origin, remarks));
    if let Some(threshold) = panic_threshold(written, service, origin, remarks) {
        cluster.common_lb_config.get_or_insert_default().healthy_panic_threshold = message::percent(threshold);
    }
    if let Some(error_matcher) = error_matcher(&written.outlier_detection_http_error_codes, origin, remarks) {
        protocol.set_outlier_detection(options::OutlierDetection { error_matcher: Some(error_matcher) });
    }
}

/// Ejection by success rate is off: Istio has no field for it, and Envoy's default would eject surprisingly.
fn outlier_detection(from: &n::OutlierDetection, origin: Origin, remarks: &mut Remarks<'_>) -> OutlierDetection {
    let enforcing = |errors: Option<u32>| errors.and_then(|it| message::uint32(if it > 0 { 100 } else { 0 }));
    let split = from.split_external_local_origin_errors;
    let local_origin = from.consecutive_local_origin_failures.filter(|it| split && *it > 0);
    let percent = u32::try_from(from.max_ejection_percent).ok().filter(|it| *it > 0);
    let why = "is not between 0 and 100; 10 applies";
    let percent_ok = percent.is_none_or(|it| it <= 100);
    let percent = remarks.keep(percent, percent_ok, origin, "outlierDetection.maxEjectionPercent", why);
    let mut span = |value: Option<Duration>, field| {
        remarks.keep(
            value,
            value != Some(Duration::ZERO),
            origin,
            field,
            "must be longer than 0s; Envoy's default applies",
        )
    };
    OutlierDetection {
        interval: span(from.interval, "outlierDetection.interval").and_then(message::duration),
        base_ejection_time: span(from.base_ejection_time, "outlierDetection.baseEjectionTime")
            .and_then(message::duration),
        consecutive_5xx: from.consecutive_5xx_errors.and_then(message::uint32),
        enforcing_consecutive_5xx: enforcing(from.consecutive_5xx_errors),
        consecutive_gateway_failure: from.consecutive_gateway_errors.and_then(message::uint32),
        enforcing_consecutive_gateway_failure: enforcing(from.consecutive_gateway_errors),
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: local_origin.and_then(message::uint32),
        enforcing_consecutive_local_origin_failure: enforcing(local_origin),
        enforcing_local_origin_success_rate: if split { message::uint32(0) } else { None },
        enforcing_success_rate: message::uint32(0),
        max_ejection_percent: percent.and_then(message::uint32),
        ..OutlierDetection::default()
    }
}

/// Below this share of healthy endpoints Envoy ignores health. Off by default: with few pods per service half of
/// them is soon reached. Always off where endpoints that are not ready are sent to be avoided.
fn panic_threshold(
    from: &n::OutlierDetection,
    service: &Service,
    origin: Origin,
    remarks: &mut Remarks<'_>,
) -> Option<f64> {
    let percent = Some(from.min_health_percent).filter(|it| *it >= 0)?;
    let why = "is more than 100; 0 applies";
    let percent = remarks.keep(Some(percent), percent <= 100, origin, "outlierDetection.minHealthPercent", why);
    Some(if endpoint::forces_unhealthy(service) { 0.0 } else { percent.unwrap_or(0).into() })
}

/// Replaces "any 5xx" by the listed codes.
fn error_matcher(codes: &[u32], origin: Origin, remarks: &mut Remarks<'_>) -> Option<MatchPredicate> {
    let mut rules = Vec::with_capacity(codes.len());
    for (at, code) in codes.iter().enumerate() {
        match code {
            100..=599 => rules.push(status(*code)),
            _ => {
                let field = format!("outlierDetection.outlierDetectionHttpErrorCodes[{at}]");
                remarks.add(origin, &field, Reason::Invalid(format!("{code} is not an HTTP status")));
            }
        }
    }
    // Envoy refuses an "or" of one.
    match rules.len() {
        0 | 1 => rules.pop(),
        _ => Some(predicate(match_predicate::Rule::OrMatch(match_predicate::MatchSet { rules }))),
    }
}

fn status(code: u32) -> MatchPredicate {
    let header = HeaderMatcher {
        name: ":status".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(message::exact(code.to_string()))),
        ..Default::default()
    };
    predicate(match_predicate::Rule::HttpResponseHeadersMatch(HttpHeadersMatch { headers: vec![header] }))
}

fn predicate(rule: match_predicate::Rule) -> MatchPredicate {
    MatchPredicate { rule: Some(rule) }
}
