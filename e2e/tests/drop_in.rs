//! The drop-in contract in one place: what somebody who has Istio relies on by name, each name looked up in the real
//! thing: command lines, rendered manifests, injected pods, bootstraps, golden configurations, metrics.
//!
//! A name that navarch does not have yet stands in [`WAITING`], one that it has otherwise on purpose in [`OTHERWISE`],
//! both with the reason. Both are checked too: a name that waits must be missing, so that the lists cannot go stale.

#[path = "drop_in/real.rs"]
mod real;

use real::{
    agent_defaults, agent_follows, agent_variables, envoy_names, files, flags, golden_inputs_say, injected_parts,
    injection_followed, injection_follows, installation, literals, mesh_defaults, metrics, names, pages, ports, text,
    variables_read, variables_said, variables_said_of, variables_used, verbs, versions, written,
};
use std::collections::BTreeSet;

/// A kind of name: what Istio has, and what navarch really has.
struct Part {
    name: &'static str,
    /// Names, by comma.
    contract: &'static str,
    real: fn() -> BTreeSet<String>,
}

const PARTS: &[Part] = &[
    Part {
        name: "verb",
        contract: "
            discovery, agent proxy sidecar, agent proxy router, agent proxy waypoint, agent wait, agent request,
            agent istio-iptables, agent istio-clean-iptables, agent version, request, install, upgrade, uninstall,
            manifest, kube-inject, analyze, proxy-status, proxy-config, version, tag, create-remote-secret,
            bug-report, experimental",
        real: verbs,
    },
    Part { name: "name of the program", contract: "pilot-discovery, pilot-agent, istioctl", real: names },
    Part {
        name: "istiod's flag",
        contract: "
            --registries, --clusterRegistriesNamespace, --kubeconfig, --meshConfig=./etc/istio/config/mesh,
            --networksConfig, --namespace=istio-system, -n, --cniNamespace, --shutdownDuration=10s, --configDir,
            --domain=cluster.local, --clusterID=Kubernetes, --clusterAliases, --httpAddr=:8080, --httpsAddr=:15017,
            --grpcAddr=:15010, --secureGRPCAddr=:15012, --monitoringAddr=:15014, --profile, --caCertFile,
            --tlsCertFile, --tlsKeyFile, --tls-cipher-suites, --tls-min-version, --kubernetesApiQPS,
            --kubernetesApiBurst, --keepaliveInterval, --keepaliveTimeout, --keepaliveMaxServerConnectionAge,
            --log_output_level=default:info, --log_as_json, --log_target, --log_caller, --log_stacktrace_level,
            --ctrlz_port, --ctrlz_address",
        real: || flags(&["discovery"]),
    },
    Part {
        name: "the agent's flag",
        contract: "
            --domain, --meshConfig=./etc/istio/config/mesh, --stsPort=0, --tokenManagerPlugin, --serviceCluster,
            --proxyLogLevel=warning,misc:error, --proxyComponentLogLevel, --concurrency=0, --templateFile,
            --outlierLogPath, --profiling=true, --log_output_level=default:info, --log_as_json",
        real: || flags(&["agent", "proxy"]),
    },
    Part {
        name: "flag of istio-iptables",
        contract: "
            -p, -z, -e, -u, -g, -m, -b, -d, -c, -i, -x, -q, -o, -k, -t, -r, -n, --redirect-dns, --capture-all-dns,
            --drop-invalid, --dual-stack, --run-validation, --skip-rule-apply, --cleanup-only, --force-apply,
            --native-nftables, --force-iptables-binary, --network-namespace, --cni-mode, --reconcile,
            --iptables-probe-port=15002, --probe-timeout=5s",
        real: || flags(&["agent", "istio-iptables"]),
    },
    Part { name: "istiod's variable", contract: ISTIOD_VARIABLES, real: || variables_read().into_iter().collect() },
    Part {
        name: "istiod's variable in use",
        contract: "
            REVISION, POD_NAME, XDS_AUTH, PILOT_ENABLE_XDS_IDENTITY_CHECK, ENABLE_CA_SERVER, INJECT_ENABLED,
            ENABLE_LEADER_ELECTION, TOKEN_AUDIENCES, DEFAULT_WORKLOAD_CERT_TTL, MAX_WORKLOAD_CERT_TTL,
            CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE, CITADEL_SELF_SIGNED_CA_CERT_TTL,
            CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL, CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE,
            ROOT_CA_DIR, ISTIOD_CUSTOM_HOST, INJECTION_WEBHOOK_CONFIG_NAME, VALIDATION_WEBHOOK_CONFIG_NAME,
            ENABLE_NATIVE_SIDECARS, ENABLE_DEBUG_ON_HTTP",
        real: variables_used,
    },
    Part {
        name: "variable that istiod says it does not act on",
        contract: ISTIOD_VARIABLES_WITHOUT_EFFECT,
        real: variables_said,
    },
    Part {
        name: "the agent's variable",
        contract: "
            INSTANCE_IP, POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT, HOST_IP, PROXY_CONFIG, ISTIO_META_CLUSTER_ID,
            ISTIO_META_NETWORK, ISTIO_META_MESH_ID, ISTIO_META_WORKLOAD_NAME, ISTIO_META_OWNER, ISTIO_META_POD_PORTS,
            ISTIO_META_APP_CONTAINERS, ISTIO_META_INTERCEPTION_MODE, ISTIO_META_NODE_NAME, ISTIO_META_DNS_CAPTURE,
            ISTIO_META_DNS_AUTO_ALLOCATE, CA_ADDR, CA_PROVIDER, PILOT_CERT_PROVIDER, TRUST_DOMAIN, SECRET_TTL,
            SECRET_GRACE_PERIOD_RATIO, SECRET_GRACE_PERIOD_RATIO_JITTER, WORKLOAD_RSA_KEY_SIZE,
            ECC_SIGNATURE_ALGORITHM, ECC_CURVE, JWT_POLICY, FILE_MOUNTED_CERTS, OUTPUT_CERTS, PROV_CERT, XDS_ROOT_CA,
            CA_ROOT_CA, ISTIOD_SAN, ENVOY_STATUS_PORT, ENVOY_PROMETHEUS_PORT, DNS_PROXY_ADDR, MINIMUM_DRAIN_DURATION,
            EXIT_ON_ZERO_ACTIVE_CONNECTIONS, TERMINATION_DRAIN_DURATION_SECONDS, WASM_INSECURE_REGISTRIES,
            WASM_MODULE_EXPIRY, ISTIO_BOOTSTRAP_OVERRIDE, ISTIO_DELTA_XDS, DISABLE_ENVOY, ISTIO_CPU_LIMIT",
        real: agent_variables,
    },
    Part {
        name: "default of the agent's variable",
        contract: "
            SECRET_TTL=24h, SECRET_GRACE_PERIOD_RATIO=0.5, SECRET_GRACE_PERIOD_RATIO_JITTER=0.01,
            WORKLOAD_RSA_KEY_SIZE=2048, ENVOY_STATUS_PORT=15021, ENVOY_PROMETHEUS_PORT=15090,
            MINIMUM_DRAIN_DURATION=5s, ISTIO_DELTA_XDS=true, TRUST_DOMAIN=cluster.local",
        real: agent_defaults,
    },
    Part {
        name: "port",
        contract: "
            istiod 8080, istiod 15010, istiod 15012, istiod 15014, istiod 15017, istiod 9876,
            Service istiod 15010 grpc-xds, Service istiod 15012 https-dns, Service istiod 443 https-webhook,
            Service istiod 15014 http-monitoring, Service gateway 15021 status-port, Service gateway 80 http2,
            Service gateway 443 https, Service gateway 15443 tls, proxy 15000 admin, proxy 15001 outbound,
            proxy 15004 debug, proxy 15006 inbound, proxy 15008 HBONE, proxy 15020 agent, proxy 15021 health,
            proxy 15053 DNS, proxy 15090 http-envoy-prom",
        real: ports,
    },
    Part {
        name: "file",
        contract: "
            istiod /etc/istio/config, istiod /etc/cacerts, istiod /var/run/secrets/tokens,
            istiod /var/run/secrets/istio-dns, istiod /var/run/secrets/istiod/tls, istiod /var/run/secrets/istiod/ca,
            istiod /var/run/secrets/remote, proxy /var/run/secrets/tokens, proxy /var/run/secrets/istio,
            proxy /var/run/secrets/workload-spiffe-uds, proxy /var/run/secrets/workload-spiffe-credentials,
            proxy /var/run/secrets/credential-uds, proxy /etc/istio/proxy, proxy /etc/istio/pod,
            proxy /var/lib/istio/data, agent ./var/run/secrets/tokens/istio-token,
            agent ./var/run/secrets/istio/root-cert.pem, agent ./etc/istio/pod/labels,
            agent ./etc/istio/pod/annotations, agent ./etc/istio/config/mesh, agent /usr/local/bin/envoy,
            agent ./etc/istio/proxy, agent envoy-rev.json, agent etc/istio/proxy/XDS,
            agent var/run/secrets/workload-spiffe-uds, agent grpc-bootstrap.json",
        real: files,
    },
    Part {
        name: "object of the installation",
        contract: "
            Deployment istiod, Service istiod, ServiceAccount istiod, ConfigMap istio mesh,
            ConfigMap istio meshNetworks, ConfigMap istio-sidecar-injector config,
            ConfigMap istio-sidecar-injector values, ConfigMap values, HorizontalPodAutoscaler istiod,
            PodDisruptionBudget istiod, MutatingWebhookConfiguration istio-sidecar-injector,
            ValidatingWebhookConfiguration istio-validator-istio-system,
            ValidatingWebhookConfiguration istiod-default-validator, Deployment istio-ingressgateway,
            Deployment istiod-canary, Service istiod-canary, ConfigMap istio-canary mesh,
            ConfigMap istio-sidecar-injector-canary config,
            MutatingWebhookConfiguration istio-sidecar-injector-canary,
            MutatingWebhookConfiguration istio-revision-tag-prod,
            ValidatingWebhookConfiguration istio-validator-canary-istio-system,
            webhook rev.namespace.sidecar-injector.istio.io /inject,
            webhook rev.object.sidecar-injector.istio.io /inject, webhook namespace.sidecar-injector.istio.io /inject,
            webhook object.sidecar-injector.istio.io /inject, webhook rev.validation.istio.io /validate,
            webhook validation.istio.io /validate, namespaceSelector istio-injection, namespaceSelector istio.io/rev,
            objectSelector sidecar.istio.io/inject, objectSelector istio.io/rev, label app=istiod, label istio=pilot, label istio.io/rev=default,
            label operator.istio.io/component=Pilot, container discovery, probe /ready 8080",
        real: installation,
    },
    Part {
        name: "object that the control plane writes",
        contract: "
            ConfigMap istio-ca-root-cert root-cert.pem, Secret istio-ca-secret, Secret cacerts, Lease istio-leader,
            Lease istio-namespace-controller-election, Secret istio/multiCluster=true",
        real: written,
    },
    Part {
        name: "kind",
        contract: "
            authorizationpolicies.security.istio.io, destinationrules.networking.istio.io,
            envoyfilters.networking.istio.io, gateways.networking.istio.io, peerauthentications.security.istio.io,
            proxyconfigs.networking.istio.io, requestauthentications.security.istio.io,
            serviceentries.networking.istio.io, sidecars.networking.istio.io, telemetries.telemetry.istio.io,
            trafficextensions.extensions.istio.io, virtualservices.networking.istio.io,
            wasmplugins.extensions.istio.io, workloadentries.networking.istio.io, workloadgroups.networking.istio.io",
        real: || deploy::crd::DEFINITIONS.iter().map(deploy::crd::Definition::name).collect(),
    },
    Part {
        name: "part of an injected pod",
        contract: "
            container istio-proxy, container istio-init, uid 1337, gid 1337, mode REDIRECT,
            label security.istio.io/tlsMode=istio, label service.istio.io/canonical-name=reviews,
            label service.istio.io/canonical-revision=v1, annotation istio.io/rev=default,
            annotation sidecar.istio.io/status, annotation prometheus.io/port=15020,
            annotation prometheus.io/path=/stats/prometheus, annotation prometheus.io/scrape=true,
            annotation kubectl.kubernetes.io/default-container=app, probe /healthz/ready 15021, audience istio-ca,
            volume istio-envoy, volume istio-data, volume istio-podinfo, volume istio-token, volume istiod-ca-cert,
            volume workload-socket, volume workload-certs, variable ISTIO_META_CLUSTER_ID,
            variable ISTIO_META_WORKLOAD_NAME, variable ISTIO_META_OWNER, variable ISTIO_META_POD_PORTS,
            variable ISTIO_META_APP_CONTAINERS, variable ISTIO_META_NODE_NAME, variable ISTIO_META_INTERCEPTION_MODE,
            variable ISTIO_META_MESH_ID, variable TRUST_DOMAIN, variable CA_ADDR, variable PILOT_CERT_PROVIDER,
            variable PROXY_CONFIG, variable HOST_IP, variable INSTANCE_IP, variable ISTIO_KUBE_APP_PROBERS,
            variable ISTIO_PROMETHEUS_ANNOTATIONS",
        real: injected_parts,
    },
    Part { name: "label or annotation that injection follows", contract: INJECTION_KEYS, real: injection_followed },
    Part {
        name: "annotation of a Service",
        contract: "
            networking.istio.io/exportTo, networking.istio.io/traffic-distribution, traffic.istio.io/nodeSelector",
        real: || golden_inputs_say("annotation of a Service"),
    },
    Part {
        name: "name in Envoy",
        contract: "
            outbound|9080||reviews.default.svc.cluster.local, outbound|9080|v2|reviews.default.svc.cluster.local,
            inbound|9080||, PassthroughCluster, BlackHoleCluster, InboundPassthroughCluster, virtualOutbound,
            virtualInbound, virtualOutbound-blackhole, virtualOutbound-catchall-tcp, virtualInbound-blackhole,
            virtualInbound-catchall-http, PassthroughFilterChain, 0.0.0.0_9080, http.8080, xds-grpc, sds-grpc,
            prometheus_stats, agent, outbound_.9080_._.reviews.default.svc.cluster.local,
            istio.metadata_exchange, istio.stats",
        real: envoy_names,
    },
    Part {
        name: "name of a secret",
        contract: "default, ROOTCA, file-cert:, file-root:, kubernetes://",
        real: || literals(&["agent/src/secret/resource.rs", "controller/translate/src/tls.rs"]),
    },
    Part {
        name: "type on a stream",
        contract: "
            type.googleapis.com/envoy.config.cluster.v3.Cluster,
            type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment,
            type.googleapis.com/envoy.config.listener.v3.Listener,
            type.googleapis.com/envoy.config.route.v3.RouteConfiguration,
            type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret,
            type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig,
            type.googleapis.com/istio.networking.nds.v1.NameTable,
            type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig, istio.io/debug, istio.io/debug/syncz",
        real: || xds::TypeUrl::ALL.iter().map(|it| it.url().to_owned()).collect(),
    },
    Part {
        name: "label of a workload or a node",
        contract: "
            topology.kubernetes.io/region, topology.kubernetes.io/zone, topology.istio.io/subzone, istio-locality,
            security.istio.io/tlsMode, topology.istio.io/network, topology.istio.io/cluster",
        real: || literals(&["controller/model/src/endpoint.rs"]),
    },
    Part {
        name: "identity",
        contract: "spiffe://cluster.local/ns/shop/sa/cart, istio.v1.auth.IstioCertificateService",
        real: || {
            let identity = ca::spiffe::Identity::new("cluster.local", "shop", "cart");
            BTreeSet::from([identity.to_string(), ca::wire::SERVICE.to_owned()])
        },
    },
    Part {
        name: "default of MeshConfig",
        contract: "
            connectTimeout 10s, dnsRefreshRate 60s, protocolDetectionTimeout 0s, enableAutoMtls true,
            outboundTrafficPolicy AllowAny, inboundTrafficPolicy Passthrough, rootNamespace istio-system,
            trustDomain cluster.local, proxyListenPort 15001, proxyInboundListenPort 15006,
            ingressService istio-ingressgateway, drainDuration 45s, terminationDrainDuration 5s, statNameLength 189,
            proxyAdminPort 15000, statusPort 15020, discoveryAddress istiod.istio-system.svc:15012,
            enablePrometheusMerge true, ingressControllerMode STRICT",
        real: mesh_defaults,
    },
    Part {
        name: "page",
        contract: "
            istiod /ready, istiod /metrics, istiod /version, istiod /debug, istiod /debug/list, istiod /debug/syncz,
            istiod /debug/connections, istiod /debug/config_dump, istiod /debug/mesh, istiod /debug/adsz,
            istiod /debug/registryz, istiod /debug/endpointz, istiod /debug/endpointShardz, istiod /debug/cachez,
            istiod /debug/configz, istiod /debug/sidecarz, istiod /debug/resourcesz, istiod /debug/instancesz,
            istiod /debug/authorizationz, istiod /debug/telemetryz, istiod /debug/push_status,
            istiod /debug/pushcontext, istiod /debug/inject, istiod /debug/clusterz, istiod /debug/networkz,
            istiod /debug/mcsz, istiod /debug/ecdsz, istiod /debug/edsz, istiod /debug/ndsz, istiod /debug/krtz,
            istiod /debug/force_disconnect, webhook /inject, webhook /inject/{*pairs}, webhook /validate,
            webhook /ready, agent /healthz/ready, agent /metrics, agent /stats/prometheus, agent /quitquitquit,
            agent /drain, agent /app-health/{*rest}, agent /app-lifecycle/{*rest}, agent /debug/ndsz",
        real: pages,
    },
    Part { name: "metric", contract: METRICS, real: metrics },
    Part {
        name: "version",
        contract: "/version begins with Istio's, istio_build begins with Istio's, the agent's begins with Istio's",
        real: versions,
    },
];

