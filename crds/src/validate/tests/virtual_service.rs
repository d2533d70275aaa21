use super::{cases, verdict};

const KIND: &str = "VirtualService";

/// Cases of one HTTP route that is otherwise good.
fn http(routes: &[(&str, &str)]) {
    let specs: Vec<_> = routes
        .iter()
        .map(|(route, expected)| {
            let expected = match expected.split_at_checked(1) {
                Some((sign, rest)) => format!("{sign}spec.http[0]{rest}"),
                None => String::new(),
            };
            (format!("{{hosts: [a], http: [{{{route}}}]}}"), expected)
        })
        .collect();
    let specs: Vec<_> = specs.iter().map(|(spec, expected)| (spec.as_str(), expected.as_str())).collect();
    cases(KIND, &specs);
}

const ROUTE: &str = "route: [{destination: {host: a}}]";

#[test]
fn hosts_must_be_domains_or_addresses_and_differ() {
    let of = |hosts: &str| format!("{{hosts: [{hosts}], http: [{{{ROUTE}}}]}}");
    let long = format!("{}.com", "a.".repeat(148) + "abc");
    assert!(long.len() >= 300);
    for (hosts, expected) in [
        ("a", ""),
        ("'*.example.com'", ""),
        ("1.1.1.1", ""),
        ("a.b.", ""),
        (long.as_str(), "too long"),
        ("'*'", "!spec.hosts[0]: wildcard host * is not allowed"),
        ("'a*.com'", "!spec.hosts[0]: domain name \"a*.com\" invalid"),
        ("'a.*.com'", "!spec.hosts[0]: domain name"),
        ("a_b", "!spec.hosts[0]: domain name"),
        ("a.123", "!spec.hosts[0]: domain name \"123\" invalid (top level"),
        ("''", "!spec.hosts[0]: empty domain name"),
        ("a, a", "!spec.hosts[1]: duplicate hosts in virtual service: a & a"),
        ("'*.com', a.com", "!spec.hosts[1]: duplicate hosts"),
        ("'*.foo.com', '*.com'", "!spec.hosts[1]: duplicate hosts"),
    ] {
        let found = verdict(KIND, &of(hosts));
        match expected {
            "" => assert_eq!(found, [""; 0], "{hosts}"),
            text => assert!(found.len() == 1 && found[0].contains(text), "{hosts}: {found:?}"),
        }
    }
}

#[test]
fn gateways_are_names() {
    let of = |gateways: &str| format!("{{hosts: ['*'], gateways: [{gateways}], http: [{{{ROUTE}}}]}}");
    for (gateways, expected) in [
        ("g", ""),
        ("ns/g", ""),
        ("g.ns", "?spec.gateways[0]: using legacy gatewayName format \"g.ns\"; prefer \"ns/g\""),
        ("/g", "!spec.gateways[0]: invalid value for namespace: \"\""),
        ("ns/g.h", "!spec.gateways[0]: invalid value for gateway name: \"g.h\""),
        ("g_h", "!spec.gateways[0]: domain name"),
        ("g, mesh", "!spec.hosts[0]: wildcard host * is not allowed"),
    ] {
        cases(KIND, &[(&of(gateways), expected)]);
    }
}

#[test]
fn something_must_be_routed() {
    cases(
        KIND,
        &[
            ("{hosts: [a]}", "!spec: http, tcp or tls must be provided"),
            (
                "{http: [{route: [{destination: {host: a}}]}], gateways: [g]}",
                "!spec.gateways: delegate virtual service",
            ),
            ("{http: [{route: [{destination: {host: a}}]}]}", ""),
            (
                "{http: [{delegate: {name: x}, route: [{destination: {host: a}}]}]}",
                "!spec.http[0].delegate: delegate HTTP route cannot contain delegate",
            ),
            (
                "{hosts: [a], exportTo: ['~'], http: [{route: [{destination: {host: a}}]}]}",
                "!spec.exportTo: exportTo ~ (none)",
            ),
            (
                "{hosts: [a], exportTo: [., ns], http: [{route: [{destination: {host: a}}]}]}",
                "!spec.exportTo: duplicate",
            ),
            (
                "{hosts: [a], exportTo: ['*', b], http: [{route: [{destination: {host: a}}]}]}",
                "!spec.exportTo: cannot have",
            ),
            ("{hosts: [a], exportTo: [a_b], http: [{route: [{destination: {host: a}}]}]}", "!spec.exportTo: only ., *"),
        ],
    );
    http(&[
        ("name: x", "!: HTTP route, redirect or direct_response is required"),
        ("delegate: {name: x}", ""),
        ("delegate: {name: x}, timeout: 1s, match: [{uri: {prefix: /}}]", ""),
        ("delegate: {name: x}, redirect: {uri: /}", "!.redirect: root HTTP route must not specify redirect"),
        ("delegate: {name: x}, route: [{destination: {host: a}}]", "!.route: root HTTP route must not specify route"),
        ("redirect: {uri: /}, route: [{destination: {host: a}}]", "!.route: HTTP route cannot contain both route and"),
        ("redirect: {uri: /}, rewrite: {uri: /}", "!.rewrite: HTTP route cannot contain both rewrite and redirect"),
        ("redirect: {uri: /}, fault: {abort: {httpStatus: 500}}", "!.fault: HTTP route cannot contain both fault"),
        ("redirect: {uri: /}, directResponse: {status: 200}", "!.directResponse: HTTP route cannot contain both"),
        (
            "directResponse: {status: 200}, rewrite: {uri: /}",
            "!.rewrite: HTTP route cannot contain both rewrite and dir",
        ),
    ]);
}

