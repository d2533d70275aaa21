//! Says back what arrived: enough to see which workload answered, and what the mesh did to the request on its way.

use super::{Answer, Call, Part, json};
use http::StatusCode;
use serde_json::{Value, json as value};
use std::collections::BTreeMap;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(super) fn answer_http(part: &Part, call: &Call) -> Answer {
    let mut headers = BTreeMap::<&str, Vec<_>>::new();
    for (name, content) in &call.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(content.as_bytes()).into_owned());
    }
    let headers: BTreeMap<&str, Value> = headers.into_iter().map(|(name, all)| (name, all.join(", ").into())).collect();
    let body = value!({
        "pod": part.identity.pod,
        "namespace": part.identity.namespace,
        "version": part.identity.labels.get("version"),
        "method": call.method.as_str(),
        "path": call.path,
        "query": call.query,
        "headers": headers,
        "body": String::from_utf8_lossy(&call.body),
    });
    json(StatusCode::OK, &body)
}

/// Sends back every byte until the peer has no more to say.
pub(super) async fn serve_tcp(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((mut tcp, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        connections.spawn(async move {
            let (mut reader, mut writer) = tcp.split();
            tokio::io::copy(&mut reader, &mut writer).await.ok();
        });
    }
}
