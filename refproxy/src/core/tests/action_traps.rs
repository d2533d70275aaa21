use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{DataSource, HeaderValue, HeaderValueOption, HealthStatus, data_source};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};
use envoy_types::pb::envoy::config::route::v3::route_action::{HostRewriteSpecifier, RequestMirrorPolicy};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
use envoy_types::pb::envoy::config::route::v3::{DirectResponseAction, RedirectAction, RetryPolicy, WeightedCluster};
use envoy_types::pb::google::protobuf::Duration as ProtoDuration;

use super::*;
use crate::core::{Discovery, Forward, HeaderMutation, HostFromEndpoint};

fn routed(matches: RouteMatch, action: RouteAction, call: &Call) -> Forward {
    let decision = decide_http(any_host(vec![route_with("r", matches, route::Action::Route(action))]), call);
    decision.forward().unwrap_or_else(|| panic!("{}", decision.explain())).clone()
}

fn redirected(matches: RouteMatch, redirect: RedirectAction, call: &Call) -> String {
    reached(&decide_http(any_host(vec![route_with("r", matches, route::Action::Redirect(redirect))]), call))
}

#[test]
fn prefix_rewrite_replaces_what_was_matched_and_keeps_the_query() {
    let path = matching(PathSpecifier::Path("/a".into()));
    let any = matching(PathSpecifier::SafeRegex(regex("/a.*")));
    let separated = matching(PathSpecifier::PathSeparatedPrefix("/a".into()));
    let insensitive = RouteMatch { case_sensitive: no(), ..prefix("/a") };
    for (matches, rewrite, target, wanted) in [
        (prefix("/a"), "/z", "/abc?q=1", "/zbc?q=1"),
        // The classic: a trailing slash on one side only.
        (prefix("/a/"), "/", "/a/b", "/b"),
        (prefix("/a"), "/", "/a/b", "//b"),
        (insensitive, "/z", "/Ab", "/zb"),
        (path, "/z", "/a?q=1", "/z?q=1"),
        (separated, "/z", "/a/b", "/z/b"),
        // After a regex the whole path goes.
        (any, "/z", "/abc?q=1", "/z?q=1"),
    ] {
        let action = RouteAction { prefix_rewrite: rewrite.into(), ..to_cluster("a") };
        assert_eq!(routed(matches, action, &call("h", target)).path, wanted, "{target}");
    }
}

