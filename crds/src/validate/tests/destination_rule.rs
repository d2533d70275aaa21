use super::cases;

const KIND: &str = "DestinationRule";

fn policy(rules: &[(&str, &str)]) {
    let specs: Vec<_> = rules
        .iter()
        .map(|(policy, expected)| {
            let expected = match expected.split_at_checked(1) {
                Some((sign, rest)) => format!("{sign}spec.trafficPolicy{rest}"),
                None => String::new(),
            };
            (format!("{{host: a, trafficPolicy: {{{policy}}}}}"), expected)
        })
        .collect();
    let specs: Vec<_> = specs.iter().map(|(spec, expected)| (spec.as_str(), expected.as_str())).collect();
    cases(KIND, &specs);
}

#[test]
fn hosts_subsets_and_exports() {
    cases(
        KIND,
        &[
            ("{host: '*.a.com'}", ""),
            ("{}", "!spec.host: empty domain name"),
            ("{host: 'a.*'}", "!spec.host: domain name"),
            ("{host: a, subsets: [{name: v1, labels: {version: v1}}]}", ""),
            ("{host: a, subsets: [{name: v1}, {name: v1}]}", "!spec.subsets[1].name: duplicate subset names: v1"),
            ("{host: a, subsets: [{labels: {a: b}}]}", "!spec.subsets[0].name: subset name cannot be empty"),
            ("{host: a, subsets: [{name: v_1}]}", "!spec.subsets[0].name: subset name is invalid"),
            ("{host: a, subsets: [{name: v1, labels: {a: '*'}}]}", "!spec.subsets[0].labels: invalid label value"),
            (
                "{host: a, subsets: [{name: v1, trafficPolicy: {}}]}",
                "!spec.subsets[0].trafficPolicy: traffic policy must",
            ),
            ("{host: a, exportTo: [., ns]}", "!spec.exportTo: duplicate entries"),
            ("{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: [.]}", ""),
        ],
    );
}

#[test]
fn a_selector_stays_in_its_namespace() {
    let found = super::verdict(KIND, "{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: [other]}");
    assert!(found[0].starts_with("!spec.exportTo: destination rule with workload selector"), "{found:?}");
}

#[test]
fn load_balancers() {
    policy(&[
        ("loadBalancer: {simple: LEAST_REQUEST}", ""),
        ("loadBalancer: {simple: FASTEST}", "!.loadBalancer.simple: unknown value \"FASTEST\", expected one of"),
        ("loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}", "!.loadBalancer: only one of simple"),
        (
            "loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}",
            "!.loadBalancer.consistentHash.httpCookie.name: name",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{name: x}, {name: x}]}}}",
            "!.loadBalancer.consistentHash.httpCookie.attributes[1].name: duplicate cookie",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{}]}}}",
            "!.loadBalancer.consistentHash.httpCookie.attributes[0].name: cookie attribute",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}",
            "!.loadBalancer.consistentHash: only one of httpHeaderName",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 4}}",
            "?.loadBalancer.consistentHash.minimumRingSize: consistent hash MinimumRingSize is deprecated",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 99999999}}}",
            "!.loadBalancer.consistentHash: a ring has at most",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {tableSize: 7}}}",
            "!.loadBalancer.consistentHash: only one of ringHash",
        ),
        ("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}", ""),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}",
            "!.loadBalancer.consistentHash.maglev.tableSize: tableSize must be set",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 9}}}",
            "!.loadBalancer.consistentHash.maglev.tableSize: tableSize must be a prime",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}",
            "!.loadBalancer.consistentHash.maglev.tableSize: tableSize must be less",
        ),
        ("loadBalancer: {warmup: {duration: 1s}}", ""),
        ("loadBalancer: {warmup: {}}", "!.loadBalancer.warmup.duration: duration is required"),
        ("loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}", "!.loadBalancer.warmup.minimumPercent:"),
        ("loadBalancer: {warmup: {duration: 1s, aggression: 0}}", "!.loadBalancer.warmup.aggression: aggression"),
    ]);
}

