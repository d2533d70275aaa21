//! Says back what arrived: enough to see which workload answered, and what the mesh did to the request on its way.

use super::{Answer, Call, Part, json};
use http::{HeaderValue, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json as value};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a request's query asks of the answer, so that retries, timeouts and ejection can be seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// `status=503`
    status: Option<StatusCode>,
    /// `fail=2`: only the first so many attempts of a call (`x-envoy-attempt-count`) get that status, or 503.
    fail: Option<u32>,
    /// `grpc=14`: what fails does so with this gRPC status, in an answer that is 200.
    grpc: Option<HeaderValue>,
    /// `pod=web-v1`: only pods whose names begin so.
    pod: Option<String>,
    /// `delay=300`: milliseconds before the answer.
    delay: Duration,
}

/// Longest delay that a request can ask for.
const DELAY_MAX: Duration = Duration::from_secs(30);

impl Wanted {
    fn of(query: &str) -> Self {
        let mut wanted = Self::default();
        for (name, value) in query.split('&').filter_map(|it| it.split_once('=')) {
            match name {
                "status" => wanted.status = value.parse().ok(),
                "grpc" => wanted.grpc = value.parse().ok(),
                "fail" => wanted.fail = value.parse().ok(),
                "pod" => wanted.pod = Some(value.to_owned()),
                "delay" => wanted.delay = Duration::from_millis(value.parse().unwrap_or(0)).min(DELAY_MAX),
                _ => {}
            }
        }
        wanted
    }

    fn is_for(&self, pod: &str) -> bool {
        self.pod.as_deref().is_none_or(|it| pod.starts_with(it))
    }

    fn status(&self, attempt: u32) -> StatusCode {
        match (self.fail, self.status) {
            (None, None) => StatusCode::OK,
            (None, Some(status)) => status,
            (Some(fail), status) if attempt <= fail => status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            (Some(_), _) => StatusCode::OK,
        }
    }
}

pub(super) async fn answer_http(part: &Part, call: &Call) -> Answer {
    let wanted = Some(Wanted::of(&call.query)).filter(|it| it.is_for(&part.identity.pod)).unwrap_or_default();
    tokio::time::sleep(wanted.delay).await;
    let attempt = call.headers.get("x-envoy-attempt-count").and_then(|it| it.to_str().ok()?.parse().ok()).unwrap_or(1);
    *part.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(call.path.clone()).or_default() += 1;
    let mut headers = BTreeMap::<&str, Vec<_>>::new();
    for (name, content) in &call.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(content.as_bytes()).into_owned());
    }
    let headers: BTreeMap<&str, Value> = headers.into_iter().map(|(name, all)| (name, all.join(", ").into())).collect();
    let body = value!({
        "pod": part.identity.pod,
        "namespace": part.identity.namespace,
        "version": part.identity.labels.get("version"),
        "protocol": format!("{:?}", call.version),
        "method": call.method.as_str(),
        "path": call.path,
        "query": call.query,
        "headers": headers,
        "body": String::from_utf8_lossy(&call.body),
        "connection": call.connection,
        "seen": seen(part, call),
    });
    let status = wanted.status(attempt);
    let Some(grpc) = wanted.grpc else { return json(status, &body) };
    let mut answer = json(StatusCode::OK, &body);
    let grpc = if status.is_success() { HeaderValue::from_static("0") } else { grpc };
    answer.headers_mut().insert("grpc-status", grpc);
    answer
}

/// How many requests this pod has had for the path after `/seen`; mirrored ones can be counted so.
fn seen(part: &Part, call: &Call) -> Option<u64> {
    let path = call.path.strip_prefix("/seen")?;
    Some(part.seen.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied().unwrap_or(0))
}

/// Takes a connection over for what is no HTTP (WebSocket), and sends back every byte of it.
pub(super) fn upgrade<B>(request: Request<B>) -> Answer
where
    B: Send + 'static,
{
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        tokio::io::copy(&mut reader, &mut writer).await.ok();
    });
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
    answer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted() {
        let plain = Wanted::of("");
        assert_eq!((plain.status(1).as_u16(), plain.delay), (200, Duration::ZERO));
        let always = Wanted::of("a=b&status=404");
        assert_eq!([1, 9].map(|attempt| always.status(attempt).as_u16()), [404, 404]);
        let twice = Wanted::of("fail=2");
        assert_eq!([1, 2, 3].map(|attempt| twice.status(attempt).as_u16()), [503, 503, 200]);
        assert_eq!(Wanted::of("fail=1&status=500").status(1).as_u16(), 500);
        let of_one = Wanted::of("pod=web-v1&delay=70");
        assert!(of_one.is_for("web-v1-0") && !of_one.is_for("web-v2-0"));
        assert_eq!(of_one.delay, Duration::from_millis(70));
        assert_eq!(Wanted::of("delay=9999999").delay, DELAY_MAX);
    }
}
