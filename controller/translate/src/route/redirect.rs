//! Answers that Envoy gives itself: redirects and direct responses (`ApplyRedirect`, `ApplyDirectResponse`).

use super::note::{Flaw, header_text};
use crds::networking::{HttpDirectResponse, HttpRedirect, RedirectPortSelection};
use xds::envoy::core::data_source::Specifier;
use xds::envoy::route::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use xds::envoy::{DataSource, DirectResponseAction, RedirectAction};

/// Istio's limit; Envoy's own default is 4 KiB.
pub(super) const BODY_BYTES_MAX: u32 = 1 << 20;

/// `port` and `scheme`: of the listener.
pub(super) fn redirect_action(
    from: &HttpRedirect,
    port: u16,
    scheme: &str,
    field: &str,
) -> Result<RedirectAction, Flaw> {
    let text = |value: &str, key: &str| header_text(value, &format!("{field}.{key}")).map(str::to_owned);
    let path = match from.prefix_rewrite.as_str() {
        "" => PathRewriteSpecifier::PathRedirect(text(&from.uri, "uri")?),
        prefix => PathRewriteSpecifier::PrefixRewrite(text(prefix, "prefixRewrite")?),
    };
    let code = match from.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        other => {
            let why = format!("{other} is none of 301, 302, 303, 307 and 308");
            return Err(Flaw::invalid(format!("{field}.redirectCode"), why));
        }
    };
    let scheme_redirect = match from.scheme.as_str() {
        "" => None,
        scheme => Some(SchemeRewriteSpecifier::SchemeRedirect(text(scheme, "scheme")?)),
    };
    Ok(RedirectAction {
        host_redirect: text(&from.authority, "authority")?,
        port_redirect: port_redirect(from, port, scheme, field)?,
        response_code: code.into(),
        path_rewrite_specifier: Some(path),
        scheme_rewrite_specifier: scheme_redirect,
        ..RedirectAction::default()
    })
}

/// 0: as the request. The usual ports of `http` and `https` are not written.
fn port_redirect(from: &HttpRedirect, listener: u16, scheme: &str, field: &str) -> Result<u32, Flaw> {
    let port = match (from.port, from.derive_port) {
        (Some(port), _) if port > u32::from(u16::MAX) => {
            return Err(Flaw::invalid(format!("{field}.port"), format!("{port} is not a port")));
        }
        (Some(port), _) => port,
        // Envoy cannot tell the request's port, but the listener's is the same.
        (None, Some(RedirectPortSelection::FromRequestPort)) => listener.into(),
        (None, Some(RedirectPortSelection::FromProtocolDefault) | None) => 0,
    };
    let scheme = if from.scheme.is_empty() { scheme } else { &from.scheme };
    Ok(match (port, scheme) {
        (80, "http") | (443, "https") => 0,
        _ => port,
    })
}

pub(super) fn direct_response(from: &HttpDirectResponse, field: &str) -> Result<DirectResponseAction, Flaw> {
    if !(200..600).contains(&from.status) {
        let why = format!("{} is not a status from 200 to 599", from.status);
        return Err(Flaw::invalid(format!("{field}.status"), why));
    }
    let body = from.body.as_ref().and_then(|it| match (&it.string, &it.bytes) {
        (Some(text), _) => Some(Ok(Specifier::InlineString(text.clone()))),
        (None, Some(bytes)) => Some(match decode_base64(bytes) {
            Some(bytes) => Ok(Specifier::InlineBytes(bytes)),
            None => Err(Flaw::invalid(format!("{field}.body.bytes"), "not base64")),
        }),
        (None, None) => None,
    });
    let body = body.transpose()?;
    let size = match &body {
        Some(Specifier::InlineString(text)) => text.len(),
        Some(Specifier::InlineBytes(bytes)) => bytes.len(),
        _ => 0,
    };
    if size > BODY_BYTES_MAX as usize {
        let why = format!("the body has {size} bytes, the limit is {BODY_BYTES_MAX}");
        return Err(Flaw::invalid(format!("{field}.body"), why));
    }
    let body = body.map(|specifier| DataSource { specifier: Some(specifier), ..DataSource::default() });
    Ok(DirectResponseAction { status: from.status, body, ..DirectResponseAction::default() })
}

/// The standard and the URL-safe alphabet, as proto-JSON accepts both; padding may be missing.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // A rest of six bits is half a byte that nobody wrote.
    (count < 6).then_some(bytes)
}
