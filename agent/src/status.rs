//! The HTTP server kubelet, Prometheus and the user talk to in a pod (port 15020): readiness, merged metrics, rewritten
//! application probes, drain and quit. Knows Envoy by its admin port only.

pub mod client;
pub mod metrics;
pub mod options;
pub mod probe;
pub mod ready;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

pub use options::{Options, OptionsError, Role};
use ready::Verdict;

/// What a caller on localhost ordered. Whoever runs Envoy receives these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `POST /drain`: stop taking new connections, go on living; SIGTERM afterwards need not drain again.
    Drain,
    /// `POST /quitquitquit`: end at once, without a drain.
    Quit,
}

/// How many orders may wait for the runner; one more is answered as if it were taken, since it can only repeat them.
pub const ORDERS_MAX: usize = 4;
/// Pages of metrics under way at once: each may be megabytes.
const PAGES_MAX: usize = 4;
/// Probes under way at once.
const PROBES_MAX: usize = 64;

/// Where the pod stands. Anything but `Serving` makes `/healthz/ready` answer 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In service: ready as soon as Envoy says so.
    Serving,
    /// Being drained by `/drain` or SIGTERM.
    Draining,
    /// About to end.
    Terminating,
}

/// What the server shares with the rest of the agent.
#[derive(Clone)]
pub struct State {
    /// The pod's phase, owned by whoever runs Envoy.
    pub phase: watch::Receiver<Phase>,
    /// Orders of local callers.
    pub orders: mpsc::Sender<Order>,
    /// The agent's own metrics in Prometheus' text format, names complete (`istio_agent_…`).
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The DNS name table, when there is a DNS proxy: the pod is not ready before it has come.
    pub names: Option<watch::Receiver<Arc<crate::dns::Table>>>,
}

/// Serves until the listener fails. `listener` is bound by the caller (`[::]:15020`, or 0.0.0.0 where there is no IPv6).
///
/// # Errors
/// When the listener can no longer accept.
pub async fn serve(listener: TcpListener, options: Options, state: State) -> io::Result<()> {
    let server = Arc::new(Server {
        options,
        state,
        was_ready: AtomicBool::new(false),
        counts: metrics::Counts::default(),
        pages: Semaphore::new(PAGES_MAX),
        probes: Semaphore::new(PROBES_MAX),
    });
    let router = Router::new()
        .route("/healthz/ready", get(ready))
        .route("/metrics", get(stats))
        .route("/stats/prometheus", get(stats))
        .route("/quitquitquit", post(quit))
        .route("/drain", post(drain))
        .route("/app-health/{*rest}", get(app_probe))
        .route("/app-lifecycle/{*rest}", get(app_probe))
        .route("/debug/ndsz", get(names))
        .with_state(server);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
}

struct Server {
    options: Options,
    state: State,
    was_ready: AtomicBool,
    counts: metrics::Counts,
    pages: Semaphore,
    probes: Semaphore,
}

/// A dual-stack listener shows IPv4 callers as `::ffff:…`.
fn is_local(caller: SocketAddr) -> bool {
    caller.ip().to_canonical().is_loopback()
}

/// localhost of the other family.
fn other_loopback(localhost: IpAddr) -> IpAddr {
    match localhost {
        IpAddr::V4(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "Only requests from localhost are allowed\n").into_response()
}

async fn ready(Shared(server): Shared<Arc<Server>>) -> Response {
    match server.readiness().await {
        Verdict::Ready => StatusCode::OK.into_response(),
        Verdict::NotYet(reason) => {
            tracing::warn!(reason, "Envoy proxy is NOT ready");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
        }
    }
}

impl Server {
    async fn readiness(&self) -> Verdict {
        match *self.state.phase.borrow() {
            Phase::Serving => {}
            Phase::Draining => return Verdict::NotYet("the proxy is draining".to_owned()),
            Phase::Terminating => return Verdict::NotYet("the proxy is terminating".to_owned()),
        }
        if self.state.names.as_ref().is_some_and(|names| !names.borrow().is_received()) {
            return Verdict::NotYet("DNS capture is on and the name table has not come yet".to_owned());
        }
        // Once ready, always ready until the drain: Envoy going on with its last configuration is no reason to take the
        // pod out of service.
        let Some(admin) = self.options.envoy_admin.filter(|_| !self.was_ready.load(Ordering::Relaxed)) else {
            return Verdict::Ready;
        };
        let verdict = ready::ask(admin).await;
        if verdict == Verdict::Ready && !self.was_ready.swap(true, Ordering::Relaxed) {
            tracing::info!("Envoy proxy is ready");
        }
        verdict
    }
}

async fn stats(Shared(server): Shared<Arc<Server>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let Ok(_permit) = server.pages.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at once\n").into_response();
    };
    let own = (server.state.metrics)();
    let page = metrics::page(&server.options, &server.counts, &own, query.as_deref(), &headers).await;
    ([(header::CONTENT_TYPE, page.content_type)], page.body).into_response()
}

async fn quit(Shared(server): Shared<Arc<Server>>, ConnectInfo(caller): ConnectInfo<SocketAddr>) -> Response {
    server.order(caller, Order::Quit)
}

async fn drain(Shared(server): Shared<Arc<Server>>, ConnectInfo(caller): ConnectInfo<SocketAddr>) -> Response {
    server.order(caller, Order::Drain)
}

impl Server {
    fn order(&self, caller: SocketAddr, order: Order) -> Response {
        if !is_local(caller) {
            return forbidden();
        }
        tracing::info!(?order, "ordered over HTTP");
        match self.state.orders.try_send(order) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => "OK".into_response(),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the agent is ending\n").into_response()
            }
        }
    }
}

async fn app_probe(Shared(server): Shared<Arc<Server>>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let Some(probe) = server.options.probes.get(path) else {
        return (StatusCode::BAD_REQUEST, format!("app prober config does not exists for {path}")).into_response();
    };
    let Ok(_permit) = server.probes.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many probes at once\n").into_response();
    };
    let result = probe::ask(probe, server.options.application, &headers, server.options.status_port).await;
    (result.status, result.body).into_response()
}

async fn names(Shared(server): Shared<Arc<Server>>, ConnectInfo(caller): ConnectInfo<SocketAddr>) -> Response {
    if !is_local(caller) {
        return forbidden();
    }
    let table = server.state.names.as_ref().map(|names| Arc::clone(&names.borrow()));
    let Some(names) = table.as_ref().and_then(|table| table.names()) else {
        return (StatusCode::NOT_FOUND, "{}").into_response();
    };
    let table: serde_json::Map<String, serde_json::Value> = names
        .table
        .iter()
        .map(|(host, info)| {
            let info = serde_json::json!({
                "ips": info.ips,
                "registry": info.registry,
                "shortname": info.shortname,
                "namespace": info.namespace,
            });
            (host.clone(), info)
        })
        .collect();
    axum::Json(serde_json::json!({ "table": table })).into_response()
}
