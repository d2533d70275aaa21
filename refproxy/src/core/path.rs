//! Request targets: their query, and the clean-ups that the connection manager makes before it routes.

use super::outcome::{Outcome, Stop, unsupported};

/// A target without its query and fragment.
pub(super) fn without_query(target: &str) -> &str {
    &target[..target.find(['?', '#']).unwrap_or(target.len())]
}

/// The first value of a query parameter, as it is written.
pub(super) fn query_parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    query
        .split('&')
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// What `path_with_escaped_slashes_action` does about `%2F` and `%5C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EscapedSlashes {
    Keep,
    Reject,
    Redirect,
    Forward,
}

/// Un-escapes slashes in the path. A redirect goes to the cleaned target, with 307.
pub(super) fn escaped_slashes(target: &str, action: EscapedSlashes) -> Result<String, Stop> {
    let path = without_query(target);
    let clean = ["%2F", "%2f"].iter().fold(path.to_owned(), |path, escaped| path.replace(escaped, "/"));
    let clean = ["%5C", "%5c"].iter().fold(clean, |path, escaped| path.replace(escaped, "\\"));
    if clean == path {
        return Ok(target.to_owned());
    }
    let cleaned = format!("{clean}{}", &target[path.len()..]);
    match action {
        EscapedSlashes::Keep => Ok(target.to_owned()),
        EscapedSlashes::Reject => Err(Outcome::DirectResponse { status: 400, body: String::new() }.into()),
        EscapedSlashes::Redirect => Err(Outcome::Redirect { code: 307, location: cleaned }.into()),
        EscapedSlashes::Forward => Ok(cleaned),
    }
}

/// `normalize_path`: dot segments, backslashes and needless percent-encoding, as RFC 3986 section 6 and Chromium have it.
pub(super) fn normalized(target: &str) -> Result<String, Stop> {
    let path = without_query(target);
    if !path.starts_with('/') {
        // `OPTIONS *` and the like: Envoy's answer is not documented.
        return Err(unsupported(format!("normalize_path: {path:?} is not an absolute path")));
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic() || b"\"<>^`{|}".contains(&byte)) {
        return Err(unsupported(format!("normalize_path: characters to encode in {path:?}")));
    }
    let decoded = decode_unreserved(path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let last = decoded.rsplit('/').next().unwrap_or_default();
    for segment in decoded.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    // A path that ends in a dot segment is a directory.
    if matches!(last, "." | "..") {
        segments.push("");
    }
    Ok(format!("/{}{}", segments.join("/"), &target[path.len()..]))
}

/// `%41` is `A`, but `%2F` stays what it is.
fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.map(char::from) {
            Some(char) if char.is_ascii_alphanumeric() || "-._~".contains(char) => {
                out.push(char);
                rest = &rest[at + 3..];
            }
            _ => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `merge_slashes`, in the path only.
pub(super) fn merged_slashes(target: &str) -> String {
    let path = without_query(target);
    let mut merged = String::with_capacity(target.len());
    for char in path.chars() {
        if char != '/' || !merged.ends_with('/') {
            merged.push(char);
        }
    }
    merged + &target[path.len()..]
}
