//! AdmissionReview in and out, the limits around it, and one request's panic kept to itself (F37).

use super::State;
use super::limit;
use super::metrics::Resource;
use super::validate;
use crate::{inject, patch};
use axum::body::{Body, Bytes};
use axum::extract::{self, Path};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// A review that cannot even be answered as one.
struct Failure(StatusCode, String);

/// The parts of a request that are read.
struct Review {
    api_version: String,
    uid: Value,
    request: Value,
}

impl Review {
    fn text(&self, pointer: &str) -> &str {
        self.request.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn resource(&self) -> Resource<'_> {
        Resource {
            group: self.text("/resource/group"),
            version: self.text("/resource/version"),
            resource: self.text("/resource/resource"),
        }
    }
}

/// `POST /inject` and `POST /inject/cluster/C/net/N`.
pub(super) async fn inject(
    extract::State(state): extract::State<State>,
    pairs: Option<Path<String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let metrics = &state.metrics;
    metrics.add(&metrics.injection_requests);
    let start = Instant::now();
    let environment = environment(pairs.as_deref().map_or("", String::as_str));
    let answer = answered(&state, &headers, body, |review| {
        let config = state.injection.borrow().clone();
        injected(review, &config, environment)
    });
    let response = match answer.await {
        Ok((answer, counter)) => {
            match counter {
                Counter::Injected => {}
                Counter::Skipped => metrics.add(&metrics.injection_skip),
                Counter::Refused => metrics.add(&metrics.injection_failure),
            }
            metrics.add(&metrics.injection_success);
            axum::Json(answer).into_response()
        }
        Err(Failure(status, why)) => {
            metrics.add(&metrics.injection_failure);
            tracing::warn!(status = status.as_u16(), why, "a review for injection was not answered");
            (status, why).into_response()
        }
    };
    metrics.injection_took(start.elapsed());
    response
}

/// As istiod: a refusal is a failure of injection and a success of the webhook.
enum Counter {
    Injected,
    Skipped,
    Refused,
}

fn injected(
    review: &Review,
    config: &inject::Config,
    environment: BTreeMap<String, String>,
) -> Result<(Value, Counter), Failure> {
    let pod = review.request.get("object").unwrap_or(&Value::Null);
    let namespace = review.text("/namespace").to_owned();
    let request = inject::Request { namespace, environment, workload: None };
    let outcome = match review.text("/operation") {
        // The webhook is registered for CREATE alone; anything else is somebody's mistake and no reason to refuse.
        "" | "CREATE" => inject::inject(pod, &request, config),
        _ => return Ok((allowed(review), Counter::Skipped)),
    };
    let name = ["/metadata/name", "/metadata/generateName"].iter().find_map(|it| pod.pointer(it)?.as_str());
    let (namespace, name) = (request.namespace.as_str(), name.unwrap_or_default());
    match outcome {
        Ok(inject::Outcome::Skipped(why)) => {
            tracing::info!(namespace, name, %why, "pod left alone");
            Ok((allowed(review), Counter::Skipped))
        }
        Ok(inject::Outcome::Injected(changed)) => {
            let patch = patch::diff(pod, &changed).and_then(|it| serde_json::to_vec(&it).map_err(|e| e.to_string()));
            let patch = patch.map_err(|why| Failure(StatusCode::INTERNAL_SERVER_ERROR, why))?;
            tracing::info!(namespace, name, bytes = patch.len(), "pod injected");
            let mut answer = allowed(review);
            answer["response"]["patchType"] = "JSONPatch".into();
            answer["response"]["patch"] = STANDARD.encode(patch).into();
            Ok((answer, Counter::Injected))
        }
        Err(refusal) => {
            tracing::warn!(namespace, name, %refusal, "pod refused");
            Ok((refused(review, &format!("injection of the proxy: {refusal}")), Counter::Refused))
        }
    }
}

/// `POST /validate`.
pub(super) async fn validate(extract::State(state): extract::State<State>, headers: HeaderMap, body: Body) -> Response {
    match answered(&state, &headers, body, |review| Ok(validated(review, &state))).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(Failure(status, why)) => {
            state.metrics.http_error(status.as_u16());
            tracing::warn!(status = status.as_u16(), why, "a review for validation was not answered");
            (status, why).into_response()
        }
    }
}

