//! Names and values of headers.

use super::report::Report;
use crate::networking::{HeaderOperations, Headers};

/// What header rules are about to be set on: a request may have its authority set.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Request,
    Response,
}

pub(super) fn operations(headers: &Headers, at: &str, report: &mut Report<'_>) {
    side(&headers.request, &format!("{at}.request"), Side::Request, report);
    side(&headers.response, &format!("{at}.response"), Side::Response, report);
}

fn side(operations: &HeaderOperations, at: &str, side: Side, report: &mut Report<'_>) {
    for (verb, map) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in map {
            let field = format!("{at}.{verb}.{name}");
            report.check(field.as_str(), written_name(name, side));
            report.check(field, self::value(value));
        }
    }
    for (i, name) in operations.remove.iter().enumerate() {
        report.check(format!("{at}.remove[{i}]"), written_name(name, Side::Response));
    }
}

/// The authority of a request may be written (it becomes a host rewrite); no other pseudo header, and no `Host`.
fn written_name(name: &str, side: Side) -> Result<(), String> {
    if name.is_empty() {
        return Err("header name cannot be empty".into());
    }
    if side == Side::Request && is_authority(name) {
        return Ok(());
    }
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("invalid header {name:?}: cannot set Host header"));
    }
    match name.starts_with(':') {
        true => Err(format!("invalid header {name:?}: header cannot have \":\" prefix")),
        false => Ok(()),
    }
}

pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// A header to match on: a real one, a pseudo header, or a claim of a JWT.
pub(super) fn matched_name(name: &str) -> Result<(), String> {
    const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];
    match is_jwt_claim(name) || PSEUDO.contains(&name) {
        true => Ok(()),
        false => token(name),
    }
}

/// `@request.auth.claims.group` or `@request.auth.claims[a][b]`.
pub(super) fn is_jwt_claim(name: &str) -> bool {
    name.to_ascii_lowercase()
        .strip_prefix("@request.auth.claims")
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with(['.', '[']))
}

/// A token of RFC 9110.
pub(super) fn token(name: &str) -> Result<(), String> {
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    match name {
        "" => Err("header name cannot be empty".into()),
        _ if name.bytes().all(is_token_byte) => Ok(()),
        _ => Err(format!("header name {name} is not a valid header name")),
    }
}

/// Envoy formats `%COMMANDS%` in header values, and refuses the whole route table when one does not end.
fn value(text: &str) -> Result<(), String> {
    if text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(format!("header value configuration {text:?} is invalid"));
    }
    let unterminated = || Err(format!("header value configuration: un-terminated variable expression in {text:?}"));
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        rest = &rest[start + 1..];
        if rest.is_empty() {
            return Err("header value configuration: un-escaped %".into());
        }
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        let Some(end) = rest.find(['%', '(']) else { return unterminated() };
        let is_call = rest.as_bytes()[end] == b'(';
        rest = &rest[end + 1..];
        if is_call {
            let Some(after) = arguments(rest)? else { return unterminated() };
            rest = after;
        }
    }
    Ok(())
}

/// After `%NAME(`: a JSON list of strings, or plain text up to `)`; then `%`. `None` when the text ends before.
fn arguments(text: &str) -> Result<Option<&str>, String> {
    let text = text.trim_start_matches(' ');
    let after = match text.strip_prefix('[') {
        Some(list) => match string_list(list)? {
            Some(after) => after,
            None => return Ok(None),
        },
        None => match text.find(')') {
            Some(end) => &text[end + 1..],
            None => return Ok(None),
        },
    };
    let after = after.trim_start_matches(' ');
    match after.strip_prefix('%') {
        Some(rest) => Ok(Some(rest)),
        None if after.is_empty() => Ok(None),
        None => Err("header value configuration: expecting '%' or whitespace after arguments".into()),
    }
}

/// `"a", "b"])` of a JSON list.
fn string_list(text: &str) -> Result<Option<&str>, String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(' ');
        let Some(string) = rest.strip_prefix('"') else {
            return match rest.is_empty() {
                true => Ok(None),
                false => Err("header value configuration: expecting '\"'".into()),
            };
        };
        let mut escaped = false;
        let Some(end) = string.bytes().position(|b| {
            let ends = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            ends
        }) else {
            return Ok(None);
        };
        rest = string[end + 1..].trim_start_matches(' ');
        match rest.as_bytes().first() {
            Some(b',') => rest = &rest[1..],
            Some(b']') => {
                let after = rest[1..].trim_start_matches(' ');
                return match after.strip_prefix(')') {
                    Some(after) => Ok(Some(after)),
                    None if after.is_empty() => Ok(None),
                    None => Err("header value configuration: expecting ')' after the list".into()),
                };
            }
            None => return Ok(None),
            Some(_) => return Err("header value configuration: expecting ',', ']', or whitespace".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_must_end_what_they_begin() {
        for text in ["", "foo", "100%%", "%HOSTNAME%", "a %REQ(x)% b", r#"%PER_REQUEST_STATE(["a", "b"])%"#, "a\tb"] {
            assert_eq!(value(text), Ok(()), "{text}");
        }
        for text in ["%", "abc%123", "%START_TIME%%", "%REQ(x", "%REQ(x)", r#"%A(["b)%"#, r#"%A([b])%"#, "a\nb"] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_envoy_refuses_to_write_are_refused() {
        assert!(written_name(":authority", Side::Request).is_ok());
        assert!(written_name("Host", Side::Request).is_ok());
        for (name, side) in [(":path", Side::Request), ("host", Side::Response), (":status", Side::Response)] {
            assert!(written_name(name, side).is_err(), "{name}");
        }
    }

    #[test]
    fn claims_of_a_token_may_be_matched() {
        for name in ["x-user", ":method", "@request.auth.claims.group", "@request.auth.claims[a][b]"] {
            assert!(matched_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", ":nope", "@request.auth.claims"] {
            assert!(matched_name(name).is_err(), "{name}");
        }
    }
}
