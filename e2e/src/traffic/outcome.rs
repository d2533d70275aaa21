//! What was seen of a case, and what of it is wrong.

use super::case::{Case, Expect, Protocol};
use super::{Caller, secure};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Full;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Outcome(Vec<Result<Answer>>);

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
    /// The body, if it is an echo's.
    echo: Value,
    took: Duration,
}

/// How far a share may be off by chance.
const SIGMAS: f64 = 4.0;

impl Outcome {
    /// What is wrong with the case.
    pub(super) async fn judged(case: &Case, caller: &Caller) -> Vec<String> {
        if let Some(before) = &case.before {
            for _ in 0..case.before_count {
                // What comes of it is shown by what follows.
                caller.http.get(before, &HeaderMap::new()).await.ok();
            }
        }
        let end = Instant::now() + Duration::from_millis(case.within_ms);
        loop {
            let wrong = Self::of(case, caller).await.judge(case);
            if wrong.is_empty() || Instant::now() >= end {
                return wrong;
            }
        }
    }

    async fn of(case: &Case, caller: &Caller) -> Self {
        let requests = futures::stream::iter(0..case.count).map(async |at| {
            if at > 0 {
                tokio::time::sleep(Duration::from_millis(case.pause_ms)).await;
            }
            answer(case, caller).await
        });
        Self(requests.buffered(case.together).collect().await)
    }

    fn judge(&self, case: &Case) -> Vec<String> {
        let mut wrong = vec![];
        for answer in &self.0 {
            match answer {
                Ok(answer) => answer.judge(&case.expect, &mut wrong),
                Err(why) => wrong.push(format!("{why:#}")),
            }
        }
        let answers: Vec<&Answer> = self.0.iter().flatten().collect();
        let pods: Vec<&str> = answers.iter().map(|it| it.pod()).collect();
        let statuses: Vec<String> = answers.iter().map(|it| it.status.to_string()).collect();
        shares("pods", &case.expect.pods, &pods, &mut wrong);
        shares("statuses", &case.expect.statuses, &statuses.iter().map(String::as_str).collect::<Vec<_>>(), &mut wrong);
        for (status, least) in &case.expect.at_least {
            let found = statuses.iter().filter(|it| *it == status).count();
            if found < *least {
                wrong.push(format!("{least} answers at least should have status {status}, {found} have"));
            }
        }
        let others = statuses.iter().filter(|it| !case.expect.at_least.contains_key(*it)).count();
        if !case.expect.at_least.is_empty() && others > 0 {
            wrong.push(format!("{others} answers have none of the expected statuses: {statuses:?}"));
        }
        if let Some(expected) = case.expect.distinct_pods {
            let found: BTreeSet<&str> = pods.iter().copied().collect();
            if found.len() != expected {
                wrong.push(format!("{expected} pods should have answered: {found:?}"));
            }
        }
        if let Some(expected) = case.expect.distinct_connections {
            let found: BTreeSet<_> = answers.iter().map(|it| (it.pod(), it.echo["connection"].as_u64())).collect();
            if found.len() != expected {
                wrong.push(format!("{expected} connections should have been used: {found:?}"));
            }
        }
        wrong.sort();
        wrong.dedup();
        wrong
    }
}

async fn answer(case: &Case, caller: &Caller) -> Result<Answer> {
    let started = Instant::now();
    let client = match case.protocol {
        Protocol::Tcp => {
            let body = tokio::time::timeout(TCP_MAX, bytes(case, caller)).await.context("no end of the bytes")??;
            let took = started.elapsed();
            return Ok(Answer { status: 0, headers: HeaderMap::new(), body, echo: Value::Null, took });
        }
        Protocol::Http => &caller.http,
        Protocol::Http2 => &caller.http2,
    };
    let body: Full<Bytes> = case.body.clone().into();
    let mut request = Request::builder().method(case.method.as_str()).uri(&case.to).body(body)?;
    for (name, value) in &case.headers {
        request.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let sent = match case.to.starts_with("https:") {
        true => tokio::time::timeout(TCP_MAX, secure::send(request, caller.address, case, &caller.keys)).await?,
        false => client.send(request).await,
    };
    if case.expect.closed && sent.is_err() {
        let took = started.elapsed();
        return Ok(Answer { status: 0, headers: HeaderMap::new(), body: String::new(), echo: Value::Null, took });
    }
    let (head, body) = sent?.into_parts();
    let echo = serde_json::from_str(&body).unwrap_or_default();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, echo, took: started.elapsed() })
}

const TCP_MAX: Duration = Duration::from_secs(10);

