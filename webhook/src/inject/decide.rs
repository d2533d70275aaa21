//! Whether a pod gets a proxy: Istio's matrix (`pkg/kube/inject/inject.go`, `injectRequired`), first match wins.

use super::config::{Config, Policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Inject,
    Skip(Skip),
}

/// Why a pod is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Redirection would change the node's network, not the pod's.
    HostNetwork,
    /// One of [`SYSTEM_NAMESPACES`].
    SystemNamespace,
    /// istiod itself: it must come up when no webhook answers (F36).
    ControlPlane,
    /// The label or annotation `sidecar.istio.io/inject` says no.
    Asked,
    NeverInjectSelector,
    Policy,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "the pod uses the network of its node",
            Self::SystemNamespace => "the namespace belongs to Kubernetes",
            Self::ControlPlane => "the pod is istiod",
            Self::Asked => "sidecar.istio.io/inject is false",
            Self::NeverInjectSelector => "a neverInjectSelector matches",
            Self::Policy => "the injector's policy is disabled",
        })
    }
}

pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub namespace: &'a str,
    pub host_network: HostNetwork,
    pub labels: &'a BTreeMap<String, String>,
    pub annotations: &'a BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    Yes,
    No,
}

pub fn decide(pod: &Candidate<'_>, config: &Config) -> Decision {
    const INJECT: &str = "sidecar.istio.io/inject";
    if pod.host_network == HostNetwork::Yes {
        return Decision::Skip(Skip::HostNetwork);
    }
    if SYSTEM_NAMESPACES.contains(&pod.namespace) {
        return Decision::Skip(Skip::SystemNamespace);
    }
    if pod.labels.get("app").is_some_and(|it| it == "istiod") {
        return Decision::Skip(Skip::ControlPlane);
    }
    match pod.labels.get(INJECT).or_else(|| pod.annotations.get(INJECT)).map(String::as_str) {
        Some("true") => return Decision::Inject,
        Some("false") => return Decision::Skip(Skip::Asked),
        // Anything else counts as not said, as in Istio.
        _ => {}
    }
    let any = |selectors: &[LabelSelector]| selectors.iter().any(|it| matches(it, pod.labels));
    if any(&config.injector.never_inject_selector) {
        Decision::Skip(Skip::NeverInjectSelector)
    } else if any(&config.injector.always_inject_selector) || config.injector.policy == Policy::Enabled {
        Decision::Inject
    } else {
        Decision::Skip(Skip::Policy)
    }
}

/// An empty selector matches nothing here, unlike elsewhere in Kubernetes; one with an unknown operator neither.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    let is_empty = equal.clone().next().is_none() && expressions.clone().next().is_none();
    !is_empty
        && equal.into_iter().all(|(name, value)| labels.get(name) == Some(value))
        && expressions.into_iter().all(|it| holds(it, labels))
}

fn holds(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.iter().flatten().any(|it| it == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::{Options, Texts};

    fn map(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter(|it| !it.is_empty()).map(|it| it.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn config(policy: &str) -> Config {
        let text = format!(
            "policy: {policy}\nneverInjectSelector:\n- matchExpressions:\n  - {{key: never, operator: Exists}}\n- matchLabels: {{}}\n\
             alwaysInjectSelector:\n- matchLabels: {{always: 'yes'}}\n- matchExpressions:\n  - {{key: tier, operator: NotIn, values: [batch]}}\n  - {{key: tier, operator: Exists}}\n"
        );
        Config::new(Texts { config: Some(&text), ..Texts::default() }, Options::default()).unwrap()
    }

    /// Columns: namespace, labels, annotations, policy enabled, policy disabled.
    #[test]
    fn s52_the_decision_matrix_is_istio_s() {
        use Decision::Inject;
        let skip = Decision::Skip;
        let (yes, no) = ("sidecar.istio.io/inject=true", "sidecar.istio.io/inject=false");
        let always = format!("always=yes,{no}");
        let never = format!("never=1,{yes}");
        let table: &[(&str, &str, &str, Decision, Decision)] = &[
            ("default", "", "", Inject, skip(Skip::Policy)),
            ("default", yes, "", Inject, Inject),
            ("default", no, "", skip(Skip::Asked), skip(Skip::Asked)),
            ("default", "", yes, Inject, Inject),
            ("default", "", no, skip(Skip::Asked), skip(Skip::Asked)),
            ("default", yes, no, Inject, Inject),
            ("default", no, yes, skip(Skip::Asked), skip(Skip::Asked)),
            ("default", "sidecar.istio.io/inject=", no, Inject, skip(Skip::Policy)),
            ("default", "sidecar.istio.io/inject=maybe", "", Inject, skip(Skip::Policy)),
            ("default", "never=1", "", skip(Skip::NeverInjectSelector), skip(Skip::NeverInjectSelector)),
            ("default", "never=1,always=yes", "", skip(Skip::NeverInjectSelector), skip(Skip::NeverInjectSelector)),
            ("default", "always=yes", "", Inject, Inject),
            ("default", "tier=web", "", Inject, Inject),
            ("default", "tier=batch", "", Inject, skip(Skip::Policy)),
            ("default", &always, "", skip(Skip::Asked), skip(Skip::Asked)),
            ("default", &never, "", Inject, Inject),
            ("kube-system", yes, yes, skip(Skip::SystemNamespace), skip(Skip::SystemNamespace)),
            ("kube-public", "", "", skip(Skip::SystemNamespace), skip(Skip::SystemNamespace)),
            ("kube-node-lease", "", "", skip(Skip::SystemNamespace), skip(Skip::SystemNamespace)),
            ("local-path-storage", "", "", skip(Skip::SystemNamespace), skip(Skip::SystemNamespace)),
            ("istio-system", "app=istiod", "", skip(Skip::ControlPlane), skip(Skip::ControlPlane)),
            ("istio-system", "app=istio-ingressgateway", "", Inject, skip(Skip::Policy)),
        ];
        for (namespace, labels, annotations, enabled, disabled) in table {
            for (policy, want) in [("enabled", enabled), ("disabled", disabled)] {
                let (labels, annotations) = (&map(labels), &map(annotations));
                let mut pod = Candidate { namespace, host_network: HostNetwork::No, labels, annotations };
                assert_eq!(decide(&pod, &config(policy)), *want, "{policy} {pod:?}");
                pod.host_network = HostNetwork::Yes;
                assert_eq!(decide(&pod, &config(policy)), skip(Skip::HostNetwork), "{policy} {pod:?}");
            }
        }
    }
}
