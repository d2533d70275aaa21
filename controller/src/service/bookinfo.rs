//! Bookinfo's four roles: what each answers and whom it calls, as in Istio's sample
//! (<https://istio.io/latest/docs/examples/bookinfo/>); the content is our own. Peers are called through the
//! sidecar's HTTP proxy by their plain service names, as a program with `HTTP_PROXY` set would.

use super::{Answer, Call, Part, answer, json, page};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json as value};

/// What a service hands on from the request it serves, so that traces join and routes can match on it.
const FORWARDED: [&str; 15] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
    "user-agent",
    END_USER,
];

const END_USER: &str = "end-user";
const PORT: u16 = 9080;

pub(super) async fn product_page(part: &Part, call: &Call) -> Answer {
    let rest = call.path.strip_prefix("/api/v1/products").map(|it| it.trim_matches('/'));
    match (call.path.as_str(), rest) {
        ("/" | "/index.html", _) => answer(StatusCode::OK, "text/html; charset=utf-8", page::index()),
        ("/health", _) => health("Product page is healthy"),
        ("/productpage", _) => {
            let headers = forwarded(call);
            // One after the other, as the sample does.
            let details = ask(part, "details", "details/0", &headers).await;
            let reviews = ask(part, "reviews", "reviews/0", &headers).await;
            let html = page::product(&part.identity.pod, user(call).as_deref(), &details, &reviews);
            answer(StatusCode::OK, "text/html; charset=utf-8", html)
        }
        ("/login", _) => login(call),
        ("/logout", _) => to_product_page("user=; Path=/; Max-Age=0"),
        ("/static/style.css", _) => answer(StatusCode::OK, "text/css", page::STYLE),
        (_, Some("")) => json(StatusCode::OK, &value!([product()])),
        (_, Some(rest)) => match rest.split('/').collect::<Vec<_>>()[..] {
            ["0"] => relay(ask(part, "details", "details/0", &forwarded(call)).await),
            ["0", "reviews"] => relay(ask(part, "reviews", "reviews/0", &forwarded(call)).await),
            ["0", "ratings"] => relay(ask(part, "ratings", "ratings/0", &forwarded(call)).await),
            _ => not_found(call),
        },
        _ => not_found(call),
    }
}

pub(super) fn details(call: &Call) -> Answer {
    match id(call, "/details/") {
        _ if call.path == "/health" => health("Details is healthy"),
        Ok(id) => json(
            StatusCode::OK,
            &value!({
                "id": id, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
                "publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
            }),
        ),
        Err(wrong) => *wrong,
    }
}

pub(super) fn ratings(call: &Call) -> Answer {
    match id(call, "/ratings/") {
        _ if call.path == "/health" => health("Ratings is healthy"),
        Ok(id) => json(StatusCode::OK, &value!({ "id": id, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } })),
        Err(wrong) => *wrong,
    }
}

/// v1 shows no stars; v2 and v3 ask the ratings service and colour them.
pub(super) async fn reviews(part: &Part, call: &Call, stars: Option<&str>) -> Answer {
    if call.path == "/health" {
        return health("Reviews is healthy");
    }
    let id = match id(call, "/reviews/") {
        Ok(id) => id,
        Err(wrong) => return *wrong,
    };
    let rating = match stars {
        None => None,
        Some(color) => Some((color, ask(part, "ratings", &format!("ratings/{id}"), &forwarded(call)).await)),
    };
    let rate = |reviewer: &str| match &rating {
        None => value!({}),
        Some((color, Ok(found))) => value!({ "rating": { "stars": found["ratings"][reviewer], "color": color } }),
        Some((_, Err(_))) => value!({ "rating": { "error": "Ratings service is currently unavailable" } }),
    };
    let review = |reviewer: &str, text: &str| {
        let mut review = value!({ "reviewer": reviewer, "text": text });
        let more = rate(reviewer);
        for (name, content) in more.as_object().into_iter().flatten() {
            review[name] = content.clone();
        }
        review
    };
    let body = value!({
        "id": id.to_string(),
        "podname": part.identity.pod,
        "clustername": "navarch up",
        "reviews": [
            review("Reviewer1", "Mistaken twins, one rope and a great deal of shouting. I laughed all evening."),
            review("Reviewer2", "Short and quick, with more doors than rooms. Not deep, but never dull."),
        ],
    });
    json(StatusCode::OK, &body)
}

