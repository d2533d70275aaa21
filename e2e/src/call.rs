//! Call tables: who calls what, and where Envoy takes it, one call and its answer after the other.
//!
//! ```text
//! # jason sees the stars
//! outbound 10.96.0.7:9080 GET http://reviews:9080/0 end-user:jason
//!   -> 0.0.0.0_9080 / 0.0.0.0_9080 / 9080 / reviews.default.svc.cluster.local:9080 / jason
//!   -> cluster outbound|9080|v2|reviews.default.svc.cluster.local (10.1.0.2:9080)
//! ```
//!
//! A call is `outbound`, `inbound` (captured by iptables) or `direct` (a gateway's port, or a listener that binds
//! its own), an address, and any of: `METHOD URL`, `header:value`, `from=IP`, `tls=SNI`, `tls` (no SNI), `alpn=a,b`,
//! `h2`, `roll=0.5` (Envoy's random number, for weights), `peer=URI` (the client's certificate). The answer is the
//! oracle's, indented; endpoints that Envoy speaks TLS to are marked so.

use refproxy::core::{At, Call, Config, Decision, Endpoint, HeaderMutation, Outcome, Request, decide};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Istio's retries for a route that sets none: not worth a line.
const RETRIES_DEFAULT: (u32, &str) = (2, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");

/// Filters that every HTTP chain has and that do nothing unless a route says so.
const IDLE_FILTERS: [&str; 2] = ["envoy.filters.http.fault", "envoy.filters.http.cors"];

/// More than one screen of endpoints says no more than their number.
const ENDPOINTS_SHOWN_MAX: usize = 6;

/// The table with every answer written anew.
///
/// # Errors
/// A call that cannot be read, with its line.
pub fn answered(table: &str, config: &Config) -> Result<String, String> {
    let mut out = String::new();
    for (at, line) in table.lines().enumerate() {
        if line.starts_with(' ') {
            continue;
        }
        _ = writeln!(out, "{}", line.trim_end());
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let call = call(line).map_err(|why| format!("line {}: {why}: {line}", at + 1))?;
        out.push_str(&answer(&call, &decide(config, &call)));
    }
    Ok(out)
}

/// How many calls a table has.
pub fn count(table: &str) -> usize {
    table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with([' ', '#'])).count()
}

/// Reads one call.
///
/// # Errors
/// What is wrong with it, in words.
pub fn call(line: &str) -> Result<Call, String> {
    let mut words = line.split_whitespace();
    let mut word = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    let (direction, address) = (word("the direction")?, word("the address")?);
    if address.parse::<std::net::SocketAddr>().is_err() {
        return Err(format!("{address:?} is no ip:port"));
    }
    let mut call = match direction {
        "outbound" => Call::outbound(address),
        "inbound" => Call::inbound(address),
        "direct" => Call::direct(address),
        other => return Err(format!("{other:?} is none of outbound, inbound, direct")),
    };
    let (mut sni, mut alpn, mut peer) = (None, vec![], None);
    while let Some(word) = words.next() {
        if word.chars().all(|it| it.is_ascii_uppercase()) {
            let url = words.next().unwrap_or_default();
            call = call.request(request(word, url)?);
        } else if let Some((key, value)) = word.split_once('=').filter(|(key, _)| !key.contains(':')) {
            call = match key {
                "from" => call.from(value.parse().map_err(|_| format!("{value:?} is no address"))?),
                "roll" => call.roll(value.parse().map_err(|_| format!("{value:?} is no number"))?),
                "tls" => {
                    sni = Some(value);
                    call
                }
                "peer" => {
                    peer = Some(value);
                    call
                }
                "alpn" => {
                    alpn = value.split(',').collect();
                    call
                }
                other => return Err(format!("{other:?} has no meaning")),
            };
        } else if let Some((name, value)) = word.split_once(':') {
            call = call.header(name, value);
        } else {
            match word {
                "tls" => sni = Some(""),
                "h2" => call = call.h2(),
                other => return Err(format!("{other:?} has no meaning")),
            }
        }
    }
    let call = match sni {
        Some(sni) => call.tls(sni, &alpn),
        None => call,
    };
    Ok(match peer {
        Some(peer) => call.peer(peer),
        None => call,
    })
}

fn request(method: &str, url: &str) -> Result<Request, String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| format!("{url:?} is no URL"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    Ok(Request::new(method, authority, path))
}

