//! The router, asked in process as the API server asks it.

#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;
use tower::ServiceExt as _;
use webhook::inject::{Config, Options, Texts};
use webhook::serve::{self, State, metrics::Metrics};

fn router() -> (Router, Arc<Metrics>) {
    let config = Config::new(Texts::default(), Options::default()).unwrap();
    let metrics = Arc::new(Metrics::default());
    let (_, config) = watch::channel(Arc::new(config));
    (serve::router(State::new(config, metrics.clone())), metrics)
}

async fn post(router: &Router, path: &str, kind: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let request = Request::post(path).header("content-type", kind).body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

async fn review(router: &Router, path: &str, version: &str, request: Value) -> Value {
    let mut request = request;
    request["uid"] = "u-1".into();
    let review =
        json!({"apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview", "request": request});
    let (status, body) = post(router, path, "application/json", review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["apiVersion"], review["apiVersion"]);
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "u-1");
    answer["response"].clone()
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-", "labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
}

fn creation(pod: &Value) -> Value {
    json!({"operation": "CREATE", "namespace": "shop", "object": pod})
}

fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[tokio::test]
async fn a_pod_comes_back_with_a_patch_in_both_versions() {
    let (router, metrics) = router();
    for version in ["v1", "v1beta1"] {
        let response = review(&router, "/inject", version, creation(&pod())).await;
        let out = patched(&pod(), &response);
        assert_eq!(out["spec"]["containers"][1]["name"], "istio-proxy");
        let again = review(&router, "/inject", version, creation(&out)).await;
        assert_eq!(patched(&out, &again), out, "S52: the second time changes nothing");
    }
    let text = metrics.render();
    assert!(text.contains("sidecar_injection_requests_total 4\n"), "{text}");
    assert!(text.contains("sidecar_injection_success_total 4\n"), "{text}");
    assert!(text.contains("sidecar_injection_time_seconds_count 4\n"), "{text}");
}

#[tokio::test]
async fn the_url_names_cluster_and_network() {
    let (router, _) = router();
    for path in ["/inject/cluster/east/net/n1", "/inject/net/n1/cluster/east/", "/inject/:ENV:cluster=east:ENV:net=n1"]
    {
        let out = patched(&pod(), &review(&router, path, "v1", creation(&pod())).await);
        let env = out["spec"]["containers"][1]["env"].as_array().unwrap();
        let value = |name: &str| env.iter().find(|it| it["name"] == name).unwrap()["value"].clone();
        assert_eq!(
            (value("ISTIO_META_CLUSTER_ID"), value("ISTIO_META_NETWORK")),
            ("east".into(), "n1".into()),
            "{path}"
        );
        assert_eq!(out["metadata"]["labels"]["topology.istio.io/network"], "n1");
    }
}

#[tokio::test]
async fn skipped_pods_are_allowed_without_a_patch_and_bad_ones_refused_with_a_reason() {
    let (router, metrics) = router();
    let mut own = creation(&pod());
    own["namespace"] = "kube-system".into();
    let response = review(&router, "/inject", "v1", own).await;
    assert_eq!((&response["allowed"], &response["patch"]), (&Value::Bool(true), &Value::Null));
    let mut bad = pod();
    bad["metadata"]["annotations"] = json!({"status.sidecar.istio.io/port": "http"});
    let response = review(&router, "/inject", "v1", creation(&bad)).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("annotation status.sidecar.istio.io/port: \"http\" is not a port"), "{message}");
    let text = metrics.render();
    assert!(text.contains("sidecar_injection_skip_total 1\n"), "{text}");
    assert!(text.contains("sidecar_injection_failure_total 1\n"), "{text}");
}

fn virtual_service(weight: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v", "namespace": "shop"},
           "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}, "weight": weight}]}]}})
}

fn change(operation: &str, object: Value) -> Value {
    json!({"operation": operation, "namespace": "shop", "object": object,
           "resource": {"group": "networking.istio.io", "version": "v1", "resource": "virtualservices"}})
}

