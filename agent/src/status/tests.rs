//! The server over loopback, with an Envoy and an application made for the test.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::options::Scrape;
use super::probe::{Action, Probe, Scheme};
use super::*;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(10);
const ENVOY_READY: &str = "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 1\nlistener_manager.workers_started: 1\nserver.state: 0\n";

async fn start(router: Router) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A port nobody listens on: bound and given back.
async fn nobody() -> SocketAddr {
    TcpListener::bind((LOCALHOST, 0)).await.expect("a port").local_addr().expect("bound")
}

struct Pod {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    orders: mpsc::Receiver<Order>,
    names: watch::Sender<Arc<crate::dns::Table>>,
}

async fn pod(change: impl FnOnce(&mut Options)) -> Pod {
    let mut options = Options::from_environment(Role::Sidecar, 15020, 15000, &|_| None).expect("defaults");
    options.envoy_admin = None;
    change(&mut options);
    let (phase, phase_receiver) = watch::channel(Phase::Serving);
    let (orders_sender, orders) = mpsc::channel(ORDERS_MAX);
    let (names, names_receiver) = watch::channel(Arc::new(crate::dns::Table::default()));
    names.send_replace(Arc::new(crate::dns::Table::new(Default::default(), &Default::default())));
    let state = State {
        phase: phase_receiver,
        orders: orders_sender,
        metrics: Arc::new(|| "istio_agent_test 1\n".to_owned()),
        names: Some(names_receiver),
    };
    let listener = TcpListener::bind((LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve(listener, options, state));
    Pod { address, phase, orders, names }
}

async fn ask(method: &str, address: SocketAddr, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(http_body_util::Empty::new())
        .expect("a request");
    let way = client::Way { address, source: None, tls: None };
    let answer = client::send(request, way, LIMIT, 1 << 20).await.expect("an answer");
    (answer.status, answer.headers, String::from_utf8_lossy(&answer.body).into_owned())
}

fn text(body: &'static str) -> impl Fn() -> std::future::Ready<&'static str> + Clone + Send + Sync + 'static {
    move || std::future::ready(body)
}

#[tokio::test]
async fn ready_is_asked_of_envoy_once_and_ends_with_the_drain() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let stats = move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(if number == 0 { "" } else { ENVOY_READY })
    };
    let admin = start(Router::new().route("/stats", get(stats))).await;
    let pod = pod(|options| options.envoy_admin = Some(admin)).await;
    let (status, _, reason) = ask("GET", pod.address, "/healthz/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reason.contains("config not received"), "{reason}");
    for _ in 0..3 {
        assert_eq!(ask("GET", pod.address, "/healthz/ready").await.0, StatusCode::OK);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    for phase in [Phase::Draining, Phase::Terminating] {
        pod.phase.send_replace(phase);
        assert_eq!(ask("GET", pod.address, "/healthz/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn f24_a_pod_without_its_name_table_is_not_ready() {
    let pod = pod(|_| {}).await;
    assert_eq!(ask("GET", pod.address, "/healthz/ready").await.0, StatusCode::OK);
    pod.names.send_replace(Arc::default());
    assert_eq!(ask("GET", pod.address, "/healthz/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn metrics_of_agent_envoy_and_application_are_one_page() {
    let envoy =
        start(Router::new().route(
            "/stats/prometheus",
            get(|RawQuery(query): RawQuery| async move {
                format!("envoy_istio_requests_total 7\nquery{{q={query:?}}} 1\n")
            }),
        ))
        .await;
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let page = move || async move { ([(header::CONTENT_TYPE, open)], "app_total 3\n# EOF\n") };
    let application = start(Router::new().route("/m", get(page)).route("/n", get(page))).await;
    let pod = pod(|options| {
        options.envoy_admin = Some(envoy);
        options.envoy_metrics = envoy;
        options.scrapes = ["/m", "/n"].map(|path| Scrape { port: application.port(), path: path.to_owned() }).to_vec();
    })
    .await;
    let (status, headers, body) = ask("GET", pod.address, "/stats/prometheus?usedonly").await;
    assert_eq!((status, headers[header::CONTENT_TYPE].to_str().ok()), (StatusCode::OK, Some(open)));
    let end =
        "istio_agent_test 1\nistio_requests_total 7\nquery{q=Some(\"usedonly\")} 1\napp_total 3\napp_total 3\n# EOF\n";
    assert!(body.ends_with(end), "{body}");
    assert!(body.contains("istio_agent_scrapes_total 1"), "{body}");
}

#[tokio::test]
async fn what_cannot_be_scraped_is_counted_and_the_rest_is_served() {
    let nobody = nobody().await;
    let broken = start(Router::new().route("/m", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "no") }))).await;
    let pod = pod(|options| {
        options.envoy_admin = Some(nobody);
        options.envoy_metrics = nobody;
        options.scrapes = vec![Scrape { port: broken.port(), path: "/m".to_owned() }];
    })
    .await;
    ask("GET", pod.address, "/metrics").await;
    let (status, headers, body) = ask("GET", pod.address, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], metrics::TEXT);
    assert!(body.contains("istio_agent_test 1"), "{body}");
    for kind in ["envoy", "application"] {
        // The page is put together after the scrapes of its own request.
        assert!(body.contains(&format!("scrape_failures_total{{type=\"{kind}\"}} 2")), "{body}");
    }
}

#[tokio::test]
async fn s40_drain_and_quit_are_orders_of_post_alone() {
    let mut pod = pod(|_| {}).await;
    for path in ["/drain", "/quitquitquit"] {
        assert_eq!(ask("GET", pod.address, path).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert!(pod.orders.try_recv().is_err());
    assert_eq!(ask("POST", pod.address, "/drain").await.0, StatusCode::OK);
    assert_eq!(pod.orders.try_recv(), Ok(Order::Drain));
    assert_eq!(ask("POST", pod.address, "/quitquitquit").await.0, StatusCode::OK);
    assert_eq!(pod.orders.try_recv(), Ok(Order::Quit));
}

#[test]
fn s40_only_loopback_is_local() {
    for (caller, local) in [
        ("127.0.0.1:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("10.0.0.1:1", false),
        ("[::ffff:10.0.0.1]:1", false),
    ] {
        assert_eq!(is_local(caller.parse().expect("an address")), local, "{caller}");
    }
}

async fn probed(action: Action) -> (StatusCode, String) {
    let path = "/app-health/web/livez";
    let pod = pod(|options| {
        options.application = LOCALHOST;
        options.probes.insert(path.to_owned(), Probe { action, timeout: LIMIT });
    })
    .await;
    let (status, _, body) = ask("GET", pod.address, path).await;
    (status, body)
}

#[tokio::test]
async fn an_http_probe_is_handed_to_the_application() {
    let application = start(
        Router::new()
            .route("/ok", get(text("fine")))
            .route("/bad", get(|| async { (StatusCode::IM_A_TEAPOT, "tea") }))
            .route("/away", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "http://elsewhere/")]) }))
            .route("/here", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/bad")]) }))
            .route("/round", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/round")]) })),
    )
    .await;
    for (path, expected) in [
        ("/ok", (StatusCode::OK, "fine")),
        ("/bad", (StatusCode::IM_A_TEAPOT, "tea")),
        ("/away", (StatusCode::OK, "")),
        ("/here", (StatusCode::IM_A_TEAPOT, "tea")),
        ("/round", (StatusCode::INTERNAL_SERVER_ERROR, "")),
    ] {
        let action = Action::Http { port: application.port(), path: path.to_owned(), scheme: Scheme::Http };
        let (status, body) = probed(action).await;
        assert_eq!((status, body.as_str()), expected, "{path}");
    }
    // TLS against a server without it fails; it must not hang or pass.
    let action = Action::Http { port: application.port(), path: "/ok".to_owned(), scheme: Scheme::Https };
    assert_eq!(probed(action).await.0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_tcp_probe_is_a_connection() {
    let application = start(Router::new()).await;
    assert_eq!(probed(Action::Tcp { port: application.port() }).await.0, StatusCode::OK);
    let port = nobody().await.port();
    assert_eq!(probed(Action::Tcp { port }).await.0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_grpc_probe_asks_for_health() {
    let health = |status: u8| {
        // grpc.health.v1.HealthCheckResponse{status} in a gRPC frame.
        let body = vec![0, 0, 0, 0, 2, 8, status];
        let answer = move || async move {
            let headers = [(header::CONTENT_TYPE.as_str(), "application/grpc"), ("grpc-status", "0")];
            (headers, body)
        };
        Router::new().route("/grpc.health.v1.Health/Check", post(answer))
    };
    for (status, expected) in [(1, StatusCode::OK), (2, StatusCode::INTERNAL_SERVER_ERROR)] {
        let port = start(health(status)).await.port();
        assert_eq!(probed(Action::Grpc { port, service: String::new() }).await.0, expected, "{status}");
    }
}

#[tokio::test]
async fn s40_a_probe_that_is_not_listed_reaches_nobody() {
    let pod = pod(|_| {}).await;
    for path in ["/app-health/web/livez", "/app-health/../metrics", "/app-lifecycle/web/prestopz"] {
        assert_eq!(ask("GET", pod.address, path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn ndsz_shows_the_names() {
    let pod = pod(|_| {}).await;
    let mut names = crate::dns::wire::NameTable::default();
    let info = crate::dns::wire::NameInfo { ips: vec!["10.0.0.1".to_owned()], ..Default::default() };
    names.table.insert("a.example".to_owned(), info);
    pod.names.send_replace(Arc::new(crate::dns::Table::new(names, &Default::default())));
    let (status, _, body) = ask("GET", pod.address, "/debug/ndsz").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""a.example":{"ips":["10.0.0.1"]"#), "{body}");
    pod.names.send_replace(Arc::default());
    assert_eq!(ask("GET", pod.address, "/debug/ndsz").await.0, StatusCode::NOT_FOUND);
}