#[test]
fn localities() {
    let setting = |text: &str| format!("outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {{{text}}}}}");
    for (text, expected) in [
        ("distribute: [{from: a, to: {b: 40, c: 60}}]", ""),
        ("distribute: [{from: a, to: {b: 40}}]", ".distribute[0].to: total locality weight 40 != 100"),
        ("distribute: [{from: a, to: {b: 0, c: 100}}]", ".distribute[0].to: locality weight must"),
        ("distribute: [{from: a, to: {b: 40, b/c: 60}}]", ".distribute[0].to: locality b/c overlap"),
        ("distribute: [{from: 'a*b', to: {b: 100}}]", ".distribute: locality a*b wildcard"),
        ("distribute: [{from: a//b, to: {b: 100}}]", ".distribute: locality a//b must not contain empty"),
        ("distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]", ".distribute: can not simultaneously"),
        ("failover: [{from: a, to: a}]", ".failover[0]: locality lb failover settings must"),
        ("failover: [{from: a/b, to: c}]", ".failover[0]: locality lb failover only specify region"),
        ("failover: [{from: a, to: '*'}]", ".failover[0]: locality lb failover region should not"),
    ] {
        let expected =
            if expected.is_empty() { String::new() } else { format!("!.loadBalancer.localityLbSetting{expected}") };
        policy(&[(&setting(text), &expected)]);
    }
    policy(&[(
        "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}",
        "?.loadBalancer.localityLbSetting: outlier detection policy must be provided",
    )]);
}

#[test]
fn connection_pools_and_outliers() {
    policy(&[
        ("", "!: traffic policy must have at least one field"),
        ("connectionPool: {}", "!.connectionPool: connection pool must have"),
        ("connectionPool: {tcp: {maxConnections: 1, connectTimeout: 30ms, idleTimeout: 0s}}", ""),
        ("connectionPool: {tcp: {maxConnections: -1}}", "!.connectionPool.tcp.maxConnections: maxConnections must"),
        ("connectionPool: {tcp: {connectTimeout: 0s}}", "!.connectionPool.tcp.connectTimeout: duration must"),
        ("connectionPool: {tcp: {maxConnectionDuration: 1us}}", "!.connectionPool.tcp.maxConnectionDuration: duration"),
        ("connectionPool: {tcp: {tcpKeepalive: {time: 0s}}}", "!.connectionPool.tcp.tcpKeepalive.time: duration"),
        ("connectionPool: {http: {http1MaxPendingRequests: -1}}", "!.connectionPool.http.http1MaxPendingRequests:"),
        ("connectionPool: {http: {http2MaxRequests: -1}}", "!.connectionPool.http.http2MaxRequests:"),
        ("connectionPool: {http: {maxRequestsPerConnection: -1}}", "!.connectionPool.http.maxRequestsPerConnection:"),
        ("connectionPool: {http: {maxRetries: -1}}", "!.connectionPool.http.maxRetries:"),
        ("connectionPool: {http: {maxConcurrentStreams: -1}}", "!.connectionPool.http.maxConcurrentStreams:"),
        ("connectionPool: {http: {idleTimeout: 0s}}", "!.connectionPool.http.idleTimeout: duration must"),
        (
            "connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}",
            "!.connectionPool.http.useClientProtocol: use client protocol",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {interval: 1s}}}",
            "!.connectionPool.http.http2KeepAlive.timeout: http2 keepalive timeout is required",
        ),
        ("outlierDetection: {}", ""),
        ("outlierDetection: {consecutiveErrors: 1}", "?.outlierDetection.consecutiveErrors: outlier detection"),
        (
            "outlierDetection: {consecutiveLocalOriginFailures: 1}",
            "!.outlierDetection.consecutiveLocalOriginFailures: outlier detection",
        ),
        ("outlierDetection: {baseEjectionTime: 0s}", "!.outlierDetection.baseEjectionTime: duration"),
        ("outlierDetection: {interval: 0s}", "!.outlierDetection.interval: duration"),
        ("outlierDetection: {maxEjectionPercent: 101}", "!.outlierDetection.maxEjectionPercent: percentage"),
        ("outlierDetection: {minHealthPercent: -1}", "!.outlierDetection.minHealthPercent: percentage"),
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [500, 600]}",
            "!.outlierDetection.outlierDetectionHttpErrorCodes[1]: HTTP status 600",
        ),
        ("portLevelSettings: [{port: {number: 80}}]", "!.portLevelSettings[0]: port traffic policy must"),
        ("portLevelSettings: [{loadBalancer: {}}]", "!.portLevelSettings[0].port.number: port number 0"),
        (
            "portLevelSettings: [{port: {number: 1}, loadBalancer: {}}, {port: {number: 1}, loadBalancer: {}}]",
            "?.portLevelSettings[1]: port 1 has settings above",
        ),
    ]);
}

