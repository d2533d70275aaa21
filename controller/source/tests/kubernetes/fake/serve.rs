//! The HTTP of it.

use super::{Api, Resource, State};
use bytes::Bytes;
use futures::stream::unfold;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

pub(super) async fn accept(api: Api, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let number = api.with(|state| {
            state.connections += 1;
            (!state.is_down).then_some(state.connections)
        });
        let Some(number) = number else { continue };
        let api = api.clone();
        tokio::spawn(async move {
            let mut changed = api.changed.subscribe();
            let answer = |request| answer(api.clone(), number, request);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
            tokio::pin!(connection);
            loop {
                tokio::select! {
                    _ = &mut connection => return,
                    _ = changed.changed() => if api.lock().is_down { return },
                }
            }
        });
    }
}

async fn answer(api: Api, connection: u64, request: Request<Incoming>) -> io::Result<Answer> {
    let uri = request.uri().to_string();
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3D", "=").replace("%40", "@")))
        .collect();
    let Some(path) = Path::parse(request.uri().path()) else { return Ok(status(404, "NotFound", &uri)) };
    let method = request.method().clone();
    api.lock().requests.push(format!("{method} {uri}"));
    stay_while(&api, |state| state.frozen >= connection).await;
    if api.lock().forbidden.contains(&path.resource.1) {
        return Ok(status(403, "Forbidden", "not allowed"));
    }
    if method == Method::GET && path.name.is_none() {
        return match query.get("watch") {
            Some(_) => Ok(watch_answer(api, connection, path, &query)),
            None => list(&api, &path, &query).await,
        };
    }
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(one(&api, &method, path, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

struct Path {
    resource: Resource,
    namespace: Option<String>,
    name: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let resource = (group.to_owned(), (*rest.first()?).to_owned());
        Some(Self { resource, namespace, name: rest.get(1).map(|name| (*name).to_owned()) })
    }
}

async fn list(api: &Api, path: &Path, query: &BTreeMap<String, String>) -> io::Result<Answer> {
    let first: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
    let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let page = first.checked_div(limit).unwrap_or(0);
    stay_while(api, |state| {
        state.gate.as_ref().is_some_and(|(plural, open)| *plural == path.resource.1 && page >= *open)
    })
    .await;
    let state = api.lock();
    let all: Vec<Value> = state
        .objects
        .get(&path.resource)
        .into_iter()
        .flatten()
        .filter(|(key, _)| selects(path, query, key))
        .map(|(_, object)| {
            let mut item = object.clone();
            // As the API server does for its own kinds.
            item.as_object_mut().unwrap().retain(|name, _| name != "apiVersion" && name != "kind");
            item
        })
        .collect();
    let items: Vec<_> = all.iter().skip(first).take(limit).cloned().collect();
    let end = first.saturating_add(items.len());
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if end < all.len() {
        metadata["continue"] = end.to_string().into();
    }
    Ok(json_answer(200, &json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items})))
}

fn selects(path: &Path, query: &BTreeMap<String, String>, (namespace, name): &(String, String)) -> bool {
    let in_namespace = path.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
    let field = query.get("fieldSelector").and_then(|field| field.strip_prefix("metadata.name="));
    in_namespace && field.is_none_or(|wanted| wanted == name)
}

struct Watch {
    api: Api,
    connection: u64,
    path: Path,
    query: BTreeMap<String, String>,
    version: u64,
    cut: u64,
    end: Instant,
    changed: watch::Receiver<u64>,
    is_over: bool,
}

