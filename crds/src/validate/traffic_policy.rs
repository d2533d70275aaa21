//! Traffic policies of DestinationRules, and the blocks of them that others share (`validateTrafficPolicy`).

use super::report::Report;
use super::{locality, rule};
use crate::networking::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, H2UpgradePolicy, HttpSettings, LoadBalancer,
    OutlierDetection, TcpSettings, TrafficPolicy, Tunnel, Warmup,
};
use std::collections::BTreeSet;

pub(super) fn validate(policy: &TrafficPolicy, at: &str, report: &mut Report<'_>) {
    if *policy == TrafficPolicy::default() {
        report.error(at, "traffic policy must have at least one field");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        report.error(at, "tunnel and proxyProtocol must not be set together");
    }
    blocks(&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection, &policy.tls, at, report);
    let mut ports = BTreeSet::new();
    for (i, port) in policy.port_level_settings.iter().enumerate() {
        let at = format!("{at}.portLevelSettings[{i}]");
        report.check(format!("{at}.port.number"), rule::port(port.port.number));
        if !ports.insert(port.port.number) {
            // Istio takes the first that matches.
            report.warning(at.as_str(), format!("port {} has settings above, these have no effect", port.port.number));
        }
        let is_empty = port.load_balancer.is_none()
            && port.connection_pool.is_none()
            && port.outlier_detection.is_none()
            && port.tls.is_none();
        if is_empty {
            report.error(at.as_str(), "port traffic policy must have at least one field");
        }
        blocks(&port.load_balancer, &port.connection_pool, &port.outlier_detection, &port.tls, &at, report);
    }
    if let Some(tunnel) = &policy.tunnel {
        self::tunnel(tunnel, &format!("{at}.tunnel"), report);
    }
    if let Some(proxy) = &policy.proxy_protocol
        && !["", "V1", "V2"].contains(&proxy.version.as_str())
    {
        report.error(
            format!("{at}.proxyProtocol.version"),
            format!("proxy protocol version is invalid: {}", proxy.version),
        );
    }
    let percent = policy.retry_budget.as_ref().and_then(|budget| budget.percent);
    if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        report.error(format!("{at}.retryBudget.percent"), "percent must be from 0 to 100");
    }
}

fn blocks(
    load_balancer: &Option<LoadBalancer>,
    connection_pool: &Option<ConnectionPool>,
    outlier_detection: &Option<OutlierDetection>,
    tls: &Option<ClientTls>,
    at: &str,
    report: &mut Report<'_>,
) {
    if let Some(settings) = load_balancer {
        self::load_balancer(settings, outlier_detection.is_some(), &format!("{at}.loadBalancer"), report);
    }
    if let Some(pool) = connection_pool {
        self::connection_pool(pool, &format!("{at}.connectionPool"), report);
    }
    if let Some(outlier) = outlier_detection {
        self::outlier_detection(outlier, &format!("{at}.outlierDetection"), report);
    }
    if let Some(tls) = tls {
        client_tls(tls, &format!("{at}.tls"), report);
    }
}

fn load_balancer(settings: &LoadBalancer, has_outlier_detection: bool, at: &str, report: &mut Report<'_>) {
    let policies =
        [settings.simple.is_some(), settings.consistent_hash.is_some(), settings.backend_utilization.is_some()];
    if policies.iter().filter(|is_set| **is_set).count() > 1 {
        report.error(at, "only one of simple, consistentHash and backendUtilization may be set");
    }
    if let Some(hash) = &settings.consistent_hash {
        consistent_hash(hash, &format!("{at}.consistentHash"), report);
    }
    if settings.locality_lb_setting.is_some() && settings.zone_aware_lb_setting.is_some() {
        report.error(at, "only one of localityLbSetting and zoneAwareLbSetting can be set");
    }
    if let Some(setting) = &settings.locality_lb_setting {
        let at = format!("{at}.localityLbSetting");
        for (field, why) in locality::setting(setting) {
            report.error(format!("{at}.{field}"), why);
        }
        let has_failover = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
        if has_failover && !has_outlier_detection {
            report.warning(at, "outlier detection policy must be provided for failover");
        }
    }
    if let Some(setting) = &settings.zone_aware_lb_setting {
        let at = format!("{at}.zoneAwareLbSetting");
        for (field, why) in locality::zone_aware(setting) {
            report.error(format!("{at}.{field}"), why);
        }
    }
    if settings.warmup_duration_secs.is_some() {
        report.check(format!("{at}.warmupDurationSecs"), rule::optional_duration(settings.warmup_duration_secs));
        report.warning(format!("{at}.warmupDurationSecs"), "deprecated, use warmup instead");
    }
    if let Some(warmup) = &settings.warmup {
        self::warmup(warmup, &format!("{at}.warmup"), report);
    }
}

