//! The plain HTTP pages: readiness and debugging on 8080, metrics and the same debugging on 15014.
//!
//! Debug pages show configuration, so they are for this pod's own loopback (`kubectl port-forward` comes from there)
//! and for callers with a credential: of the system namespace for everything, of others for their own proxies (S22).
//! There are no pages that change anything.

use super::core::Event;
use super::door;
use super::metrics::Metrics;
use super::query::{Dump, ProxyRow, Query};
use axum::Router;
use axum::extract::{ConnectInfo, Query as Parameters, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ca::authenticate::Authenticator;
use crds::mesh_config::MeshConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use xds::Hub;

#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) hub: Arc<Hub>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    /// Other parts' metrics, appended to ours.
    pub(crate) more_metrics: Arc<dyn Fn(&mut String) + Send + Sync>,
    pub(crate) mesh: watch::Receiver<Arc<MeshConfig>>,
    pub(crate) authenticator: Authenticator,
    pub(crate) system_namespace: Arc<str>,
    /// Becomes true when this replica is asked to end.
    pub(crate) ending: watch::Receiver<bool>,
}

/// Whose proxies a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sees {
    Everything,
    Namespace(Arc<str>),
}

/// Whether the debug pages are there (`ENABLE_DEBUG_ON_HTTP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debug {
    Served,
    Off,
}

/// Port 8080.
pub(crate) fn main(pages: Pages, serve: Debug) -> Router {
    Router::new().route("/ready", get(ready)).merge(debug(pages.clone(), serve)).with_state(pages)
}

/// Port 15014.
pub(crate) fn monitoring(pages: Pages, serve: Debug) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { agent::node::VERSION }))
        .merge(debug(pages.clone(), serve))
        .with_state(pages)
}

fn debug(pages: Pages, serve: Debug) -> Router<Pages> {
    if serve == Debug::Off {
        return Router::new();
    }
    Router::new()
        .route("/debug", get(list))
        .route("/debug/list", get(list))
        .route("/debug/syncz", get(syncz))
        .route("/debug/connections", get(syncz))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/mesh", get(mesh))
        .route("/debug/problems", get(problems))
        .route_layer(axum::middleware::from_fn_with_state(pages, allowed))
}

async fn ready(State(pages): State<Pages>) -> Response {
    match (pages.hub.ready(), *pages.ending.borrow()) {
        (true, false) => StatusCode::OK.into_response(),
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "ending").into_response(),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "the configuration is still being read").into_response(),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut text = String::new();
    pages.metrics.render(&mut text);
    (pages.more_metrics)(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn allowed(State(pages): State<Pages>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip());
    let sees = match from {
        Some(ip) if ip.to_canonical().is_loopback() => Sees::Everything,
        _ => match identify(&pages, request.headers()).await {
            Ok(sees) => sees,
            Err(refused) => return *refused,
        },
    };
    request.extensions_mut().insert(sees);
    next.run(request).await
}

async fn identify(pages: &Pages, headers: &HeaderMap) -> Result<Sees, Box<Response>> {
    let caller = pages.authenticator.authenticate(headers, None).await.map_err(|refusal| {
        let code = match door::status(refusal).code() {
            tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        Box::new((code, "a token for istiod's audience is needed, or a connection from the pod itself").into_response())
    })?;
    Ok(match caller.identity.namespace == pages.system_namespace {
        true => Sees::Everything,
        false => Sees::Namespace(caller.identity.namespace),
    })
}

impl Sees {
    fn namespace(&self, namespace: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Namespace(own) => **own == *namespace,
        }
    }
}

async fn list() -> Response {
    let pages = [
        ("/debug/syncz", "connected proxies and what they have accepted"),
        ("/debug/config_dump?proxyID=POD.NAMESPACE", "what one of them is sent"),
        ("/debug/mesh", "the MeshConfig in force"),
        ("/debug/problems", "everything that is wrong with the objects in force"),
    ];
    let lines: Vec<String> = pages.iter().map(|(path, what)| format!("{path}  {what}\n")).collect();
    lines.concat().into_response()
}

async fn syncz(State(pages): State<Pages>, sees: axum::Extension<Sees>) -> Response {
    let Some(rows) = ask(&pages, Query::Proxies).await else { return gone() };
    let rows: Vec<ProxyRow> = rows.into_iter().filter(|it| sees.namespace(&it.namespace)).collect();
    axum::Json(rows).into_response()
}

async fn config_dump(
    State(pages): State<Pages>,
    sees: axum::Extension<Sees>,
    Parameters(parameters): Parameters<BTreeMap<String, String>>,
) -> Response {
    let Some(proxy) = parameters.get("proxyID").cloned() else {
        return (StatusCode::BAD_REQUEST, "say which: ?proxyID=POD.NAMESPACE").into_response();
    };
    let Some(found) = ask(&pages, |answer| Query::Resources { proxy, answer }).await else { return gone() };
    match found.filter(|(namespace, _)| sees.namespace(namespace)) {
        Some(found) => axum::Json(dump(found)).into_response(),
        None => (StatusCode::NOT_FOUND, "no such proxy is connected to this replica").into_response(),
    }
}

fn dump((_, kinds): Dump) -> Value {
    let one = |kind: xds::TypeUrl, it: &xds::Resource| {
        let body =
            xds::json::to_json(kind.url(), &it.bytes()).unwrap_or_else(|why| json!({ "error": why.to_string() }));
        json!({ "name": *it.name, "version": it.version.to_string(), "resource": body })
    };
    // Keys never leave by this door, whatever the types may hold.
    let shown = kinds.iter().filter(|(kind, all)| *kind != xds::TypeUrl::Secret && !all.is_empty());
    let list = |(kind, all): &(xds::TypeUrl, Vec<Arc<xds::Resource>>)| {
        (kind.short().to_owned(), Value::Array(all.iter().map(|it| one(*kind, it)).collect()))
    };
    Value::Object(shown.map(list).collect())
}

async fn mesh(State(pages): State<Pages>, sees: axum::Extension<Sees>) -> Response {
    match sees.0 {
        Sees::Everything => format!("{:#?}\n", **pages.mesh.borrow()).into_response(),
        Sees::Namespace(_) => StatusCode::FORBIDDEN.into_response(),
    }
}

async fn problems(State(pages): State<Pages>, sees: axum::Extension<Sees>) -> Response {
    match sees.0 {
        Sees::Everything => match ask(&pages, Query::Problems).await {
            Some(problems) => axum::Json(problems).into_response(),
            None => gone(),
        },
        Sees::Namespace(_) => StatusCode::FORBIDDEN.into_response(),
    }
}

/// `None`: the loop has ended.
async fn ask<T>(pages: &Pages, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    pages.events.send(Event::Ask(query(sender))).await.ok()?;
    answer.await.ok()
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "ending").into_response()
}