/// Asks a peer; the error is the status to relay and a sentence.
async fn ask(part: &Part, service: &str, path: &str, headers: &HeaderMap) -> Result<Value, (StatusCode, String)> {
    let variable = |name: &str| part.identity.environment.get(&format!("{}_{name}", service.to_uppercase()));
    let host = variable("HOSTNAME").map_or(service, String::as_str);
    let port = variable("SERVICE_PORT").and_then(|it| it.parse().ok()).unwrap_or(PORT);
    let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{service} is unavailable: {why}"));
    let response = part
        .peers
        .get(&format!("http://{host}:{port}/{path}"), headers)
        .await
        .map_err(|why| unavailable(format!("{why:#}")))?;
    if !response.status().is_success() {
        return Err((response.status(), format!("{service} answered {}", response.status())));
    }
    serde_json::from_str(response.body()).map_err(|why| unavailable(why.to_string()))
}

fn relay(asked: Result<Value, (StatusCode, String)>) -> Answer {
    match asked {
        Ok(value) => json(StatusCode::OK, &value),
        Err((status, why)) => json(status, &value!({ "error": why })),
    }
}

fn forwarded(call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in FORWARDED {
        for content in call.headers.get_all(name) {
            headers.append(HeaderName::from_static(name), content.clone());
        }
    }
    if let Some(user) = user(call).and_then(|user| HeaderValue::from_str(&user).ok()) {
        headers.insert(END_USER, user);
    }
    headers
}

/// The user that `/login` wrote into the cookie.
fn user(call: &Call) -> Option<String> {
    let cookies = call.headers.get(header::COOKIE)?.to_str().ok()?;
    let user = cookies.split(';').find_map(|it| it.trim().strip_prefix("user="))?;
    (!user.is_empty()).then(|| user.to_owned())
}

/// No password is asked: as in the sample, the name only decides what `end-user` routes match.
fn login(call: &Call) -> Answer {
    let body = String::from_utf8_lossy(&call.body).into_owned();
    let form = if call.method == Method::POST { body.as_str() } else { call.query.as_str() };
    let name = form.split('&').find_map(|it| it.strip_prefix("username=")).unwrap_or_default();
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    match !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        true => to_product_page(&format!("user={name}; Path=/; HttpOnly")),
        false => answer(StatusCode::BAD_REQUEST, "text/plain", "username: up to 64 letters, digits, '-', '_' or '.'"),
    }
}

fn to_product_page(cookie: &str) -> Answer {
    let mut found = answer(StatusCode::FOUND, "text/plain", "");
    found.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/productpage"));
    found.headers_mut().insert(
        header::SET_COOKIE,
        HeaderValue::from_str(cookie).expect("login lets only letters, digits and '-_.' into the cookie"),
    );
    found
}

fn id(call: &Call, prefix: &str) -> Result<u32, Box<Answer>> {
    let Some(id) = call.path.strip_prefix(prefix) else { return Err(not_found(call).into()) };
    id.parse()
        .map_err(|_| json(StatusCode::BAD_REQUEST, &value!({ "error": "please provide numeric product ID" })).into())
}

fn health(status: &str) -> Answer {
    json(StatusCode::OK, &value!({ "status": status }))
}

fn not_found(call: &Call) -> Answer {
    json(StatusCode::NOT_FOUND, &value!({ "error": format!("no such path: {}", call.path) }))
}

fn product() -> Value {
    value!({ "id": 0, "title": page::TITLE, "descriptionHtml": page::SUMMARY })
}