const ISTIOD_VARIABLES: &str = "
    REVISION, CLUSTER_ID, POD_NAME, POD_NAMESPACE, KUBECONFIG, PILOT_CERT_PROVIDER, PILOT_TRACE_SAMPLING,
    PILOT_DEBOUNCE_AFTER, PILOT_DEBOUNCE_MAX, PILOT_ENABLE_EDS_DEBOUNCE, PILOT_PUSH_THROTTLE, ISTIO_DELTA_XDS,
    XDS_AUTH, PILOT_ENABLE_XDS_IDENTITY_CHECK, ENABLE_CA_SERVER, ENABLE_LEADER_ELECTION, INJECT_ENABLED,
    TOKEN_AUDIENCES, ROOT_CA_DIR, ISTIOD_CUSTOM_HOST, PILOT_ENABLE_GATEWAY_API, PILOT_ENABLE_GATEWAY_API_STATUS,
    PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER, PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER,
    PILOT_GATEWAY_API_CONTROLLER_NAME, PILOT_ENABLE_IP_AUTOALLOCATE, ENABLE_NATIVE_SIDECARS,
    PILOT_SCOPE_GATEWAY_TO_NAMESPACE, PILOT_FILTER_GATEWAY_CLUSTER_CONFIG, EXTERNAL_ISTIOD, SHARED_MESH_CONFIG,
    ISTIO_MULTIROOT_MESH, PILOT_ENABLE_ANALYSIS, INJECTION_WEBHOOK_CONFIG_NAME, VALIDATION_WEBHOOK_CONFIG_NAME,
    ENABLE_DEBUG_ON_HTTP, ENABLE_DEBUG_ENDPOINT_AUTH, UNSAFE_ENABLE_ADMIN_ENDPOINTS, PILOT_JWT_ENABLE_REMOTE_JWKS,
    BLOCKED_CIDRS_IN_JWKS_URIS, PILOT_HTTP10, PILOT_IGNORE_RESOURCES, PILOT_INCLUDE_RESOURCES,
    PILOT_CA_CERT_CONFIGMAP, MAX_WORKLOAD_CERT_TTL, DEFAULT_WORKLOAD_CERT_TTL, CITADEL_SELF_SIGNED_CA_CERT_TTL,
    CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE, CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL,
    CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE, CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR,
    USE_CACERTS_FOR_SELF_SIGNED_CA, CA_TRUSTED_NODE_ACCOUNTS, ISTIO_GPRC_MAXSTREAMS, PILOT_XDS_CACHE_SIZE";

