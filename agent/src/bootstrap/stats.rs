//! Which statistics Envoy keeps, and what it takes out of their names: Istio's, since dashboards query by them.

use serde_json::{Value, json};

use crate::environment::ProxyConfig;

/// Envoy takes what the first group matched out of the name, and the second group for the tag's value.
const TAGS: [(&str, &str); 10] = [
    ("cluster_name", r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?;?)\.)"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"(response_code=\.=(.+?);\.;)|_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener\..*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "http_conn_manager_prefix",
        r"^http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*|outbound_[^;]+;|inbound_[^;]+;))\.)",
    ),
    ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("mongo_prefix", r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"),
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
];

const PREFIXES: [&str; 8] =
    ["reporter=", "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "component", "istio"];

/// What else is kept of the names.
pub const SUFFIXES: [&str; 5] =
    ["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active"];

/// `stats_tags` as every Envoy of the mesh has them.
#[must_use]
pub fn tags() -> Vec<Value> {
    TAGS.iter().map(|(name, regex)| json!({ "tag_name": name, "regex": regex })).collect()
}

pub(super) fn stats_config(of: &ProxyConfig) -> Value {
    let tags = tags().into_iter();
    let extra = of.extra_stat_tags.iter().filter(|tag| is_tag(tag));
    let extra = extra.map(|tag| json!({ "tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)") }));
    let own = |list: &'static [&'static str]| list.iter().map(|text| (*text).to_owned());
    let prefixes = own(&PREFIXES).chain(of.stats.prefixes.iter().cloned()).map(|it| json!({ "prefix": it }));
    let suffixes = own(&SUFFIXES).chain(of.stats.suffixes.iter().cloned()).map(|it| json!({ "suffix": it }));
    let regexes = own(&[r"vhost\..*\.route\..*"]).chain(of.stats.regexes.iter().cloned());
    let regexes = regexes.map(|it| json!({ "safe_regex": { "regex": it } }));
    json!({
        "use_all_default_tags": false,
        "stats_tags": tags.chain(extra).collect::<Vec<_>>(),
        "stats_matcher": { "inclusion_list": { "patterns": prefixes.chain(suffixes).chain(regexes).collect::<Vec<_>>() } },
    })
}

/// Letters that mean themselves in a regular expression.
fn is_tag(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
