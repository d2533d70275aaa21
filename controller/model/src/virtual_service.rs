//! VirtualServices with their names resolved, and what their destinations turn out to be.

use crate::delegate::{self, Delegates, HttpRule};
use crate::{Hostname, MergedRule, Namespace, Service, Visibility, service::Age};
use crds::networking::{TcpRoute, TlsRoute, VirtualService};
use crds::{ObjectKey, Problem};
use std::collections::BTreeMap;

/// The reserved gateway name that means "all sidecars".
pub const MESH: &str = "mesh";

/// One VirtualService: hosts and gateway names are resolved against its namespace, route rules are as written
/// (destination hosts resolve with [`RouteRules::host`]; those of delegates are full names).
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRules {
    pub object: ObjectKey,
    pub namespace: Namespace,
    pub age: Age,
    pub visibility: Visibility,
    pub hosts: Vec<Hostname>,
    /// `mesh` or `namespace/name`; never empty.
    pub gateways: Vec<String>,
    /// Its own, and those of the VirtualServices that it delegates to.
    pub http: Vec<HttpRule>,
    pub tls: Vec<TlsRoute>,
    pub tcp: Vec<TcpRoute>,
    /// Delegates that are not there, or say what does not fit.
    pub problems: Vec<Problem>,
}

impl RouteRules {
    pub fn new(
        object: ObjectKey,
        age: Age,
        visibility: Visibility,
        spec: &VirtualService,
        delegates: &Delegates<'_>,
    ) -> Self {
        let namespace = object.namespace.clone();
        let gateways = match spec.gateways.is_empty() {
            true => vec![MESH.to_owned()],
            false => spec.gateways.iter().map(|name| Self::gateway(name, &namespace)).collect(),
        };
        let (http, problems) = delegate::rules(&object, spec, delegates);
        Self {
            hosts: spec.hosts.iter().map(|host| Hostname::resolve(host, &namespace)).collect(),
            tls: spec.tls.clone(),
            tcp: spec.tcp.clone(),
            http,
            problems,
            gateways,
            age,
            visibility,
            namespace,
            object,
        }
    }

    /// `name` means the Gateway of that name in the VirtualService's namespace.
    pub fn gateway(name: &str, namespace: &str) -> String {
        match name == MESH || name.contains('/') {
            true => name.to_owned(),
            false => format!("{namespace}/{name}"),
        }
    }

    /// A destination's host, resolved.
    pub fn host(&self, name: &str) -> Hostname {
        Hostname::resolve(name, &self.namespace)
    }

    pub fn binds(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|it| it == gateway)
    }

    /// Every host that the rules send or mirror traffic to.
    pub fn destination_hosts(&self) -> std::collections::BTreeSet<Hostname> {
        let http = self.http.iter().map(|it| &it.route).flat_map(|it| {
            let mirrors = it.mirror.iter().chain(it.mirrors.iter().map(|mirror| &mirror.destination));
            it.route.iter().map(|route| &route.destination).chain(mirrors)
        });
        let tls = self.tls.iter().flat_map(|it| &it.route).map(|route| &route.destination);
        let tcp = self.tcp.iter().flat_map(|it| &it.route).map(|route| &route.destination);
        http.chain(tls).chain(tcp).map(|destination| self.host(&destination.host)).collect()
    }

    /// Whether what the rules mean depends on who asks (`sourceLabels`, `sourceNamespace`).
    pub fn asks_for_source(&self) -> bool {
        self.http
            .iter()
            .flat_map(|it| &it.route.r#match)
            .any(|it| !it.source_labels.is_empty() || !it.source_namespace.is_empty())
            || self
                .tls
                .iter()
                .flat_map(|it| &it.r#match)
                .any(|it| !it.source_labels.is_empty() || !it.source_namespace.is_empty())
            || self
                .tcp
                .iter()
                .flat_map(|it| &it.r#match)
                .any(|it| !it.source_labels.is_empty() || !it.source_namespace.is_empty())
    }
}

/// A destination host as the client sees it. No service: the host is unknown to it.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct DestinationView<'a> {
    pub service: Option<&'a Service>,
    pub rule: Option<&'a MergedRule>,
}

pub type Destinations<'a> = BTreeMap<Hostname, DestinationView<'a>>;