#[test]
fn what_is_not_translated_is_named() {
    policy(&[
        ("tls: {mode: DISABLE}", ""),
        ("tls: {mode: SIMPLE}", ""),
        ("tls: {mode: SIMPLE, credentialName: a}", "?.tls.credentialName: not translated"),
        ("tls: {mode: ISTIO_MUTUAL}", ""),
        (
            "portLevelSettings: [{port: {number: 1}, tls: {mode: MUTUAL, credentialName: a}}]",
            "?.portLevelSettings[0].tls.credentialName: not translated",
        ),
        ("loadBalancer: {backendUtilization: {}}", "?.loadBalancer.backendUtilization: not translated"),
        ("loadBalancer: {zoneAwareLbSetting: {enabled: true}}", "?.loadBalancer.zoneAwareLbSetting: not translated"),
    ]);
    cases(
        KIND,
        &[(
            "{host: a, subsets: [{name: v1, trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}}]}",
            "?spec.subsets[0].trafficPolicy.tls.credentialName: not translated",
        )],
    );
}

#[test]
fn mistakes_in_untranslated_fields_are_errors_too() {
    for (policy, expected) in [
        (
            "tls: {mode: MUTUAL, privateKey: k}",
            "!spec.trafficPolicy.tls.clientCertificate: client certificate required",
        ),
        ("tls: {mode: MUTUAL, clientCertificate: c}", "!spec.trafficPolicy.tls.privateKey: private key required"),
        ("tls: {mode: SIMPLE, credentialName: a, caCertificates: b}", "!spec.trafficPolicy.tls.credentialName: cannot"),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: b}",
            "!spec.trafficPolicy.tls.insecureSkipVerify:",
        ),
        ("tunnel: {targetHost: 'a b', targetPort: 1}", "!spec.trafficPolicy.tunnel.targetHost: tunnel target host"),
        ("tunnel: {targetHost: a.b, targetPort: 0}", "!spec.trafficPolicy.tunnel.targetPort: port number 0"),
        (
            "tunnel: {protocol: X, targetHost: a.b, targetPort: 1}",
            "!spec.trafficPolicy.tunnel.protocol: tunnel protocol",
        ),
        ("proxyProtocol: {version: V3}", "!spec.trafficPolicy.proxyProtocol.version: proxy protocol version"),
        ("retryBudget: {percent: 101}", "!spec.trafficPolicy.retryBudget.percent: percent must"),
        (
            "tunnel: {targetHost: a.b, targetPort: 1}, proxyProtocol: {}",
            "!spec.trafficPolicy: tunnel and proxyProtocol",
        ),
        (
            "outlierDetection: {}, loadBalancer: {zoneAwareLbSetting: {minClusterSize: 0}}",
            "!spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.minClusterSize: must be at least 1",
        ),
    ] {
        let found = super::verdict(KIND, &format!("{{host: a, trafficPolicy: {{{policy}}}}}"));
        assert!(found[0].starts_with(expected), "{policy}: {found:?}");
    }
}
