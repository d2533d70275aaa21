use super::cases;

const KIND: &str = "Sidecar";

#[test]
fn a_sidecar_says_something() {
    cases(
        KIND,
        &[
            ("{}", "!spec: sidecar: empty configuration provided"),
            ("{egress: [{hosts: ['./*']}]}", ""),
            ("{workloadSelector: {}, egress: [{hosts: ['./*']}]}", "?spec.workloadSelector: workload selector"),
            (
                "{workloadSelector: {labels: {a: '*'}}, egress: [{hosts: ['./*']}]}",
                "!spec.workloadSelector.labels: wildcard",
            ),
            ("{inboundConnectionPool: {}}", "!spec.inboundConnectionPool: connection pool must"),
            ("{outboundTrafficPolicy: {mode: ALLOW_ANY}}", ""),
            ("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}", "!spec.outboundTrafficPolicy.mode: sidecar:"),
            ("{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.com, port: {number: 1}}}}", ""),
        ],
    );
    for (policy, expected) in [
        (
            "mode: REGISTRY_ONLY, egressProxy: {host: a.com, port: {number: 1}}",
            ": sidecar: egress_proxy must be set only",
        ),
        ("mode: ALLOW_ANY, egressProxy: {host: a.com}", ".port: sidecar: egress_proxy port"),
        ("mode: ALLOW_ANY, egressProxy: {host: '*.a', port: {number: 1}}", ".host: domain name"),
    ] {
        let found = super::verdict(KIND, &format!("{{outboundTrafficPolicy: {{{policy}}}}}"));
        assert!(found[0].starts_with(&format!("!spec.outboundTrafficPolicy.egressProxy{expected}")), "{found:?}");
    }
}

#[test]
fn ingress_listeners() {
    let of = |listener: &str| format!("{{ingress: [{{{listener}}}]}}");
    let port = "port: {number: 80, name: http, protocol: HTTP}";
    for (listener, expected) in [
        ("defaultEndpoint: '127.0.0.1:80'", ""),
        ("defaultEndpoint: ':80'", ""),
        ("defaultEndpoint: '[::1]:80'", ""),
        ("defaultEndpoint: 'unix:///a'", ""),
        ("defaultEndpoint: '1.1.1.1:80'", "!spec.ingress[0].defaultEndpoint: sidecar: defaultEndpoint must"),
        (
            "defaultEndpoint: '127.0.0.1'",
            "!spec.ingress[0].defaultEndpoint: sidecar: defaultEndpoint \"127.0.0.1\" has no",
        ),
        ("defaultEndpoint: '127.0.0.1:a'", "!spec.ingress[0].defaultEndpoint: sidecar: defaultEndpoint port"),
        ("defaultEndpoint: '127.0.0.1:0'", "!spec.ingress[0].defaultEndpoint: port number 0"),
        ("bind: a", "!spec.ingress[0].bind: a is not a valid IP"),
        ("connectionPool: {}", "!spec.ingress[0].connectionPool: connection pool"),
    ] {
        cases(KIND, &[(&of(&format!("{port}, {listener}")), expected)]);
    }
    cases(
        KIND,
        &[
            ("{ingress: [{}]}", "!spec.ingress[0].port.number: port number 0"),
            ("{ingress: [{port: {number: 1, name: a_b}}]}", "!spec.ingress[0].port.name: invalid port name"),
            ("{ingress: [{port: {number: 1, protocol: X}}]}", "!spec.ingress[0].port.protocol: unsupported"),
            ("{ingress: [{port: {number: 1, targetPort: 2}}]}", "!spec.ingress[0].port.targetPort: targetPort has"),
            ("{ingress: [{port: {number: 1}}, {port: {number: 1}}]}", "!spec.ingress[1].port.number: sidecar: ports"),
            (
                "{ingress: [{port: {number: 1, protocol: TCP}, connectionPool: {http: {maxRetries: 1}}}]}",
                "?spec.ingress[0].connectionPool.http: sidecar: HTTP connection pool",
            ),
            (
                "{ingress: [{port: {number: 1, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]}",
                "",
            ),
        ],
    );
    for (tls, protocol, expected) in [
        ("mode: SIMPLE, credentialName: a", "HTTPS", ".credentialName: sidecar: credentialName is not supported"),
        ("mode: ISTIO_MUTUAL", "HTTPS", ".mode: cannot set this mode"),
        ("mode: SIMPLE, serverCertificate: a, privateKey: b", "HTTP", ": server cannot have TLS settings"),
        ("mode: SIMPLE, httpsRedirect: true", "HTTPS", ".httpsRedirect: sidecar: httpsRedirect"),
    ] {
        let found = super::verdict(KIND, &of(&format!("port: {{number: 1, protocol: {protocol}}}, tls: {{{tls}}}")));
        assert!(found[0].starts_with(&format!("!spec.ingress[0].tls{expected}")), "{found:?}");
    }
}

#[test]
fn egress_listeners() {
    cases(
        KIND,
        &[
            ("{egress: [{}]}", "!spec.egress[0].hosts: sidecar: egress listener must contain"),
            (
                "{egress: [{hosts: ['./*']}, {hosts: ['./*']}]}",
                "!spec.egress[0]: sidecar: the egress listener with empty",
            ),
            ("{egress: [{port: {number: 1}, hosts: ['./*']}, {hosts: ['~/*']}]}", ""),
            (
                "{egress: [{port: {number: 1}, hosts: ['./*']}, {port: {number: 1}, hosts: ['./*']}]}",
                "!spec.egress[1].port.number: sidecar: ports on IP bound",
            ),
            ("{egress: [{port: {number: 0}, hosts: ['./*']}]}", "!spec.egress[0].bind: sidecar: ports with 0 value"),
            ("{egress: [{port: {number: 0}, bind: 'unix:///a', hosts: ['./*']}]}", ""),
            (
                "{egress: [{port: {number: 0}, bind: 'unix:///a', captureMode: IPTABLES, hosts: ['./*']}]}",
                "!spec.egress[0].captureMode: sidecar: captureMode must",
            ),
            (
                "{egress: [{port: {number: 0}, bind: 'unix:///a', hosts: ['./*']}, {port: {number: 0}, bind: 'unix:///a', hosts: ['./*']}]}",
                "!spec.egress[1].bind: sidecar: unix domain socket values",
            ),
            ("{egress: [{port: {number: 1}, bind: a, hosts: ['./*']}]}", "!spec.egress[0].bind: a is not a valid IP"),
            ("{egress: [{hosts: [a.com]}]}", "!spec.egress[0].hosts[0]: host must be of form namespace/dnsName"),
            ("{egress: [{hosts: [/a.com]}]}", "!spec.egress[0].hosts[0]: config namespace and dnsName"),
            ("{egress: [{hosts: [n_s/a.com]}]}", "!spec.egress[0].hosts[0]: invalid namespace value"),
            ("{egress: [{hosts: [ns/a]}]}", "!spec.egress[0].hosts[0]: short names"),
            ("{egress: [{hosts: ['ns/*a.com']}]}", "!spec.egress[0].hosts[0]: partial wildcard"),
            ("{egress: [{hosts: ['~other/a.com', '*/*']}]}", ""),
            ("{egress: [{hosts: [./a.com, ns/a.com]}]}", "?spec.egress[0].hosts[1]: duplicated egress host"),
            ("{egress: [{hosts: ['*/*', ns/a.com]}]}", "?spec.egress[0].hosts: `*/*` host select all"),
        ],
    );
}
