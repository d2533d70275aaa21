//! ROUTE_CONFIGURATION, VIRTUAL_HOST and HTTP_ROUTE patches.

use super::list::{edit, lists};
use super::{Patched, Selected, Tally, matching, structure};
use crds::networking::{ApplyTo, Operation};
use xds::TypeUrl;
use xds::envoy::{RouteConfiguration, VirtualHost};
use xds::merge::merge_into;

impl Patched for RouteConfiguration {
    const KIND: TypeUrl = TypeUrl::Route;
    const APPLY_TO: &'static [ApplyTo] = &[ApplyTo::RouteConfiguration, ApplyTo::VirtualHost, ApplyTo::HttpRoute];

    fn name(&self) -> &str {
        &self.name
    }

    fn patch(mut self, patches: &Selected<'_>, tally: &mut Tally) -> Option<Self> {
        configuration(&mut self, patches, tally);
        Some(self)
    }

    fn check(&self) -> Result<(), String> {
        structure::routes(self)
    }
}

/// Whether anything was done.
pub(super) fn configuration(routes: &mut RouteConfiguration, patches: &Selected<'_>, tally: &mut Tally) -> bool {
    let before = tally.hits.len();
    let name = routes.name.clone();
    let is_of = |patch: &&super::Patch| matching::route_configuration(patch, patches.context, patches.patches, &name);
    let mut changed = false;
    for patch in patches.of(ApplyTo::RouteConfiguration).filter(is_of) {
        if let Some(lists) = lists(patch) {
            let done = merge_into(routes, &patch.value, lists).map(|()| true).map_err(|error| error.to_string());
            changed |= tally.note(patch, done);
        }
    }
    let of_hosts: Vec<_> = patches.of(ApplyTo::VirtualHost).filter(is_of).collect();
    let of_routes: Vec<_> = patches.of(ApplyTo::HttpRoute).filter(is_of).collect();
    routes.virtual_hosts = std::mem::take(&mut routes.virtual_hosts)
        .into_iter()
        .filter_map(|host| {
            let (host, done) = virtual_host(host, &of_hosts, tally);
            changed |= done;
            let mut host = host?;
            changed |= http_routes(&mut host, &of_routes, tally);
            Some(host)
        })
        .collect();
    for patch in of_hosts.iter().filter(|it| it.operation == Operation::Add) {
        routes.virtual_hosts.push(patch.message());
        changed |= tally.note(patch, Ok(true));
    }
    changed || tally.hits.len() != before
}

/// `None`: it is removed.
fn virtual_host(mut host: VirtualHost, patches: &[&super::Patch], tally: &mut Tally) -> (Option<VirtualHost>, bool) {
    let mut changed = false;
    for patch in patches {
        if patch.operation == Operation::Add || !matching::virtual_host(patch, &host) {
            continue;
        }
        match (patch.operation, lists(patch)) {
            (Operation::Remove, _) => {
                tally.note(patch, Ok(true));
                return (None, true);
            }
            (Operation::Replace, _) => {
                host = patch.message();
                changed |= tally.note(patch, Ok(true));
            }
            (_, Some(lists)) => {
                let done = merge_into(&mut host, &patch.value, lists).map(|()| true);
                changed |= tally.note(patch, done.map_err(|error| error.to_string()));
            }
            _ => {}
        }
    }
    (Some(host), changed)
}

fn http_routes(host: &mut VirtualHost, patches: &[&super::Patch], tally: &mut Tally) -> bool {
    let mut changed = false;
    let of_host: Vec<_> = patches.iter().filter(|it| matching::virtual_host(it, host)).collect();
    // What is there is changed or removed first, in one pass over the routes; then come new ones.
    host.routes = std::mem::take(&mut host.routes)
        .into_iter()
        .filter_map(|mut route| {
            for patch in of_host.iter().filter(|it| lists(it).is_some() || it.operation == Operation::Remove) {
                if !matching::route(patch, &route) {
                    continue;
                }
                let Some(lists) = lists(patch) else {
                    changed |= tally.note(patch, Ok(true));
                    return None;
                };
                let done = merge_into(&mut route, &patch.value, lists).map(|()| true);
                changed |= tally.note(patch, done.map_err(|error| error.to_string()));
            }
            Some(route)
        })
        .collect();
    for patch in of_host.iter().filter(|it| lists(it).is_none() && it.operation != Operation::Remove) {
        let at = matching::has_route(patch).then(|| host.routes.iter().position(|it| matching::route(patch, it)));
        let done = edit(&mut host.routes, patch, at);
        changed |= tally.note(patch, Ok(done));
    }
    changed
}