fn watch_answer(api: Api, connection: u64, path: Path, query: &BTreeMap<String, String>) -> Answer {
    let version: u64 = query.get("resourceVersion").map_or(0, |version| version.parse().unwrap());
    let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410});
    let state = api.lock();
    let (oldest, newest, cut, is_status) = (state.oldest, state.version, state.cut, state.is_gone_a_status);
    drop(state);
    if version > newest {
        return status(504, "Timeout", "Too large resource version: 110, current: 10");
    }
    if version < oldest {
        return match is_status {
            true => json_answer(410, &gone),
            false => json_answer(200, &json!({"type": "ERROR", "object": gone})),
        };
    }
    let seconds = query.get("timeoutSeconds").map_or(300, |seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let changed = api.changed.subscribe();
    let watch = Watch { api, connection, path, query: query.clone(), version, cut, end, changed, is_over: false };
    let frames = unfold(watch, |mut watch| async {
        let lines = watch.next().await?;
        Some((lines.map(|lines| Frame::data(lines.into())), watch))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
}

impl Watch {
    /// The next lines; an error is an abrupt end.
    async fn next(&mut self) -> Option<io::Result<String>> {
        if self.is_over {
            return None;
        }
        loop {
            let lines = {
                let state = self.api.lock();
                if state.cut != self.cut || state.is_down {
                    self.is_over = true;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                let is_frozen = state.frozen >= self.connection;
                let lines = if is_frozen { String::new() } else { self.lines(&state) };
                self.version = if is_frozen { self.version } else { state.version };
                if !is_frozen && Instant::now() >= self.end {
                    self.is_over = true;
                    let metadata = json!({"resourceVersion": self.version.to_string()});
                    let bookmark = json!({"type": "BOOKMARK", "object":
                        {"apiVersion": "v1", "kind": "X", "metadata": metadata}});
                    return Some(Ok(format!("{lines}{bookmark}\n")));
                }
                lines
            };
            if !lines.is_empty() {
                return Some(Ok(lines));
            }
            tokio::select! {
                _ = self.changed.changed() => {}
                () = sleep_until(self.end), if Instant::now() < self.end => {}
            }
        }
    }

    fn lines(&self, state: &State) -> String {
        let (path, query) = (&self.path, &self.query);
        state
            .log
            .iter()
            .filter(|(version, resource, _, object)| {
                *version > self.version && *resource == path.resource && selects(path, query, &super::key(object))
            })
            .map(|(_, _, event, object)| format!("{}\n", json!({"type": event, "object": object})))
            .collect()
    }
}

/// Reads or writes one object, with the API server's optimistic concurrency.
fn one(api: &Api, method: &Method, path: Path, mut body: Value) -> Answer {
    let namespace = path.namespace.clone().unwrap_or_default();
    let name = path.name.clone().unwrap_or_else(|| super::key(&body).1);
    let key = (namespace.clone(), name.clone());
    api.with(|state| {
        let known = state.objects.get(&path.resource).and_then(|all| all.get(&key)).cloned();
        match (method.as_str(), known) {
            ("GET", Some(object)) => json_answer(200, &object),
            ("POST", Some(_)) => status(409, "AlreadyExists", "it is there"),
            ("PUT", Some(known)) => {
                let sent = &body["metadata"]["resourceVersion"];
                if sent.is_string() && *sent != known["metadata"]["resourceVersion"] {
                    return status(409, "Conflict", "the object has been modified");
                }
                body["metadata"]["namespace"] = namespace.as_str().into();
                state.put(path.resource.clone(), body);
                json_answer(200, &state.objects[&path.resource][&key])
            }
            ("POST", None) => {
                body["metadata"]["namespace"] = namespace.as_str().into();
                state.put(path.resource.clone(), body);
                json_answer(201, &state.objects[&path.resource][&key])
            }
            _ => status(404, "NotFound", &name),
        }
    })
}

async fn stay_while(api: &Api, condition: impl Fn(&State) -> bool) {
    let mut changed = api.changed.subscribe();
    while condition(&api.lock()) {
        let _ = changed.changed().await;
    }
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    json_answer(code, &body)
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(format!("{body}\n"))).map_err(|never| match never {});
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.body(BodyExt::boxed_unsync(body)).unwrap()
}
