//! Rules of a VirtualService that no request reaches (`analyzeUnreachable*Rules`). Remarks only: Istio accepts them.

use super::report::Report;
use crate::StringMatch;
use crate::networking::{HttpMatchRequest, HttpRoute, VirtualService};

pub(super) fn remarks(service: &VirtualService, report: &mut Report<'_>) {
    let http: Vec<Vec<_>> = service.http.iter().map(|route| route.r#match.iter().map(nameless).collect()).collect();
    rules(&http, "spec.http", report);
    covered_prefixes(&service.http, report);
    let tls: Vec<&[_]> = service.tls.iter().map(|route| route.r#match.as_slice()).collect();
    rules(&tls, "spec.tls", report);
    let tcp: Vec<&[_]> = service.tcp.iter().map(|route| route.r#match.as_slice()).collect();
    rules(&tcp, "spec.tcp", report);
}

/// Matches that differ only by name are equal.
fn nameless(m: &HttpMatchRequest) -> HttpMatchRequest {
    HttpMatchRequest { name: String::new(), ..m.clone() }
}

fn rules<M: PartialEq>(rules: &[impl AsRef<[M]>], at: &str, report: &mut Report<'_>) {
    let mut catch_all = None;
    for (i, matches) in rules.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let matches = matches.as_ref();
        match catch_all {
            Some(_) if matches.is_empty() => {
                report.warning(at, "rule not used (only the last rule can have no matches)")
            }
            Some(_) => report.warning(at, "rule not used (route without matches defined before)"),
            None if matches.is_empty() => catch_all = Some(i),
            None => {
                let earlier = |m: &M, n: usize| {
                    let same = rules[..i].iter().position(|rule| rule.as_ref().contains(m));
                    same.or_else(|| matches[..n].contains(m).then_some(i))
                };
                let duplicates: Vec<_> = matches.iter().enumerate().map(|(n, m)| earlier(m, n)).collect();
                for (n, duplicate) in duplicates.iter().enumerate() {
                    if let Some(rule) = duplicate {
                        let why = format!("match is not used (duplicate match in rule #{rule})");
                        report.warning(format!("{at}.match[{n}]"), why);
                    }
                }
                if duplicates.iter().all(Option::is_some) {
                    report.warning(at, "rule not used (all matches used by prior rules)");
                }
            }
        }
    }
}

/// `/api` before `/api/v2`, with otherwise equal conditions, leaves nothing for the second.
fn covered_prefixes(routes: &[HttpRoute], report: &mut Report<'_>) {
    let matches =
        routes.iter().enumerate().flat_map(|(i, route)| route.r#match.iter().enumerate().map(move |(n, m)| (i, n, m)));
    let prefixes: Vec<_> = matches
        .filter_map(|(i, n, m)| match &m.uri {
            Some(StringMatch::Prefix(prefix)) if !prefix.is_empty() => Some((i, n, m, prefix)),
            _ => None,
        })
        .collect();
    for (k, (i, n, m, prefix)) in prefixes.iter().enumerate() {
        let covers = |(_, _, earlier, shorter): &&(usize, usize, &HttpMatchRequest, &String)| {
            prefix != shorter
                && prefix.starts_with(shorter.as_str())
                && other_conditions(earlier) == other_conditions(m)
        };
        if let Some((rule, _, _, shorter)) = prefixes[..k].iter().find(covers) {
            let why = format!("match of prefix {prefix} is not used (prefix {shorter} of rule #{rule} covers it)");
            report.warning(format!("spec.http[{i}].match[{n}]"), why);
        }
    }
}

fn other_conditions(m: &HttpMatchRequest) -> HttpMatchRequest {
    HttpMatchRequest { uri: None, stat_prefix: String::new(), ..nameless(m) }
}