/// Nothing of Istio's is passed over in silence: what is not read is said, once, at the start.
const ISTIOD_VARIABLES_WITHOUT_EFFECT: &str = "
    PILOT_CERT_PROVIDER, PILOT_TRACE_SAMPLING, PILOT_DEBOUNCE_AFTER, PILOT_DEBOUNCE_MAX, PILOT_ENABLE_EDS_DEBOUNCE,
    PILOT_PUSH_THROTTLE, ISTIO_DELTA_XDS, PILOT_ENABLE_GATEWAY_API, PILOT_ENABLE_GATEWAY_API_STATUS,
    PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER, PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER,
    PILOT_GATEWAY_API_CONTROLLER_NAME, PILOT_ENABLE_IP_AUTOALLOCATE, PILOT_SCOPE_GATEWAY_TO_NAMESPACE,
    PILOT_FILTER_GATEWAY_CLUSTER_CONFIG, EXTERNAL_ISTIOD, SHARED_MESH_CONFIG, ISTIO_MULTIROOT_MESH,
    PILOT_ENABLE_ANALYSIS, ENABLE_DEBUG_ENDPOINT_AUTH, UNSAFE_ENABLE_ADMIN_ENDPOINTS, PILOT_JWT_ENABLE_REMOTE_JWKS,
    BLOCKED_CIDRS_IN_JWKS_URIS, PILOT_HTTP10, PILOT_IGNORE_RESOURCES, PILOT_INCLUDE_RESOURCES,
    INJECT_ENABLED, PILOT_CA_CERT_CONFIGMAP, CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR,
    CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL, USE_CACERTS_FOR_SELF_SIGNED_CA, CA_TRUSTED_NODE_ACCOUNTS, ISTIO_GPRC_MAXSTREAMS, PILOT_XDS_CACHE_SIZE";

