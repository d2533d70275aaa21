//! Which endpoints a proxy gets, and in which order it prefers them.

mod assignment;
mod preference;

use super::*;
use crate::cluster::tests::{rule, service};
use model::endpoint::Endpoint;
use serde_json::{Value, json};

/// `10.0.0.N:8080` in a locality.
fn endpoint(last: u8, locality: &str) -> Endpoint {
    Endpoint {
        address: Address::Ip([10, 0, 0, last].into()),
        port: 8080,
        labels: Labels::default(),
        locality: Arc::new(Locality::parse(locality)),
        weight: 1,
        health: Health::Healthy,
        node: None,
        workload: None,
        service_account: None,
        tls: TlsMode::Disabled,
        hostname: None,
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Arc::new(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
}

fn vantage(locality: &str) -> Vantage {
    Vantage { locality: Locality::parse(locality), node: None, labels: Labels::default() }
}

struct Case {
    service: Service,
    rule: Option<MergedRule>,
    subset: Option<&'static str>,
    mesh: MeshConfig,
    endpoints: Vec<Endpoint>,
}

impl Case {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { service: service("HTTP", "STATIC"), rule: None, subset: None, mesh: MeshConfig::default(), endpoints }
    }

    /// The rule's traffic policy.
    fn policy(mut self, policy: Value) -> Self {
        self.rule = Some(rule(json!({"host": "api.example.com", "trafficPolicy": policy})));
        self
    }

    fn assignment(&self, vantage: Option<&Vantage>) -> ClusterLoadAssignment {
        let Self { service, rule, subset, mesh, endpoints } = self;
        let endpoints = Endpoints { by_port: [("main".into(), endpoints.clone())].into() };
        let input = AssignmentInput {
            port: &service.ports[0],
            rule: rule.as_ref(),
            subset: *subset,
            endpoints: &endpoints,
            kind: ProxyKind::Sidecar,
            service,
            mesh,
            vantage,
        };
        let Translated { resource, problems } = load_assignment(&input);
        assert_eq!(problems, []);
        resource
    }

    fn needs_vantage(&self) -> bool {
        needs_vantage(&self.service, self.rule.as_ref(), 80, self.subset, &self.mesh)
    }

    /// Last parts of the addresses, by `priority*weight`.
    fn seen(&self, vantage: Option<&Vantage>) -> Vec<(String, Vec<u8>)> {
        let assignment = xds::json::of(&self.assignment(vantage)).unwrap();
        let groups = assignment["endpoints"].as_array().cloned().unwrap_or_default();
        let last = |it: &Value| {
            let address = it["endpoint"]["address"]["socketAddress"]["address"].as_str().unwrap();
            address.rsplit('.').next().unwrap().parse().unwrap()
        };
        let group = |it: &Value| {
            let endpoints = it["lbEndpoints"].as_array().cloned().unwrap_or_default();
            let priority = it["priority"].as_u64().unwrap_or(0);
            (format!("{priority}*{}", it["loadBalancingWeight"]), endpoints.iter().map(last).collect())
        };
        groups.iter().map(group).collect()
    }
}

fn groups(list: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(name, endpoints)| (name.to_string(), endpoints.to_vec())).collect()
}