/// What comes back for the case's body: until it has what is expected, or the end. A connection that is reset brings
/// nothing.
async fn bytes(case: &Case, caller: &Caller) -> Result<String> {
    let mut stream = TcpStream::connect(caller.address).await?;
    let expected = case.expect.body.as_deref().unwrap_or_default();
    stream.write_all(case.body.as_bytes()).await.ok();
    let mut answered = vec![];
    while let Ok(read) = stream.read_buf(&mut answered).await {
        let is_there = !expected.is_empty() && String::from_utf8_lossy(&answered).contains(expected);
        if read == 0 || is_there {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answered).into_owned())
}

fn shares(what: &str, expected: &BTreeMap<String, f64>, found: &[&str], wrong: &mut Vec<String>) {
    if expected.is_empty() {
        return;
    }
    let total = found.len() as f64;
    let matched = |name: &str| found.iter().filter(|it| it.starts_with(name)).count() as f64;
    for (name, percent) in expected {
        let share = matched(name) / total;
        let wanted = percent / 100.0;
        let chance = SIGMAS * (wanted * (1.0 - wanted) / total).sqrt();
        if total == 0.0 || (share - wanted).abs() > chance {
            wrong.push(format!(
                "{what}: {name} should have {percent}% (±{:.1}), has {:.1}%",
                chance * 100.0,
                share * 100.0
            ));
        }
    }
    let others = found.iter().filter(|it| !expected.keys().any(|name| it.starts_with(name.as_str()))).count();
    if others > 0 {
        wrong.push(format!("{what}: {others} of {total} are none of those expected"));
    }
}

impl Answer {
    fn pod(&self) -> &str {
        self.echo["pod"].as_str().unwrap_or_default()
    }

    fn judge(&self, expect: &Expect, wrong: &mut Vec<String>) {
        let mut differs = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
            wrong.push(format!("{what} should be {expected:?}, is {found:?}"));
        };
        let said = |field: &str| self.echo[field].as_str().unwrap_or_default().to_owned();
        if let Some(status) = expect.status.filter(|it| *it != self.status) {
            differs("status", &status, &self.status);
        }
        if expect.closed && (self.status, self.body.as_str()) != (0, "") {
            differs("the connection", &"closed without an answer", &self.body);
        }
        if let Some(pod) = expect.pod.as_ref().filter(|it| !self.pod().starts_with(it.as_str())) {
            differs("pod", pod, &self.pod());
        }
        let path = match said("query") {
            query if query.is_empty() => said("path"),
            query => format!("{}?{query}", said("path")),
        };
        for (what, expected, found) in [
            ("path", &expect.path, path),
            ("method", &expect.method, said("method")),
            ("protocol", &expect.protocol, said("protocol")),
        ] {
            if let Some(expected) = expected.as_ref().filter(|it| **it != found) {
                differs(what, expected, &found);
            }
        }
        for (name, expected) in &expect.arrived {
            let found = self.echo["headers"][name].as_str().map(str::to_owned);
            if found != *expected {
                differs(&format!("header {name} that arrived"), expected, &found);
            }
        }
        for (name, expected) in &expect.headers {
            let found: Vec<&str> =
                self.headers.get_all(name.as_str()).iter().filter_map(|it| it.to_str().ok()).collect();
            let found = (!found.is_empty()).then(|| found.join(", "));
            if found != *expected {
                differs(&format!("header {name} of the answer"), expected, &found);
            }
        }
        for (name, part) in &expect.headers_with {
            let mut found = self.headers.get_all(name.as_str()).iter().filter_map(|it| it.to_str().ok());
            if !found.any(|it| it.contains(part.as_str())) {
                differs(&format!("header {name} of the answer"), part, &self.headers.get(name.as_str()));
            }
        }
        if expect.body.as_deref() == Some("") && !self.body.is_empty() {
            differs("body", &"", &self.body);
        }
        if let Some(part) = expect.body.as_ref().filter(|it| !self.body.contains(it.as_str())) {
            differs("body", part, &self.body);
        }
        if let Some(seen) = expect.seen.filter(|it| self.echo["seen"] != *it) {
            differs("seen", &seen, &self.echo["seen"]);
        }
        let attempt = self.echo["headers"]["x-envoy-attempt-count"].as_str().and_then(|it| it.parse().ok());
        if let Some(expected) = expect.attempt.filter(|it| attempt != Some(*it)) {
            differs("attempt", &expected, &attempt);
        }
        let took = self.took.as_millis() as u64;
        if let Some(least) = expect.at_least_ms.filter(|it| took < *it) {
            differs("time", &format!("at least {least} ms"), &took);
        }
        if let Some(most) = expect.at_most_ms.filter(|it| took > *it) {
            differs("time", &format!("at most {most} ms"), &took);
        }
    }
}
