//! Durations as users write them: Go's notation (`1h2m3.5s`, `100ms`), as Istio's CRDs and MeshConfig take it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::fmt;

/// A non-negative span of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(pub std::time::Duration);

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = "duration(self) >= duration('1ms')";
        let message = "must be a valid duration greater than 1ms";
        json_schema!({"type": "string", "x-kubernetes-validations": [{"message": message, "rule": rule}]})
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Duration {
    pub const ZERO: Self = Self(std::time::Duration::ZERO);

    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// Reads Go's notation. A bare `0` is allowed, other numbers need a unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration such as 1h, 30s, 1.5s or 100ms");
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut nanos = 0f64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            nanos += number
                * match &rest[..unit] {
                    "h" => 3600e9,
                    "m" => 60e9,
                    "s" => 1e9,
                    "ms" => 1e6,
                    "us" | "µs" | "μs" => 1e3,
                    "ns" => 1.0,
                    _ => return Err(wrong()),
                };
            rest = &rest[unit..];
        }
        // Protobuf's Duration ends at 315,576,000,000 s (10,000 years).
        if nanos > 3.15576e20 {
            return Err(format!("{text:?} is longer than 10,000 years"));
        }
        let seconds = (nanos / 1e9).floor();
        Ok(Self(std::time::Duration::new(seconds as u64, ((nanos - seconds * 1e9).round() as u32).min(999_999_999))))
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation_is_understood() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            ("1h2m3s", 3_723_000_000_000),
            ("10us", 10_000),
        ] {
            assert_eq!(Duration::parse(text).unwrap().0.as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in ["", "1", "s", "-1s", "1 s", "1d", "1.2.3s", "99999999999999999h"] {
            assert!(Duration::parse(text).unwrap_err().contains(text), "{text}");
        }
    }
}
