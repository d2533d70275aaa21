//! The functions that Istio adds to Go's templates (`pkg/kube/inject/template.go`), on JSON.
//!
//! Values reach templates under their Go names; [`exported`] and [`plain`] translate.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// All of them. Those that only some old template uses are here too: a user's ConfigMap outlives versions.
pub(super) const NAMES: [&str; 26] = [
    "annotation",
    "appendMultusNetwork",
    "applicationPorts",
    "contains",
    "directory",
    "env",
    "excludeInboundPort",
    "excludeInterfaces",
    "formatDuration",
    "fromJSON",
    "includeInboundPorts",
    "indent",
    "isset",
    "kubevirtInterfaces",
    "mergeMaps",
    "omit",
    "omitNil",
    "otelResourceAttributes",
    "protoToJSON",
    "strdict",
    "structToJSON",
    "toJSON",
    "toJsonMap",
    "toLower",
    "toYaml",
    "valueOrDefault",
];

/// Calls one. `environment` is what `env` may read.
pub(super) fn call(name: &str, args: &[Value], environment: &BTreeMap<String, String>) -> Result<Value, String> {
    let at = |i: usize| args.get(i).unwrap_or(&Value::Null);
    let text = |i: usize| printed(at(i));
    Ok(match name {
        "annotation" => match at(0)["Annotations"].get(text(1)) {
            Some(value) => value.clone(),
            None => text(2).into(),
        },
        "appendMultusNetwork" => append_multus_network(&text(0), &text(1)).into(),
        "applicationPorts" => ports(at(0), |name| name != super::PROXY).into(),
        "includeInboundPorts" => ports(at(0), |_| true).into(),
        "contains" => text(1).contains(&text(0)).into(),
        "directory" => text(0).rfind('/').map_or(String::new(), |at| text(0)[..=at].to_owned()).into(),
        "env" => match environment.get(&text(0)).filter(|it| !it.is_empty()) {
            Some(value) => value.as_str().into(),
            None => at(1).clone(),
        },
        "excludeInboundPort" => exclude_inbound_port(&text(0), &text(1)).into(),
        "excludeInterfaces" | "kubevirtInterfaces" | "formatDuration" => text(0).into(),
        "fromJSON" => serde_json::from_str(&text(0)).unwrap_or_else(|_| "{}".into()),
        "indent" => indent(at(0).as_u64().unwrap_or_default(), &text(1)).into(),
        "isset" => at(0).get(text(1)).is_some().into(),
        "mergeMaps" => merge_maps(args),
        "omit" => omit(at(0), &args[1.min(args.len())..]),
        "omitNil" => without_null(at(0)).unwrap_or_default(),
        "otelResourceAttributes" => otel(args).into(),
        "protoToJSON" => super::container::proxy_config(&plain(at(0))).into(),
        "structToJSON" => plain(at(0)).to_string().into(),
        "strdict" => args
            .chunks(2)
            .map(|it| (printed(&it[0]), json!(it.get(1).map_or(String::new(), printed))))
            .collect::<Map<_, _>>()
            .into(),
        "toJSON" => {
            if at(0).is_null() {
                "{}".into()
            } else {
                at(0).to_string().into()
            }
        }
        "toJsonMap" => merge_maps(args).to_string().into(),
        "toYaml" => crate::yaml::text(at(0)).into(),
        "toLower" => text(0).to_lowercase().into(),
        "valueOrDefault" => {
            if at(0).is_null() || at(0) == "" {
                at(1).clone()
            } else {
                at(0).clone()
            }
        }
        other => return Err(format!("no function {other:?}")),
    })
}

/// As Go's `fmt.Sprint` would print it, for what templates pass around.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Adds a port that must not be redirected, unless it is there or is no port.
pub(super) fn exclude_inbound_port(port: &str, excluded: &str) -> String {
    let port = port.trim();
    if port.is_empty() || port == "0" || excluded.split(',').any(|it| it.trim() == port) {
        return excluded.to_owned();
    }
    let there = excluded.split(',').map(str::trim).filter(|it| !it.is_empty());
    there.chain([port]).collect::<Vec<_>>().join(",")
}

/// Multus' annotation is either a JSON list or names with commas between them.
pub(super) fn append_multus_network(there: &str, network: &str) -> String {
    if there.is_empty() {
        return network.to_owned();
    }
    let (namespace, name) = network.split_once('/').unwrap_or(("", network));
    if there.contains(']') {
        let Ok(Value::Array(mut networks)) = serde_json::from_str(there) else { return there.to_owned() };
        let same = |it: &Value| it["name"] == name && it["namespace"].as_str().unwrap_or_default() == namespace;
        if networks.iter().any(same) {
            return there.to_owned();
        }
        networks.push(if namespace.is_empty() {
            json!({"name": name})
        } else {
            json!({"name": name, "namespace": namespace})
        });
        return Value::Array(networks).to_string();
    }
    match there.split(',').any(|it| it.trim() == network) {
        true => there.to_owned(),
        false => format!("{there}, {network}"),
    }
}

