use super::{cases, object};

#[test]
fn hosts_addresses_ports_and_selectors() {
    cases(
        "ServiceEntry",
        &[
            ("{hosts: [a.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}", ""),
            ("{}", "!spec.hosts: service entry must have at least one host"),
            ("{hosts: ['*']}", "!spec.hosts[0]: invalid host *"),
            ("{hosts: ['*a.com']}", "?spec.hosts[0]: partial wildcard"),
            ("{hosts: [a_b]}", "!spec.hosts[0]: domain name"),
            ("{hosts: [a.com], resolution: SOMEHOW}", "!spec.resolution: unknown value \"SOMEHOW\", expected one of"),
            ("{hosts: [a.com], addresses: [10.0.0.0/8]}", ""),
            ("{hosts: [a.com], addresses: [a]}", "!spec.addresses[0]: a is not a valid IP"),
            ("{hosts: [a.com], addresses: [1.1.1.1/99]}", "!spec.addresses[0]: 1.1.1.1/99 is not a valid CIDR"),
            (
                "{hosts: [a.com], addresses: [10.0.0.0/8], resolution: DNS}",
                "!spec.addresses[0]: CIDR addresses are allowed",
            ),
            ("{hosts: [a.com], ports: [{number: 0, name: a}]}", "!spec.ports[0].number: port number 0"),
            ("{hosts: [a.com], ports: [{number: 1}]}", "!spec.ports[0].name: invalid port name"),
            ("{hosts: [a.com], ports: [{number: 1, name: a, protocol: X}]}", "!spec.ports[0].protocol: unsupported"),
            ("{hosts: [a.com], ports: [{number: 1, name: a, targetPort: 70000}]}", "!spec.ports[0].targetPort: port"),
            (
                "{hosts: [a.com], ports: [{number: 1, name: a}, {number: 2, name: a}]}",
                "!spec.ports[1].name: service entry",
            ),
            ("{hosts: [a.com], ports: [{number: 1, name: a}, {number: 1, name: b}]}", "!spec.ports[1].number: service"),
            ("{hosts: [a.com], endpoints: [{address: 1.1.1.1}]}", "!spec.endpoints: no endpoints should be provided"),
            (
                "{hosts: [a.com], workloadSelector: {labels: {a: b}}}",
                "?spec.workloadSelector: workloadSelector should not",
            ),
            ("{hosts: [a.com], resolution: STATIC, workloadSelector: {}}", "?spec.workloadSelector: workload selector"),
            (
                "{hosts: [a.com], resolution: STATIC, workloadSelector: {labels: {a: '*'}}}",
                "!spec.workloadSelector.labels: wildcard is not supported",
            ),
            (
                "{hosts: [a.com], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: 1.1.1.1}]}",
                "!spec.endpoints: only one of WorkloadSelector",
            ),
        ],
    );
}

#[test]
fn endpoints_fit_the_resolution() {
    cases(
        "ServiceEntry",
        &[
            (
                "{hosts: [a.com], resolution: STATIC, endpoints: [{address: b.com}]}",
                "!spec.endpoints[0].address: endpoint address \"b.com\" is not a valid IP",
            ),
            (
                "{hosts: [a.com], resolution: STATIC, endpoints: [{}]}",
                "!spec.endpoints[0].address: address is required",
            ),
            (
                "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 'unix:///a'}]}",
                "!spec.endpoints[0].address: exactly 1 service port",
            ),
            (
                "{hosts: [a.com], resolution: STATIC, endpoints: [{address: 1.1.1.1, ports: {x: 1}}]}",
                "!spec.endpoints[0].ports.x: endpoint port x (1) is not defined",
            ),
            ("{hosts: ['*.a.com'], resolution: DNS}", "!spec.hosts[0]: hosts must be FQDN"),
            (
                "{hosts: [a.com], resolution: DNS_ROUND_ROBIN, endpoints: [{address: b.com}, {address: c.com}]}",
                "!spec.endpoints: there must only be 0 or 1",
            ),
            (
                "{hosts: [a.com], resolution: DNS, endpoints: [{address: 'a b'}]}",
                "!spec.endpoints[0].address: endpoint address",
            ),
            (
                "{hosts: [a.com, b.com], resolution: DNS, ports: [{number: 1, name: a, protocol: TCP}]}",
                "!spec.ports[0]: multiple hosts provided",
            ),
            (
                "{hosts: [a.com, b.com], resolution: DNS, addresses: [1.1.1.1], ports: [{number: 1, name: a, protocol: TLS}]}",
                "?spec.hosts: service entry can not have more than one host",
            ),
            ("{hosts: ['*.a.com'], resolution: DYNAMIC_DNS}", ""),
            ("{hosts: [a.com], exportTo: ['~']}", ""),
            ("{hosts: [a.com], exportTo: ['~', b]}", "!spec.exportTo: cannot export service entry to no one"),
        ],
    );
}

#[test]
fn dynamic_dns_is_for_wildcards_alone() {
    for (spec, expected) in [
        ("hosts: [a.com]", "!spec.hosts[0]: host must be wildcarded"),
        ("hosts: ['*.a.com'], addresses: [1.1.1.1]", "!spec.addresses: addresses cannot be set"),
        ("hosts: ['*.a.com'], endpoints: [{address: 1.1.1.1}]", "!spec.endpoints: endpoints cannot be set"),
        ("hosts: ['*.a.com'], ports: [{number: 1, name: a, protocol: TCP}]", "!spec.ports[0].protocol: only HTTP"),
    ] {
        let found = super::verdict("ServiceEntry", &format!("{{{spec}, resolution: DYNAMIC_DNS}}"));
        assert!(found.iter().any(|line| line.starts_with(expected)), "{spec}: {found:?}");
    }
}

#[test]
fn labels_of_the_entry_decide_too() {
    let of = |label: &str, spec: &str| {
        object(&format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a, labels: {{{label}}}}}\nspec: {{{spec}}}"
        ))
    };
    let found =
        of("networking.istio.io/enable-autoallocate-ip: 'false'", "hosts: [a.com], ports: [{number: 1, name: a}]");
    assert!(found[0].starts_with("?spec.ports[0]: addresses are required"), "{found:?}");
    let found = of("istio.io/use-waypoint: w", "hosts: ['*.a.com'], resolution: DYNAMIC_DNS, location: MESH_INTERNAL");
    assert!(found[0].starts_with("!spec.location: location MESH_INTERNAL"), "{found:?}");
}
