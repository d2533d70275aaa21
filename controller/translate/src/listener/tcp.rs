//! The TCP proxy filter: where the bytes of a connection go.

use super::{access_log, network_filter};
use crate::{message, name};
use crds::mesh_config::MeshConfig;
use crds::networking::{Destination, RouteDestination};
use crds::{Problem, Reason};
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, TunnelingConfig, WeightedCluster, weighted_cluster::ClusterWeight},
};
use envoy_types::pb::envoy::r#type::v3::{HashPolicy, hash_policy};
use model::{DestinationView, Destinations, MergedRule, Resolution, RouteRules, Service, ServicePort};
use std::net::IpAddr;

/// Everything to one cluster.
pub(super) fn plain(stat_prefix: &str, cluster: &str, access_log: Vec<AccessLog>) -> Filter {
    filter(&TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        access_log,
        ..Default::default()
    })
}

/// Everything to the service itself: what it has without a VirtualService.
pub(super) fn to_service(
    service: &Service,
    port: &ServicePort,
    rule: Option<&MergedRule>,
    mesh: &MeshConfig,
) -> Filter {
    let cluster = name::OutboundCluster { port: port.number, subset: None, host: &service.key.host }.to_string();
    let stat_prefix = stat_prefix(&cluster, Some(service), port.number, None, mesh);
    proxy(stat_prefix, ClusterSpecifier::Cluster(cluster), rule, "", mesh)
}

/// What the destinations of a VirtualService's `tcp` and `tls` routes are resolved with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) rules: &'a RouteRules,
    pub(super) destinations: &'a Destinations<'a>,
    /// Of the listener, or of the Gateway's server: for destinations that name no port.
    pub(super) port: u16,
    pub(super) mesh: &'a MeshConfig,
}

impl Context<'_> {
    /// The filter of one route; `field` is the route's (`spec.tcp[0]`). `None`: it sends nothing anywhere.
    pub(super) fn filter(
        &self,
        routes: &[RouteDestination],
        field: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<Filter> {
        let first = self.view(&routes.first()?.destination);
        let clusters: Vec<String> = routes
            .iter()
            .enumerate()
            .map(|(at, route)| self.cluster(&route.destination, &format!("{field}.route[{at}].destination"), problems))
            .collect();
        if let ([route], [cluster]) = (routes, clusters.as_slice()) {
            let subset = route.destination.subset.as_str();
            let stat_prefix = stat_prefix(cluster, first.service, self.port, Some(subset), self.mesh);
            return Some(proxy(stat_prefix, ClusterSpecifier::Cluster(cluster.clone()), first.rule, subset, self.mesh));
        }
        let weigh = |(route, name): (&RouteDestination, String)| {
            let weight = u32::try_from(route.weight).ok().filter(|it| *it > 0)?;
            Some(ClusterWeight { name, weight, metadata_match: None })
        };
        let clusters: Vec<_> = routes.iter().zip(clusters).filter_map(weigh).collect();
        if clusters.is_empty() {
            let why = "the weights of all destinations are 0, so the route has no effect".to_owned();
            problems.push(Problem::new(&self.rules.object, format!("{field}.route"), Reason::Invalid(why)));
            return None;
        }
        let stat_prefix = format!("{}.{}", self.rules.object.name, self.rules.object.namespace);
        let weighted = ClusterSpecifier::WeightedClusters(WeightedCluster { clusters });
        Some(proxy(stat_prefix, weighted, first.rule, "", self.mesh))
    }

    fn view(&self, destination: &Destination) -> DestinationView<'_> {
        self.destinations.get(&self.rules.host(&destination.host)).copied().unwrap_or_default()
    }

    /// The name of a destination's cluster. What the mesh does not know is reported, and keeps its name: connections
    /// fail until it exists, as in Istio.
    fn cluster(&self, destination: &Destination, field: &str, problems: &mut Vec<Problem>) -> String {
        let host = self.rules.host(&destination.host);
        let view = self.view(destination);
        let mut note =
            |part: &str, reason| problems.push(Problem::new(&self.rules.object, format!("{field}.{part}"), reason));
        let explicit = destination.port.as_ref().map(|it| it.number);
        let port = match (explicit, view.service.map(|it| it.ports.as_slice())) {
            (Some(number), _) => u16::try_from(number).unwrap_or_default(),
            (None, Some([only])) => only.number,
            (None, _) => self.port,
        };
        match view.service {
            None => note("host", Reason::UnknownHost(host.to_string())),
            Some(service) if service.port(port).is_none() => {
                let port = explicit.unwrap_or_else(|| port.into());
                note("port", Reason::UnknownPort { host: host.to_string(), port });
            }
            Some(_) => {}
        }
        let subset = Some(destination.subset.as_str()).filter(|it| !it.is_empty());
        if let Some(subset) = subset.filter(|it| view.rule.and_then(|rule| rule.subset(it)).is_none()) {
            note("subset", Reason::UnknownSubset { host: host.to_string(), subset: subset.to_owned() });
        }
        // An ExternalName Service has no cluster of its own.
        let host = match view.service.map(|it| &it.resolution) {
            Some(Resolution::Alias(target)) => target.clone(),
            _ => host,
        };
        name::OutboundCluster { port, subset, host: &host }.to_string()
    }
}

