use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::GrpcRouteMatchOptions;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{MetadataMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Int64Range};

use super::*;

/// Whether a route with these matchers takes the call.
fn hits(matches: RouteMatch, call: &Call) -> bool {
    let routes = vec![route_named("hit", matches), route_named("miss", prefix(""))];
    let decision = decide_http(any_host(routes), call);
    assert!(decision.cluster().is_some(), "{}", decision.explain());
    decision.cluster() == Some("hit")
}

fn with_header(matcher: HeaderMatcher) -> RouteMatch {
    RouteMatch { headers: vec![matcher], ..prefix("/") }
}

fn string(pattern: MatchPattern, ignore_case: bool) -> HeaderMatchSpecifier {
    HeaderMatchSpecifier::StringMatch(StringMatcher { ignore_case, match_pattern: Some(pattern) })
}

#[test]
fn safe_regex_matches_the_whole_path_without_query() {
    for (pattern, path, wanted) in [
        ("/a", "/a", true),
        ("/a", "/ab", false),
        ("/a|/b", "/b", true),
        ("/a|/b", "/bc", false),
        ("/a", "/a?b=c", true),
        (".*", "/x/y", true),
        ("/A", "/a", false),
        ("(?i)/A", "/a", true),
    ] {
        assert_eq!(
            hits(matching(PathSpecifier::SafeRegex(regex(pattern))), &call("h", path)),
            wanted,
            "{pattern} {path}"
        );
    }
}

#[test]
#[allow(deprecated)] // safe_regex_match is what EnvoyFilters still write
fn safe_regex_classes_are_ascii_as_in_re2() {
    for (pattern, value, wanted) in [
        (r"\d+", "42", true),
        (r"\d+", "٤٢", false),
        (r"\w+", "a_9", true),
        (r"\w+", "é", false),
        (r"\W", "é", true),
        (r"[\d_]+", "4_2", true),
        (r"[^\d]", "٤", true),
        (r"a\sb", "a b", true),
        (r"a\sb", "a\u{a0}b", false),
        (r".", "é", true),
        (r"é\b.*", "é!", false),
        // RE2 has no nested classes or set operations: these are plain characters.
        (r"[a&&b]+", "a&b", true),
        (r"[[a]+", "[a", true),
        (r"[]a]+", "]a", true),
        (r"[[:alpha:]]+", "ab", true),
        (r"\[a\]", "[a]", true),
    ] {
        let matcher = header("x", HeaderMatchSpecifier::SafeRegexMatch(regex(pattern)));
        assert_eq!(hits(with_header(matcher), &call("h", "/").header("x", value)), wanted, "{pattern} {value}");
    }
}

#[test]
fn empty_regex_is_rejected_and_re2_only_syntax_is_not_guessed() {
    let decided = |pattern: &str| {
        let route = route_named("hit", matching(PathSpecifier::SafeRegex(regex(pattern))));
        decide_http(any_host(vec![route]), &call("h", "/"))
    };
    assert!(is_rejected(&decided("")));
    assert!(is_unsupported(&decided(r"\Q/a.b\E")));
}

#[test]
#[allow(deprecated)] // all kinds, the old ones too
fn header_kinds() {
    use HeaderMatchSpecifier as Is;
    let safe = |pattern: &str| string(MatchPattern::SafeRegex(regex(pattern)), true);
    for (specifier, value, wanted) in [
        (Is::ExactMatch("v".into()), "v", true),
        (Is::ExactMatch("v".into()), "V", false),
        // An empty exact value asks for presence only.
        (Is::ExactMatch(String::new()), "v", true),
        (Is::PrefixMatch("v".into()), "vw", true),
        (Is::SuffixMatch("w".into()), "vw", true),
        (Is::ContainsMatch("x".into()), "vw", false),
        (Is::RangeMatch(Int64Range { start: 1, end: 10 }), "1", true),
        (Is::RangeMatch(Int64Range { start: 1, end: 10 }), "10", false),
        (Is::RangeMatch(Int64Range { start: -10, end: 0 }), "-1", true),
        (Is::RangeMatch(Int64Range { start: 1, end: 10 }), "5x", false),
        (Is::PresentMatch(true), "v", true),
        (Is::PresentMatch(false), "v", false),
        (string(MatchPattern::Exact("V".into()), true), "v", true),
        (string(MatchPattern::Exact("V".into()), false), "v", false),
        (string(MatchPattern::Exact(String::new()), false), "v", false),
        (string(MatchPattern::Prefix("AB".into()), true), "abc", true),
        (string(MatchPattern::Suffix("BC".into()), true), "abc", true),
        (string(MatchPattern::Contains("B".into()), true), "abc", true),
        // ignore_case says nothing to a regex, which matches in full.
        (safe("A.*"), "abc", false),
        (safe("a"), "abc", false),
    ] {
        let told = format!("{specifier:?} {value}");
        assert_eq!(hits(with_header(header("X-H", specifier)), &call("h", "/").header("x-h", value)), wanted, "{told}");
    }
}

