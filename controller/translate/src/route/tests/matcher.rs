//! `http[].match[]`.

use super::*;

/// Each case: one match, and a part of Envoy's.
#[track_caller]
fn assert_matches<const N: usize>(cases: [(Value, Value); N]) {
    for (from, expected) in cases {
        assert_part(&route(json!({"match": [from]}))["match"], &expected, &from.to_string());
    }
}

#[test]
fn without_match_every_request_is_taken() {
    assert_eq!(route(json!({}))["match"], json!({"prefix": "/"}));
}

#[test]
fn uri() {
    assert_matches([
        (json!({"uri": {"exact": "/a"}}), json!({"path": "/a", "prefix": null, "caseSensitive": true})),
        (json!({"uri": {"prefix": "/a/"}}), json!({"prefix": "/a/"})),
        (json!({"uri": {"regex": "/a.*"}}), json!({"safeRegex": {"regex": "/a.*"}})),
        (json!({"uri": {}}), json!({"prefix": "/"})),
    ]);
}

#[test]
fn ignore_uri_case() {
    assert_matches([
        (json!({"uri": {"exact": "/a"}, "ignoreUriCase": true}), json!({"path": "/a", "caseSensitive": false})),
        (json!({"name": "x"}), json!({"caseSensitive": true})),
    ]);
}

#[test]
fn method_authority_and_scheme_are_pseudo_headers_after_the_others() {
    assert_matches([(
        json!({
            "scheme": {"exact": "https"}, "authority": {"prefix": "a."}, "method": {"regex": "GET|PUT"},
            "headers": {"z": {"exact": "1"}},
        }),
        json!({"headers": [
            {"name": "z", "stringMatch": {"exact": "1"}},
            {"name": ":method", "stringMatch": {"safeRegex": {"regex": "GET|PUT"}}},
            {"name": ":authority", "stringMatch": {"prefix": "a."}},
            {"name": ":scheme", "stringMatch": {"exact": "https"}},
        ]}),
    )]);
}

#[test]
fn headers_and_without_headers() {
    assert_matches([
        (
            json!({"headers": {"a": {"prefix": "x"}}}),
            json!({"headers": [{"name": "a", "stringMatch": {"prefix": "x"}}]}),
        ),
        (json!({"headers": {"a": {}}}), json!({"headers": [{"name": "a", "presentMatch": true}]})),
        (json!({"headers": {"a": {"regex": "*"}}}), json!({"headers": [{"name": "a", "presentMatch": true}]})),
        (
            json!({"headers": {"b": {"exact": "1"}}, "withoutHeaders": {"a": {"exact": "2"}, "c": {}}}),
            json!({"headers": [
                {"name": "a", "invertMatch": true, "treatMissingHeaderAsEmpty": true, "stringMatch": {"exact": "2"}},
                {"name": "b", "invertMatch": null, "treatMissingHeaderAsEmpty": null},
                {"name": "c", "invertMatch": true, "treatMissingHeaderAsEmpty": null, "presentMatch": true},
            ]}),
        ),
    ]);
}

#[test]
fn headers_that_mean_claims() {
    let path = |keys: &[&str]| keys.iter().map(|key| json!({"key": key})).collect::<Vec<_>>();
    let filter = "envoy.filters.http.jwt_authn";
    let text = json!({"stringMatch": {"exact": "x"}});
    let value = json!({"orMatch": {"valueMatchers": [{"listMatch": {"oneOf": text}}, text]}});
    assert_matches([
        (
            json!({"headers": {"@request.auth.claims.group.id": {"exact": "x"}}}),
            json!({"headers": null, "dynamicMetadata": [
                {"filter": filter, "path": path(&["payload", "group", "id"]), "value": value, "invert": null},
            ]}),
        ),
        (
            json!({"withoutHeaders": {"@request.auth.claims[a.b][id]": {}}}),
            json!({"headers": null, "dynamicMetadata": [
                {"path": path(&["payload", "a.b", "id"]), "value": {"presentMatch": true}, "invert": true},
            ]}),
        ),
        (json!({"headers": {"@request.auth.claims": {}}}), json!({"headers": [{"name": "@request.auth.claims"}]})),
    ]);
}

#[test]
fn query_params() {
    assert_matches([(
        json!({"queryParams": {"b": {}, "a": {"exact": "1"}, "c": {"regex": "x+"}}}),
        json!({"queryParameters": [
            {"name": "a", "stringMatch": {"exact": "1"}},
            {"name": "b", "presentMatch": true},
            {"name": "c", "stringMatch": {"safeRegex": {"regex": "x+"}}},
        ]}),
    )]);
}

#[test]
fn name_and_stat_prefix() {
    assert_routes([
        (json!({"name": "r"}), json!({"name": "r", "statPrefix": null})),
        (json!({"name": "r", "match": [{"name": "m", "statPrefix": "s"}]}), json!({"name": "r.m", "statPrefix": "s"})),
        (json!({"name": "r", "match": [{}]}), json!({"name": "r"})),
    ]);
}

/// How many routes a match makes for a client of `books` with label `app: web` on port 9080.
#[track_caller]
fn assert_applies(from: Value, applies: bool) {
    let http = json!([{"match": [from], "route": [{"destination": {"host": "reviews"}}]}]);
    assert_eq!(!Mesh::new().routes(&http).0.is_empty(), applies, "{from}");
}

#[test]
fn port() {
    assert_applies(json!({"port": 9080}), true);
    assert_applies(json!({"port": 80}), false);
}

#[test]
fn source_labels_and_source_namespace() {
    for (from, applies) in [
        (json!({"sourceLabels": {"app": "web"}}), true),
        (json!({"sourceLabels": {"app": "x"}}), false),
        (json!({"sourceLabels": {"app": "web", "version": "1"}}), false),
        (json!({"sourceNamespace": "books"}), true),
        (json!({"sourceNamespace": "other"}), false),
        (json!({"sourceNamespace": "other", "sourceLabels": {"app": "web"}}), false),
    ] {
        assert_applies(from, applies);
    }
}

#[test]
fn gateways_replace_the_question_about_the_source() {
    for (from, applies) in [
        (json!({"gateways": ["mesh"]}), true),
        (json!({"gateways": ["edge"]}), false),
        (json!({"gateways": ["edge", "mesh"], "sourceLabels": {"app": "x"}}), true),
    ] {
        assert_applies(from, applies);
    }
}
