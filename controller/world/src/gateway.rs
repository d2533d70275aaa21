//! Gateways: the servers that select a proxy, each a listener with its route table.

use crate::catalog::{Groups, Objects};
use crate::key::{GatewayKey, SetKey};
use crate::made::Made;
use crate::outbound::{SeeTables, client, destinations};
use crds::mesh_config::MeshConfig;
use crds::networking::Gateway;
use crds::{ObjectKey, Problem};
use model::gateway::HttpServer;
use model::service::Age;
use model::{GatewayServer, MergedGateway, Protocol, RouteRules, label};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tables::{Reads, Shared, Table};
use translate::listener::gateway::{GatewayListenerInput, https_route};
use translate::name::GatewayHttpRoute;
use translate::route::gateway::GatewayRoutesInput;
use xds::{Layer, Piece, Pieces, Resource, TypeUrl};

/// The Gateways of a gateway proxy, merged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Merged {
    pub(crate) gateway: MergedGateway,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) fn merged(reads: &mut Reads, gateways: &Objects<Gateway>, key: &Arc<GatewayKey>) -> Option<Merged> {
    let mut selecting: Vec<_> = reads
        .all(gateways)
        .filter(|(_, it)| label::selects(&it.spec.selector, &key.labels))
        .map(|(object, it)| (object, Age::new(&it.meta), &it.spec))
        .collect();
    selecting.sort_by(|a, b| a.1.cmp(&b.1));
    let target = |port: u16| key.ports.iter().find(|it| it.port == port).map(|it| it.target);
    let (gateway, problems) = model::gateway::merge(&selecting, target);
    Some(Merged { gateway, problems })
}

/// One listener of a gateway proxy, by the address it binds.
pub(crate) type GatewaySlot = (Arc<GatewayKey>, (String, u16));

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GatewayListener {
    pub(crate) listener: Option<Arc<Resource>>,
    pub(crate) routes: Vec<Arc<Resource>>,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) type GatewayTables<'t> = (
    &'t Table<Arc<GatewayKey>, Merged>,
    (&'t Groups<String, ObjectKey>, &'t Table<ObjectKey, RouteRules>),
    SeeTables<'t>,
    &'t Table<(), MeshConfig>,
);

pub(crate) fn gateway_listener(
    reads: &mut Reads,
    (gateways, routes, see_tables, mesh): GatewayTables<'_>,
    (key, address): &GatewaySlot,
) -> Option<GatewayListener> {
    let mesh = reads.get(mesh, &())?;
    let merged = reads.get(gateways, key)?.clone();
    let server = merged.gateway.listeners.get(address)?;
    let rules = bound_rules(reads, routes, server, key);
    let rules: Vec<(&str, &RouteRules)> = rules.iter().map(|(name, it)| (name.as_str(), &**it)).collect();
    let hosts: BTreeSet<_> = rules.iter().flat_map(|(_, it)| it.destination_hosts()).collect();
    let set = SetKey::Own(key.scope.clone());
    let destinations = destinations(reads, see_tables, &set, hosts);
    let none = BTreeMap::new();
    let (bind, port) = address;
    let made = translate::listener::gateway::listener(&GatewayListenerInput {
        bind,
        port: *port,
        server,
        rules: &rules,
        destinations: &destinations,
        mesh,
        client: &client(&set, &none, ""),
        certificates: key.certificates,
    });
    let owner = server.http.first().map(|it| &it.gateway).or_else(|| server.tls.first().map(|it| &it.gateway))?;
    let Made { resource: listener, mut problems } = Made::optional(made, owner);
    let mut routes = vec![];
    let mut add = |name: String, servers: &[HttpServer], server_port: u16, https: bool| {
        let made = translate::route::gateway::virtual_hosts(&GatewayRoutesInput {
            servers,
            port: server_port,
            https,
            rules: &rules,
            destinations: &destinations,
            namespace: &key.namespace,
            labels: &key.labels,
            listener_port: *port,
            mesh,
        });
        problems.extend(made.problems);
        routes.push(route_table(&name, &made.resource));
    };
    if !server.http.is_empty() {
        let name = GatewayHttpRoute { port: *port, bind: &server.bind }.to_string();
        add(name, &server.http, server.port, false);
    }
    for of in server.tls.iter().filter(|it| it.terminates() && it.protocol == Protocol::Https) {
        add(https_route(of, &server.bind), &[of.as_http()], of.port, true);
    }
    Some(GatewayListener { listener, routes, problems })
}

fn route_table(rds: &str, hosts: &[xds::envoy::VirtualHost]) -> Arc<Resource> {
    let mut pieces = Pieces::default();
    for host in hosts {
        pieces.insert(host.name.as_str().into(), Piece::field(crate::outbound::VIRTUAL_HOSTS, host));
    }
    let head = xds::canonical::encode(&translate::route::gateway::route_configuration(rds));
    Arc::new(Resource::joined(TypeUrl::Route, rds, head, &pieces))
}

/// VirtualServices bound to the server's Gateways and visible to the proxy's namespace, oldest first.
fn bound_rules(
    reads: &mut Reads,
    (by_gateway, all): (&Groups<String, ObjectKey>, &Table<ObjectKey, RouteRules>),
    server: &GatewayServer,
    key: &GatewayKey,
) -> Vec<(String, Shared<RouteRules>)> {
    let http = server.http.iter().map(|it| &it.gateway);
    let names: BTreeSet<String> =
        http.chain(server.tls.iter().map(|it| &it.gateway)).map(|it| format!("{}/{}", it.namespace, it.name)).collect();
    let mut rules: Vec<(String, Shared<RouteRules>)> = vec![];
    for name in names {
        let members = reads.members(by_gateway, all, &name);
        let visible = members.filter(|(_, it)| it.visibility.allows(&key.namespace));
        rules.extend(visible.map(|(_, it)| (name.clone(), it.clone())));
    }
    rules.sort_by(|a, b| (&a.1.age, &a.0).cmp(&(&b.1.age, &b.0)));
    rules
}

/// LDS and RDS of a gateway proxy.
pub(crate) fn layers(
    reads: &mut Reads,
    (gateways, listeners): (&Table<Arc<GatewayKey>, Merged>, &Table<GatewaySlot, GatewayListener>),
    key: &Arc<GatewayKey>,
) -> Option<(Layer, Layer)> {
    let merged = reads.get(gateways, key)?.clone();
    let (mut lds, mut rds) = (Layer::new(), Layer::new());
    for address in merged.gateway.listeners.keys() {
        let Some(made) = reads.get(listeners, &(key.clone(), address.clone())) else { continue };
        lds.extend(made.listener.iter().map(|it| (it.name.clone(), Some(it.clone()))));
        rds.extend(made.routes.iter().map(|it| (it.name.clone(), Some(it.clone()))));
    }
    Some((lds, rds))
}
