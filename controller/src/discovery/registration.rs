//! Workloads outside of Kubernetes that register themselves: which WorkloadEntry a connected proxy gets from its
//! WorkloadGroup, with Istio's names. Pure; [`super::entries`] writes them.

use crds::networking::WorkloadGroup;
use crds::{Kind, Labels, ObjectKey};
use model::{Locality, Proxy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use xds::ConnectionId;

/// On a WorkloadEntry: the group that it was made from.
pub(super) const GROUP: &str = "istio.io/autoRegistrationGroup";

/// On a WorkloadEntry of a group with a probe: it counts only while its condition `Healthy` is `True`.
const HEALTH_CHECKED: &str = "proxy.istio.io/health-checks-enabled";

/// Node metadata by which a proxy asks for its registration.
const ASKED: &str = "AUTO_REGISTER_GROUP";

/// Of a name in Kubernetes.
const NAME_BYTES_MAX: usize = 253;

/// What a connected workload is to be known by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registration {
    pub(super) connection: ConnectionId,
    /// The WorkloadGroup's name, in the entry's namespace.
    pub(super) group: Arc<str>,
    /// Of its credential; an entry of somebody else's is left alone.
    pub(super) service_account: Option<Arc<str>>,
    pub(super) labels: Labels,
    pub(super) ports: Arc<BTreeMap<String, u16>>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) spec: Value,
    /// What its agent said last.
    pub(super) health: Option<Health>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Healthy,
    Unhealthy(String),
}

/// Of what an agent says: a condition's message is to be read.
const MESSAGE_BYTES_MAX: usize = 1024;