#[test]
fn regex_rewrite_replaces_every_match_in_the_path_only() {
    for (pattern, substitution, target, wanted) in [
        ("^/a/([^/]+)/b", r"/b/\1", "/a/x/b/c?k=/a/y/b", "/b/x/c?k=/a/y/b"),
        ("x", "y", "/x/x?x", "/y/y?x"),
        ("/(a)(b)?", r"/\2\1", "/a", "/a"),
        ("a", r"\\", "/a", r"/\"),
        ("/a", r"[\0]", "/a", "[/a]"),
    ] {
        let action = RouteAction { regex_rewrite: Some(rewrite(pattern, substitution)), ..to_cluster("a") };
        assert_eq!(routed(prefix("/"), action, &call("h", target)).path, wanted, "{pattern} {target}");
    }
    for substitution in [r"\2", r"\x"] {
        let action = RouteAction { regex_rewrite: Some(rewrite("(a)", substitution)), ..to_cluster("a") };
        let routes = vec![route_with("r", prefix("/"), route::Action::Route(action))];
        assert!(is_rejected(&decide_http(any_host(routes), &call("h", "/a"))), "{substitution}");
    }
}

#[test]
fn prefix_and_regex_rewrite_exclude_each_other() {
    let action = RouteAction { prefix_rewrite: "/".into(), regex_rewrite: Some(rewrite("a", "b")), ..to_cluster("a") };
    let routes = vec![route_with("r", prefix("/"), route::Action::Route(action))];
    assert!(is_rejected(&decide_http(any_host(routes), &call("h", "/"))));
}

#[test]
fn host_rewrites() {
    use HostRewriteSpecifier as To;
    for (specifier, wanted, from_endpoint) in [
        (None, "h", HostFromEndpoint::No),
        (Some(To::HostRewriteLiteral("new".into())), "new", HostFromEndpoint::No),
        (Some(To::HostRewriteHeader("x-host".into())), "other", HostFromEndpoint::No),
        (Some(To::HostRewriteHeader("x-none".into())), "h", HostFromEndpoint::No),
        (Some(To::HostRewritePathRegex(rewrite("^/(.+)/.+$", r"\1"))), "t", HostFromEndpoint::No),
        (Some(To::AutoHostRewrite(BoolValue { value: true })), "h", HostFromEndpoint::AutoHostRewrite),
    ] {
        let action = RouteAction { host_rewrite_specifier: specifier, prefix_rewrite: "/z".into(), ..to_cluster("a") };
        let forward = routed(prefix("/"), action, &call("h", "/t/u?q").header("X-Host", "other"));
        assert_eq!((forward.host.as_str(), forward.host_from_endpoint), (wanted, from_endpoint));
    }
}

#[test]
fn weighted_clusters_divide_the_roll_by_total_weight() {
    let weight = |name: &str, weight: u32| ClusterWeight {
        name: name.into(),
        weight: number(weight),
        ..ClusterWeight::default()
    };
    let of = |clusters: Vec<ClusterWeight>, by: Option<RandomValueSpecifier>| {
        let weighted = WeightedCluster { clusters, random_value_specifier: by, ..WeightedCluster::default() };
        let action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::WeightedClusters(weighted)),
            ..RouteAction::default()
        };
        any_host(vec![route_with("r", prefix("/"), route::Action::Route(action))])
    };
    let three = || vec![weight("a", 1), weight("b", 0), weight("c", 3)];
    for (roll, wanted) in [(0.0, "a"), (0.249, "a"), (0.25, "c"), (0.999, "c"), (1.0, "c")] {
        assert_eq!(reached(&decide_http(of(three(), None), &call("h", "/").roll(roll))), wanted, "{roll}");
    }
    let by_header = || Some(RandomValueSpecifier::HeaderName("x-random".into()));
    for (value, wanted) in [("4", "a"), ("5", "c"), ("no", "c")] {
        let call = call("h", "/").header("x-random", value).roll(0.9);
        assert_eq!(reached(&decide_http(of(three(), by_header()), &call)), wanted, "{value}");
    }
    let hashed = Some(RandomValueSpecifier::UseHashPolicy(BoolValue { value: true }));
    assert!(is_unsupported(&decide_http(of(three(), hashed), &call("h", "/"))));
    assert!(is_rejected(&decide_http(of(vec![weight("a", 0)], None), &call("h", "/"))));
}

#[test]
fn cluster_header_and_missing_clusters() {
    let by_header = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::ClusterHeader("x-to".into())),
        ..RouteAction::default()
    };
    let routes = || any_host(vec![route_with("r", prefix("/"), route::Action::Route(by_header.clone()))]);
    assert_eq!(reached(&decide_http(routes(), &call("h", "/").header("x-to", "b"))), "b");
    let gone = decide_http(routes(), &call("h", "/").header("x-to", "gone"));
    assert_eq!(gone.outcome, Outcome::NoCluster("gone".into()));
    assert_eq!(decide_http(routes(), &call("h", "/")).outcome, Outcome::NoCluster(String::new()));
}