#[test]
fn weights_are_not_negative_and_not_all_zero() {
    http(&[
        ("route: [{destination: {host: a}}]", ""),
        ("route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 1}]", ""),
        ("route: [{destination: {host: a}}, {destination: {host: b}}]", "!.route: total destination weight = 0"),
        ("route: [{destination: {host: a}, weight: -1}]", "!.route[0].weight: weight -1 < 0"),
    ]);
}

#[test]
fn destinations_are_hosts_subsets_and_ports() {
    http(&[
        ("route: [{}]", "!.route[0].destination.host: destination host is required"),
        ("route: [{destination: {host: '*'}}]", "!.route[0].destination.host: invalid destination host *"),
        ("route: [{destination: {host: a_b}}]", "!.route[0].destination.host: domain name"),
        ("route: [{destination: {host: a, subset: 'v 1'}}]", "!.route[0].destination.subset: subset name is invalid"),
        ("route: [{destination: {host: a, port: {number: 0}}}]", "!.route[0].destination.port.number: port number 0"),
        ("route: [{destination: {host: a, port: {number: 70000}}}]", "!.route[0].destination.port.number: port number"),
    ]);
}

#[test]
fn matches_are_well_formed() {
    let of = |m: &str| format!("match: [{{{m}}}], {ROUTE}");
    for (m, expected) in [
        ("uri: {prefix: ''}", ""),
        ("uri: {regex: '/a(?=b)'}", "!.match[0].uri.regex: invalid regex (RE2): invalid perl operator: (?="),
        (r"uri: {regex: '(a)\1'}", "!.match[0].uri.regex: invalid regex (RE2): invalid escape sequence"),
        ("uri: {regex: ''}", "!.match[0].uri.regex: regex string match should not be empty"),
        ("method: {prefix: ''}", "!.match[0].method.prefix: prefix string match should not be empty"),
        ("headers: {'a b': {exact: x}}", "!.match[0].headers.a b: header name a b is not valid"),
        ("headers: {a: {}}", ""),
        ("headers: {a: {regex: '['}}", "!.match[0].headers.a.regex: invalid regex (RE2): missing closing ]"),
        ("withoutHeaders: {a: {regex: '*'}}", ""),
        ("withoutHeaders: {'': {}}", "!.match[0].withoutHeaders.: header name cannot be empty"),
        ("headers: {'@request.auth.claims.x': {exact: v}}", "!.match[0].headers.@request.auth.claims.x: JWT claim"),
        ("queryParams: {a: {prefix: ''}}", "!.match[0].queryParams.a.prefix: prefix string match"),
        ("port: 70000", "!.match[0].port: port number 70000"),
        ("sourceLabels: {'*': a}", "!.match[0].sourceLabels: invalid label key"),
        ("sourceNamespace: a.b", "!.match[0].sourceNamespace: sourceNamespace match a.b is invalid"),
        ("gateways: [a_b]", "!.match[0].gateways[0]: domain name"),
    ] {
        let expected = expected.replace("is not valid", "is not a valid header name");
        http(&[(&of(m), &expected)]);
    }
    let long = "a".repeat(1025);
    http(&[(&of(&format!("uri: {{regex: {long}}}")), "!.match[0].uri.regex: invalid regex (RE2): regex is too large")]);
}

