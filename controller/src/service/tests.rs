//! The built-in services, each over a real socket on a free port; peers are reached through a stand-in proxy.

use super::*;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A port nobody uses now. Another process may take it before we do; tests bind at once.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn identity(pod: &str, image: &str, proxy: SocketAddr) -> Identity {
    Identity {
        pod: pod.into(),
        namespace: "default".into(),
        labels: BTreeMap::from([("version".into(), "v1".into())]),
        image: image.into(),
        environment: BTreeMap::new(),
        proxy: Some(proxy),
    }
}

async fn start(pod: &str, image: &str, proxy: SocketAddr) -> (Service, String, SocketAddr) {
    let address = free().await;
    let service = Service::start(identity(pod, image, proxy), &[(address, Speaks::Http)]).await.unwrap();
    (service, format!("http://{address}"), address)
}

fn bookinfo(role: &str) -> String {
    format!("docker.io/istio/examples-bookinfo-{role}:1.20.3")
}

async fn get(url: &str) -> (StatusCode, String) {
    let response = Client::direct().get(url, &HeaderMap::new()).await.unwrap();
    (response.status(), response.into_body())
}

#[test]
fn roles_follow_image_names() {
    for (image, role) in [
        ("docker.io/istio/examples-bookinfo-productpage-v1:1.20.3", Role::ProductPage),
        ("examples-bookinfo-details-v1", Role::Details),
        ("x:5000/istio/examples-bookinfo-reviews-v1:1", Role::Reviews { stars: None }),
        ("istio/examples-bookinfo-reviews-v2@sha256:abc", Role::Reviews { stars: Some("black") }),
        ("istio/examples-bookinfo-reviews-v3", Role::Reviews { stars: Some("red") }),
        ("istio/examples-bookinfo-ratings-v1", Role::Ratings),
        ("docker.io/kennethreitz/httpbin", Role::Echo),
        ("ratings", Role::Echo),
        ("", Role::Echo),
    ] {
        assert_eq!(Role::of_image(image), role, "{image}");
    }
}

#[tokio::test]
async fn an_echo_says_what_it_got_and_who_it_is() {
    let (_service, url, _) = start("web-0", "nginx", free().await).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-test", "a".parse().unwrap());
    headers.append("x-test", "b".parse().unwrap());
    let response = Client::direct().get(&format!("{url}/a/b?c=d"), &headers).await.unwrap();
    let body: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!((body["pod"].as_str(), body["version"].as_str()), (Some("web-0"), Some("v1")));
    assert_eq!((body["path"].as_str(), body["query"].as_str()), (Some("/a/b"), Some("c=d")));
    assert_eq!(body["headers"]["x-test"], "a, b");
}

#[tokio::test]
async fn a_tcp_echo_sends_back_every_byte() {
    let address = free().await;
    let _service = Service::start(identity("db-0", "mysql", address), &[(address, Speaks::Tcp)]).await.unwrap();
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.write_all(b"hello").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut back = Vec::new();
    tcp.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"hello");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let why = Service::start(identity("a", "", address), &[(address, Speaks::Http)]).await.unwrap_err();
    assert!(why.to_string().contains(&address.to_string()), "{why}");
}

#[tokio::test]
async fn reviews_v2_asks_ratings_through_the_proxy_and_v1_does_not() {
    // The ratings service itself stands in for the sidecar: it is sent the absolute form for host `ratings`.
    let (_ratings, _, sidecar) = start("ratings-v1-0", &bookinfo("ratings-v1"), free().await).await;
    let (_v2, v2, _) = start("reviews-v2-0", &bookinfo("reviews-v2"), sidecar).await;
    let (_v1, v1, _) = start("reviews-v1-0", &bookinfo("reviews-v1"), sidecar).await;
    let colored: Value = serde_json::from_str(&get(&format!("{v2}/reviews/0")).await.1).unwrap();
    assert_eq!(colored["reviews"][0]["rating"], serde_json::json!({ "stars": 5, "color": "black" }));
    assert_eq!(colored["podname"], "reviews-v2-0");
    let plain: Value = serde_json::from_str(&get(&format!("{v1}/reviews/0")).await.1).unwrap();
    assert_eq!(plain["reviews"][0]["rating"], Value::Null);
    assert_eq!(get(&format!("{v1}/reviews/x")).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn reviews_without_ratings_say_so_and_still_answer() {
    let (_v3, url, _) = start("reviews-v3-0", &bookinfo("reviews-v3"), free().await).await;
    let (status, body) = get(&format!("{url}/reviews/0")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("Ratings service is currently unavailable"), "{body}");
}

#[tokio::test]
async fn the_product_page_shows_which_reviews_answered_and_relays_failures_of_its_api() {
    let (_reviews, _, sidecar) = start("reviews-v1-0", &bookinfo("reviews-v1"), free().await).await;
    let (_page, url, _) = start("productpage-v1-0", &bookinfo("productpage-v1"), sidecar).await;
    let (status, html) = get(&format!("{url}/productpage")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(html.contains("data-reviews=\"reviews-v1-0\""), "{html}");
    // The stand-in proxy is the reviews service, which knows no /details.
    assert!(html.contains("Sorry, product details are currently unavailable"), "{html}");
    assert_eq!(get(&format!("{url}/api/v1/products/0")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&format!("{url}/api/v1/products/0/reviews")).await.0, StatusCode::OK);
    assert!(get(&format!("{url}/api/v1/products")).await.1.contains("Comedy"));
}

#[tokio::test]
async fn who_signs_in_is_the_end_user_of_calls_to_peers() {
    let (_echo, _, sidecar) = start("echo", "echo", free().await).await;
    let (_page, url, _) = start("productpage-v1-0", &bookinfo("productpage-v1"), sidecar).await;
    let login = Client::direct().get(&format!("{url}/login?username=jason"), &HeaderMap::new()).await.unwrap();
    assert_eq!(login.status(), StatusCode::FOUND);
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    headers.insert("cookie", cookie.parse().unwrap());
    headers.insert("x-request-id", "7".parse().unwrap());
    headers.insert("x-secret", "no".parse().unwrap());
    let seen = Client::direct().get(&format!("{url}/api/v1/products/0"), &headers).await.unwrap().into_body();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["headers"]["end-user"], "jason");
    assert_eq!(seen["headers"]["x-request-id"], "7");
    assert_eq!(seen["headers"]["x-secret"], Value::Null);
    assert_eq!(get(&format!("{url}/login?username=%0d%0aevil")).await.0, StatusCode::BAD_REQUEST);
}
