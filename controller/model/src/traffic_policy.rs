//! Which of a DestinationRule's policies apply to one port of one subset.
//!
//! Istio's computation (`util.GetPortLevelTrafficPolicy`, `util.MergeSubsetTrafficPolicy`): the destination's blocks;
//! settings of the port replace all of them, also those they leave out; a subset's blocks replace one by one; settings
//! of the subset's port replace all again. What is still absent is filled from `MeshConfig.defaultTrafficPolicy`.

use crate::MergedRule;
use crds::mesh_config::MeshConfig;
use crds::networking::{
    ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, PortTrafficPolicy, ProxyProtocol, RetryBudget,
    TrafficPolicy, Tunnel,
};
use std::fmt;

/// The blocks in force, each with where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Policy<'a> {
    pub load_balancer: Option<&'a LoadBalancer>,
    pub connection_pool: Option<&'a ConnectionPool>,
    pub outlier_detection: Option<&'a OutlierDetection>,
    pub tls: Option<&'a ClientTls>,
    /// These three have no port-level form: a port's settings drop them at the level they replace.
    pub tunnel: Option<&'a Tunnel>,
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    pub retry_budget: Option<&'a RetryBudget>,
    pub origins: Origins,
}

/// Where the blocks of a [`Policy`] are written, for problems' field paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Origins {
    pub load_balancer: Origin,
    pub connection_pool: Origin,
    pub outlier_detection: Origin,
    pub tls: Origin,
    pub tunnel: Origin,
    pub proxy_protocol: Origin,
    pub retry_budget: Origin,
}

/// Displays as the path of the policy that holds the block: `spec.subsets[1].trafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Origin {
    #[default]
    Rule,
    RulePort(usize),
    Subset(usize),
    SubsetPort(usize, usize),
    Mesh,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule => f.write_str("spec.trafficPolicy"),
            Self::RulePort(port) => write!(f, "spec.trafficPolicy.portLevelSettings[{port}]"),
            Self::Subset(subset) => write!(f, "spec.subsets[{subset}].trafficPolicy"),
            Self::SubsetPort(subset, port) => {
                write!(f, "spec.subsets[{subset}].trafficPolicy.portLevelSettings[{port}]")
            }
            Self::Mesh => f.write_str("defaultTrafficPolicy"),
        }
    }
}

/// The policy of `port` (the Service's) in `subset`. An unknown subset has the destination's policy.
pub fn policy<'a>(rule: Option<&'a MergedRule>, port: u16, subset: Option<&str>, mesh: &'a MeshConfig) -> Policy<'a> {
    let mut policy = Policy::default();
    if let Some(rule) = rule {
        if let Some(own) = &rule.traffic_policy {
            match port_settings(own, port) {
                Some((at, settings)) => policy.replace(settings, Origin::RulePort(at)),
                None => policy.overlay(own, Origin::Rule),
            }
        }
        let at = subset.and_then(|name| rule.subsets.iter().position(|it| it.name == name));
        if let Some((at, own)) = at.and_then(|at| Some((at, rule.subsets[at].traffic_policy.as_ref()?))) {
            match port_settings(own, port) {
                Some((port, settings)) => policy.replace(settings, Origin::SubsetPort(at, port)),
                None => policy.overlay(own, Origin::Subset(at)),
            }
        }
    }
    policy.fill(mesh);
    policy
}

fn port_settings(policy: &TrafficPolicy, port: u16) -> Option<(usize, &PortTrafficPolicy)> {
    policy.port_level_settings.iter().enumerate().find(|(_, it)| it.port.number == u32::from(port))
}

impl<'a> Policy<'a> {
    /// Blocks that `from` has win.
    fn overlay(&mut self, from: &'a TrafficPolicy, origin: Origin) {
        let Origins { load_balancer, connection_pool, outlier_detection, tls, .. } = &mut self.origins;
        set(&mut self.load_balancer, load_balancer, from.load_balancer.as_ref(), origin);
        set(&mut self.connection_pool, connection_pool, from.connection_pool.as_ref(), origin);
        set(&mut self.outlier_detection, outlier_detection, from.outlier_detection.as_ref(), origin);
        set(&mut self.tls, tls, from.tls.as_ref(), origin);
        let Origins { tunnel, proxy_protocol, retry_budget, .. } = &mut self.origins;
        set(&mut self.tunnel, tunnel, from.tunnel.as_ref(), origin);
        set(&mut self.proxy_protocol, proxy_protocol, from.proxy_protocol.as_ref(), origin);
        set(&mut self.retry_budget, retry_budget, from.retry_budget.as_ref(), origin);
    }

    /// A port's settings inherit nothing: what they leave out is at its default.
    fn replace(&mut self, from: &'a PortTrafficPolicy, origin: Origin) {
        *self = Self {
            load_balancer: from.load_balancer.as_ref(),
            connection_pool: from.connection_pool.as_ref(),
            outlier_detection: from.outlier_detection.as_ref(),
            tls: from.tls.as_ref(),
            origins: Origins {
                load_balancer: origin,
                connection_pool: origin,
                outlier_detection: origin,
                tls: origin,
                ..self.origins
            },
            ..*self
        };
    }