#[test]
fn actions_are_well_formed() {
    http(&[
        ("redirect: {}", "!.redirect: redirect must specify URI"),
        ("redirect: {uri: /, redirectCode: 308}", ""),
        ("redirect: {uri: /, redirectCode: 200}", "!.redirect.redirectCode: 200 is not a valid redirect code"),
        ("redirect: {uri: /, redirectCode: 304}", "!.redirect.redirectCode: Envoy cannot redirect with 304"),
        ("redirect: {uri: /, prefixRewrite: /}", "!.redirect: redirect may only specify one of"),
        (
            "match: [{uri: {exact: /}}], redirect: {prefixRewrite: /b}",
            "!.redirect.prefixRewrite: redirect prefix_rewrite",
        ),
        ("redirect: {scheme: ftp}", "!.redirect.scheme: invalid redirect scheme"),
        ("redirect: {port: 70000}", "!.redirect.port: port number 70000"),
        ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", "!.redirect.derivePort: only one of port"),
        ("directResponse: {status: 599, body: {string: x}}", ""),
        ("directResponse: {status: 600}", "!.directResponse.status: HTTP status 600"),
        ("directResponse: {status: 0}", "!.directResponse.status: HTTP status 0"),
        ("directResponse: {status: 200, body: {string: a, bytes: YQ==}}", "!.directResponse.body: only one of"),
    ]);
    for (bytes, expected) in
        [(101 * 1024, "?.directResponse.body: large"), (1025 * 1024, "!.directResponse.body: large")]
    {
        http(&[(&format!("directResponse: {{status: 200, body: {{string: {}}}}}", "x".repeat(bytes)), expected)]);
    }
}