/// The cluster's name, or what `outboundClusterStatName` makes of it.
fn stat_prefix(cluster: &str, service: Option<&Service>, port: u16, subset: Option<&str>, mesh: &MeshConfig) -> String {
    match (mesh.outbound_cluster_stat_name.as_str(), service) {
        ("", _) | (_, None) => cluster.to_owned(),
        (pattern, Some(service)) => {
            name::StatPattern { pattern, service, port: service.port(port), subset, target_port: None }.to_string()
        }
    }
}

/// Connection limits and source hashing come from the rule's top-level policy, as in Istio: the listener does not know
/// which subset's port would override them.
fn proxy(
    stat_prefix: String,
    cluster: ClusterSpecifier,
    rule: Option<&MergedRule>,
    subset: &str,
    mesh: &MeshConfig,
) -> Filter {
    let policy = rule.and_then(|it| it.traffic_policy.as_ref());
    let tcp = policy.and_then(|it| it.connection_pool.as_ref()).and_then(|it| it.tcp.as_ref());
    let hash_policy = match rule.is_some_and(|rule| hashes_source(rule, subset)) {
        true => vec![HashPolicy {
            policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
        }],
        false => vec![],
    };
    filter(&TcpProxy {
        stat_prefix,
        cluster_specifier: Some(cluster),
        idle_timeout: tcp.and_then(|it| it.idle_timeout).and_then(message::duration),
        max_downstream_connection_duration: tcp.and_then(|it| it.max_connection_duration).and_then(message::duration),
        hash_policy,
        tunneling_config: rule.and_then(|rule| tunnel(rule, subset)),
        access_log: access_log::file(mesh),
        ..Default::default()
    })
}

/// The bytes of each connection travel inside an HTTP CONNECT or POST request for `targetHost:targetPort`, which is
/// sent to the destination; a subset's tunnel replaces the rule's.
fn tunnel(rule: &MergedRule, subset: &str) -> Option<TunnelingConfig> {
    let of_subset = rule.subset(subset).and_then(|it| it.traffic_policy.as_ref()?.tunnel.as_ref());
    let tunnel = of_subset.or_else(|| rule.traffic_policy.as_ref()?.tunnel.as_ref())?;
    let hostname = match tunnel.target_host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", tunnel.target_port),
        _ => format!("{}:{}", tunnel.target_host, tunnel.target_port),
    };
    Some(TunnelingConfig { hostname, use_post: tunnel.protocol == "POST", ..Default::default() })
}