fn warmup(warmup: &Warmup, at: &str, report: &mut Report<'_>) {
    match warmup.duration {
        None => report.error(format!("{at}.duration"), "duration is required"),
        Some(duration) => report.check(format!("{at}.duration"), rule::duration(duration)),
    }
    if warmup.minimum_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        report.error(format!("{at}.minimumPercent"), "minimumPercent value should be less than or equal to 100");
    }
    if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
        report.error(format!("{at}.aggression"), "aggression should be greater than 0");
    }
}

fn consistent_hash(hash: &ConsistentHash, at: &str, report: &mut Report<'_>) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.iter().filter(|is_set| **is_set).count() > 1 {
        report.error(at, "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName may be set");
    }
    if let Some(cookie) = &hash.http_cookie {
        let at = format!("{at}.httpCookie");
        if cookie.name.is_empty() {
            report.error(format!("{at}.name"), "name required for HttpCookie");
        }
        let mut names = BTreeSet::new();
        for (i, attribute) in cookie.attributes.iter().enumerate() {
            let at = format!("{at}.attributes[{i}].name");
            if attribute.name.is_empty() {
                report.error(at, "cookie attribute name cannot be empty");
            } else if !names.insert(&attribute.name) {
                report.error(at, format!("duplicate cookie attribute name: {}", attribute.name));
            }
        }
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        report.error(at, "only one of ringHash and maglev may be set");
    }
    if hash.minimum_ring_size.is_some_and(|size| size > 0) {
        let at = format!("{at}.minimumRingSize");
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            report.error(at.as_str(), "only one of MinimumRingSize or Maglev/Ringhash can be specified");
        }
        report.warning(at, "consistent hash MinimumRingSize is deprecated, use ringHash.minimumRingSize instead");
    }
    // Envoy's limit on rings; a larger one is a NACK of the cluster.
    const RING_SIZE_MAX: u64 = 8 * 1024 * 1024;
    let ring_size = hash.ring_hash.as_ref().map_or(0, |ring| ring.minimum_ring_size);
    if ring_size.max(hash.minimum_ring_size.unwrap_or(0)) > RING_SIZE_MAX {
        report.error(at, format!("a ring has at most {RING_SIZE_MAX} entries"));
    }
    if let Some(maglev) = &hash.maglev {
        let at = format!("{at}.maglev.tableSize");
        match maglev.table_size {
            0 => report.error(at, "tableSize must be set for maglev"),
            5_000_011.. => report.error(at, "tableSize must be less than 5000011 for maglev"),
            size if !is_prime(size) => report.error(at, "tableSize must be a prime number for maglev"),
            _ => {}
        }
    }
}

/// Only asked of numbers below Envoy's table limit.
fn is_prime(n: u64) -> bool {
    n > 1 && (2..).take_while(|factor| factor * factor <= n).all(|factor: u64| !n.is_multiple_of(factor))
}

pub(super) fn connection_pool(pool: &ConnectionPool, at: &str, report: &mut Report<'_>) {
    if pool.http.is_none() && pool.tcp.is_none() {
        report.error(at, "connection pool must have at least one field");
    }
    if let Some(http) = &pool.http {
        http_settings(http, &format!("{at}.http"), report);
    }
    if let Some(tcp) = &pool.tcp {
        tcp_settings(tcp, &format!("{at}.tcp"), report);
    }
}

fn http_settings(http: &HttpSettings, at: &str, report: &mut Report<'_>) {
    let counts = [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ];
    for (field, _) in counts.into_iter().filter(|(_, count)| *count < 0) {
        report.error(format!("{at}.{field}"), format!("{field} must be non-negative"));
    }
    report.check(format!("{at}.idleTimeout"), rule::optional_duration(http.idle_timeout));
    if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) && http.use_client_protocol {
        let why = "use client protocol must not be true when H2UpgradePolicy is UPGRADE";
        report.error(format!("{at}.useClientProtocol"), why);
    }
    if let Some(keepalive) = &http.http2_keep_alive {
        for (field, value) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            let at = format!("{at}.http2KeepAlive.{field}");
            match value {
                None => report.error(at, format!("http2 keepalive {field} is required")),
                Some(duration) => report.check(at, rule::duration(duration)),
            }
        }
    }
}

