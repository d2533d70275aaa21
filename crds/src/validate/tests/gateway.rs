use super::{cases, object, verdict};

const KIND: &str = "Gateway";

fn server(servers: &[(&str, &str)]) {
    let specs: Vec<_> = servers
        .iter()
        .map(|(server, expected)| {
            let expected = match expected.split_at_checked(1) {
                Some((sign, rest)) => format!("{sign}spec.servers[0]{rest}"),
                None => String::new(),
            };
            (format!("{{servers: [{{{server}}}]}}"), expected)
        })
        .collect();
    let specs: Vec<_> = specs.iter().map(|(spec, expected)| (spec.as_str(), expected.as_str())).collect();
    cases(KIND, &specs);
}

const HTTP: &str = "port: {number: 80, name: http, protocol: HTTP}";

#[test]
fn servers_have_hosts_and_ports() {
    cases(
        KIND,
        &[
            ("{}", "!spec.servers: gateway must have at least one server"),
            (
                "{servers: [{port: {number: 1, name: a, protocol: HTTP}, hosts: ['*']}, {port: {number: 2, name: a, protocol: HTTP}, hosts: ['*']}]}",
                "!spec.servers[1].port.name: port names in servers must be unique",
            ),
            (
                "{selector: {a: '*'}, servers: [{port: {number: 1, name: a, protocol: HTTP}, hosts: ['*']}]}",
                "!spec.selector: wildcard is not supported",
            ),
        ],
    );
    server(&[
        ("hosts: ['*'], port: {number: 80, name: a, protocol: HTTP}", ""),
        ("hosts: ['*'], port: {number: 80, name: a, protocol: HTTQ}", "!.port.protocol: invalid protocol \"HTTQ\""),
        ("hosts: ['*'], port: {number: 0, name: a, protocol: HTTP}", "!.port.number: port number 0"),
        ("hosts: ['*'], port: {number: 80, protocol: HTTP}", "!.port.name: port name must be set"),
        (
            "hosts: ['*'], port: {number: 80, name: a, protocol: HTTP, targetPort: 1}",
            "!.port.targetPort: targetPort has",
        ),
        ("hosts: ['*'], bind: x, port: {number: 80, name: a, protocol: HTTP}", "!.bind: x is not a valid IP"),
        ("hosts: ['*'], bind: 'unix:///a', port: {name: a, protocol: HTTP}", ""),
        (
            "hosts: ['*'], bind: 'unix:///a', port: {number: 1, name: a, protocol: HTTP}",
            "!.port.number: port number must be 0",
        ),
        ("hosts: ['*'], bind: 'unix://a', port: {name: a, protocol: HTTP}", "!.bind: a is not an absolute path"),
    ]);
}

#[test]
fn hosts_may_have_a_namespace() {
    for (hosts, expected) in [
        ("'*', 'ns/*', ./a.com, '*/*.b.com', 1.1.1.1", ""),
        ("", "!.hosts: server config must contain at least one host"),
        ("a", "!.hosts[0]: short names (non FQDN)"),
        ("'/a.com'", "!.hosts[0]: config namespace and dnsName"),
        ("n_s/a.com", "!.hosts[0]: invalid namespace value"),
        ("'*a.b.com'", "!.hosts[0]: partial wildcard"),
        ("a_b.com", "!.hosts[0]: domain name"),
    ] {
        server(&[(&format!("hosts: [{hosts}], {HTTP}"), expected)]);
    }
}

#[test]
fn a_gateways_name_has_no_dots() {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a.b}}\nspec: {{servers: [{{hosts: ['*'], {HTTP}}}]}}"
    );
    assert!(object(&text)[0].starts_with("!metadata.name: invalid gateway name"));
}

#[test]
fn tls_fits_the_protocol() {
    server(&[
        ("hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}", "!.tls: server must have TLS settings"),
        ("hosts: ['*'], port: {number: 443, name: a, protocol: TLS}, tls: {mode: PASSTHROUGH}", ""),
        ("hosts: ['*'], port: {number: 80, name: a, protocol: HTTP}, tls: {httpsRedirect: true}", ""),
        (
            "hosts: ['*'], port: {number: 443, name: a, protocol: TLS}, tls: {httpsRedirect: true}",
            "?.tls.httpsRedirect: tls.httpsRedirect should only",
        ),
        (
            "hosts: ['*'], port: {number: 1, name: a, protocol: TCP}, tls: {mode: PASSTHROUGH}",
            "!.tls: server cannot have TLS settings for non HTTPS/TLS",
        ),
        (
            "hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: c}",
            "?.tls.credentialName: not translated",
        ),
        (
            "hosts: ['*'], port: {number: 443, name: a, protocol: TLS}, tls: {mode: PASSTHROUGH, credentialName: c}",
            "?.tls: passthrough modes do not use certificates",
        ),
    ]);
}

#[test]
fn certificates_are_complete_and_given_once() {
    for (tls, expected) in [
        ("mode: SIMPLE, privateKey: k", ".serverCertificate: SIMPLE TLS requires a server certificate"),
        ("mode: SIMPLE, serverCertificate: c", ".privateKey: SIMPLE TLS requires a private key"),
        ("mode: MUTUAL, serverCertificate: c, privateKey: k", ".caCertificates: MUTUAL TLS requires a client CA"),
        ("mode: SIMPLE, tlsCertificates: [{privateKey: k}]", ".tlsCertificates[0].serverCertificate: SIMPLE TLS"),
        ("mode: SIMPLE, credentialName: a, credentialNames: [b]", ": only one of credentialName"),
        ("mode: SIMPLE, credentialNames: [a, b, c]", ".credentialNames: at most 2"),
        ("mode: SIMPLE, credentialName: a, caCrl: b", ".caCrl: CRL is not supported with credentialName"),
        ("mode: SIMPLE, serverCertificate: c, privateKey: k, caCrl: b", ".caCrl: CRL is not supported with SIMPLE"),
        ("mode: ISTIO_MUTUAL, credentialName: a", ".credentialName: ISTIO_MUTUAL TLS cannot have"),
        ("mode: NONSENSE", ".mode: unknown value \"NONSENSE\""),
    ] {
        let spec =
            format!("{{servers: [{{hosts: ['*'], port: {{number: 443, name: a, protocol: HTTPS}}, tls: {{{tls}}}}}]}}");
        let found = verdict(KIND, &spec);
        assert!(found[0].starts_with(&format!("!spec.servers[0].tls{expected}")), "{tls}: {found:?}");
    }
    for (tls, expected) in [
        ("cipherSuites: [NOPE]", ".cipherSuites[0]: ignoring invalid cipher suite"),
        ("cipherSuites: [AES128-SHA, AES128-SHA]", ".cipherSuites[1]: ignoring duplicate cipher suite"),
        ("minProtocolVersion: TLSV1_0", ".minProtocolVersion: TLS version below TLSV1_2"),
    ] {
        let spec = format!("hosts: ['*'], port: {{number: 443, name: a, protocol: TLS}}, tls: {{{tls}}}");
        server(&[(&spec, &format!("?.tls{expected}"))]);
    }
}
