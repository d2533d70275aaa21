//! The small matchers of a route: strings, headers, query parameters, fractions.
//!
//! Header semantics: `config.route.v3.HeaderMatcher` and Envoy's `HeaderUtility::matchHeaders`.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use super::http::Arrived;
use super::outcome::{Stop, rejected, unsupported};
use super::{path as request_path, regex, scaled};

/// Headers that the connection manager writes before routing; a matcher on one needs the caller to state its value.
const WRITTEN_BY_ENVOY: [&str; 5] =
    ["x-forwarded-for", "x-request-id", "x-envoy-internal", "x-envoy-external-address", "x-forwarded-client-cert"];

pub(super) fn string(matcher: &StringMatcher, value: &str, path: &str) -> Result<bool, Stop> {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    Ok(match &matcher.match_pattern {
        Some(MatchPattern::Exact(wanted)) => fold(value) == fold(wanted),
        Some(MatchPattern::Prefix(wanted)) => fold(value).starts_with(&fold(wanted)),
        Some(MatchPattern::Suffix(wanted)) => fold(value).ends_with(&fold(wanted)),
        Some(MatchPattern::Contains(wanted)) => fold(value).contains(&fold(wanted)),
        // `ignore_case` has no effect on a regex.
        Some(MatchPattern::SafeRegex(wanted)) => regex::full(wanted, &format!("{path}.safe_regex"))?.is_match(value),
        Some(MatchPattern::Custom(_)) => return Err(unsupported(format!("{path}.custom"))),
        None => return Err(rejected(path, "match_pattern is required")),
    })
}

/// A header matcher. A missing header fails every matcher, inverted or not; only `present_match` speaks of absence.
#[allow(deprecated)] // exact_match and its siblings: Envoy and EnvoyFilters still use them
pub(super) fn header(matcher: &HeaderMatcher, arrived: &Arrived, path: &str) -> Result<bool, Stop> {
    let path = format!("{path}.headers[{}]", matcher.name);
    let specifier = &matcher.header_match_specifier;
    let value = arrived.header(&matcher.name);
    if value.is_none() && WRITTEN_BY_ENVOY.iter().any(|name| name.eq_ignore_ascii_case(&matcher.name)) {
        return Err(unsupported(format!("{path}: Envoy writes this header itself, the call must state it")));
    }
    let value = match value {
        Some(value) => value,
        None if matcher.treat_missing_header_as_empty => String::new(),
        None => {
            let wanted = match specifier {
                None => true,
                Some(HeaderMatchSpecifier::PresentMatch(wanted)) => *wanted,
                Some(_) => return Ok(false),
            };
            return Ok(wanted == matcher.invert_match);
        }
    };
    let matched = match specifier {
        None => true,
        Some(HeaderMatchSpecifier::PresentMatch(wanted)) => *wanted,
        // An empty exact value means presence.
        Some(HeaderMatchSpecifier::ExactMatch(wanted)) => wanted.is_empty() || value == *wanted,
        Some(HeaderMatchSpecifier::PrefixMatch(wanted)) => value.starts_with(wanted),
        Some(HeaderMatchSpecifier::SuffixMatch(wanted)) => value.ends_with(wanted),
        Some(HeaderMatchSpecifier::ContainsMatch(wanted)) => value.contains(wanted),
        Some(HeaderMatchSpecifier::SafeRegexMatch(wanted)) => {
            regex::full(wanted, &format!("{path}.safe_regex_match"))?.is_match(&value)
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            value.trim().parse::<i64>().is_ok_and(|number| (range.start..range.end).contains(&number))
        }
        Some(HeaderMatchSpecifier::StringMatch(wanted)) => string(wanted, &value, &format!("{path}.string_match"))?,
    };
    Ok(matched != matcher.invert_match)
}

/// A query parameter matcher looks at the first value only, undecoded.
pub(super) fn query_parameter(matcher: &QueryParameterMatcher, target: &str, path: &str) -> Result<bool, Stop> {
    let path = format!("{path}.query_parameters[{}]", matcher.name);
    let value = request_path::query_parameter(target, &matcher.name);
    match (&matcher.query_parameter_match_specifier, value) {
        (None, value) => Ok(value.is_some()),
        (Some(QueryParameterMatchSpecifier::PresentMatch(wanted)), value) => Ok(value.is_some() == *wanted),
        (Some(QueryParameterMatchSpecifier::StringMatch(_)), None) => Ok(false),
        (Some(QueryParameterMatchSpecifier::StringMatch(wanted)), Some(value)) => {
            string(wanted, value, &format!("{path}.string_match"))
        }
    }
}

/// Whether a roll falls within a runtime fraction; its runtime key is taken to be unset.
pub(super) fn fraction(fraction: &RuntimeFractionalPercent, roll: f64) -> bool {
    let default = fraction.default_value.unwrap_or_default();
    scaled(roll, denominator(default.denominator)) < u64::from(default.numerator)
}

pub(super) fn parts_per_million(fraction: Option<&RuntimeFractionalPercent>) -> u32 {
    let Some(fraction) = fraction else { return 1_000_000 };
    let default = fraction.default_value.unwrap_or_default();
    let parts = u64::from(default.numerator) * (1_000_000 / denominator(default.denominator));
    u32::try_from(parts.min(1_000_000)).unwrap_or(1_000_000)
}

fn denominator(kind: i32) -> u64 {
    match DenominatorType::try_from(kind).unwrap_or_default() {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    }
}
