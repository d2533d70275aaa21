//! Metrics of agent, Envoy and application as one page. What cannot be had is left out and counted: the rest is served.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::Empty;

use super::client::{self, ClientError, Way};
use super::options::{Options, Scrape};

/// Text for Prometheus as it always was.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text";
/// An application's page that is larger is left out.
pub const APPLICATION_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Envoy's page with thousands of clusters is some tens of megabytes.
pub const ENVOY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Prometheus' own limit when it does not say one.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No scrape is waited for longer than this, whatever the header says.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Counts of scrapes.
#[derive(Debug, Default)]
pub struct Counts {
    scrapes: AtomicU64,
    envoy_failures: AtomicU64,
    application_failures: AtomicU64,
}

/// A page and its type.
#[derive(Debug)]
pub struct Page {
    /// `Content-Type`
    pub content_type: String,
    /// Body.
    pub body: Vec<u8>,
}

/// Gathers the page. `query` is handed to Envoy, `headers` are Prometheus'.
pub async fn page(options: &Options, counts: &Counts, own: &str, query: Option<&str>, headers: &HeaderMap) -> Page {
    counts.scrapes.fetch_add(1, Ordering::Relaxed);
    let envoy = async {
        options.envoy_admin?;
        let path = query.map_or_else(|| "/stats/prometheus".to_owned(), |query| format!("/stats/prometheus?{query}"));
        let accept = accept(headers, Kinds::Text);
        let answer = scrape(options.envoy_metrics, &path, &accept, headers, ENVOY_BYTES_MAX).await;
        counted(answer, &counts.envoy_failures, "Envoy")
    };
    let applications = futures::future::join_all(options.scrapes.iter().map(|target| async {
        let accept = accept(headers, Kinds::TextAndOpenMetrics);
        let answer = application(options, target, &accept, headers).await;
        counted(answer, &counts.application_failures, &format!("the application's {}{}", target.port, target.path))
    }));
    let (envoy, applications) = futures::future::join(envoy, applications).await;
    let applications: Vec<(String, Bytes)> = applications.into_iter().flatten().collect();
    let mut body = format!("{}{own}", counts.text()).into_bytes();
    end_line(&mut body);
    if let Some((_, page)) = envoy {
        rename(&page, &mut body);
        end_line(&mut body);
    }
    let content_type = content_type(&applications);
    // The application comes last: `# EOF` ends an OpenMetrics page.
    for (_, page) in &applications {
        body.extend_from_slice(without_eof(page));
        end_line(&mut body);
    }
    if content_type.starts_with(OPEN_METRICS) {
        body.extend_from_slice(b"# EOF\n");
    }
    Page { content_type, body }
}

impl Counts {
    fn text(&self) -> String {
        let scrapes = self.scrapes.load(Ordering::Relaxed);
        let envoy = self.envoy_failures.load(Ordering::Relaxed);
        let application = self.application_failures.load(Ordering::Relaxed);
        format!(
            "# HELP istio_agent_scrapes_total Scrapes.\n# TYPE istio_agent_scrapes_total counter\n\
             istio_agent_scrapes_total {scrapes}\n\
             # HELP istio_agent_scrape_failures_total Failed scrapes.\n# TYPE istio_agent_scrape_failures_total counter\n\
             istio_agent_scrape_failures_total{{type=\"envoy\"}} {envoy}\n\
             istio_agent_scrape_failures_total{{type=\"application\"}} {application}\n"
        )
    }
}

fn counted(answer: Result<(String, Bytes), ClientError>, failures: &AtomicU64, whose: &str) -> Option<(String, Bytes)> {
    answer
        .inspect_err(|error| {
            failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, whose, "metrics cannot be had");
        })
        .ok()
}

/// The application's page, on localhost of either family: which one it listens on nobody has said.
async fn application(
    options: &Options,
    target: &Scrape,
    accept: &str,
    headers: &HeaderMap,
) -> Result<(String, Bytes), ClientError> {
    let localhost = options.envoy_metrics.ip();
    let other = super::other_loopback(localhost);
    let first = scrape(SocketAddr::new(localhost, target.port), &target.path, accept, headers, APPLICATION_BYTES_MAX);
    match first.await {
        Err(ClientError::Connect(error)) => {
            let second =
                scrape(SocketAddr::new(other, target.port), &target.path, accept, headers, APPLICATION_BYTES_MAX);
            second.await.map_err(|_| ClientError::Connect(error))
        }
        answer => answer,
    }
}

async fn scrape(
    address: SocketAddr,
    path: &str,
    accept: &str,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<(String, Bytes), ClientError> {
    let host = format!("localhost:{}", address.port());
    let mut request = Request::get(path).header(header::HOST, host).header(header::ACCEPT, accept);
    for name in [header::USER_AGENT, header::HeaderName::from_static(SCRAPE_TIMEOUT)] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Empty::new()).map_err(|error| ClientError::Http(error.to_string()))?;
    let way = Way { address, source: None, tls: None };
    let answer = client::send(request, way, timeout(headers), bytes_max).await?;
    if answer.status != http::StatusCode::OK {
        return Err(ClientError::Status(answer.status));
    }
    let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok((content_type.unwrap_or_default().to_owned(), answer.body))
}

fn timeout(headers: &HeaderMap) -> Duration {
    let said = headers.get(SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|said| !said.is_zero())
        .map_or(TIMEOUT, |said| said.min(TIMEOUT_MAX))
}

/// Which formats a page may be asked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    /// Envoy's page is put in the middle, where OpenMetrics' end mark has no place.
    Text,
    TextAndOpenMetrics,
}

