//! A case as its file says it.

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    pub(super) cases: Vec<Case>,
}

/// One or more equal requests, and what is to be seen of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    pub name: String,
    /// A caller of `mesh.yaml`, or `gateway`.
    #[serde(default = "client")]
    pub from: String,
    /// `http://HOST/PATH`, or `https:`
    pub to: String,
    #[serde(default)]
    pub protocol: Protocol,
    /// Of `https://…`.
    #[serde(default)]
    pub tls: Tls,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    /// So many requests.
    #[serde(default = "one")]
    pub count: usize,
    /// So many of them at a time.
    #[serde(default = "one")]
    pub together: usize,
    /// So long between two requests: what becomes of connections that rest.
    #[serde(default)]
    pub pause_ms: u64,
    /// A request sent first, so often, of which nothing is expected.
    #[serde(default)]
    pub before: Option<String>,
    #[serde(default = "one")]
    pub before_count: usize,
    /// What is expected needs some time: all is sent again until it is so, for so long. (Envoy takes an endpoint out
    /// up to a second after it has failed.)
    #[serde(default)]
    pub within_ms: u64,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http,
    /// Without being asked.
    Http2,
    /// Bytes: `body` is sent, and what comes back is read until `expect.body` is in it, or the end.
    Tcp,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whose certificate is shown: `client.outside.test`, or `revoked.outside.test`.
    pub certificate: Option<String>,
    /// `1.2` or `1.3`; else what both ends have.
    pub version: Option<String>,
}

/// Of every answer, but where it says shares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Expect {
    pub status: Option<u16>,
    /// The connection ends without an answer.
    pub closed: bool,
    /// What the answering pod's name begins with.
    pub pod: Option<String>,
    /// As they arrived there: the path with its query, the method, `host`, headers (`null`: not there).
    pub path: Option<String>,
    pub method: Option<String>,
    /// `HTTP/1.1`
    pub protocol: Option<String>,
    pub arrived: BTreeMap<String, Option<String>>,
    /// The answer's headers (`null`: not there).
    pub headers: BTreeMap<String, Option<String>>,
    /// Parts of the answer's headers.
    pub headers_with: BTreeMap<String, String>,
    /// A part of the answer's body.
    pub body: Option<String>,
    /// How many requests a pod says it has had.
    pub seen: Option<u64>,
    /// Which attempt was answered.
    pub attempt: Option<u32>,
    /// Percent of the answers by pod, and by status; within four standard deviations.
    pub pods: BTreeMap<String, f64>,
    pub statuses: BTreeMap<String, f64>,
    /// At least so many answers with these statuses, and no others.
    pub at_least: BTreeMap<String, usize>,
    /// How many pods answered.
    pub distinct_pods: Option<usize>,
    /// How many connections of its own the program got the requests on.
    pub distinct_connections: Option<usize>,
    pub at_least_ms: Option<u64>,
    pub at_most_ms: Option<u64>,
}

fn client() -> String {
    "client".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn one() -> usize {
    1
}

pub(super) fn parse(text: &str) -> Result<Cases> {
    let value = crds::yaml::value(text).map_err(|it| anyhow!("line {} of its cases: {}", it.line, it.message))?;
    serde_json::from_value(value).context("its cases")
}