impl Health {
    pub(super) fn unhealthy(mut why: String) -> Self {
        why.truncate(why.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self::Unhealthy(why)
    }
}

/// WorkloadEntries by their keys.
pub(super) type Wanted = Arc<BTreeMap<ObjectKey, Registration>>;

/// The WorkloadGroup that a node asks to be registered by.
pub(super) fn group_of(proxy: &Proxy) -> Option<ObjectKey> {
    let name = proxy.metadata.get(ASKED).filter(|it| !it.is_empty())?;
    Some(ObjectKey::new(Kind::WorkloadGroup, proxy.namespace.clone(), name.as_str()))
}

/// `GROUP-IP`, or `GROUP-IP-NETWORK`; the end of it if it is too long.
pub(super) fn entry_of(proxy: &Proxy, group: &ObjectKey) -> Result<ObjectKey, String> {
    let ip = proxy.ips.first().map(|it| it.to_string().replace(':', "-")).unwrap_or_default();
    let parts = [Some(&*group.name), Some(ip.as_str()), network(proxy)];
    let name = parts.into_iter().flatten().collect::<Vec<_>>().join("-");
    let is_name = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "-.".contains(it);
    if !name.chars().all(is_name) {
        return Err(format!("{name:?} cannot be the name of a WorkloadEntry"));
    }
    let name = &name[name.len().saturating_sub(NAME_BYTES_MAX)..];
    Ok(ObjectKey::new(Kind::WorkloadEntry, group.namespace.clone(), name))
}

/// `service_account` is that of the proxy's credential; `None` if nobody checks it.
pub(super) fn registration(
    (connection, proxy, node): (ConnectionId, &Proxy, &xds::Node),
    (group, spec): (&ObjectKey, &WorkloadGroup),
    service_account: Option<Arc<str>>,
) -> Result<Registration, String> {
    let template = spec.template.clone().unwrap_or_default();
    let wanted = template.service_account.as_str();
    if let Some(own) = service_account.as_deref().filter(|it| !wanted.is_empty() && *it != wanted) {
        return Err(format!("{group} is for service account {wanted:?}, and not for {own:?}"));
    }
    let metadata = spec.metadata.clone().unwrap_or_default();
    // The node knows better than the group, and of the group its metadata better than its template.
    let mut labels = template.labels;
    labels.extend(metadata.labels);
    labels.extend(proxy.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut annotations = BTreeMap::from([(GROUP.to_owned(), group.name.to_string())]);
    annotations.extend(metadata.annotations);
    if node.metadata.pointer("/PROXY_CONFIG/readinessProbe").is_some_and(Value::is_object) {
        annotations.insert(HEALTH_CHECKED.to_owned(), "true".to_owned());
    }
    let locality = match &*proxy.locality {
        none if *none == Locality::default() => template.locality,
        Locality { region, zone, subzone } => {
            [region, zone, subzone].map(ToString::to_string).join("/").trim_end_matches('/').to_owned()
        }
    };
    let ports = template.ports.iter().filter_map(|(name, port)| Some((name.clone(), (*port).try_into().ok()?)));
    let ports = Arc::new(ports.collect());
    let mut entry = json!({
        "address": proxy.ips.first().map(ToString::to_string),
        "labels": labels,
        "ports": template.ports,
        "network": network(proxy).unwrap_or(&template.network),
        "locality": locality,
        "weight": template.weight,
        "serviceAccount": template.service_account,
    });
    if let Some(fields) = entry.as_object_mut() {
        let is_set = |it: &Value| *it != 0 && *it != "" && !it.as_object().is_some_and(serde_json::Map::is_empty);
        fields.retain(|_, it| is_set(it));
    }
    let labels = Arc::new(labels);
    Ok(Registration {
        connection,
        group: group.name.clone(),
        service_account,
        labels,
        ports,
        annotations,
        spec: entry,
        health: None,
    })
}

fn network(proxy: &Proxy) -> Option<&str> {
    proxy.metadata.get("NETWORK").map(String::as_str).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(metadata: Value) -> (Proxy, xds::Node) {
        let id = "sidecar~10.0.0.9~vm.shop~shop.svc.cluster.local";
        let locality = Locality { region: "r".into(), zone: "z".into(), subzone: "".into() };
        let proxy = Proxy::parse(id, &metadata, locality).unwrap();
        let node = xds::Node {
            id: id.into(),
            cluster: String::new(),
            metadata,
            locality: None,
            user_agent_name: String::new(),
            user_agent_version: String::new(),
        };
        (proxy, node)
    }

    fn group(spec: Value) -> WorkloadGroup {
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn names_are_made_of_group_address_and_network() {
        let name = |metadata: Value| {
            let (proxy, _) = node(metadata);
            let group = group_of(&proxy)?;
            Some(entry_of(&proxy, &group).map(|it| it.to_string()))
        };
        assert_eq!(name(json!({})), None);
        assert_eq!(name(json!({"AUTO_REGISTER_GROUP": "vm"})), Some(Ok("WorkloadEntry shop/vm-10.0.0.9".into())));
        let six = json!({"AUTO_REGISTER_GROUP": "vm", "INSTANCE_IPS": "fd00::9", "NETWORK": "n1"});
        assert_eq!(name(six), Some(Ok("WorkloadEntry shop/vm-fd00--9-n1".into())));
        assert!(name(json!({"AUTO_REGISTER_GROUP": "../vm"})).unwrap().is_err());
        let long = name(json!({"AUTO_REGISTER_GROUP": "v".repeat(300)})).unwrap().unwrap();
        assert_eq!(long.len(), "WorkloadEntry shop/".len() + NAME_BYTES_MAX);
    }

    #[test]
    fn an_entry_is_its_group_s_template_with_what_the_node_knows_better() {
        let (proxy, node) = node(json!({
            "AUTO_REGISTER_GROUP": "vm", "NETWORK": "n1", "LABELS": {"app": "node", "node": "1"},
            "PROXY_CONFIG": {"readinessProbe": {"httpGet": {"port": 80}}},
        }));
        let key = group_of(&proxy).unwrap();
        let spec = group(json!({
            "metadata": {"labels": {"app": "group", "group": "1"}, "annotations": {"a": "b"}},
            "template": {
                "labels": {"app": "template", "template": "1"}, "ports": {"http": 8080}, "weight": 2,
                "network": "n0", "locality": "elsewhere", "serviceAccount": "vm",
            },
        }));
        let made = registration((ConnectionId(1), &proxy, &node), (&key, &spec), Some("vm".into())).unwrap();
        let labels = json!({"app": "node", "group": "1", "node": "1", "template": "1"});
        assert_eq!(json!(*made.labels), labels);
        assert_eq!(json!(*made.ports), json!({"http": 8080}));
        assert_eq!(
            json!(made.annotations),
            json!({"a": "b", "istio.io/autoRegistrationGroup": "vm", "proxy.istio.io/health-checks-enabled": "true"})
        );
        assert_eq!(
            made.spec,
            json!({"address": "10.0.0.9", "labels": labels, "ports": {"http": 8080}, "network": "n1",
                   "locality": "r/z", "weight": 2, "serviceAccount": "vm"})
        );
        let other = registration((ConnectionId(1), &proxy, &node), (&key, &spec), Some("other".into()));
        assert_eq!(other.unwrap_err(), "WorkloadGroup shop/vm is for service account \"vm\", and not for \"other\"");
        let any = group(json!({"template": {}}));
        let made = registration((ConnectionId(1), &proxy, &node), (&key, &any), Some("other".into())).unwrap();
        assert_eq!(made.spec["serviceAccount"], Value::Null);
    }
}
