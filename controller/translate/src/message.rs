//! The small protobuf values of which Envoy's messages are made. Functions whose result only ever fills an optional
//! field return it as `Some`, which keeps message literals short.

use crds::{Duration, ObjectKey, StringMatch};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::matcher::v3::{self as matcher, string_matcher::MatchPattern};
use envoy_types::pb::envoy::r#type::v3 as kind;
use envoy_types::pb::google::protobuf::{self as pb, value::Kind};
use prost::{Message, Name};
use std::net::{IpAddr, SocketAddr};

pub fn uint32(value: u32) -> Option<pb::UInt32Value> {
    Some(pb::UInt32Value { value })
}

pub fn uint64(value: u64) -> Option<pb::UInt64Value> {
    Some(pb::UInt64Value { value })
}

pub fn boolean(value: bool) -> Option<pb::BoolValue> {
    Some(pb::BoolValue { value })
}

pub fn text(value: impl Into<String>) -> Option<pb::StringValue> {
    Some(pb::StringValue { value: value.into() })
}

pub fn duration(value: Duration) -> Option<pb::Duration> {
    // Lossless: crds::Duration ends where protobuf's does, at 10,000 years.
    Some(pb::Duration { seconds: value.0.as_secs() as i64, nanos: value.0.subsec_nanos() as i32 })
}

/// 0 to 100.
pub fn percent(value: f64) -> Option<kind::Percent> {
    Some(kind::Percent { value })
}

/// 0 to 100, kept to a ten-thousandth as Istio does (`translatePercentToFractionalPercent`).
pub fn fractional_percent(value: f64) -> Option<kind::FractionalPercent> {
    Some(kind::FractionalPercent {
        numerator: (value.clamp(0.0, 100.0) * 10_000.0) as u32,
        denominator: kind::fractional_percent::DenominatorType::Million.into(),
    })
}

pub fn runtime_fractional_percent(value: f64) -> Option<core::RuntimeFractionalPercent> {
    Some(core::RuntimeFractionalPercent { default_value: fractional_percent(value), runtime_key: String::new() })
}

/// The engine is left at Envoy's only one (RE2); a program that is too large is refused by Envoy itself.
pub fn regex(pattern: impl Into<String>) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: pattern.into(), engine_type: None }
}

/// `None` for [`StringMatch::Present`], which each kind of matcher says in its own way (`present_match`).
pub fn string_matcher(from: &StringMatch) -> Option<matcher::StringMatcher> {
    let pattern = match from {
        StringMatch::Exact(value) => MatchPattern::Exact(value.clone()),
        StringMatch::Prefix(value) => MatchPattern::Prefix(value.clone()),
        StringMatch::Regex(value) => MatchPattern::SafeRegex(regex(value.clone())),
        StringMatch::Present => return None,
    };
    Some(matcher::StringMatcher { ignore_case: false, match_pattern: Some(pattern) })
}

pub fn exact(value: impl Into<String>) -> matcher::StringMatcher {
    matcher::StringMatcher { ignore_case: false, match_pattern: Some(MatchPattern::Exact(value.into())) }
}

/// `host`: an IP address, or a name that Envoy resolves (only in DNS clusters).
pub fn socket_address(host: impl Into<String>, port: u16) -> core::Address {
    let address = core::SocketAddress {
        address: host.into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(address)) }
}

pub fn ip_address(address: SocketAddr) -> core::Address {
    socket_address(address.ip().to_string(), address.port())
}

/// A Unix socket: a path, or `@name` for the abstract namespace.
pub fn pipe(path: impl Into<String>) -> core::Address {
    let pipe = core::Pipe { path: path.into(), mode: 0 };
    core::Address { address: Some(core::address::Address::Pipe(pipe)) }
}

/// The whole address as a range of one.
pub fn host_range(ip: IpAddr) -> core::CidrRange {
    cidr_range(ip, if ip.is_ipv4() { 32 } else { 128 })
}

pub fn cidr_range(ip: IpAddr, prefix_len: u8) -> core::CidrRange {
    core::CidrRange { address_prefix: ip.to_string(), prefix_len: uint32(prefix_len.into()) }
}

pub fn string_value(value: impl Into<String>) -> pb::Value {
    pb::Value { kind: Some(Kind::StringValue(value.into())) }
}

pub fn bool_value(value: bool) -> pb::Value {
    pb::Value { kind: Some(Kind::BoolValue(value)) }
}

pub fn number_value(value: f64) -> pb::Value {
    pb::Value { kind: Some(Kind::NumberValue(value)) }
}

pub fn list_value(values: Vec<pb::Value>) -> pb::Value {
    pb::Value { kind: Some(Kind::ListValue(pb::ListValue { values })) }
}

pub fn struct_value<'a>(fields: impl IntoIterator<Item = (&'a str, pb::Value)>) -> pb::Value {
    pb::Value { kind: Some(Kind::StructValue(structure(fields))) }
}

pub fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, pb::Value)>) -> pb::Struct {
    pb::Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

/// Metadata of one namespace (`istio`, `envoy.lb`, …).
pub fn metadata(namespace: &str, fields: pb::Struct) -> core::Metadata {
    core::Metadata { filter_metadata: [(namespace.to_owned(), fields)].into(), ..Default::default() }
}

/// `istio.config` of a resource that an object shaped: what `istioctl` and dashboards read to name it.
pub fn config_metadata(object: &ObjectKey) -> core::Metadata {
    let path = crate::name::ConfigPath(object).to_string();
    metadata("istio", structure([("config", string_value(path))]))
}

/// From the same ADS stream, and Envoy waits for it as long as it takes (Istio sets 0s everywhere).
pub fn ads() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        resource_api_version: core::ApiVersion::V3.into(),
        initial_fetch_timeout: duration(Duration::ZERO),
        ..Default::default()
    }
}

/// Packs a message whose bytes do not depend on map iteration order.
pub fn any<M: Message + Name>(message: &M) -> pb::Any {
    xds::canonical::any(message)
}

/// An extension by its well-known name.
pub fn typed_extension<M: Message + Name>(name: &str, config: &M) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(config)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_percents_keep_their_parts() {
        assert_eq!(duration(Duration::from_millis(1500)), Some(pb::Duration { seconds: 1, nanos: 500_000_000 }));
        let half = fractional_percent(0.05).unwrap();
        assert_eq!(
            (half.numerator, half.denominator),
            (500, kind::fractional_percent::DenominatorType::Million as i32)
        );
    }

    #[test]
    fn string_matches_keep_their_kind_and_present_has_none() {
        for (from, expected) in [
            (StringMatch::Exact("a".into()), MatchPattern::Exact("a".into())),
            (StringMatch::Prefix("a".into()), MatchPattern::Prefix("a".into())),
            (StringMatch::Regex("a.*".into()), MatchPattern::SafeRegex(regex("a.*"))),
        ] {
            assert_eq!(string_matcher(&from).unwrap().match_pattern, Some(expected));
        }
        assert_eq!(string_matcher(&StringMatch::Present), None);
    }
}