fn ports(containers: &Value, include: impl Fn(&str) -> bool) -> String {
    let containers = containers.as_array().into_iter().flatten();
    let included = containers.filter(|it| include(it["Name"].as_str().unwrap_or_default()));
    let ports = included.flat_map(|it| it["Ports"].as_array().into_iter().flatten());
    let tcp = ports.filter(|it| !matches!(it["Protocol"].as_str(), Some("UDP" | "SCTP")));
    tcp.map(|it| it["ContainerPort"].to_string()).collect::<Vec<_>>().join(",")
}

fn indent(spaces: u64, text: &str) -> String {
    let pad = " ".repeat(usize::try_from(spaces.min(100)).unwrap_or_default());
    let lines = text.split('\n').enumerate();
    lines.map(|(i, line)| if i == 0 { line.to_owned() } else { format!("{pad}{line}") }).collect::<Vec<_>>().join("\n")
}

fn merge_maps(maps: &[Value]) -> Value {
    let sorted: BTreeMap<_, _> = maps.iter().filter_map(Value::as_object).flatten().collect();
    json!(sorted)
}

fn omit(map: &Value, names: &[Value]) -> Value {
    let kept = map.as_object().into_iter().flatten().filter(|(name, _)| !names.iter().any(|it| it == name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}

/// Null where nothing is left.
fn without_null(value: &Value) -> Option<Value> {
    let holds_null = |value: &Value| without_null(value).is_none_or(|it| it != *value);
    match value {
        Value::Null => None,
        Value::Object(fields) if fields.values().any(holds_null) => {
            let fields: Map<_, _> =
                fields.iter().filter_map(|(name, it)| Some((name.clone(), without_null(it)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) if items.iter().any(holds_null) => {
            let items: Vec<_> = items.iter().filter_map(without_null).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        other => Some(other.clone()),
    }
}

/// Arguments: MeshConfig, annotations, labels, namespace, containers.
fn otel(args: &[Value]) -> String {
    let at = |i: usize| args.get(i).unwrap_or(&Value::Null);
    let enriched = |it: &Value| it["Opentelemetry"]["ServiceAttributeEnrichment"] == "OTEL_SEMANTIC_CONVENTIONS";
    if !at(0)["ExtensionProviders"].as_array().is_some_and(|it| it.iter().any(enriched)) {
        return String::new();
    }
    let filled = |value: &Value| value.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
    let own = |name: &str| filled(&at(1)[format!("resource.opentelemetry.io/{name}")]);
    let namespace = filled(at(3));
    let containers = at(4).as_array().map_or(&[] as &[Value], Vec::as_slice);
    let image = || match containers {
        [only] => image_version(only["Image"].as_str().unwrap_or_default()),
        _ => None,
    };
    let instance = || {
        let first = containers.first()?["Name"].as_str()?;
        Some(format!("{}.$(POD_NAME).{first}", namespace.clone().unwrap_or_default()))
    };
    let all = [
        ("service.namespace", own("service.namespace").or_else(|| namespace.clone())),
        (
            "service.version",
            own("service.version").or_else(|| filled(&at(2)["app.kubernetes.io/version"])).or_else(image),
        ),
        ("service.instance.id", own("service.instance.id").or_else(instance)),
    ];
    all.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect::<Vec<_>>().join(",")
}

/// Tag, digest or both.
fn image_version(image: &str) -> Option<String> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let tag = name.rsplit('/').next().and_then(|it| it.split_once(':')).map(|(_, tag)| tag);
    match (tag, digest) {
        (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

/// Fields whose names are users' own and not Go's.
const MAPS: [&str; 9] = [
    "labels",
    "annotations",
    "nodeSelector",
    "matchLabels",
    "limits",
    "requests",
    "overhead",
    "proxyMetadata",
    "runtimeValues",
];

/// JSON names whose Go names are not the same with a capital letter.
const INITIALISMS: [(&str, &str); 11] = [
    ("apiVersion", "APIVersion"),
    ("uid", "UID"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("tcpSocket", "TCPSocket"),
    ("grpc", "GRPC"),
    ("tty", "TTY"),
    ("nfs", "NFS"),
    ("csi", "CSI"),
    ("fsGroup", "FSGroup"),
    ("downwardAPI", "DownwardAPI"),
];

/// An object with the names that Go's structs have: `containerPort` becomes `ContainerPort`.
pub(super) fn exported(value: &Value) -> Value {
    renamed(value, &|name| {
        let known = INITIALISMS.iter().find(|(json, _)| *json == name).map(|(_, go)| (*go).to_owned());
        known.unwrap_or_else(|| with_first(name, char::to_ascii_uppercase))
    })
}

/// The reverse of [`exported`].
pub(super) fn plain(value: &Value) -> Value {
    renamed(value, &|name| {
        let known = INITIALISMS.iter().find(|(_, go)| *go == name).map(|(json, _)| (*json).to_owned());
        known.unwrap_or_else(|| with_first(name, char::to_ascii_lowercase))
    })
}

fn with_first(name: &str, change: impl Fn(&char) -> char) -> String {
    let mut letters = name.chars();
    letters.next().iter().map(change).chain(letters).collect()
}

fn renamed(value: &Value, rename: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => {
            let of = |(name, value): (&String, &Value)| {
                let users_own = MAPS.iter().any(|it| it.eq_ignore_ascii_case(name));
                (rename(name), if users_own { value.clone() } else { renamed(value, rename) })
            };
            fields.iter().map(of).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(|it| renamed(it, rename)).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istio_s_functions_give_istio_s_answers() {
        let meta = json!({"Annotations": {"a": "1"}});
        let containers = json!([{"Name": "app", "Image": "r:5000/x:1@sha256:ab", "Ports": [{"ContainerPort": 80}, {"ContainerPort": 53, "Protocol": "UDP"}]},
                                {"Name": "istio-proxy", "Ports": [{"ContainerPort": 90}]}]);
        let semantic = json!({"ExtensionProviders": [{"Opentelemetry": {"ServiceAttributeEnrichment": "OTEL_SEMANTIC_CONVENTIONS"}}]});
        let cases = [
            ("annotation", vec![meta.clone(), json!("a"), json!(2)], json!("1")),
            ("annotation", vec![meta.clone(), json!("b"), json!(2)], json!("2")),
            ("isset", vec![meta["Annotations"].clone(), json!("a")], json!(true)),
            ("isset", vec![Value::Null, json!("a")], json!(false)),
            ("contains", vec![json!("/"), json!("a/b")], json!(true)),
            ("directory", vec![json!("/etc/x/y.pem")], json!("/etc/x/")),
            ("excludeInboundPort", vec![json!(15020), json!("")], json!("15020")),
            ("excludeInboundPort", vec![json!(15020), json!("80, 15020")], json!("80, 15020")),
            ("excludeInboundPort", vec![json!(15020), json!("80, 90")], json!("80,90,15020")),
            ("excludeInboundPort", vec![json!("0"), json!("80")], json!("80")),
            ("applicationPorts", vec![containers.clone()], json!("80")),
            ("includeInboundPorts", vec![containers.clone()], json!("80,90")),
            ("appendMultusNetwork", vec![json!(""), json!("default/istio-cni")], json!("default/istio-cni")),
            ("appendMultusNetwork", vec![json!("a"), json!("default/istio-cni")], json!("a, default/istio-cni")),
            (
                "appendMultusNetwork",
                vec![json!("[{\"name\":\"a\"}]"), json!("default/istio-cni")],
                json!("[{\"name\":\"a\"},{\"name\":\"istio-cni\",\"namespace\":\"default\"}]"),
            ),
            ("valueOrDefault", vec![json!(""), json!("d")], json!("d")),
            ("fromJSON", vec![json!("[1]")], json!([1])),
            ("indent", vec![json!(2), json!("a\nb\n")], json!("a\n  b\n  ")),
            ("omit", vec![json!({"a": "1", "b": "2"}), json!("a")], json!({"b": "2"})),
            ("strdict", vec![json!("a"), json!("1"), json!("b")], json!({"a": "1", "b": ""})),
            ("toJsonMap", vec![json!({"b": "1"}), json!({"a": "2", "b": "3"})], json!("{\"a\":\"2\",\"b\":\"3\"}")),
            ("omitNil", vec![json!({"a": {"b": null}, "c": [null, 1], "d": {}})], json!({"c": [1], "d": {}})),
            (
                "structToJSON",
                vec![json!({"ContainerPort": 80, "HostIP": "x"})],
                json!("{\"containerPort\":80,\"hostIP\":\"x\"}"),
            ),
            ("env", vec![json!("A"), json!("d")], json!("from outside")),
            ("env", vec![json!("HOME"), json!("d")], json!("d")),
            (
                "otelResourceAttributes",
                vec![semantic, json!({}), json!({}), json!("ns"), json!([containers[0]])],
                json!("service.namespace=ns,service.version=1@sha256:ab,service.instance.id=ns.$(POD_NAME).app"),
            ),
        ];
        let environment = BTreeMap::from([("A".to_owned(), "from outside".to_owned())]);
        for (name, args, want) in cases {
            assert_eq!(call(name, &args, &environment).unwrap(), want, "{name} {args:?}");
        }
        for name in NAMES {
            assert!(call(name, &[], &environment).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_go_to_go_and_back() {
        let json = json!({"apiVersion": "v1", "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [
            {"readinessProbe": {"httpGet": {"path": "/"}}, "resources": {"limits": {"cpu": "1"}}}]}});
        let go = exported(&json);
        assert_eq!(go["Spec"]["Containers"][0]["ReadinessProbe"]["HTTPGet"]["Path"], "/");
        assert_eq!(go["Metadata"]["Labels"]["app"], "x");
        assert_eq!(plain(&go), json);
    }
}