#[test]
fn redirect_parts() {
    use PathRewriteSpecifier as To;
    let https = || Some(SchemeRewriteSpecifier::HttpsRedirect(true));
    let base = RedirectAction::default;
    let path = |to: PathRewriteSpecifier| RedirectAction { path_rewrite_specifier: Some(to), ..base() };
    let fixed = |to: &str| path(To::PathRedirect(to.into()));
    for (redirect, authority, wanted) in [
        (RedirectAction { host_redirect: "new".into(), ..base() }, "h:80", "301 http://new/a/b?q=1"),
        (RedirectAction { host_redirect: "new".into(), port_redirect: 81, ..base() }, "h", "301 http://new:81/a/b?q=1"),
        // The default port goes with its scheme, any other stays.
        (RedirectAction { scheme_rewrite_specifier: https(), ..base() }, "h:80", "301 https://h/a/b?q=1"),
        (RedirectAction { scheme_rewrite_specifier: https(), ..base() }, "h:8080", "301 https://h:8080/a/b?q=1"),
        (RedirectAction { scheme_rewrite_specifier: https(), ..base() }, "[::1]:80", "301 https://[::1]/a/b?q=1"),
        (
            RedirectAction { port_redirect: 8443, scheme_rewrite_specifier: https(), ..base() },
            "h:99",
            "301 https://h:8443/a/b?q=1",
        ),
        (RedirectAction { port_redirect: 80, ..base() }, "h", "301 http://h:80/a/b?q=1"),
        (RedirectAction { response_code: 4, strip_query: true, ..base() }, "h:80", "308 http://h:80/a/b"),
        (fixed("/new"), "h", "301 http://h/new?q=1"),
        (fixed("new"), "h", "301 http://h/new?q=1"),
        (RedirectAction { strip_query: true, ..fixed("/new") }, "h", "301 http://h/new"),
        // The query of path_redirect wins and is never stripped.
        (RedirectAction { strip_query: true, ..fixed("/new?own=1") }, "h", "301 http://h/new?own=1"),
        (path(To::PrefixRewrite("/z".into())), "h", "301 http://h/z/b?q=1"),
        (RedirectAction { strip_query: true, ..path(To::PrefixRewrite("/z".into())) }, "h", "301 http://h/z/b"),
        (path(To::RegexRewrite(rewrite("/([a-z])", r"-\1"))), "h", "301 http://h/-a-b?q=1"),
    ] {
        let told = format!("{redirect:?}");
        assert_eq!(
            redirected(prefix("/a"), redirect, &call(authority, "/a/b?q=1")),
            format!("redirect {wanted}"),
            "{told}"
        );
    }
}

#[test]
fn direct_response_and_its_body_limit() {
    let answer = |size: usize| {
        let specifier = Some(data_source::Specifier::InlineString("x".repeat(size)));
        let body = Some(DataSource { specifier, ..DataSource::default() });
        let action = DirectResponseAction { status: 503, body, ..DirectResponseAction::default() };
        any_host(vec![route_with("r", prefix("/"), route::Action::DirectResponse(action))])
    };
    let outcome = decide_http(answer(2), &call("h", "/")).outcome;
    assert_eq!(outcome, Outcome::DirectResponse { status: 503, body: "xx".into() });
    assert!(is_rejected(&decide_http(answer(4097), &call("h", "/"))));
}

#[test]
fn timeout_is_15s_by_default_and_zero_switches_it_off() {
    let seconds = |seconds: i64| Some(ProtoDuration { seconds, nanos: 0 });
    for (timeout, wanted) in [(None, Some(15)), (seconds(0), None), (seconds(3), Some(3))] {
        let action = RouteAction { timeout, ..to_cluster("a") };
        assert_eq!(routed(prefix("/"), action, &call("h", "/")).timeout, wanted.map(Duration::from_secs));
    }
}

#[test]
fn retries_and_mirrors_are_inherited_unless_the_route_has_its_own() {
    let retry = |on: &str| Some(RetryPolicy { retry_on: on.into(), ..RetryPolicy::default() });
    let mirror = |cluster: &str| RequestMirrorPolicy { cluster: cluster.into(), ..RequestMirrorPolicy::default() };
    let with = |action: RouteAction| {
        let mut host = host_named("any", &["*"], vec![route_with("r", prefix("/"), route::Action::Route(action))]);
        host.retry_policy = retry("host");
        let mut all = configuration(vec![host]);
        all.request_mirror_policies.push(mirror("global"));
        let forward = decide_http(all, &call("h", "/")).forward().unwrap().clone();
        (
            forward.retries.unwrap().retry_on,
            forward.mirrors.into_iter().map(|mirror| mirror.cluster).collect::<Vec<_>>(),
        )
    };
    assert_eq!(with(to_cluster("a")), ("host".into(), vec!["global".to_owned()]));
    let own = RouteAction {
        retry_policy: retry("route"),
        request_mirror_policies: vec![mirror("b"), mirror("c")],
        ..to_cluster("a")
    };
    assert_eq!(with(own), ("route".into(), vec!["b".to_owned(), "c".to_owned()]));
}