/// What Prometheus accepts, without the formats that cannot be put together (protobuf). Order is preference.
fn accept(headers: &HeaderMap, kinds: Kinds) -> String {
    const DEFAULT: &str = "text/plain;version=0.0.4";
    let said = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut kept: Vec<String> = Vec::new();
    for item in said.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<&str> =
            parts.filter(|part| !part.is_empty() && !part.to_ascii_lowercase().starts_with("q=")).collect();
        let whole = match (media.as_str(), kinds) {
            ("*/*" | "*", _) => DEFAULT.to_owned(),
            ("application/*", Kinds::TextAndOpenMetrics) => format!("{OPEN_METRICS};version=0.0.1"),
            ("text/plain" | "text/*", _) | (OPEN_METRICS, Kinds::TextAndOpenMetrics) => {
                [media.as_str()].into_iter().chain(parameters).collect::<Vec<_>>().join(";")
            }
            _ => continue,
        };
        if !kept.contains(&whole) {
            kept.push(whole);
        }
    }
    if kept.is_empty() {
        return DEFAULT.to_owned();
    }
    // A client names a handful of formats; nine distinct weights are enough.
    let weighted = kept.iter().enumerate().map(|(place, item)| format!("{item};q=0.{}", 9 - place.min(8)));
    weighted.collect::<Vec<_>>().join(",")
}

/// OpenMetrics only when every page of the application is of that one kind.
fn content_type(pages: &[(String, Bytes)]) -> String {
    let mut kinds: Vec<String> = pages.iter().map(|(content_type, _)| kind(content_type)).collect();
    kinds.dedup();
    match kinds.as_slice() {
        [one] => one.clone(),
        _ => TEXT.to_owned(),
    }
}

fn kind(content_type: &str) -> String {
    let mut parts = content_type.split(';').map(str::trim);
    if parts.next().unwrap_or_default().eq_ignore_ascii_case(OPEN_METRICS) {
        let version = parts.find_map(|part| part.strip_prefix("version=")).unwrap_or("0.0.1").trim_matches('"');
        if matches!(version, "0.0.1" | "1.0.0") {
            return format!("{OPEN_METRICS}; version={version}; charset=utf-8");
        }
    }
    TEXT.to_owned()
}

fn without_eof(page: &[u8]) -> &[u8] {
    let trimmed = page.trim_ascii_end();
    trimmed.strip_suffix(b"# EOF").unwrap_or(page)
}

fn end_line(body: &mut Vec<u8>) {
    if body.last().is_some_and(|last| *last != b'\n') {
        body.push(b'\n');
    }
}

/// Stock Envoy puts `envoy_` before the mesh's own metrics; Istio's Envoy, which dashboards know, does not. Only metric
/// names are touched: at the start of a line, and after `# TYPE ` and `# HELP `.
fn rename(page: &[u8], out: &mut Vec<u8>) {
    const PREFIX: &[u8] = b"envoy_istio_";
    out.reserve(page.len());
    for line in page.split_inclusive(|byte| *byte == b'\n') {
        let start = [&b"# TYPE "[..], b"# HELP "].iter().find(|start| line.starts_with(start)).map_or(0, |s| s.len());
        let (start, name) = line.split_at(start);
        out.extend_from_slice(start);
        out.extend_from_slice(if name.starts_with(PREFIX) { &name[b"envoy_".len()..] } else { name });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meshs_metrics_lose_envoys_prefix_and_nothing_else_does() {
        let page = "# TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{a=\"envoy_istio_x\"} 1\nenvoy_server_live 1\n";
        let mut out = Vec::new();
        rename(page.as_bytes(), &mut out);
        let expected =
            "# TYPE istio_requests_total counter\nistio_requests_total{a=\"envoy_istio_x\"} 1\nenvoy_server_live 1\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn formats_that_cannot_be_put_together_are_not_asked_for() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, prometheus.parse().expect("a header"));
        assert_eq!(accept(&headers, Kinds::Text), "text/plain;version=0.0.4;q=0.9");
        assert_eq!(
            accept(&headers, Kinds::TextAndOpenMetrics),
            "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.8"
        );
        assert_eq!(accept(&HeaderMap::new(), Kinds::Text), "text/plain;version=0.0.4");
    }

    #[test]
    fn the_page_is_openmetrics_only_when_all_of_the_application_is() {
        let page = |content_type: &str| (content_type.to_owned(), Bytes::new());
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(content_type(&[]), TEXT);
        assert_eq!(content_type(&[page("text/plain")]), TEXT);
        assert_eq!(content_type(&[page(open)]), open);
        assert_eq!(content_type(&[page(open), page("text/plain")]), TEXT);
        assert_eq!(content_type(&[page("application/openmetrics-text; version=7")]), TEXT);
    }

    #[test]
    fn the_end_mark_is_taken_off_wherever_lines_end() {
        assert_eq!(without_eof(b"a 1\n# EOF\r\n"), b"a 1\n");
        assert_eq!(without_eof(b"a 1\n"), b"a 1\n");
    }

    #[test]
    fn prometheus_says_how_long_it_waits() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SCRAPE_TIMEOUT, value.parse().expect("a header"));
            timeout(&headers)
        };
        assert_eq!(with("1.5"), Duration::from_millis(1500));
        for nonsense in ["-1", "0", "NaN", "x"] {
            assert_eq!(with(nonsense), TIMEOUT, "{nonsense}");
        }
        assert_eq!(with("9999"), TIMEOUT_MAX);
    }
}