/// `consistentHash.useSourceIp`; a subset's load balancer replaces the rule's.
fn hashes_source(rule: &MergedRule, subset: &str) -> bool {
    let of_subset = rule.subset(subset).and_then(|it| it.traffic_policy.as_ref()?.load_balancer.as_ref());
    let of_rule = rule.traffic_policy.as_ref().and_then(|it| it.load_balancer.as_ref());
    let hash = of_subset.or(of_rule).and_then(|it| it.consistent_hash.as_ref());
    hash.and_then(|it| it.use_source_ip).unwrap_or_default()
}

fn filter(config: &TcpProxy) -> Filter {
    network_filter("envoy.filters.network.tcp_proxy", config)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::listener::outbound::tests::{mesh, rules, service};
    use crds::networking::{
        ConnectionPool, ConsistentHash, LoadBalancer, PortSelector, Subset, TcpSettings, TrafficPolicy, Tunnel,
    };
    use crds::{Duration, Kind, Meta, ObjectKey};
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    use model::{Protocol, Visibility, service::Age};
    use prost::Message;

    pub(in crate::listener) fn proxy(from: &Filter) -> TcpProxy {
        assert_eq!(from.name, "envoy.filters.network.tcp_proxy");
        let Some(ConfigType::TypedConfig(any)) = &from.config_type else { panic!("no config") };
        TcpProxy::decode(any.value.as_slice()).unwrap()
    }

    fn merged_rule() -> MergedRule {
        let hashing = |use_source_ip| LoadBalancer {
            consistent_hash: Some(ConsistentHash { use_source_ip: Some(use_source_ip), ..Default::default() }),
            ..Default::default()
        };
        let tcp = TcpSettings {
            idle_timeout: Some(Duration::from_secs(7)),
            max_connection_duration: Some(Duration::from_secs(9)),
            ..Default::default()
        };
        let policy = TrafficPolicy {
            load_balancer: Some(hashing(true)),
            connection_pool: Some(ConnectionPool { tcp: Some(tcp), http: None }),
            ..Default::default()
        };
        let own = TrafficPolicy { load_balancer: Some(hashing(false)), ..Default::default() };
        MergedRule {
            host: model::Hostname::new("db.n.svc.cluster.local"),
            objects: vec![ObjectKey::new(Kind::DestinationRule, "n", "db")],
            age: Age::new(&Meta::default()),
            visibility: Visibility::Public,
            selector: None,
            traffic_policy: Some(policy),
            subsets: vec![
                Subset { name: "v1".into(), ..Default::default() },
                Subset { name: "v2".into(), traffic_policy: Some(own), ..Default::default() },
            ],
        }
    }

    fn destination(host: &str, subset: &str, port: Option<u32>, weight: i32) -> RouteDestination {
        let port = port.map(|number| PortSelector { number });
        RouteDestination { destination: Destination { host: host.into(), subset: subset.into(), port }, weight }
    }

    fn made(routes: &[RouteDestination], mesh: &MeshConfig) -> (Option<TcpProxy>, Vec<(String, Reason)>) {
        let (db, rule, rules) = (service("db", "10.0.0.1", &[(3306, Protocol::Tcp)]), merged_rule(), rules("db", &[]));
        let view = DestinationView { service: Some(&db), rule: Some(&rule) };
        let destinations = [(db.key.host.clone(), view)].into();
        let mut problems = vec![];
        let context = Context { rules: &rules, destinations: &destinations, port: 99, mesh };
        let filter = context.filter(routes, "spec.tcp[0]", &mut problems);
        let problems = problems.into_iter().map(|it| (it.field, it.reason)).collect();
        (filter.map(|it| proxy(&it)), problems)
    }

    #[test]
    fn a_single_destination_is_a_cluster_named_as_its_service_port() {
        for (route, cluster, problem) in [
            (destination("db", "", None, 0), "outbound|3306||db.n.svc.cluster.local", None),
            (destination("db", "v1", Some(3306), 5), "outbound|3306|v1|db.n.svc.cluster.local", None),
            (destination("db", "v9", None, 0), "outbound|3306|v9|db.n.svc.cluster.local", Some("subset")),
            (destination("db", "", Some(5), 0), "outbound|5||db.n.svc.cluster.local", Some("port")),
            (destination("no.such", "", None, 0), "outbound|99||no.such", Some("host")),
        ] {
            let (proxy, problems) = made(&[route], &mesh());
            let proxy = proxy.unwrap();
            assert_eq!(proxy.cluster_specifier, Some(ClusterSpecifier::Cluster(cluster.into())));
            assert_eq!(proxy.stat_prefix, cluster);
            let fields: Vec<_> = problems.into_iter().map(|(field, _)| field).collect();
            let expected: Vec<_> = problem.iter().map(|it| format!("spec.tcp[0].route[0].destination.{it}")).collect();
            assert_eq!(fields, expected, "{cluster}");
        }
    }

    #[test]
    fn several_destinations_share_by_weight_under_the_name_of_their_virtual_service() {
        let routes =
            [destination("db", "v1", None, 90), destination("db", "v2", None, 10), destination("db", "", None, 0)];
        let (proxy, problems) = made(&routes, &mesh());
        let proxy = proxy.unwrap();
        assert_eq!((proxy.stat_prefix.as_str(), problems), ("db.n", vec![]));
        let Some(ClusterSpecifier::WeightedClusters(list)) = proxy.cluster_specifier else { panic!("not weighted") };
        assert_eq!(list.clusters.iter().map(|it| it.weight).collect::<Vec<_>>(), [90, 10]);
    }

    #[test]
    fn weights_of_zero_make_no_route() {
        let routes = [destination("db", "v1", None, 0), destination("db", "v2", None, -5)];
        let (proxy, problems) = made(&routes, &mesh());
        assert_eq!(proxy, None);
        assert!(matches!(&problems[..], [(field, Reason::Invalid(_))] if field == "spec.tcp[0].route"));
    }

    #[test]
    fn limits_and_source_hashing_come_from_the_destination_rule() {
        for (subset, hashes) in [("", true), ("v1", true), ("v2", false)] {
            let proxy = made(&[destination("db", subset, None, 0)], &mesh()).0.unwrap();
            assert_eq!(proxy.idle_timeout, message::duration(Duration::from_secs(7)));
            assert_eq!(proxy.max_downstream_connection_duration, message::duration(Duration::from_secs(9)));
            assert_eq!(proxy.hash_policy.len(), usize::from(hashes), "{subset:?}");
        }
    }

    #[test]
    fn a_subset_has_the_tunnel_of_its_rule_unless_it_has_its_own() {
        let tunnel = |protocol: &str, host: &str| {
            let tunnel = Tunnel { protocol: protocol.into(), target_host: host.into(), target_port: 443 };
            Some(TrafficPolicy { tunnel: Some(tunnel), ..Default::default() })
        };
        let mut rule = merged_rule();
        rule.traffic_policy = tunnel("", "far.example");
        rule.subsets[1].traffic_policy = tunnel("POST", "2001:db8::1");
        for (subset, hostname, post) in
            [("", "far.example:443", false), ("v1", "far.example:443", false), ("v2", "[2001:db8::1]:443", true)]
        {
            let made = super::tunnel(&rule, subset).unwrap();
            assert_eq!((made.hostname.as_str(), made.use_post), (hostname, post), "{subset:?}");
        }
        assert_eq!(super::tunnel(&merged_rule(), "v1"), None);
    }

    #[test]
    fn the_mesh_may_choose_the_stat_prefix() {
        let mesh = MeshConfig { outbound_cluster_stat_name: "%SERVICE%_%SUBSET_NAME%".into(), ..mesh() };
        assert_eq!(made(&[destination("db", "v1", None, 0)], &mesh).0.unwrap().stat_prefix, "db.n_v1");
        let db = service("db", "10.0.0.1", &[(3306, Protocol::Tcp)]);
        assert_eq!(proxy(&to_service(&db, &db.ports[0], None, &mesh)).stat_prefix, "db.n_");
    }
}
