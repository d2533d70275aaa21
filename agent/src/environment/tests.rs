//! What the agent is told, as tables.

use super::*;

pub(crate) fn flags(role: Role) -> Flags {
    Flags {
        role,
        domain: "books.svc.cluster.local".to_owned(),
        mesh_config: "./etc/istio/config/mesh".to_owned(),
        service_cluster: String::new(),
        concurrency: 0,
        log_level: "warning".to_owned(),
        component_log_level: "misc:error".to_owned(),
        outlier_log_path: String::new(),
        template_file: String::new(),
    }
}

/// What the injector sets, and `more`.
pub(crate) fn environment(
    role: Role,
    more: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Environment, EnvironmentError> {
    let injected = [
        ("POD_NAME", "reviews-1"),
        ("POD_NAMESPACE", "books"),
        ("INSTANCE_IP", "10.0.0.5"),
        ("SERVICE_ACCOUNT", "bookinfo-reviews"),
        ("HOST_IP", "192.168.0.1"),
        ("PILOT_CERT_PROVIDER", "istiod"),
        ("CA_ADDR", "istiod.istio-system.svc:15012"),
        ("TRUST_DOMAIN", "cluster.local"),
        ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
        ("ISTIO_META_MESH_ID", "cluster.local"),
        ("ISTIO_META_WORKLOAD_NAME", "reviews"),
        ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
        ("PROXY_CONFIG", "{}\n"),
    ];
    let variables = injected.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let read =
        |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, content)| (*content).to_owned());
    Environment::new(flags(role), variables, &read)
}

#[test]
fn the_injectors_variables_are_enough() {
    let told = environment(Role::Sidecar, &[], &[("./etc/istio/pod/labels", "app=\"reviews\"\n")]).unwrap();
    assert_eq!(told.pod.ip().to_string(), "10.0.0.5");
    assert_eq!(told.pod.labels["app"], "reviews");
    assert_eq!(told.certificate.identity.to_string(), "spiffe://cluster.local/ns/books/sa/bookinfo-reviews");
    assert_eq!(told.certificate.key, KeyKind::P256);
    assert_eq!(told.certificate.server.name, "istiod.istio-system.svc");
    assert_eq!(told.certificate.server.roots, Roots::File("./var/run/secrets/istio/root-cert.pem".into()));
    assert_eq!(told.discovery.server.address, "istiod.istio-system.svc:15012");
    assert_eq!(told.discovery.protocol, Protocol::Delta);
    assert_eq!(told.drain, Drain::After(Duration::from_secs(5)));
    assert_eq!((told.envoy_status_port, told.envoy_prometheus_port), (15021, 15090));
    assert_eq!((told.dns, told.concurrency, told.envoy), (None, None, Envoy::Run));
}

#[test]
fn each_variable_decides_its_setting() {
    type Check = fn(&Environment) -> bool;
    let cases: &[(&[(&str, &str)], Check)] = &[
        (&[("ISTIO_CPU_LIMIT", "2")], |it| it.concurrency == Some(2)),
        (&[("ISTIO_CPU_LIMIT", "2"), ("PROXY_CONFIG", "{\"concurrency\":0}")], |it| it.concurrency == Some(0)),
        (&[("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"), ("MINIMUM_DRAIN_DURATION", "7s")], |it| {
            it.drain == Drain::WhenIdle { minimum: Duration::from_secs(7) }
        }),
        (&[("PROXY_CONFIG", "terminationDrainDuration: 20s")], |it| it.drain == Drain::After(Duration::from_secs(20))),
        (&[("TERMINATION_DRAIN_DURATION_SECONDS", "3")], |it| it.drain == Drain::After(Duration::from_secs(3))),
        (&[("PROXY_CONFIG", "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}")], |it| it.dns == Some(None)),
        (&[("WORKLOAD_RSA_KEY_SIZE", "2048")], |it| it.certificate.key == KeyKind::Rsa2048),
        (&[("ECC_SIGNATURE_ALGORITHM", "ECDSA"), ("ECC_CURVE", "P384")], |it| it.certificate.key == KeyKind::P384),
        (&[("ISTIOD_SAN", "other.svc")], |it| it.discovery.server.name == "other.svc"),
        (&[("XDS_ROOT_CA", "SYSTEM")], |it| it.discovery.server.roots == Roots::System),
        (&[("CA_ROOT_CA", "/a/b.pem")], |it| it.certificate.server.roots == Roots::File("/a/b.pem".into())),
        (&[("JWT_POLICY", "first-party-jwt")], |it| it.discovery.token == Path::new(TOKEN_OF_KUBERNETES)),
        (&[("ISTIO_DELTA_XDS", "false")], |it| it.discovery.protocol == Protocol::State),
        (&[("FILE_MOUNTED_CERTS", "true")], |it| it.certificate.source == CertificateSource::Files),
        (&[("INSTANCE_IP", "fd00::5"), ("ISTIO_META_INSTANCE_IPS", "fd00::5,10.0.0.5")], |it| {
            it.pod.ips.len() == 2 && it.pod.ip().is_ipv6()
        }),
        (&[("PROXY_CONFIG", "discoveryAddress: istiod.x.svc:15010"), ("CA_ADDR", "")], |it| {
            it.discovery.server.auth == ControlPlaneAuth::None
        }),
    ];
    for (variables, check) in cases {
        let told = environment(Role::Sidecar, variables, &[]).unwrap();
        assert!(check(&told), "{variables:?}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, expected) in [
        ("INSTANCE_IP", "reviews", "INSTANCE_IP=\"reviews\" is not an IP address"),
        ("INSTANCE_IP", "", "INSTANCE_IP is not set"),
        ("POD_NAME", "", "POD_NAME is not set"),
        ("SECRET_TTL", "5", "SECRET_TTL=\"5\" is not a duration"),
        ("SECRET_TTL", "0", "SECRET_TTL=\"0\" is not longer than nothing"),
        ("SECRET_GRACE_PERIOD_RATIO", "2", "is not a number from 0 to 1"),
        ("SECRET_GRACE_PERIOD_RATIO", "NaN", "is not a number from 0 to 1"),
        ("ENVOY_STATUS_PORT", "0", "is not a port"),
        ("WORKLOAD_RSA_KEY_SIZE", "1024", "is not 2048, 3072 or 4096"),
        ("CA_ADDR", "istiod", "is not host:port"),
        ("PROXY_CONFIG", "[", "PROXY_CONFIG: "),
    ] {
        let error = environment(Role::Sidecar, &[(name, value)], &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_annotation_is_stronger_than_the_variable_and_the_variable_than_the_mesh() {
    let files = [
        ("./etc/istio/config/mesh", "defaultConfig:\n  discoveryAddress: a:1\n  concurrency: 1\n  drainDuration: 1s\n"),
        ("./etc/istio/pod/annotations", "proxy.istio.io/config=\"concurrency: 3\\n\"\n"),
    ];
    let variables = [("PROXY_CONFIG", "{\"concurrency\":2,\"drainDuration\":\"2s\"}")];
    let told = environment(Role::Sidecar, &variables, &files).unwrap();
    assert_eq!(told.discovery.server.address, "a:1");
    assert_eq!(told.concurrency, Some(3));
    assert_eq!(told.proxy_config.drain_duration, Duration::from_secs(2));
}