#[tokio::test]
async fn wrong_configuration_is_refused_with_istio_s_words() {
    let (router, metrics) = router();
    let response = review(&router, "/validate", "v1", change("CREATE", virtual_service(json!(100)))).await;
    assert_eq!(response["allowed"], true, "{response}");
    let response = review(&router, "/validate", "v1", change("UPDATE", virtual_service(json!(-1)))).await;
    assert_eq!(response["allowed"], false, "{response}");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("configuration is invalid: "), "{message}");
    let mut unknown = virtual_service(json!(1));
    unknown["spec"]["https"] = json!([]);
    let response = review(&router, "/validate", "v1", change("CREATE", unknown)).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(response["warnings"], json!(["spec.https: unknown field, ignored"]));
    let text = metrics.render();
    let labels = r#"{group="networking.istio.io",version="v1",resource="virtualservices""#;
    assert!(text.contains(&format!("galley_validation_passed{labels}}} 2\n")), "{text}");
    assert!(text.contains(&format!("galley_validation_failed{labels},reason=\"invalid_resource\"}} 1\n")), "{text}");
}

#[tokio::test]
async fn s53_the_validator_never_blocks_deletion_nor_what_it_does_not_know() {
    let (router, _) = router();
    let allowed = async |request| review(&router, "/validate", "v1", request).await["allowed"] == true;
    assert!(allowed(json!({"operation": "DELETE", "object": null, "oldObject": virtual_service(json!(-1))})).await);
    assert!(allowed(change("DELETE", virtual_service(json!(-1)))).await);
    assert!(allowed(change("CONNECT", virtual_service(json!(-1)))).await);
    let mut newer = virtual_service(json!(-1));
    newer["apiVersion"] = "networking.istio.io/v9".into();
    assert!(allowed(change("CREATE", newer)).await);
    let mut kind = virtual_service(json!(-1));
    kind["kind"] = "NextYear".into();
    assert!(allowed(change("CREATE", kind)).await);
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "a"}, "spec": {}});
    assert!(allowed(change("CREATE", policy)).await);
}

#[tokio::test]
async fn f37_the_object_that_is_always_wrong_is_refused() {
    let (router, _) = router();
    let wrong = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "spec": {}, "metadata": {"name": "x",
        "namespace": "istio-system", "annotations": {"internal.istio.io/webhook-always-reject": "true"}}});
    assert_eq!(review(&router, "/validate", "v1", change("CREATE", wrong)).await["allowed"], false);
}

#[tokio::test]
async fn s49_f39_what_is_too_much_or_no_review_is_turned_away() {
    let (router, metrics) = router();
    let json = "application/json";
    for path in ["/inject", "/validate"] {
        let huge = vec![b' '; (3 << 20) + 1];
        assert_eq!(post(&router, path, json, huge.clone()).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        let chunks = futures::stream::iter(
            huge.chunks(1 << 16).map(|it| Ok::<_, std::io::Error>(it.to_vec())).collect::<Vec<_>>(),
        );
        assert_eq!(post(&router, path, json, Body::from_stream(chunks)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(post(&router, path, "text/plain", "{}").await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let deep = format!("{{\"request\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        for body in ["", "{}", "[]", "\u{0}\u{1}", "{\"kind\":1}", "{\"a\":1,\"a\":1}", deep.as_str()] {
            let (status, answer) = post(&router, path, json, body.to_owned()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body:.40}: {}", String::from_utf8_lossy(&answer));
        }
        let get = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(router.clone().oneshot(get).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    assert!(metrics.render().contains("galley_validation_http_error{status=\"413\"} 2\n"), "{}", metrics.render());
    let ready = router.clone().oneshot(Request::get("/ready").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn s49_a_body_that_trickles_gives_up_its_place() {
    let (router, _) = router();
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    assert_eq!(post(&router, "/inject", "application/json", never).await.0, StatusCode::REQUEST_TIMEOUT);
    let response = review(&router, "/inject", "v1", creation(&pod())).await;
    assert_eq!(response["allowed"], true);
}