#[test]
fn what_is_done_to_a_request_is_well_formed() {
    let of = |field: &str| format!("{field}, {ROUTE}");
    for (field, expected) in [
        ("rewrite: {uri: /}", ""),
        ("rewrite: {}", "!.rewrite: rewrite must specify at least one"),
        ("rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}", "!.rewrite: rewrite may only contain one"),
        ("rewrite: {uriRegexRewrite: {match: a}}", "!.rewrite.uriRegexRewrite: UriRegexRewrite requires both"),
        ("rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "!.rewrite.uriRegexRewrite.match: invalid regex"),
        ("rewrite: {authority: a}, headers: {request: {set: {Host: b}}}", "!.headers.request: authority header"),
        ("timeout: 0s", "!.timeout: duration must be greater than 1ms"),
        ("timeout: 1.0001s", "!.timeout: only durations to ms precision"),
        ("retries: {attempts: 3, retryOn: '5xx,503,cancelled'}", ""),
        ("retries: {attempts: -1}", "!.retries.attempts: attempts cannot be negative"),
        ("retries: {attempts: 0, retryOn: 5xx}", "!.retries.attempts: http retry policy configured"),
        ("retries: {attempts: 1, retryOn: sometimes}", "!.retries.retryOn: \"sometimes\" is not a valid retryOn"),
        ("retries: {attempts: 1, perTryTimeout: 1us}", "!.retries.perTryTimeout: duration must be"),
        ("retries: {attempts: 1, backoff: 0s}", "!.retries.backoff: duration must be"),
        ("headers: {request: {set: {':path': /}}}", "!.headers.request.set.:path: invalid header"),
        ("headers: {request: {set: {a: '%'}}}", "!.headers.request.set.a: header value configuration: un-escaped %"),
        ("headers: {request: {remove: [host]}}", "!.headers.request.remove[0]: invalid header \"host\""),
        ("headers: {response: {add: {host: a}}}", "!.headers.response.add.host: invalid header \"host\""),
        ("headers: {response: {remove: ['']}}", "!.headers.response.remove[0]: header name cannot be empty"),
        ("mirror: {host: b}, mirrorPercentage: {value: 10}", ""),
        ("mirror: {host: b}, mirrorPercentage: {value: 101}", "!.mirrorPercentage.value: mirror percentage must"),
        ("mirror: {host: b}, mirrorPercent: 10", "?.mirrorPercent: using deprecated setting"),
        ("mirror: {host: b}, mirrors: [{destination: {host: c}}]", "!.mirrors: HTTP route cannot contain both"),
        ("mirrors: [{}]", "!.mirrors[0].destination.host: destination host is required"),
        ("mirrors: [{destination: {host: a}, percentage: {value: -1}}]", "!.mirrors[0].percentage.value: mirror"),
        ("fault: {}", "!.fault: HTTP fault injection must have"),
        ("fault: {abort: {}}", "?.fault.abort: abort configured, but error type not set"),
        ("fault: {abort: {httpStatus: 100}}", "!.fault.abort.httpStatus: HTTP status 100"),
        ("fault: {abort: {httpStatus: 500, grpcStatus: OK}}", "!.fault.abort: only one of"),
        ("fault: {abort: {grpcStatus: NOPE}}", "!.fault.abort.grpcStatus: gRPC status"),
        ("fault: {abort: {http2Error: X}}", "!.fault.abort.http2Error: HTTP/2 abort"),
        (
            "fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}",
            "!.fault.abort.percentage.value: percentage",
        ),
        ("fault: {delay: {fixedDelay: 0s}}", "!.fault.delay.fixedDelay: duration must be"),
        ("fault: {delay: {exponentialDelay: 1s}}", "!.fault.delay.exponentialDelay: exponentialDelay not"),
        ("corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: [GET], maxAge: 1h}", ""),
        ("corsPolicy: {allowOrigins: [{}]}", "!.corsPolicy.allowOrigins[0]: '' is not a valid match type"),
        ("corsPolicy: {allowOrigins: [{regex: '['}]}", "!.corsPolicy.allowOrigins[0].regex: invalid regex"),
        ("corsPolicy: {allowMethods: [GETT]}", "!.corsPolicy.allowMethods[0]: \"GETT\" is not"),
        ("corsPolicy: {allowHeaders: ['a b']}", "!.corsPolicy.allowHeaders[0]: header name a b"),
        ("corsPolicy: {exposeHeaders: ['']}", "!.corsPolicy.exposeHeaders[0]: header name cannot be empty"),
        ("corsPolicy: {maxAge: 1500ms}", "!.corsPolicy.maxAge: max_age duration"),
    ] {
        http(&[(&of(field), expected)]);
    }
}

#[test]
fn tls_and_tcp_routes_are_well_formed() {
    let tls = |m: &str| format!("{{hosts: ['*.a.com'], tls: [{{match: [{m}], {ROUTE}}}]}}");
    for (m, expected) in [
        ("{sniHosts: [x.a.com]}", ""),
        ("", "!spec.tls[0].match: TLS route must have at least one match condition"),
        ("{}", "!spec.tls[0].match[0].sniHosts: TLS match must have at least one SNI host"),
        ("{sniHosts: [b.com]}", "!spec.tls[0].match[0].sniHosts[0]: SNI host \"b.com\" is not a compatible subset"),
        ("{sniHosts: ['*.com']}", "!spec.tls[0].match[0].sniHosts[0]: SNI host \"*.com\" is not"),
        ("{sniHosts: [1.1.1.1]}", "?spec.tls[0].match[0].sniHosts[0]: using an IP address"),
        ("{sniHosts: [x.a.com], destinationSubnets: [1.1.1.1/33]}", "!spec.tls[0].match[0].destinationSubnets[0]: 1.1"),
        ("{sniHosts: [x.a.com], port: 70000}", "!spec.tls[0].match[0].port: port number 70000"),
    ] {
        cases(KIND, &[(&tls(m), expected)]);
    }
    cases(
        KIND,
        &[
            ("{hosts: [a], tls: [{match: [{sniHosts: [a]}]}]}", "!spec.tls[0].route: TLS route is required"),
            ("{hosts: [a], tcp: [{route: [{destination: {host: a}}]}]}", ""),
            ("{hosts: [a], tcp: [{}]}", "!spec.tcp[0].route: TCP route is required"),
            (
                "{hosts: [a], tcp: [{match: [{destinationSubnets: [a]}], route: [{destination: {host: a}}]}]}",
                "!spec.tcp[0].match[0].destinationSubnets[0]: a is not a valid IP",
            ),
            (
                "{hosts: [a], tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
                "!spec.tcp[0].route: total destination weight = 0",
            ),
            (
                "{hosts: ['outbound_.80_._.a.com'], gateways: [g], tls: [{match: [{sniHosts: ['outbound_.80_._.a.com']}], route: [{destination: {host: a}}]}]}",
                "",
            ),
        ],
    );
}

#[test]
fn unreachable_rules_are_remarked_on() {
    let of = |matches: [&str; 2]| {
        let rule = |m: &str| format!("{{match: [{m}], {ROUTE}}}");
        format!("{{hosts: [a], http: [{}, {}]}}", rule(matches[0]), rule(matches[1]))
    };
    for (matches, expected) in [
        (["", ""], "?spec.http[1]: rule not used (only the last rule can have no matches)"),
        (["", "{uri: {exact: /}}"], "?spec.http[1]: rule not used (route without matches defined before)"),
        (["{uri: {prefix: /a}}", "{uri: {prefix: /ab}}"], "?spec.http[1].match[0]: match of prefix /ab is not used"),
        (["{uri: {prefix: /a}, port: 1}", "{uri: {prefix: /ab}}"], ""),
        (["{uri: {prefix: /ab}}", "{uri: {prefix: /a}}"], ""),
        (["{uri: {exact: /a}}", "{uri: {exact: /b}}"], ""),
    ] {
        cases(KIND, &[(&of(matches), expected)]);
    }
    let found = verdict(KIND, &of(["{uri: {exact: /a}, name: x}", "{uri: {exact: /a}, name: z}"]));
    assert_eq!(
        found,
        [
            "?spec.http[1].match[0]: match is not used (duplicate match in rule #0)",
            "?spec.http[1]: rule not used (all matches used by prior rules)"
        ]
    );
}