const INJECTION_KEYS: &str = "
    label sidecar.istio.io/inject, sidecar.istio.io/inject, inject.istio.io/templates,
    istio.io/reroute-virtual-interfaces, k8s.v1.cni.cncf.io/networks, prometheus.istio.io/merge-metrics,
    proxy.istio.io/config, proxy.istio.io/overrides, readiness.status.sidecar.istio.io/applicationPorts,
    readiness.status.sidecar.istio.io/failureThreshold, readiness.status.sidecar.istio.io/initialDelaySeconds,
    readiness.status.sidecar.istio.io/periodSeconds, sidecar.istio.io/agentLogLevel,
    sidecar.istio.io/bootstrapOverride, sidecar.istio.io/capNetBindService, sidecar.istio.io/componentLogLevel,
    sidecar.istio.io/discoveryAddress, sidecar.istio.io/interceptionMode, sidecar.istio.io/logLevel,
    sidecar.istio.io/nativeSidecar, sidecar.istio.io/proxyCPU, sidecar.istio.io/proxyCPULimit,
    sidecar.istio.io/proxyImage, sidecar.istio.io/proxyImageType, sidecar.istio.io/proxyMemory,
    sidecar.istio.io/proxyMemoryLimit, sidecar.istio.io/rewriteAppHTTPProbers, sidecar.istio.io/userVolume,
    sidecar.istio.io/userVolumeMount, status.sidecar.istio.io/port, traffic.sidecar.istio.io/excludeInboundPorts,
    traffic.sidecar.istio.io/excludeInterfaces, traffic.sidecar.istio.io/excludeOutboundIPRanges,
    traffic.sidecar.istio.io/excludeOutboundPorts, traffic.sidecar.istio.io/includeInboundPorts,
    traffic.sidecar.istio.io/includeOutboundIPRanges, traffic.sidecar.istio.io/includeOutboundPorts,
    traffic.sidecar.istio.io/kubevirtInterfaces";