#[test]
fn missing_header_fails_even_an_inverted_match() {
    let exact = || string(MatchPattern::Exact("v".into()), false);
    let empty = || string(MatchPattern::Exact(String::new()), false);
    let present = HeaderMatchSpecifier::PresentMatch;
    // specifier, invert, treat missing as empty, header given, matches
    for (specifier, invert_match, treat_missing_header_as_empty, value, wanted) in [
        (exact(), false, false, None, false),
        (exact(), true, false, None, false),
        (exact(), true, true, None, true),
        (empty(), false, true, None, true),
        (exact(), true, false, Some("w"), true),
        (exact(), true, false, Some("v"), false),
        (present(true), false, false, None, false),
        (present(true), true, false, None, true),
        (present(false), false, false, None, true),
        (present(false), true, false, None, false),
        (present(false), false, false, Some("v"), false),
        (present(false), true, false, Some("v"), true),
        (present(true), false, true, None, true),
    ] {
        let told = format!("{specifier:?} invert {invert_match} empty {treat_missing_header_as_empty} {value:?}");
        let matcher = HeaderMatcher { invert_match, treat_missing_header_as_empty, ..header("x", specifier) };
        let call = call("h", "/");
        let call = match value {
            Some(value) => call.header("x", value),
            None => call,
        };
        assert_eq!(hits(with_header(matcher), &call), wanted, "{told}");
    }
}

#[test]
fn multi_value_headers_are_joined_by_a_comma() {
    let call = call("h", "/").header("x", "a").header("X", "b");
    for (value, wanted) in [("a,b", true), ("a, b", false), ("a", false), ("b", false)] {
        let matcher = header("x", string(MatchPattern::Exact(value.into()), false));
        assert_eq!(hits(with_header(matcher), &call), wanted, "{value}");
    }
}

#[test]
fn pseudo_headers_match() {
    for (name, value) in [
        (":authority", "h:80"),
        ("host", "h:80"),
        (":method", "GET"),
        (":path", "/p?q=1"),
        (":scheme", "http"),
        ("x-forwarded-proto", "http"),
    ] {
        let matcher = header(name, string(MatchPattern::Exact(value.into()), false));
        assert!(hits(with_header(matcher), &call("h:80", "/p?q=1")), "{name}");
    }
}

#[test]
fn headers_that_envoy_writes_must_be_stated() {
    let matches = || with_header(header("x-request-id", HeaderMatchSpecifier::PresentMatch(true)));
    assert!(is_unsupported(&decide_http(any_host(vec![route_named("hit", matches())]), &call("h", "/"))));
    assert!(hits(matches(), &call("h", "/").header("x-request-id", "1")));
}

#[test]
fn query_parameters_match_their_first_undecoded_value() {
    let exact = |value: &str| {
        let pattern = Some(MatchPattern::Exact(value.into()));
        Some(QueryParameterMatchSpecifier::StringMatch(StringMatcher { ignore_case: false, match_pattern: pattern }))
    };
    let present = |wanted: bool| Some(QueryParameterMatchSpecifier::PresentMatch(wanted));
    for (specifier, path, wanted) in [
        (exact("1"), "/?q=1", true),
        (exact("1"), "/?p=2&q=1&q=2", true),
        (exact("2"), "/?q=1&q=2", false),
        (exact("a b"), "/?q=a%20b", false),
        (exact("a%20b"), "/?q=a%20b", true),
        (exact("1"), "/?Q=1", false),
        (exact(""), "/?q", true),
        (exact("1"), "/", false),
        (present(true), "/?q", true),
        (present(true), "/?r", false),
        (present(false), "/?r", true),
        (None, "/?q=", true),
    ] {
        let told = format!("{specifier:?} {path}");
        let matcher = QueryParameterMatcher { name: "q".into(), query_parameter_match_specifier: specifier };
        let matches = RouteMatch { query_parameters: vec![matcher], ..prefix("/") };
        assert_eq!(hits(matches, &call("h", path)), wanted, "{told}");
    }
}

#[test]
fn runtime_fraction_counts_numerator_over_denominator() {
    for (numerator, denominator, roll, wanted) in [
        (50, DenominatorType::Hundred, 0.499, true),
        (50, DenominatorType::Hundred, 0.5, false),
        (0, DenominatorType::Hundred, 0.0, false),
        (100, DenominatorType::Hundred, 0.999_999, true),
        (1, DenominatorType::Million, 0.000_000_5, true),
        (1, DenominatorType::Million, 0.000_001_5, false),
    ] {
        let default_value = Some(FractionalPercent { numerator, denominator: denominator as i32 });
        let runtime_fraction = Some(RuntimeFractionalPercent { default_value, runtime_key: String::new() });
        let matches = RouteMatch { runtime_fraction, ..prefix("/") };
        assert_eq!(hits(matches, &call("h", "/").roll(roll)), wanted, "{numerator} {denominator:?} {roll}");
    }
}

#[test]
fn grpc_is_told_by_content_type() {
    for (kind, wanted) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("text/plain", false),
    ] {
        let matches = RouteMatch { grpc: Some(GrpcRouteMatchOptions {}), ..prefix("/") };
        assert_eq!(hits(matches, &call("h", "/").header("content-type", kind)), wanted, "{kind}");
    }
}

#[test]
fn unmodelled_matchers_count_only_if_all_others_hold() {
    let matches = |path: &str| RouteMatch { dynamic_metadata: vec![MetadataMatcher::default()], ..prefix(path) };
    let decided = |path: &str| {
        let routes = vec![route_named("hit", matches(path)), route_named("miss", prefix("/"))];
        decide_http(any_host(routes), &call("h", "/a"))
    };
    assert_eq!(decided("/b").cluster(), Some("miss"));
    assert!(is_unsupported(&decided("/a")));
}
