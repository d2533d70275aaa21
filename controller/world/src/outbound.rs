//! What scopes send: clusters, load assignments, virtual hosts, route tables and outbound listeners.

mod cluster;
mod listener;
mod names;
mod placement;
mod remark;
mod route;
mod see;

pub(crate) use cluster::{
    Entry, SeenKey, assignment, cluster, differing_clusters, fed, shared_clusters, shared_entries,
};
pub(crate) use listener::{outbound_listener, scope_listeners, slot_clients};
pub(crate) use names::{NameKey, NameMap, NameSet, Names, base_names, name_table, names};
pub(crate) use placement::{
    Placement, SlotGroups, headless_ips, loose_key, loose_tables, own_placement, placement, proxy_tables,
};
pub(crate) use remark::{loose_host, shadowed, unbound};
pub(crate) use route::{EncodedHost, HostMap, VIRTUAL_HOSTS, base_pieces, route_table, virtual_host};
pub(crate) use see::{OwnKey, SeeTables, client, destinations};