const METRICS: &str = "
    pilot_xds, pilot_xds_pushes, pilot_xds_push_time, pilot_proxy_convergence_time, pilot_proxy_queue_time,
    pilot_debounce_time, pilot_pushcontext_init_seconds, pilot_xds_config_size_bytes, pilot_xds_send_time,
    pilot_push_triggers, pilot_inbound_updates, pilot_k8s_cfg_events, pilot_k8s_reg_events, pilot_total_xds_rejects,
    pilot_total_xds_internal_errors, pilot_xds_cds_reject, pilot_xds_expired_nonce, pilot_xds_write_timeout,
    pilot_services, pilot_virt_services, pilot_vservice_dup_domain, pilot_destrule_subsets,
    pilot_duplicate_envoy_clusters, pilot_conflict_inbound_listener,
    pilot_conflict_outbound_listener_tcp_over_current_tcp, pilot_eds_no_instances, endpoint_no_pod, pilot_no_ip,
    pilot_endpoint_not_ready, pilot_envoy_filter_status, pilot_sds_certificate_errors_total,
    pilot_jwks_resolver_network_fetch_success_total, pilot_jwks_resolver_network_fetch_fail_total, pilot_info,
    istio_build, istiod_uptime_seconds, istiod_managed_clusters, sidecar_injection_requests_total,
    sidecar_injection_success_total, sidecar_injection_failure_total, sidecar_injection_skip_total,
    sidecar_injection_time_seconds, galley_validation_passed, galley_validation_failed, galley_validation_http_error,
    galley_validation_config_updates, galley_validation_config_update_error, galley_validation_config_load_error,
    citadel_server_csr_count, citadel_server_success_cert_issuance_count, citadel_server_authentication_failure_count,
    citadel_server_csr_parsing_err_count, citadel_server_csr_sign_err_count, citadel_server_id_extraction_err_count,
    citadel_server_root_cert_expiry_timestamp, citadel_server_root_cert_expiry_seconds,
    citadel_server_cert_chain_expiry_timestamp, citadel_server_cert_chain_expiry_seconds,
    webhook_patch_attempts_total, webhook_patch_failures_total, webhook_patch_retries_total, xds_cache_reads,
    xds_cache_evictions, xds_cache_size, controller_sync_errors_total, process_cpu_seconds_total,
    process_resident_memory_bytes, istio_agent_scrapes_total, istio_agent_scrape_failures_total,
    istio_agent_startup_duration_seconds, istio_agent_num_outgoing_requests, istio_agent_num_failed_outgoing_requests,
    istio_agent_cert_expiry_seconds, istio_agent_xds_proxy_requests, istio_agent_xds_proxy_responses,
    istio_agent_istiod_connection_failures, istio_agent_istiod_connection_terminations,
    istio_agent_envoy_connection_terminations, istio_agent_dns_requests_total,
    istio_agent_dns_upstream_requests_total, istio_agent_dns_upstream_failures_total,
    istio_agent_dns_upstream_request_duration_seconds, istio_agent_wasm_cache_entries, istio_requests_total,
    istio_request_duration_milliseconds, istio_request_bytes, istio_response_bytes, istio_request_messages_total,
    istio_response_messages_total, istio_tcp_sent_bytes_total, istio_tcp_received_bytes_total,
    istio_tcp_connections_opened_total, istio_tcp_connections_closed_total";