#[test]
fn header_mutations_go_from_most_to_least_specific_unless_the_most_specific_wins() {
    let add = |value: &str| HeaderValueOption {
        header: Some(HeaderValue { key: "x".into(), value: value.into(), ..HeaderValue::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..HeaderValueOption::default()
    };
    let weight = ClusterWeight {
        name: "a".into(),
        weight: number(1),
        request_headers_to_add: vec![add("weight")],
        ..ClusterWeight::default()
    };
    let weighted = WeightedCluster { clusters: vec![weight], ..WeightedCluster::default() };
    let action =
        RouteAction { cluster_specifier: Some(ClusterSpecifier::WeightedClusters(weighted)), ..RouteAction::default() };
    let mut route = route_with("r", prefix("/"), route::Action::Route(action));
    route.request_headers_to_add = vec![add("route"), add("")];
    route.request_headers_to_remove = vec!["x".into()];
    let mut host = host_named("any", &["*"], vec![route]);
    host.request_headers_to_add = vec![add("host")];
    let mut all = configuration(vec![host]);
    all.request_headers_to_add = vec![add("global")];
    let order = |all: RouteConfiguration| {
        let decision = decide_http(all, &call("h", "/"));
        let words = decision.forward().unwrap().request_headers.iter().map(|mutation| match mutation {
            HeaderMutation::Remove(name) => format!("-{name}"),
            HeaderMutation::Add { value, .. } => value.clone(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order(all.clone()), "weight -x route host global");
    all.most_specific_header_mutations_wins = true;
    assert_eq!(order(all), "weight global host -x route");
}

#[test]
fn endpoints_by_eds_name_with_weight_priority_and_health() {
    let endpoint = |at: &str, health: HealthStatus| LbEndpoint {
        health_status: health as i32,
        load_balancing_weight: number(7),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address: address(at), ..Endpoint::default() })),
        ..LbEndpoint::default()
    };
    let locality = LocalityLbEndpoints {
        priority: 1,
        lb_endpoints: vec![
            endpoint("10.0.0.9:80", HealthStatus::Draining),
            endpoint("[fd00::1]:80", HealthStatus::Healthy),
        ],
        ..LocalityLbEndpoints::default()
    };
    let mut config = http_config(&manager(any_host(vec![route_named("a", prefix("/"))])));
    let cluster = config.clusters.get_mut("a").unwrap();
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
    cluster.eds_cluster_config = Some(EdsClusterConfig { service_name: "eds".into(), ..EdsClusterConfig::default() });
    let found = |config: &Config| decide(config, &call("h", "/")).forward().unwrap().clone();
    assert_eq!(found(&config).discovery, Discovery::EdsMissing);
    let assignment = ClusterLoadAssignment { endpoints: vec![locality], ..ClusterLoadAssignment::default() };
    config.endpoints.insert("eds".into(), assignment);
    let forward = found(&config);
    let told: Vec<_> =
        forward.endpoints.iter().map(|one| (one.address.as_str(), one.weight, one.priority, one.health)).collect();
    assert_eq!(forward.discovery, Discovery::Eds);
    assert_eq!(told, [("10.0.0.9:80", 7, 1, HealthStatus::Draining), ("[fd00::1]:80", 7, 1, HealthStatus::Healthy),]);
}

#[test]
fn original_dst_cluster_goes_to_the_restored_destination() {
    let capture = Listener {
        use_original_dst: yes(),
        ..listener("0.0.0.0:15001", vec![chain("PassthroughCluster", FilterChainMatch::default())])
    };
    let mut config = config(vec![capture]);
    let cluster = config.clusters.get_mut("PassthroughCluster").unwrap();
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32));
    let decision = decide(&config, &Call::outbound("93.184.216.34:443"));
    assert_eq!(decision.forward().unwrap().endpoints[0].address, "93.184.216.34:443");
    // Who connects to the listener itself was going nowhere else.
    let decision = decide(&config, &Call::direct("10.0.0.1:15001"));
    assert_eq!(decision.forward().unwrap().endpoints, []);
}