    fn fill(&mut self, mesh: &'a MeshConfig) {
        let defaults = &mesh.default_traffic_policy;
        if self.connection_pool.is_none() {
            let origin = &mut self.origins.connection_pool;
            set(&mut self.connection_pool, origin, defaults.connection_pool.as_ref(), Origin::Mesh);
        }
        if self.outlier_detection.is_none() {
            let origin = &mut self.origins.outlier_detection;
            set(&mut self.outlier_detection, origin, defaults.outlier_detection.as_ref(), Origin::Mesh);
        }
    }
}

fn set<'a, T>(block: &mut Option<&'a T>, origin: &mut Origin, value: Option<&'a T>, from: Origin) {
    if value.is_some() {
        (*block, *origin) = (value, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hostname, Visibility, service::Age};
    use crds::mesh_config::DefaultTrafficPolicy;
    use crds::networking::DestinationRule;
    use serde_json::{Value, json};

    fn rule(spec: Value) -> MergedRule {
        let spec: DestinationRule = serde_json::from_value(spec).unwrap();
        MergedRule {
            host: Hostname::new("a"),
            objects: vec![],
            age: Age { created: "".into(), name: "".into(), namespace: "".into() },
            visibility: Visibility::Public,
            selector: None,
            traffic_policy: spec.traffic_policy,
            subsets: spec.subsets,
        }
    }

    fn pool(connections: i32) -> Value {
        json!({"tcp": {"maxConnections": connections}})
    }

    /// (connections, simple load balancing, TLS set, retry budget set)
    fn facts(policy: &Policy<'_>) -> (i32, bool, bool, bool) {
        let connections = policy.connection_pool.and_then(|it| it.tcp.as_ref()).map_or(0, |it| it.max_connections);
        (connections, policy.load_balancer.is_some(), policy.tls.is_some(), policy.retry_budget.is_some())
    }

    #[test]
    fn port_settings_replace_all_and_subset_blocks_replace_one_by_one() {
        let rule = rule(json!({
            "host": "a",
            "trafficPolicy": {
                "connectionPool": pool(1), "loadBalancer": {"simple": "RANDOM"}, "retryBudget": {"percent": 10},
                "portLevelSettings": [{"port": {"number": 81}, "connectionPool": pool(2)}],
            },
            "subsets": [
                {"name": "plain"},
                {"name": "own", "trafficPolicy": {
                    "connectionPool": pool(3),
                    "portLevelSettings": [{"port": {"number": 82}, "tls": {"mode": "SIMPLE"}}],
                }},
            ],
        }));
        let mesh = MeshConfig::default();
        for (port, subset, expected) in [
            (80, None, (1, true, false, true)),
            (81, None, (2, false, false, false)),
            (80, Some("plain"), (1, true, false, true)),
            (80, Some("unknown"), (1, true, false, true)),
            (80, Some("own"), (3, true, false, true)),
            (81, Some("own"), (3, false, false, false)),
            (82, Some("own"), (0, false, true, true)),
        ] {
            assert_eq!(facts(&policy(Some(&rule), port, subset, &mesh)), expected, "{port} {subset:?}");
        }
        assert_eq!(facts(&policy(None, 80, None, &mesh)), (0, false, false, false));
    }

    #[test]
    fn blocks_know_where_they_are_written() {
        let rule = rule(json!({
            "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}},
            "subsets": [{"name": "v1"}, {"name": "v2", "trafficPolicy": {
                "connectionPool": pool(3),
                "portLevelSettings": [{"port": {"number": 9}}, {"port": {"number": 82}, "connectionPool": pool(1)}],
            }}],
        }));
        let mesh = MeshConfig::default();
        let origins = |port| policy(Some(&rule), port, Some("v2"), &mesh).origins;
        assert_eq!(origins(80).load_balancer.to_string(), "spec.trafficPolicy");
        assert_eq!(origins(80).connection_pool.to_string(), "spec.subsets[1].trafficPolicy");
        assert_eq!(origins(82).connection_pool.to_string(), "spec.subsets[1].trafficPolicy.portLevelSettings[1]");
        assert_eq!(Origin::RulePort(2).to_string(), "spec.trafficPolicy.portLevelSettings[2]");
    }

    #[test]
    fn the_meshs_default_fills_only_absent_blocks() {
        let mesh = MeshConfig {
            default_traffic_policy: DefaultTrafficPolicy {
                connection_pool: serde_json::from_value(pool(9)).unwrap(),
                outlier_detection: Some(OutlierDetection::default()),
            },
            ..MeshConfig::default()
        };
        let rule = rule(json!({"trafficPolicy": {"connectionPool": pool(1)}}));
        let own = policy(Some(&rule), 80, None, &mesh);
        assert_eq!((facts(&own).0, own.outlier_detection.is_some()), (1, true));
        assert_eq!(own.origins.outlier_detection, Origin::Mesh);
        let none = policy(None, 80, None, &mesh);
        assert_eq!((facts(&none).0, none.outlier_detection.is_some()), (9, true));
    }
}
