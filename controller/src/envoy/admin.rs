//! What an Envoy's admin interface tells: whether it is ready, and how many requests went to which subset.

use crate::client::Client;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The destination of a cluster named in Istio's way: `outbound|9080|v1|reviews.default.svc.cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    pub host: String,
    pub port: u16,
    /// Empty: the whole service.
    pub subset: String,
}

/// Requests completed, since the Envoy started.
pub type Requests = BTreeMap<Destination, u64>;

/// Whether the server is LIVE: it has its first clusters and listeners.
pub async fn is_ready(client: &Client, admin: SocketAddr) -> bool {
    get(client, admin, "/ready").await.is_ok()
}

/// Requests by destination, of all outbound clusters that had any.
pub async fn outbound_requests(client: &Client, admin: SocketAddr) -> Result<Requests> {
    let text =
        get(client, admin, "/stats?usedonly&filter=%5Ecluster%5C.outbound.*%5C.upstream_rq_completed%24").await?;
    Ok(parse_requests(&text))
}

/// Lines `cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_completed: 12`; the `;` ends
/// Istio's `alt_stat_name` and may be missing.
pub fn parse_requests(text: &str) -> Requests {
    let mut requests = Requests::new();
    for line in text.lines() {
        let Some((name, value)) = line.rsplit_once(": ") else { continue };
        let Some(cluster) = name.strip_prefix("cluster.").and_then(|it| it.strip_suffix(".upstream_rq_completed"))
        else {
            continue;
        };
        // `….external` and `….internal` are parts of the same sum.
        let (cluster, part) = cluster.split_once(';').unwrap_or((cluster, ""));
        if part.is_empty()
            && let (Some(destination), Ok(value)) = (Destination::parse(cluster), value.parse::<u64>())
        {
            *requests.entry(destination).or_default() += value;
        }
    }
    requests
}

impl Destination {
    /// Reads an outbound cluster's name; other clusters are no destination.
    pub fn parse(cluster: &str) -> Option<Self> {
        let mut parts = cluster.splitn(4, '|');
        if parts.next()? != "outbound" {
            return None;
        }
        let (port, subset, host) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        Some(Self { host: host.to_owned(), port, subset: subset.to_owned() })
    }
}

async fn get(client: &Client, admin: SocketAddr, path: &str) -> Result<String> {
    let response = client.get(&format!("http://{admin}{path}"), &http::HeaderMap::new()).await?;
    if !response.status().is_success() {
        bail!("{admin}{path} answered {}", response.status());
    }
    Ok(response.into_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_by_destination_and_other_stats_passed_over() {
        let text = "cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_completed: 12\n\
                    cluster.outbound|9080|v2|reviews.default.svc.cluster.local.upstream_rq_completed: 3\n\
                    cluster.outbound|9080||details.default.svc.cluster.local;.upstream_rq_completed: 7\n\
                    cluster.outbound|9080||details.default.svc.cluster.local;.external.upstream_rq_completed: 7\n\
                    cluster.inbound|9080||;.upstream_rq_completed: 5\n\
                    cluster.outbound|nonsense;.upstream_rq_completed: 5\n\
                    cluster.xds-grpc.upstream_rq_completed: 1\n";
        let at = |host: &str, subset: &str| Destination {
            host: format!("{host}.default.svc.cluster.local"),
            port: 9080,
            subset: subset.to_owned(),
        };
        assert_eq!(
            parse_requests(text),
            Requests::from([(at("reviews", "v1"), 12), (at("reviews", "v2"), 3), (at("details", ""), 7)])
        );
    }
}
