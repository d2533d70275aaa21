//! CLUSTER patches.

use super::list::{lists, merge_any};
use super::{Done, Patch, Patched, Selected, Tally, matching};
use crds::networking::{ApplyTo, Operation};
use xds::TypeUrl;
use xds::envoy::Cluster;
use xds::envoy::core::{TransportSocket, transport_socket::ConfigType};
use xds::merge::{Lists, merge_into};

impl Patched for Cluster {
    const KIND: TypeUrl = TypeUrl::Cluster;
    const APPLY_TO: &'static [ApplyTo] = &[ApplyTo::Cluster];

    fn name(&self) -> &str {
        &self.name
    }

    fn patch(mut self, patches: &Selected<'_>, tally: &mut Tally) -> Option<Self> {
        for patch in patches.of(ApplyTo::Cluster).filter(|it| it.operation != Operation::Add) {
            if !matching::cluster(patch, &self) {
                continue;
            }
            if patch.operation == Operation::Remove {
                tally.note(patch, Ok(true));
                return None;
            }
            if let Some(lists) = lists(patch) {
                let done = merged(&mut self, patch, lists);
                tally.note(patch, done);
            }
        }
        Some(self)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A transport socket is merged into the one of its name, wherever the cluster has that, and nothing else of such a
/// patch is applied: so does Istio.
fn merged(cluster: &mut Cluster, patch: &Patch, lists: Lists) -> Done {
    let value: Cluster = patch.message();
    let Some(socket) = value.transport_socket else {
        return merge_into(cluster, &patch.value, lists).map(|()| true).map_err(|error| error.to_string());
    };
    let mut matches = cluster.transport_socket_matches.iter_mut().filter_map(|it| it.transport_socket.as_mut());
    if let Some(own) = matches.find(|own| own.name == socket.name) {
        return merge_socket(own, &socket, lists);
    }
    if !cluster.transport_socket_matches.is_empty() {
        return Err(format!("none of the cluster's transport_socket_matches has a socket {:?}", socket.name));
    }
    match &mut cluster.transport_socket {
        Some(own) if own.name == socket.name => merge_socket(own, &socket, lists),
        own => {
            *own = Some(socket);
            Ok(true)
        }
    }
}

pub(super) fn merge_socket(own: &mut TransportSocket, patch: &TransportSocket, lists: Lists) -> Done {
    match (&mut own.config_type, &patch.config_type) {
        (Some(ConfigType::TypedConfig(own)), Some(ConfigType::TypedConfig(patch))) => merge_any(own, patch, lists),
        _ => Ok(true),
    }
}