/// What navarch does not have yet: part, names, why. Each is checked to be missing.
const WAITING: &[(&str, &str, &str)] = &[
    ("verb", "agent proxy waypoint", "ambient mode is not served yet"),
    (
        "verb",
        "analyze, proxy-status, proxy-config, version, tag, create-remote-secret, bug-report, experimental",
        "istioctl's verbs come with the tools for users; `navarch agent version` prints the version",
    ),
    ("name of the program", "istioctl", "its verbs are not there yet"),
    (
        "istiod's flag",
        "--configDir",
        "`navarch up` reads folders; the control plane in Kubernetes reads its API server",
    ),
    (
        "istiod's flag",
        "--caCertFile, --tlsCertFile, --tlsKeyFile",
        "istiod's own certificate always comes from the CA; certificates from files come with external CAs",
    ),
    (
        "istiod's flag",
        "--tls-cipher-suites, --tls-min-version",
        "rustls has TLS 1.2 and 1.3 with modern suites alone; nothing weaker can be chosen, stricter ones neither yet",
    ),
    (
        "istiod's variable",
        "PILOT_CERT_PROVIDER, EXTERNAL_ISTIOD, CA_TRUSTED_NODE_ACCOUNTS, USE_CACERTS_FOR_SELF_SIGNED_CA, \
         CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR, ISTIO_MULTIROOT_MESH, PILOT_CA_CERT_CONFIGMAP",
        "other CAs, control planes outside of the cluster, ambient's node accounts and more roots are not served yet",
    ),
    (
        "istiod's variable",
        "PILOT_DEBOUNCE_AFTER, PILOT_DEBOUNCE_MAX, PILOT_ENABLE_EDS_DEBOUNCE, PILOT_PUSH_THROTTLE, \
         PILOT_XDS_CACHE_SIZE, ISTIO_GPRC_MAXSTREAMS, ISTIO_DELTA_XDS",
        "they tune istiod's insides: here changes are applied at once in batches, and both protocols are always served",
    ),
    (
        "istiod's variable",
        "PILOT_ENABLE_GATEWAY_API, PILOT_ENABLE_GATEWAY_API_STATUS, PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER, \
         PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER, PILOT_GATEWAY_API_CONTROLLER_NAME",
        "the Gateway API is not translated yet",
    ),
    (
        "istiod's variable",
        "PILOT_TRACE_SAMPLING, PILOT_ENABLE_IP_AUTOALLOCATE, PILOT_SCOPE_GATEWAY_TO_NAMESPACE, \
         PILOT_FILTER_GATEWAY_CLUSTER_CONFIG, SHARED_MESH_CONFIG, PILOT_ENABLE_ANALYSIS, PILOT_HTTP10, \
         PILOT_IGNORE_RESOURCES, PILOT_INCLUDE_RESOURCES",
        "what they switch is not there, or has its default always",
    ),
    (
        "istiod's variable",
        "PILOT_JWT_ENABLE_REMOTE_JWKS, BLOCKED_CIDRS_IN_JWKS_URIS",
        "RequestAuthentication is not translated yet",
    ),
    (
        "istiod's variable",
        "ENABLE_DEBUG_ENDPOINT_AUTH, UNSAFE_ENABLE_ADMIN_ENDPOINTS",
        "debug pages always need a credential, and none changes anything",
    ),
    (
        "istiod's variable",
        "INJECT_ENABLED, CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
        "/inject is always there, the root is looked at in an interval of its own",
    ),
    (
        "istiod's variable in use",
        "INJECT_ENABLED, CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
        "/inject is always there, the root is looked at in an interval of its own",
    ),
    ("the agent's variable", "HOST_IP", "only tracers' addresses are made with it; the bootstrap has no tracing yet"),
    ("the agent's variable", "CA_PROVIDER, PROV_CERT", "Citadel's protocol is the only one; VMs are not served yet"),
    ("the agent's variable", "WASM_INSECURE_REGISTRIES, WASM_MODULE_EXPIRY", "the agent downloads no Wasm yet"),
    ("port", "istiod 9876", "ctrlz shows the insides of istiod; --ctrlz_port is taken and does nothing"),
    ("port", "proxy 15004 debug, proxy 15008 HBONE", "istio.io/debug through the agent, and HBONE, are not there yet"),
    ("file", "agent grpc-bootstrap.json", "proxyless gRPC is not served yet"),
    ("object of the installation", "ConfigMap values", "only istioctl's own upgrades read it"),
    ("object that the control plane writes", "Secret istio/multiCluster=true", "there is one cluster yet"),
    (
        "label or annotation that injection follows",
        "readiness.status.sidecar.istio.io/applicationPorts",
        "Istio's own agent reads it no more",
    ),
    (
        "annotation of a Service",
        "networking.istio.io/traffic-distribution, traffic.istio.io/nodeSelector",
        "traffic distribution and gateways at nodes' addresses are not translated yet",
    ),
    (
        "name in Envoy",
        "istio.metadata_exchange, istio.stats",
        "stock Envoy does not have these filters; Istio's metrics come with telemetry",
    ),
    ("name of a secret", "kubernetes://", "gateways' certificates from Secrets are not translated yet"),
    ("type on a stream", "istio.io/debug, istio.io/debug/syncz", "istioctl's questions come with the tools for users"),
    (
        "label of a workload or a node",
        "topology.istio.io/network, topology.istio.io/cluster",
        "there is one network and one cluster yet; injection passes them on",
    ),
    ("default of MeshConfig", "ingressControllerMode STRICT", "Ingress is not translated yet"),
    (
        "page",
        "istiod /debug/adsz, istiod /debug/registryz, istiod /debug/endpointz, istiod /debug/endpointShardz, \
         istiod /debug/cachez, istiod /debug/configz, istiod /debug/sidecarz, istiod /debug/resourcesz, \
         istiod /debug/instancesz, istiod /debug/authorizationz, istiod /debug/telemetryz, istiod /debug/push_status, \
         istiod /debug/pushcontext, istiod /debug/inject, istiod /debug/clusterz, istiod /debug/networkz, \
         istiod /debug/mcsz, istiod /debug/ecdsz, istiod /debug/edsz, istiod /debug/ndsz, istiod /debug/krtz",
        "they come with the tools for users; /debug/config_dump has what a proxy is sent",
    ),
    ("page", "istiod /debug/force_disconnect", "no page changes anything (S22)"),
    (
        "metric",
        "pilot_xds_push_time, pilot_proxy_convergence_time, pilot_proxy_queue_time, pilot_debounce_time, \
         pilot_pushcontext_init_seconds, pilot_xds_config_size_bytes, pilot_xds_send_time, pilot_push_triggers, \
         pilot_k8s_cfg_events, pilot_k8s_reg_events, pilot_total_xds_internal_errors, pilot_xds_cds_reject, \
         pilot_xds_expired_nonce, pilot_xds_write_timeout, pilot_services, pilot_virt_services, \
         pilot_vservice_dup_domain, pilot_destrule_subsets, pilot_duplicate_envoy_clusters, \
         pilot_conflict_inbound_listener, pilot_conflict_outbound_listener_tcp_over_current_tcp, \
         pilot_eds_no_instances, endpoint_no_pod, pilot_no_ip, pilot_endpoint_not_ready, pilot_envoy_filter_status, \
         pilot_sds_certificate_errors_total, pilot_jwks_resolver_network_fetch_success_total, \
         pilot_jwks_resolver_network_fetch_fail_total, istiod_managed_clusters, galley_validation_config_updates, \
         galley_validation_config_update_error, galley_validation_config_load_error, webhook_patch_attempts_total, \
         webhook_patch_failures_total, webhook_patch_retries_total, xds_cache_reads, xds_cache_evictions, \
         xds_cache_size, controller_sync_errors_total",
        "the control plane's other series come with telemetry",
    ),
    (
        "metric",
        "istio_agent_startup_duration_seconds, istio_agent_wasm_cache_entries",
        "the agent does not count these yet",
    ),
    (
        "metric",
        "istio_requests_total, istio_request_duration_milliseconds, istio_request_bytes, istio_response_bytes, \
         istio_request_messages_total, istio_response_messages_total, istio_tcp_sent_bytes_total, \
         istio_tcp_received_bytes_total, istio_tcp_connections_opened_total, istio_tcp_connections_closed_total",
        "Istio's standard metrics come with telemetry; stock Envoy needs its own way to make them",
    ),
];

