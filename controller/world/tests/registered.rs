//! A workload outside of Kubernetes: what its WorkloadEntry says of its ports is where it listens.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use model::{Locality, Proxy};
use serde_json::json;
use std::sync::Arc;
use world::{Batch, World};
use xds::{ConnectionId, TypeUrl};

const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vms, namespace: shop}
spec:
  hosts: [vms.example.com]
  addresses: [240.0.0.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: other, protocol: HTTP}]
  workloadSelector: {labels: {app: vm}}
";

#[test]
fn inbound_clusters_are_of_the_ports_that_it_listens_on() {
    let decoded = crds::decode::checked(crds::yaml::value(ENTRY).unwrap());
    let object = decoded.into_iter().next().unwrap().into_object().unwrap();
    let metadata = json!({"LABELS": {"app": "vm"}});
    let mut proxy = Proxy::parse("sidecar~10.0.0.9~vm.shop~cluster.local", &metadata, Locality::default()).unwrap();
    proxy.ports = Arc::new([("http".to_owned(), 8080)].into());
    let mut world = World::new();
    world.commit(Batch {
        objects: vec![(object.key.clone(), Some(object))],
        proxies: vec![(ConnectionId(1), Some(proxy))],
        roots: None,
    });
    let clusters = world.resources(ConnectionId(1), TypeUrl::Cluster);
    let inbound: Vec<&str> = clusters.iter().map(|it| &*it.name).filter(|it| it.starts_with("inbound|")).collect();
    assert_eq!(inbound, ["inbound|8080||", "inbound|81||"]);
}
