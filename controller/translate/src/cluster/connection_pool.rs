//! `connectionPool` and `retryBudget`: timeouts, keepalive, circuit breakers, limits of HTTP connections.

use super::http_protocol::{HttpProtocol, wants_common};
use super::remark::Remarks;
use crate::message;
use crds::mesh_config::MeshConfig;
use crds::networking::{Http2KeepAlive, HttpSettings, RetryBudget, TcpKeepalive, TcpSettings};
use crds::{Duration, Reason};
use model::traffic_policy::{Origin, Policy};
use xds::envoy::cluster::{UpstreamConnectionOptions, circuit_breakers as breakers};
use xds::envoy::{self, CircuitBreakers, Cluster, KeepaliveSettings};

pub(super) fn apply(
    cluster: &mut Cluster,
    protocol: &mut HttpProtocol,
    policy: &Policy<'_>,
    mesh: &MeshConfig,
    remarks: &mut Remarks<'_>,
) {
    let tcp = policy.connection_pool.and_then(|it| it.tcp.as_ref());
    let http = policy.connection_pool.and_then(|it| it.http.as_ref());
    let origin = policy.origins.connection_pool;
    cluster.connect_timeout = connect_timeout(tcp, mesh, origin, remarks);
    cluster.upstream_connection_options = connection_options(tcp, mesh);
    let mut thresholds = thresholds(tcp, http);
    thresholds.retry_budget = policy.retry_budget.map(|it| retry_budget(it, policy.origins.retry_budget, remarks));
    cluster.circuit_breakers = Some(CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
    http_options(protocol, tcp, http, origin, remarks);
}

/// The parts that do not belong to HTTP, as the mesh's default has them.
pub(super) fn apply_defaults(cluster: &mut Cluster, mesh: &MeshConfig) {
    let pool = mesh.default_traffic_policy.connection_pool.as_ref();
    let (tcp, http) = (pool.and_then(|it| it.tcp.as_ref()), pool.and_then(|it| it.http.as_ref()));
    // A bad value is remarked on at every service's cluster.
    cluster.connect_timeout = connect_timeout(tcp, mesh, Origin::Mesh, &mut Remarks::new(None, mesh));
    cluster.upstream_connection_options = connection_options(tcp, mesh);
    cluster.circuit_breakers = Some(CircuitBreakers { thresholds: vec![thresholds(tcp, http)], ..Default::default() });
}

/// Envoy refuses 0; without a value it waits 5 s.
fn connect_timeout(
    tcp: Option<&TcpSettings>,
    mesh: &MeshConfig,
    origin: Origin,
    remarks: &mut Remarks<'_>,
) -> Option<envoy::pb::google::protobuf::Duration> {
    let own = tcp.and_then(|it| it.connect_timeout);
    let why = "must be longer than 0s; the mesh's connectTimeout applies";
    let own = remarks.keep(own, own != Some(Duration::ZERO), origin, "connectionPool.tcp.connectTimeout", why);
    own.or(Some(mesh.connect_timeout)).filter(|it| *it > Duration::ZERO).and_then(message::duration)
}

/// Present at all: keepalive is on, with the operating system's values for what is not set. The rule's values go
/// over the mesh's one by one.
fn connection_options(tcp: Option<&TcpSettings>, mesh: &MeshConfig) -> Option<UpstreamConnectionOptions> {
    let layers = [mesh.tcp_keepalive.as_ref(), tcp.and_then(|it| it.tcp_keepalive.as_ref())];
    let mut keepalive: Option<envoy::TcpKeepalive> = None;
    for TcpKeepalive { probes, time, interval } in layers.into_iter().flatten() {
        let keepalive = keepalive.get_or_insert_default();
        let seconds = |it: &Duration| message::uint32(u32::try_from(it.0.as_secs()).unwrap_or(u32::MAX));
        keepalive.keepalive_probes =
            (*probes > 0).then_some(*probes).and_then(message::uint32).or(keepalive.keepalive_probes);
        keepalive.keepalive_time = time.as_ref().and_then(seconds).or(keepalive.keepalive_time);
        keepalive.keepalive_interval = interval.as_ref().and_then(seconds).or(keepalive.keepalive_interval);
    }
    keepalive.map(|it| UpstreamConnectionOptions { tcp_keepalive: Some(it), ..Default::default() })
}

/// What is not set is unlimited: Envoy's own defaults (1024 connections, 3 retries) break busy services.
fn thresholds(tcp: Option<&TcpSettings>, http: Option<&HttpSettings>) -> breakers::Thresholds {
    let limit = |value: Option<i32>| message::uint32(value.map_or(u32::MAX, |it| positive(it).unwrap_or(u32::MAX)));
    breakers::Thresholds {
        max_connections: limit(tcp.map(|it| it.max_connections)),
        max_pending_requests: limit(http.map(|it| it.http1_max_pending_requests)),
        max_requests: limit(http.map(|it| it.http2_max_requests)),
        max_retries: limit(http.map(|it| it.max_retries)),
        track_remaining: true,
        ..Default::default()
    }
}

/// 0 means "not set" in these fields; they cannot be negative.
fn positive(value: i32) -> Option<u32> {
    u32::try_from(value).ok().filter(|it| *it > 0)
}

fn retry_budget(from: &RetryBudget, origin: Origin, remarks: &mut Remarks<'_>) -> breakers::thresholds::RetryBudget {
    let percent_ok = from.percent.is_none_or(|it| (0.0..=100.0).contains(&it));
    let why = "is not between 0 and 100; 20 applies";
    let percent = remarks.keep(from.percent, percent_ok, origin, "retryBudget.percent", why);
    breakers::thresholds::RetryBudget {
        budget_percent: message::percent(percent.unwrap_or(20.0)),
        budget_interval: from.budget_interval.and_then(message::duration),
        min_retry_concurrency: message::uint32(from.min_retry_concurrency.filter(|it| *it > 0).unwrap_or(3)),
    }
}

fn http_options(
    protocol: &mut HttpProtocol,
    tcp: Option<&TcpSettings>,
    http: Option<&HttpSettings>,
    origin: Origin,
    remarks: &mut Remarks<'_>,
) {
    let idle_timeout = http.and_then(|it| it.idle_timeout).or_else(|| tcp.and_then(|it| it.idle_timeout));
    let max_connection_duration = tcp.and_then(|it| it.max_connection_duration);
    if wants_common(http) || idle_timeout.is_some() || max_connection_duration.is_some() {
        let requests = http.and_then(|it| positive(it.max_requests_per_connection));
        let common = protocol.common_mut();
        common.idle_timeout = idle_timeout.and_then(message::duration);
        common.max_connection_duration = max_connection_duration.and_then(message::duration);
        common.max_requests_per_connection = requests.and_then(message::uint32);
    }
    let Some(http) = http else { return };
    if let Some(http2) = protocol.http2_mut() {
        http2.max_concurrent_streams = positive(http.max_concurrent_streams).and_then(message::uint32);
        http2.connection_keepalive = http.http2_keep_alive.as_ref().and_then(|it| keepalive(it, origin, remarks));
    }
    if http.use_client_protocol {
        protocol.use_downstream();
    }
}

/// Envoy refuses the cluster without a timeout, and spans under 1 ms.
fn keepalive(from: &Http2KeepAlive, origin: Origin, remarks: &mut Remarks<'_>) -> Option<KeepaliveSettings> {
    let ok = |it: &Duration| *it >= Duration::from_millis(1);
    let field = "connectionPool.http.http2KeepAlive";
    if !from.timeout.as_ref().is_some_and(ok) || !from.interval.as_ref().is_none_or(ok) {
        let why = "needs a timeout of at least 1ms, and an interval of at least 1ms or none; no keepalive is sent";
        remarks.add(origin, field, Reason::Invalid(why.into()));
        return None;
    }
    Some(KeepaliveSettings {
        interval: from.interval.and_then(message::duration),
        timeout: from.timeout.and_then(message::duration),
        ..Default::default()
    })
}