fn validated(review: &Review, state: &State) -> Value {
    let object = review.request.get("object").filter(|it| it.is_object());
    // Nothing but what is to be stored is looked at: DELETE is never in the way (S53).
    let Some(object) = object.filter(|_| matches!(review.text("/operation"), "CREATE" | "UPDATE")) else {
        return allowed(review);
    };
    let verdict = validate::verdict(object.clone());
    let resource = review.resource();
    let mut answer = match verdict.errors.is_empty() {
        true => {
            state.metrics.passed(&resource);
            allowed(review)
        }
        false => {
            state.metrics.failed(&resource, "invalid_resource");
            refused(review, &verdict.message())
        }
    };
    if !verdict.warnings.is_empty() {
        answer["response"]["warnings"] = verdict.warnings.into();
    }
    answer
}

fn allowed(review: &Review) -> Value {
    json!({
        "apiVersion": review.api_version,
        "kind": "AdmissionReview",
        "response": { "uid": review.uid, "allowed": true },
    })
}

fn refused(review: &Review, why: &str) -> Value {
    let mut answer = allowed(review);
    answer["response"]["allowed"] = false.into();
    answer["response"]["status"] = json!({ "code": 400, "reason": "BadRequest", "message": why });
    answer
}

/// Everything around the work itself.
async fn answered<T>(
    state: &State,
    headers: &HeaderMap,
    body: Body,
    work: impl FnOnce(&Review) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|it| !it.trim().eq_ignore_ascii_case("application/json")) {
        let why = "the content type has to be application/json".into();
        return Err(Failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let place = tokio::time::timeout(limit::PLACE_WAIT_MAX, state.places.acquire()).await;
    let Ok(Ok(_place)) = place else {
        return Err(Failure(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once".into()));
    };
    let bytes = bytes(headers, body).await?;
    let review = review(&bytes).map_err(|why| Failure(StatusCode::BAD_REQUEST, why))?;
    // What a panic leaves behind here is this request's alone.
    catch_unwind(AssertUnwindSafe(|| work(&review))).unwrap_or_else(|_| {
        let why = "this review met a bug in navarch; the log has its trace".into();
        Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, why))
    })
}

async fn bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    let too_large = || {
        let why = format!("a review has at most {} bytes", limit::BODY_BYTES_MAX);
        Failure(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|it| it > limit::BODY_BYTES_MAX) {
        return Err(too_large());
    }
    match tokio::time::timeout(limit::BODY_WAIT_MAX, axum::body::to_bytes(body, limit::BODY_BYTES_MAX)).await {
        Err(_) => Err(Failure(StatusCode::REQUEST_TIMEOUT, "the body took too long".into())),
        // What else can go wrong is a connection that broke: nobody reads that answer.
        Ok(Err(_)) => Err(too_large()),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

fn review(bytes: &[u8]) -> Result<Review, String> {
    let mut value = limit::json(bytes).map_err(|why| format!("the review cannot be read: {why}"))?;
    let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let versions = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];
    if !versions.contains(&api_version.as_str()) || value["kind"] != "AdmissionReview" {
        return Err(format!("expected an AdmissionReview of {}", versions.join(" or ")));
    }
    let request = value["request"].take();
    let uid = request.get("uid").cloned().filter(Value::is_string);
    match uid {
        Some(uid) => Ok(Review { api_version, uid, request }),
        None => Err("the review has no request with a uid".into()),
    }
}

/// `cluster/C/net/N/KEY/VALUE`, or the older `:ENV:cluster=C:ENV:net=N`; `--slash--` in a value stands for a slash.
fn environment(path: &str) -> BTreeMap<String, String> {
    let path = path.trim_end_matches('/');
    let pairs: Vec<(String, String)> = match path.strip_prefix(":ENV:") {
        Some(path) => path
            .split(":ENV:")
            .filter_map(|it| it.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        None => path
            .split('/')
            .collect::<Vec<_>>()
            .chunks_exact(2)
            .map(|it| (it[0].to_owned(), it[1].replace("--slash--", "/")))
            .collect(),
    };
    let name = |name: &str| match name {
        "cluster" => "ISTIO_META_CLUSTER_ID".to_owned(),
        "net" => "ISTIO_META_NETWORK".to_owned(),
        other => other.to_uppercase(),
    };
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "_.-".contains(it));
    pairs.into_iter().map(|(key, value)| (name(&key), value)).filter(|(key, _)| is_name(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::environment;

    #[test]
    fn the_environment_is_in_the_path() {
        let read =
            |path: &str| environment(path).into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(read(""), "");
        assert_eq!(read("cluster/c1/net/n1/"), "ISTIO_META_CLUSTER_ID=c1 ISTIO_META_NETWORK=n1");
        assert_eq!(read("cluster/a--slash--b/foo/bar/odd"), "FOO=bar ISTIO_META_CLUSTER_ID=a/b");
        assert_eq!(read(":ENV:net=n:ENV:x=:ENV:=y"), "ISTIO_META_NETWORK=n X=");
        assert_eq!(read("a b/c"), "");
    }
}