fn tcp_settings(tcp: &TcpSettings, at: &str, report: &mut Report<'_>) {
    if tcp.max_connections < 0 {
        report.error(format!("{at}.maxConnections"), "maxConnections must be non-negative");
    }
    report.check(format!("{at}.connectTimeout"), rule::optional_duration(tcp.connect_timeout));
    report.check(format!("{at}.maxConnectionDuration"), rule::optional_duration(tcp.max_connection_duration));
    // Zero disables it.
    let idle_timeout = tcp.idle_timeout.filter(|timeout| timeout.0.as_millis() != 0);
    report.check(format!("{at}.idleTimeout"), rule::optional_duration(idle_timeout));
    if let Some(keepalive) = &tcp.tcp_keepalive {
        report.check(format!("{at}.tcpKeepalive.time"), rule::optional_duration(keepalive.time));
        report.check(format!("{at}.tcpKeepalive.interval"), rule::optional_duration(keepalive.interval));
    }
}

pub(super) fn outlier_detection(outlier: &OutlierDetection, at: &str, report: &mut Report<'_>) {
    if outlier.consecutive_errors.is_some_and(|errors| errors != 0) {
        let why = "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or \
                   consecutive5xxErrors instead";
        report.warning(format!("{at}.consecutiveErrors"), why);
    }
    let counts_local = outlier.consecutive_local_origin_failures.is_some_and(|failures| failures > 0);
    if counts_local && !outlier.split_external_local_origin_errors {
        let why = "outlier detection consecutive local origin failures is specified, but split external local origin \
                   errors is set to false";
        report.error(format!("{at}.consecutiveLocalOriginFailures"), why);
    }
    report.check(format!("{at}.baseEjectionTime"), rule::optional_duration(outlier.base_ejection_time));
    report.check(format!("{at}.interval"), rule::optional_duration(outlier.interval));
    report.check(format!("{at}.maxEjectionPercent"), rule::percent(outlier.max_ejection_percent));
    report.check(format!("{at}.minHealthPercent"), rule::percent(outlier.min_health_percent));
    for (i, code) in outlier.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..=599).contains(code) {
            let at = format!("{at}.outlierDetectionHttpErrorCodes[{i}]");
            report.error(at, format!("HTTP status {code} is not in range 100-599"));
        }
    }
}

fn client_tls(tls: &ClientTls, at: &str, report: &mut Report<'_>) {
    let is_mutual = tls.mode == ClientTlsMode::Mutual;
    let is_own = is_mutual || tls.mode == ClientTlsMode::Simple;
    let has_credential = !tls.credential_name.is_empty();
    let names_ca = !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty();
    if tls.insecure_skip_verify == Some(true) && is_own && (names_ca || (has_credential && !is_mutual)) {
        let why =
            "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true";
        report.error(format!("{at}.insecureSkipVerify"), why);
    }
    let files = [&tls.client_certificate, &tls.ca_certificates, &tls.private_key, &tls.ca_crl];
    if is_own && has_credential {
        if files.iter().any(|file| !file.is_empty()) {
            let why = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
            report.error(format!("{at}.credentialName"), why);
        }
    } else if is_mutual {
        if tls.client_certificate.is_empty() {
            report.error(format!("{at}.clientCertificate"), "client certificate required for mutual tls");
        }
        if tls.private_key.is_empty() {
            report.error(format!("{at}.privateKey"), "private key required for mutual tls");
        }
    }
}

fn tunnel(tunnel: &Tunnel, at: &str, report: &mut Report<'_>) {
    if !["", "CONNECT", "POST"].contains(&tunnel.protocol.as_str()) {
        report.error(format!("{at}.protocol"), "tunnel protocol must be \"CONNECT\" or \"POST\"");
    }
    let host = rule::fqdn(&tunnel.target_host).or_else(|_| rule::ip(&tunnel.target_host));
    if host.is_err() {
        report.error(format!("{at}.targetHost"), "tunnel target host must be valid FQDN or IP address");
    }
    report.check(format!("{at}.targetPort"), rule::port(tunnel.target_port));
}
