use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, CustomClusterType};
use envoy_types::pb::envoy::config::route::v3::route_action::UpgradeConfig;
use envoy_types::pb::envoy::config::route::v3::route_match::ConnectMatcher;
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::{FilterConfig, VirtualHost};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config::ClusterImplementationSpecifier,
};
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::{
    FilterConfig as ForwardProxy, filter_config::ImplementationSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::lua::v3::Lua;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::Rds;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    PathWithEscapedSlashesAction, StripPortMode, UpgradeConfig as ManagerUpgrade,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use super::*;
use crate::core::Request;

fn host_to(cluster: &str, domains: &[&str]) -> VirtualHost {
    host_named(cluster, domains, vec![route_named(cluster, prefix("/"))])
}

#[test]
fn domain_search_is_exact_then_longest_suffix_then_longest_prefix_then_star() {
    let hosts = || {
        configuration(vec![
            host_to("default", &["*"]),
            host_to("a", &["foo.example.com", "exact.com:8080"]),
            host_to("b", &["*.example.com"]),
            host_to("c", &["*-bar.example.com", "foo.*"]),
            host_to("d", &["foo.bar.*", "*.COM"]),
        ])
    };
    for (authority, wanted) in [
        ("foo.example.com", "a"),
        ("FOO.Example.Com", "a"),
        ("x.example.com", "b"),
        ("x-bar.example.com", "c"),
        ("x.y.example.com", "b"),
        // A wildcard stands for at least one character.
        (".example.com", "d"),
        ("example.com", "d"),
        // Suffixes before prefixes, however long.
        ("foo.bar.com", "d"),
        ("foo.bar.org", "d"),
        ("foo.org", "c"),
        ("org", "default"),
        // The port is part of the host.
        ("foo.example.com:80", "c"),
        ("exact.com:8080", "a"),
    ] {
        let decision = decide_http(hosts(), &call(authority, "/"));
        assert_eq!(reached(&decision), wanted, "{authority}\n{}", decision.explain());
    }
}

#[test]
fn ignore_port_in_host_matching_ignores_only_the_requests_port() {
    let hosts = RouteConfiguration {
        ignore_port_in_host_matching: true,
        ..configuration(vec![host_to("a", &["one.com", "[::1]"]), host_to("b", &["two.com:80"])])
    };
    for (authority, wanted) in
        [("one.com:80", "a"), ("one.com", "a"), ("[::1]:80", "a"), ("[::1]", "a"), ("two.com:80", "no virtual host")]
    {
        assert_eq!(reached(&decide_http(hosts.clone(), &call(authority, "/"))), wanted, "{authority}");
    }
}

#[test]
fn strip_port_and_trailing_dot_change_the_host_itself() {
    let of = |manager: HttpConnectionManager| http_config(&manager);
    let base = || manager(configuration(vec![host_to("a", &["one.com"])]));
    let matching_port = of(HttpConnectionManager { strip_matching_host_port: true, ..base() });
    let any_port = of(HttpConnectionManager { strip_port_mode: Some(StripPortMode::StripAnyHostPort(true)), ..base() });
    let dot = of(HttpConnectionManager { strip_trailing_host_dot: true, ..base() });
    for (config, authority, wanted) in [
        (&matching_port, "one.com:80", "a"),
        (&matching_port, "one.com:81", "no virtual host"),
        (&any_port, "one.com:81", "a"),
        (&dot, "one.com.", "a"),
        (&dot, "one.com.:80", "no virtual host"),
    ] {
        assert_eq!(reached(&decide(config, &call(authority, "/"))), wanted, "{authority}");
    }
    assert_eq!(decide(&any_port, &call("one.com:81", "/")).forward().unwrap().host, "one.com");
}

#[test]
fn duplicate_domains_reject_the_whole_route_configuration() {
    let twice = configuration(vec![host_to("a", &["one.com"]), host_to("b", &["ONE.com"]), host_to("c", &["two.com"])]);
    assert!(is_rejected(&decide_http(twice, &call("two.com", "/"))));
}

#[test]
fn path_specifiers() {
    let path = |path: &str| matching(PathSpecifier::Path(path.into()));
    let separated = |path: &str| matching(PathSpecifier::PathSeparatedPrefix(path.into()));
    let insensitive = |of: RouteMatch| RouteMatch { case_sensitive: no(), ..of };
    for (matches, target, wanted) in [
        (prefix("/a"), "/ab", true),
        (prefix("/a"), "/A", false),
        (insensitive(prefix("/a")), "/Ab", true),
        (prefix("/a?"), "/a?b", false),
        (path("/a"), "/a?b", true),
        (path("/a"), "/a/", false),
        (insensitive(path("/a")), "/A", true),
        (separated("/a"), "/a", true),
        (separated("/a"), "/a?b", true),
        (separated("/a"), "/a/b", true),
        (separated("/a"), "/ab", false),
        (insensitive(separated("/a")), "/A/b", true),
        // case_sensitive says nothing to a regex.
        (insensitive(matching(PathSpecifier::SafeRegex(regex("/a")))), "/A", false),
    ] {
        let told = format!("{:?} {target}", matches.path_specifier);
        let decision = decide_http(any_host(vec![route_named("hit", matches)]), &call("h", target));
        assert_eq!(decision.cluster().is_some(), wanted, "{told}");
    }
}

#[test]
fn first_match_wins_and_the_trace_tells_why_others_did_not() {
    let routes = vec![route_named("a", prefix("/x")), route_named("b", prefix("/")), route_named("c", prefix("/y"))];
    let decision = decide_http(any_host(routes), &call("h", "/y"));
    assert_eq!(decision.cluster(), Some("b"));
    assert!(
        decision.explain().contains("route a: prefix /x does not match\nroute b matches\n"),
        "{}",
        decision.explain()
    );
    assert_eq!(decision.to_string(), "0.0.0.0:80 / http / rc / any / b -> cluster b");
}

#[test]
fn path_parameters_are_ignored_on_request() {
    let routes = vec![route_named("hit", matching(PathSpecifier::Path("/a".into())))];
    let ignoring = RouteConfiguration { ignore_path_parameters_in_path_matching: true, ..any_host(routes.clone()) };
    assert_eq!(reached(&decide_http(ignoring, &call("h", "/a;v=1?q"))), "hit");
    assert_eq!(reached(&decide_http(any_host(routes), &call("h", "/a;v=1?q"))), "no route");
}

#[test]
fn paths_are_normalized_before_routing() {
    let base = || manager(any_host(vec![route_named("hit", prefix("/a/b"))]));
    let escaped = |action: PathWithEscapedSlashesAction| HttpConnectionManager {
        path_with_escaped_slashes_action: action as i32,
        ..base()
    };
    let dots = HttpConnectionManager { normalize_path: yes(), ..base() };
    let slashes = HttpConnectionManager { merge_slashes: true, ..base() };
    for (manager, target, wanted) in [
        (base(), "/x/../a/b", "no route"),
        (dots.clone(), "/x/../a/./b", "/a/b"),
        (dots.clone(), "/a%2Fb", "no route"),
        (dots.clone(), r"/a\b", "/a/b"),
        (dots.clone(), "/%61/b?c=/../", "/a/b?c=/../"),
        (dots.clone(), "/a/b/c/..", "/a/b/"),
        (dots, "/../../a/b", "/a/b"),
        (slashes.clone(), "//a///b?x=//", "/a/b?x=//"),
        (slashes, "/a/b#f", "direct response 400 \"\""),
        (escaped(PathWithEscapedSlashesAction::RejectRequest), "/a%2Fb", "direct response 400 \"\""),
        (escaped(PathWithEscapedSlashesAction::UnescapeAndForward), "/a%2fb", "/a/b"),
        (escaped(PathWithEscapedSlashesAction::UnescapeAndRedirect), "/a%2Fb?q", "redirect 307 /a/b?q"),
        (escaped(PathWithEscapedSlashesAction::KeepUnchanged), "/a%2Fb", "no route"),
    ] {
        let decision = decide(&http_config(&manager), &call("h", target));
        let got = decision.forward().map_or_else(|| decision.outcome.to_string(), |forward| forward.path.clone());
        assert_eq!(got, wanted, "{target}");
    }
}

#[test]
fn require_tls_judges_by_forwarded_proto() {
    let of = |required: TlsRequirementType| {
        configuration(vec![VirtualHost { require_tls: required as i32, ..host_to("a", &["*"]) }])
    };
    let tls = of(TlsRequirementType::All);
    let plain = call("h:80", "/p?q");
    assert_eq!(reached(&decide_http(tls.clone(), &plain)), "redirect 301 https://h:80/p?q");
    assert_eq!(reached(&decide_http(tls.clone(), &plain.clone().header("x-forwarded-proto", "https"))), "a");
    // An edge proxy does not believe the client.
    let edge = HttpConnectionManager { use_remote_address: yes(), ..manager(tls) };
    let claims = plain.clone().header("x-forwarded-proto", "https");
    assert_eq!(reached(&decide(&http_config(&edge), &claims)), "redirect 301 https://h:80/p?q");
    let secured = terminates_tls(http_chain(&edge), &DownstreamTlsContext::default());
    let secured = config(vec![listener("0.0.0.0:80", vec![secured])]);
    assert_eq!(reached(&decide(&secured, &plain.clone().tls("h", &[]))), "a");
    assert!(is_unsupported(&decide_http(of(TlsRequirementType::ExternalOnly), &plain)));
}

#[test]
fn rds_by_name_and_its_absence() {
    let rds = Rds { route_config_name: "80".into(), ..Rds::default() };
    let by_name =
        HttpConnectionManager { route_specifier: Some(RouteSpecifier::Rds(rds)), ..manager(any_host(vec![])) };
    let mut config = http_config(&by_name);
    assert_eq!(decide(&config, &call("h", "/")).outcome, Outcome::NoRouteConfiguration("80".into()));
    config.routes.insert("80".into(), configuration(vec![host_to("a", &["*"])]));
    assert_eq!(reached(&decide(&config, &call("h", "/"))), "a");
}

#[test]
fn connect_matches_only_connect_and_needs_the_upgrade() {
    let connect = route_named("hit", matching(PathSpecifier::ConnectMatcher(ConnectMatcher {})));
    let base = manager(any_host(vec![route_named("miss", prefix("")), connect]));
    let connecting = Call::direct("10.0.0.1:80").h2().request(Request::new("CONNECT", "h:443", ""));
    assert_eq!(reached(&decide(&http_config(&base), &connecting)), "direct response 403 \"\"");
    let upgrade = ManagerUpgrade { upgrade_type: "CONNECT".into(), ..ManagerUpgrade::default() };
    let allowed = HttpConnectionManager { upgrade_configs: vec![upgrade], ..base };
    assert_eq!(reached(&decide(&http_config(&allowed), &connecting)), "hit");
    assert_eq!(reached(&decide(&http_config(&allowed), &call("h", "/"))), "miss");
}

#[test]
fn websocket_upgrade_is_the_routes_word_over_the_managers() {
    let route_with_upgrade = |enabled: Option<BoolValue>| {
        let config = UpgradeConfig { upgrade_type: "websocket".into(), enabled, ..UpgradeConfig::default() };
        let action = RouteAction { upgrade_configs: vec![config], ..to_cluster("a") };
        route_with("a", prefix("/"), route::Action::Route(action))
    };
    let upgrade = call("h", "/").header("Connection", "keep-alive, Upgrade").header("Upgrade", "WebSocket");
    let refused = "direct response 403 \"\"";
    for (route, on_manager, wanted) in [
        (route_named("a", prefix("/")), false, refused),
        (route_named("a", prefix("/")), true, "a"),
        (route_with_upgrade(None), false, "a"),
        (route_with_upgrade(no()), true, refused),
    ] {
        let mut manager = manager(any_host(vec![route]));
        if on_manager {
            let config = ManagerUpgrade { upgrade_type: "websocket".into(), ..ManagerUpgrade::default() };
            manager.upgrade_configs.push(config);
        }
        assert_eq!(reached(&decide(&http_config(&manager), &upgrade)), wanted);
    }
}

#[test]
fn filters_gate_or_are_not_modelled() {
    let mut base = manager(any_host(vec![route_named("a", prefix("/"))]));
    base.http_filters.insert(0, http_filter(&Rbac::default()));
    let decision = decide(&http_config(&base), &call("h", "/"));
    assert_eq!((reached(&decision).as_str(), decision.at.gates.as_slice()), ("a", &["RBAC".to_owned()][..]));
    // Telemetry of Envoy's contrib build leaves the route alone; a script might not.
    let stats = Any { type_url: "type.googleapis.com/stats.PluginConfig".into(), value: Vec::new() };
    base.http_filters[0].config_type = Some(http_filter::ConfigType::TypedConfig(stats));
    let decision = decide(&http_config(&base), &call("h", "/"));
    assert_eq!((reached(&decision).as_str(), decision.at.gates.len()), ("a", 0));
    base.http_filters.insert(0, http_filter(&Lua::default()));
    assert!(is_unsupported(&decide(&http_config(&base), &call("h", "/"))));
}

#[test]
fn a_forward_proxy_finds_what_a_filter_with_the_same_cache_has_resolved() {
    let cache = |name: &str| DnsCacheConfig { name: name.into(), ..DnsCacheConfig::default() };
    let proxy = ClusterConfig {
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(cache("a"))),
        ..ClusterConfig::default()
    };
    let custom = CustomClusterType { name: "dfp".into(), typed_config: Some(any(&proxy)) };
    for (filtered, expected) in [("a", vec!["h:80"]), ("b", vec![])] {
        let filter = ForwardProxy {
            implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(cache(filtered))),
            ..ForwardProxy::default()
        };
        let mut manager = manager(any_host(vec![route_named("a", prefix("/"))]));
        manager.http_filters.insert(0, http_filter(&filter));
        let mut config = http_config(&manager);
        let kind = Some(ClusterDiscoveryType::ClusterType(custom.clone()));
        let cluster = Cluster { name: "a".into(), cluster_discovery_type: kind, ..Cluster::default() };
        config.clusters.insert("a".into(), cluster);
        let decision = decide(&config, &call("h", "/"));
        let found: Vec<_> = decision.forward().unwrap().endpoints.iter().map(|it| it.address.as_str()).collect();
        assert_eq!(found, expected, "{filtered}");
    }
}

#[test]
fn disabled_filters_count_only_where_a_route_enables_them() {
    let lua = HttpFilter { disabled: true, ..http_filter(&Lua::default()) };
    let with = |config: Option<FilterConfig>| {
        let mut route = route_named("a", prefix("/"));
        route.typed_per_filter_config.extend(config.map(|config| (lua.name.clone(), any(&config))));
        let mut manager = manager(any_host(vec![route]));
        manager.http_filters.insert(0, lua.clone());
        decide(&http_config(&manager), &call("h", "/"))
    };
    assert_eq!(reached(&with(None)), "a");
    assert_eq!(reached(&with(Some(FilterConfig { disabled: true, ..FilterConfig::default() }))), "a");
    assert!(is_unsupported(&with(Some(FilterConfig::default()))));
}
