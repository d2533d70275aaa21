//! Leader election against an API server.

use super::fake::Api;
use source::lease::{Election, Timing};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

fn candidate(api: &Api, name: &str) -> (watch::Receiver<bool>, oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    let mut election = Election::new("istio-system", Election::STATUS, name);
    let timing = |millis| Duration::from_millis(millis);
    election.timing = Timing { lease: timing(1500), renew: timing(1000), retry: timing(100) };
    let (leads, task) = election.run(api.client(), async {
        let _ = stopped.await;
    });
    (leads, stop, tokio::spawn(task))
}

async fn until(leads: &mut watch::Receiver<bool>, wanted: bool) {
    timeout(LIMIT, leads.wait_for(|leads| *leads == wanted)).await.expect("in time").expect("alive");
}

#[tokio::test]
async fn one_leads_and_the_next_one_follows_at_once_when_it_stops() {
    let api = Api::start().await;
    let (mut a, stop_a, task_a) = candidate(&api, "a");
    until(&mut a, true).await;
    let (mut b, stop_b, task_b) = candidate(&api, "b");
    while api.count(&["GET", "/leases/istio-leader"]) < 6 {
        tokio::task::yield_now().await;
    }
    assert!(!*b.borrow());
    stop_a.send(()).unwrap();
    task_a.await.unwrap();
    assert!(!*a.borrow());
    until(&mut b, true).await;
    stop_b.send(()).unwrap();
    task_b.await.unwrap();
    assert!(api.count(&["POST", "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases"]) == 1);
}

#[tokio::test]
async fn f12_a_leader_that_cannot_reach_the_api_server_stops_and_another_one_takes_over() {
    let api = Api::start().await;
    let (mut a, _stop_a, task_a) = candidate(&api, "a");
    until(&mut a, true).await;
    let (mut b, _stop_b, task_b) = candidate(&api, "b");
    while api.count(&["GET", "/leases/istio-leader"]) < 4 {
        tokio::task::yield_now().await;
    }
    // As if it had been killed: nothing is released.
    task_a.abort();
    until(&mut b, true).await;
    // The dead connection answers nothing; its owner stops by its own clock.
    api.freeze();
    until(&mut b, false).await;
    task_b.abort();
}