fn answer(call: &Call, decision: &Decision) -> String {
    let At { listener, filter_chain, route_configuration, virtual_host, route, gates } = &decision.at;
    let places = [listener, filter_chain, route_configuration, virtual_host, route];
    let passed: Vec<&str> = places.into_iter().flatten().map(String::as_str).collect();
    let mut out = String::new();
    if !passed.is_empty() {
        _ = writeln!(out, "  -> {}", passed.join(" / "));
    }
    _ = writeln!(out, "  -> {}{}", decision.outcome, endpoints(&decision.outcome));
    for gate in gates.iter().filter(|it| !IDLE_FILTERS.contains(&it.as_str())) {
        _ = writeln!(out, "     through {gate}");
    }
    let names: BTreeSet<&String> =
        decision.forward().into_iter().flat_map(|it| &it.endpoints).filter_map(|it| it.tls.as_ref()).collect();
    for name in names {
        _ = writeln!(out, "     tls to {name}");
    }
    for line in changes(call, decision) {
        _ = writeln!(out, "     {line}");
    }
    out
}

fn endpoints(outcome: &Outcome) -> String {
    let Outcome::Cluster(forward) = outcome else { return String::new() };
    match forward.endpoints.len() {
        0 => " (no endpoint)".to_owned(),
        many if many > ENDPOINTS_SHOWN_MAX => format!(" ({many} endpoints)"),
        _ => {
            let mark = |it: &Endpoint| if it.tls.is_some() { " tls" } else { "" };
            let shown: Vec<String> = forward.endpoints.iter().map(|it| format!("{}{}", it.address, mark(it))).collect();
            format!(" ({})", shown.join(", "))
        }
    }
}

/// What happens to the request on its way, apart from where it goes, and apart from what happens to every request.
fn changes(call: &Call, decision: &Decision) -> Vec<String> {
    let (Some(forward), Some(request)) = (decision.forward(), &call.request) else { return vec![] };
    let mut lines = vec![];
    let (before, after) =
        (format!("{}{}", request.authority, request.path), format!("{}{}", forward.host, forward.path));
    if !forward.path.is_empty() && before != after {
        lines.push(format!("as {after}"));
    }
    if let Some(timeout) = forward.timeout {
        lines.push(format!("timeout {timeout:?}"));
    }
    let retries = forward.retries.as_ref().map(|it| (it.num_retries.map_or(1, |it| it.value), it.retry_on.as_str()));
    match retries {
        Some(RETRIES_DEFAULT) => {}
        Some((attempts, on)) => lines.push(format!("{attempts} retries on {on}")),
        None if forward.path.is_empty() => {}
        None => lines.push("no retries".to_owned()),
    }
    lines.extend(forward.mirrors.iter().map(|it| format!("mirrored to {} ({} ppm)", it.cluster, it.parts_per_million)));
    let header = |of: &str, it: &HeaderMutation| match it {
        HeaderMutation::Remove(name) => format!("{of} - {name}"),
        HeaderMutation::Add { name, value, action } => format!("{of} + {name}: {value} ({})", action.as_str_name()),
    };
    lines.extend(forward.request_headers.iter().map(|it| header("request", it)));
    lines.extend(forward.response_headers.iter().map(|it| header("response", it)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_word_by_word() {
        let line = "outbound 10.0.0.1:80 GET http://a:80/b?c=d end-user:jason x:y=z from=10.0.0.9 tls=A.example alpn=h2,istio roll=0.5 peer=spiffe://x";
        let expected = Call::outbound("10.0.0.1:80")
            .get("a:80", "/b?c=d")
            .header("end-user", "jason")
            .header("x", "y=z")
            .from([10, 0, 0, 9].into())
            .tls("a.example", &["h2", "istio"])
            .roll(0.5)
            .peer("spiffe://x");
        assert_eq!(call(line).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_read_is_explained_with_its_line() {
        for (line, why) in [
            ("", "the direction is missing"),
            ("outbound", "the address is missing"),
            ("sideways 10.0.0.1:80", "none of outbound"),
            ("outbound reviews:80", "no ip:port"),
            ("outbound 10.0.0.1:80 GET reviews", "no URL"),
            ("outbound 10.0.0.1:80 loudly", "no meaning"),
        ] {
            let error = call(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let error = answered("# fine\n\noutbound x\n", &Config::default()).unwrap_err();
        assert!(error.starts_with("line 3: "), "{error}");
    }

    #[test]
    fn answers_are_replaced_and_everything_else_stays() {
        let table = "# nothing listens\noutbound 10.0.0.1:80\n  -> something old\n\n# end\n";
        let expected = "# nothing listens\noutbound 10.0.0.1:80\n  -> no listener\n\n# end\n";
        assert_eq!(answered(table, &Config::default()).unwrap(), expected);
    }
}
