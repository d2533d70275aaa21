//! `corsPolicy` (`TranslateCORSPolicy`).

use super::note::{Notes, regex};
use crate::message;
use crds::StringMatch;
use crds::networking::{CorsPolicy, UnmatchedPreflights};
use xds::envoy::{RuntimeFractionalPercent, StringMatcher, cors as envoy, r#type as kind};

pub(super) const FILTER: &str = "envoy.filters.http.cors";

/// An origin that cannot be matched is left out alone: that only ever allows less.
pub(super) fn cors_policy(from: &CorsPolicy, field: &str, notes: &mut Notes<'_>) -> envoy::CorsPolicy {
    envoy::CorsPolicy {
        allow_origin_string_match: origins(from, field, notes),
        allow_methods: from.allow_methods.join(","),
        allow_headers: from.allow_headers.join(","),
        expose_headers: from.expose_headers.join(","),
        max_age: from.max_age.map(|it| it.0.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: from.allow_credentials.and_then(message::boolean),
        filter_enabled: Some(hundredths(100)),
        forward_not_matching_preflights: message::boolean(
            from.unmatched_preflights != Some(UnmatchedPreflights::Ignore),
        ),
        ..envoy::CorsPolicy::default()
    }
}

fn origins(from: &CorsPolicy, field: &str, notes: &mut Notes<'_>) -> Vec<StringMatcher> {
    if from.allow_origins.is_empty() {
        return from.allow_origin.iter().map(message::exact).collect();
    }
    let mut origins = vec![];
    for (at, origin) in from.allow_origins.iter().enumerate() {
        let field = format!("{field}.allowOrigins[{at}]");
        let flaw = match origin {
            StringMatch::Regex(pattern) => regex(pattern, &field).err().map(|it| it.reason),
            StringMatch::Prefix(prefix) if prefix.is_empty() => {
                Some(crds::Reason::Invalid("the prefix is empty".into()))
            }
            _ => None,
        };
        match flaw {
            Some(reason) => notes.add(field, reason),
            None => origins.extend(message::string_matcher(origin)),
        }
    }
    origins
}

/// Whole percents, as Istio writes those that users give as integers.
pub(super) fn hundredths(numerator: u32) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(percent(numerator)), runtime_key: String::new() }
}

pub(super) fn percent(numerator: u32) -> kind::FractionalPercent {
    let denominator = kind::fractional_percent::DenominatorType::Hundred.into();
    kind::FractionalPercent { numerator: numerator.min(100), denominator }
}
