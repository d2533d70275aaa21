//! Load from inside the cluster's network, on a thread of its own. No request is repeated by the client, so every one
//! that fails is seen.

use crate::cluster::Cluster;
use anyhow::{Context, Result, bail};
use controller::load::{Load as Clients, Phase, Tally};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

enum Ask {
    Phase { answers: u64, limit: Duration, reply: oneshot::Sender<Option<Phase>> },
    Stop(oneshot::Sender<Tally>),
}

pub(super) struct Load {
    asks: mpsc::Sender<Ask>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    pub(super) fn start(cluster: Arc<dyn Cluster>, url: &str) -> Result<Self> {
        let (asks, receiver) = mpsc::channel(1);
        let url = url.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let work = move |mut runtime: tokio::runtime::Builder| {
            // Made inside: its sockets are in the cluster's network.
            if let Ok(runtime) = runtime.enable_all().build() {
                runtime.block_on(serve(&url, receiver));
            }
        };
        let thread = std::thread::spawn(move || cluster.inside(Box::new(move || work(runtime))));
        Ok(Self { asks, thread })
    }

    /// Answers by version, of requests begun from now on, until there are so many.
    pub(super) fn phase(&self, answers: u64, limit: Duration) -> Result<BTreeMap<String, u64>> {
        let phase = self.ask(|reply| Ask::Phase { answers, limit, reply })?;
        let phase = phase.with_context(|| format!("there were no {answers} answers within {limit:?}"))?;
        let mut versions = BTreeMap::new();
        for (pod, count) in phase.answers {
            // reviews-v1-5d8f7c9b6d-x2x4k
            let version = pod.split('-').nth(1).unwrap_or_default().to_owned();
            *versions.entry(version).or_default() += count;
        }
        Ok(versions)
    }

    /// The end of it, and its figures; an error if any request failed.
    pub(super) fn stop(self) -> Result<String> {
        let tally = self.ask(Ask::Stop)?;
        drop(self.asks);
        self.thread.join().map_err(|_| anyhow::anyhow!("the load's thread panicked"))??;
        let Tally { requests, failed, failures, .. } = tally;
        if requests == 0 {
            bail!("the load sent nothing");
        }
        if failed > 0 {
            bail!("{failed} of {requests} requests failed:\n{}", failures.join("\n"));
        }
        Ok(format!("{requests} requests, 0 failed"))
    }

    fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = "the load has ended by itself";
        self.asks.blocking_send(ask(reply)).ok().context(gone)?;
        answer.blocking_recv().context(gone)
    }
}

async fn serve(url: &str, mut asks: mpsc::Receiver<Ask>) {
    let clients = Clients::start(url);
    while let Some(ask) = asks.recv().await {
        // Who asked may be gone.
        match ask {
            Ask::Phase { answers, limit, reply } => _ = reply.send(clients.phase(answers, limit).await),
            Ask::Stop(reply) => {
                _ = reply.send(clients.stop().await);
                return;
            }
        }
    }
}