/// What navarch has otherwise on purpose: part, Istio's, navarch's, why.
const OTHERWISE: &[(&str, &str, &str, &str)] = &[
    ("istiod's flag", "--grpcAddr=:15010", "--grpcAddr=", "S1: plain-text xDS is closed unless it is asked for"),
    (
        "default of the agent's variable",
        "WORKLOAD_RSA_KEY_SIZE=2048",
        "WORKLOAD_RSA_KEY_SIZE unset: P-256",
        "P-256 keys are made a hundred times faster, and are as strong; RSA on request",
    ),
];

#[test]
fn every_name_is_kept_or_has_its_reason() {
    let mut wrong = vec![];
    for part in PARTS {
        let real = (part.real)();
        for name in split(part.contract) {
            let waits = waiting(part.name).any(|it| it == name);
            let otherwise = OTHERWISE.iter().find(|(of, theirs, ..)| *of == part.name && *theirs == name);
            match (real.contains(name), waits, otherwise) {
                (true, false, None) | (false, true, None) => {}
                (false, false, Some((_, _, ours, _))) if real.contains(*ours) => {}
                (true, true, _) => wrong.push(format!("{} {name}: is there; take it off WAITING", part.name)),
                (true, _, Some(_)) => wrong.push(format!("{} {name}: is there; take it off OTHERWISE", part.name)),
                (false, false, Some((_, _, ours, _))) => wrong.push(format!("{} {ours}: is not there", part.name)),
                (false, false, None) => wrong.push(format!("{} {name}: is not there", part.name)),
                (false, true, Some(_)) => wrong.push(format!("{} {name}: is in both lists", part.name)),
            }
        }
        if real.is_empty() {
            wrong.push(format!("{}: nothing was found; the test looks in the wrong place", part.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_lists_speak_of_the_contract_alone() {
    let known =
        |part: &str, name: &str| PARTS.iter().any(|it| it.name == part && split(it.contract).any(|it| it == name));
    let mut wrong = vec![];
    for (part, names, reason) in WAITING {
        assert!(!reason.is_empty());
        wrong.extend(split(names).filter(|name| !known(part, name)).map(|name| format!("WAITING: {part} {name}")));
    }
    let otherwise = OTHERWISE.iter().filter(|(part, theirs, ..)| !known(part, theirs));
    wrong.extend(otherwise.map(|(part, theirs, ..)| format!("OTHERWISE: {part} {theirs}")));
    for part in PARTS {
        let mut seen = BTreeSet::new();
        wrong
            .extend(split(part.contract).filter(|it| !seen.insert(*it)).map(|it| format!("twice: {} {it}", part.name)));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_flag_or_value_that_nobody_has_is_found_nowhere() {
    assert!(!injection_follows("sidecar.istio.io/madeUp", "1"), "an unknown annotation changes pods");
    assert!(!agent_follows("ISTIO_MADE_UP", &["1"], &[]), "an unknown variable changes the agent");
    assert!(variables_said_of(&["PILOT_MADE_UP"]).contains("PILOT_MADE_UP"));
    assert!(!variables_said_of(&["MADE_UP"]).contains("MADE_UP"));
}

/// `controller/docs/discovery.md` has a table of the variables; it and the code name the same ones.
#[test]
fn the_page_of_discovery_names_every_variable_that_is_read_and_no_other() {
    let page = text("controller/docs/discovery.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split_once('`'));
    let is_variable = |it: &&str| it.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let documented: BTreeSet<String> = rows.map(|(name, _)| name).filter(is_variable).map(str::to_owned).collect();
    assert_eq!(documented, variables_read().into_iter().collect(), "left: the page, right: the code");
}

/// The page also names every flag, once as itself.
#[test]
fn the_page_of_discovery_names_every_flag() {
    let page = text("controller/docs/discovery.md");
    let all = flags(&["discovery"]);
    let names = all.iter().filter(|it| it.starts_with("--") && !it.contains('=') && *it != "--help");
    let missing: Vec<_> = names.filter(|name| !page.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "controller/docs/discovery.md lacks {missing:?}");
}

fn waiting(part: &str) -> impl Iterator<Item = &'static str> {
    WAITING.iter().filter(move |(of, ..)| *of == part).flat_map(|(_, names, _)| split(names))
}

/// The names of a list as it is written above.
fn split(names: &'static str) -> impl Iterator<Item = &'static str> {
    names
        .lines()
        .map(|line| line.trim().trim_end_matches(','))
        .filter(|it| !it.is_empty())
        .flat_map(|it| it.split(", "))
}

fn contract(part: &str) -> impl Iterator<Item = &'static str> {
    let part = PARTS.iter().find(|it| it.name == part).expect("a part of the contract");
    split(part.contract)
}
