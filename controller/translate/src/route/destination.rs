//! What a destination of a rule is to the client: a cluster's name and what requests to it are hashed by.

use super::Client;
use super::note::{Flaw, Notes};
use crate::name;
use crds::Reason;
use crds::mesh_config::MeshConfig;
use crds::networking::Destination;
use model::{Destinations, Hostname, Resolution, RouteRules, Service, traffic_policy};
use xds::envoy::route::route_action::HashPolicy;

/// One VirtualService, and for whom it is translated.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) rules: &'a RouteRules,
    pub(super) destinations: &'a Destinations<'a>,
    pub(super) client: &'a Client<'a>,
    /// Of the listener: what `match.port` means, and the port of destinations that do not say.
    pub(super) port: u16,
    pub(super) mesh: &'a MeshConfig,
    /// Of the listener: `http` or `https`.
    pub(super) scheme: &'static str,
}

/// A destination, resolved.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) cluster: String,
    pub(super) hash_policy: Vec<HashPolicy>,
    /// The cluster's, for the route's name in traces.
    pub(super) host: Hostname,
    pub(super) port: u16,
}

/// A destination that the client does not know keeps its cluster's name, as in Istio: Envoy answers 503 until the
/// cluster exists.
pub(super) fn target(
    context: &Rules<'_>,
    destination: &Destination,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<Target, Flaw> {
    let host = context.rules.host(&destination.host);
    let view = context.destinations.get(&host).copied().unwrap_or_default();
    let port = port(context, destination, view.service, field, notes)?;
    let subset = Some(destination.subset.as_str()).filter(|it| !it.is_empty());
    if view.service.is_none() {
        notes.add(format!("{field}.host"), Reason::UnknownHost(host.to_string()));
    }
    let mut host = host;
    if let Some(Resolution::Alias(concrete)) = view.service.map(|it| &it.resolution) {
        host = concrete.clone();
    } else if let (Some(_), Some(name)) = (view.service, subset)
        && view.rule.and_then(|it| it.subset(name)).is_none()
    {
        let reason = Reason::UnknownSubset { host: host.to_string(), subset: name.to_owned() };
        notes.add(format!("{field}.subset"), reason);
    }
    let policy = traffic_policy::policy(view.rule, port, subset, context.mesh);
    Ok(Target {
        cluster: name::OutboundCluster { port, subset, host: &host }.to_string(),
        hash_policy: crate::cluster::hash_policies(&policy),
        host,
        port,
    })
}

/// As written, else the service's only one, else the listener's.
fn port(
    context: &Rules<'_>,
    destination: &Destination,
    service: Option<&Service>,
    field: &str,
    notes: &mut Notes<'_>,
) -> Result<u16, Flaw> {
    let port = match (&destination.port, service.map(|it| it.ports.as_slice())) {
        (Some(port), _) => u16::try_from(port.number)
            .ok()
            .filter(|it| *it != 0)
            .ok_or_else(|| Flaw::invalid(format!("{field}.port.number"), format!("{} is not a port", port.number)))?,
        (None, Some([only])) => only.number,
        (None, _) => context.port,
    };
    if let Some(service) = service.filter(|it| it.port(port).is_none()) {
        let reason = Reason::UnknownPort { host: service.key.host.to_string(), port: port.into() };
        notes.add(format!("{field}.port"), reason);
    }
    Ok(port)
}
